"""What the launchers share: how tensors, levels and seeds become kernel arguments. Pure Python, no device work."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WIDE_FROM = 1 << 31
"""Samples of at least this many elements index them in 64 bits."""


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make a tensor's device the current one, on which Triton launches."""
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        return torch.cuda.device(device)
    return contextlib.nullcontext()


def to_int64(value: int) -> int:
    """An integer modulo 2^64 as the signed number of the same bits."""
    return (int(value) + (1 << 63)) % (1 << 64) - (1 << 63)


def level_argument(value: float | Tensor) -> tuple[Tensor | int, int, bool]:
    """(argument, stride, is tensor): a float travels as the bits of a double, since Triton would round it to float32."""
    if isinstance(value, Tensor):
        return value, value.stride(0) if value.shape[0] > 1 else 0, True
    return struct.unpack("<q", struct.pack("<d", float(value)))[0], 0, False


def seed_argument(seed: int | Tensor | None) -> tuple[Tensor | int, int, bool]:
    if isinstance(seed, Tensor):
        return seed, seed.stride(0) if seed.shape[0] > 1 else 0, True
    return to_int64(seed or 0), 0, False


@dataclass(frozen=True)
class Strides:
    """Strides (sample, channel, row, column) of a tensor in units of ``unit`` pixels, as the kernels take them."""

    n: int
    c: int
    h: int
    w: int
    unit: int

    def arguments(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w


def collapsed(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    """The one stride that walks these dimensions in row-major order, or None where there is none."""
    stride, reach = None, 0
    for size, step in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if stride is None:
            stride = step
        elif step != reach:
            return None
        reach = step * size
    return 0 if stride is None else stride


def strides_of(t: Tensor, vector: int) -> Strides | None:
    """Strides of ``[N, *dims, H, W]`` with the dims as one; rows of whole vectors count in vectors. None: not one."""
    channel = collapsed(t.shape[1:-2], t.stride()[1:-2])
    if channel is None:
        return None
    # The stride of a dimension of one element means nothing.
    sample, row, column = (s if n > 1 else 0 for n, s in ((t.shape[i], t.stride(i)) for i in (0, -2, -1)))
    if t.shape[-1] == 1:
        column = 1
    if vector > 1 and column == 1 and all(s % vector == 0 for s in (sample, channel, row)):
        return Strides(sample // vector, channel // vector, row // vector, 1, vector)
    return Strides(sample, channel, row, column, 1)


def splits(tensors: Sequence[Tensor | None]) -> Iterator[tuple[int, list[Tensor | None]]]:
    """(first channel, views) such that the channels of every view have one stride: usually the tensors themselves."""
    some = next(t for t in tensors if t is not None)
    if all(t is None or collapsed(t.shape[1:-2], t.stride()[1:-2]) is not None for t in tensors):
        yield 0, list(tensors)
        return
    inner = math.prod(some.shape[2:-2])
    for i in range(some.shape[1]):
        for channel, views in splits([None if t is None else t.select(1, i) for t in tensors]):
            yield i * inner + channel, views


def vector_width(dtype: torch.dtype, width: int) -> int:
    """Pixels of a group: 16 bytes where rows hold whole groups, four (the normals of a counter) if only that fits, or one."""
    if dtype.itemsize == 2 and dtype.is_floating_point and width % 8 == 0:
        return 8
    return 4 if width % 4 == 0 else 1


def strided(tensors: Sequence[Tensor | None], vector: int) -> tuple[list[Any], list[int], bool]:
    """(each tensor and its four strides, the unit of each one's strides, whether an image reaches over 2^31 elements)"""
    spare = next(t for t in tensors if t is not None)  # in place of one that is never read
    arguments: list[Any] = []
    units = []
    far = False
    for t in tensors:
        if t is None:
            arguments += [spare, 0, 0, 0, 0]
            units.append(1)
            continue
        strides = strides_of(t, vector)
        assert strides is not None  # `splits` saw to it
        arguments += [t, *strides.arguments()]
        units.append(strides.unit)
        far |= (t.shape[-2] - 1) * t.stride(-2) + (t.shape[-1] - 1) * t.stride(-1) >= WIDE_FROM
    return arguments, units, far


class Step:
    """The arguments of one blur_noise launch that its two forms share."""

    def __init__(
        self,
        x: Tensor,
        blur_sigma: float | Tensor,
        noise_sigma: float | Tensor,
        seed: int | Tensor | None,
        noise: Tensor | None,
        scale: float | Tensor,
        out: Tensor,
        blurred: Tensor | None,
    ) -> None:
        self.vector = vector_width(x.dtype, x.shape[-1])
        kind = 0 if not isinstance(noise_sigma, Tensor) and noise_sigma == 0.0 else 1 if noise is None else 2
        self.tensor_arguments, units, far = strided([x, out, blurred, noise if kind == 2 else None], self.vector)
        alpha, alpha_n, alpha_tensor = level_argument(blur_sigma)
        beta, beta_n, beta_tensor = level_argument(noise_sigma)
        factor, factor_n, factor_tensor = level_argument(scale)
        key, key_n, key_tensor = seed_argument(seed)
        self.level_arguments = [alpha, alpha_n, beta, beta_n, factor, factor_n, key, key_n]
        self.flags = {
            "ALPHA_TENSOR": alpha_tensor,
            "BETA_TENSOR": beta_tensor,
            "SCALE_TENSOR": factor_tensor,
            "SEED_TENSOR": key_tensor,
            "HAS_SCALE": factor_tensor or scale != 1.0,
            "NOISE": kind,
            "BLURRED": blurred is not None,
            "WIDE": math.prod(x.shape[1:]) >= WIDE_FROM,
            "FAR": far,
            **dict(zip(("X_UNIT", "OUT_UNIT", "BLURRED_UNIT", "NOISE_UNIT"), units, strict=True)),
        }


class SamplerStep:
    """The arguments of one sampler_step launch that its two forms share.

    tensors: x, head_b, head_r, slope, out, slope_out. coefficients: 14 floats, or a contiguous tensor ``[N, 14]``.
    """

    def __init__(self, tensors: Sequence[Tensor | None], coefficients: Sequence[float] | Tensor) -> None:
        x, head_b, head_r, slope, _, slope_out = tensors
        assert x is not None
        self.vector = vector_width(x.dtype, x.shape[-1])
        self.tensor_arguments, units, far = strided(tensors, self.vector)
        if isinstance(coefficients, Tensor):
            self.coefficients: list[Any] = [coefficients, *[0] * 14]
        else:
            self.coefficients = [x, *(level_argument(c)[0] for c in coefficients)]  # x: a pointer that is never read
        self.flags = {
            "TABLE": isinstance(coefficients, Tensor),
            "B": head_b is not None,
            "R": head_r is not None,
            "SLOPE": slope is not None,
            "SLOPE_OUT": slope_out is not None,
            "FAR": far,
            **dict(zip(("X_UNIT", "B_UNIT", "R_UNIT", "SLOPE_UNIT", "OUT_UNIT", "SLOPE_OUT_UNIT"), units, strict=True)),
        }
