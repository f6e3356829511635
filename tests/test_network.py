"""`WarmNet`: sizes, conditioning, shapes, and what it must not depend on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import warmdiff
from warmdiff.config import PRESETS, TrainConfig
from warmdiff.network import NetworkConfig, Resample, WarmNet

SMALL = NetworkConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(1,), classes=3, augment=True, blur_input=True)


def lively(config: NetworkConfig, rng: torch.Generator) -> WarmNet:
    """A network whose residual branches and output are not the zeros that they start as."""
    net = WarmNet(config)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
    return net.eval()


def inputs(rng: torch.Generator, shape: tuple[int, ...] = (2, 3, 8, 8)) -> dict[str, torch.Tensor]:
    n = shape[0]
    return {
        "x": torch.randn(shape, generator=rng),
        "noise": torch.randn(n, generator=rng),
        "blur": torch.rand(n, generator=rng),
        "labels": torch.eye(3)[torch.randint(3, (n,), generator=rng)],
        "augment": torch.randn(n, 9, generator=rng),
    }


@pytest.mark.parametrize("family", ["ddpmpp", "ncsnpp"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 1), (16, 4), (5, 8)], ids=str)
def test_shapes(family: str, channels: int, size: tuple[int, int], rng: torch.Generator) -> None:
    net = lively(NetworkConfig(family, channels, channels=8, multipliers=(1, 1, 2), blocks=1), rng)
    out = net(torch.randn(2, channels, *size, generator=rng), torch.zeros(2))
    assert out.shape == (2, 2 * channels, *size) and out.isfinite().all()


def count(config: TrainConfig, channels: int = 3) -> int:
    with torch.device("meta"):
        net = WarmNet(dataclasses.replace(config.network, image_channels=channels, augment=config.augment > 0))
    return sum(parameter.numel() for parameter in net.parameters())


def test_sizes_of_the_papers() -> None:
    """EDM (appendix F) gives 56 and 62 million parameters; a second head adds 3 x (9 x 128 + 1)."""
    assert count(PRESETS["cifar10"]) == pytest.approx(55.74e6, rel=2e-3)
    assert count(PRESETS["ffhq64"]) == pytest.approx(61.81e6, rel=2e-3)
    assert count(PRESETS["lsun128"]) > count(PRESETS["ffhq64"])
    assert count(PRESETS["tiny"], 1) < 1e6 < count(PRESETS["small"], 1) < 2e7


@pytest.mark.parametrize("family", ["ddpmpp", "ncsnpp"])
def test_starts_at_zero_and_every_parameter_learns(family: str, rng: torch.Generator) -> None:
    config = dataclasses.replace(SMALL, family=family)
    assert not WarmNet(config)(**inputs(rng)).any()
    net = lively(config, rng)
    net(**inputs(rng)).square().sum().backward()
    still = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", ["noise", "blur", "labels", "augment", "x"])
def test_every_input_matters(name: str, rng: torch.Generator) -> None:
    net, given = lively(SMALL, rng), inputs(rng)
    other = {**given, name: given[name].flip(0) + 0.1}
    assert (net(**given) - net(**other)).abs().max() > 1e-4


def test_no_label_is_a_row_of_zeros(rng: torch.Generator) -> None:
    net, given = lively(SMALL, rng), inputs(rng)
    zeros = net(**{**given, "labels": torch.zeros(2, 3), "augment": torch.zeros(2, 9)})
    torch.testing.assert_close(net(**{**given, "labels": None, "augment": None}), zeros)


@pytest.mark.parametrize("family", ["ddpmpp", "ncsnpp"])
def test_an_image_does_not_see_its_batch(family: str, rng: torch.Generator) -> None:
    net, given = lively(dataclasses.replace(SMALL, family=family), rng), inputs(rng, (5, 3, 8, 6))
    alone = net(**{name: value[3:4] for name, value in given.items()})
    torch.testing.assert_close(net(**given)[3:4], alone, rtol=1e-4, atol=1e-5)


def test_memory_layout_and_precision(rng: torch.Generator) -> None:
    net, given = lively(SMALL, rng), inputs(rng)
    want = net(**given)
    last = {**given, "x": given["x"].contiguous(memory_format=torch.channels_last)}
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(**last), want, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(**given)
    assert (half.float() - want).norm() < 0.05 * want.norm()


def test_compiles_as_one_graph(rng: torch.Generator) -> None:
    net, given = lively(SMALL, rng), inputs(rng, (2, 3, 7, 8))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**given), net(**given))


def test_dropout_acts_in_training_only(rng: torch.Generator) -> None:
    net, given = lively(dataclasses.replace(SMALL, dropout=0.5), rng), inputs(rng)
    assert torch.equal(net(**given), net(**given))
    net.train()
    assert not torch.equal(net(**given), net(**given))


def test_smooth_resampling_keeps_flat_images() -> None:
    flat = torch.full((1, 2, 12, 12), 0.7)
    down, up = Resample(-1, True)(flat), Resample(1, True)(flat)
    assert down.shape[-1] == 6 and up.shape[-1] == 24
    torch.testing.assert_close(down[..., 1:-1, 1:-1], flat[..., :4, :4])
    torch.testing.assert_close(up[..., 1:-1, 1:-1], torch.full((1, 2, 22, 22), 0.7))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(2, 4, 8, 8)}, r"x must be \[N, 3, H, W\]"),
        ({"x": torch.zeros(3, 8, 8)}, r"x must be \[N, 3, H, W\]"),
        ({"blur": None}, "blur must be a tensor"),
    ],
)
def test_bad_calls(change: dict[str, object], words: str, rng: torch.Generator) -> None:
    with pytest.raises(ValueError, match=words):
        WarmNet(SMALL)(**{**inputs(rng), **change})


def test_inputs_that_it_was_not_made_for(rng: torch.Generator) -> None:
    net, given = WarmNet(NetworkConfig(channels=8, multipliers=(1,), blocks=1, attention=())), inputs(rng)
    for name in ("blur", "labels", "augment"):
        with pytest.raises(ValueError, match=name):
            net(given["x"], given["noise"], **{name: given[name]})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("family", "unet"), ("channels", 0), ("channels", 7), ("multipliers", ()), ("blocks", 0)],
        *[("attention", (3,)), ("dropout", 1.0), ("classes", -1)],
    ],
)
def test_bad_configs(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"network.*{field}"):
        dataclasses.replace(SMALL, **{field: value})


def test_exported() -> None:
    assert warmdiff.WarmNet is WarmNet and warmdiff.NetworkConfig is NetworkConfig
