"""tests/test_statistics.py with device="cuda"."""

from test_statistics import *  # noqa: F403
