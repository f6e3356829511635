"""Standard normals of per-sample seeds, every counter drawn once and all its four integers used.

Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011; element e of a sample uses word e % 4 of
counter e // 4, whatever the strides.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor, float64

from warmops.triton import launch, philox, tile

COUNTERS = 512
"""Counters of one program: 2048 elements."""
NUM_WARPS = 4


@triton.jit(do_not_specialize=["seed", "elements", "programs_per_sample", "first_element"])
def normal_kernel(
    out, out_n, out_c, out_h, out_w, seed, seed_n,
    elements, programs_per_sample, first_element, H, W,
    SEED_TENSOR: tl.constexpr, LINEAR: tl.constexpr, WIDE: tl.constexpr, FP64: tl.constexpr,
    UNIT: tl.constexpr, COUNTERS: tl.constexpr,
):  # fmt: skip
    """out: [N, C, H, W] with any strides; LINEAR: element e of a sample is at ``e * out_w``.

    UNIT > 1: consecutive elements, their count and the samples' stride (given in UNITs) whole multiples of UNIT.
    """
    program = tl.program_id(0)
    n = (program // programs_per_sample).to(tl.int64)
    block = program % programs_per_sample
    key = tile.sample_seed(seed, seed_n, n, SEED_TENSOR)
    # Elements e of this launch are first_element + e of the sample; first_element is a multiple of 4 if UNIT > 1.
    V: tl.constexpr = UNIT if UNIT > 1 else 4
    group = tl.arange(0, COUNTERS * 4 // V)[:, None]  # [groups, 1]
    if WIDE:
        group += block.to(tl.int64) * (COUNTERS * 4 // V)
        first = first_element.to(tl.int64)
    else:
        group += block * (COUNTERS * 4 // V)
        first = first_element.to(tl.int32)
    base = out + n * out_n * UNIT
    if UNIT > 1:
        quads = group * (V // 4) + tl.arange(0, V // 4)[None, :]  # [groups, V / 4]
        n0, n1, n2, n3 = philox.normals4(key, first // 4 + quads, FP64)
        eps = tl.reshape(philox.interleave4(n0, n1, n2, n3), [COUNTERS * 4 // V, V])
        e = group * V + tl.arange(0, V)[None, :]
        tl.store(base + e, eps.to(out.dtype.element_ty), mask=group * V < elements)
    else:
        # The sample may start inside a counter: begin with the counter of the first element.
        skipped = first % 4
        n0, n1, n2, n3 = philox.normals4(key, first // 4 + group, FP64)  # [groups, 1] each
        eps = tl.reshape(philox.interleave4(n0, n1, n2, n3), [COUNTERS, 4])
        e = group * 4 + tl.arange(0, 4)[None, :] - skipped
        if LINEAR:
            offset = e.to(tl.int64) * out_w
        else:
            row = e // W
            offset = (row // H).to(tl.int64) * out_c + (row % H).to(tl.int64) * out_h + (e % W).to(tl.int64) * out_w
        tl.store(base + offset, eps.to(out.dtype.element_ty), mask=(e >= 0) & (e < elements))


def normal(out: Tensor, seed: int | Tensor) -> None:
    """Write the normals of the seeds into ``out [N, *dims]``, of any strides and floating dtype."""
    per_sample = math.prod(out.shape[1:])
    if out.numel() == 0:
        return
    with launch.on(out.device):
        _fill(out, seed, 0, per_sample >= launch.WIDE_FROM)


def _fill(out: Tensor, seed: int | Tensor, first_element: int, wide: bool) -> None:
    shape, strides = out.shape[1:], out.stride()[1:]
    elements = math.prod(shape)
    sample = out.stride(0) if out.shape[0] > 1 else 0
    step = launch.collapsed(shape, strides)
    H = W = 1
    channel = row = 0
    unit = 1
    if step is not None:
        vector = 8 if out.dtype.itemsize == 2 else 4
        if step == 1 and elements % vector == 0 and sample % vector == 0 and first_element % 4 == 0:
            unit = vector
    elif len(shape) <= 3 or launch.collapsed(shape[:-2], strides[:-2]) is not None:
        (H, W), (row, step) = shape[-2:], strides[-2:]
        outer = launch.collapsed(shape[:-2], strides[:-2])
        assert outer is not None
        channel = outer
    else:  # no three strides describe it: one launch for each index of the first dimension
        inner = elements // shape[0]
        for i in range(shape[0]):
            _fill(out.select(1, i), seed, first_element + i * inner, wide)
        return
    key, key_n, key_tensor = launch.seed_argument(seed)
    counters = -(-(elements + first_element % 4) // 4)
    programs = -(-counters // COUNTERS)
    normal_kernel[(out.shape[0] * programs,)](
        out, sample // unit, channel, row, step, key, key_n,
        elements, programs, first_element, H, W,
        SEED_TENSOR=key_tensor, LINEAR=H == W == 1, WIDE=wide, FP64=out.dtype == float64,
        UNIT=unit, COUNTERS=COUNTERS,
        num_warps=NUM_WARPS, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip
