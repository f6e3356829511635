"""Images out: tensors in [-1, 1] to 8-bit grids and PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from warmdiff.checkpoint import write_durably


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] as 0..255 on the CPU, rounded, clipped."""
    return (x.detach().float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def grid(images: Tensor, columns: int | None = None, tile: int = 1) -> Tensor:
    """uint8 images ``[N, C, H, W]`` side by side with a gray line between, as ``[C, rows, columns]``.

    Args:
        columns: default: about as many as rows.
        tile: each pixel becomes a block, so that an image's shorter side has at least so many pixels.
    """
    n, c, h, w = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(n)))
    rows, scale = math.ceil(n / columns), max(1, math.ceil(tile / min(h, w)))
    gap = max(1, scale // 4)
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tiles = F.pad(images, (0, gap, 0, gap, 0, 0, 0, rows * columns - n), value=128)
    h, w = tiles.shape[2:]
    canvas = tiles.view(rows, columns, c, h, w).permute(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)
    return F.pad(canvas, (gap, 0, gap, 0), value=128)


def write_png(path: Path, image: Tensor, sync: bool = True) -> None:
    """Writes a uint8 image ``[C, H, W]``, C = 1 or 3; ``sync`` as in `write_durably`."""
    from PIL import Image

    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy())
    write_durably(path, lambda temporary: picture.save(temporary, "PNG"), sync)
