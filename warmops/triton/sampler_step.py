"""One update of a blur-noise sampler, fused: the linear form of `warmops.sampler_step` in one launch.

A program owns one block of rows of a panel. It transforms it, as in blur_noise.py, by one separable term after the other
(see sampler_terms.py) and adds them up; a term whose factors are zero costs nothing. The clean image x0 is put together
from the state and the network's heads wherever it is read. Where there are two blocks, both programs of a panel transform the
rows of both: the sums of two do not fit in registers.
Sources: Hsueh et al., Warm Diffusion, ICLR 2025; Karras et al., EDM, NeurIPS 2022 (the steps); the form is ours.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from warmops.triton import folded, launch, panel, tile
from warmops.triton import sampler_terms as terms_of
from warmops.triton.config import step_config
from warmops.triton.sampler_step_two_pass import launch_two_pass


@triton.jit
def _rows_pass(
    n, c, skip, out_b, out_r,
    x, x_n, x_c, x_h, x_w, X_UNIT: tl.constexpr,
    head_b, b_n, b_c, b_h, b_w, B: tl.constexpr, B_UNIT: tl.constexpr,
    head_r, r_n, r_c, r_h, r_w, R: tl.constexpr, R_UNIT: tl.constexpr,
    even, odd, identity, first_column, block, zero,
    H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, FAR: tl.constexpr, BLOCK: tl.constexpr, SLICE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """BLOCK pairs of rows of x0, transformed along themselves at the panel's columns: left and right, [2 BLOCK, BLOCK] each."""
    G: tl.constexpr = BLOCK // V
    rows, owned = panel.rows_and_owned(block, H, BLOCK)
    left_s = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    right_s = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    for first in range(0, (W + 1) // 2, SLICE):
        left_x = tl.zeros([2 * BLOCK, SLICE], tl.float32)
        right_x = tl.zeros([2 * BLOCK, SLICE], tl.float32)
        for side in range(2):
            start = tile.groups_of_side(first, side == 1, W, SLICE // V, V)  # [1, G, 1]
            x0 = terms_of.clean(
                n, c, rows, start, owned, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, False,
            )  # fmt: skip
            right_x = tl.reshape(tl.where(side == 1, tile.reverse(x0, V), x0), [2 * BLOCK, SLICE])
            left_x = tl.where(side == 1, left_x, right_x)
        left_s, right_s = panel.rows_product(
            left_x, right_x, even, odd, left_s, right_s, first, first_column + zero, W, BLOCK, SLICE, PRECISION
        )
    left_s, right_s = left_s * (2.0 / W), right_s * (2.0 / W)
    if identity != 0.0:
        for side in range(2):
            start = tile.groups_of_side(first_column, side == 1, W, G, V)
            x0 = terms_of.clean(
                n, c, rows, start, owned, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, False,
            )  # fmt: skip
            x0 = identity * tl.reshape(tl.where(side == 1, tile.reverse(x0, V), x0), [2 * BLOCK, BLOCK])
            left_s += tl.where(side == 1, 0.0, x0)
            right_s += tl.where(side == 1, x0, 0.0)
    counts = tl.reshape(owned, [2 * BLOCK, 1])
    return tl.where(counts, left_s, 0.0), tl.where(counts, right_s, 0.0)


@triton.jit(
    do_not_specialize=[
        "c0",
        "c1",
        "c2",
        "c3",
        "c4",
        "c5",
        "c6",
        "c7",
        "c8",
        "c9",
        "c10",
        "c11",
        "c12",
        "c13",
        "channels",
        "terms",
        "blocks",
    ]
)
def sampler_step_kernel(
    x, x_n, x_c, x_h, x_w,
    head_b, b_n, b_c, b_h, b_w,
    head_r, r_n, r_c, r_h, r_w,
    slope, s_n, s_c, s_h, s_w,
    out, out_n, out_c, out_h, out_w,
    slope_out, so_n, so_c, so_h, so_w,
    table,
    c0: tl.int64, c1: tl.int64, c2: tl.int64, c3: tl.int64, c4: tl.int64, c5: tl.int64, c6: tl.int64,
    c7: tl.int64, c8: tl.int64, c9: tl.int64, c10: tl.int64, c11: tl.int64, c12: tl.int64, c13: tl.int64,
    channels, terms, blocks,
    TABLE: tl.constexpr, B: tl.constexpr, R: tl.constexpr, SLOPE: tl.constexpr, SLOPE_OUT: tl.constexpr, FAR: tl.constexpr,
    X_UNIT: tl.constexpr, B_UNIT: tl.constexpr, R_UNIT: tl.constexpr, SLOPE_UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr, SLOPE_OUT_UNIT: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, P_H: tl.constexpr, P_W: tl.constexpr, V: tl.constexpr,
    BLOCK: tl.constexpr, SLICE: tl.constexpr, PANELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """terms: 3; blocks: P_H // BLOCK. Were they constants, the compiler would see through ``zero`` and ``nought`` below."""
    G: tl.constexpr = BLOCK // V
    program = tl.program_id(0)
    first_column = program % PANELS * BLOCK
    block = program // PANELS % (P_H // BLOCK)
    n = (program // (PANELS * blocks) // channels).to(tl.int64)
    c = (program // (PANELS * blocks) % channels).to(tl.int64)
    skip, out_b = terms_of.coefficient(table, c0, n, 0, TABLE), terms_of.coefficient(table, c1, n, 1, TABLE)
    out_r = terms_of.coefficient(table, c2, n, 2, TABLE)
    k1, alpha1 = terms_of.coefficient(table, c4, n, 4, TABLE), terms_of.coefficient(table, c5, n, 5, TABLE)
    k2, k3 = terms_of.coefficient(table, c6, n, 6, TABLE), terms_of.coefficient(table, c7, n, 7, TABLE)
    alpha2 = terms_of.coefficient(table, c8, n, 8, TABLE)
    skip, out_b, out_r = skip.to(tl.float32), out_b.to(tl.float32), out_r.to(tl.float32)
    k1, k2, k3 = k1.to(tl.float32), k2.to(tl.float32), k3.to(tl.float32)

    left_y = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    right_y = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    for term in range(terms):
        there, alpha = terms_of.term_level(term, k1, alpha1, k2, k3, alpha2)
        if there:
            # Zero, but the compiler cannot know: it would compute all addresses ahead of the loop and hold them in
            # registers that the products need.
            zero = term >> 2
            alpha = folded.checked_level(alpha)
            identity = folded.identity_share(alpha)
            h_u, h_v = terms_of.factors_along_h(term, k1, k2, k3)
            w_u, w_v = terms_of.factors_along_w(term, k3)
            cosines = folded.cosines(H, 4 * P_H, zero)
            h_even, h_odd = folded.tables(cosines, alpha, H, 2 * P_H, h_u, h_v, zero, True)
            if H != W:
                cosines = folded.cosines(W, 4 * P_W, zero)
            w_even, w_odd = folded.tables(cosines, alpha, W, 2 * P_W, w_u, w_v, zero, True)
            left0 = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
            right0, left1, right1 = left0, left0, left0
            for inner in range(blocks if P_H > BLOCK else 1):
                nought = zero + (inner >> 2)
                left1, right1 = _rows_pass(
                    n, c, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
                    head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT,
                    w_even, w_odd, w_u * identity, first_column, inner + nought, nought, H, W, V, FAR, BLOCK, SLICE, PRECISION,
                )  # fmt: skip
                left0, right0 = tl.where(inner == 0, left1, left0), tl.where(inner == 0, right1, right0)
            for side in range(2):
                s0, s1 = tl.where(side == 1, right0, left0), tl.where(side == 1, right1, left1)
                y = h_u * identity * tl.where(block == 1, s1, s0)
                for inner in range(blocks if P_H > BLOCK else 1):
                    nought = zero + (inner >> 2)
                    s = tl.where(inner == 1, s1, s0)
                    y += panel.columns_product(s, h_even, h_odd, block + nought, inner, H, BLOCK, SLICE, PRECISION)
                left_y += tl.where(side == 0, y, 0.0)
                right_y += tl.where(side == 1, y, 0.0)

    # Read as late as this for the sake of registers.
    k0 = terms_of.coefficient(table, c3, n, 3, TABLE).to(tl.float32)
    a, b = terms_of.coefficient(table, c9, n, 9, TABLE), terms_of.coefficient(table, c10, n, 10, TABLE)
    g, p = terms_of.coefficient(table, c11, n, 11, TABLE), terms_of.coefficient(table, c12, n, 12, TABLE)
    q = terms_of.coefficient(table, c13, n, 13, TABLE)
    a, b, g, p, q = a.to(tl.float32), b.to(tl.float32), g.to(tl.float32), p.to(tl.float32), q.to(tl.float32)
    # NaN where any of them is, whatever it would have been multiplied by.
    poison = 0.0 * (skip + out_b + out_r + k0 + k1 + k2 + k3 + (alpha1 + alpha2).to(tl.float32) + a + b + g + p + q)
    k0 = terms_of.plain_factor(k0, k1, alpha1, k2, k3, alpha2)
    for side in range(2):
        rows, owned, start, mask = panel.part_of_panel(2 * block + side, first_column, H, W, V, BLOCK)
        y = tl.reshape(tl.where(side == 1, right_y, left_y), [2 * BLOCK, G, V])
        y = tl.where(side == 1, tile.reverse(y, V), y)
        y += k0 * terms_of.clean(
            n, c, rows, start, owned, skip, out_b, out_r, x, x_n, x_c, x_h, x_w, X_UNIT,
            head_b, b_n, b_c, b_h, b_w, B, B_UNIT, head_r, r_n, r_c, r_h, r_w, R, R_UNIT, W, V, FAR, False,
        )  # fmt: skip
        terms_of.finish(
            y, n, c, rows, start, owned, mask, a, b, g, p, q, poison, x, x_n, x_c, x_h, x_w, X_UNIT,
            slope, s_n, s_c, s_h, s_w, SLOPE, SLOPE_UNIT, out, out_n, out_c, out_h, out_w, OUT_UNIT,
            slope_out, so_n, so_c, so_h, so_w, SLOPE_OUT, SLOPE_OUT_UNIT, W, V, FAR, False,
        )  # fmt: skip


def sampler_step(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: tuple[float, ...] | Tensor,
    out: Tensor,
    slope_out: Tensor | None,
) -> None:
    """Write the next state into ``out`` and the slope into ``slope_out``; see `warmops.sampler_step` for the arguments.

    x: ``[N, *dims, H, W]``; checked already. A sample with a NaN, an infinity or a negative blur level among its
    coefficients becomes NaN.
    """
    H, W = x.shape[-2:]
    chosen = step_config(H, W, x.dtype)
    with launch.on(x.device):
        for _, views in launch.splits([x, head_b, head_r, slope, out, slope_out]):
            x_ = views[0]
            assert x_ is not None
            step = launch.SamplerStep(views, coefficients)
            if not chosen.fused:
                launch_two_pass(chosen, x_, step)
                continue
            samples, channels = x_.shape[0], x_[0].numel() // (H * W)
            blocks = chosen.p_h // chosen.block
            sampler_step_kernel[(samples * channels * chosen.panels * blocks,)](
                *step.tensor_arguments, *step.coefficients, channels, 3, blocks,
                **step.flags, H=H, W=W, P_H=chosen.p_h, P_W=chosen.p_w, V=step.vector,
                BLOCK=chosen.block, SLICE=chosen.block_inner, PANELS=chosen.panels, PRECISION=chosen.precision,
                num_warps=chosen.num_warps, num_stages=chosen.num_stages, maxnreg=chosen.max_registers,
                enable_fp_fusion=False,
            )  # fmt: skip
