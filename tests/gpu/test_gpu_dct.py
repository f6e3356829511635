"""tests/test_dct.py with device="cuda"."""

from test_dct import *  # noqa: F403
