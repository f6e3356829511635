"""What a run leaves for people to look at: config.json, log.jsonl, TensorBoard files and sample grids."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import multiprocessing.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmdiff.checkpoint import check_writable, write_content
from warmdiff.config import TrainConfig
from warmdiff.denoiser import sample_images
from warmdiff.images import grid, to_uint8, write_png

if TYPE_CHECKING:
    from warmdiff.training import TrainState

PREVIEWS = 64


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Keeps the folder of a run to one process; the lock dies with the process, whatever its children do.

    Raises:
        OSError: another process has it, or the folder cannot be written to.
    """
    import fcntl

    for folder in (run, run / "checkpoints"):
        check_writable(folder)
    with open(run / ".lock", "w") as file:
        multiprocessing.util.register_after_fork(file, lambda held: held.close())  # a process that reads images may outlive a killed run
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another process is training in {run}") from None
        except OSError as error:  # a network file system without locks
            raise OSError(f"cannot lock {run}: {error}") from error
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
        write_content(run / "config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        lines = [line for line in text.splitlines() if step_of(line) <= step]
        write_content(self.path, "".join(line + "\n" for line in lines))
        self.board: Any = None
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
        numbers |= {"learning_rate": state.learning_rate, "skipped": state.skipped}
        numbers["images_per_second"] = round(state.images_per_second, 2)
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


def append(path: Path, line: str) -> None:
    """Adds a line to a file, whole or not at all."""
    with open(path, "ab", buffering=0) as file:
        end, left = file.tell(), line.encode()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            file.truncate(end)
            raise OSError(f"cannot write {path}: {error}") from error


def step_of(line: str) -> float:
    """The step of a line of log.jsonl; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
