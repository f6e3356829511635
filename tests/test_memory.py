"""What is read and written: ``out`` of any layout, margins, poison, copies, threads of the caller."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from _cases import Guarded, all_dtypes, bit_equal, images, layouts, levels, noise_levels, strided
from test_blur import check_error
from test_blur_noise import check_accuracy
from torch import Tensor

import warmops
from warmops import _dispatch

SMALL = ((5, 3, 16, 16), (3, 2, 9, 23), (2, 1, 33, 5), (4, 1, 1))


def result_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype == torch.uint8 else x.dtype


def test_unwritten_outputs_are_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture that every other test relies on: a kernel that writes nothing yields NaN, not yesterday's result."""
    monkeypatch.setattr(_dispatch, "_load", lambda backend, device, op: lambda *args: None)
    monkeypatch.setattr(_dispatch, "native", lambda: "not to be used")
    x = torch.ones(2, 3, 8, 8)
    results = [warmops.blur(x, 1.0), *warmops.blur_noise(x, 1.0, 1.0, return_blurred=True), warmops.normal((2, 3), 0)]
    results += [
        torch.ops.warmops.blur(x, torch.ones(2), None),
        torch.ops.warmops.normal([2, 3], torch.zeros(2).long(), torch.float16, None),
    ]
    for result in results:
        assert result.isnan().all()


@layouts
@all_dtypes
def test_blur_writes_out_and_nothing_else(layout: str, dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in SMALL[: 3 if layout == "channels_last" else 4]:
        x = images(shape, dtype, rng, device)
        sigma = levels(shape[0], rng, device)
        out = Guarded(shape, result_dtype(x), device, layout)
        assert warmops.blur(x, sigma, out=out.tensor, backend=backend) is out.tensor
        assert out.untouched()
        assert_close_bits(out.tensor, warmops.blur(x, sigma, backend=backend), sigma)


@layouts
@all_dtypes
def test_blur_noise_writes_out_and_nothing_else(layout: str, dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in SMALL[: 3 if layout == "channels_last" else 4]:
        x = strided(images(shape, dtype, rng, device), layout)
        alpha, beta = levels(shape[0], rng, device), noise_levels(shape[0], rng, device)
        want = warmops.blur_noise(x, alpha, beta, seed=3, return_blurred=True, backend=backend)
        pair = Guarded(shape, result_dtype(x), device, layout), Guarded(shape, result_dtype(x), device, layout)
        got = warmops.blur_noise(x, alpha, beta, seed=3, return_blurred=True, out=tuple(p.tensor for p in pair), backend=backend)
        assert got[0] is pair[0].tensor and got[1] is pair[1].tensor
        for guarded, truth in zip(pair, want, strict=True):
            assert guarded.untouched()
            assert_close_bits(guarded.tensor, truth, alpha)
        single = Guarded(shape, result_dtype(x), device, layout)
        warmops.blur_noise(x, alpha, beta, seed=3, out=single.tensor, backend=backend)
        assert single.untouched() and bit_equal(single.tensor, pair[0].tensor)


def assert_close_bits(got: Tensor, want: Tensor, sigma: Tensor) -> None:
    """Equal up to the rounding that another order of the two axes may bring; halves: up to one step."""
    if got.dtype in (torch.float16, torch.bfloat16):
        torch.testing.assert_close(got, want, rtol=2 * torch.finfo(got.dtype).eps, atol=1e-6)
    else:
        check_error(got, want.cpu().double().numpy(), sigma)


def test_interleaved_views_of_one_buffer_are_accepted(backend: str, device: str, rng: torch.Generator) -> None:
    buffer = torch.zeros(4, 6, 8, 8, device=device)
    x, out = buffer[:, 0::2], buffer[:, 1::2]
    x.copy_(images((4, 3, 8, 8), torch.float32, rng, device))
    before = x.clone()
    warmops.blur(x, 1.5, out=out, backend=backend)
    assert bit_equal(x, before)
    assert_close_bits(out, warmops.blur(before, 1.5, backend=backend), torch.tensor(1.5))


def test_two_outputs_in_one_buffer(backend: str, device: str, rng: torch.Generator) -> None:
    x = images((2, 3, 8, 8), torch.float32, rng, device)
    both = torch.zeros(2, 3, 2, 8, 8, device=device).unbind(2)
    want = warmops.blur_noise(x, 1.5, 0.5, seed=1, return_blurred=True, backend=backend)
    warmops.blur_noise(x, 1.5, 0.5, seed=1, return_blurred=True, out=both, backend=backend)
    assert_close_bits(both[0], want[0], torch.tensor(1.5))
    assert_close_bits(both[1], want[1], torch.tensor(1.5))


def test_inputs_at_the_end_of_memory(backend: str, device: str, rng: torch.Generator) -> None:
    """Neighbours of x, noise, levels and seeds hold NaN or nonsense; none of it reaches the result."""
    for shape in SMALL:
        n = shape[0]
        x, eps = images(shape, torch.float32, rng, device), images(shape, torch.float32, rng, device)
        alpha, beta, scale = levels(n, rng, device), noise_levels(n, rng, device), levels(n, rng, device).clamp(max=9)
        want = warmops.blur_noise(x, alpha, beta, noise=eps, scale=scale, backend=backend)

        def among_nan(values: Tensor) -> Tensor:
            buffer = torch.full((values.numel() + 96,), torch.nan, dtype=values.dtype, device=device)
            return buffer[31 : 31 + values.numel()].reshape(values.shape).copy_(values)

        got = warmops.blur_noise(
            among_nan(x), among_nan(alpha), among_nan(beta), noise=among_nan(eps), scale=among_nan(scale), backend=backend
        )
        assert bit_equal(got, want)


@pytest.mark.cpu_only
@layouts
def test_no_hidden_copy(layout: str, rng: torch.Generator) -> None:
    """The C++ kernels read and write strided tensors where they are: torch allocates the output and nothing of its size."""
    if not warmops.backends()["cpu"]:
        pytest.skip(warmops.backends()["cpu"].detail)
    shape = (8, 4, 64, 64)
    x = strided(images(shape, torch.float32, rng), layout)
    eps, out = strided(x, layout), strided(x, layout)
    alpha, beta = levels(8, rng), noise_levels(8, rng)
    with torch.profiler.profile(profile_memory=True) as profile:
        warmops.blur_noise(x, alpha, beta, noise=eps, out=out, backend="cpu")
        warmops.blur_noise(x, alpha, beta, seed=1, out=out, backend="cpu")
        warmops.normal(shape, 1, out=out, backend="cpu")
    assert sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages()) <= 4096


@pytest.mark.cpu_only
def test_calls_from_several_threads(backend: str, rng: torch.Generator) -> None:
    cases = [(images((6, 3, n, n + 1), torch.float32, rng), levels(6, rng), noise_levels(6, rng)) for n in (8, 16, 31, 40)]
    want = [warmops.blur_noise(*case, seed=3, backend=backend) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = list(pool.map(lambda case: warmops.blur_noise(*case, seed=3, backend=backend), cases))
            assert all(bit_equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.cpu_only
def test_more_threads_than_work(backend: str, rng: torch.Generator) -> None:
    torch.set_num_threads(16)
    for shape in ((1, 1, 1, 1), (2, 1, 3, 2), (3, 5, 8, 8)):
        check_accuracy(images(shape, torch.float32, rng), 1.0, 0.5, backend, seed=1)
