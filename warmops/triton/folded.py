"""Device functions for the blur matrix of one axis, folded into its even and odd halves.

``even[p, q] = sum over even k of w_k m_k cos(pi k (2p+1) / 2n) cos(pi k (2q+1) / 2n)`` acts on ``x_q + x_{n-1-q}``,
``odd`` (odd k) on ``x_q - x_{n-1-q}``; then ``y_p = even + odd`` and ``y_{n-1-p} = even - odd``, times 2/n, with
w_0 = 1/2 and w_k = 1. The factor 2/n stays outside: rounded in each entry, it would shift the mean of the image.
For small levels the multipliers are ``m_k - 1 = expm1(-z)`` and the caller adds x: the identity split, which keeps the
error of an almost unblurred image at one rounding. Source of the multipliers: Rissanen et al., ICLR 2023, section 3.
"""

import triton
import triton.language as tl

from warmops.triton import philox


@triton.jit
def checked_level(alpha):
    """The level, or NaN if it is negative: a sample that cannot be refused without a synchronisation must not look right."""
    return tl.where(alpha >= 0.0, alpha, float("nan"))


@triton.jit
def identity_share(alpha):
    """1.0 where the matrices hold ``B - I``: every multiplier exp(-z) is above one half. Else 0.0."""
    return tl.where(alpha < 0.374, 1.0, 0.0)


@triton.jit
def cosine(a, N: tl.constexpr, FP64: tl.constexpr):
    """``cos(pi a / (2 N))`` of non-negative integers below 2^31, the argument reduced exactly."""
    a = a % (4 * N)
    quarter = (2 * a + N) // (2 * N)  # nearest quarter turn, 0 to 4
    rest = a - quarter * N
    if FP64:
        s, c = philox.sincos64(rest.to(tl.float64) * (1.5707963267948966 / N))
    else:
        s, c = philox.sincos32(rest.to(tl.float32) * (1.5707963267948966 / N))
    value = tl.where((quarter & 1) != 0, s, c)
    return tl.where(((quarter + 1) & 2) != 0, -value, value)


@triton.jit
def _exp_negated(z):
    """``exp(-z)`` for z >= 0 in float32, within 1 ulp (the hardware's exponential is not); NaN stays NaN."""
    t = tl.where(z > 87.0, 87.0, z)
    i = (t * 1.4426950408889634 + 0.5).to(tl.int32)
    count = i.to(tl.float32)
    r = tl.fma(count, 0.693359375, -t)
    r = tl.fma(count, -2.12194440e-4, r)  # i ln 2 - z, in [-ln 2 / 2, ln 2 / 2]
    q = tl.fma(r, 0.0013814597623422742, 0.008368715643882751)
    q = tl.fma(r, q, 0.04166838899254799)
    q = tl.fma(r, q, 0.1666652113199234)
    q = tl.fma(r, q, 0.4999999403953552)
    value = (1.0 + tl.fma(r * r, q, r)) * ((127 - i) << 23).to(tl.float32, bitcast=True)
    return tl.where(z > 87.0, 0.0, value)


@triton.jit
def _expm1_negated(z):
    """``exp(-z) - 1`` for 0 <= z <= 0.7 in float32, to full relative accuracy."""
    q = tl.fma(z, 0.0010397926671430469, -0.008080272004008293)
    q = tl.fma(z, q, 0.04158112406730652)
    q = tl.fma(z, q, -0.16665391623973846)
    q = tl.fma(z, q, 0.49999937415122986)
    return -z * tl.fma(-z, q, 1.0)


@triton.jit
def _expm1_negated64(z):
    """The same in float64: -2 sinh(z/2) exp(-z/2)."""
    h = 0.5 * z
    t = h * h
    q = t * 7.647163731819816e-13 + 1.6059043836821613e-10
    q = q * t + 2.505210838544172e-08
    q = q * t + 2.7557319223985893e-06
    q = q * t + 0.0001984126984126984
    q = q * t + 0.008333333333333333
    q = q * t + 0.16666666666666666
    return -2.0 * (h + h * t * q) * tl.exp(-h)


@triton.jit
def weights(k, alpha, N: tl.constexpr, FP64: tl.constexpr):
    """``w_k m_k`` (or ``w_k (m_k - 1)``, see `identity_share`) of an integer tile k; 0 for k >= N. alpha: float64."""
    identity = identity_share(alpha)  # float32
    half_lambda = alpha * alpha * (4.934802200544679 / N / N)  # pi^2 / 2; z = k^2 of it
    nothing = tl.where(alpha >= 0.0, 1.0 - identity, float("nan"))  # k = 0, which inf * 0 would spoil
    if FP64:
        kf = k.to(tl.float64)
        z = kf * kf * half_lambda
        m = tl.where(identity != 0.0, _expm1_negated64(z), tl.exp(-z))
        m = tl.where(k == 0, 0.5 * nothing.to(tl.float64), m)
    else:
        kf = k.to(tl.float32)
        z = kf * kf * half_lambda.to(tl.float32)
        m = tl.where(identity != 0.0, _expm1_negated(z), _exp_negated(z))
        m = tl.where(k == 0, 0.5 * nothing, m)
    return tl.where(k < N, m, 0.0)


@triton.jit
def cosines(N: tl.constexpr, LENGTH: tl.constexpr, first=0):
    """``cos(pi j / N)`` in float64, j = first .. first + LENGTH - 1, at least 2 N of them. [LENGTH]"""
    return cosine(2 * (first + tl.arange(0, LENGTH)), N, True)


@triton.jit
def sloped(k, e, identity, u, v, N: tl.constexpr):
    """``w_k (u + v lambda_k) m_k``, lambda_k = (pi k / N)^2, less ``w_k u`` under the identity split. e: `weights` of k."""
    eigenvalue = k.to(e.dtype) * k.to(e.dtype) * (9.869604401089358 / N / N)
    return u * e + v * (eigenvalue * tl.where(k < N, e + identity, e))


@triton.jit
def tables(cos, alpha, N: tl.constexpr, LENGTH: tl.constexpr, u=1.0, v=0.0, zero=0, SLOPED: tl.constexpr = False):
    """``h(r) = sum_k w_k m_k cos(pi k r / N)`` over even k and over odd k, r = 0 .. LENGTH - 1. cos: `cosines` of N. [LENGTH] each

    SLOPED: of the multipliers (u + v lambda_k) m_k, see `sloped`. zero: 0; a variable keeps the loop's addresses in it.
    The sums are in float64. One entry serves a whole diagonal, and the rounding errors of a cosine meet in the sum over a
    row, so that in float32 the mean of an image would be off by up to 7e-7 of it.
    """
    K: tl.constexpr = 8
    r = zero + tl.arange(0, LENGTH)[None, :, None]
    h = tl.zeros([2, LENGTH, K], tl.float64)
    for first in range(zero, N, 2 * K):
        k = first + 2 * tl.arange(0, K)[None, None, :] + tl.arange(0, 2)[:, None, None]  # [2, 1, K]
        m = weights(k, alpha, N, False)
        if SLOPED:
            m = sloped(k, m, identity_share(alpha), u, v, N)
        j = tl.reshape(k * r % (2 * N), [2 * LENGTH * K])
        h += tl.reshape(tl.gather(cos, j, 0), [2, LENGTH, K]) * m.to(tl.float64)
    return tl.split(tl.permute(tl.sum(h, axis=2).to(tl.float32), [1, 0]))


@triton.jit
def block(h, first_row, first_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr = 1):
    """A block of ``even`` or ``odd``, every STEP-th column, out of its table: Toeplitz plus Hankel. [ROWS, COLUMNS]

    (h(p - q) + h(p + q + 1)) / 2.
    """
    rows = first_row + tl.arange(0, ROWS)[None, :, None]
    cols = first_column + STEP * tl.arange(0, COLUMNS)[None, None, :]
    r = tl.where(tl.arange(0, 2)[:, None, None] == 0, tl.abs(rows - cols), rows + cols + 1)  # both in one exchange
    return 0.5 * tl.sum(tl.reshape(tl.gather(h, tl.reshape(r, [2 * ROWS * COLUMNS]), 0), [2, ROWS, COLUMNS]), axis=0)
