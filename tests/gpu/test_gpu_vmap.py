"""tests/test_vmap.py with device="cuda"."""

from test_vmap import *  # noqa: F403
