"""Device functions shared by the kernels: pixels in groups, mirrored halves, noise and the last line of the step.

A tile is ``[rows, G, V]``: G groups of V neighbouring pixels. A mirrored half is read group by group from the far end
with the pixels of a group in their natural order, so that its loads and stores stay V wide; the order inside a group
is then reversed in registers, where it costs nothing. V = 1 is the general case.
"""

import triton
import triton.language as tl

from warmops.triton import philox


@triton.jit
def level(bits_or_pointer, stride, n, IS_TENSOR: tl.constexpr):
    """The level of sample n as a float64 scalar: element n of a tensor, or the bits of a double passed as an integer."""
    if IS_TENSOR:
        return tl.load(bits_or_pointer + n * stride).to(tl.float64)
    else:
        # A Python float argument would be rounded to float32.
        return bits_or_pointer.to(tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def sample_seed(seed, stride, n, IS_TENSOR: tl.constexpr):
    """The 64-bit key of sample n: element n of a tensor, or seed + n modulo 2^64."""
    if IS_TENSOR:
        return tl.load(seed + n * stride).to(tl.int64)
    else:
        return seed.to(tl.int64) + n


@triton.jit
def groups(first, G: tl.constexpr, V: tl.constexpr):
    """First column of each group of columns ``first + 0 .. G V - 1``, shape [1, G, 1]."""
    return first + tl.arange(0, G)[None, :, None] * V


@triton.jit
def mirrored_groups(first, W: tl.constexpr, G: tl.constexpr, V: tl.constexpr):
    """First column of each group of columns ``W - 1 - (first + q)``: groups mirrored, each in natural order inside."""
    return (W - V) - first - tl.arange(0, G)[None, :, None] * V


@triton.jit
def groups_of_side(first, mirrored, W: tl.constexpr, G: tl.constexpr, V: tl.constexpr):
    """`groups`, or, where ``mirrored`` (a variable) is true, `mirrored_groups`."""
    return tl.where(mirrored, (W - V) - first, first) + tl.arange(0, G)[None, :, None] * tl.where(mirrored, -V, V)


@triton.jit
def columns(start, V: tl.constexpr):
    """Columns of groups, [1, G, V]."""
    return start + tl.arange(0, V)[None, None, :]


@triton.jit
def reverse(t, V: tl.constexpr):
    """Reverse the last dimension, of V = 1, 2, 4 or 8, inside each thread's registers."""
    if V == 1:
        return t
    elif V == 2:
        a, b = tl.split(t)
        return tl.join(b, a)
    elif V == 4:
        a, b = tl.split(tl.reshape(t, [t.shape[0], t.shape[1], 2, 2]))  # even and odd places
        a0, a1 = tl.split(a)
        b0, b1 = tl.split(b)
        return tl.reshape(tl.join(tl.join(b1, b0), tl.join(a1, a0)), t.shape)
    else:
        tl.static_assert(V == 8)
        a, b = tl.split(tl.reshape(t, [t.shape[0], t.shape[1], 4, 2]))
        return tl.reshape(tl.join(reverse4(b), reverse4(a)), t.shape)


@triton.jit
def reverse4(t):
    return reverse(t, 4)


@triton.jit
def round_tf32(t):
    """Round float32 to the 11 significant bits that the tensor cores read (they would cut the others off)."""
    return ((t.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def _plain_product(a, b, PRECISION: tl.constexpr):
    return tl.trans(tl.dot(tl.trans(b), tl.trans(a), input_precision=PRECISION))


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """``a b``, as ``(b^T a^T)^T``. PRECISION "tf32x3": three products of tensor cores, to float32's accuracy.

    The transpositions move nothing. They stand around each product because Triton gives products that depend on each
    other, or share operands, a layout in which the warps divide one axis only and repeat each other's work; its own
    "tf32x3" is such a chain, so the three products are written out and added here.
    """
    if a.dtype == tl.float64:
        return tl.dot(a, b, input_precision="ieee", out_dtype=tl.float64)
    elif PRECISION == "tf32x3":
        a_high, b_high = round_tf32(a), round_tf32(b)
        a_low, b_low = round_tf32(a - a_high), round_tf32(b - b_high)
        small = _plain_product(a_low, b_high, "tf32") + _plain_product(a_high, b_low, "tf32")
        return small + _plain_product(a_high, b_high, "tf32")
    else:
        return _plain_product(a, b, PRECISION)


@triton.jit
def pixels(t, FP64: tl.constexpr):
    """Stored values in the arithmetic's type; uint8 is read as t / 127.5 - 1 with a correctly rounded division."""
    if FP64:
        return t.to(tl.float64)
    elif t.dtype == tl.uint8:
        return tl.div_rn(t.to(tl.float32), 127.5) - 1.0
    else:
        return t.to(tl.float32)


@triton.jit
def offsets(rows, cols, row_stride, col_stride, UNIT: tl.constexpr, FAR: tl.constexpr):
    """Offsets inside an image. UNIT > 1: rows of consecutive pixels whose other strides are given in UNITs."""
    if FAR:  # an image that spans 2^31 elements of its tensor
        rows = rows.to(tl.int64)
        cols = cols.to(tl.int64)
    if UNIT > 1:
        # The product with a literal tells the compiler that each row starts on a boundary of UNIT pixels.
        return rows * row_stride * UNIT + cols
    else:
        return rows * row_stride + cols * col_stride


@triton.jit
def image(pointer, n, c, n_stride, c_stride, UNIT: tl.constexpr):
    """Pointer to channel c of sample n; both are 64-bit scalars."""
    return pointer + (n * n_stride + c * c_stride) * UNIT


@triton.jit
def load(
    base, rows, start, row_stride, col_stride, owned,
    W: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr, FAR: tl.constexpr, FP64: tl.constexpr = False,
):  # fmt: skip
    """Pixels [R, G, V] of an image in float32 or 64; 0, or what a byte of 0 stands for, outside of it and of ``owned`` rows."""
    cols = columns(start, V)
    mask = owned & (cols >= 0) & (cols < W)
    return pixels(tl.load(base + offsets(rows, cols, row_stride, col_stride, UNIT, FAR), mask=mask, other=0), FP64)


@triton.jit
def noise_tile(seed, first, rows, start, W: tl.constexpr, V: tl.constexpr, FP64: tl.constexpr, WIDE: tl.constexpr):
    """Normals of the elements ``first + row * W + column`` of a sample, [R, G, V]; ``first`` is that of the image."""
    if not WIDE:
        first = first.to(tl.int32)
    if V >= 4:
        # Rows hold whole counters (W % 4 == 0): all four normals of each are used.
        quads = start // 4 + tl.arange(0, V // 4)[None, None, :]  # [1, G, V/4]
        n0, n1, n2, n3 = philox.normals4(seed, first // 4 + rows * (W // 4) + quads, FP64)  # [R, G, V/4] each
        return tl.reshape(philox.interleave4(n0, n1, n2, n3), [rows.shape[0], start.shape[1], V])
    else:
        return philox.normal_of_elements(seed, first + rows * W + columns(start, V), FP64)


@triton.jit
def finish(
    y, rows, start, mask, n, c, channel0, beta, scale, seed, H, W: tl.constexpr, V: tl.constexpr,
    out, out_n, out_c, out_h, out_w, OUT_UNIT: tl.constexpr,
    blurred, blurred_n, blurred_c, blurred_h, blurred_w, BLURRED: tl.constexpr, BLURRED_UNIT: tl.constexpr,
    noise, noise_n, noise_c, noise_h, noise_w, NOISE: tl.constexpr, NOISE_UNIT: tl.constexpr,
    HAS_SCALE: tl.constexpr, FP64: tl.constexpr, WIDE: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Store ``scale * (y + beta * eps)`` and y. y: [R, G, V] in natural order; NOISE: 0 none, 1 generated, 2 given."""
    cols = columns(start, V)  # [1, G, V]
    if BLURRED:
        target = image(blurred, n, c, blurred_n, blurred_c, BLURRED_UNIT)
        target += offsets(rows, cols, blurred_h, blurred_w, BLURRED_UNIT, FAR)
        tl.store(target, y.to(blurred.dtype.element_ty), mask=mask)
    if NOISE > 0:
        if beta != 0.0:  # true for NaN; a sample without noise draws none
            if NOISE == 1:
                element = (channel0 + c) * (H * W)  # of the image's first pixel, within the sample
                eps = noise_tile(seed, element, rows, start, W, V, FP64, WIDE)
            else:
                source = image(noise, n, c, noise_n, noise_c, NOISE_UNIT)
                source += offsets(rows, cols, noise_h, noise_w, NOISE_UNIT, FAR)
                eps = pixels(tl.load(source, mask=mask, other=0.0), FP64)
            y += beta * eps  # two roundings: the kernels are compiled without fusing multiply and add
    if HAS_SCALE:
        y = scale * y
    target = image(out, n, c, out_n, out_c, OUT_UNIT) + offsets(rows, cols, out_h, out_w, OUT_UNIT, FAR)
    tl.store(target, y.to(out.dtype.element_ty), mask=mask)
