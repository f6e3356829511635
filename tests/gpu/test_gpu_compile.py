"""tests/test_compile.py with device="cuda"."""

from test_compile import *  # noqa: F403
