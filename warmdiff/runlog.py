"""What a run leaves for people to look at: config.json, log.jsonl, TensorBoard files and sample grids."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmdiff.checkpoint import write_durably
from warmdiff.config import TrainConfig
from warmdiff.denoiser import sample_images
from warmdiff.images import grid, to_uint8, write_png

if TYPE_CHECKING:
    from warmdiff.training import TrainState

PREVIEWS = 64


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Keeps the folder of a run to one process; the lock dies with the process."""
    import fcntl

    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another process is training in {run}") from None
        yield


class RunLog:
    """Writes the run's files at the config's intervals; lines that a resumed run will write again are taken out first."""

    def __init__(self, run: Path, config: TrainConfig, step: int, images: int) -> None:
        self.run = run
        text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
        write_durably(run / "config.json", lambda path: path.write_text(text))
        path = run / "log.jsonl"
        lines = [line for line in path.read_text().splitlines() if step_of(line) <= step] if path.exists() else []
        write_durably(path, lambda new: new.write_text("".join(line + "\n" for line in lines)))
        self.file = open(path, "a")  # noqa: SIM115  closed by close
        self.board: Any = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(run / "tensorboard", purge_step=images + 1)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def write(self, state: TrainState, window: list[list[float]]) -> None:
        """A line with the means of finite losses and gradient norms ``[loss, blurred, residual, norm]`` since the last line."""
        names = ("loss", "loss_blurred", "loss_residual", "gradient_norm")
        good = [values for values in window if all(map(math.isfinite, values))]
        numbers = {name: sum(column) / len(good) for name, column in zip(names, zip(*good, strict=True), strict=False)}
        numbers |= {"learning_rate": state.learning_rate, "skipped": state.skipped}
        numbers["images_per_second"] = round(state.images_per_second, 2)
        self.file.write(json.dumps({"step": state.step, "images": state.images, **numbers}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in numbers.items():
                self.board.add_scalar(name, value, state.images)

    def preview(self, state: TrainState) -> None:
        classes = state.denoiser.classes
        labels = [i % classes for i in range(PREVIEWS)] if classes else None
        picture = grid(to_uint8(sample_images(state.denoiser, PREVIEWS, labels=labels)), tile=48)
        write_png(self.run / "previews" / f"{state.images:012d}.png", picture)
        if self.board is not None:
            self.board.add_image("samples", picture, state.images)


def step_of(line: str) -> float:
    """The step of a line of log.jsonl; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
