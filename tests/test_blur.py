"""`warmops.blur`: against SciPy's DCT, at every level, size, dtype and layout."""

from __future__ import annotations

import math

import _oracles
import numpy as np
import pytest
import scipy.ndimage
import torch
from _cases import (
    FLOATS,
    HALVES,
    INF,
    LARGE_SHAPES,
    LEVELS,
    SHAPES,
    all_dtypes,
    bit_equal,
    float_dtypes,
    half_dtypes,
    ident,
    images,
    layouts,
    levels,
    randn,
    shapes,
    strided,
)
from torch import Tensor

import warmops


def bar(x: Tensor) -> float:
    """The relative L2 error that a result may have."""
    if x.dtype == torch.float64:
        return 1e-14
    return 2.5e-7 if max(x.shape[-2:]) <= 256 else 4e-7


ONE_NUMBER = 6 * 2.0**-24
"""Of a very strong blur one number a channel is left: two factors and two products that round, and a sum. There is no image over which
their errors average out."""


def check_error(got: Tensor, want: np.ndarray, sigma: float | Tensor, terms: np.ndarray | None = None) -> None:
    """Each sample within its bar, relative to ``want`` (or to its ``terms``, where a sum may cancel)."""
    axis = tuple(range(1, got.ndim))
    size = _oracles.norm(want if terms is None else terms, axis)
    error = _oracles.norm(_oracles.numpy_of(got) - want, axis)
    level = torch.as_tensor(sigma, dtype=torch.float64).expand(len(error)).tolist()
    allowed = [max(bar(got), ONE_NUMBER * (got.dtype == torch.float32 and a > 2 * max(got.shape[-2:]))) for a in level]
    missed = [(a, float(e / s)) for a, e, s, most in zip(level, error, size, allowed, strict=True) if not e <= most * s]
    assert missed == [], "(level, relative error)"


def check_accuracy(x: Tensor, sigma: float | Tensor, backend: str) -> None:
    """Each sample of the result within its bar; halves within one step of the rounded float32 result."""
    got = warmops.blur(x, sigma, backend=backend)
    assert got.shape == x.shape and got.device == x.device
    if x.dtype in HALVES:
        exact32 = warmops.blur(x.float(), sigma, backend=backend)
        assert got.dtype == x.dtype and _oracles.half_ulps(got, exact32) <= 1
        got = exact32
    assert got.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    check_error(got, _oracles.blur(x, sigma), sigma)


# ---- accuracy ----


@shapes
@all_dtypes
def test_accuracy(shape: tuple[int, ...], dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    check_accuracy(images(shape, dtype, rng, device), levels(shape[0], rng, device), backend)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=ident)
@pytest.mark.parametrize("shape", LARGE_SHAPES, ids=ident)
def test_accuracy_at_large_sizes(shape: tuple[int, ...], dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for sigma in (0.3, 25.0):
        check_accuracy(images(shape, dtype, rng, device), torch.full(shape[:1], sigma, device=device), backend)


def test_accuracy_at_random_shapes(backend: str, device: str, rng: torch.Generator) -> None:
    for _ in range(40):
        n, c, h, w = (int(torch.randint(1, top, (), generator=rng)) for top in (6, 4, 80, 80))
        dtype = FLOATS[int(torch.randint(len(FLOATS), (), generator=rng))]
        check_accuracy(images((n, c, h, w), dtype, rng, device), levels(n, rng, device), backend)


@pytest.mark.parametrize("sigma", [0.0, 1e-30, 1e-6, 1e-3, 0.03, 0.2, 0.37, 0.38, 0.5, 1.0, 2.0, 5.0, 12.0, 40.0, 300.0, 1e6, 1e30, INF])
def test_accuracy_at_each_level(sigma: float, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in ((2, 3, 32, 32), (2, 1, 48, 17), (1, 1, 6, 130)):
        check_accuracy(images(shape, torch.float32, rng, device), sigma, backend)
        check_accuracy(images(shape, torch.float64, rng, device), sigma, backend)


@pytest.mark.parametrize("n", [8, 31, 32, 64, 128, 256])
@pytest.mark.parametrize("sigma", [1e-3, 0.1, 0.3, 1.0, 3.0, 10.0, 40.0])
def test_not_worse_than_plain_pytorch(sigma: float, n: int, backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((2, 3, n, n), rng, torch.float32, device)
    want = _oracles.blur(x, sigma)
    eager = _oracles.rel_l2(_oracles.eager_blur(x, torch.full((2,), sigma, dtype=torch.float64)), want)
    assert _oracles.rel_l2(warmops.blur(x, sigma, backend=backend), want) <= 2 * eager + 3e-8


@half_dtypes
@pytest.mark.parametrize("n", [16, 32, 64])
def test_half_not_worse_than_plain_pytorch(n: int, dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((6, 3, n, n), rng, dtype, device)
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 10.0], dtype=torch.float64)
    want = _oracles.blur(x, sigma)
    eager = _oracles.rel_l2(_oracles.eager_blur(x, sigma), want)
    assert _oracles.rel_l2(warmops.blur(x, sigma.to(device), backend=backend), want) <= 2 * eager


@pytest.mark.parametrize(("sigma", "tolerance"), [(1.0, 3e-3), (2.0, 3e-10), (5.0, 1e-14), (8.0, 1e-14)])
def test_is_scipys_gaussian_filter(sigma: float, tolerance: float, backend: str, device: str, rng: torch.Generator) -> None:
    x = torch.rand(2, 2, 40, 61, generator=rng, dtype=torch.float64)
    want = scipy.ndimage.gaussian_filter(x.numpy(), sigma, mode="reflect", truncate=8, axes=(-2, -1))
    got = warmops.blur(x.to(device), sigma, backend=backend)
    assert np.abs(got.cpu().numpy() - want).max() <= tolerance


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 1, 7, 20)], ids=ident)
def test_every_pixel_reaches_every_pixel(shape: tuple[int, ...], backend: str, device: str) -> None:
    """Unit impulses as a batch: all columns of A."""
    h, w = shape[-2:]
    impulses = torch.eye(h * w, dtype=torch.float64, device=device).reshape(h * w, 1, h, w)
    for sigma in (0.4, 1.7):
        got = _oracles.numpy_of(warmops.blur(impulses, sigma, backend=backend))
        assert np.abs(got - _oracles.blur(impulses, sigma)).max() <= 1e-14


# ---- properties ----


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-14), (torch.float32, 5e-7)], ids=ident)
def test_semigroup(dtype: torch.dtype, tolerance: float, backend: str, device: str, rng: torch.Generator) -> None:
    x = images((6, 2, 24, 37), dtype, rng, device)
    a, b = (torch.rand(6, generator=rng, dtype=torch.float64).to(device) * top for top in (3, 8))
    twice = warmops.blur(warmops.blur(x, a, backend=backend), b, backend=backend)
    assert _oracles.rel_l2(twice, _oracles.numpy_of(warmops.blur(x, torch.hypot(a, b), backend=backend))) <= tolerance


@pytest.mark.parametrize("sigma", LEVELS[2:10])
def test_mean_is_preserved(sigma: float | None, backend: str, device: str, rng: torch.Generator) -> None:
    x = images((3, 2, 30, 22), torch.float64, rng, device)
    got = warmops.blur(x, 0.31 if sigma is None else sigma, backend=backend)
    torch.testing.assert_close(got.mean((-2, -1)), x.mean((-2, -1)), rtol=1e-14, atol=0)


def test_infinite_level_is_the_mean(backend: str, device: str, rng: torch.Generator) -> None:
    x = images((2, 3, 9, 14), torch.float64, rng, device)
    mean = x.mean((-2, -1), keepdim=True).expand_as(x)
    for sigma in (INF, 1e6, torch.tensor([INF, 1e300], dtype=torch.float64, device=device)):
        torch.testing.assert_close(warmops.blur(x, sigma, backend=backend), mean, rtol=1e-14, atol=0)


def test_self_adjoint(backend: str, device: str, rng: torch.Generator) -> None:
    x, y = (randn((5, 2, 19, 26), rng, device=device) for _ in range(2))
    sigma = torch.tensor([1e-3, 0.3, 1.0, 5.0, INF], dtype=torch.float64, device=device)
    left = (warmops.blur(x, sigma, backend=backend) * y).sum((1, 2, 3))
    right = (x * warmops.blur(y, sigma, backend=backend)).sum((1, 2, 3))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@float_dtypes
def test_level_zero_returns_the_bits_of_x(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((4, 2, 9, 12), rng, dtype, device)
    x[:, 0, 0, :8] = torch.tensor([0.0, -0.0, INF, -INF, math.nan, torch.finfo(dtype).max, 1e-40, torch.finfo(dtype).smallest_normal / 2])
    for sigma in (0, 0.0, torch.zeros(4, device=device), torch.zeros((), device=device)):
        assert bit_equal(warmops.blur(x, sigma, backend=backend), x)
    mixed = warmops.blur(x, torch.tensor([1.0, 0.0, 3.0, 0.0], device=device), backend=backend)
    assert bit_equal(mixed[1], x[1]) and bit_equal(mixed[3], x[3])


def test_level_zero_of_uint8(backend: str, device: str) -> None:
    x = torch.arange(256, dtype=torch.uint8, device=device).reshape(1, 1, 16, 16)
    assert bit_equal(warmops.blur(x, 0.0, backend=backend), x.float() / 127.5 - 1.0)


def test_images_do_not_mix(backend: str, device: str, rng: torch.Generator) -> None:
    """NaN and inf in one image of one sample stay in it."""
    for h, w in ((32, 32), (5, 9)):
        x = images((3, 4, h, w), torch.float32, rng, device)
        clean = warmops.blur(x, 1.5, backend=backend)
        x[1, 2, 0, 0], x[1, 2, h - 1, 1] = math.nan, INF
        got = warmops.blur(x, 1.5, backend=backend)
        assert got[1, 2, 0, 0].isnan()
        got[1, 2] = clean[1, 2]
        assert bit_equal(got, clean)


def test_inputs_are_not_written(backend: str, device: str, rng: torch.Generator) -> None:
    x, sigma = images((4, 2, 12, 12), torch.float32, rng, device), levels(4, rng, device)
    x_before, sigma_before = x.clone(), sigma.clone()
    warmops.blur(x, sigma, backend=backend)
    assert bit_equal(x, x_before) and bit_equal(sigma, sigma_before)


# ---- how levels are given ----


@pytest.mark.parametrize("level", [0.0, 0.375, 1.0, 2.75, 40.0, INF])
def test_one_level_in_every_form(level: float, backend: str, device: str, rng: torch.Generator) -> None:
    """Values that every dtype holds exactly give the same bits in each form."""
    x = images((4, 2, 20, 13), torch.float32, rng, device)
    want = warmops.blur(x, level, backend=backend)
    forms = [torch.full((4,), level, dtype=dtype, device=device) for dtype in FLOATS]
    forms += [torch.tensor(level, dtype=dtype, device=device) for dtype in FLOATS]
    forms += [f[:1].expand(4) for f in forms[:4]]
    for sigma in forms:
        assert bit_equal(warmops.blur(x, sigma, backend=backend), want), sigma
    if level in (0, 1, 40):
        assert bit_equal(warmops.blur(x, int(level), backend=backend), want)


@pytest.mark.parametrize("dtype", FLOATS, ids=ident)
def test_strided_levels(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x = images((5, 2, 20, 13), torch.float32, rng, device)
    table = (torch.rand(5, 3, generator=rng) * 4).to(device, dtype)
    want = warmops.blur(x, table[:, 1].contiguous(), backend=backend)
    assert bit_equal(warmops.blur(x, table[:, 1], backend=backend), want)
    check_accuracy(x, table[:, 1], backend)


# ---- layouts and empty batches ----


@layouts
@all_dtypes
def test_layouts(layout: str, dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in ((12, 3, 16, 16), (6, 2, 9, 23), (3, 2, 2, 12, 7)):
        check_accuracy(strided(images(shape, dtype, rng, device), layout), levels(shape[0], rng, device), backend)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_expanded_images(dim: int, backend: str, device: str, rng: torch.Generator) -> None:
    shape = [6, 3, 14, 11]
    single = list(shape)
    single[dim] = 1
    for dtype in (torch.float32, torch.uint8, torch.bfloat16):
        check_accuracy(images(single, dtype, rng, device).expand(shape), levels(6, rng, device), backend)


def test_three_dimensional_transposed(backend: str, device: str, rng: torch.Generator) -> None:
    check_accuracy(images((15, 10, 12), torch.float32, rng, device).permute(2, 0, 1), levels(12, rng, device), backend)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8), (0, 8, 8), (2, 3, 0, 4, 4), (0, 0, 1, 1)], ids=ident)
@all_dtypes
def test_empty_batches(shape: tuple[int, ...], dtype: torch.dtype, backend: str, device: str) -> None:
    x = torch.empty(shape, dtype=dtype, device=device)
    for sigma in (1.0, torch.ones(shape[0], device=device)):
        got = warmops.blur(x, sigma, backend=backend)
        assert got.shape == shape and got.dtype == (torch.float32 if dtype == torch.uint8 else dtype)
    out = torch.empty_like(got)
    assert warmops.blur(x, 1.0, out=out, backend=backend) is out


@pytest.mark.cpu_only
@pytest.mark.parametrize("shape", SHAPES[::3], ids=ident)
def test_same_bits_for_any_thread_count(shape: tuple[int, ...], backend: str, rng: torch.Generator) -> None:
    x, sigma = images(shape, torch.float32, rng), levels(shape[0], rng)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(warmops.blur(x, sigma, backend=backend))
    assert bit_equal(results[0], results[1]) and bit_equal(results[0], results[2])
