"""tests/test_blur.py with device="cuda"."""

from test_blur import *  # noqa: F403
