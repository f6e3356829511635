"""The sampler step for images too large for the fused kernel: small tables per sample, then columns, then rows.

As in blur_noise_two_pass.py, for the three terms of sampler_terms.py: the columns pass writes one intermediate image for
each (float32, or float64 for float64 data), the rows pass adds up what it makes of them. A term that is not there costs
no work, but its intermediate images are allocated, since looking at coefficients on the GPU would wait for it.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from warmops.triton import blur_noise_two_pass as two_pass
from warmops.triton import folded, launch, tile
from warmops.triton import sampler_terms as terms_of
from warmops.triton.config import Config

TERMS = 3
_TERMS = tl.constexpr(TERMS)


@triton.jit(do_not_specialize=["c4", "c5", "c6", "c7", "c8"])
def terms_table_kernel(
    out, table, c4: tl.int64, c5: tl.int64, c6: tl.int64, c7: tl.int64, c8: tl.int64,
    N: tl.constexpr, LENGTH: tl.constexpr, ALONG_W: tl.constexpr, TABLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out: [samples, terms, 2, LENGTH], h of even and of odd k without the factor 2/N; always computed in float64."""
    blocks: tl.constexpr = (LENGTH + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    r = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    parity = program // blocks % 2
    term = program // (2 * blocks) % _TERMS
    n = (program // (2 * blocks * _TERMS)).to(tl.int64)
    k1, alpha1 = terms_of.coefficient(table, c4, n, 4, TABLE), terms_of.coefficient(table, c5, n, 5, TABLE)
    k2, k3 = terms_of.coefficient(table, c6, n, 6, TABLE), terms_of.coefficient(table, c7, n, 7, TABLE)
    alpha2 = terms_of.coefficient(table, c8, n, 8, TABLE)
    there, alpha = terms_of.term_level(term, k1, alpha1, k2, k3, alpha2)
    if there:
        alpha = folded.checked_level(alpha)
        if ALONG_W:
            u, v = terms_of.factors_along_w(term, k3)
        else:
            u, v = terms_of.factors_along_h(term, k1, k2, k3)
        h = tl.zeros([BLOCK], tl.float64)
        for first in range(0, N, 32):
            k = first + 2 * tl.arange(0, 16)[None, :] + parity  # [1, 16]
            m = folded.sloped(k, folded.weights(k, alpha, N, True), folded.identity_share(alpha), u, v, N)
            h += tl.sum(folded.cosine(2 * k * r[:, None], N, True) * m, axis=1)
        target = out + ((n * _TERMS + term) * 2 + parity) * LENGTH + r
        tl.store(target, h.to(out.dtype.element_ty), mask=r < LENGTH)


@triton.jit(do_not_specialize=["c0", "c1", "c2", "c4", "c5", "c6", "c7", "c8", "channels", "images"])
def terms_columns_kernel(
    x, x_n, x_c, x_h, x_w,
    head_b, b_n, b_c, b_h, b_w,
    head_r, r_n, r_c, r_h, r_w,
    middle, h_table, h_table_n, table,
    c0: tl.int64, c1: tl.int64, c2: tl.int64, c4: tl.int64, c5: tl.int64, c6: tl.int64, c7: tl.int64, c8: tl.int64,
    channels, images,
    TABLE: tl.constexpr, B: tl.constexpr, R: tl.constexpr, FAR: tl.constexpr,
    X_UNIT: tl.constexpr, B_UNIT: tl.constexpr, R_UNIT: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, LENGTH: tl.constexpr, FP64: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """middle [terms, images, H, W]: x0, each term's transform of its columns. A program writes ROWS rows and their mirrors."""
    HALF: tl.constexpr = (H + 1) // 2
    G: tl.constexpr = COLUMNS // V
    row_blocks: tl.constexpr = (HALF + ROWS - 1) // ROWS
    column_blocks: tl.constexpr = (W + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    row_block = program // column_blocks % row_blocks
    image = (program // (column_blocks * row_blocks)).to(tl.int64)
    n, c = image // channels, image % channels
    accumulator = tl.float64 if FP64 else tl.float32
    skip = terms_of.coefficient(table, c0, n, 0, TABLE).to(accumulator)
    out_b = terms_of.coefficient(table, c1, n, 1, TABLE).to(accumulator)
    out_r = terms_of.coefficient(table, c2, n, 2, TABLE).to(accumulator)
    k1, alpha1 = terms_of.coefficient(table, c4, n, 4, TABLE), terms_of.coefficient(table, c5, n, 5, TABLE)
    k2, k3 = terms_of.coefficient(table, c6, n, 6, TABLE), terms_of.coefficient(table, c7, n, 7, TABLE)
    alpha2 = terms_of.coefficient(table, c8, n, 8, TABLE)
    start = tile.groups(program % column_blocks * COLUMNS, G, V)  # [1, G, 1]
    if FP64:
        cols = tl.reshape(tile.columns(start, V), [1, COLUMNS])
    else:  # the same columns; of those above, Triton 3.6 does not see that they are neighbours, and stores one by one
        cols = program % column_blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    p = row_block * ROWS + tl.arange(0, ROWS)[:, None]  # [ROWS, 1]
    for term in range(_TERMS):
        there, alpha = terms_of.term_level(term, k1, alpha1, k2, k3, alpha2)
        if there:
            even = tl.zeros([ROWS, COLUMNS], accumulator)
            odd = tl.zeros([ROWS, COLUMNS], accumulator)
            h = h_table + n * h_table_n + term * (2 * LENGTH)
            for first in range(0, HALF, INNER):
                k = first + tl.arange(0, INNER)[:, None, None]  # [INNER, 1, 1]; a middle row counts once
                top = terms_of.clean(
                    n, c, k, start, k < HALF, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                    head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, FP64,
                )  # fmt: skip
                bottom = terms_of.clean(
                    n, c, H - 1 - k, start, k < H // 2, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                    head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, FP64,
                )  # fmt: skip
                top, bottom = tl.reshape(top, [INNER, COLUMNS]), tl.reshape(bottom, [INNER, COLUMNS])
                inner = first + tl.arange(0, INNER)[None, :]  # [1, INNER]
                even += tile.product(two_pass.matrix(h, p, inner, 0, LENGTH), top + bottom, PRECISION)
                odd += tile.product(two_pass.matrix(h, p, inner, 1, LENGTH), top - bottom, PRECISION)
            y_top, y_bottom = (even + odd) * (2.0 / H), (even - odd) * (2.0 / H)
            u, _ = terms_of.factors_along_h(term, k1, k2, k3)
            identity = folded.identity_share(alpha) * u.to(accumulator)
            if identity != 0.0:
                k = row_block * ROWS + tl.arange(0, ROWS)[:, None, None]
                top = terms_of.clean(
                    n, c, k, start, k < HALF, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                    head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, FP64,
                )  # fmt: skip
                bottom = terms_of.clean(
                    n, c, H - 1 - k, start, k < H // 2, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                    head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, FP64,
                )  # fmt: skip
                y_top += identity * tl.reshape(top, [ROWS, COLUMNS])
                y_bottom += identity * tl.reshape(bottom, [ROWS, COLUMNS])
            base = middle + (term * images.to(tl.int64) + image) * (H * W) + cols
            tl.store(base + p.to(tl.int64) * W, y_top, mask=(p < HALF) & (cols < W))
            tl.store(base + (H - 1 - p).to(tl.int64) * W, y_bottom, mask=(p < H // 2) & (cols < W))


@triton.jit(
    do_not_specialize=[
        "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11", "c12", "c13", "channels", "images",
    ]
)  # fmt: skip
def terms_rows_kernel(
    x, x_n, x_c, x_h, x_w,
    head_b, b_n, b_c, b_h, b_w,
    head_r, r_n, r_c, r_h, r_w,
    slope, s_n, s_c, s_h, s_w,
    out, out_n, out_c, out_h, out_w,
    slope_out, so_n, so_c, so_h, so_w,
    middle, w_table, w_table_n, table,
    c0: tl.int64, c1: tl.int64, c2: tl.int64, c3: tl.int64, c4: tl.int64, c5: tl.int64, c6: tl.int64,
    c7: tl.int64, c8: tl.int64, c9: tl.int64, c10: tl.int64, c11: tl.int64, c12: tl.int64, c13: tl.int64,
    channels, images,
    TABLE: tl.constexpr, B: tl.constexpr, R: tl.constexpr, SLOPE: tl.constexpr, SLOPE_OUT: tl.constexpr, FAR: tl.constexpr,
    X_UNIT: tl.constexpr, B_UNIT: tl.constexpr, R_UNIT: tl.constexpr, SLOPE_UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr, SLOPE_OUT_UNIT: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, LENGTH: tl.constexpr, FP64: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """The terms' transforms of the rows of ``middle``, and the end. A program writes COLUMNS columns and their mirrors."""
    # The left half owns the middle columns, and whole groups: the right half's first column is SPLIT.
    SPLIT: tl.constexpr = (W + 2 * V - 1) // (2 * V) * V
    row_blocks: tl.constexpr = (H + ROWS - 1) // ROWS
    column_blocks: tl.constexpr = (SPLIT + COLUMNS - 1) // COLUMNS
    G: tl.constexpr = COLUMNS // V
    program = tl.program_id(0)
    first_column = program % column_blocks * COLUMNS
    row_block = program // column_blocks % row_blocks
    image = (program // (column_blocks * row_blocks)).to(tl.int64)
    n, c = image // channels, image % channels
    accumulator = tl.float64 if FP64 else tl.float32
    k1, alpha1 = terms_of.coefficient(table, c4, n, 4, TABLE), terms_of.coefficient(table, c5, n, 5, TABLE)
    k2, k3 = terms_of.coefficient(table, c6, n, 6, TABLE), terms_of.coefficient(table, c7, n, 7, TABLE)
    alpha2 = terms_of.coefficient(table, c8, n, 8, TABLE)
    rows = row_block * ROWS + tl.arange(0, ROWS)[:, None, None]  # [ROWS, 1, 1]
    p = first_column + tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    left_y = tl.zeros([ROWS, COLUMNS], accumulator)
    right_y = tl.zeros([ROWS, COLUMNS], accumulator)
    for term in range(_TERMS):
        there, alpha = terms_of.term_level(term, k1, alpha1, k2, k3, alpha2)
        if there:
            w = w_table + n * w_table_n + term * (2 * LENGTH)
            base = middle + (term * images.to(tl.int64) + image) * (H * W)
            even = tl.zeros([ROWS, COLUMNS], accumulator)
            odd = tl.zeros([ROWS, COLUMNS], accumulator)
            for first in range(0, (W + 1) // 2, INNER):
                left, right = tile.groups(first, INNER // V, V), tile.mirrored_groups(first, W, INNER // V, V)
                left_t = tile.load(base, rows, left, W, 1, rows < H, W, V, 1, True, FP64)
                right_t = tile.load(base, rows, right, W, 1, rows < H, W, V, 1, True, FP64)
                q = first + tl.arange(0, INNER)[None, :]  # [1, INNER]
                left_t = tl.where(q < (W + 1) // 2, tl.reshape(left_t, [ROWS, INNER]), 0.0)
                right_t = tl.where(q < W // 2, tl.reshape(tile.reverse(right_t, V), [ROWS, INNER]), 0.0)
                inner = first + tl.arange(0, INNER)[:, None]  # [INNER, 1]
                even += tile.product(left_t + right_t, two_pass.matrix(w, inner, p, 0, LENGTH), PRECISION)
                odd += tile.product(left_t - right_t, two_pass.matrix(w, inner, p, 1, LENGTH), PRECISION)
            left_y += (even + odd) * (2.0 / W)
            right_y += (even - odd) * (2.0 / W)
            u, _ = terms_of.factors_along_w(term, k3)
            identity = folded.identity_share(alpha) * u.to(accumulator)
            if identity != 0.0:
                left, right = tile.groups(first_column, G, V), tile.mirrored_groups(first_column, W, G, V)
                left_t = tile.load(base, rows, left, W, 1, rows < H, W, V, 1, True, FP64)
                right_t = tile.load(base, rows, right, W, 1, rows < H, W, V, 1, True, FP64)
                left_y += identity * tl.reshape(left_t, [ROWS, COLUMNS])
                right_y += identity * tl.reshape(tile.reverse(right_t, V), [ROWS, COLUMNS])

    k0 = terms_of.coefficient(table, c3, n, 3, TABLE)
    poison = 0.0 * (k0 + k1 + alpha1 + k2 + k3 + alpha2)
    k0 = terms_of.plain_factor(k0, k1, alpha1, k2, k3, alpha2).to(accumulator)
    skip, out_b = terms_of.coefficient(table, c0, n, 0, TABLE), terms_of.coefficient(table, c1, n, 1, TABLE)
    out_r = terms_of.coefficient(table, c2, n, 2, TABLE)
    a, b = terms_of.coefficient(table, c9, n, 9, TABLE), terms_of.coefficient(table, c10, n, 10, TABLE)
    g, p_ = terms_of.coefficient(table, c11, n, 11, TABLE), terms_of.coefficient(table, c12, n, 12, TABLE)
    q_ = terms_of.coefficient(table, c13, n, 13, TABLE)
    poison = (poison + 0.0 * (skip + out_b + out_r + a + b + g + p_ + q_)).to(accumulator)
    skip, out_b, out_r = skip.to(accumulator), out_b.to(accumulator), out_r.to(accumulator)
    a, b, g, p_, q_ = a.to(accumulator), b.to(accumulator), g.to(accumulator), p_.to(accumulator), q_.to(accumulator)
    for part in tl.static_range(2):
        if part == 0:
            start = tile.groups(first_column, G, V)  # [1, G, 1]
            y = tl.reshape(left_y, [ROWS, G, V])
            cols = tile.columns(start, V)
            mask = (rows < H) & (cols < tl.minimum(SPLIT, W))
        else:
            start = tile.mirrored_groups(first_column, W, G, V)
            y = tile.reverse(tl.reshape(right_y, [ROWS, G, V]), V)
            cols = tile.columns(start, V)
            mask = (rows < H) & (cols >= SPLIT)
        y += k0 * terms_of.clean(
            n, c, rows, start, rows < H, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
            head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, FP64,
        )  # fmt: skip
        terms_of.finish(
            y, n, c, rows, start, rows < H, mask, a, b, g, p_, q_, poison, x, x_n, x_c, x_h, x_w, X_UNIT,
            slope, s_n, s_c, s_h, s_w, SLOPE, SLOPE_UNIT, out, out_n, out_c, out_h, out_w, OUT_UNIT,
            slope_out, so_n, so_c, so_h, so_w, SLOPE_OUT, SLOPE_OUT_UNIT, W, V, FAR, FP64,
        )  # fmt: skip


def _table(n: int, along_w: bool, x: Tensor, step: launch.SamplerStep, dtype: torch.dtype) -> Tensor:
    """h of an axis of n pixels: ``[samples, terms, 2, n + padding]``, one row if the coefficients are the same for all."""
    length = n + two_pass.TABLE_PADDING
    out = torch.empty((x.shape[0] if step.flags["TABLE"] else 1, TERMS, 2, length), dtype=dtype, device=x.device)
    programs = out.shape[0] * TERMS * 2 * -(-length // two_pass.TABLE_BLOCK)
    terms_table_kernel[(programs,)](
        out, step.coefficients[0], *step.coefficients[5:10],
        N=n, LENGTH=length, ALONG_W=along_w, TABLE=step.flags["TABLE"], BLOCK=two_pass.TABLE_BLOCK,
        num_warps=4, num_stages=1, maxnreg=255, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def launch_two_pass(chosen: Config, x: Tensor, step: launch.SamplerStep) -> None:
    """The launches for one view of x; see `warmops.triton.sampler_step.sampler_step`."""
    H, W = x.shape[-2:]
    samples, channels = x.shape[0], x[0].numel() // (H * W)
    images = samples * channels
    working = torch.float64 if x.dtype == torch.float64 else torch.float32
    middle = torch.empty((TERMS, images, H, W), dtype=working, device=x.device)
    h_table, w_table = _table(H, False, x, step, working), _table(W, True, x, step, working)
    table_n = [t.stride(0) if step.flags["TABLE"] else 0 for t in (h_table, w_table)]
    options: dict[str, Any] = {
        "H": H, "W": W, "V": step.vector, "FP64": working == torch.float64, "PRECISION": chosen.precision,
        "ROWS": chosen.block_rows, "COLUMNS": chosen.block_columns, "INNER": chosen.block_inner,
        "num_warps": chosen.num_warps, "num_stages": chosen.num_stages, "enable_fp_fusion": False,
    }  # fmt: skip
    rows, columns = chosen.block_rows, chosen.block_columns
    column_programs = -(-((H + 1) // 2) // rows) * -(-W // columns)
    read = {name: step.flags[name] for name in ("TABLE", "B", "R", "FAR", "X_UNIT", "B_UNIT", "R_UNIT")}
    terms_columns_kernel[(images * column_programs,)](
        *step.tensor_arguments[:15], middle, h_table, table_n[0],
        *step.coefficients[:4], *step.coefficients[5:10], channels, images,
        **read, LENGTH=h_table.shape[3], **options,
    )  # fmt: skip
    split = -(-W // (2 * step.vector)) * step.vector
    row_programs = -(-H // rows) * -(-split // columns)
    terms_rows_kernel[(images * row_programs,)](
        *step.tensor_arguments, middle, w_table, table_n[1], *step.coefficients, channels, images,
        **step.flags, LENGTH=w_table.shape[3], **options,
    )  # fmt: skip
