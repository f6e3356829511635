"""Training: one process or many, stopped and resumed without a trace in the result."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from warmdiff import checkpoint
from warmdiff.config import TrainConfig
from warmdiff.data import ImageSet, batches, images_of
from warmdiff.denoiser import Denoiser, described, new_network, pick_device
from warmdiff.graphs import Graph
from warmdiff.loss import StepInputs, TwoHeadLoss
from warmdiff.options import Reworded, check
from warmdiff.runlog import RunLog, TrainState, lock
from warmdiff.spectrum import DataSpectrum

# Settings that do not change what is computed, so a resumed run may have others.
MAY_CHANGE = frozenset({
    "out", "data", "root", "on_bad", "cache_mb", "workers", "images", "minutes", "micro_batch", "max_skipped", "device", "threads",
    "channels_last", "compile", "cuda_graph", "log_every", "preview_every", "save_every", "keep", "tensorboard",
})  # fmt: skip
SPECTRUM_IMAGES = 50_000  # at most so many are measured


class World:
    """The processes that train together: those that torchrun started, or this one alone."""

    def __init__(self, device: str) -> None:
        self.owner = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
        if self.owner:
            dist.init_process_group("nccl" if device != "cpu" and torch.cuda.is_available() else "gloo")
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.device = pick_device(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def total(self, values: list[float]) -> list[float]:
        """Sums over all processes, float64."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        if self.owner:
            dist.destroy_process_group()


class Trainer:
    """Network, average, optimizer and counters: all that a checkpoint holds, and one step of it."""

    def __init__(self, config: TrainConfig, shape: tuple[int, ...], classes: int, spectrum: DataSpectrum, world: World) -> None:
        self.config, self.world = config, world
        if config.cuda_graph and (world.device.type != "cuda" or world.size > 1 or config.micro_batch not in (None, config.batch)):
            where = f"{world.size} processes on {world.device}, micro_batch {config.micro_batch}"
            raise ValueError(f"cuda_graph must be False here: it needs one process, a GPU and no micro_batch, got {where}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = new_network(config, shape[0], classes).to(world.device).train()
        self.denoiser = Denoiser(copy.deepcopy(self.net).eval().requires_grad_(False), config, spectrum)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, betas=(config.betas[0], config.betas[1]))
        self.loss = TwoHeadLoss(config, spectrum, classes)
        self.module: Any = torch.compile(self.net) if config.compile else self.net
        if world.size > 1:
            devices = [world.device] if world.device.type == "cuda" else None
            self.module = nn.parallel.DistributedDataParallel(self.module, device_ids=devices, broadcast_buffers=False)
        self.graph: Graph | None = None
        self.step = self.skipped = self.in_a_row = 0
        self.window: list[list[float]] = []  # losses and norm of each step since the last line of the log

    @property
    def images(self) -> int:
        return self.step * self.config.batch

    @property
    def rate(self) -> float:
        """The learning rate of the next step: a linear ramp."""
        return self.config.learning_rate * min((self.images + self.config.batch) / max(self.config.ramp_up, 1), 1.0)

    def train_step(self, images: Tensor, labels: Tensor | None, positions: Tensor, stop: bool = False) -> tuple[list[float], float, bool]:
        """One step on this process's part of the batch: both heads' mean losses over all of it, the gradient's norm, who wants to stop."""
        config, world = self.config, self.world
        if config.network.dropout > 0:  # the only numbers drawn from torch's generators
            torch.manual_seed(((config.seed * 1_000_003 + self.step) * world.size + world.rank) % 2**63)
        self.optimizer.param_groups[0]["lr"] = self.rate
        if self.graph is None:
            self.optimizer.zero_grad(set_to_none=True)
        size = config.micro_batch or len(images)
        sums = torch.zeros(2, dtype=torch.float64, device=world.device)
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            given = images[part], None if labels is None else labels[part], positions[part]
            more = world.size > 1 and start + size < len(images)
            with self.module.no_sync() if more else contextlib.nullcontext():
                pair = self.replay(*given) if config.cuda_graph else self.backward(self.loss(self.module, *given))
            sums += torch.stack([loss.detach().double().sum() for loss in pair])
        norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), math.inf if config.clip is None else config.clip))
        *totals, stopping = world.total([*sums.tolist(), float(stop)])
        losses = [value / config.batch for value in totals]
        if all(map(math.isfinite, (*losses, norm))):
            self.optimizer.step()
            self.in_a_row = 0
            self.average()
        else:
            self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
            if self.in_a_row >= config.max_skipped:
                at = f"{self.in_a_row} steps in a row, up to step {self.step + 1}"
                raise FloatingPointError(f"loss or gradient was not finite in {at}: giving up")
        self.step += 1
        self.window.append([sum(losses), *losses, norm])
        return losses, norm, stopping > 0

    def backward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Adds the gradient of both heads' losses to that of the parameters."""
        # DDP takes the mean over processes, so that this makes the mean over the global batch.
        (torch.cat(pair).sum() * (self.world.size / self.config.batch)).backward()
        return pair

    def replay(self, images: Tensor, labels: Tensor | None, positions: Tensor) -> tuple[Tensor, ...]:
        """Loss and `backward` as a graph, which writes the gradient anew each time, into memory of its own."""
        given = {name: t for name, t in self.loss.inputs(images, labels, positions)._asdict().items() if t is not None}

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            self.optimizer.zero_grad(set_to_none=True)
            inputs = StepInputs(**dict(zip(given, tensors, strict=True)))
            return tuple(loss.detach() for loss in self.backward(self.loss.losses(self.module, inputs)))

        if self.graph is None:
            with torch.random.fork_rng([self.world.device]):
                self.graph = Graph(step, list(given.values()), warmups=3)
        return self.graph(*given.values())

    @torch.no_grad()
    def average(self) -> None:
        """Moves the averaged weights towards the new ones, with a half-life that grows with the run [EDM, appendix F.2]."""
        config = self.config
        ramp = math.inf if config.ema_ramp is None else (self.images + config.batch) * config.ema_ramp
        half_life = min(float(config.ema), ramp)
        share = 1.0 - 0.5 ** (config.batch / half_life) if half_life > 0 else 1.0
        torch._foreach_lerp_(list(self.denoiser.net.parameters()), [p.detach() for p in self.net.parameters()], share)

    # ---- checkpoints ----

    def tensors(self) -> dict[str, Tensor]:
        spectrum = self.denoiser.spectrum
        result = {"spectrum.variance": spectrum.variance, "spectrum.mean": spectrum.mean}
        for prefix, net in (("net.", self.net), ("ema.", self.denoiser.net)):
            result |= {prefix + name: tensor for name, tensor in net.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            result |= {f"adam.{key}.{name}": tensor for key, tensor in self.optimizer.state.get(parameter, {}).items()}
        return result

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("step", "skipped", "in_a_row", "window")}
        about = {"classes": self.denoiser.classes, "spectrum_count": self.denoiser.spectrum.count}
        return {**kept, **about, "config": dataclasses.asdict(self.config)}

    def restore(self, path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """The inverse of `tensors` and `state`; ValueError if the checkpoint's names or shapes are not this network's."""
        with Reworded(f"{path}: does not fit this run", KeyError, RuntimeError, TypeError, ValueError):
            for prefix, net in (("net.", self.net), ("ema.", self.denoiser.net)):
                net.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
            for name, parameter in self.net.named_parameters():
                if f"adam.step.{name}" in tensors:
                    moments = {key: torch.empty_like(parameter).copy_(tensors[f"adam.{key}.{name}"]) for key in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[parameter] = {"step": tensors[f"adam.step.{name}"], **moments}
            self.step, self.skipped, self.in_a_row = (int(state[key]) for key in ("step", "skipped", "in_a_row"))
            self.window = [[float(value) for value in values] for values in state["window"]]


def resume_or_start(config: TrainConfig, images: ImageSet, world: World) -> Trainer:
    """The newest good checkpoint of the run's folder, unless settings would change what it computes; or a new network."""
    folder = Path(config.out) / "checkpoints"
    found = checkpoint.newest(folder)
    if found is None:
        if damaged := checkpoint.existing(folder):
            raise ValueError(f"{folder}: none of its {len(damaged)} checkpoints is whole; to start anew, take another run folder")
        chosen = range(0, len(images), -(-len(images) // SPECTRUM_IMAGES))
        spectrum = DataSpectrum.measure(images.chunks(1024, chosen))
        if not spectrum.variance.any():
            warnings.warn(f"the images of {config.data!r} are all alike: their variance is taken to be 0.25 in each mode", stacklevel=2)
            spectrum = DataSpectrum.constant(images.shape)
        return Trainer(config, images.shape, images.classes, spectrum, world)
    path, tensors, state = found
    saved, spectrum = described(path, tensors, state)
    for name, old in vars(saved).items():
        if name not in MAY_CHANGE and old != getattr(config, name):
            raise ValueError(f"{name} must stay {old!r} to resume {path}, got {getattr(config, name)!r} (another run folder starts anew)")
    before, now = [state.get("count"), *spectrum.variance.shape], [len(images), *images.shape]
    check(before == now, "data", now, f"{before} images [N, C, H, W] to resume {path} (another run folder starts anew)")
    same = state.get("data_crc32", images.crc32) == images.crc32  # it is not in the first checkpoints
    what = f"the images and labels, in the order, that {path} was trained on (another run folder starts anew)"
    check(same, "data", "as many that are not all the same", what)
    trainer = Trainer(config, images.shape, images.classes, spectrum, world)
    trainer.restore(path, tensors, state)
    return trainer


def train(config: TrainConfig, *, stop: Callable[[], bool] | None = None, progress: bool = False) -> Iterator[TrainState]:
    """Train a denoiser, step by step; a run found in ``config.out`` goes on from its newest good checkpoint.

    Loss and loop are EDM's [Karras et al., NeurIPS 2022, table 1 and appendix F.2] for each of the two heads.

    A checkpoint is written at the config's intervals, at the end, when ``stop`` says so, and when the loop over the states is
    left. A resumed run computes what one that was never stopped computes, bit for bit on one CPU process with the same number
    of threads. While the run is open, torch has the config's number of threads.

    Under torchrun every process runs this loop; each trains on its part of the batch, the first one writes.

    Args:
        config: the run.
        stop: asked after each step; True saves and ends the run on all processes.
        progress: show a bar while image files are checked.

    Yields:
        A `TrainState` after each step.

    Raises:
        ValueError: data or checkpoint cannot be used, or the config differs from that of the run found.
        OSError: another process trains in this folder, it cannot be written to, or images cannot be read any more.
        FloatingPointError: too many steps in a row were not finite.

    Example:
        >>> import tempfile
        >>> config = warmdiff.TrainConfig(out=tempfile.mkdtemp(), images=128, preview_every=0, tensorboard=False)
        >>> next(warmdiff.train(config)).step  # leaving the loop saves
        1
        >>> [state.step for state in warmdiff.train(config)]  # the same folder goes on
        [2]
    """
    with contextlib.ExitStack() as resources:
        resources.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(config.threads or torch.get_num_threads())
        world = resources.enter_context(contextlib.closing(World(config.device)))
        run, first, batch = Path(config.out), world.rank == 0, config.batch
        check(batch % world.size == 0, "batch", batch, f"a multiple of the {world.size} processes")
        if not first:
            world.wait()  # one process downloads
        images = images_of(config, progress and first)
        if first:
            world.wait()
            resources.enter_context(lock(run))
        trainer = resume_or_start(config, images, world)
        if first:  # and nobody looks for checkpoints any more
            checkpoint.set_aside(run / "checkpoints", trainer.step)
        log = resources.enter_context(contextlib.closing(RunLog(run, config, trainer.step, trainer.images))) if first else None
        steps, start, saved = -(-config.images // batch), trainer.step, trainer.step or -1
        began, stopping = time.monotonic(), False
        stream = batches(images, config.seed, batch, trainer.step, world.rank, world.size, config.workers)
        about = {"count": len(images), "data_crc32": images.crc32}

        def save() -> None:
            nonlocal saved
            if first and saved != trainer.step:
                checkpoint.save(run / "checkpoints", trainer.step, trainer.tensors(), trainer.state() | about, config.keep)
                saved = trainer.step

        try:
            while trainer.step < steps and not stopping:
                try:
                    pixels, labels, positions = next(stream)
                except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a process that reads images was killed
                    save()
                    raise OSError(f"stopped after step {trainer.step}, images cannot be read: {last_line(error)}") from error
                rate = trainer.rate
                late = config.minutes is not None and time.monotonic() - began > 60 * config.minutes
                ending = late or (stop is not None and stop())
                losses, norm, stopping = trainer.train_step(pixels.to(world.device, non_blocking=True), labels, positions, ending)
                seen, done = trainer.images, stopping or trainer.step == steps
                speed = (trainer.step - start) * batch / (time.monotonic() - began)
                state = TrainState(
                    trainer.step, steps, seen, sum(losses), losses[0], losses[1], norm, rate, trainer.skipped, speed, run, trainer.denoiser
                )  # fmt: skip
                if crosses(seen, batch, config.log_every):
                    if log is not None:
                        log.write(state, trainer.window)
                    trainer.window.clear()
                if log is not None and config.preview_every and (done or crosses(seen, batch, config.preview_every)):
                    log.preview(state)
                if done or crosses(seen, batch, config.save_every):
                    save()
                yield state
        except GeneratorExit:
            save()
            raise
        except RuntimeError as error:  # torch raises it wherever it is when it hears of that death
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(f"stopped after step {trainer.step}, a process that reads images died: {last_line(error)}") from error
        if trainer.skipped and first:
            warnings.warn(f"{trainer.skipped} steps were skipped because loss or gradient was not finite", stacklevel=2)


def last_line(error: Exception) -> str:
    """What went wrong, without the traceback that comes from another process."""
    return str(error).strip().splitlines()[-1]


def crosses(images: int, batch: int, interval: int) -> bool:
    """Whether the step that ended at ``images`` passed a multiple of ``interval``; never, for 0."""
    return interval > 0 and images // interval > (images - batch) // interval
