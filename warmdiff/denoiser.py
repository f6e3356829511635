"""A network with its preconditioning: what samplers call."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from warmdiff import checkpoint
from warmdiff.config import TrainConfig, config_from
from warmdiff.graphs import capturing
from warmdiff.network import NetworkConfig, WarmNet
from warmdiff.options import Reworded, check, require
from warmdiff.preconditioning import Preconditioning, Prediction, RawPrediction
from warmdiff.process import BlurNoiseProcess
from warmdiff.sampling import generate
from warmdiff.spectrum import DataSpectrum


class Denoiser(nn.Module):
    """``denoiser(x_t, beta)`` gives the `Prediction` of the blurred image and of the missing detail.

    Attributes:
        net: the raw `WarmNet`.
        config: the `TrainConfig` of its run.
        process, spectrum: the forward process (of the ratio ``bnr``, if given) and the data's spectrum that it was trained with.
        shape: ``(C, H, W)`` of its images. classes: number of classes, 0 for none.

    Example:
        >>> net = warmdiff.WarmNet(warmdiff.NetworkConfig(image_channels=1, channels=8, multipliers=(1,), blocks=1, attention=()))
        >>> spectrum = warmdiff.DataSpectrum.constant((1, 8, 8))
        >>> denoiser = warmdiff.Denoiser(net, warmdiff.TrainConfig(), spectrum)  # untrained; `load` gives trained ones
        >>> denoiser(torch.randn(2, 1, 8, 8), 0.5).denoised.shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, net: WarmNet, config: TrainConfig, spectrum: DataSpectrum, bnr: float | None = None) -> None:
        super().__init__()
        self.net, self.config, self.spectrum = net, config, spectrum
        self.process = process_of(config, bnr)
        self.preconditioning = Preconditioning(self.process, spectrum)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of its images."""
        return tuple(self.spectrum.variance.shape)

    @property
    def classes(self) -> int:
        """Number of classes, 0 for none."""
        return self.net.config.classes

    def raw(self, x: Tensor, beta: float | Tensor, labels: Sequence[int] | Tensor | None = None) -> RawPrediction:
        """The heads before they are scaled: the same prediction for samplers that scale in their own pass. Arguments as `forward`."""
        check(x.ndim == 4 and x.shape[1] == self.shape[0], "x", list(x.shape), f"[N, {self.shape[0]}, H, W]")
        good = beta.shape in ((), x.shape[:1]) if isinstance(beta, Tensor) else 0 < beta < math.inf
        check(good, "beta", beta, f"a finite number > 0 or a tensor [{len(x)}]")
        level = torch.as_tensor(beta, device=x.device, dtype=torch.float64).expand(x.shape[0])
        scalings = self.preconditioning(level)
        classes = None if labels is None else one_hot(torch.as_tensor(labels, device=x.device), self.classes)
        x_in = scalings.c_in.to(x.dtype).view(-1, 1, 1, 1) * x
        return RawPrediction(x, run_network(self.net, self.config, x_in, scalings.c_noise, self.process.alpha(level), classes), scalings)

    def forward(self, x: Tensor, beta: float | Tensor, labels: Sequence[int] | Tensor | None = None) -> Prediction:
        """Predicts the clean image, in x's dtype (the network computes in float32, or in the run's precision).

        Args:
            x: ``[N, C, H, W]``, images at level beta.
            beta: noise level, > 0, a float or ``[N]``.
            labels: N integers, the classes, -1 for none; None: no class for any of them.

        Raises:
            ValueError: x has another number of channels, beta another shape, or a label is not a class of the network.
        """
        return self.raw(x, beta, labels).prediction

    def at_bnr(self, bnr: float) -> Denoiser:
        """The same network for another blur-to-noise ratio, if it was trained for a range of them.

        Raises:
            ValueError: it was not, or bnr is outside of that range.
        """
        low, high = self.config.bnr, self.config.bnr_max
        wanted = f"{low if high is None else f'in [{low}, {high}]'}, what the network was trained for"
        check(high is not None and low <= bnr <= high, "bnr", bnr, wanted)
        return Denoiser(self.net, self.config, self.spectrum, bnr).train(self.training)


def pick_device(name: str) -> torch.device:
    """A device by name; "auto" and "cuda" are this process's GPU, "auto" the CPU where there is none. ValueError if it is not there."""
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        return torch.empty(0, device="cpu" if name == "auto" else name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not usable here: {str(error).splitlines()[0]}") from None


def process_of(config: TrainConfig, bnr: float | None = None) -> BlurNoiseProcess:
    return BlurNoiseProcess(config.bnr if bnr is None else bnr, sigma_min=config.sigma_min, sigma_max=config.sigma_max)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Rows ``[N, classes]``, float32; zeros for the label -1."""
    require(classes > 0, "labels must be None: the network was trained without classes")
    known = len(labels) and not capturing(labels)
    if labels.ndim != 1 or labels.is_floating_point() or (known and (labels.min() < -1 or labels.max() >= classes)):
        raise ValueError(f"labels must be integers [N] in 0..{classes - 1}, or -1 for no class, got {labels.dtype} {labels.tolist()[:16]}")
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def run_network(
    net: nn.Module, config: TrainConfig, x: Tensor, noise: Tensor, alpha: Tensor, labels: Tensor | None, augment: Tensor | None = None
) -> Tensor:
    """One call of the network, in the run's precision; blur levels alpha in pixels are told to it if they vary.

    Their coordinate is ``asinh(100 alpha) / 4``: logarithmic from a hundredth of a pixel on, 0 without blur.
    """
    blur = None if config.bnr_max is None else (torch.asinh(100 * alpha) / 4).float()
    with torch.autocast(x.device.type, torch.bfloat16) if config.precision == "bf16" else contextlib.nullcontext():
        return net(x.float(), noise.float(), blur, labels, augment)


def network_of(config: TrainConfig, channels: int, classes: int) -> NetworkConfig:
    """The network's config with what data and process decide filled in."""
    classes, told = classes if config.conditional else 0, config.bnr_max is not None
    return replace(config.network, image_channels=channels, classes=classes, augment=config.augment > 0, blur_input=told)


def new_network(config: TrainConfig, channels: int, classes: int) -> WarmNet:
    net = WarmNet(network_of(config, channels, classes))
    return net.to(memory_format=torch.channels_last) if config.channels_last else net  # type: ignore[call-overload]


def load(path: str | Path, device: str | torch.device = "cpu", weights: str = "ema") -> Denoiser:
    """A trained denoiser, ready for `warmdiff.sample`.

    Args:
        path: the folder of a run (its newest good checkpoint is taken) or one checkpoint file.
        device: where its weights go.
        weights: "ema", the averaged weights, or "net", the last ones.

    Returns:
        The denoiser, in evaluation mode, its weights without gradients.

    Raises:
        FileNotFoundError: nothing is there. ValueError: it is damaged, or not a checkpoint of this package (pickled files are refused).

    Example:
        >>> import tempfile
        >>> config = warmdiff.TrainConfig(out=tempfile.mkdtemp(), images=64, preview_every=0, tensorboard=False)
        >>> for state in warmdiff.train(config):  # one step
        ...     pass
        >>> denoiser = warmdiff.load(config.out)
        >>> warmdiff.generate(denoiser, (2, *denoiser.shape), process=denoiser.process, steps=2).shape
        torch.Size([2, 1, 8, 8])
    """
    check(weights in ("ema", "net"), "weights", weights, "'ema' or 'net'")
    path = Path(path)
    found = checkpoint.newest(path / "checkpoints") if path.is_dir() else (path, *checkpoint.load(path))
    if found is None:
        raise FileNotFoundError(f"no usable checkpoint in {path / 'checkpoints'}")
    return restore(*found, weights).to(device).eval().requires_grad_(False)


def restore(path: Path, tensors: dict[str, Tensor], state: dict[str, Any], weights: str) -> Denoiser:
    """A denoiser of a checkpoint's contents, which nobody vouches for: names and shapes are compared before memory is taken."""
    config, spectrum = described(path, tensors, state)
    faults = (KeyError, ValueError, TypeError, RuntimeError, OverflowError)
    with Reworded(f"{path}: its description of the network is not usable", *faults), torch.device("meta"):
        wanted = new_network(config, len(spectrum.variance), state["classes"]).state_dict()
    given = {name.removeprefix(weights + "."): tensor for name, tensor in tensors.items() if name.startswith(weights + ".")}
    odd = sorted(wanted.keys() ^ given.keys()) or [name for name in wanted if wanted[name].shape != given[name].shape]
    require(not odd, f"{path}: its weights do not fit its config: missing, unknown or of another shape: {', '.join(odd[:3])}")
    net = new_network(config, len(spectrum.variance), state["classes"])
    net.load_state_dict(given)
    return Denoiser(net, config, spectrum)


def described(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> tuple[TrainConfig, DataSpectrum]:
    """The run's config and its data's spectrum in a checkpoint; ValueError if they are not there."""
    with Reworded(f"{path}: its description of the run is not usable", KeyError, TypeError, ValueError, OverflowError):
        spectrum = DataSpectrum(tensors["spectrum.variance"], tensors["spectrum.mean"], int(state["spectrum_count"]))
        return config_from(state["config"]), spectrum


def sample_images(
    denoiser: Denoiser,
    n: int,
    *,
    seed: int = 0,
    labels: Sequence[int] | Tensor | None = None,
    batch: int | None = None,
    done: Callable[[int], None] = lambda count: None,
    **options: Any,
) -> Tensor:
    """``n`` images ``[N, C, H, W]`` in about [-1, 1], on the CPU; image i has seed ``seed + i``.

    Args:
        labels: n integers, the classes (-1: none), or None.
        batch: images at once, which changes them by rounding at most; default: as many as have 2^18 pixels;
            half as many, again and again, where memory does not suffice; then a warning says how many do.
        done: called after each batch with the number of its images.
        options: sampler, steps, churn, .. of `warmdiff.sample`.

    Raises:
        ValueError: labels, batch or options are wrong. torch.OutOfMemoryError: there is not enough memory for one image.
    """
    device = next(denoiser.net.parameters()).device
    given = n if labels is None else len(labels)
    check(given == n, "labels", given, f"one for each of {n} images")
    check(batch is None or batch >= 1, "batch", batch, ">= 1")
    size, start, short, parts = batch or max(1, 2**18 // math.prod(denoiser.shape[1:])), 0, 0, [torch.empty(0, *denoiser.shape)]
    while start < n:
        count = min(size, n - start)
        some = None if labels is None else labels[start : start + count]

        raw = functools.partial(denoiser.raw, labels=some)
        try:
            part = generate(raw, (count, *denoiser.shape), process=denoiser.process, seed=seed + start, device=device, **options)
        except (RuntimeError, MemoryError) as error:
            # On the CPU torch has no class of its own for it.
            if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
                raise
            if count == 1:
                raise torch.OutOfMemoryError(f"memory does not suffice for one image of {list(denoiser.shape)}: {error}") from error
            size, short = count // 2, count
            continue
        parts.append(part.float().cpu())
        start += count
        done(count)
    if short:
        warnings.warn(f"memory suffices for {size} images at once, not for {short}: --batch {size} spares the attempts", stacklevel=2)
    return torch.cat(parts)
