"""tests/test_sampler_step.py with device="cuda"."""

from test_sampler_step import *  # noqa: F403
