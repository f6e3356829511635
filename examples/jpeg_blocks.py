"""The lossy half of JPEG: 8x8 block DCT, quantisation, and back. Any other block codec differs in its table only.

python examples/jpeg_blocks.py [picture]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

import warmops

# Luminance table of ITU-T T.81, annex K.1.
LUMINANCE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def quantisation(quality: int) -> Tensor:
    """The table at a quality of 1 to 100, as libjpeg scales it; float32 ``[8, 8]``."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((LUMINANCE * scale + 50) // 100).clamp(1, 255).float()


def compress(image: Tensor, quality: int = 75) -> tuple[Tensor, Tensor]:
    """Grey images ``[..., H, W]`` in 0..255 to quantised coefficients, and to what they decode to, float32 ``[..., H, W]``.

    Coefficients: int16 ``[..., H/8, 8, W/8, 8]`` (H and W rounded up), block row, row, block column, column.
    """
    h, w = image.shape[-2:]
    flat = image.float().reshape(-1, 1, h, w)
    padded = torch.nn.functional.pad(flat, (0, -w % 8, 0, -h % 8), mode="replicate").reshape(*image.shape[:-2], h + -h % 8, w + -w % 8)
    blocks = padded.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)) - 128.0  # [..., H/8, 8, W/8, 8]
    table = quantisation(quality).to(image.device).unsqueeze(1)  # [8, 1, 8]
    coefficients = (warmops.dctn(blocks, dim=(-3, -1), norm="ortho") / table).round()  # no copy of the blocks is needed
    decoded = warmops.idctn(coefficients * table, dim=(-3, -1), norm="ortho") + 128.0
    return coefficients.to(torch.int16), decoded.flatten(-2).flatten(-3, -2)[..., :h, :w].round().clamp(0, 255)


def main(path: str) -> None:
    from PIL import Image

    picture = Image.open(path).convert("L")
    image = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width)
    for quality in (10, 50, 75, 95):
        coefficients, decoded = compress(image, quality)
        noise = (decoded - image).square().mean()
        kept = (coefficients != 0).float().mean()
        print(f"quality {quality}: {kept:.1%} of the coefficients are not zero, PSNR {10 * torch.log10(255**2 / noise):.2f} dB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent.parent / "benchmarks" / "data" / "china.jpg"))
