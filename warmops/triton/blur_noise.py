"""Fused blur and noise for images of up to 128 pixels a side: one launch, and no intermediate image in memory.

A program owns a panel of one channel (see panel.py). It transforms all rows at its columns, then these columns, each time
by folding: an even and an odd half, a matrix of half the size for each, unfolding. The programs of an image read all of
it, from cache but for the first, and repeat no product.
What must fit is registers. So the work goes in blocks, in loops that stay loops; the matrices are not kept, but read,
block by block, out of the two tables of numbers they are made of (`folded.table`); and there is no loop over channels,
out of which the compiler would take the addresses of all that.
Source: Hsueh et al., Warm Diffusion, ICLR 2025 (the forward process); the folding is ours.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from warmops.triton import folded, launch, panel, tile
from warmops.triton.blur_noise_two_pass import launch_two_pass
from warmops.triton.config import config


@triton.jit
def _rows_pass(
    base, x_h, x_w, even, odd, identity, unblurred, first_column, block,
    H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr, FAR: tl.constexpr,
    BLOCK: tl.constexpr, SLICE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Blur BLOCK pairs of rows along themselves at the panel's columns: left and right part, [2 BLOCK, BLOCK] each."""
    G: tl.constexpr = BLOCK // V
    rows, owned = panel.rows_and_owned(block, H, BLOCK)
    left_s = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    right_s = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    for first in range(0, tl.where(unblurred, 0, (W + 1) // 2), SLICE):
        left, right = tile.groups(first, SLICE // V, V), tile.mirrored_groups(first, W, SLICE // V, V)  # [1, G, 1]
        left_x = tile.load(base, rows, left, x_h, x_w, owned, W, V, UNIT, FAR)  # [2 BLOCK, G, V]
        right_x = tile.load(base, rows, right, x_h, x_w, owned, W, V, UNIT, FAR)
        left_x = tl.reshape(left_x, [2 * BLOCK, SLICE])
        right_x = tl.reshape(tile.reverse(right_x, V), [2 * BLOCK, SLICE])
        left_s, right_s = panel.rows_product(left_x, right_x, even, odd, left_s, right_s, first, first_column, W, BLOCK, SLICE, PRECISION)
    left_s, right_s = left_s * (2.0 / W), right_s * (2.0 / W)
    if identity != 0.0:
        left, right = tile.groups(first_column, G, V), tile.mirrored_groups(first_column, W, G, V)
        left_x = tile.load(base, rows, left, x_h, x_w, owned, W, V, UNIT, FAR)
        right_x = tile.load(base, rows, right, x_h, x_w, owned, W, V, UNIT, FAR)
        left_s += tl.reshape(left_x, [2 * BLOCK, BLOCK])
        right_s += tl.reshape(tile.reverse(right_x, V), [2 * BLOCK, BLOCK])
    counts = tl.reshape(owned, [2 * BLOCK, 1])
    return tl.where(counts, left_s, 0.0), tl.where(counts, right_s, 0.0)


@triton.jit(do_not_specialize=["alpha", "beta", "scale", "seed", "channels", "channel0"])
def blur_noise_kernel(
    x, x_n, x_c, x_h, x_w,
    out, out_n, out_c, out_h, out_w,
    blurred, blurred_n, blurred_c, blurred_h, blurred_w,
    noise, noise_n, noise_c, noise_h, noise_w,
    alpha, alpha_n, beta, beta_n, scale, scale_n, seed, seed_n, channels, channel0,
    ALPHA_TENSOR: tl.constexpr, BETA_TENSOR: tl.constexpr, SCALE_TENSOR: tl.constexpr, SEED_TENSOR: tl.constexpr,
    HAS_SCALE: tl.constexpr, NOISE: tl.constexpr, BLURRED: tl.constexpr, WIDE: tl.constexpr, FAR: tl.constexpr,
    X_UNIT: tl.constexpr, OUT_UNIT: tl.constexpr, BLURRED_UNIT: tl.constexpr, NOISE_UNIT: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, P_H: tl.constexpr, P_W: tl.constexpr, V: tl.constexpr,
    BLOCK: tl.constexpr, SLICE: tl.constexpr, PANELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    G: tl.constexpr = BLOCK // V
    blocks: tl.constexpr = P_H // BLOCK  # of pairs of rows: 1 or 2
    program = tl.program_id(0)
    first_column = program % PANELS * BLOCK
    n = (program // PANELS // channels).to(tl.int64)
    c = (program // PANELS % channels).to(tl.int64)
    level = folded.checked_level(tile.level(alpha, alpha_n, n, ALPHA_TENSOR))
    identity = folded.identity_share(level)
    unblurred = level == 0.0
    noise_level = folded.checked_level(tile.level(beta, beta_n, n, BETA_TENSOR)).to(tl.float32)
    factor = tile.level(scale, scale_n, n, SCALE_TENSOR).to(tl.float32)
    key = tile.sample_seed(seed, seed_n, n, SEED_TENSOR)
    h_cosines = folded.cosines(H, 4 * P_H)
    h_even, h_odd = folded.tables(h_cosines, level, H, 2 * P_H)
    if H == W:
        w_even, w_odd = h_even, h_odd
    else:
        w_cosines = folded.cosines(W, 4 * P_W)
        w_even, w_odd = folded.tables(w_cosines, level, W, 2 * P_W)

    base = tile.image(x, n, c, x_n, x_c, X_UNIT)
    left0 = tl.zeros([2 * BLOCK, BLOCK], tl.float32)
    right0, left1, right1 = left0, left0, left0
    for block in range(blocks):
        left1, right1 = _rows_pass(
            base, x_h, x_w, w_even, w_odd, identity, unblurred, first_column, block, H, W, V, X_UNIT, FAR, BLOCK, SLICE, PRECISION
        )
        left0, right0 = tl.where(block == 0, left1, left0), tl.where(block == 0, right1, right0)
    for part in range(2 * blocks):
        block = part // 2
        mirrored = part % 2 == 1
        s0, s1 = tl.where(mirrored, right0, left0), tl.where(mirrored, right1, left1)
        y = identity * tl.where(block == 1, s1, s0)
        for inner in range(blocks):
            y += panel.columns_product(tl.where(inner == 1, s1, s0), h_even, h_odd, block, inner, H, BLOCK, SLICE, PRECISION)
        y = tl.reshape(y, [2 * BLOCK, G, V])
        y = tl.where(mirrored, tile.reverse(y, V), y)
        rows, owned, start, mask = panel.part_of_panel(part, first_column, H, W, V, BLOCK)
        if unblurred:  # x itself, bit for bit
            y = tile.load(base, rows, start, x_h, x_w, owned, W, V, X_UNIT, FAR)
        tile.finish(
            y, rows, start, mask, n, c, channel0, noise_level, factor, key, H, W, V,
            out, out_n, out_c, out_h, out_w, OUT_UNIT,
            blurred, blurred_n, blurred_c, blurred_h, blurred_w, BLURRED, BLURRED_UNIT,
            noise, noise_n, noise_c, noise_h, noise_w, NOISE, NOISE_UNIT,
            HAS_SCALE, False, WIDE, FAR,
        )  # fmt: skip


def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    seed: int | Tensor | None,
    noise: Tensor | None,
    scale: float | Tensor,
    out: Tensor,
    blurred: Tensor | None,
) -> None:
    """Write ``scale * (A x + noise_sigma * eps)`` into ``out`` and ``A x`` into ``blurred``; arguments are checked already.

    x: ``[N, *dims, H, W]``. A level that is negative or NaN in a tensor makes its sample NaN.
    """
    H, W = x.shape[-2:]
    chosen = config(H, W, x.dtype)
    with launch.on(x.device):
        for channel0, (x_, out_, blurred_, noise_) in launch.splits([x, out, blurred, noise]):
            assert x_ is not None and out_ is not None
            step = launch.Step(x_, blur_sigma, noise_sigma, seed, noise_, scale, out_, blurred_)
            if not chosen.fused:
                launch_two_pass(chosen, x_, step, channel0)
                continue
            samples, channels = x_.shape[0], x_[0].numel() // (H * W)
            blur_noise_kernel[(samples * channels * chosen.panels,)](
                *step.tensor_arguments, *step.level_arguments, channels, channel0,
                **step.flags, H=H, W=W, P_H=chosen.p_h, P_W=chosen.p_w, V=step.vector,
                BLOCK=chosen.block, SLICE=chosen.block_inner, PANELS=chosen.panels, PRECISION=chosen.precision,
                num_warps=chosen.num_warps, num_stages=chosen.num_stages, maxnreg=chosen.max_registers,
                enable_fp_fusion=False,
            )  # fmt: skip
