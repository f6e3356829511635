"""Fixtures shared by every test.

Inputs are fresh random numbers in each run. The run's seed is printed at the top and after each failure:
``WARMOPS_TEST_SEED=<seed> pytest ...`` repeats it. ``rng`` gives each test its own generator, whatever the order.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator

# Read by OpenMP when torch is imported: threads that spin while they wait take the cores from the other test process, and twice the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from _cases import available

import warmops

RUN_SEED = int(os.environ.get("WARMOPS_TEST_SEED") or random.SystemRandom().randrange(2**31))
os.environ["WARMOPS_TEST_SEED"] = str(RUN_SEED)  # pytest-xdist's processes share it
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by torch's deterministic mode, see below


def pytest_report_header() -> list[str]:
    states = "; ".join(f"{name}: {status.detail if status else 'NO, ' + status.detail}" for name, status in warmops.backends().items())
    return [f"WARMOPS_TEST_SEED={RUN_SEED}", f"warmops {warmops.__version__}, torch {torch.__version__}; {states}"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = (yield).get_result()
    if report.failed:
        report.sections.append(("repeat with", f"WARMOPS_TEST_SEED={RUN_SEED} pytest '{item.nodeid}'"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(RUN_SEED ^ zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    """Every torch.empty is NaN (floats) or the largest integer, so that an unwritten output is caught; threads are restored."""
    threads = torch.get_num_threads()
    torch.manual_seed(RUN_SEED)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def device() -> str:
    return "cpu"


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that blurs on ``device`` (tests/gpu has its own)."""
    return available(request.param)


@pytest.fixture(params=["reference", "cpu"])
def normal_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that draws noise on ``device``."""
    return available(request.param)


@pytest.fixture(params=["reference", "cpu"])
def dct_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that has the DCT on ``device``."""
    return available(request.param)


@pytest.fixture(params=["reference", "cpu"])
def step_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that has the sampler's step on ``device``."""
    return available(request.param)
