"""`warmops.normal`: the integers, the normals, and that a sample's noise depends on its seed alone."""

from __future__ import annotations

import importlib
import math

import _oracles
import mpmath
import numpy as np
import pytest
import torch
from _cases import FLOATS, Guarded, bit_equal, float_dtypes, half_dtypes, ident, layouts

import warmops
from warmops import reference

SEEDS = (0, 1, 2**32 - 1, 2**32, 0x0123456789ABCDEF, 2**63 - 1, -1, -(2**63), -12345)
# Seeds whose first four words hold an extreme (found by search): near 0 and 2^32 (ends of the logarithm), multiples of 2^29
# (zeros and quarter turns of sine and cosine), 2^32 sqrt(1/2) and 2^32 (1 - sqrt(1/2)) (where a logarithm changes its form).
EDGES = {
    627779616: (2, 0x00000000), 1343428: (3, 0x00000000), 760393872: (0, 0x00000001), 452212855: (3, 0x00000001),
    53458837: (2, 0x1FFFFFFE), 992455683: (3, 0x1FFFFFFF), 1152709275: (2, 0x20000000), 43335768: (2, 0x3FFFFFFF),
    142524930: (0, 0x40000000), 599368034: (3, 0x40000000), 5704016: (0, 0x7FFFFFFD), 822691687: (3, 0x7FFFFFFF),
    223229714: (1, 0x80000001), 2134053819: (2, 0x60000001), 51043104: (1, 0x60000001), 1459600921: (2, 0xBFFFFFFF),
    995596506: (1, 0xBFFFFFFF), 182551708: (3, 0xC0000000), 67750675: (0, 0xFFFFFFFE), 1419361416: (1, 0xFFFFFFFE),
    1352247272: (0, 0xFFFFFFFF), 454088803: (1, 0xFFFFFFFF), 282353944: (2, 0xB504F333), 1001568336: (1, 0xB504F334),
    445252116: (0, 0x4AFB0CCC), 1374913611: (1, 0x4AFB0CCC),
}  # fmt: skip


def random_seed(rng: torch.Generator) -> int:
    return int(torch.randint(-(2**63), 2**63 - 1, (), generator=rng))


# ---- the integers ----


@pytest.mark.parametrize(("counter", "key", "words"), _oracles.KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    assert tuple(_oracles.philox4x32(counter, key).tolist()) == words
    assert tuple(reference.philox4x32(torch.tensor(counter), torch.tensor(key)).tolist()) == words


@pytest.mark.cpu_only
@pytest.mark.parametrize(("counter", "key", "words"), _oracles.KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_philox_known_answers_in_cpp(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    if not warmops.backends()["cpu"]:
        pytest.skip(warmops.backends()["cpu"].detail)
    assert tuple(importlib.import_module("warmops._C").philox4x32(counter, key)) == words


def test_philox_random_words(rng: torch.Generator) -> None:
    counter = torch.randint(2**32, (1000, 4), generator=rng)
    key = torch.randint(2**32, (1000, 2), generator=rng)
    want = _oracles.philox4x32(counter.numpy().T, key.numpy().T)
    assert np.array_equal(reference.philox4x32(counter, key).numpy().astype(np.uint64), want)
    if warmops.backends()["cpu"]:
        native = importlib.import_module("warmops._C")
        got = [native.philox4x32(tuple(c), tuple(k)) for c, k in zip(counter.tolist(), key.tolist(), strict=True)]
        assert np.array_equal(np.array(got, dtype=np.uint64), want)


def test_edges_are_edges() -> None:
    for seed, (word, value) in EDGES.items():
        assert int(_oracles.words([seed], 4)[0, 0, word]) == value


# ---- the normals ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=ident)
@pytest.mark.parametrize("elements", [1, 2, 3, 4, 5, 17, 64, 257, 4099])
def test_within_4_ulp(elements: int, dtype: torch.dtype, normal_backend: str, device: str, rng: torch.Generator) -> None:
    seeds = [*SEEDS, random_seed(rng), random_seed(rng)]
    got = warmops.normal((len(seeds), elements), torch.tensor(seeds, device=device), dtype=dtype, backend=normal_backend)
    assert _oracles.ulps(got, _oracles.normal(got.shape, seeds)) <= 4


def test_a_million_within_4_ulp(normal_backend: str, device: str, rng: torch.Generator) -> None:
    seed = random_seed(rng)
    got = warmops.normal((8, 1 << 17), seed, backend=normal_backend, device=device)
    assert _oracles.ulps(got, _oracles.normal(got.shape, seed)) <= 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=ident)
def test_extreme_words_within_4_ulp(dtype: torch.dtype, normal_backend: str, device: str) -> None:
    got = warmops.normal((len(EDGES), 4), torch.tensor(list(EDGES), device=device), dtype=dtype, backend=normal_backend)
    with mpmath.workdps(40):
        want = []
        for row in _oracles.words(list(EDGES), 4)[:, 0].tolist():
            for w, v in (row[:2], row[2:]):
                radius = mpmath.sqrt(-2 * mpmath.log((w + mpmath.mpf("0.5")) / 2**32))
                half_turns = (v + mpmath.mpf("0.5")) / 2**31
                want += [radius * mpmath.cospi(half_turns), radius * mpmath.sinpi(half_turns)]
        for value, exact in zip(got.double().flatten().tolist(), want, strict=True):
            assert math.isfinite(value)
            spacing = np.spacing(np.float32(abs(exact)) if dtype == torch.float32 else np.float64(abs(exact)))
            assert abs(value - exact) <= 4 * float(spacing), (value, float(exact))


@half_dtypes
def test_half_is_float32_rounded_once(dtype: torch.dtype, normal_backend: str, device: str, rng: torch.Generator) -> None:
    seed = random_seed(rng)
    exact = warmops.normal((7, 3, 13, 11), seed, backend=normal_backend, device=device)
    half = warmops.normal((7, 3, 13, 11), seed, dtype=dtype, backend=normal_backend, device=device)
    assert bit_equal(half, exact.to(dtype))


def test_backends_agree(normal_backend: str, device: str, rng: torch.Generator) -> None:
    seed = random_seed(rng)
    truth = warmops.normal((3, 3, 32, 32), seed, dtype=torch.float64, backend="reference")
    got = warmops.normal((3, 3, 32, 32), seed, backend=normal_backend, device=device)
    assert _oracles.ulps(got, truth.numpy().astype(np.longdouble)) <= 4


# ---- a sample's noise depends on its seed alone ----


@float_dtypes
def test_same_sample_in_any_batch(dtype: torch.dtype, normal_backend: str, device: str, rng: torch.Generator) -> None:
    seeds = torch.tensor([*SEEDS, *(random_seed(rng) for _ in range(28))], device=device)
    shape = (3, 7, 5)
    whole = warmops.normal((len(seeds), *shape), seeds, dtype=dtype, backend=normal_backend)
    order = torch.randperm(len(seeds), generator=rng).to(device)
    assert bit_equal(warmops.normal((len(seeds), *shape), seeds[order], dtype=dtype, backend=normal_backend), whole[order])
    for i in range(0, len(seeds), 5):
        assert bit_equal(warmops.normal((1, *shape), int(seeds[i]), dtype=dtype, device=device, backend=normal_backend), whole[i : i + 1])


@pytest.mark.parametrize("elements", [1, 3, 5, 15, 33, 129, 1000])
def test_a_shorter_sample_is_a_prefix(elements: int, normal_backend: str, device: str, rng: torch.Generator) -> None:
    seed = random_seed(rng)
    long = warmops.normal((2, 1021), seed, device=device, backend=normal_backend)
    assert bit_equal(warmops.normal((2, elements), seed, device=device, backend=normal_backend), long[:, :elements])


def test_shape_is_row_major(normal_backend: str, device: str) -> None:
    flat = warmops.normal((2, 2 * 3 * 5 * 7), 9, device=device, backend=normal_backend)
    assert bit_equal(warmops.normal((2, 2, 3, 5, 7), 9, device=device, backend=normal_backend), flat.reshape(2, 2, 3, 5, 7))


@pytest.mark.cpu_only
@pytest.mark.parametrize("shape", [(1, 300_001), (64, 3, 32, 32), (3, 5)], ids=ident)
def test_same_for_any_thread_count(shape: tuple[int, ...], normal_backend: str, rng: torch.Generator) -> None:
    seed = random_seed(rng)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(warmops.normal(shape, seed, backend=normal_backend))
    assert bit_equal(results[0], results[1]) and bit_equal(results[0], results[2])


# ---- seeds ----


@pytest.mark.parametrize("seed", [*SEEDS, 2**63 - 3], ids=str)
def test_int_seed_counts_up_and_wraps(seed: int, normal_backend: str, device: str) -> None:
    wrapped = [(seed + i + 2**63) % 2**64 - 2**63 for i in range(5)]
    got = warmops.normal((5, 9), seed, device=device, backend=normal_backend)
    assert bit_equal(got, warmops.normal((5, 9), torch.tensor(wrapped, device=device), backend=normal_backend))
    assert _oracles.ulps(got, _oracles.normal((5, 9), wrapped)) <= 4


def test_strided_seeds(normal_backend: str, device: str) -> None:
    seeds = torch.arange(100, 130, device=device)
    want = warmops.normal((10, 9), seeds[1::3].contiguous(), backend=normal_backend)
    assert bit_equal(warmops.normal((10, 9), seeds[1::3], backend=normal_backend), want)
    same = warmops.normal((4, 9), seeds[:1].expand(4), backend=normal_backend)
    assert bit_equal(same, warmops.normal((1, 9), 100, device=device, backend=normal_backend).repeat(4, 1))


def test_numpy_integer_seed(normal_backend: str, device: str) -> None:
    want = warmops.normal((2, 9), 5, device=device, backend=normal_backend)
    assert bit_equal(warmops.normal((2, 9), np.int32(5), device=device, backend=normal_backend), want)


def test_neighbouring_seeds_differ(normal_backend: str, device: str) -> None:
    noise = warmops.normal((64, 1, 4, 4), 0, device=device, backend=normal_backend).flatten(1)
    assert len(set(map(tuple, noise.tolist()))) == 64
    assert not torch.equal(noise[1:, :4], noise[:-1, 4:8])  # nor is one sample another one shifted


def test_manual_seed_and_generator(normal_backend: str, device: str) -> None:
    def draw(generator: torch.Generator | None = None) -> torch.Tensor:
        return warmops.normal((4, 9), generator=generator, device=device, backend=normal_backend)

    torch.manual_seed(7)
    first, second = draw(), draw()
    torch.manual_seed(7)
    assert bit_equal(draw(), first) and bit_equal(draw(), second) and not torch.equal(first, second)

    state = torch.get_rng_state()
    mine = torch.Generator(device).manual_seed(7)
    assert bit_equal(draw(mine), first) and bit_equal(draw(mine), second)
    warmops.normal((4, 9), 3, device=device, backend=normal_backend)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_draw_costs_one_seed_per_sample(normal_backend: str, device: str) -> None:
    states = []
    for shape in ((5, 2), (5, 3, 16, 16)):
        generator = torch.Generator(device).manual_seed(1)
        warmops.normal(shape, generator=generator, device=device, backend=normal_backend)
        states.append(generator.get_state())
    assert torch.equal(*states)


# ---- shape, dtype, device, out ----


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 3, 0, 4), (5,), (1, 1), (2, 3, 5, 7, 2, 1)], ids=ident)
@float_dtypes
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: torch.dtype, normal_backend: str, device: str) -> None:
    noise = warmops.normal(shape, 0, dtype=dtype, device=device, backend=normal_backend)
    assert (noise.shape, noise.dtype, noise.device.type) == (shape, dtype, device)
    assert torch.isfinite(noise).all()


def test_torch_size_and_list_are_shapes(normal_backend: str, device: str) -> None:
    want = warmops.normal((2, 3), 0, device=device, backend=normal_backend)
    assert bit_equal(warmops.normal(want.shape, 0, device=device, backend=normal_backend), want)
    assert bit_equal(warmops.normal([2, 3], 0, device=device, backend=normal_backend), want)


def test_default_dtype_is_torchs(normal_backend: str, device: str) -> None:
    assert warmops.normal((2, 3), 0, device=device, backend=normal_backend).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert warmops.normal((2, 3), 0, device=device, backend=normal_backend).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@layouts
@pytest.mark.parametrize("dtype", FLOATS, ids=ident)
def test_out_of_any_layout(layout: str, dtype: torch.dtype, normal_backend: str, device: str) -> None:
    shape = (3, 2, 5, 7)
    want = warmops.normal(shape, 4, dtype=dtype, device=device, backend=normal_backend)
    out = Guarded(shape, dtype, device, layout)
    assert warmops.normal(shape, 4, out=out.tensor, backend=normal_backend) is out.tensor
    assert bit_equal(out.tensor, want) and out.untouched()
