"""tests/test_blur_noise.py with device="cuda"."""

from test_blur_noise import *  # noqa: F403
