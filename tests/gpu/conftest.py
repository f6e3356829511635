"""The cases of tests/ again with device="cuda", and what only a GPU has: streams, graphs, device memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _cases import available

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    dropped = [item for item in mine if item.get_closest_marker("cpu_only")]
    for item in mine:
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]


@pytest.fixture
def device() -> str:
    return "cuda"


@pytest.fixture(params=["reference", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that blurs on CUDA tensors."""
    return available(request.param)


@pytest.fixture(params=["reference", "triton", "cuda"])
def normal_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that draws noise on CUDA tensors."""
    return available(request.param)


@pytest.fixture(params=["reference", "cuda"])
def dct_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that has the DCT on CUDA tensors."""
    return available(request.param)


@pytest.fixture(params=["reference", "triton"])
def step_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that has the sampler's step on CUDA tensors."""
    return available(request.param)
