"""The CUDA transforms where a GPU is: every kernel against the reference, streams, graphs, memory, offsets beyond 32 bits."""

from __future__ import annotations

import itertools

import pytest
import torch
from _cases import available, bit_equal

from warmops import reference

ONE = (1.0, 1.0, 1.0)
SIZES = (1, 2, 7, 8, 12, 16, 17, 28, 32, 33, 48, 64, 96, 100, 127, 128, 192, 224, 256, 384, 511, 512, 1024, 2048, 2049, 4096, 8191)


@pytest.fixture(autouse=True)
def built() -> None:
    available("cuda")


def transform(x: torch.Tensor, axes: tuple[tuple[int, int, float, float, float], ...]) -> torch.Tensor:
    from warmops import _cuda

    out = torch.full_like(x, torch.nan)
    _cuda.dct(x, out, axes)
    return out


def error(got: torch.Tensor, x: torch.Tensor, axes: tuple[tuple[int, int, float, float, float], ...]) -> float:
    want = torch.empty(got.shape, dtype=torch.float64, device=got.device)
    reference.dct(x.double(), want, axes)
    return float((got.double() - want).norm() / want.norm())


@pytest.mark.parametrize("n", SIZES)
def test_one_axis(n: int, rng: torch.Generator) -> None:
    for kind, dtype, last in itertools.product(range(0 if n > 1 else 1, 8), (torch.float32, torch.float64), (True, False)):
        axes = ((2 if last else 1, kind, 0.5, 1.2, 0.7),)
        x = torch.randn((3, 5, n) if last else (3, n, 5), dtype=torch.float64, generator=rng).to("cuda", dtype)
        bar = 2e-15 * max(1, n.bit_length()) if dtype == torch.float64 else 2.5e-7 if n <= 256 else 4e-7 if n <= 4096 else 6e-7
        assert error(transform(x, axes), x, axes) <= bar, (kind, dtype, last)


@pytest.mark.parametrize(("h", "w"), [*((n, n) for n in SIZES if n <= 256), (64, 128), (28, 32), (1, 100), (127, 8)])
def test_two_axes(h: int, w: int, rng: torch.Generator) -> None:
    for kinds, layout in itertools.product(((1, 1), (2, 2), (3, 7), (5, 6)), ((0, 1, 2), (0, 2, 1))):
        axes = ((1, kinds[0], 0.5, 1.2, 0.7), (2, kinds[1], 2.0, 0.8, 1.1))
        x = torch.randn(37, h, w, generator=rng).cuda().permute(layout).contiguous().permute([layout.index(i) for i in range(3)])
        got = transform(x, axes)
        assert error(got, x, axes) <= 2.5e-7, (kinds, layout)
        for half in (torch.float16, torch.bfloat16):
            assert bit_equal(transform(x.to(half), axes), transform(x.to(half).float(), axes).to(half))


@pytest.mark.parametrize("n", [64, 100, 512, 4099])
def test_a_side_stream_and_a_graph(n: int, rng: torch.Generator) -> None:
    x = torch.randn(40, n, generator=rng).cuda()
    axes = ((1, 1, *ONE),)
    want = transform(x + 1, axes)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        got = transform(x + 1, axes)
    torch.cuda.current_stream().wait_stream(stream)
    assert bit_equal(got, want)
    if n > 2048:
        return  # cuFFT makes its plans outside of a graph
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = transform(x, axes)
    x.add_(1)
    graph.replay()
    assert bit_equal(captured, want)


def test_no_synchronisation_and_no_second_tensor() -> None:
    x = torch.ones(256, 128, 128, device="cuda")
    out, axes = torch.empty_like(x), ((1, 1, *ONE), (2, 1, *ONE))
    from warmops import _cuda

    _cuda.dct(x, out, axes)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        _cuda.dct(x, out, axes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() == before


def test_beyond_32_bit_offsets() -> None:
    """More than 2^31 elements, tiles and blocks: the last image is as right as alone."""
    for n in (64, 100):
        images = 2**31 // n**2 + 3
        if torch.cuda.mem_get_info()[0] < 5 * images * n * n:
            pytest.skip("needs 11 GB of GPU memory")
        x = torch.zeros(images, n, n, dtype=torch.bfloat16, device="cuda")
        x[-1] = torch.linspace(0, 1, n, device="cuda").to(torch.bfloat16)
        axes = ((1, 1, *ONE), (2, 2, *ONE))
        from warmops import _cuda

        _cuda.dct(x, x, axes)
        alone = torch.zeros(1, n, n, dtype=torch.bfloat16, device="cuda")
        alone[0] = torch.linspace(0, 1, n, device="cuda").to(torch.bfloat16)
        assert bit_equal(x[-1:], transform(alone, axes)) and not x[0].any()
        del x


def test_launch_errors_are_raised() -> None:
    """A transform that no block can hold is refused by the extension, with the reason."""
    from warmops import _C

    x = torch.zeros(1, 5003, device="cuda")
    with pytest.raises(RuntimeError, match="does not fit in shared memory"):
        _C.dct_cuda(x, x, [(1, 1, *ONE)], torch.cuda.current_stream().cuda_stream)
