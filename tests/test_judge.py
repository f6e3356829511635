"""The judge of tests/_fuzz_checks.py itself: it must see what it is there for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _edge import EDGES, Edge
from _fuzz_checks import Judge

pytestmark = pytest.mark.cpu_only
SHAPE = (2, 3, 8, 8)


def judged(got: torch.Tensor, want: np.ndarray, reach: float = 1.0, spoiled: bool | np.ndarray = False) -> bool:
    judge = Judge(got.dtype, (-2, -1), 2.5e-7)
    try:
        judge("a result", got, want, judge.norm(want), np.full((*want.shape[:2], 1, 1), reach), 1.0, spoiled)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_one_wrong_pixel(dtype: torch.dtype, rng: torch.Generator) -> None:
    exact = torch.rand(SHAPE, generator=rng, dtype=torch.float64) + 0.5
    want = exact.numpy().astype(np.longdouble)
    got = exact.to(dtype)
    assert judged(got, want)
    for wrong in (float(got[1, 2, 3, 4]) * (1 + 1e-5 if dtype == torch.float32 else 1.03), torch.nan, torch.inf, 0.0):
        off = got.clone()
        off[1, 2, 3, 4] = wrong
        assert not judged(off, want)
    off = got.clone()
    off[1, 2, 3, 4] = torch.nan
    spoiled = np.zeros((2, 3, 1, 1), dtype=bool)
    spoiled[1, 2] = True
    assert judged(off, want, spoiled=spoiled) and not judged(off, want, spoiled=~spoiled)


def test_small_images_beside_large_ones(rng: torch.Generator) -> None:
    """An error is judged within its image."""
    exact = torch.rand(SHAPE, generator=rng, dtype=torch.float64) * torch.tensor([1e20, 1e-20], dtype=torch.float64).view(2, 1, 1, 1)
    got = exact.float()
    assert judged(got, exact.numpy().astype(np.longdouble))
    got[1, 0, 0, 0] *= 1 + 1e-4
    assert not judged(got, exact.numpy().astype(np.longdouble))


def test_overflow_on_the_way(rng: torch.Generator) -> None:
    """Where numbers on the way may pass the largest one: infinite or NaN is accepted, finite and wrong is not."""
    exact = 1e38 * torch.rand(SHAPE, generator=rng, dtype=torch.float64)
    want, got = exact.numpy().astype(np.longdouble), exact.float()
    got[0, 0, 0, 0] = torch.nan
    assert judged(got, want, reach=1e39) and not judged(got, want, reach=1e30)
    got[0, 0, 0, 0] = 1e37
    assert not judged(got, want, reach=1e39)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("edge", EDGES)
def test_memory_around_a_tensor(edge: str, device: str) -> None:
    """Between forbidden pages, and as on a GPU (by another name of this device), between poisoned ones."""
    place = Edge((2, 5), torch.float32, edge, [12, 2], device=device)
    place.tensor.fill_(1.0)
    assert place.untouched(including_tensor=False) and not place.untouched()
    inside = place.tensor.as_strided((1,), (1,), place.tensor.storage_offset() + 1)  # between two elements
    inside.fill_(0.0)
    assert not place.untouched(including_tensor=False)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("offset", [-1, 2 * 12 + 5])  # before the first element, after the last one
def test_a_write_beyond_a_tensor_where_nothing_is_forbidden(edge: str, offset: int) -> None:
    place = Edge((3, 5), torch.float32, edge, [12, 1], device="cpu:0")
    place.tensor.as_strided((1,), (1,), place.tensor.storage_offset() + offset).fill_(1.0)
    assert not place.untouched(including_tensor=False)
