"""Files that are whole or as they were, and images as grids and PNG files."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from warmdiff.options import Reworded


@contextlib.contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary path to write to; then it is flushed to the disk and renamed to ``path``, and the folder (made if need be) is flushed.

    At any moment, also after a power failure, ``path`` is the old file or the new one, whole; OSError names it and leaves it as it was.
    Without ``sync`` nothing is flushed: that holds for a killed program and a full disk, and many small files take less time.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with Reworded(f"cannot write {path}", OSError, kind=OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if sync:
                flush(temporary)
            os.replace(temporary, path)
            if sync:
                flush(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append(path: Path, line: str) -> None:
    """Adds a line to a file, whole or not at all."""
    with Reworded(f"cannot write {path}", OSError, kind=OSError), open(path, "ab", buffering=0) as file:
        end, left = file.tell(), line.encode()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(end)
            raise


def check_writable(folder: Path) -> None:
    """Makes a folder if need be, and tries to write to it: before hours of work, not after them. OSError if it is not possible."""
    with Reworded(f"cannot write to {folder}", OSError, kind=OSError):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def flush(path: Path) -> None:
    """Has the disk take all of a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- images ----


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] as 0..255 on the CPU, rounded, clipped."""
    return (x.detach().float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def grid(images: Tensor, columns: int | None = None, tile: int = 1) -> Tensor:
    """uint8 images ``[N, C, H, W]`` side by side with a gray line between, as ``[C, rows, columns]``, by default about square.

    tile: each pixel becomes a block, so that an image's shorter side has at least so many pixels.
    """
    n, _, h, w = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(n)))
    rows, scale = math.ceil(n / columns), max(1, math.ceil(tile / min(h, w)))
    gap = max(1, scale // 4)
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tiles = F.pad(images, (0, gap, 0, gap, 0, 0, 0, rows * columns - n), value=128)
    canvas = tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return F.pad(canvas, (gap, 0, gap, 0), value=128)


def write_png(path: Path, image: Tensor, sync: bool = True) -> None:
    """Writes a uint8 image ``[C, H, W]``, C = 1 or 3; ``sync`` as in `replacing`."""
    from PIL import Image

    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy())
    with replacing(path, sync) as temporary:
        picture.save(temporary, "PNG")
