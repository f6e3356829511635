"""Fused blur and noise for small images: one launch, one read of x, one write of x_t, nothing in between.

A program owns some channels of one sample. It builds the sample's folded blur matrices once, and for each channel
transforms the rows and then the columns: fold into an even and an odd half, multiply each by a matrix of half the size,
unfold. The right half is held mirrored, and rows of equal distance from top and bottom next to each other, so that folding
adds and subtracts neighbours.
Source: Hsueh et al., Warm Diffusion, ICLR 2025 (the forward process); the folding is ours.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from warmops.triton import folded, launch, tile
from warmops.triton.blur_noise_two_pass import launch_two_pass
from warmops.triton.config import config


@triton.jit
def _load(base, rows, start, h, w, mask, V: tl.constexpr, UNIT: tl.constexpr, FAR: tl.constexpr):
    source = base + tile.offsets(rows, tile.columns(start, V), h, w, UNIT, FAR)
    return tile.pixels(tl.load(source, mask=mask, other=0), False)


@triton.jit
def _matrix(t, P_H: tl.constexpr, P_W: tl.constexpr, V: tl.constexpr, MIRRORED: tl.constexpr):
    """A tile [2 P_H, G, V] as a matrix [2 P_H, P_W] in the order of the folded axes."""
    if MIRRORED:
        t = tile.reverse(t, V)
    return tl.reshape(t, [2 * P_H, P_W])


@triton.jit
def _kept(t, inside, ALL: tl.constexpr):
    """t without what is padding, or belongs to the other half, before a sum over it."""
    if ALL:
        return t
    else:
        return tl.where(inside, t, 0.0)


@triton.jit
def _columns_pass(t, even, odd, H: tl.constexpr, P_H: tl.constexpr, P_W: tl.constexpr, PRECISION: tl.constexpr):
    """Fold, multiply and unfold the columns. t: [2 P_H, P_W], row p from the top and from the bottom next to each other."""
    top, bottom = tl.split(tl.permute(tl.reshape(t, [P_H, 2, P_W]), [0, 2, 1]))  # [P_H, P_W] each
    e = tile.product(even, top + bottom, PRECISION)
    o = tile.product(odd, top - bottom, PRECISION)
    return tl.reshape(tl.permute(tl.join(e + o, e - o), [0, 2, 1]), [2 * P_H, P_W]) * (2.0 / H)


@triton.jit(
    do_not_specialize=[
        "alpha", "beta", "scale", "seed", "channels", "channels_per_program", "programs_per_sample", "channel0",
    ]
)  # fmt: skip
def blur_noise_kernel(
    x, x_n, x_c, x_h, x_w,
    out, out_n, out_c, out_h, out_w,
    blurred, blurred_n, blurred_c, blurred_h, blurred_w,
    noise, noise_n, noise_c, noise_h, noise_w,
    alpha, alpha_n, beta, beta_n, scale, scale_n, seed, seed_n,
    channels, channels_per_program, programs_per_sample, channel0,
    ALPHA_TENSOR: tl.constexpr, BETA_TENSOR: tl.constexpr, SCALE_TENSOR: tl.constexpr, SEED_TENSOR: tl.constexpr,
    HAS_SCALE: tl.constexpr, NOISE: tl.constexpr, BLURRED: tl.constexpr, WIDE: tl.constexpr, FAR: tl.constexpr,
    X_UNIT: tl.constexpr, OUT_UNIT: tl.constexpr, BLURRED_UNIT: tl.constexpr, NOISE_UNIT: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, P_H: tl.constexpr, P_W: tl.constexpr, V: tl.constexpr,
    RELOAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    n = (program // programs_per_sample).to(tl.int64)
    first_channel = (program % programs_per_sample) * channels_per_program
    count = tl.minimum(channels_per_program, channels - first_channel)
    level = folded.checked_level(tile.level(alpha, alpha_n, n, ALPHA_TENSOR))
    identity = folded.identity_share(level)
    unblurred = level == 0.0
    noise_level = folded.checked_level(tile.level(beta, beta_n, n, BETA_TENSOR)).to(tl.float32)
    factor = tile.level(scale, scale_n, n, SCALE_TENSOR).to(tl.float32)
    key = tile.sample_seed(seed, seed_n, n, SEED_TENSOR)

    h_even = folded.folded_matrix(level, H, P_H, 0, PRECISION)  # [P_H, P_H]
    h_odd = folded.folded_matrix(level, H, P_H, 1, PRECISION)
    if H == W:
        w_even = h_even
        w_odd = h_odd
    else:
        w_even = folded.folded_matrix(level, W, P_W, 0, PRECISION)  # [P_W, P_W]
        w_odd = folded.folded_matrix(level, W, P_W, 1, PRECISION)

    # Two tiles, the left half and the mirrored right half. Their rows go p = 0 from the top and from the bottom, p = 1
    # from the top and from the bottom, ... The left half owns the middle columns, and whole groups: the right half's
    # first column is SPLIT.
    G: tl.constexpr = P_W // V
    SPLIT: tl.constexpr = (W + 2 * V - 1) // (2 * V) * V
    ALL_H: tl.constexpr = H == 2 * P_H
    ALL_W: tl.constexpr = W == 2 * P_W
    for i in range(count):
        c = first_channel.to(tl.int64) + i
        # Carried by the loop (the condition always holds), so that the compiler keeps the matrices themselves in
        # registers, and not, through all of the loop, the many times larger operands that the products make of them.
        h_even, h_odd = tl.where(channels > 0, h_even, 0.0), tl.where(channels > 0, h_odd, 0.0)
        if H == W:
            w_even, w_odd = h_even, h_odd
        else:
            w_even, w_odd = tl.where(channels > 0, w_even, 0.0), tl.where(channels > 0, w_odd, 0.0)
        # i >> 30 is zero, which the compiler cannot know: it would compute all that follows ahead of the loop and hold it
        # in registers that the products need.
        r = tl.arange(0, 2 * P_H) + (i >> 30)
        row = tl.where(r % 2 == 0, r // 2, H - 1 - r // 2)
        own = r // 2 < tl.where(r % 2 == 0, (H + 1) // 2, H // 2)  # [2 P_H]: a middle row counts once, with the top
        rows, in_rows, row_kept = row[:, None, None], own[:, None, None], own[:, None]
        left, right = tile.groups(0, G, V), tile.mirrored_groups(0, W, G, V)  # [1, G, 1]
        left_columns, right_columns = tile.columns(left, V), tile.columns(right, V)  # [1, G, V]
        q = tl.arange(0, P_W)[None, :]
        inner = q < (W + 1) // 2  # [1, P_W]: the folded half
        not_middle = q != W // 2  # a middle column counts once, with the left
        base = tile.image(x, n, c, x_n, x_c, X_UNIT)
        left_x = _load(base, rows, left, x_h, x_w, in_rows & (left_columns < W), V, X_UNIT, FAR)  # [2 P_H, G, V]
        right_x = _load(base, rows, right, x_h, x_w, in_rows & (right_columns >= 0), V, X_UNIT, FAR)
        left_m = _matrix(left_x, P_H, P_W, V, False)  # [2 P_H, P_W]
        right_m = _kept(_matrix(right_x, P_H, P_W, V, True), not_middle, W % 2 == 0)

        # Along the rows: fold, multiply, unfold. Columns of the left tile beyond the middle are not summed, but what the
        # formulas give there is right as well, so that the tile can store whole groups.
        e = tile.product(_kept(left_m + right_m, inner, ALL_W), w_even, PRECISION)
        o = tile.product(_kept(left_m - right_m, inner, ALL_W), w_odd, PRECISION)
        left_t, right_t = (e + o) * (2.0 / W), (e - o) * (2.0 / W)

        # Along the columns, of x + t with the identity split and of t without.
        left_s = _kept(identity * left_m + left_t, row_kept, ALL_H)
        right_s = _kept(identity * right_m + right_t, row_kept, ALL_H)
        left_y = identity * left_t + _columns_pass(left_s, h_even, h_odd, H, P_H, P_W, PRECISION)
        right_y = identity * right_t + _columns_pass(right_s, h_even, h_odd, H, P_H, P_W, PRECISION)

        for part in tl.static_range(2):
            if part == 0:
                y, old, start = left_y, left_x, left
                mask = in_rows & (left_columns < tl.minimum(SPLIT, W))  # [2 P_H, G, V]
            else:
                y, old, start = right_y, right_x, right
                mask = in_rows & (right_columns >= SPLIT)
            y = tl.reshape(y, [2 * P_H, G, V])
            if part == 1:
                y = tile.reverse(y, V)
            if RELOAD:
                # Read x again, from cache, rather than hold it in registers through the products.
                if identity != 0.0:
                    old = _load(base, rows, start, x_h, x_w, mask, V, X_UNIT, FAR)
                    y = tl.where(unblurred, old, old + y)
            else:
                y = tl.where(unblurred, old, identity * old + y)
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
    capability, multiprocessors = launch.device_properties(x.device)
    chosen = config(H, W, x.dtype, capability)
    with launch.on(x.device):
        for channel0, (x_, out_, blurred_, noise_) in launch.splits([x, out, blurred, noise]):
            assert x_ is not None and out_ is not None
            step = launch.Step(x_, blur_sigma, noise_sigma, seed, noise_, scale, out_, blurred_)
            if not chosen.fused:
                launch_two_pass(chosen, x_, step, channel0)
                continue
            samples, channels = x_.shape[0], x_[0].numel() // (H * W)
            per_program = launch.channels_per_program(samples, channels, multiprocessors, chosen.programs)
            programs = -(-channels // per_program)
            blur_noise_kernel[(samples * programs,)](
                *step.tensor_arguments,
                *step.level_arguments,
                channels, per_program, programs, channel0,
                **step.flags,
                H=H, W=W, P_H=chosen.p_h, P_W=chosen.p_w, V=step.vector,
                RELOAD=chosen.reload, PRECISION=chosen.precision,
                num_warps=chosen.num_warps, num_stages=chosen.num_stages, enable_fp_fusion=False,
            )  # fmt: skip
