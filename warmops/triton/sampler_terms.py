"""Device functions that the fused sampler step and its two-pass form share: coefficients, terms, the clean image, the end.

The multipliers ``K = k0 + k1 E(alpha1) + (k2 + k3 lambda) E(alpha2)`` of `warmops.sampler_step` are a sum of separable
terms, each a pair of axis multipliers ``(u + v lambda_i) exp(-lambda_i alpha^2 / 2)``, since lambda_ij = lambda_i + lambda_j:

    term   alpha    along H             along W
    0      alpha1   u = k1              u = 1
    1      alpha2   u = k2, v = k3      u = 1
    2      alpha2   u = 1               v = k3
"""

import triton
import triton.language as tl

from warmops.triton import tile

COUNT = tl.constexpr(14)  # of coefficients


@triton.jit
def coefficient(table, bits, n, index: tl.constexpr, TABLE: tl.constexpr):
    """A coefficient of sample n in float64: from the table [N, 14], or the same for all, as the bits of a double."""
    if TABLE:
        return tl.load(table + n * COUNT + index)
    else:
        return bits.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def term_level(term, k1, alpha1, k2, k3, alpha2):
    """(whether the term is there, its alpha)"""
    there = tl.where(term == 0, k1 != 0.0, (k3 != 0.0) | ((k2 != 0.0) & (term == 1)))
    # Without a blur every term is a number.
    return there & ((alpha1 != 0.0) | (alpha2 != 0.0) | (k3 != 0.0)), tl.where(term == 0, alpha1, alpha2)


@triton.jit
def factors_along_h(term, k1, k2, k3):
    """u and v of a term"""
    return tl.where(term == 0, k1, tl.where(term == 2, 1.0, k2)), tl.where(term == 1, k3, 0.0)


@triton.jit
def factors_along_w(term, k3):
    return tl.where(term == 2, 0.0, 1.0), tl.where(term == 2, k3, 0.0)


@triton.jit
def plain_factor(k0, k1, alpha1, k2, k3, alpha2):
    """The factor of x0 that takes no transform: k0, or all of K where that is a number."""
    return tl.where((alpha1 == 0.0) & (alpha2 == 0.0) & (k3 == 0.0), k0 + k1 + k2, k0)


@triton.jit
def clean(
    n, c, rows, start, owned, skip, out_b, out_r,
    x, x_n, x_c, x_h, x_w, X_UNIT: tl.constexpr,
    head_b, b_n, b_c, b_h, b_w, B: tl.constexpr, B_UNIT: tl.constexpr,
    head_r, r_n, r_c, r_h, r_w, R: tl.constexpr, R_UNIT: tl.constexpr,
    W: tl.constexpr, V: tl.constexpr, FAR: tl.constexpr, FP64: tl.constexpr,
):  # fmt: skip
    """x0 = skip x + out_b head_b + out_r head_r at rows and groups of columns; 0 outside of the image. [R, G, V]"""
    x0 = skip * tile.load(tile.image(x, n, c, x_n, x_c, X_UNIT), rows, start, x_h, x_w, owned, W, V, X_UNIT, FAR, FP64)
    if B:
        x0 += out_b * tile.load(tile.image(head_b, n, c, b_n, b_c, B_UNIT), rows, start, b_h, b_w, owned, W, V, B_UNIT, FAR, FP64)
    if R:
        x0 += out_r * tile.load(tile.image(head_r, n, c, r_n, r_c, R_UNIT), rows, start, r_h, r_w, owned, W, V, R_UNIT, FAR, FP64)
    return x0


@triton.jit
def finish(
    y, n, c, rows, start, owned, mask, a, b, g, p, q, poison,
    x, x_n, x_c, x_h, x_w, X_UNIT: tl.constexpr,
    slope, s_n, s_c, s_h, s_w, SLOPE: tl.constexpr, SLOPE_UNIT: tl.constexpr,
    out, out_n, out_c, out_h, out_w, OUT_UNIT: tl.constexpr,
    slope_out, so_n, so_c, so_h, so_w, SLOPE_OUT: tl.constexpr, SLOPE_OUT_UNIT: tl.constexpr,
    W: tl.constexpr, V: tl.constexpr, FAR: tl.constexpr, FP64: tl.constexpr,
):  # fmt: skip
    """Store a x + b y + g slope and p x + q y. y: [R, G, V] in natural order; poison: 0, or NaN to show a bad coefficient."""
    cols = tile.columns(start, V)
    state = tile.load(tile.image(x, n, c, x_n, x_c, X_UNIT), rows, start, x_h, x_w, owned, W, V, X_UNIT, FAR, FP64)
    result = a * state + b * y + poison
    if SLOPE:
        source = tile.image(slope, n, c, s_n, s_c, SLOPE_UNIT)
        result += g * tile.load(source, rows, start, s_h, s_w, owned, W, V, SLOPE_UNIT, FAR, FP64)
    target = tile.image(out, n, c, out_n, out_c, OUT_UNIT) + tile.offsets(rows, cols, out_h, out_w, OUT_UNIT, FAR)
    tl.store(target, result.to(out.dtype.element_ty), mask=mask)
    if SLOPE_OUT:
        target = tile.image(slope_out, n, c, so_n, so_c, SLOPE_OUT_UNIT)
        target += tile.offsets(rows, cols, so_h, so_w, SLOPE_OUT_UNIT, FAR)
        tl.store(target, (p * state + q * y + poison).to(slope_out.dtype.element_ty), mask=mask)
