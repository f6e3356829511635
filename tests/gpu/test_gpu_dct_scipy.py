"""tests/test_dct_scipy.py with device="cuda"."""

from test_dct_scipy import *  # noqa: F403
