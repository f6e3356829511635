"""Which kernel form and which launch parameters a size and a data type get. Pure Python, so that tests and a tuning
session can enumerate it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

FUSED_SIDE = 128
"""The longest side of an image that one launch transforms."""


@dataclass(frozen=True)
class Config:
    """Launch parameters.

    max_registers: of a thread (two-pass: of the first pass of blur_noise); None leaves it to the compiler.
    block_inner: how many products the tensor cores add up before an addition that rounds (see panel.py).
    fused: block (side of the blocks that a program works in), p_h, p_w (half sizes, padded to a power of two of blocks),
    panels (programs of an image).
    two-pass: block_rows, block_columns (output tile of a program).
    """

    fused: bool
    num_warps: int
    num_stages: int
    precision: str
    block: int = 0
    p_h: int = 0
    p_w: int = 0
    panels: int = 0
    max_registers: int | None = None
    block_rows: int = 0
    block_columns: int = 0
    block_inner: int = 0


def padded_half(n: int, block: int) -> int:
    """Half of an axis, padded to a power of two that is at least a block."""
    return max(block, 1 << (((n + 1) // 2) - 1).bit_length())


def config(H: int, W: int, dtype: torch.dtype) -> Config:
    """The configuration of blur_noise for images of H x W of ``dtype`` (that of x), the same for every chip.

    Each fused one compiles without spilling registers for compute capabilities 8.0, 9.0 and 10.0.
    """
    if dtype == torch.float64:
        return Config(False, 4, 1, "ieee", block_rows=16, block_columns=16, block_inner=16)
    if max(H, W) > FUSED_SIDE:
        return Config(False, 4, 1, "tf32x3", max_registers=168, block_rows=32, block_columns=32, block_inner=16)
    # Half precision rounds what longer sums lose to nothing, and reads 16 bytes a lane in them.
    inner = 32 if dtype in (torch.float16, torch.bfloat16) else 16
    # The limit is the hardware's own (above: of three blocks at a time); without it the compiler may settle for 128 and spill a few.
    return _fused(H, W, 16 if max(H, W) <= 32 else 32, inner, None if max(H, W) <= 32 and W % 4 == 0 else 255)


def step_config(H: int, W: int, dtype: torch.dtype) -> Config:
    """The configuration of sampler_step, which holds more in registers: small blocks go further, and short sums for every type."""
    chosen = config(H, W, dtype)
    return _fused(H, W, 16 if max(H, W) <= 64 else 32, 16, 255) if chosen.fused else replace(chosen, max_registers=None)


def _fused(H: int, W: int, block: int, inner: int, max_registers: int | None) -> Config:
    panels = -(-((W + 1) // 2) // block)
    num_warps = {16: 2, 32: 8}[block]  # 16 is the smallest side of a matrix product
    p_h, p_w = padded_half(H, block), padded_half(W, block)
    return Config(True, num_warps, 1, "tf32x3", block, p_h, p_w, panels, max_registers, block_inner=min(inner, block))
