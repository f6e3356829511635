"""Which kernel form and which launch parameters a size, a data type and a chip get. Pure Python, so that tests and a
tuning session can enumerate it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Config:
    """Launch parameters.

    fused: p_h, p_w (padded half sizes), programs (wanted per multiprocessor).
    two-pass: block_rows, block_columns (output tile of a program), block_inner (slice of the sum).
    """

    fused: bool
    num_warps: int
    num_stages: int
    precision: str
    reload: bool = False
    p_h: int = 0
    p_w: int = 0
    programs: int = 0
    block_rows: int = 0
    block_columns: int = 0
    block_inner: int = 0


def padded_half(n: int) -> int:
    """Half of an axis, padded to a power of two of at least 16 (the smallest side of a matrix product)."""
    return max(16, 1 << (((n + 1) // 2) - 1).bit_length())


def config(H: int, W: int, dtype: torch.dtype, capability: tuple[int, int]) -> Config:
    """The configuration for images of H x W of ``dtype`` (that of x) on a chip of this compute capability."""
    p_h, p_w = padded_half(H), padded_half(W)
    if dtype == torch.float64:
        return Config(False, 4, 1, "ieee", block_rows=16, block_columns=16, block_inner=16)
    # With 32 x 32 halves the four matrices of an image that is not square take more registers than there are.
    if max(p_h, p_w) <= 32 and (H == W or p_h * p_w < 1024):
        num_warps = {256: 2, 512: 4, 1024: 8}[p_h * p_w]
        if W % 4 != 0:  # pixels one by one: masks and offsets of each take registers
            num_warps = {256: 4, 512: 8, 1024: 8}[p_h * p_w]
        return Config(True, num_warps, 1, "tf32x3", False, p_h, p_w, programs=8)
    return Config(False, 4, 1, "tf32x3", block_rows=32, block_columns=32, block_inner=32)
