"""What the tests of the DCT family share: the family, calls in warmops' and SciPy's words, and the bars of accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import _oracles
import pytest
import torch
from _cases import HALVES
from torch import Tensor

import warmops

ONE_AXIS = ("dct", "idct", "dst", "idst")
SEVERAL_AXES = ("dctn", "idctn", "dstn", "idstn")
FUNCTIONS = (*ONE_AXIS, *SEVERAL_AXES)
TYPES = (1, 2, 3, 4)
NORMS = (None, "backward", "ortho", "forward")
types = pytest.mark.parametrize("type_", TYPES, ids=lambda t: f"type{t}")
functions = pytest.mark.parametrize("function", FUNCTIONS)
one_axis = pytest.mark.parametrize("function", ONE_AXIS)
several_axes = pytest.mark.parametrize("function", SEVERAL_AXES)


def scipy_words(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """dim is axis or axes there."""
    dim = "axes" if function.endswith("n") else "axis"
    return {dim if name == "dim" else name: value for name, value in arguments.items()}


def bar(dtype: torch.dtype, sizes: Sequence[int]) -> float:
    """The relative L2 error that a result may have, by its dtype and the sizes of its transforms."""
    n = max(sizes, default=1)
    if dtype in (torch.float64, torch.complex128):
        return 2e-15 * max(1.0, math.log2(n))
    return 2.5e-7 if n <= 256 else 4e-7


def check(function: str, x: Tensor, backend: str, bars: Sequence[int] | None = None, **arguments: Any) -> Tensor:
    """The result, compared with SciPy in long double; halves also within one step of the rounded float32 result."""
    got = getattr(warmops, function)(x, **arguments, backend=backend)
    numbers = x if x.is_floating_point() or x.is_complex() else x.to(torch.get_default_dtype())
    assert got.dtype == numbers.dtype and got.device == x.device
    result = got
    if numbers.dtype in HALVES and numbers.numel():
        got = getattr(warmops, function)(x.float(), **arguments, backend=backend)
        assert _oracles.half_ulps(result, got) <= 1
    want = _oracles.dct(function, numbers, **scipy_words(function, arguments))
    parts = torch.view_as_real(got.resolve_conj()) if got.is_complex() else got
    assert parts.shape == want.shape
    sizes = bars if bars is not None else [n for n in result.shape if n]
    if want.size:
        error = float(_oracles.rel_l2(parts, want))
        assert error <= bar(got.dtype, sizes), (function, tuple(x.shape), x.stride(), x.dtype, arguments, error)
    return result
