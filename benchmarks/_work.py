"""What each op has to move and to compute, from the shapes alone: the numbers behind roofline.py.

Counted is what the method needs, not what a compiler makes of it: one read of each input and one write of each output;
folded products (even and odd halves of each axis, see warmops/triton/folded.py); one table of n numbers
per axis and sample; Philox4x32-10 and Box-Muller for each normal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "uint8": 1}
OPS = ("clone", "normal", "blur", "blur_noise", "blur_noise + blurred", "step ddim", "step euler", "step heun", "dct2")
ACCURATE = 3
"""Products of TF32 tensor cores for one of float32's accuracy."""

# Instructions of one lane, counted in warmops/triton/philox.py. A round of Philox: two 32 x 32 -> 64 bit products and two
# three-input exclusive ors; the keys are the same for a whole program and count nothing. Ten rounds make four words.
PHILOX_PER_NORMAL = 10 * 4 / 4
# Logarithm 32, radius 5, angle 9, sine and cosine 10, quadrant and signs 9, products 2: for two normals.
BOX_MULLER_PER_NORMAL = 67 / 2
FUSED_SIDE = 128
"""Longer sides, and float64, take two passes with an intermediate image."""


@dataclass(frozen=True)
class Shape:
    """A batch ``[n, c, h, w]``."""

    n: int
    c: int
    h: int
    w: int

    @property
    def pixels(self) -> int:
        return self.n * self.c * self.h * self.w

    def __str__(self) -> str:
        return f"{self.n}x{self.c}x{self.h}x{self.w}"


@dataclass(frozen=True)
class Work:
    """bytes: least traffic to and from memory. extra_bytes: of an intermediate image, where the method has one.

    products: multiply-adds of matrices, each of the arithmetic's accuracy. double: multiply-adds in float64 (tables; all of
    float64's products). lanes: instructions of one lane for noise, folding and the last line.
    """

    bytes: int
    extra_bytes: int = 0
    products: int = 0
    double: int = 0
    lanes: float = 0.0


def folded_products(h: int, w: int) -> int:
    """Multiply-adds of both axes of one image: the even half of an axis has ``ceil(n/2)`` points, the odd one ``floor(n/2)``."""

    def halves(n: int) -> int:
        return ((n + 1) // 2) ** 2 + (n // 2) ** 2

    return h * halves(w) + w * halves(h)


def table_sums(n: int) -> int:
    """Multiply-adds of ``h(r) = sum_k w_k m_k cos(pi k r / n)``, r = 0..n, even and odd k apart: half of the n terms for each."""
    return (n + 1) * n


def folding(h: int, w: int) -> int:
    """Additions of one image: each pixel is folded and unfolded once along each axis."""
    return 4 * h * w


def work(op: str, shape: Shape, dtype: str) -> Work:
    """What one call does on a batch; levels and seeds are one per sample, the sampler's state has two heads of its own type."""
    size = BYTES[dtype]
    out = 4 if dtype == "uint8" else size
    pixels, levels = shape.pixels, 8 * shape.n
    noise = (PHILOX_PER_NORMAL + BOX_MULLER_PER_NORMAL) * pixels
    if op == "clone":
        return Work(2 * size * pixels)
    if op == "normal":
        return Work(out * pixels + levels, lanes=noise)
    if op == "dct2":  # fast transforms take 8 to 11 operations per element and axis (csrc/cuda/dct_tile.h)
        return Work(2 * size * pixels, lanes=2 * 9.5 * pixels)
    images = shape.n * shape.c
    products, sums = images * folded_products(shape.h, shape.w), shape.n * (table_sums(shape.h) + table_sums(shape.w))
    blur = Work(
        (size + out) * pixels + levels,
        extra_bytes=0 if max(shape.h, shape.w) <= FUSED_SIDE and dtype != "float64" else 2 * (8 if dtype == "float64" else 4) * pixels,
        products=products,
        double=sums + (products if dtype == "float64" else 0),
        lanes=images * folding(shape.h, shape.w),
    )
    if op == "blur":
        return blur
    if op.startswith("blur_noise"):
        written = out * pixels if op.endswith("blurred") else 0
        return replace(blur, bytes=blur.bytes + written + 2 * levels, lanes=blur.lanes + noise + pixels)
    # State, two heads, next state; Heun's halves write or read the slope besides. Two separable terms in each: ddim has two
    # blurs, Heun's halves E and lambda E = (lambda_h E_h) E_w + E_h (lambda_w E_w).
    terms = 2
    tensors = {"step ddim": 4, "step euler": 5, "step heun": 5}[op]
    transforms = replace(blur, products=terms * blur.products, double=terms * sums + (terms * products if dtype == "float64" else 0))
    return replace(transforms, bytes=tensors * size * pixels + 14 * levels, extra_bytes=terms * blur.extra_bytes,
                   lanes=terms * blur.lanes + 8 * pixels)  # fmt: skip
