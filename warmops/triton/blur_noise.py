"""Fused blur and noise for small images: one launch, one read of x, one write of x_t, nothing in between.

A program owns some channels of one sample. It builds the sample's folded blur matrices once, and for each channel
transforms the rows and then the columns: fold into an even and an odd half, multiply each by a matrix of half the size,
unfold. The image is held as four quarters, mirrored so that folding adds and subtracts equal places.
Source: Hsueh et al., Warm Diffusion, ICLR 2025 (the forward process); the folding is ours.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from warmops.triton import folded, launch, tile
from warmops.triton.config import Config, config


@triton.jit
def _load(base, rows, start, h, w, mask, V: tl.constexpr, UNIT: tl.constexpr, FAR: tl.constexpr):
    source = base + tile.offsets(rows, tile.columns(start, V), h, w, UNIT, FAR)
    return tile.pixels(tl.load(source, mask=mask, other=0), False)


@triton.jit
def _matrix(t, P_H: tl.constexpr, P_W: tl.constexpr, V: tl.constexpr, MIRRORED: tl.constexpr):
    """A loaded tile [P_H, G, V] as a matrix [P_H, P_W] in the order of the folded axes."""
    if MIRRORED:
        t = tile.reverse(t, V)
    return tl.reshape(t, [P_H, P_W])


@triton.jit
def _kept(t, inside, ALL: tl.constexpr):
    """t without what is padding, or belongs to the other half, before a sum over it."""
    if ALL:
        return t
    else:
        return tl.where(inside, t, 0.0)


@triton.jit
def _unfolded(y, P_H: tl.constexpr, G: tl.constexpr, V: tl.constexpr, MIRRORED: tl.constexpr):
    y = tl.reshape(y, [P_H, G, V])
    if MIRRORED:
        y = tile.reverse(y, V)
    return y


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

    # The left half owns the middle columns, and whole groups: SPLIT is where the right half begins.
    G: tl.constexpr = P_W // V
    SPLIT: tl.constexpr = (W + 2 * V - 1) // (2 * V) * V
    p = tl.arange(0, P_H)[:, None, None]
    top, bottom = p, H - 1 - p  # [P_H, 1, 1]
    left, right = tile.groups(0, G, V), tile.mirrored_groups(0, W, G, V)  # [1, G, 1]
    in_top, in_bottom = p < (H + 1) // 2, p < H // 2
    left_columns, right_columns = tile.columns(left, V), tile.columns(right, V)  # [1, G, V]
    load_left, load_right = left_columns < W, right_columns >= 0
    store_left, store_right = left_columns < tl.minimum(SPLIT, W), right_columns >= SPLIT
    EXACT_H: tl.constexpr = H == 2 * P_H
    EXACT_W: tl.constexpr = W == 2 * P_W
    r = tl.arange(0, P_H)[:, None]
    r_top, r_bottom = r < (H + 1) // 2, r < H // 2  # [P_H, 1]: a middle row is summed once, with the top
    q = tl.arange(0, P_W)[None, :]
    q_inner = q < (W + 1) // 2  # [1, P_W]
    q_right = (q != W // 2) | (W % 2 == 0)  # a middle column is summed once, with the left

    for i in range(0, count):
        c = first_channel.to(tl.int64) + i
        # Carried by the loop (the condition always holds), so that the compiler keeps the matrices themselves in
        # registers, and not, through all of the loop, the many times larger operands that the products make of them.
        h_even, h_odd = tl.where(channels > 0, h_even, 0.0), tl.where(channels > 0, h_odd, 0.0)
        if H == W:
            w_even, w_odd = h_even, h_odd
        else:
            w_even, w_odd = tl.where(channels > 0, w_even, 0.0), tl.where(channels > 0, w_odd, 0.0)
        base = tile.image(x, n, c, x_n, x_c, X_UNIT)
        tl_x = _load(base, top, left, x_h, x_w, in_top & load_left, V, X_UNIT, FAR)  # [P_H, G, V]
        tr_x = _load(base, top, right, x_h, x_w, in_top & load_right, V, X_UNIT, FAR)
        bl_x = _load(base, bottom, left, x_h, x_w, in_bottom & load_left, V, X_UNIT, FAR)
        br_x = _load(base, bottom, right, x_h, x_w, in_bottom & load_right, V, X_UNIT, FAR)
        tl_m = _matrix(tl_x, P_H, P_W, V, False)  # [P_H, P_W]
        tr_m = _kept(_matrix(tr_x, P_H, P_W, V, True), q_right, W % 2 == 0)
        bl_m = _matrix(bl_x, P_H, P_W, V, False)
        br_m = _kept(_matrix(br_x, P_H, P_W, V, True), q_right, W % 2 == 0)

        # Along the rows: fold, multiply, unfold. Each matrix is used up before the next, which saves registers.
        top_even = tile.product(_kept(tl_m + tr_m, q_inner, EXACT_W), w_even, PRECISION) * (2.0 / W)
        bottom_even = tile.product(_kept(bl_m + br_m, q_inner, EXACT_W), w_even, PRECISION) * (2.0 / W)
        top_odd = tile.product(_kept(tl_m - tr_m, q_inner, EXACT_W), w_odd, PRECISION) * (2.0 / W)
        bottom_odd = tile.product(_kept(bl_m - br_m, q_inner, EXACT_W), w_odd, PRECISION) * (2.0 / W)
        tl_t, tr_t = top_even + top_odd, top_even - top_odd
        bl_t, br_t = bottom_even + bottom_odd, bottom_even - bottom_odd

        # Along the columns, of x + t with the identity split and of t without.
        tl_m, tr_m = _kept(identity * tl_m + tl_t, r_top, EXACT_H), _kept(identity * tr_m + tr_t, r_top, EXACT_H)
        bl_m, br_m = _kept(identity * bl_m + bl_t, r_bottom, EXACT_H), _kept(identity * br_m + br_t, r_bottom, EXACT_H)
        left_even = tile.product(h_even, tl_m + bl_m, PRECISION) * (2.0 / H)
        right_even = tile.product(h_even, tr_m + br_m, PRECISION) * (2.0 / H)
        left_odd = tile.product(h_odd, tl_m - bl_m, PRECISION) * (2.0 / H)
        right_odd = tile.product(h_odd, tr_m - br_m, PRECISION) * (2.0 / H)

        for part in tl.static_range(4):
            if part == 0:
                y = _unfolded(identity * tl_t + (left_even + left_odd), P_H, G, V, False)
                old, rows, start = tl_x, top, left
                inside, stored = in_top, load_left & store_left
            elif part == 1:
                y = _unfolded(identity * tr_t + (right_even + right_odd), P_H, G, V, True)
                old, rows, start = tr_x, top, right
                inside, stored = in_top, load_right & store_right
            elif part == 2:
                y = _unfolded(identity * bl_t + (left_even - left_odd), P_H, G, V, False)
                old, rows, start = bl_x, bottom, left
                inside, stored = in_bottom, load_left & store_left
            else:
                y = _unfolded(identity * br_t + (right_even - right_odd), P_H, G, V, True)
                old, rows, start = br_x, bottom, right
                inside, stored = in_bottom, load_right & store_right
            mask = inside & stored  # [P_H, G, V]
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
    capability, multiprocessors = launch.device_properties(x.device)
    chosen = config(x.shape[-2], x.shape[-1], x.dtype, capability)
    with launch.on(x.device):
        for channel0, (x_, out_, blurred_, noise_) in launch.splits([x, out, blurred, noise]):
            arguments = (x_, blur_sigma, noise_sigma, seed, noise_, scale, out_, blurred_, channel0)
            if chosen.fused:
                _launch(chosen, multiprocessors, *arguments)
            else:
                two_pass.launch_two_pass(chosen, *arguments)


def _launch(
    chosen: Config,
    multiprocessors: int,
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    seed: int | Tensor | None,
    noise: Tensor | None,
    scale: float | Tensor,
    out: Tensor,
    blurred: Tensor | None,
    channel0: int,
) -> None:
    H, W = x.shape[-2:]
    samples, channels = x.shape[0], x[0].numel() // (H * W)
    step = launch.Step(x, blur_sigma, noise_sigma, seed, noise, scale, out, blurred)
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
