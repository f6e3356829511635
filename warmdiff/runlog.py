"""What a run leaves for people to look at: config.json, log.jsonl, TensorBoard files and sample grids."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import multiprocessing.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmdiff.config import TrainConfig
from warmdiff.denoiser import Denoiser, sample_images
from warmdiff.files import append, check_writable, grid, to_uint8, write_png, write_text

PREVIEWS = 64


@dataclass(frozen=True)
class TrainState:
    """Where a run is, after each step.

    Attributes:
        step, images: steps done and images seen. steps: those of the whole run.
        loss: mean over the global batch, the sum of loss_blurred and loss_residual.
        gradient_norm: before clipping.
        learning_rate: of the step.
        skipped: steps left out so far because loss or gradient was not finite.
        images_per_second: since the run was (re)started, previews and checkpoints included.
        run: the run's folder.
        denoiser: the averaged weights, live (copy what you keep).

    Example:
        >>> import tempfile
        >>> config = warmdiff.TrainConfig(out=tempfile.mkdtemp(), images=128, preview_every=0, tensorboard=False)
        >>> for state in warmdiff.train(config):
        ...     print(state.step, state.steps, state.images, state.loss == state.loss_blurred + state.loss_residual)
        1 2 64 True
        2 2 128 True
    """

    step: int
    steps: int
    images: int
    loss: float
    loss_blurred: float
    loss_residual: float
    gradient_norm: float
    learning_rate: float
    skipped: int
    images_per_second: float
    run: Path
    denoiser: Denoiser


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Keeps the folder of a run to one process, or OSError; the lock dies with the process, whatever its children do."""
    import fcntl

    for folder in (run, run / "checkpoints"):
        check_writable(folder)
    with open(run / ".lock", "w") as file:
        multiprocessing.util.register_after_fork(file, lambda held: held.close())  # a process that reads images may outlive a killed run
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # others than BlockingIOError: a network file system without locks
            held = isinstance(error, BlockingIOError)
            raise OSError(f"another process is training in {run}" if held else f"cannot lock {run}: {error}") from error
        yield


@contextlib.contextmanager
def optional(what: str) -> Iterator[None]:
    """Training goes on where this fails for want of space or rights."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{what} left out, training goes on: {error}", RuntimeWarning, stacklevel=3)


class RunLog:
    """Writes the run's files at the config's intervals; lines that a resumed run will write again are taken out first.

    config.json and log.jsonl must be written, or OSError is raised; TensorBoard's files and previews are left out with a warning.
    """

    def __init__(self, run: Path, config: TrainConfig, step: int, images: int) -> None:
        self.run, self.path = run, run / "log.jsonl"
        self.board: Any = None
        write_text(run / "config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        write_text(self.path, "".join(line + "\n" for line in text.splitlines() if step_of(line) <= step))
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            with optional("TensorBoard's files"):
                self.board = SummaryWriter(run / "tensorboard", purge_step=images + 1)

    def close(self) -> None:
        self.to_board(lambda board: board.close())

    def to_board(self, action: Callable[[Any], object]) -> None:
        """``action(board)``, if there is one; after the first that fails there is none."""
        board, self.board = self.board, None
        if board is not None:
            with optional("TensorBoard's files"):
                action(board)
                self.board = board

    def write(self, state: TrainState, window: list[list[float]]) -> None:
        """A line with the means of finite losses and gradient norms ``[loss, blurred, residual, norm]`` since the last line."""
        names = ("loss", "loss_blurred", "loss_residual", "gradient_norm")
        good = [values for values in window if all(map(math.isfinite, values))]
        numbers = {name: sum(column) / len(good) for name, column in zip(names, zip(*good, strict=True), strict=False)}
        numbers |= {"learning_rate": state.learning_rate, "skipped": state.skipped, "images_per_second": round(state.images_per_second, 2)}
        append(self.path, json.dumps({"step": state.step, "images": state.images, **numbers}) + "\n")

        def scalars(board: Any) -> None:
            for name, value in numbers.items():
                board.add_scalar(name, value, state.images)
            board.flush()

        self.to_board(scalars)

    def preview(self, state: TrainState) -> None:
        classes = state.denoiser.classes
        labels = [i % classes for i in range(PREVIEWS)] if classes else None
        picture = grid(to_uint8(sample_images(state.denoiser, PREVIEWS, labels=labels)), tile=48)
        with optional("a preview"):
            write_png(self.run / "previews" / f"{state.images:012d}.png", picture)
        self.to_board(lambda board: board.add_image("samples", picture, state.images))


def step_of(line: str) -> float:
    """The step of a line of log.jsonl; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
