"""tests/test_gradients.py with device="cuda"."""

from test_gradients import *  # noqa: F403
