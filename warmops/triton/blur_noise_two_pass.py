"""Blur and noise for images too large for the fused kernel: a small table per sample, then columns, then rows.

The folded matrix of an axis is Toeplitz plus Hankel, ``M[p, q] = (h(p - q) + h(p + q + 1)) / 2`` with ``h(r) = sum_k w_k
m_k cos(pi k r / n)`` over even or odd k: one table of n numbers for each, from which the products read their tiles.
Sources as in blur_noise.py. The intermediate image is float32 (float64 for float64 data).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from warmops.triton import folded, launch, tile
from warmops.triton.config import Config

TABLE_PADDING = 16
"""Entries past h(n): whole groups of pixels may reach beyond the middle of an axis."""
TABLE_BLOCK = 64


@triton.jit(do_not_specialize=["alpha"])
def table_kernel(
    table, alpha, alpha_n,
    N: tl.constexpr, LENGTH: tl.constexpr, ALPHA_TENSOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """table: [samples, 2, LENGTH], h of even and of odd k without the factor 2/N; always computed in float64."""
    blocks: tl.constexpr = (LENGTH + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    r = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    parity = program // blocks % 2
    n = (program // (2 * blocks)).to(tl.int64)
    level = folded.checked_level(tile.level(alpha, alpha_n, n, ALPHA_TENSOR))
    h = tl.zeros([BLOCK], tl.float64)
    for first in range(0, N, 32):
        k = first + 2 * tl.arange(0, 16)[None, :] + parity  # [1, 16]
        terms = folded.cosine(2 * k * r[:, None], N, True) * folded.weights(k, level, N, True)  # [BLOCK, 16]
        h += tl.sum(terms, axis=1)
    target = table + (2 * n + parity) * LENGTH + r
    tl.store(target, h.to(table.dtype.element_ty), mask=r < LENGTH)


@triton.jit
def matrix(table, rows, cols, parity: tl.constexpr, LENGTH: tl.constexpr):
    """M of one parity at rows [R, 1] and columns [1, C] of the folded axis; 0 past the table, which nothing uses."""
    table += parity * LENGTH
    difference = tl.abs(rows - cols)
    total = rows + cols + 1
    toeplitz = tl.load(table + difference, mask=difference < LENGTH, other=0.0)
    return 0.5 * (toeplitz + tl.load(table + total, mask=total < LENGTH, other=0.0))


@triton.jit(do_not_specialize=["alpha", "channels"])
def columns_kernel(
    x, x_n, x_c, x_h, x_w, middle, table, table_n, alpha, alpha_n, channels,
    ALPHA_TENSOR: tl.constexpr, X_UNIT: tl.constexpr, FAR: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, LENGTH: tl.constexpr, FP64: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """middle [images, H, W]: x blurred along its columns. A program writes ROWS rows and those that mirror them."""
    HALF: tl.constexpr = (H + 1) // 2
    row_blocks: tl.constexpr = (HALF + ROWS - 1) // ROWS
    column_blocks: tl.constexpr = (W + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    column_block = program % column_blocks
    row_block = program // column_blocks % row_blocks
    image = (program // (column_blocks * row_blocks)).to(tl.int64)
    n, c = image // channels, image % channels
    level = folded.checked_level(tile.level(alpha, alpha_n, n, ALPHA_TENSOR))
    identity = folded.identity_share(level)
    table += n * table_n
    base = tile.image(x, n, c, x_n, x_c, X_UNIT)
    cols = column_block * COLUMNS + tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    p = row_block * ROWS + tl.arange(0, ROWS)[:, None]  # [ROWS, 1]
    accumulator = tl.float64 if FP64 else tl.float32
    even = tl.zeros([ROWS, COLUMNS], accumulator)
    odd = tl.zeros([ROWS, COLUMNS], accumulator)
    # Nothing to sum for an unblurred sample; the rows pass reads x itself.
    for first in range(0, tl.where(level == 0.0, 0, HALF), INNER):
        k = first + tl.arange(0, INNER)[:, None]  # [INNER, 1]
        top_kept, bottom_kept = (k < HALF) & (cols < W), (k < H // 2) & (cols < W)  # a middle row counts once
        top = tl.load(base + tile.offsets(k, cols, x_h, x_w, X_UNIT, FAR), mask=top_kept, other=0)
        bottom = tl.load(base + tile.offsets(H - 1 - k, cols, x_h, x_w, X_UNIT, FAR), mask=bottom_kept, other=0)
        top = tl.where(top_kept, tile.pixels(top, FP64), 0.0)  # [INNER, COLUMNS]
        bottom = tl.where(bottom_kept, tile.pixels(bottom, FP64), 0.0)
        inner = first + tl.arange(0, INNER)[None, :]  # [1, INNER]
        even += tile.product(matrix(table, p, inner, 0, LENGTH), top + bottom, PRECISION)
        odd += tile.product(matrix(table, p, inner, 1, LENGTH), top - bottom, PRECISION)
    target = middle + image * (H * W) + p.to(tl.int64) * W + cols
    mirrored = middle + image * (H * W) + (H - 1 - p).to(tl.int64) * W + cols
    top_stored, bottom_stored = (p < HALF) & (cols < W), (p < H // 2) & (cols < W)
    y_top, y_bottom = (even + odd) * (2.0 / H), (even - odd) * (2.0 / H)
    if identity != 0.0:
        top = tl.load(base + tile.offsets(p, cols, x_h, x_w, X_UNIT, FAR), mask=top_stored, other=0)
        bottom = tl.load(base + tile.offsets(H - 1 - p, cols, x_h, x_w, X_UNIT, FAR), mask=bottom_stored, other=0)
        y_top += tile.pixels(top, FP64)
        y_bottom += tile.pixels(bottom, FP64)
    tl.store(target, y_top, mask=top_stored)
    tl.store(mirrored, y_bottom, mask=bottom_stored)


@triton.jit(do_not_specialize=["alpha", "beta", "scale", "seed", "channels", "channel0"])
def rows_kernel(
    x, x_n, x_c, x_h, x_w,
    out, out_n, out_c, out_h, out_w,
    blurred, blurred_n, blurred_c, blurred_h, blurred_w,
    noise, noise_n, noise_c, noise_h, noise_w,
    middle, table, table_n,
    alpha, alpha_n, beta, beta_n, scale, scale_n, seed, seed_n, channels, channel0,
    ALPHA_TENSOR: tl.constexpr, BETA_TENSOR: tl.constexpr, SCALE_TENSOR: tl.constexpr, SEED_TENSOR: tl.constexpr,
    HAS_SCALE: tl.constexpr, NOISE: tl.constexpr, BLURRED: tl.constexpr, WIDE: tl.constexpr, FAR: tl.constexpr,
    X_UNIT: tl.constexpr, OUT_UNIT: tl.constexpr, BLURRED_UNIT: tl.constexpr, NOISE_UNIT: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, LENGTH: tl.constexpr,
    FP64: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """Blur ``middle`` along its rows and finish. A program writes COLUMNS columns and those that mirror them."""
    # The left half owns the middle columns, and whole groups: the right half's first column is SPLIT.
    SPLIT: tl.constexpr = (W + 2 * V - 1) // (2 * V) * V
    row_blocks: tl.constexpr = (H + ROWS - 1) // ROWS
    column_blocks: tl.constexpr = (SPLIT + COLUMNS - 1) // COLUMNS
    G: tl.constexpr = COLUMNS // V
    program = tl.program_id(0)
    column_block = program % column_blocks
    row_block = program // column_blocks % row_blocks
    image = (program // (column_blocks * row_blocks)).to(tl.int64)
    n, c = image // channels, image % channels
    level = folded.checked_level(tile.level(alpha, alpha_n, n, ALPHA_TENSOR))
    identity = folded.identity_share(level)
    table += n * table_n
    source = middle + image * (H * W)
    rows = row_block * ROWS + tl.arange(0, ROWS)[:, None, None]  # [ROWS, 1, 1]
    line = source + rows.to(tl.int64) * W
    p = column_block * COLUMNS + tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    accumulator = tl.float64 if FP64 else tl.float32
    even = tl.zeros([ROWS, COLUMNS], accumulator)
    odd = tl.zeros([ROWS, COLUMNS], accumulator)
    for first in range(0, tl.where(level == 0.0, 0, (W + 1) // 2), INNER):
        left = tile.columns(tile.groups(first, INNER // V, V), V)  # [1, INNER / V, V]
        right = tile.columns(tile.mirrored_groups(first, W, INNER // V, V), V)
        left_x = tl.load(line + left, mask=(rows < H) & (left < W), other=0.0)
        right_x = tl.load(line + right, mask=(rows < H) & (right >= 0), other=0.0)
        q = first + tl.arange(0, INNER)[None, :]  # [1, INNER]
        left_x = tl.where(q < (W + 1) // 2, tl.reshape(left_x, [ROWS, INNER]), 0.0)
        right_x = tl.where(q < W // 2, tl.reshape(tile.reverse(right_x, V), [ROWS, INNER]), 0.0)
        inner = first + tl.arange(0, INNER)[:, None]  # [INNER, 1]
        even += tile.product(left_x + right_x, matrix(table, inner, p, 0, LENGTH), PRECISION)
        odd += tile.product(left_x - right_x, matrix(table, inner, p, 1, LENGTH), PRECISION)
    noise_level = folded.checked_level(tile.level(beta, beta_n, n, BETA_TENSOR))
    factor = tile.level(scale, scale_n, n, SCALE_TENSOR)
    if not FP64:
        noise_level = noise_level.to(tl.float32)
        factor = factor.to(tl.float32)
    key = tile.sample_seed(seed, seed_n, n, SEED_TENSOR)
    base = tile.image(x, n, c, x_n, x_c, X_UNIT)
    for part in tl.static_range(2):
        if part == 0:
            start = tile.groups(column_block * COLUMNS, G, V)  # [1, G, 1]
            cols = tile.columns(start, V)  # [1, G, V]
            mask = (rows < H) & (cols < tl.minimum(SPLIT, W))
            y = tl.reshape((even + odd) * (2.0 / W), [ROWS, G, V])
        else:
            start = tile.mirrored_groups(column_block * COLUMNS, W, G, V)
            cols = tile.columns(start, V)
            mask = (rows < H) & (cols >= SPLIT)
            y = tile.reverse(tl.reshape((even - odd) * (2.0 / W), [ROWS, G, V]), V)
        if identity != 0.0:
            if level == 0.0:  # x itself, bit for bit
                y = tile.pixels(tl.load(base + tile.offsets(rows, cols, x_h, x_w, X_UNIT, FAR), mask=mask, other=0), FP64)
            else:
                y += tl.load(line + cols, mask=mask, other=0.0)
        tile.finish(
            y, rows, start, mask, n, c, channel0, noise_level, factor, key, H, W, V,
            out, out_n, out_c, out_h, out_w, OUT_UNIT,
            blurred, blurred_n, blurred_c, blurred_h, blurred_w, BLURRED, BLURRED_UNIT,
            noise, noise_n, noise_c, noise_h, noise_w, NOISE, NOISE_UNIT,
            HAS_SCALE, FP64, WIDE, FAR,
        )  # fmt: skip


def _table(n: int, x: Tensor, alpha: Tensor | int, alpha_n: int, is_tensor: bool, dtype: torch.dtype) -> Tensor:
    """h of an axis of n pixels for each sample (one row if the level is the same for all), ``[samples, 2, n + 16]``."""
    length = n + TABLE_PADDING
    table = torch.empty((x.shape[0] if is_tensor else 1, 2, length), dtype=dtype, device=x.device)
    programs = table.shape[0] * 2 * -(-length // TABLE_BLOCK)
    table_kernel[(programs,)](
        table, alpha, alpha_n, N=n, LENGTH=length, ALPHA_TENSOR=is_tensor, BLOCK=TABLE_BLOCK,
        num_warps=4, num_stages=1, maxnreg=255, enable_fp_fusion=False,
    )  # fmt: skip
    return table


def launch_two_pass(chosen: Config, x: Tensor, step: launch.Step, channel0: int) -> None:
    """The launches for one view of x; see `warmops.triton.blur_noise.blur_noise`."""
    H, W = x.shape[-2:]
    samples, channels = x.shape[0], x[0].numel() // (H * W)
    working = torch.float64 if x.dtype == torch.float64 else torch.float32
    middle = torch.empty((samples * channels, H, W), dtype=working, device=x.device)
    alpha, alpha_n = step.level_arguments[0], int(step.level_arguments[1])
    is_tensor = bool(step.flags["ALPHA_TENSOR"])
    table_h = _table(H, x, alpha, alpha_n, is_tensor, working)
    table_w = table_h if H == W else _table(W, x, alpha, alpha_n, is_tensor, working)
    options: dict[str, Any] = {
        "H": H, "W": W, "FP64": working == torch.float64, "PRECISION": chosen.precision,
        "ROWS": chosen.block_rows, "COLUMNS": chosen.block_columns, "INNER": chosen.block_inner,
        "num_warps": chosen.num_warps, "num_stages": chosen.num_stages, "enable_fp_fusion": False,
    }  # fmt: skip
    rows, columns = chosen.block_rows, chosen.block_columns
    column_programs = -(-((H + 1) // 2) // rows) * -(-W // columns)
    columns_kernel[(samples * channels * column_programs,)](
        *step.tensor_arguments[:5], middle, table_h, table_h.stride(0) if is_tensor else 0, alpha, alpha_n, channels,
        ALPHA_TENSOR=is_tensor, X_UNIT=step.flags["X_UNIT"], FAR=step.flags["FAR"],
        LENGTH=table_h.shape[2], maxnreg=chosen.max_registers, **options,
    )  # fmt: skip
    split = -(-W // (2 * step.vector)) * step.vector
    row_programs = -(-H // rows) * -(-split // columns)
    rows_kernel[(samples * channels * row_programs,)](
        *step.tensor_arguments, middle, table_w, table_w.stride(0) if is_tensor else 0,
        *step.level_arguments, channels, channel0,
        **step.flags, V=step.vector, LENGTH=table_w.shape[2], **options,
    )  # fmt: skip
