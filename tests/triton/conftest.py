"""Kernels in Triton's interpreter. The variable must be set before triton is imported, so these tests run in a process of
their own, which tests/test_triton_interpreter.py starts: other runs collect nothing here."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from _interpreter import patch_language_once_a_launch

ALONE = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if ALONE else ["test_*.py"]


if ALONE:
    patch_language_once_a_launch()


def pytest_collection_modifyitems(config, items):
    """Of each test with many cases about a quarter, spread evenly, in each run (of a WARMOPS_TEST_SEED) another one, unless
    WARMOPS_INTERPRET_ALL=1: all of them take 20 minutes."""
    if os.environ.get("WARMOPS_INTERPRET_ALL") == "1":
        return
    start = int(os.environ.get("WARMOPS_TEST_SEED", "0")) % 1000 / 1000
    cases, seen = Counter(item.originalname for item in items), Counter()
    kept, left = [], []
    for item in items:
        place = seen[item.originalname]
        seen[item.originalname] += 1
        # Steps of the golden ratio: a step of 3 would always meet the same one of three values of a parameter.
        often = cases[item.originalname] <= 4 or (start + place * 0.6180339887) % 1.0 < 1 / 4
        (kept if often else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


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
