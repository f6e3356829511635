"""What only a GPU has: defaults, errors between devices, streams, CUDA graphs, device memory, no synchronisation."""

from __future__ import annotations

import pytest
import torch
from _cases import Guarded, bit_equal, images, levels, noise_levels

import warmops

SHAPE = (16, 3, 32, 32)


def test_the_default_is_triton(rng: torch.Generator) -> None:
    x = images(SHAPE, torch.float32, rng, "cuda")
    assert bit_equal(warmops.blur_noise(x, 1.0, 0.5, seed=1), warmops.blur_noise(x, 1.0, 0.5, seed=1, backend="triton"))
    assert warmops.normal((2, 3), 0, device="cuda").device == torch.device("cuda", torch.cuda.current_device())


def test_tensors_on_two_devices() -> None:
    x = torch.ones(SHAPE, device="cuda")
    for name, arguments in {
        "blur_sigma": {"blur_sigma": torch.ones(16)},
        "noise_sigma": {"noise_sigma": torch.ones(16)},
        "scale": {"scale": torch.ones(16)},
        "seed": {"seed": torch.zeros(16, dtype=torch.int64)},
        "noise": {"seed": None, "noise": torch.ones(SHAPE)},
        "out": {"out": torch.ones(SHAPE)},
        "generator": {"seed": None, "generator": torch.Generator()},
    }.items():
        with pytest.raises(ValueError, match=rf"^{name}.*cuda:0.*cpu|^{name}.*cpu.*cuda:0"):
            warmops.blur_noise(x, **{"blur_sigma": 1.0, "noise_sigma": 0.5, "seed": 1, **arguments})


def test_cpu_backend_refuses_cuda_tensors() -> None:
    with pytest.raises(RuntimeError, match="'cpu' cannot run here"):
        warmops.blur(torch.ones(SHAPE, device="cuda"), 1.0, backend="cpu")


@pytest.mark.parametrize("name", ["triton", "cuda"])
def test_gpu_backends_refuse_cpu_tensors(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"'{name}' cannot run here"):
        warmops.normal((2, 3), 0, device="cpu", backend=name)


def test_overlap_is_found_without_touching_memory() -> None:
    x = torch.ones(SHAPE, device="cuda")
    for out in (x, x.mT):
        with pytest.raises(ValueError, match="out must not overlap x"):
            warmops.blur(x, 1.0, out=out)
    assert (x == 1).all()


def test_bad_values_in_device_levels_poison_their_sample_only(backend: str, rng: torch.Generator) -> None:
    """They are not checked (that would synchronise): those samples become NaN, and the others do not notice."""
    x, good = images((4, 3, 16, 16), torch.float32, rng, "cuda"), torch.tensor([0.5, 1.0, 2.0, 4.0], device="cuda")
    want = warmops.blur_noise(x, good, good, seed=1, backend=backend)
    for bad in (-1.0, float("nan")):
        level = good.clone()
        level[2] = bad
        for alpha, beta in ((level, good), (good, level)):
            got = warmops.blur_noise(x, alpha, beta, seed=1, backend=backend)
            assert got[2].isnan().all()
            assert bit_equal(got[[0, 1, 3]], want[[0, 1, 3]])


def test_a_side_stream(backend: str, rng: torch.Generator) -> None:
    """Work is queued on the current stream: its results wait for what that stream did before."""
    x = images((64, 3, 64, 64), torch.float32, rng, "cuda")
    want = warmops.blur_noise(x + 1, 1.0, 0.5, seed=1, backend=backend)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        got = warmops.blur_noise(x + 1, 1.0, 0.5, seed=1, backend=backend)
    assert not stream.query()
    torch.cuda.current_stream().wait_stream(stream)
    assert bit_equal(got, want)


def test_normal_on_a_side_stream(normal_backend: str) -> None:
    want = warmops.normal((8, 999), 1, device="cuda", backend=normal_backend)
    stream, out = torch.cuda.Stream(), torch.zeros(8, 999, device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        out.fill_(7.0)
        warmops.normal((8, 999), 1, out=out, backend=normal_backend)
    torch.cuda.current_stream().wait_stream(stream)
    assert bit_equal(out, want)


def test_cuda_graph(rng: torch.Generator) -> None:
    """Captured once, replayed with new images, levels and seeds."""
    x, seed = images(SHAPE, torch.float32, rng, "cuda"), torch.arange(16, device="cuda")
    alpha, beta = levels(16, rng, "cuda"), noise_levels(16, rng, "cuda")

    def call() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pair = warmops.blur_noise(x, alpha, beta, seed=seed, scale=0.5, return_blurred=True, backend="triton")
        return *pair, warmops.normal(SHAPE, seed, backend="triton")

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for _ in range(3):
        x.copy_(images(SHAPE, torch.float32, rng, "cuda"))
        alpha.copy_(levels(16, rng, "cuda"))
        seed.add_(100)
        graph.replay()
        assert all(bit_equal(g, w) for g, w in zip(captured, call(), strict=True))


def test_no_synchronisation(rng: torch.Generator) -> None:
    x, seed = images(SHAPE, torch.float32, rng, "cuda"), torch.arange(16, device="cuda")
    alpha, beta = levels(16, rng, "cuda"), noise_levels(16, rng, "cuda")

    def call() -> None:
        warmops.blur_noise(x, alpha, beta, seed=seed, scale=beta, return_blurred=True, backend="triton")
        warmops.blur_noise(x, 1.0, 0.5, seed=3, backend="triton")
        warmops.blur(x, alpha, backend="triton")
        warmops.normal(SHAPE, 3, device="cuda", backend="triton")

    call()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("n", "dtype"), [(32, torch.float32), (64, torch.float32), (64, torch.bfloat16), (128, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels_last", "sliced"])
def test_no_full_size_intermediate(layout: str, n: int, dtype: torch.dtype, rng: torch.Generator) -> None:
    """One launch: beyond the output that is given, no memory that grows with the images."""
    shape = (64, 3, n, n)
    x, out = (Guarded(shape, dtype, "cuda", layout).tensor for _ in range(2))
    x.copy_(images(shape, dtype, rng, "cuda"))
    alpha, beta = levels(64, rng, "cuda"), noise_levels(64, rng, "cuda")
    warmops.blur_noise(x, alpha, beta, seed=1, out=out, backend="triton")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    warmops.blur_noise(x, alpha, beta, seed=1, out=out, backend="triton")
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before <= 0.05 * x.numel() * x.element_size()


def test_a_tensor_beyond_32_bit_offsets() -> None:
    """More than 2^31 elements: the last sample is as right as alone."""
    free, _ = torch.cuda.mem_get_info()
    n, shape = 11_000, (3, 256, 256)
    if free < 3 * n * 3 * 256 * 256 * 2:
        pytest.skip(f"needs 13 GB of GPU memory, {free / 1e9:.0f} GB are free")
    x = torch.zeros(n, *shape, dtype=torch.bfloat16, device="cuda")
    x[-1] = torch.linspace(0, 1, 256, device="cuda").to(torch.bfloat16)
    got = warmops.blur_noise(x, 2.0, 0.5, seed=1, backend="triton")
    want = warmops.blur_noise(x[-1:].clone(), 2.0, 0.5, seed=n, backend="triton")
    assert bit_equal(got[-1:], want) and bit_equal(got[:1], warmops.blur_noise(x[:1].clone(), 2.0, 0.5, seed=1, backend="triton"))
