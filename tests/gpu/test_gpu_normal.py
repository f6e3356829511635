"""tests/test_normal.py with device="cuda"."""

from test_normal import *  # noqa: F403
