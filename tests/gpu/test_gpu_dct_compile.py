"""tests/test_dct_compile.py with device="cuda"."""

from test_dct_compile import *  # noqa: F403
