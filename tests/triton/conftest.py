"""Kernels in Triton's interpreter. The variable must be set before triton is imported, so these tests run in a process of
their own, which tests/test_triton_interpreter.py starts: other runs collect nothing here."""

import os

import pytest

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def _quiet():
    """Kernels compute lanes that they discard: overflow and NaN there mean nothing."""
    import numpy as np

    with np.errstate(all="ignore"):
        yield
