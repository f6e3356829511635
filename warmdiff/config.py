"""One description of a training run: dataclasses, from which come the file format, the checks and the command line's flags."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmdiff.network import NetworkConfig
from warmdiff.options import Reworded, changed, check, documented, option, validate

TINY = NetworkConfig(channels=24, multipliers=(1, 2), blocks=1, attention=(1,))


@documented
@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes, and where it is written. The defaults are the preset "tiny" on digits.

    ``TrainConfig.preset(name, **changes)`` starts from a preset; `load_config` reads a file. Training time is counted in images, so that
    intervals mean the same at any batch size.

    Raises:
        ValueError: a value is of the wrong type or out of range; the message says which.

    Example:
        >>> config = warmdiff.TrainConfig(data="photos.zip", size=(64,), bnr=0.3)
        >>> config.batch, config.network.multipliers
        (64, (1, 2))
        >>> warmdiff.TrainConfig.preset("cifar10", batch=128).images
        200000000
    """

    out: str = option("runs/digits", "folder of the run: checkpoints, log, previews; a run found there goes on")
    # data
    data: str = option("digits", "digits, cifar10, cifar100, mnist, fashion-mnist, or a folder, zip, npz or IDX file of images")
    root: str = option("data", "folder for data sets that torchvision downloads")
    size: tuple[int, ...] | None = option(None, "side, or height,width, to which image files are cropped and scaled")
    gray: bool = option(False, "read image files with one channel")
    on_bad: str = option("stop", "image files that cannot be read: stop before training, or skip and count them", choices=("stop", "skip"))
    cache_mb: int = option(2048, "decoded image files are kept in memory up to this many MiB", low=0)
    workers: int = option(0, "processes that read images; worth it for sets larger than the cache", low=0)
    conditional: bool = option(True, "learn classes, where the data has them; samples without a class work too")
    label_dropout: float = option(0.3, "share of images whose class is hidden, so that samples without a class are learnt", low=0, high=1)
    augment: float = option(0.0, "probability of each non-leaky augmentation; 0: none at all, not even flips", low=0, high=1)
    # process
    bnr: float = option(0.5, "blur-to-noise ratio alpha / beta, in pixels; 0 is plain noise", low=0)
    bnr_max: float | None = option(None, "draw each image's ratio between bnr and this, and tell it to the network", above=0)
    sigma_min: float = option(0.002, "smallest noise level of sampling", above=0)
    sigma_max: float = option(80.0, "largest noise level of sampling", above=0)
    level_mean: float = option(-1.2, "mean of the logarithm of the noise level in training")
    level_std: float = option(1.2, "its standard deviation", above=0)
    # optimisation
    images: int = option(80_000, "train on so many images, counted with repeats", above=0)
    minutes: float | None = option(None, "stop (and save) after so many minutes, even before", above=0)
    batch: int = option(64, "images of one step, over all processes", above=0)
    micro_batch: int | None = option(None, "images at once in one process, if the batch does not fit; the gradient is the same", above=0)
    learning_rate: float = option(2e-3, "Adam's learning rate", above=0)
    ramp_up: int = option(20_000, "images over which the learning rate rises from zero", low=0)
    betas: tuple[float, ...] = option((0.9, 0.99), "Adam's two decay rates")
    clip: float | None = option(1.0, "largest norm of the gradient", above=0)
    ema: int = option(20_000, "half-life, in images, of the averaged weights that samples are made with", low=0)
    ema_ramp: float | None = option(0.1, "the half-life is at most this share of the images seen so far", above=0)
    max_skipped: int = option(100, "give up after so many steps in a row whose loss or gradient is not finite", above=0)
    seed: int = option(0, "decides initial weights, order of images, noise levels and noise")
    # machine
    device: str = option("auto", "cpu, cuda, cuda:1, ..; auto: a GPU if there is one")
    threads: int | None = option(1, "CPU threads of the network, none: as torch has it; tiny ones gain a quarter from a second", above=0)
    precision: str = option("fp32", "arithmetic of the network", choices=("fp32", "bf16"))
    channels_last: bool = option(True, "memory layout of the network's tensors; faster on most machines")
    compile: bool = option(False, "run the network through torch.compile")
    cuda_graph: bool = option(False, "replay each step's loss and gradient as one CUDA graph; one GPU, no micro_batch")
    # watching
    log_every: int = option(2_000, "images between two lines of log.jsonl and TensorBoard", above=0)
    preview_every: int = option(20_000, "images between two sample grids; 0: none", low=0)
    save_every: int = option(20_000, "images between two checkpoints", above=0)
    keep: int = option(3, "checkpoints kept, newest first", above=0)
    tensorboard: bool = option(True, "write TensorBoard files")
    network: NetworkConfig = TINY

    def __post_init__(self) -> None:
        validate(self)
        check(self.sigma_min < self.sigma_max < math.inf, "sigma_max", self.sigma_max, f"above sigma_min = {self.sigma_min}")
        check(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", self.betas, "two numbers in [0, 1)")
        check(self.bnr_max is None or self.bnr_max > self.bnr > 0, "bnr_max", self.bnr_max, f"above bnr = {self.bnr}, and that above 0")
        check(self.size is None or (len(self.size) in (1, 2) and min(self.size) > 0), "size", self.size, "one side, or height,width")
        check(-(2**63) <= self.seed < 2**63, "seed", self.seed, "within 64 bits")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainConfig:
        """A preset with changes; ``network`` may be a dict of changes to its network.

        Raises:
            ValueError: unknown preset, field or value.
        """
        check(name in PRESETS, "preset", name, f"one of {', '.join(PRESETS)}")
        return changed(PRESETS[name], changes)


# EDM, table 7 and appendix F: CIFAR-10 and FFHQ at 64x64 (DDPM++). At 128x128 the same network, one resolution more.
EDM = TrainConfig(
    data="cifar10", out="runs/cifar10", images=200_000_000, batch=512, learning_rate=1e-3, ramp_up=10_000_000, betas=(0.9, 0.999),
    clip=None, threads=None, label_dropout=0.1, ema=500_000, ema_ramp=0.05, augment=0.12, conditional=False, precision="bf16",
    log_every=51_200, preview_every=2_000_000, save_every=2_000_000, network=NetworkConfig(dropout=0.13),
)  # fmt: skip
FFHQ = dataclasses.replace(
    EDM, data="ffhq-64x64.zip", out="runs/ffhq64", batch=256, learning_rate=2e-4, augment=0.15,
    network=NetworkConfig(multipliers=(1, 2, 2, 2), attention=(2,), dropout=0.05),
)  # fmt: skip
PRESETS: dict[str, TrainConfig] = {
    "tiny": TrainConfig(),
    "small": TrainConfig(
        data="fashion-mnist", out="runs/fashion-mnist", threads=None, label_dropout=0.1, images=10_000_000, batch=256, learning_rate=5e-4,
        ramp_up=200_000, ema=200_000, log_every=12_800, preview_every=500_000, save_every=500_000,
        network=NetworkConfig(channels=64, multipliers=(1, 2, 2), blocks=2),
    ),
    "cifar10": EDM,
    "ffhq64": FFHQ,
    "lsun128": dataclasses.replace(
        FFHQ, data="lsun-church-128x128.zip", out="runs/lsun128",
        network=NetworkConfig(multipliers=(1, 2, 2, 2, 2), attention=(3,), dropout=0.05),
    ),
}  # fmt: skip


def load_config(path: str | Path) -> TrainConfig:
    """Read the config of a run.

    Args:
        path: a ``.toml`` or ``.json`` file: field names and values, a table ``network``, and optionally ``preset`` to start from.

    Returns:
        The config, checked.

    Raises:
        ValueError: the file cannot be read, or holds an unknown name or a wrong value (the message says which).

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "run.toml")
        >>> _ = path.write_text('preset = "cifar10"\\nbatch = 128\\nnetwork = { channels = 64 }')
        >>> config = warmdiff.load_config(path)
        >>> config.data, config.batch, config.network.channels
        ('cifar10', 128, 64)
    """
    path = Path(path)
    with Reworded(f"cannot read the config file {path}", OSError, ValueError, RecursionError):
        values = (tomllib if path.suffix == ".toml" else json).loads(path.read_text())
    with Reworded(str(path), ValueError):
        return config_from(values)


def config_from(values: Any) -> TrainConfig:
    """The inverse of ``dataclasses.asdict``, and of what a person writes."""
    check(isinstance(values, dict), "a config", values, "a table of settings")
    values = dict(values)
    return TrainConfig.preset(str(values.pop("preset", "tiny")), **values)
