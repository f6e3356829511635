"""Inputs shared by the tests: shapes, levels, images, strided and guarded tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import warmops

INF = math.inf
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
HALVES = (torch.float16, torch.bfloat16)
# The levels every backend must take in one batch; None is drawn like the paper's: alpha = beta / 2, ln beta ~ N(-1.2, 1.2^2).
LEVELS = (0.0, None, 1.0, 1e-3, 3.0, None, INF, 10.0, 1e-30, 40.0, None, 1e6)
SHAPES = (
    (12, 3, 32, 32),
    (12, 3, 1, 1),
    (12, 2, 1, 7),
    (12, 2, 7, 1),
    (12, 1, 2, 2),
    (12, 3, 5, 3),
    (12, 1, 13, 31),
    (12, 3, 17, 64),
    (12, 8, 9),
    (12, 2, 3, 8, 12),
    (12, 2, 2, 3, 6, 5),
    (12, 1, 8, 8),
    (12, 2, 33, 47),
    (12, 3, 64, 64),
    (12, 1, 100, 20),
    (6, 1, 127, 129),
    (6, 3, 128, 128),
    (3, 1, 256, 256),
)
LARGE_SHAPES = ((2, 1, 3, 1023), (1, 1, 1024, 1024), (2, 1, 509, 384))


def available(name: str) -> str:
    status = warmops.backends()[name]
    if not status:
        pytest.skip(f"backend {name}: {status.detail}")
    return name


def ident(value: object) -> str | None:
    """Readable test ids: 12x3x32x32, float32."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
        return "x".join(map(str, value)) or "scalar"
    return None


shapes = pytest.mark.parametrize("shape", SHAPES, ids=ident)
float_dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=ident)
all_dtypes = pytest.mark.parametrize("dtype", [*FLOATS, torch.uint8], ids=ident)
half_dtypes = pytest.mark.parametrize("dtype", HALVES, ids=ident)


def randn(shape: Sequence[int], rng: torch.Generator, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(device, dtype)


def images(shape: Sequence[int], dtype: torch.dtype, rng: torch.Generator, device: str = "cpu") -> Tensor:
    """Bright images: no mean is near zero, where a relative error says nothing."""
    if dtype == torch.uint8:
        return torch.randint(135, 256, tuple(shape), generator=rng).to(device, dtype)
    return (0.05 + 0.95 * torch.rand(*shape, generator=rng, dtype=torch.float64)).to(device, dtype)


def levels(n: int, rng: torch.Generator, device: str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    """n levels: all of LEVELS in turn, from a random start."""
    start = int(torch.randint(len(LEVELS), (), generator=rng))
    values = [LEVELS[(start + i) % len(LEVELS)] for i in range(n)]
    drawn = 0.5 * torch.exp(-1.2 + 1.2 * torch.randn(n, generator=rng, dtype=torch.float64))
    return torch.tensor([float(d) if v is None else v for v, d in zip(values, drawn, strict=True)], dtype=dtype, device=device)


def noise_levels(n: int, rng: torch.Generator, device: str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    """Finite levels: EDM's 80 is the largest that is used."""
    return levels(n, rng, device, dtype).clamp(max=80.0)


def bit_equal(a: Tensor, b: Tensor) -> bool:
    """Same shape, dtype and bits (-0.0 is not 0.0; a NaN equals itself)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(a.contiguous().view(kind), b.contiguous().view(kind))


# ---- tensors inside larger buffers ----

LAYOUTS = ("contiguous", "offset", "transposed", "channels_last", "batch_last", "sliced", "padded_rows", "reversed_dims")
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def layout_strides(shape: Sequence[int], layout: str) -> list[int]:
    dims = len(shape)
    order, step, pad = list(range(dims)), [1] * dims, [0] * dims
    if layout == "transposed":
        order[-2:] = [dims - 1, dims - 2]
    elif layout == "channels_last":
        order = [0, *range(2, dims), 1]
    elif layout == "batch_last":
        order = [*range(1, dims), 0]
    elif layout == "reversed_dims":
        order.reverse()
    elif layout == "sliced":
        step[-1], step[-2], step[0] = 2, 3, 2
    elif layout == "padded_rows":
        pad[-1] = 5
    strides, pitch = [0] * dims, 1
    for d in reversed(order):
        strides[d] = pitch * step[d]
        pitch *= shape[d] * step[d] + pad[d]
    return strides


class Guarded:
    """A tensor of any layout inside a buffer of sentinels; `untouched` tells whether anything else was written."""

    MARGIN = 64

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: str, layout: str = "contiguous") -> None:
        strides = layout_strides(shape, layout)
        size = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if math.prod(shape) else 0
        start = self.MARGIN + (3 if layout == "offset" else 0)
        self._kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
        self._where = (tuple(shape), strides, start)
        self._buffer = torch.full((start + size + self.MARGIN,), 0x5A, dtype=self._kind, device=device)
        self.tensor = self._buffer.view(dtype).as_strided(*self._where)
        self._before = self._buffer.clone()

    def untouched(self, including_tensor: bool = False) -> bool:
        after = self._buffer.clone()
        if not including_tensor:
            after.as_strided(*self._where).copy_(self._before.as_strided(*self._where))
        return torch.equal(after, self._before)


def strided(values: Tensor, layout: str) -> Tensor:
    """The same values in memory of another layout, with an offset and gaps."""
    view = Guarded(values.shape, values.dtype, str(values.device), layout).tensor
    return view.copy_(values)
