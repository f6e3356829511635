"""What `warmops.sampler_step` refuses, by name, before anything is written."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _cases import Guarded, bit_equal
from _sampler_calls import LEVELS, SHAPE

import warmops

NARROW = torch.ones(4, 3, 6, 9)
BAD: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "x a list": ({"x": [1.0]}, TypeError, ("x must be a torch.Tensor", "list")),
    "x uint8": ({"x": torch.ones(SHAPE, dtype=torch.uint8)}, TypeError, ("x must be a floating-point", "uint8")),
    "x 2-d": ({"x": torch.ones(6, 10)}, ValueError, ("x must have at least 3 dimensions",)),
    "method": ({"method": "rk4"}, ValueError, ("method must be one of", "'ddim'", "'rk4'")),
    "heads None": ({"heads": None}, TypeError, ("heads must be a torch.Tensor or a pair", "NoneType")),
    "heads of three": ({"heads": (torch.ones(SHAPE),) * 3}, ValueError, ("heads", "pair", "3")),
    "heads narrow": ({"heads": NARROW}, ValueError, ("heads must have shape", "(4, 3, 6, 10)", "(4, 6, 6, 10)", "(4, 3, 6, 9)")),
    "heads tripled": ({"heads": torch.ones(4, 9, 6, 10)}, ValueError, ("heads must have shape", "(4, 9, 6, 10)")),
    "second head narrow": ({"heads": (torch.ones(SHAPE), NARROW)}, ValueError, ("heads[1]", "(4, 3, 6, 9)")),
    "second head half": ({"heads": (torch.ones(SHAPE), torch.ones(SHAPE).half())}, TypeError, ("heads[1]", "float32", "float16")),
    "heads of integers": ({"heads": torch.ones(SHAPE, dtype=torch.int64)}, TypeError, ("heads must be a floating-point", "int64")),
    "heads elsewhere": ({"heads": torch.ones(SHAPE, device="meta")}, ValueError, ("heads", "cpu", "meta")),
    "beta zero": ({"beta": 0.0, "beta_next": 0.0}, ValueError, ("beta must be > 0", "0.0")),
    "beta rising": ({"beta_next": 4.0}, ValueError, ("beta must be", ">= beta_next", "beta 3.0", "beta_next 4.0")),
    "alpha rising": ({"alpha_next": 1.6}, ValueError, ("alpha must be", ">= alpha_next", "alpha 1.5", "alpha_next 1.6")),
    "beta infinite": ({"beta": math.inf}, ValueError, ("beta must be finite", "inf")),
    "alpha infinite": ({"alpha": math.inf}, ValueError, ("alpha must be finite", "inf")),
    "alpha negative": ({"alpha": -1.0}, ValueError, ("alpha must be >= 0", "-1.0")),
    "alpha_next NaN": ({"alpha_next": math.nan}, ValueError, ("alpha_next must be >= 0", "nan")),
    "beta a string": ({"beta": "3"}, TypeError, ("beta must be a float", "str")),
    "alpha None": ({"alpha": None}, TypeError, ("alpha must be a float", "NoneType")),
    "alpha_rate a string": ({"alpha_rate": "1", "method": "euler"}, TypeError, ("alpha_rate must be a float", "str")),
    "beta too short": ({"beta": torch.ones(3)}, ValueError, ("beta", "[4]", "[3]")),
    "beta rising in a sample": ({"beta_next": torch.tensor([1.0, 1.0, 3.5, 1.0])}, ValueError, ("beta_next 3.5", "sample 2")),
    "beta zero in a sample": ({"beta": torch.tensor([3.0, 0.0, 3.0, 3.0]), "beta_next": 0.0}, ValueError, ("beta must be > 0", "sample 1")),
    "alpha NaN in a sample": ({"alpha": torch.tensor([3.0, 3.0, 3.0, math.nan])}, ValueError, ("alpha", "nan", "sample 3")),
    "eta above": ({"eta": 2.0}, ValueError, ("eta must be in [0, beta_next]", "eta 2.0")),
    "eta negative": ({"eta": -0.1}, ValueError, ("eta must be >= 0", "-0.1")),
    "eta for euler": ({"eta": 0.1, "method": "euler"}, ValueError, ("eta must be 0", "'euler'")),
    "floor above": ({"floor": 1.5}, ValueError, ("floor must be in [0, 1]", "1.5")),
    "no step": ({"method": "euler", "alpha_next": 1.5, "beta_next": 3.0}, ValueError, ("must not both equal",)),
    "heun to zero": ({"method": "heun", "beta_next": 0.0, "slope": torch.ones(SHAPE)}, ValueError, ("beta_next must be > 0", "'heun'")),
    "heun without slope": ({"method": "heun"}, ValueError, ("slope must be given", "'heun'")),
    "slope for ddim": ({"slope": torch.ones(SHAPE)}, ValueError, ("slope must be None", "'ddim'")),
    "slope narrow": ({"method": "heun", "slope": NARROW}, ValueError, ("slope", "(4, 3, 6, 10)", "(4, 3, 6, 9)")),
    "slope double": ({"method": "heun", "slope": torch.ones(SHAPE).double()}, TypeError, ("slope", "float32", "float64")),
    "return_slope for ddim": ({"return_slope": True}, ValueError, ("return_slope", "'ddim'")),
    "alpha_rate for ddim": ({"alpha_rate": 0.5}, ValueError, ("alpha_rate", "'ddim'")),
    "alpha_rate NaN": ({"alpha_rate": math.nan, "method": "euler"}, ValueError, ("alpha_rate must be finite", "nan")),
    "c_skip NaN": ({"c_skip": math.nan}, ValueError, ("c_skip must be finite", "nan")),
    "c_out of three": ({"c_out": (1.0, 1.0, 1.0)}, ValueError, ("c_out", "pair", "3")),
    "c_out infinite": ({"c_out": (1.0, math.inf)}, ValueError, ("c_out[1] must be finite", "inf")),
    "c_out too short": ({"c_out": (1.0, torch.ones(2))}, ValueError, ("c_out[1]", "[4]", "[2]")),
    "gradient of a level": ({"beta": torch.full((4,), 3.0, requires_grad=True)}, ValueError, ("beta must not require a gradient",)),
    "out too small": ({"out": NARROW}, ValueError, ("out", "(4, 3, 6, 10)", "(4, 3, 6, 9)")),
    "out half": ({"out": torch.ones(SHAPE).half()}, TypeError, ("out", "float32", "float16")),
    "out expanded": ({"out": torch.ones(4, 1, 6, 10).expand(SHAPE)}, ValueError, ("out must not overlap itself",)),
    "out not a pair": ({"method": "euler", "return_slope": True, "out": torch.ones(SHAPE)}, TypeError, ("out must be a pair",)),
    "backend": ({"backend": "gpu"}, ValueError, ("backend must be", "'gpu'")),
}  # fmt: skip


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, step_backend: str) -> None:
    changes, kind, wants = BAD[name]
    good: dict[str, Any] = {"x": torch.ones(SHAPE), "heads": torch.ones(SHAPE), **LEVELS, "backend": step_backend}
    warmops.sampler_step(**good)
    guards = [Guarded(SHAPE, torch.float32, "cpu") for _ in range(2)]
    out = tuple(g.tensor for g in guards) if changes.get("return_slope") else guards[0].tensor
    with pytest.raises(kind) as caught:
        warmops.sampler_step(**{**good, "out": out, **changes})
    assert all(want in str(caught.value) for want in wants), caught.value
    assert all(g.untouched(including_tensor=True) for g in guards)


@pytest.mark.cpu_only
def test_overlap(step_backend: str) -> None:
    x, other = torch.ones(SHAPE), torch.ones(SHAPE)
    raw = torch.ones(4, 6, 6, 10)
    for arguments, message in (
        ({"x": x, "heads": other, "out": x}, "out must not overlap x"),
        ({"x": x, "heads": other, "out": other}, "out must not overlap heads"),
        ({"x": x, "heads": raw, "out": raw[:, 3:]}, "out must not overlap heads"),
        ({"x": x, "heads": raw, "method": "heun", "slope": other, "out": other}, "out must not overlap slope"),
        ({"x": x, "heads": raw, "method": "euler", "return_slope": True, "out": (other, other)}, "out[1] must not overlap out"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            warmops.sampler_step(**arguments, **LEVELS, backend=step_backend)
        assert message in str(caught.value)
    assert bit_equal(x, torch.ones(SHAPE)) and bit_equal(other, torch.ones(SHAPE))


@pytest.mark.cpu_only
def test_out_and_autograd_exclude_each_other(step_backend: str) -> None:
    x = torch.ones(SHAPE, requires_grad=True)
    with pytest.raises(ValueError, match="out must be None"):
        warmops.sampler_step(x, torch.ones(SHAPE), *LEVELS.values(), out=torch.ones(SHAPE), backend=step_backend)
