"""Launchers of the C++ kernels in ``csrc/cpu``: the extension reads tensors where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from warmops import _C, _dct_fft
from warmops._dct_plan import Axis as _Axis
from warmops._fork import alone_after_fork


def _narrow(value: float | Tensor) -> float | Tensor:
    """float16 and bfloat16 levels in float32 (kept alive by the caller while the kernel reads them)."""
    if isinstance(value, Tensor) and value.dtype not in (torch.float32, torch.float64):
        return value.float()
    return value


def normal(out: Tensor, seed: int | Tensor) -> None:
    _C.normal(out, seed, torch.get_num_threads())


def dct(x: Tensor, out: Tensor, axes: tuple[_Axis, ...]) -> None:
    long = [axis for axis in axes if _C.dct_by_fft(axis[1], out.shape[axis[0]])]
    if long:
        _dct_through_fft(x, out, axes, long)
    else:
        _C.dct(x, out, axes, torch.get_num_threads())


@alone_after_fork
def _dct_through_fft(x: Tensor, out: Tensor, axes: tuple[_Axis, ...], long: list[_Axis]) -> None:
    y = x.to(torch.float64)
    for axis in long:
        y = _dct_fft.transform(y, axis[0], out.shape[axis[0]], *axis[1:])
    rest = tuple(axis for axis in axes if axis not in long)
    if rest:
        wide = torch.empty_like(out, dtype=torch.float64)
        _C.dct(y, wide, rest, torch.get_num_threads())
        y = wide
    out.copy_(y)


def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    seed: int | Tensor | None,
    noise: Tensor | None,
    scale: float | Tensor,
    out: Tensor,
    blurred: Tensor | None,
) -> None:
    levels = _narrow(blur_sigma), _narrow(noise_sigma)
    _C.blur_noise(x, *levels, seed, noise, _narrow(scale), out, blurred, torch.get_num_threads())


def sampler_step(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: tuple[float, ...] | Tensor,
    out: Tensor,
    slope_out: Tensor | None,
) -> None:
    numbers, table = ((), coefficients) if isinstance(coefficients, Tensor) else (coefficients, None)
    _C.sampler_step(x, head_b, head_r, slope, numbers, table, out, slope_out, torch.get_num_threads())
