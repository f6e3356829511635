"""Kernels in Triton's interpreter. The variable must be set before triton is imported, so these tests run in a process of
their own, which tests/test_triton_interpreter.py starts: other runs collect nothing here."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from _interpreter import patch_language_once_a_launch

ALONE = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if ALONE else ["test_*.py"]


if ALONE:
    patch_language_once_a_launch()


@pytest.fixture(autouse=True)
def _quiet():
    """Kernels compute lanes that they discard: overflow and NaN there mean nothing."""
    import numpy as np

    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def rng(request):
    """The same numbers for the same test in each run."""
    import torch

    return torch.Generator().manual_seed(len(request.node.name) * 7919 + sum(map(ord, request.node.name)))
