"""`warmops.blur_noise`: ``scale * (A x + noise_sigma * eps)``, its noise and its special cases."""

from __future__ import annotations

import _oracles
import pytest
import torch
from _cases import (
    HALVES,
    SHAPES,
    all_dtypes,
    bit_equal,
    float_dtypes,
    half_dtypes,
    ident,
    images,
    layouts,
    levels,
    noise_levels,
    randn,
    shapes,
    strided,
)
from test_blur import bar, check_error
from test_normal import SEEDS, random_seed
from torch import Tensor

import warmops

SINGLE_DOUBLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=ident)


def check_accuracy(x: Tensor, alpha: float | Tensor, beta: float | Tensor, backend: str, *, seed: int, scale: float | Tensor = 1.0) -> None:
    """Both results within the bar in each sample; halves within one step of the rounded float32 result."""
    got, blurred = warmops.blur_noise(x, alpha, beta, seed=seed, scale=scale, return_blurred=True, backend=backend)
    if x.dtype in HALVES:
        exact = warmops.blur_noise(x.float(), alpha, beta, seed=seed, scale=scale, return_blurred=True, backend=backend)
        for half, single in zip((got, blurred), exact, strict=True):
            assert half.dtype == x.dtype and _oracles.half_ulps(half, single) <= 1
        got, blurred = exact
    for result in (got, blurred):
        assert result.shape == x.shape and result.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    clean = _oracles.blur(x, alpha)
    noise = _oracles.per_sample(beta, x.shape) * _oracles.normal(x.shape, seed)
    factor = _oracles.per_sample(scale, x.shape)
    check_error(got, factor * (clean + noise), alpha, terms=abs(factor) * (abs(clean) + abs(noise)))
    check_error(blurred, clean, alpha)


# ---- accuracy ----


@shapes
@all_dtypes
def test_accuracy(shape: tuple[int, ...], dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    n, x = shape[0], images(shape, dtype, rng, device)
    check_accuracy(x, levels(n, rng, device), noise_levels(n, rng, device), backend, seed=random_seed(rng))


@all_dtypes
def test_accuracy_with_float_levels_and_scale(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in ((5, 3, 32, 32), (5, 2, 9, 21)):
        x = images(shape, dtype, rng, device)
        check_accuracy(x, 0.7, 1.4, backend, seed=random_seed(rng), scale=0.25)
        check_accuracy(x, 3, 2, backend, seed=random_seed(rng), scale=torch.linspace(-1, 3, 5, dtype=torch.float64, device=device) ** 3)


@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16], ids=ident)
def test_layouts(layout: str, dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    """The noise follows the logical order of elements, whatever the memory order."""
    for shape in ((6, 3, 16, 16), (3, 2, 2, 9, 7)):
        x = strided(images(shape, dtype, rng, device), layout)
        check_accuracy(x, levels(shape[0], rng, device), noise_levels(shape[0], rng, device), backend, seed=5)


@layouts
@float_dtypes
def test_noise_of_any_layout(layout: str, dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    shape = (4, 3, 10, 13)
    x, eps = images(shape, dtype, rng, device), randn(shape, rng, dtype, device)
    alpha, beta = levels(4, rng, device), noise_levels(4, rng, device)
    want = warmops.blur_noise(x, alpha, beta, noise=eps, backend=backend)
    assert bit_equal(warmops.blur_noise(x, alpha, beta, noise=strided(eps, layout), backend=backend), want)
    shared = eps[:1].expand(shape)
    want = warmops.blur_noise(x, alpha, beta, noise=shared.contiguous(), backend=backend)
    assert bit_equal(warmops.blur_noise(x, alpha, beta, noise=shared, backend=backend), want)


@float_dtypes
def test_given_noise(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x, eps = images((4, 2, 16, 9), dtype, rng, device), randn((4, 2, 16, 9), rng, dtype, device)
    alpha, beta = levels(4, rng, device), noise_levels(4, rng, device)
    got = warmops.blur_noise(x, alpha, beta, noise=eps, scale=0.5, backend=backend)
    if dtype in HALVES:
        exact = warmops.blur_noise(x.float(), alpha, beta, noise=eps.float(), scale=0.5, backend=backend)
        assert _oracles.half_ulps(got, exact) <= 1
    else:
        assert _oracles.rel_l2(got, _oracles.blur_noise(x, alpha, beta, _oracles.numpy_of(eps), 0.5)) <= bar(x)


def test_seed_is_noise_by_another_name(backend: str, device: str, rng: torch.Generator) -> None:
    for dtype in (torch.float32, torch.float64):
        x = images((4, 3, 17, 12), dtype, rng, device)
        alpha, beta = levels(4, rng, device), noise_levels(4, rng, device)
        eps = warmops.normal(x.shape, 11, dtype=dtype, device=device, backend=backend)
        want = warmops.blur_noise(x, alpha, beta, noise=eps, backend=backend)
        assert bit_equal(warmops.blur_noise(x, alpha, beta, seed=11, backend=backend), want)


# ---- special values ----


@SINGLE_DOUBLE
@pytest.mark.parametrize("shape", SHAPES[::2], ids=ident)
def test_alpha_zero_is_x_plus_noise(shape: tuple[int, ...], dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x, seed = images(shape, dtype, rng, device), random_seed(rng)
    eps = warmops.normal(shape, seed, dtype=dtype, device=device, backend=backend)
    for beta in (1e-30, 1e-3, 0.3, 1.0, 80.0):
        assert bit_equal(warmops.blur_noise(x, 0.0, beta, seed=seed, backend=backend), x + beta * eps)
    beta = noise_levels(shape[0], rng, device, dtype)
    got = warmops.blur_noise(x, torch.zeros_like(beta), beta, seed=seed, backend=backend)
    assert bit_equal(got, x + beta.reshape(-1, *[1] * (x.ndim - 1)) * eps)


@half_dtypes
def test_alpha_zero_of_half(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x = images((3, 2, 9, 8), dtype, rng, device)
    want = (x.float() + 0.7 * warmops.normal(x.shape, 5, device=device, backend=backend)).to(dtype)
    assert bit_equal(warmops.blur_noise(x, 0.0, 0.7, seed=5, backend=backend), want)


def test_alpha_zero_of_uint8(backend: str, device: str, rng: torch.Generator) -> None:
    x = images((3, 2, 9, 8), torch.uint8, rng, device)
    want = (x.float() / 127.5 - 1) + 0.7 * warmops.normal(x.shape, 5, device=device, backend=backend)
    assert bit_equal(warmops.blur_noise(x, 0.0, 0.7, seed=5, backend=backend), want)


@all_dtypes
def test_beta_zero_is_blur_and_draws_nothing(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in ((12, 3, 16, 16), (12, 2, 7, 33)):
        x, alpha = images(shape, dtype, rng, device), levels(12, rng, device)
        want = warmops.blur(x, alpha, backend=backend)
        state, generator = torch.get_rng_state(), torch.Generator(device).manual_seed(1)
        before = generator.get_state()
        for beta in (0, 0.0):
            assert bit_equal(warmops.blur_noise(x, alpha, beta, backend=backend), want)
            assert bit_equal(warmops.blur_noise(x, alpha, beta, generator=generator, backend=backend), want)
            assert bit_equal(warmops.blur_noise(x, alpha, beta, seed=3, backend=backend), want)
        assert torch.equal(torch.get_rng_state(), state) and torch.equal(generator.get_state(), before)
        zeros = torch.zeros(12, device=device)
        assert bit_equal(warmops.blur_noise(x, alpha, zeros, seed=3, backend=backend), want)


def test_beta_zero_ignores_bad_noise(backend: str, device: str, rng: torch.Generator) -> None:
    """0 * NaN must not reach the result."""
    x = images((2, 3, 8, 8), torch.float32, rng, device)
    bad = torch.full_like(x, torch.nan)
    assert bit_equal(warmops.blur_noise(x, 1.0, 0.0, noise=bad, backend=backend), warmops.blur(x, 1.0, backend=backend))
    beta = torch.tensor([0.0, 1.0], device=device)
    got = warmops.blur_noise(x, 1.0, beta, noise=bad, backend=backend)
    assert bit_equal(got[0], warmops.blur(x, 1.0, backend=backend)[0]) and got[1].isnan().all()


@SINGLE_DOUBLE
def test_scale_is_one_more_product(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    x = images((4, 3, 12, 15), dtype, rng, device)
    alpha, beta = levels(4, rng, device), noise_levels(4, rng, device)
    plain, blurred = warmops.blur_noise(x, alpha, beta, seed=1, return_blurred=True, backend=backend)
    factors = torch.tensor([0.0, 1.0, -0.37, 1e3], dtype=dtype, device=device)
    for scale, factor in ((0.37, 0.37), (-2, -2), (1.0, 1.0), (0.0, 0.0), (factors, factors.reshape(4, 1, 1, 1)), (factors[2], factors[2])):
        got, same = warmops.blur_noise(x, alpha, beta, seed=1, scale=scale, return_blurred=True, backend=backend)
        assert bit_equal(got, factor * plain) and bit_equal(same, blurred)


@all_dtypes
def test_return_blurred_is_blur(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in ((12, 3, 16, 16), (12, 2, 7, 33), (12, 5, 4)):
        x, alpha, beta = images(shape, dtype, rng, device), levels(12, rng, device), noise_levels(12, rng, device)
        noisy, blurred = warmops.blur_noise(x, alpha, beta, seed=1, scale=0.3, return_blurred=True, backend=backend)
        assert bit_equal(blurred, warmops.blur(x, alpha, backend=backend))
        assert bit_equal(noisy, warmops.blur_noise(x, alpha, beta, seed=1, scale=0.3, backend=backend))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8), (0, 8, 8)], ids=ident)
@all_dtypes
def test_empty_batches(shape: tuple[int, ...], dtype: torch.dtype, backend: str, device: str) -> None:
    x = torch.empty(shape, dtype=dtype, device=device)
    noisy, blurred = warmops.blur_noise(x, 1.0, torch.ones(shape[0], device=device), return_blurred=True, backend=backend)
    assert noisy.shape == blurred.shape == shape
    assert noisy.dtype == blurred.dtype == (torch.float32 if dtype == torch.uint8 else dtype)


# ---- the noise is a function of the sample's seed ----


@float_dtypes
@pytest.mark.parametrize("sample", [(3, 16, 16), (1, 5, 7), (9, 11)], ids=ident)
def test_same_sample_in_any_batch(sample: tuple[int, ...], dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    n = 23
    x = images((n, *sample), dtype, rng, device)
    seeds = torch.tensor([*SEEDS, *(random_seed(rng) for _ in range(n - len(SEEDS)))], device=device)
    alpha, beta = levels(n, rng, device), noise_levels(n, rng, device)
    if backend == "reference" and dtype == torch.float64:
        alpha.zero_()  # the last bits of torch's float64 products depend on the batch; those of the noise must not
    whole = warmops.blur_noise(x, alpha, beta, seed=seeds, backend=backend)
    order = torch.randperm(n, generator=rng).to(device)
    assert bit_equal(warmops.blur_noise(x[order], alpha[order], beta[order], seed=seeds[order], backend=backend), whole[order])
    for i in range(n):
        alone = warmops.blur_noise(x[i : i + 1], float(alpha[i]), float(beta[i]), seed=int(seeds[i]), backend=backend)
        assert bit_equal(alone, whole[i : i + 1]), i


@pytest.mark.cpu_only
@pytest.mark.parametrize("shape", SHAPES[::3], ids=ident)
def test_same_bits_for_any_thread_count(shape: tuple[int, ...], backend: str, rng: torch.Generator) -> None:
    x, alpha, beta = images(shape, torch.float32, rng), levels(shape[0], rng), noise_levels(shape[0], rng)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(warmops.blur_noise(x, alpha, beta, seed=7, backend=backend))
    assert bit_equal(results[0], results[1]) and bit_equal(results[0], results[2])


@pytest.mark.parametrize("seed", [*SEEDS, 2**63 - 3], ids=str)
def test_int_seed_counts_up_and_wraps(seed: int, backend: str, device: str, rng: torch.Generator) -> None:
    x = images((5, 2, 6, 7), torch.float32, rng, device)
    wrapped = torch.tensor([(seed + i + 2**63) % 2**64 - 2**63 for i in range(5)], device=device)
    got = warmops.blur_noise(x, 1.0, 0.5, seed=seed, backend=backend)
    assert bit_equal(got, warmops.blur_noise(x, 1.0, 0.5, seed=wrapped, backend=backend))
    spread = torch.stack([wrapped, wrapped], dim=1)[:, 0]
    assert bit_equal(got, warmops.blur_noise(x, 1.0, 0.5, seed=spread, backend=backend))


def test_manual_seed_and_generator(backend: str, device: str, rng: torch.Generator) -> None:
    x = images((4, 2, 6, 7), torch.float32, rng, device)

    def draw(generator: torch.Generator | None = None, beta: float | Tensor = 0.5) -> Tensor:
        return warmops.blur_noise(x, 1.0, beta, generator=generator, backend=backend)

    torch.manual_seed(7)
    first, second = draw(), draw()
    torch.manual_seed(7)
    assert bit_equal(draw(), first) and bit_equal(draw(), second) and not torch.equal(first, second)

    state = torch.get_rng_state()
    mine = torch.Generator(device).manual_seed(7)
    assert bit_equal(draw(mine), first) and bit_equal(draw(mine, torch.full((4,), 0.5, device=device)), second)
    warmops.blur_noise(x, 1.0, 0.5, seed=3, backend=backend)
    warmops.blur_noise(x, 1.0, 0.5, noise=torch.zeros_like(x), backend=backend)
    assert torch.equal(torch.get_rng_state(), state)
    assert bit_equal(draw(torch.Generator(device).manual_seed(7)), first)


def test_a_draw_costs_one_seed_per_sample(backend: str, device: str, rng: torch.Generator) -> None:
    """What comes later in a program does not depend on the image size, and `normal` would have drawn the same seeds."""
    states = []
    for size in (4, 20):
        x = torch.zeros(5, 2, size, size, device=device)
        generator = torch.Generator(device).manual_seed(1)
        got = warmops.blur_noise(x, 0.0, 1.0, generator=generator, backend=backend)
        states.append(generator.get_state())
        eps = warmops.normal(x.shape, generator=generator.manual_seed(1), device=device, backend=backend)
        assert torch.equal(got, eps)
    assert torch.equal(*states)


def test_lazily_negated_views(backend: str, device: str, rng: torch.Generator) -> None:
    """Views whose numbers are not what their memory holds: the imaginary parts of conjugates."""

    def negated(values: Tensor) -> Tensor:
        return torch.view_as_complex(torch.stack([values, -values], dim=-1)).conj().imag

    x, eps = images((4, 3, 8, 9), torch.float32, rng, device), randn((4, 3, 8, 9), rng, torch.float32, device)
    alpha, beta, scale = (0.1 + torch.rand(4, generator=rng).to(device) for _ in range(3))
    assert negated(x).is_neg() and torch.equal(negated(x), x)
    for out in (None, torch.empty_like(x)):
        want = warmops.blur_noise(x, alpha, beta, noise=eps, scale=scale, backend=backend)
        got = warmops.blur_noise(
            negated(x), negated(alpha), negated(beta), noise=negated(eps), scale=negated(scale), out=out, backend=backend
        )
        assert torch.equal(got, want)
        assert torch.equal(warmops.blur(negated(x), negated(alpha), backend=backend), warmops.blur(x, alpha, backend=backend))
