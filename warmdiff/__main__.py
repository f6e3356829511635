"""``python -m warmdiff`` is the command ``warmdiff``."""

import sys

from warmdiff.cli import main

sys.exit(main())
