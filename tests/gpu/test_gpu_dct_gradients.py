"""tests/test_dct_gradients.py with device="cuda"."""

from test_dct_gradients import *  # noqa: F403
