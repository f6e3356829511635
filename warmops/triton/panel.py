"""Device functions of the fused kernels: the pixels of a panel, and the folding of their rows.

A panel is PANEL columns of the left half of an image and the PANEL that mirror them. Its rows go in blocks of BLOCK pairs,
from the top and from the bottom, the rows of a pair next to each other, so that folding adds and subtracts neighbours.
"""

import triton
import triton.language as tl

from warmops.triton import folded, tile


@triton.jit
def rows_and_owned(block, H: tl.constexpr, BLOCK: tl.constexpr):
    """Rows of BLOCK pairs, and which of them count: a middle row once. [2 BLOCK, 1, 1] each"""
    r = tl.arange(0, 2 * BLOCK)[:, None, None]
    p = block * BLOCK + r // 2
    return tl.where(r % 2 == 0, p, H - 1 - p), p < tl.where(r % 2 == 0, (H + 1) // 2, H // 2)


@triton.jit
def halves(left, right, first, W: tl.constexpr, BLOCK: tl.constexpr):
    """Sum and difference of pixels left [R, BLOCK] at columns ``first + ..`` and right at their mirrors, 0 past the middle."""
    q = first + tl.arange(0, BLOCK)[None, :]
    left = tl.where(q < (W + 1) // 2, left, 0.0)
    right = tl.where(q < W // 2, right, 0.0)  # a middle column counts once, with the left
    return left + right, left - right


@triton.jit
def folded_rows(s, BLOCK: tl.constexpr, PANEL: tl.constexpr):
    """Sum and difference of the rows of each pair. s: [2 BLOCK, PANEL]; [BLOCK, PANEL] each"""
    top, bottom = tl.split(tl.permute(tl.reshape(s, [BLOCK, 2, PANEL]), [0, 2, 1]))
    return top + bottom, top - bottom


@triton.jit
def unfolded_rows(e, o, BLOCK: tl.constexpr, PANEL: tl.constexpr):
    """The inverse, for sums e and differences o of [BLOCK, PANEL] each. [2 BLOCK, PANEL]"""
    return tl.reshape(tl.permute(tl.join(e + o, e - o), [0, 2, 1]), [2 * BLOCK, PANEL])


@triton.jit
def columns_pass(
    s0, s1, even, odd, block, blocks: tl.constexpr, H: tl.constexpr, BLOCK: tl.constexpr, PANEL: tl.constexpr, PRECISION: tl.constexpr
):
    """The columns of a panel's half, transformed at one block of its rows. s0, s1: its blocks of rows. [2 BLOCK, PANEL]"""
    e0, o0 = folded_rows(s0, BLOCK, PANEL)
    e = tile.product(folded.block(even, block * BLOCK, 0, BLOCK, BLOCK), e0, PRECISION)
    o = tile.product(folded.block(odd, block * BLOCK, 0, BLOCK, BLOCK), o0, PRECISION)
    if blocks == 2:
        e1, o1 = folded_rows(s1, BLOCK, PANEL)
        e += tile.product(folded.block(even, block * BLOCK, BLOCK, BLOCK, BLOCK), e1, PRECISION)
        o += tile.product(folded.block(odd, block * BLOCK, BLOCK, BLOCK, BLOCK), o1, PRECISION)
    return unfolded_rows(e, o, BLOCK, PANEL) * (2.0 / H)


@triton.jit
def part_of_panel(part, first_column, H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, BLOCK: tl.constexpr, PANEL: tl.constexpr):
    """Rows [2 BLOCK, 1, 1], those that count, first columns of groups [1, G, 1], what is this part's to store [2 BLOCK, G, V].

    Parts 0, 1: left and mirrored right columns of the first BLOCK pairs of rows; 2, 3: of the next.
    """
    # The left half owns the middle columns, and whole groups: the right half's first column is SPLIT.
    SPLIT: tl.constexpr = (W + 2 * V - 1) // (2 * V) * V
    mirrored = part % 2 == 1
    rows, owned = rows_and_owned(part // 2, H, BLOCK)
    first = tl.where(mirrored, W - V - first_column, first_column)
    start = first + tl.arange(0, PANEL // V)[None, :, None] * tl.where(mirrored, -V, V)
    cols = tile.columns(start, V)
    kept = (cols >= tl.where(mirrored, SPLIT, 0)) & (cols < tl.where(mirrored, W, tl.minimum(SPLIT, W)))
    return rows, owned, start, owned & kept
