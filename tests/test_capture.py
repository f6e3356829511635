"""CUDA graphs without a GPU: what is captured neither waits for the device nor copies to it, and graphs are kept and renewed rightly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import warmdiff
from warmdiff import denoiser, sampling
from warmdiff.config import TrainConfig
from warmdiff.loss import StepInputs, TwoHeadLoss
from warmdiff.network import NetworkConfig
from warmdiff.process import BlurNoiseProcess

pytestmark = pytest.mark.cpu_only
SHAPE = (3, 1, 8, 8)
GPU = "meta"  # stands for a device whose values Python cannot see
NET = NetworkConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(1,))
PROCESSES = {
    "warm": BlurNoiseProcess(),
    "blurring diffusion": BlurNoiseProcess.blurring_diffusion(),
    "free": BlurNoiseProcess.free(lambda beta: beta / (1 + beta)),
}


class NoNumbers(TorchFunctionMode):
    """No tensor on the device made of numbers in Python; `torch.full` is a kernel, these are copies."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            assert isinstance(args[0], Tensor) or not result.is_meta, f"copy between Python and the device: {args}"
        return result


class OnTheDevice(TorchDispatchMode):
    """No copy between devices, no value brought to Python: what a capture forbids. (A meta tensor has no value to give.)"""

    def __enter__(self) -> Any:
        self.numbers = NoNumbers().__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.numbers.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.name in ("aten::_to_copy", "aten::copy_", "aten::lift_fresh", "aten::_pin_memory"):
            devices = {v.device for v in (*args, result) if isinstance(v, Tensor)}
            assert len(devices) == 1, f"{func} between {devices}"
        return result


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while a graph is captured."""
    for module in (sampling, denoiser):
        monkeypatch.setattr(module, "capturing", lambda t: t.is_meta)


def network_denoiser(process: BlurNoiseProcess, classes: int = 0) -> Callable[[Tensor, Tensor], Any]:
    config = TrainConfig(network=NET, conditional=classes > 0)
    net = warmdiff.WarmNet(denoiser.network_of(config, SHAPE[1], classes)).to(GPU).eval()
    whole = warmdiff.Denoiser(net, config, warmdiff.DataSpectrum.constant(SHAPE[1:]))
    whole.process = process
    whole.preconditioning = warmdiff.Preconditioning(process, whole.spectrum)
    labels = torch.zeros(SHAPE[0], dtype=torch.int64, device=GPU) if classes else None
    return lambda x, beta: whole.raw(x, beta, labels)


def test_the_net_catches_what_it_should(recording: None) -> None:
    here, there = torch.ones(3), torch.ones(3, device=GPU)
    for bad in (lambda: here.to(GPU), there.cpu, lambda: there.copy_(here), lambda: torch.as_tensor(2.0, device=GPU)):
        with pytest.raises((AssertionError, NotImplementedError), match=r"between|out of meta"), OnTheDevice():
            bad()
    for bad in (lambda: float(there.sum()), lambda: bool((there > 0).any()), there.tolist):
        with pytest.raises(RuntimeError, match=r"meta"), OnTheDevice():
            bad()
    with OnTheDevice():
        assert (torch.full((3,), 2.0, device=GPU) * 3 + there.half().float()).is_meta


@pytest.mark.parametrize(
    ("sampler", "churn", "process", "classes"),
    [
        ("heun", 0.0, "warm", 4),
        ("heun", 40.0, "blurring diffusion", 0),
        ("ancestral", 0.0, "blurring diffusion", 4),
        ("ancestral", 0.0, "free", 0),
        ("ddim", 10.0, "free", 0),
    ],
)
def test_sampling_stays_on_the_device(sampler: str, churn: float, process: str, classes: int, recording: None) -> None:
    call = network_denoiser(PROCESSES[process], classes)
    seeds = torch.zeros(SHAPE[0], dtype=torch.int64, device=GPU)
    options = {"process": PROCESSES[process], "sampler": sampler, "churn": churn, "steps": 2, "seed": seeds}
    with torch.no_grad():
        list(warmdiff.sample(call, SHAPE, **options))  # what is copied once, is copied in the warm-up
        with OnTheDevice():
            *_, last = warmdiff.sample(call, SHAPE, **options)
    assert last.step == 2 and last.x.is_meta and last.x.shape == SHAPE


@pytest.mark.parametrize("changes", [{}, {"bnr_max": 2.0}, {"augment": 0.5}], ids=lambda c: next(iter(c), "plain"))
def test_a_training_step_stays_on_the_device(changes: dict[str, Any], recording: None) -> None:
    config = TrainConfig(network=NET, **changes)
    loss = TwoHeadLoss(config, warmdiff.DataSpectrum.constant(SHAPE[1:]), 4)
    net = warmdiff.WarmNet(denoiser.network_of(config, SHAPE[1], 4)).to(GPU)
    number = {"dtype": torch.float64, "device": GPU}
    told = torch.zeros(3, 9, device=GPU) if config.augment else None
    seeds, classes = torch.zeros(3, dtype=torch.int64, device=GPU), torch.zeros(3, 4, device=GPU)
    inputs = StepInputs(torch.zeros(SHAPE, device=GPU), torch.ones(3, **number), torch.ones(3, **number), seeds, classes, told)
    torch.cat(loss.losses(net, inputs)).sum().backward()
    with OnTheDevice():
        torch.cat(loss.losses(net, inputs)).sum().backward()
    assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())


def test_a_cpu_has_no_graphs(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"^cuda_graph must be False on cpu"):
        warmdiff.generate(lambda x, beta: pytest.fail("asked"), SHAPE, cuda_graph=True)
    config = TrainConfig(out=str(tmp_path / "run"), device="cpu", cuda_graph=True)
    with pytest.raises(ValueError, match=r"^cuda_graph must be False here: .* got 1 processes on cpu"):
        next(iter(warmdiff.train(dataclasses.replace(config))))


# ---- when a graph is captured anew ----


class Replayed:
    """A graph's place taken by its function, counted."""

    made = 0

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> None:
        type(self).made += 1
        self.function, self.shapes = function, [t.shape for t in inputs]
        function(*inputs)

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        assert [v.shape for v in values] == self.shapes
        return self.function(*values)


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    monkeypatch.setattr(Replayed, "made", 0)
    monkeypatch.setattr(sampling, "Graph", Replayed)

    def call(denoise: Any, seed: int = 0, x_init: Tensor | None = None, **options: Any) -> Tensor:
        seeds = torch.arange(seed, seed + 2)
        return sampling._replayed(denoise, (2, 1, 4, 4), seeds, x_init, torch.device("cpu"), {"steps": 3, **options})

    return call


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([0.5]))
        self.offset = 0.25

    def forward(self, x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        return warmdiff.Prediction(self.factor * x / (1 + beta.view(-1, 1, 1, 1)) + self.offset, torch.zeros_like(x))


def test_a_graph_serves_as_long_as_nothing_changes(generate: Callable[..., Tensor]) -> None:
    net = Scaled()
    first = generate(net, 0)
    assert Replayed.made == 1 and not first.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(first, warmdiff.generate(net, (2, 1, 4, 4), steps=3, seed=0), rtol=0, atol=0)
    assert not torch.equal(first, generate(net, 1)) and Replayed.made == 1
    with torch.no_grad():
        net.factor.mul_(2)  # in its place: a graph sees it
    generate(net)
    assert Replayed.made == 1
    changes: list[Callable[[], object]] = [
        lambda: setattr(net, "factor", nn.Parameter(torch.ones(1))),
        lambda: setattr(net, "offset", 0.5),
        net.eval,
    ]
    for made, change in enumerate(changes, start=2):
        change()
        generate(net)
        generate(net, 7)
        assert Replayed.made == made
    for made, options in enumerate(({"steps": 4}, {"sampler": "ddim"}, {"process": BlurNoiseProcess(0.1)}, {"betas": [3.0, 1.0]}), start=5):
        generate(net, **options)
        generate(net, 3, **options)
        assert Replayed.made == made
    generate(net, x_init=torch.ones(2, 1, 4, 4))
    assert torch.equal(generate(net, x_init=torch.zeros(2, 1, 4, 4)), generate(net, x_init=torch.zeros(2, 1, 4, 4)))
    assert Replayed.made == 9


def test_what_the_first_run_makes_is_no_change(generate: Callable[..., Tensor]) -> None:
    class Lazy(Scaled):
        def forward(self, x: Tensor, beta: Tensor) -> warmdiff.Prediction:
            self.copy = getattr(self, "copy", torch.zeros(1))  # as the preconditioning's copies on each device
            return super().forward(x, beta)

    net = Lazy()
    for _ in range(3):
        generate(net)
    assert Replayed.made == 1 and net.copy is not None


def test_closures_methods_and_globals_are_watched(generate: Callable[..., Tensor]) -> None:
    picture, net = torch.zeros(1, 1, 4, 4), Scaled()

    def exact(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        return warmdiff.Prediction(picture.expand_as(x), torch.zeros_like(x))

    assert generate(exact).abs().max() < 1e-2
    pictures = [picture, torch.ones(1, 1, 4, 4)]  # two at a time, so that the new one is elsewhere
    picture = pictures[1]
    assert (generate(exact) - 1).abs().max() < 1e-2 and Replayed.made == 2
    generate(net.forward)
    generate(net.forward)
    assert Replayed.made == 3
    generate(net)  # another callable of the same object
    assert Replayed.made == 4


def test_graphs_die_with_their_denoiser(generate: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replayed, "__init__", lambda self, function, inputs: None)  # like a graph, which keeps no function
    monkeypatch.setattr(Replayed, "__call__", lambda self, *values: (torch.zeros(2, 1, 4, 4),))
    before, net = len(sampling._graphs), Scaled()
    generate(net)
    assert len(sampling._graphs) == before + 1
    del net
    assert len(sampling._graphs) == before


def test_a_nan_is_found_at_the_end(generate: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "capturing", lambda t: True)
    for bad in (torch.nan, torch.inf):
        net = Scaled()
        net.offset = bad
        with pytest.raises(warmdiff.SamplingError, match=r"finite values.*cuda_graph=False"):
            generate(net)
