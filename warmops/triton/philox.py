"""Counter-based normals on the device: Philox4x32-10 words and Box-Muller, the same integers as every backend.

Sources: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011 (Philox); Box & Muller 1958. The
polynomials are weighted minimax fits of this project, each good to 0.06 ulp of float32 or better before rounding.
"""

import triton
import triton.language as tl


@triton.jit
def words(seed, j):
    """The four words of counter ``j`` (an integer tile below 2^63) under the 64-bit key ``seed`` (a scalar)."""
    low = j.to(tl.uint32)
    zero = low * 0
    if j.dtype.primitive_bitwidth > 32:
        high = (j >> 32).to(tl.uint32)
    else:
        high = zero
    return tl.philox(seed, low, high, zero, zero)


@triton.jit
def _negated_log(w):
    """``-ln u``, ``u = (w + 0.5) / 2^32``, in float32, to about 1 ulp also near ``u = 1``."""
    w = w.to(tl.int32, bitcast=True)
    # At or above one half work from the complement p = 1 - u, which float32 holds to full relative accuracy.
    upper = w < 0  # w >= 2^31 as an unsigned number
    v = tl.where(upper, ~w, w)
    # v + 1/2 as the integer 2 v + 1 < 2^32: one rounding, in the conversion. Times 2^-33, p is in (0, 1/2].
    p = ((v << 1) | 1).to(tl.uint32, bitcast=True).to(tl.float32) * 1.1641532182693481e-10
    # Lower half: p = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), by moving the bits of the mantissa.
    bits = p.to(tl.int32, bitcast=True) + (0x3F800000 - 0x3F3504F3)
    e = ((bits >> 23) - 127).to(tl.float32)
    f = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    # Upper half: 1 - p is 1 + f with f = -p, or half of 1 + f with f = 1 - 2p.
    small = p <= 0.29289323
    f = tl.where(upper, tl.where(small, -p, 1.0 - 2.0 * p), f)
    e = tl.where(upper, tl.where(small, 0.0, -1.0), e)
    q = tl.fma(f, 0.06746551394462585, -0.11675628274679184)
    q = tl.fma(f, q, 0.11888190358877182)
    q = tl.fma(f, q, -0.12405594438314438)
    q = tl.fma(f, q, 0.14219549298286438)
    q = tl.fma(f, q, -0.16667994856834412)
    q = tl.fma(f, q, 0.2000211924314499)
    q = tl.fma(f, q, -0.25000008940696716)
    q = tl.fma(f, q, 0.3333331346511841)
    g = f * f
    tail = g * tl.fma(f, q, -0.5)  # ln(1 + f) - f
    tail = tl.fma(e, -2.12194440e-4, tail)  # ln 2 in two parts, the first exact in a product with e
    return -tl.fma(e, 0.693359375, f + tail)


@triton.jit
def _angle_rest(w):
    """Nearest quarter turn of ``t = 2 pi (w + 0.5) / 2^32`` and the signed rest ``w - quarter * 2^30``."""
    quarter = (w + 0x20000000) >> 30  # uint32: wraps to 0 past the fourth quarter
    rest = (w - (quarter << 30)).to(tl.int32, bitcast=True)
    return quarter.to(tl.int32), rest


@triton.jit
def pair32(w_radius, w_angle):
    """Two float32 normals of two words, within 4 ulp of float64."""
    square = 2.0 * _negated_log(w_radius)  # in [2e-10, 46]: no special case of the square root can occur
    inverse = tl.rsqrt(square)
    radius = square * inverse
    radius = tl.fma(tl.fma(-radius, radius, square), 0.5 * inverse, radius)  # one Newton step: nearly exact rounding
    quarter, rest = _angle_rest(w_angle)
    # rest + 1/2 as the integer 2 rest + 1, rounded once; times pi / 2^32 (two parts), g is in [-pi/4, pi/4].
    turn = ((rest << 1) | 1).to(tl.float32)
    g = tl.fma(turn, 7.31459059988282e-10, turn * -2.035470133961082e-17)
    s, c = sincos32(g)
    odd = (quarter & 1) != 0
    first = tl.where(odd, s, c)
    second = tl.where(odd, c, s)
    # cos is negative in quarters 1 and 2, sin in 2 and 3: flip the sign bit.
    first = (first.to(tl.int32, bitcast=True) ^ (((quarter + 1) & 2) << 30)).to(tl.float32, bitcast=True)
    second = (second.to(tl.int32, bitcast=True) ^ ((quarter & 2) << 30)).to(tl.float32, bitcast=True)
    return radius * first, radius * second


@triton.jit
def sincos32(g):
    """sin and cos of ``|g| <= pi/4`` in float32: no range reduction, so no slow path and no local memory."""
    z = g * g
    s = tl.fma(z, -0.00019517296459525824, 0.008332177996635437)
    s = tl.fma(z, s, -0.16666655242443085)
    s = tl.fma(g * z, s, g)
    c = tl.fma(z, 2.4433153157588094e-05, -0.0013887316454201937)
    c = tl.fma(z, c, 0.04166664555668831)
    c = tl.fma(z * z, c, 1.0 - 0.5 * z)
    return s, c


@triton.jit
def pair64(w_radius, w_angle):
    """Two float64 normals of two words."""
    u = (w_radius.to(tl.float64) + 0.5) * 2.3283064365386963e-10  # exact: 33 bits
    radius = tl.sqrt(-2.0 * tl.log(u))
    quarter, rest = _angle_rest(w_angle)
    # 2 pi / 2^32 as a double: a literal in a product with a float64 tile keeps all its digits.
    g = (rest.to(tl.float64) + 0.5) * 1.4629180792671596e-09
    s, c = sincos64(g)
    odd = (quarter & 1) != 0
    first = tl.where(odd, s, c)
    second = tl.where(odd, c, s)
    first = tl.where(((quarter + 1) & 2) != 0, -first, first)
    second = tl.where((quarter & 2) != 0, -second, second)
    return radius * first, radius * second


@triton.jit
def sincos64(g):
    """sin and cos of ``|g| <= pi/4`` in float64 (Taylor series: the first term left out is below 1e-17)."""
    z = g * g
    s = z * 2.8114572543455206e-15 - 7.647163731819816e-13
    s = s * z + 1.6059043836821613e-10
    s = s * z - 2.505210838544172e-08
    s = s * z + 2.7557319223985893e-06
    s = s * z - 0.0001984126984126984
    s = s * z + 0.008333333333333333
    s = s * z - 0.16666666666666666
    s = g + g * z * s
    c = z * -1.5619206968586225e-16 + 4.779477332387385e-14
    c = c * z - 1.1470745597729725e-11
    c = c * z + 2.08767569878681e-09
    c = c * z - 2.755731922398589e-07
    c = c * z + 2.48015873015873e-05
    c = c * z - 0.001388888888888889
    c = c * z + 0.041666666666666664
    c = 1.0 - 0.5 * z + z * z * c
    return s, c


@triton.jit
def pair(w_radius, w_angle, FP64: tl.constexpr):
    if FP64:
        return pair64(w_radius, w_angle)
    else:
        return pair32(w_radius, w_angle)


@triton.jit
def normals4(seed, j, FP64: tl.constexpr):
    """The four normals of counter ``j``, those of elements ``4 j .. 4 j + 3``."""
    w0, w1, w2, w3 = words(seed, j)
    n0, n1 = pair(w0, w1, FP64)
    n2, n3 = pair(w2, w3, FP64)
    return n0, n1, n2, n3


@triton.jit
def interleave4(a, b, c, d):
    """Four tiles ``[...]`` to one ``[..., 4]`` whose last index runs a, b, c, d; registers only change names."""
    t = tl.join(tl.join(a, c), tl.join(b, d))  # [..., 2, 2]: t[.., i, j] is element 2 i + j
    return tl.reshape(t, a.shape + [4])


@triton.jit
def normal_of_elements(seed, e, FP64: tl.constexpr):
    """The normal of each element index in ``e``; one counter per element, for rows that do not hold whole counters."""
    w0, w1, w2, w3 = words(seed, e // 4)
    word = (e % 4).to(tl.int32)
    second = word >= 2
    first, last = pair(tl.where(second, w2, w0), tl.where(second, w3, w1), FP64)
    return tl.where((word & 1) == 0, first, last)
