"""Device functions of the fused kernels: the pixels of a panel, and the folding of their rows.

A panel is BLOCK columns of the left half of an image and the BLOCK that mirror them. Its rows go in blocks of BLOCK pairs,
from the top and from the bottom, the rows of a pair next to each other, so that folding adds and subtracts neighbours.
The loops over parities and parts must stay loops: side by side, their products need more registers than there are.

Tensor cores cut their sums off after every 4 or 8 products where an addition rounds: the longer a sum, the further it falls
short. So they add up only SLICE products, and slices are added to each other in float32.
Sources: Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 2021; Ootomo & Yokota, Recovering
single precision accuracy from Tensor Cores while surpassing the FP32 theoretical peak performance, IJHPCA 2022.
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
def rows_product(
    left, right, even, odd, left_s, right_s, first, first_column,
    W: tl.constexpr, BLOCK: tl.constexpr, SLICE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what columns ``first + ..`` (left) and their mirrors (right), [R, SLICE] each, give at the panel's columns.

    left_s, right_s: the sums so far, [R, BLOCK] each, without the factor 2/W.
    """
    q = first + tl.arange(0, SLICE)[None, :]
    left = tl.where(q < (W + 1) // 2, left, 0.0)
    right = tl.where(q < W // 2, right, 0.0)  # a middle column counts once, with the left
    for parity in range(2):
        sign = 1.0 - 2.0 * parity
        matrix = folded.block(tl.where(parity == 0, even, odd), first, first_column, SLICE, BLOCK)
        t = tile.product(left + sign * right, matrix, PRECISION)
        left_s += t
        right_s += sign * t
    return left_s, right_s


@triton.jit
def columns_product(s, even, odd, block, inner, H: tl.constexpr, BLOCK: tl.constexpr, SLICE: tl.constexpr, PRECISION: tl.constexpr):
    """What one block (``inner``) of rows gives at another in the transform of the columns. s: [2 BLOCK, BLOCK]; the same"""
    SLICES: tl.constexpr = BLOCK // SLICE
    if SLICES == 1:
        upper0, lower0 = tl.split(tl.permute(tl.reshape(s, [BLOCK, 2, BLOCK]), [0, 2, 1]))  # [SLICE, BLOCK] each
        upper1, lower1 = upper0, lower0
    else:  # a slice is every second pair of rows, so that one exchange between threads sorts them all
        tl.static_assert(SLICES == 2)
        uppers, lowers = tl.split(tl.permute(tl.reshape(s, [SLICE, 2, 2, BLOCK]), [0, 3, 1, 2]))  # [SLICE, BLOCK, 2] each
        upper0, upper1 = tl.split(uppers)
        lower0, lower1 = tl.split(lowers)
    top = tl.zeros([BLOCK, BLOCK], tl.float32)
    bottom = tl.zeros([BLOCK, BLOCK], tl.float32)
    for part in range(SLICES):  # with both loops in one, the compiler would write out all four products
        upper, lower = tl.where(part == 1, upper1, upper0), tl.where(part == 1, lower1, lower0)
        for parity in range(2):
            sign = 1.0 - 2.0 * parity
            matrix = folded.block(tl.where(parity == 0, even, odd), block * BLOCK, inner * BLOCK + part, BLOCK, SLICE, SLICES)
            t = tile.product(matrix, upper + sign * lower, PRECISION)
            top += t
            bottom += sign * t
    return tl.reshape(tl.permute(tl.join(top, bottom), [0, 2, 1]), [2 * BLOCK, BLOCK]) * (2.0 / H)


@triton.jit
def part_of_panel(part, first_column, H: tl.constexpr, W: tl.constexpr, V: tl.constexpr, BLOCK: tl.constexpr):
    """Rows [2 BLOCK, 1, 1], those that count, first columns of groups [1, G, 1], what is this part's to store [2 BLOCK, G, V].

    Parts 0, 1: left and mirrored right columns of the first BLOCK pairs of rows; 2, 3: of the next.
    """
    # The left half owns the middle columns, and whole groups: the right half's first column is SPLIT.
    SPLIT: tl.constexpr = (W + 2 * V - 1) // (2 * V) * V
    mirrored = part % 2 == 1
    rows, owned = rows_and_owned(part // 2, H, BLOCK)
    start = tile.groups_of_side(first_column, mirrored, W, BLOCK // V, V)
    cols = tile.columns(start, V)
    kept = (cols >= tl.where(mirrored, SPLIT, 0)) & (cols < tl.where(mirrored, W, tl.minimum(SPLIT, W)))
    return rows, owned, start, owned & kept
