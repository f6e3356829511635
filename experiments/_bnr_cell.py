"""One cell of the sweep: a network trained at one blur-to-noise ratio with one seed, its samples, and everything measured on them."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _bnr_measures import Judge, compare_states
from torch import Tensor

import warmdiff
from warmdiff.config import TrainConfig
from warmdiff.data import open_images
from warmdiff.denoiser import Denoiser, load, pick_device, sample_images
from warmdiff.files import grid, replacing, to_uint8, write_png, write_text
from warmdiff.metrics import Extractor, extractor, features_of, scores
from warmdiff.preconditioning import RawPrediction
from warmdiff.spectrum import DataSpectrum

STRIP = 20  # samples of each cell that are kept as a picture
FLOORS = 4  # sets of other forward states, and of other real images, that the floors are means over


@dataclass(frozen=True)
class Sweep:
    """All that decides what is computed. Two runs of the same sweep give the same numbers on the same kind of machine.

    data, root, size: images, as `warmdiff.data.open_images` takes them; pad: smaller ones get black margins up to this side.
    held_out: share of the images that no network sees in training; samples are compared with them.
    samples: samples of each measurement, at most the number of held-out images.
    steps: numbers of Heun steps to sample with; ``main_steps`` is one of them, and is looked at in every way.
    levels: where forward and reverse states are compared; the schedule's nearest level is taken.
    hidden, judge_images, judge_iterations: the classifier's units, at most so many training images and passes over them.
    train: settings of `TrainConfig`, beginning with a "preset"; what the cell decides (bnr, seed, data, out) is not among them.
    """

    data: str = "digits"
    root: str = "data"
    size: tuple[int, ...] | None = None
    pad: int = 0
    held_out: float = 1 / 3
    samples: int = 596
    bnrs: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.65, 1.0, 2.0, 10.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: tuple[int, ...] = (3, 5, 9, 18, 36)
    main_steps: int = 18
    levels: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.02)
    hidden: int = 64
    judge_images: int = 10_000
    judge_iterations: int = 400
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bnrs", "seeds", "steps", "levels"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold at least one number")
        if self.main_steps not in self.steps or min(self.steps) < 2:
            raise ValueError(f"steps must be >= 2 and hold main_steps = {self.main_steps}, got {self.steps}")
        if not 0 < self.held_out <= 0.5:
            raise ValueError(f"held_out must be in (0, 0.5], so that floors can be made of training images, got {self.held_out}")

    def cells(self) -> list[tuple[float, int]]:
        """(bnr, seed) of each cell, all ratios of the first seed first."""
        return [(bnr, seed) for seed in self.seeds for bnr in self.bnrs]


def name_of(bnr: float, seed: int) -> str:
    return f"bnr{bnr:g}-seed{seed}"


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


# ---- data ----


@dataclass
class Data:
    """The images of a sweep, cut in two once and for all, each class alike: uint8 ``[N, C, H, W]``, classes ``[N]`` or None."""

    sweep: Sweep
    train: Tensor
    train_labels: Tensor | None
    real: Tensor
    real_labels: Tensor | None

    @classmethod
    def of(cls, sweep: Sweep) -> Data:
        source = open_images(sweep.data, size=sweep.size, root=sweep.root)
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
        labels = None if source.labels is None else source.labels[order]
        mine = torch.zeros(len(source), dtype=torch.bool)
        for label in range(max(source.classes, 1)):
            same = torch.arange(len(source)) if labels is None else (labels == label).nonzero().flatten()
            mine[same[: int(sweep.held_out * len(same))]] = True
        if not 2 <= sweep.samples <= int(mine.sum()):
            raise ValueError(f"samples must be 2 to {int(mine.sum())}, the number of held-out images, got {sweep.samples}")
        images = source.read(order)
        height, width = (max(0, sweep.pad - side) for side in source.shape[1:])
        images = F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2))
        return cls(sweep, images[~mine], None if labels is None else labels[~mine], images[mine], None if labels is None else labels[mine])

    @cached_property
    def judge(self) -> Judge | None:
        """A classifier of the training images, where they have classes."""
        if self.train_labels is None:
            return None
        n = self.sweep.judge_images
        return Judge.of(self.train[:n], self.train_labels[:n], self.sweep.hidden, self.sweep.judge_iterations)

    @cached_property
    def spectrum(self) -> DataSpectrum:
        return DataSpectrum.measure(self.train.split(1024))

    @cached_property
    def features(self) -> list[tuple[Extractor, Tensor]]:
        """Extractors, with the features of the held-out images that samples are compared with."""
        found = [extractor("pixels"), *([self.judge.extractor()] if self.judge else [])]
        return [(e, features_of(self.real[: self.sweep.samples].split(1024), e)) for e in found]

    def others(self, number: int, same_classes: bool = True) -> Tensor:
        """A random ``samples`` of the training images, the number-th set, with as many of each class as there are among `asked`, or not."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(1 + number))
        if same_classes and self.train_labels is not None and self.asked is not None:
            labels, counts = self.train_labels[order], torch.bincount(self.asked)
            order = torch.cat([order[labels == label][:count] for label, count in enumerate(counts.tolist())])
        return self.train[order[: self.sweep.samples]]

    @property
    def asked(self) -> Tensor | None:
        """The classes that samples are made for: those of the held-out images that they are compared with, one for one."""
        return None if self.real_labels is None else self.real_labels[: self.sweep.samples]

    def scores(self, images: Tensor) -> dict[str, float]:
        """Frechet distance and KID to held-out images in each feature space; precision and recall in pixels."""
        result: dict[str, float] = {}
        for features, real in self.features:
            result = scores(real, features_of(images.split(1024), features), features.distance) | result
        return result

    def floor(self) -> list[dict[str, float]]:
        """What sets of training images score in place of samples, and what the classifier says of held-out ones."""
        result = []
        for number in range(FLOORS):
            others = self.others(number)
            found = self.scores(others)
            if self.judge is not None and self.real_labels is not None:
                found |= self.judge.asked(self.real, self.real_labels) | self.judge.coverage(self.others(number, False), self.real)
            result.append(found)
        return result

    def save(self, path: Path) -> None:
        """The training part as the npz file that cells train on."""
        labels: dict[str, Any] = {} if self.train_labels is None else {"labels": self.train_labels.numpy()}
        planes = self.train.permute(0, 2, 3, 1).numpy()

        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, images=planes, **labels)


# ---- a cell ----


def config_of(sweep: Sweep, folder: Path, bnr: float, seed: int) -> TrainConfig:
    """What a cell trains: the same for all cells but for ratio and seed."""
    settings = {"preset": "tiny", **sweep.train}
    run = folder / "runs" / name_of(bnr, seed) / "train"
    mine = {
        "data": str(folder / "train.npz"),
        "out": str(run),
        "bnr": bnr,
        "seed": seed,
        "tensorboard": False,
        "preview_every": 0,
        "keep": 1,
    }
    return TrainConfig.preset(settings.pop("preset"), **settings, **mine)


def run_cell(data: Data, folder: Path, bnr: float, seed: int, show: Callable[[str, float], None], keep_run: bool = False) -> None:
    """Trains (or goes on training), samples, measures, and writes ``cells/<name>.png`` and, last, ``cells/<name>.json``.

    show: told what is being done, and which share of it is done.
    """
    sweep, name, began = data.sweep, name_of(bnr, seed), time.monotonic()
    config = config_of(sweep, folder, bnr, seed)
    state = None
    for state in warmdiff.train(config):
        show("training", state.images / config.images)
    trained = time.monotonic() - began
    denoiser = load(config.out, pick_device(config.device))
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    try:
        result = {
            "bnr": bnr,
            "seed": seed,
            "images seen": -(-config.images // config.batch) * config.batch,
            **measure(data, denoiser, seed, show),
        }
    finally:
        torch.set_num_threads(threads)
    if state is not None:  # None: it was already trained when a killed run's cell was taken up again
        result |= {"training seconds": round(trained, 1), "seconds": round(time.monotonic() - began, 1)}
    strip = result.pop("strip")
    write_png(folder / "cells" / f"{name}.png", grid(strip, columns=STRIP))
    write_json(folder / "cells" / f"{name}.json", result)
    if not keep_run:
        shutil.rmtree(Path(config.out).parent)


def measure(data: Data, denoiser: Denoiser, seed: int, show: Callable[[str, float], None]) -> dict[str, Any]:
    """Everything about a trained network. Sample i of seed s starts from noise number ``10^6 s + i`` at every blur-to-noise ratio."""
    sweep, labels, first = data.sweep, data.asked, 1_000_000 * seed
    work, done = sum(sweep.steps) + sweep.main_steps, 0
    result: dict[str, Any] = {"quality": {}}
    for steps in sweep.steps:
        if steps == sweep.main_steps:
            x, states = path_of(data, denoiser, first, labels)
            result |= {"states": compare(data, denoiser, first, states), "strip": to_uint8(x[:STRIP])}
        else:
            x = sample_images(denoiser, sweep.samples, seed=first, labels=labels, steps=steps)
        images = to_uint8(x)
        found: dict[str, float] = {"evaluations": 2 * steps - 1, **data.scores(images)}
        if data.judge is not None and labels is not None:
            found |= data.judge.asked(images, labels)
        result["quality"][str(steps)] = found
        done += steps
        show("sampling", done / work)
    if data.judge is not None:
        images = to_uint8(sample_images(denoiser, sweep.samples, seed=first, steps=sweep.main_steps))
        result["without class"] = data.scores(images) | data.judge.coverage(images, data.real)
    show("done", 1.0)
    return result


def levels_of(sweep: Sweep, process: warmdiff.BlurNoiseProcess) -> dict[int, float]:
    """Steps of the main schedule, and their levels, that are nearest to the levels of the sweep."""
    betas = process.betas(sweep.main_steps)[1:-1]
    steps = {int((betas.log() - math.log(level)).abs().argmin()) for level in sweep.levels}
    return {step + 1: float(betas[step]) for step in sorted(steps)}


@torch.no_grad()
def path_of(data: Data, denoiser: Denoiser, first: int, labels: Tensor | None) -> tuple[Tensor, dict[int, Tensor]]:
    """Samples ``[N, C, H, W]`` in ``main_steps`` steps, and the states that they passed through at the steps of `levels_of`."""
    sweep, device = data.sweep, next(denoiser.net.parameters()).device
    ends: list[Tensor] = []
    states: dict[int, list[Tensor]] = {step: [] for step in levels_of(sweep, denoiser.process)}
    size = max(1, 2**18 // math.prod(denoiser.shape[1:]))
    for start in range(0, sweep.samples, size):
        count = min(size, sweep.samples - start)
        some = None if labels is None else labels[start : start + count]

        def raw(x: Tensor, beta: Tensor, some: Tensor | None = some) -> RawPrediction:
            return denoiser.raw(x, beta, some)

        shape = (count, *denoiser.shape)
        for state in warmdiff.sample(raw, shape, process=denoiser.process, steps=sweep.main_steps, seed=first + start, device=device):
            if state.step in states:
                states[state.step].append(state.x.cpu())
        ends.append(state.x.float().cpu())
    return torch.cat(ends), {step: torch.cat(parts) for step, parts in states.items()}


def compare(data: Data, denoiser: Denoiser, first: int, states: dict[int, Tensor]) -> list[dict[str, Any]]:
    """Reverse states against forward ones of held-out images; the floor is made of forward states of training images."""
    sweep, process, result = data.sweep, denoiser.process, []
    sets = [data.real[: sweep.samples], *(data.others(number) for number in range(FLOORS))]
    for step, level in levels_of(sweep, process).items():
        forward, *others = (process.degrade(x, level, seed=2**40 + first + number * 2**20)[0] for number, x in enumerate(sets))
        result.append(compare_states(states[step], forward, others, process, level, data.spectrum))
    return result


def settings_of(sweep: Sweep) -> dict[str, Any]:
    """A sweep as JSON has it."""
    return dict(json.loads(json.dumps(dataclasses.asdict(sweep))))
