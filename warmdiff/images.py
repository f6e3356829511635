"""Images out: tensors in [-1, 1] to 8-bit grids and PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


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
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    h, w, gap = h * scale, w * scale, max(1, scale // 4)
    canvas = torch.full((c, rows * (h + gap) + gap, columns * (w + gap) + gap), 128, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
        canvas[:, top : top + h, left : left + w] = image
    return canvas


def write_png(path: Path, image: Tensor) -> None:
    """Writes a uint8 image ``[C, H, W]``, C = 1 or 3."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("writing PNG files needs Pillow: pip install pillow") from None
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, "PNG")
