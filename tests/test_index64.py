"""Offsets and counts beyond 31 and 32 bits: tensors with strides of billions of elements, in memory that exists where it is touched.

The kernels run on them for real; those for CUDA too, compiled for the host (test_cuda_dct.py) and in the interpreter
(triton/test_far.py). What would need more memory or time than a test has, a count of elements beyond 2^31, runs with ``-m slow``: the
extension is called directly, with every image of the result at the same address.
"""

from __future__ import annotations

import importlib
from typing import Any

import _oracles
import numpy as np
import pytest
import torch
from _cases import available, bit_equal
from _sparse_memory import FAR, far_strides, sparse

import warmops

pytestmark = pytest.mark.cpu_only
SHAPE = (2, 3, 5, 18)
DIMS = pytest.mark.parametrize("dim", range(4), ids=("samples", "channels", "rows", "columns"))
FLOAT32 = torch.float32


def numbers(dtype: torch.dtype, rng: torch.Generator, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    x = torch.rand(shape, generator=rng, dtype=torch.float64)
    return (255 * x).to(dtype) if dtype == torch.uint8 else x.to(dtype)


def close(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Equal but for the rounding that another order of the axes may bring."""
    eps = torch.finfo(want.dtype).eps
    return bool(((got - want).abs() <= 4 * eps * want.abs().max()).all())


def shape_for(dim: int) -> tuple[int, ...]:
    """At most three elements along the far dimension: their pages are what memory has to hold."""
    return tuple(min(n, 3) if d == dim else n for d, n in enumerate(SHAPE))


@DIMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8], ids=str)
def test_far_elements(dim: int, dtype: torch.dtype, rng: torch.Generator) -> None:
    """Everything that a kernel reads or writes, with far strides along each dimension in turn."""
    available("cpu")
    shape = shape_for(dim)
    x = numbers(dtype, rng, shape)
    result = FLOAT32 if dtype == torch.uint8 else dtype
    for stride in FAR[: 1 if dtype == torch.float64 else 2]:
        strides = far_strides(shape, dim, stride)

        def far(t: torch.Tensor, strides: list[int] = strides) -> torch.Tensor:
            return sparse(t, strides)

        eps, empty = numbers(result, rng, shape), torch.full(shape, torch.nan, dtype=result)
        level = torch.linspace(0.4, 2.0, shape[0])
        words: dict[str, Any] = {"backend": "cpu"}
        assert close(warmops.blur(far(x), level, out=far(empty), **words), warmops.blur(x, level, **words))
        want = warmops.blur_noise(x, level, level, noise=eps, return_blurred=True, **words)
        got = warmops.blur_noise(far(x), level, level, noise=far(eps), return_blurred=True, out=(far(empty), far(empty)), **words)
        assert all(close(g, w) for g, w in zip(got, want, strict=True))
        want = warmops.blur_noise(x, level, level, seed=7, **words)
        assert close(warmops.blur_noise(far(x), level, level, seed=7, out=far(empty), **words), want)
        if dtype == torch.uint8:
            continue
        assert bit_equal(warmops.normal(shape, 7, out=far(empty), **words).contiguous(), warmops.normal(shape, 7, dtype=result, **words))
        words |= {"method": "heun", "return_slope": True, "c_skip": 0.3}
        levels = (1.5, 3.0, 0.8, 1.9)
        want = warmops.sampler_step(x, (eps, x), *levels, slope=eps, **words)
        got = warmops.sampler_step(far(x), (far(eps), far(x)), *levels, slope=far(eps), out=(far(empty), far(empty)), **words)
        assert all(close(g, w) for g, w in zip(got, want, strict=True))
        for dims in ((dim,), (dim, (dim + 1) % 4), (0, 1, 2, 3)):
            want = warmops.dctn(x, dim=dims, norm="ortho", backend="cpu")
            assert close(warmops.dctn(far(x), dim=dims, norm="ortho", out=far(empty), backend="cpu"), want)


def test_far_levels_and_seeds() -> None:
    available("cpu")
    x, far = torch.ones(3, 2, 4, 4), [FAR[0]]
    level, seed = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), torch.tensor([3, 2**40, -1])
    want = warmops.blur_noise(x, level, level, seed=seed, scale=level, backend="cpu")
    got = warmops.blur_noise(x, sparse(level, far), sparse(level, far), seed=sparse(seed, far), scale=sparse(level, far), backend="cpu")
    assert bit_equal(got, want)


# ---- counts beyond 2^31 and 2^34 ----


def last_row(elements: int, seed: int, row: int) -> np.ndarray:
    """The last ``row`` normals of a sample."""
    first = (elements - row) // 4
    j = np.arange(first, -(-elements // 4), dtype=np.uint64)
    mask, shift, key = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(seed)
    words = _oracles.philox4x32((j & mask, j >> shift, 0, 0), (key & mask, key >> shift))
    normals: np.ndarray = _oracles.box_muller(words).reshape(-1)[elements - row - 4 * first :][:row]
    return normals


@pytest.mark.slow
def test_a_sample_of_2_to_the_34_elements() -> None:
    """Its last counters have a second word. All rows are written at one address; the last one stays."""
    available("cpu")
    native = importlib.import_module("warmops._C")
    row, rows = 4096, 2**22 + 1
    for dtype, code in ((FLOAT32, 1), (torch.float16, 2)):
        out = torch.full((row,), torch.nan, dtype=dtype)
        native.normal((out.data_ptr(), code, (0, 0, 1)), (1, rows, row), (9, 0, 0), 1)
        want = last_row(rows * row, 9, row)
        assert _oracles.ulps(out, want) <= 4 if dtype == FLOAT32 else np.abs(_oracles.numpy_of(out) - want).max() <= 2e-3


@pytest.mark.slow
def test_more_than_2_to_the_31_pixels(rng: torch.Generator) -> None:
    """Of one sample, in images at one address: the last image stays, and has the noise of its place."""
    available("cpu")
    native = importlib.import_module("warmops._C")
    side, channels = 64, 2**31 // 4096 + 3
    x = torch.rand(1, 1, side, side, generator=rng)
    out, strides = torch.full_like(x, torch.nan), (0, 0, side, 1)
    sizes, level = (1, channels, side, side), (0.9, 0, 0, 0)
    view = (x.data_ptr(), 1, strides)
    native.blur_noise(
        view, sizes, level, (0.5, 0, 0, 0), (4, 0, 0), (0, 0, ()), (1.0, 0, 0, 0), (out.data_ptr(), 1, strides), (0, 0, ()), 1
    )
    noise = last_row(channels * side * side, 4, side * side).reshape(1, 1, side, side)
    assert _oracles.rel_l2(out, _oracles.blur_noise(x, 0.9, 0.5, noise)) <= 2.5e-7
    native.dct(view, sizes, (out.data_ptr(), 1, strides), sizes, [(2, 1, 2.0, 1.0, 1.0), (3, 1, 2.0, 1.0, 1.0)], 1)
    assert _oracles.rel_l2(out, _oracles.dct("dctn", x, axes=(2, 3))) <= 2.5e-7
