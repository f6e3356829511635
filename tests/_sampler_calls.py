"""Calls of `warmops.sampler_step` that its tests share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _cases import randn

import warmops

METHODS = ("ddim", "euler", "heun")
SHAPE = (4, 3, 6, 10)
LEVELS = {"alpha": 1.5, "beta": 3.0, "alpha_next": 0.8, "beta_next": 1.9}
methods = pytest.mark.parametrize("method", METHODS)


def case(method: str, shape: tuple[int, ...], dtype: torch.dtype, rng: torch.Generator, device: str = "cpu", head_dtype: torch.dtype | None = None) -> dict[str, Any]:  # fmt: skip  # noqa: E501
    """Arguments of a call: a state at its level, heads of unit size."""
    x = (LEVELS["beta"] * randn(shape, rng)).to(device, dtype)
    heads = tuple(randn(shape, rng).to(device, head_dtype or dtype) for _ in range(2))
    slope = {"slope": randn(shape, rng).to(device, dtype)} if method == "heun" else {}
    return {"x": x, "heads": heads, "method": method, **slope}


def call(arguments: dict[str, Any], levels: dict[str, Any], backend: str, **options: Any) -> Any:
    return warmops.sampler_step(**arguments, **levels, **options, backend=backend)
