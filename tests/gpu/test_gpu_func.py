"""tests/test_func.py with device="cuda"."""

from test_func import *  # noqa: F403
