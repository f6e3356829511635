"""Each instruction set of the C++ kernels, forced in turn: the accuracy and noise cases of the other files again."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import _oracles
import pytest
import test_blur
import test_blur_noise
import test_dct
import test_dct_memory
import test_dct_scipy
import test_normal
import torch
from _cases import FLOATS, SHAPES, all_dtypes, bit_equal, ident, images, layouts, levels, noise_levels, strided

import warmops

pytestmark = pytest.mark.cpu_only
PATHS = ("avx512", "avx2", "baseline")


@pytest.fixture
def native() -> Iterator[ModuleType]:
    """The extension, with its instruction set restored afterwards."""
    if not warmops.backends()["cpu"]:
        pytest.skip(warmops.backends()["cpu"].detail)
    module = importlib.import_module("warmops._C")
    chosen = module.isa()
    yield module
    module.set_isa(chosen)


@pytest.fixture(params=PATHS)
def isa(request: pytest.FixtureRequest, native: ModuleType) -> str:
    if request.param not in native.isas():
        pytest.skip(f"this CPU has no {request.param} path, only {', '.join(native.isas())}")
    native.set_isa(request.param)
    return request.param


def test_the_best_path_is_the_default(native: ModuleType) -> None:
    assert set(native.isas()) <= set(PATHS) and "baseline" in native.isas()
    assert native.isa() == next(path for path in PATHS if path in native.isas())


def test_a_forced_path_is_in_use(isa: str, native: ModuleType) -> None:
    assert native.isa() == isa and isa in warmops.backends()["cpu"].detail


@pytest.mark.parametrize("name", ["sse9", "AVX2"])
def test_unknown_path(name: str, native: ModuleType) -> None:
    before = native.isa()
    with pytest.raises(ValueError, match=name):
        native.set_isa(name)
    assert native.isa() == before


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
@all_dtypes
def test_accuracy(shape: tuple[int, ...], dtype: torch.dtype, isa: str, rng: torch.Generator) -> None:
    x, alpha, beta = images(shape, dtype, rng), levels(shape[0], rng), noise_levels(shape[0], rng)
    test_blur_noise.check_accuracy(x, alpha, beta, "cpu", seed=test_normal.random_seed(rng))


@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float16], ids=ident)
def test_layouts(layout: str, dtype: torch.dtype, isa: str, rng: torch.Generator) -> None:
    for shape in ((6, 3, 16, 16), (3, 2, 2, 9, 37)):
        test_blur.check_accuracy(strided(images(shape, dtype, rng), layout), levels(shape[0], rng), "cpu")


def test_random_shapes(isa: str, rng: torch.Generator) -> None:
    test_blur.test_accuracy_at_random_shapes("cpu", "cpu", rng)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=ident)
def test_normals(dtype: torch.dtype, isa: str, rng: torch.Generator) -> None:
    test_normal.test_extreme_words_within_4_ulp(dtype, "cpu", "cpu")
    for elements in (1, 3, 15, 16, 17, 63, 64, 65, 4099):
        test_normal.test_within_4_ulp(elements, dtype, "cpu", "cpu", rng)


def test_half_normals(isa: str, rng: torch.Generator) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        test_normal.test_half_is_float32_rounded_once(dtype, "cpu", "cpu", rng)


def test_same_noise_in_any_batch_and_on_any_threads(isa: str, rng: torch.Generator) -> None:
    test_normal.test_same_sample_in_any_batch(torch.float32, "cpu", "cpu", rng)
    test_normal.test_same_for_any_thread_count((1, 300_001), "cpu", rng)
    test_blur_noise.test_same_sample_in_any_batch((3, 16, 16), torch.float32, "cpu", "cpu", rng)


def test_dct_of_every_kind_and_size(isa: str, rng: torch.Generator) -> None:
    for function in ("dct", "dst"):
        for type_ in (1, 2, 3, 4):
            test_dct.check_sizes(function, type_, test_dct.SIZES, 5, "cpu", "cpu", rng)
            test_dct.check_sizes(function, type_, (144, 200, 211, 256, 384, 1021, 1024), 9, "cpu", "cpu", rng)
    *small, large = test_dct.IMAGES
    for shape in small:  # float32, and one of the others each
        other = FLOATS[int(torch.randint(len(FLOATS), (), generator=rng))]
        for dtype in {torch.float32, other}:
            test_dct.test_accuracy_of_images(shape, dtype, "cpu", "cpu", rng)
    test_dct.test_accuracy_of_images(large, torch.float32, "cpu", "cpu", rng)


@layouts
def test_dct_layouts(layout: str, isa: str, rng: torch.Generator) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        test_dct_memory.test_layouts(layout, dtype, "cpu", "cpu", rng)
        test_dct_memory.test_out_is_written_and_nothing_else(layout, dtype, "cpu", "cpu", rng)


def test_dct_in_threads(isa: str, rng: torch.Generator) -> None:
    for shape in ((64, 3, 32, 32), (1, 1, 256, 200), (7, 1, 33, 47), (2, 600, 5)):
        test_dct_memory.test_same_bits_for_any_thread_count(shape, "cpu", rng)
    test_dct_memory.test_inputs_at_the_end_of_memory("cpu", "cpu", rng)


def test_random_dcts(isa: str, rng: torch.Generator) -> None:
    for _ in range(4):
        test_dct_scipy.test_random_calls_on_the_device("cpu", "cpu", rng)


def test_alpha_zero(isa: str, rng: torch.Generator) -> None:
    for dtype in (torch.float32, torch.float64):
        test_blur_noise.test_alpha_zero_is_x_plus_noise((6, 3, 13, 17), dtype, "cpu", "cpu", rng)
        test_blur.test_level_zero_returns_the_bits_of_x(dtype, "cpu", "cpu", rng)


def test_conversions_of_halves_are_exact(isa: str) -> None:
    """Every float16 and bfloat16 number through the kernel and back; float32 between two halves rounds to even."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        every = bits.view(dtype).reshape(1, 1, 256, 256)
        same = warmops.blur_noise(every, 0.0, 1.0, noise=torch.zeros_like(every), backend="cpu")
        finite = every.isfinite()
        assert torch.equal(same[finite], every[finite]) and torch.equal(same.isnan(), every.isnan())
        assert torch.equal(same[every.isinf()], every[every.isinf()])
        ties = warmops.blur_noise(every, 0.0, 1.0, noise=every.roll(1, -1), scale=0.5, backend="cpu")
        assert bit_equal(
            ties[finite & finite.roll(1, -1)], (0.5 * (every.float() + every.roll(1, -1).float())).to(dtype)[finite & finite.roll(1, -1)]
        )


def test_paths_agree(native: ModuleType, rng: torch.Generator) -> None:
    """Equal integers on each path: no path's normals are further than 4 ulp from the same truth."""
    truth = _oracles.normal((3, 5000), 123)
    for path in native.isas():
        native.set_isa(path)
        assert _oracles.ulps(warmops.normal((3, 5000), 123, backend="cpu"), truth) <= 4
