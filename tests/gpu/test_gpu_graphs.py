"""CUDA graphs of sampling and of training steps; and every op on other streams, in several threads, on several devices, short of memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from _cases import available, bit_equal
from torch import Tensor, nn

import warmdiff
import warmops
from warmdiff.denoiser import sample_images
from warmdiff.network import NetworkConfig

SHAPE = (6, 3, 32, 32)
CONFIG = warmdiff.TrainConfig(
    images=96, batch=16, preview_every=0, tensorboard=False, network=NetworkConfig(channels=16, multipliers=(1, 2), blocks=1)
)


class Small(nn.Module):
    """A convolution for each head."""

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 6, 3, padding=1).to(device)

    def forward(self, x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        heads = self.net(x / (1 + x.abs()))
        return warmdiff.Prediction(heads[:, :3], heads[:, 3:])


@pytest.fixture
def exact() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@torch.no_grad()
def both(net: Any, seed: int = 0, **options: Any) -> tuple[Tensor, Tensor]:
    forms = (warmdiff.generate(net, SHAPE, device="cuda", seed=seed, cuda_graph=graph, **options) for graph in (True, False))
    return next(forms), next(forms)


@pytest.mark.parametrize("sampler", ["heun", "euler", "ddim", "ancestral"])
def test_a_graph_samples_the_same(sampler: str, exact: None) -> None:
    net = Small()
    for options in ({}, {"churn": 20.0}, {"process": warmdiff.BlurNoiseProcess.blurring_diffusion()}):
        for seed in (0, 5, 0):
            got, want = both(net, seed, sampler=sampler, steps=5, **options)
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_graph_sees_new_weights_and_new_start_images(exact: None) -> None:
    net = Small()
    both(net, steps=3)
    with torch.no_grad():
        net.net.weight.mul_(-0.5)
    torch.testing.assert_close(*both(net, steps=3), rtol=1e-5, atol=1e-5)
    net.net = nn.Conv2d(3, 6, 3, padding=1).cuda()
    torch.testing.assert_close(*both(net, steps=3), rtol=1e-5, atol=1e-5)
    for _ in range(2):
        start = 80 * torch.randn(SHAPE, device="cuda")
        torch.testing.assert_close(*both(net, steps=3, x_init=start), rtol=1e-5, atol=1e-5)


def test_batches_of_a_graph_are_the_images(exact: None) -> None:
    net = Small()
    got = warmdiff.generate(net, SHAPE, device="cuda", steps=3, batch=4, cuda_graph=True)
    torch.testing.assert_close(got, both(net, steps=3)[1], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_captured_says_so() -> None:
    def looks(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        return warmdiff.Prediction(x if float(x.sum()) > 1e30 else 0 * x, 0 * x)

    with pytest.raises(RuntimeError, match="cannot be captured"):
        warmdiff.generate(looks, SHAPE, device="cuda", steps=2, cuda_graph=True)
    assert warmdiff.generate(looks, SHAPE, device="cuda", steps=2).isfinite().all()  # and the GPU works on


def losses(path: Path, **changes: Any) -> list[float]:
    return [state.loss for state in warmdiff.train(dataclasses.replace(CONFIG, out=str(path), device="cuda", **changes))]


@pytest.mark.parametrize(
    "changes", [{}, {"augment": 0.5, "bnr_max": 2.0}, {"clip": None}, {"compile": True}], ids=lambda c: next(iter(c), "plain")
)
def test_a_captured_training_step_is_the_step(changes: dict[str, Any], exact: None, tmp_path: Path) -> None:
    graph, plain = losses(tmp_path / "graph", cuda_graph=True, **changes), losses(tmp_path / "plain", **changes)
    assert graph == pytest.approx(plain, rel=1e-3)
    more = losses(tmp_path / "graph", cuda_graph=True, **{**changes, "images": 128})  # resumed
    assert len(more) == 2
    images = sample_images(warmdiff.load(tmp_path / "graph", "cuda"), 4, labels=torch.arange(4), steps=3, cuda_graph=True)
    torch.testing.assert_close(images, sample_images(warmdiff.load(tmp_path / "graph", "cuda"), 4, labels=torch.arange(4), steps=3),
                               rtol=1e-3, atol=1e-3)  # fmt: skip


def test_half_precision_and_dropout_are_captured(tmp_path: Path) -> None:
    network = dataclasses.replace(CONFIG.network, dropout=0.1)
    got = losses(tmp_path, cuda_graph=True, precision="bf16", network=network)
    assert len(got) == 6 and len(set(got)) == 6


# ---- every op, wherever it is called from ----


def work(device: str, seed: int) -> list[Tensor]:
    """All ops once; deterministic."""
    generator = torch.Generator().manual_seed(seed)
    x, head_b, head_r = (torch.randn(8, 3, 32, 32, generator=generator).to(device) for _ in range(3))
    level = torch.rand(8, generator=generator).to(device)
    keys = torch.arange(seed, seed + 8, device=device)
    pair = warmops.blur_noise(x, level, level, seed=keys, scale=level, return_blurred=True)
    large = warmops.blur(x.reshape(8, 1, 24, 128).repeat(1, 1, 6, 2), level)  # two passes
    step = warmops.sampler_step(x, (head_b, head_r), 1.0, 2.0, 0.5, 1.0, method="euler", return_slope=True)
    found = [*pair, large, *step, warmops.normal(x.shape, keys)]
    if warmops.backends()["cuda"]:
        found += [warmops.dct2(x, norm="ortho"), warmops.dct(x.flatten(1), norm="ortho")]
    return found


def same(got: list[Tensor], want: list[Tensor]) -> bool:
    return all(bit_equal(a.cpu(), b.cpu()) for a, b in zip(got, want, strict=True))


@pytest.fixture
def triton() -> None:
    available("triton")


def test_streams_side_by_side(triton: None) -> None:
    """Several streams at once, each with work before it that takes a while."""
    want = [work("cuda", seed) for seed in range(4)]
    streams, got = [torch.cuda.Stream() for _ in range(4)], []
    for seed, stream in enumerate(streams):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000 * (4 - seed))
            got.append(work("cuda", seed))
    torch.cuda.synchronize()
    assert all(same(a, b) for a, b in zip(got, want, strict=True))


def test_threads(triton: None) -> None:
    """Each in a stream of its own, all ops at the same time."""
    want = [work("cuda", seed) for seed in range(8)]

    def run(seed: int) -> list[Tensor]:
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [work("cuda", seed) for _ in range(5)]
            torch.cuda.current_stream().synchronize()
        return found[-1]

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(run, range(8)))
    assert all(same(a, b) for a, b in zip(got, want, strict=True))


def test_threads_that_replay_one_graph(exact: None) -> None:
    net = Small()
    want = [both(net, seed, steps=3)[1] for seed in range(6)]

    def run(seed: int) -> Tensor:
        with torch.cuda.stream(torch.cuda.Stream()):
            image = warmdiff.generate(net, SHAPE, device="cuda", seed=seed, steps=3, cuda_graph=True)
            torch.cuda.current_stream().synchronize()
        return image

    with ThreadPoolExecutor(6) as pool:
        for got, image in zip(pool.map(run, range(6)), want, strict=True):
            torch.testing.assert_close(got, image, rtol=1e-5, atol=1e-5)


def test_devices(triton: None, exact: None) -> None:
    """A device that is not the current one, and graphs on each."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    want, net = work("cuda:0", 3), Small("cuda:0")
    image = warmdiff.generate(net, SHAPE, device="cuda:0", steps=3)
    for i in range(1, torch.cuda.device_count()):
        assert same(work(f"cuda:{i}", 3), want)
        there = Small("cpu")
        there.load_state_dict({name: t.cpu() for name, t in net.state_dict().items()})
        got = warmdiff.generate(there.to(f"cuda:{i}"), SHAPE, device=f"cuda:{i}", steps=3, cuda_graph=True)
        assert got.device.index == i
        torch.testing.assert_close(got.cpu(), image.detach().cpu(), rtol=1e-4, atol=1e-4)
    assert torch.cuda.current_device() == 0


def test_memory_that_is_used_again_at_once(triton: None) -> None:
    """Outputs are dropped while their kernels wait, and the allocator hands their memory on: nothing is mixed up."""
    want = [[t.clone() for t in work("cuda", seed)] for seed in range(3)]
    torch.cuda.synchronize()
    torch.cuda._sleep(50_000_000)
    for _ in range(20):
        for seed in range(3):
            work("cuda", seed)  # dropped
    got = [work("cuda", seed) for seed in range(3)]
    torch.cuda.synchronize()
    assert all(same(a, b) for a, b in zip(got, want, strict=True))


def test_little_memory(triton: None) -> None:
    """With the allocator's limit close above what is in use, a call that does not fit raises and leaves the rest usable."""
    want = work("cuda", 1)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**28) / total))
    try:

        def big() -> Tensor:  # 256 MiB in, as much out, twice as much between
            return warmops.blur(torch.empty(2**8, 1, 512, 512, device="cuda"), 1.0)

        with pytest.raises(torch.OutOfMemoryError):
            big()
        assert same(work("cuda", 1), want)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
