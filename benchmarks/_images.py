"""Real images for the benchmarks: crops of the photo in ``data/``, or of the user's own pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from _extras import require
from torch import Tensor

SEED = 20251116
BUNDLED = Path(__file__).parent / "data"
# Batches of the same order of pixels at every size; other sizes get about as many.
BATCHES = {(32, 32): 256, (64, 64): 128, (128, 128): 32, (256, 256): 16, (45, 67): 64}
PIXELS = 3 * 2**19
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "uint8": torch.uint8, "float64": torch.float64}


@dataclass(frozen=True)
class Shape:
    """A batch ``[n, 3, h, w]``."""

    n: int
    h: int
    w: int

    def __str__(self) -> str:
        return f"{self.n}x3x{self.h}x{self.w}"


def parse_shape(text: str) -> Shape:
    """``32`` (square), ``45x67``, or a whole batch ``256x3x32x32``."""
    numbers = [int(part) for part in text.split("x")] if re.fullmatch(r"[0-9]+(x[0-9]+)*", text) else []
    if len(numbers) == 4 and numbers[1] == 3 and min(numbers) > 0:
        return Shape(numbers[0], numbers[2], numbers[3])
    if len(numbers) in (1, 2) and min(numbers) > 0:
        h, w = numbers[0], numbers[-1]
        return Shape(BATCHES.get((h, w), max(1, PIXELS // (3 * h * w))), h, w)
    raise ValueError(f"a size must be like 64, 45x67 or 256x3x32x32, got {text!r}")


def load_photos(folder: Path | None = None) -> list[Tensor]:
    """The pictures of a folder, or the photo that comes with the repository, as uint8 ``[3, H, W]``."""
    image = require("PIL.Image")
    photos = []
    for path in sorted((folder or BUNDLED).iterdir()):
        try:
            with image.open(path) as picture:
                rgb = picture.convert("RGB")
                data = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
                photos.append(data.view(rgb.height, rgb.width, 3).permute(2, 0, 1).contiguous())
        except (image.UnidentifiedImageError, IsADirectoryError, PermissionError):
            continue
    if not photos:
        raise SystemExit(f"no picture that Pillow can read in {folder or BUNDLED}")
    return photos


def crops(photos: list[Tensor], shape: Shape, seed: int = SEED) -> Tensor:
    """Random crops, half of them mirrored, uint8 ``[n, 3, h, w]``; pictures smaller than the crop are passed over."""
    fitting = [photo for photo in photos if photo.shape[1] >= shape.h and photo.shape[2] >= shape.w]
    if not fitting:
        largest = max((tuple(photo.shape[1:]) for photo in photos), key=lambda size: size[0] * size[1])
        raise SystemExit(f"no picture is as large as {shape.h}x{shape.w} (height x width); the largest is {largest[0]}x{largest[1]}")
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    batch = torch.empty(shape.n, 3, shape.h, shape.w, dtype=torch.uint8)
    for i in range(shape.n):
        photo = fitting[draw(len(fitting))]
        top, left = draw(photo.shape[1] - shape.h + 1), draw(photo.shape[2] - shape.w + 1)
        crop = photo[:, top : top + shape.h, left : left + shape.w]
        batch[i] = crop.flip(2) if draw(2) else crop
    return batch


def enlarged(shape: Shape, dtype: torch.dtype, nbytes: int) -> Shape:
    """The shape with as many images as ``nbytes`` bytes need (GPU tensors must be far larger than its L2 cache)."""
    one = 3 * shape.h * shape.w * dtype.itemsize
    return Shape(max(shape.n, -(-nbytes // one)), shape.h, shape.w)


def batch(photos: list[Tensor], shape: Shape, dtype: torch.dtype, device: str, distinct: int = 1024) -> Tensor:
    """A batch of crops in [-1, 1] (uint8: 0..255); beyond ``distinct`` images the crops repeat."""
    few = crops(photos, Shape(min(shape.n, distinct), shape.h, shape.w)).to(device)
    if dtype != torch.uint8:
        few = (few.float() / 127.5 - 1.0).to(dtype)
    if shape.n <= distinct:
        return few
    return few.repeat(-(-shape.n // distinct), 1, 1, 1)[: shape.n].contiguous()


def levels(n: int, device: str, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """``ln beta ~ N(-1.2, 1.2^2)`` (EDM's training distribution), ``alpha = beta / 2``; float32 ``[n]`` each."""
    generator = torch.Generator().manual_seed(seed)
    beta = torch.exp(torch.randn(n, generator=generator) * 1.2 - 1.2).to(device)
    return 0.5 * beta, beta
