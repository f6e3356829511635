"""tests/test_memory.py with device="cuda"."""

from test_memory import *  # noqa: F403
