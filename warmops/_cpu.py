"""Launchers of the C++ kernels in ``csrc/cpu``: tensors become addresses, sizes and strides."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from warmops import _C, _dct_fft
from warmops._dct_plan import Axis as _Axis
from warmops._fork import alone_after_fork

_CODES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3, torch.uint8: 4}
_ABSENT = (0, 0, ())


def _view(t: Tensor | None) -> tuple[int, int, tuple[int, ...]]:
    """Address, dtype code and strides (in elements)."""
    return _ABSENT if t is None else (t.data_ptr(), _CODES[t.dtype], t.stride())


def _level(value: float | Tensor) -> tuple[float, int, int, int]:
    """Scalar value, or the address, dtype code and stride of one value per sample."""
    if isinstance(value, Tensor):
        return 0.0, value.data_ptr(), _CODES[value.dtype], value.stride(0)
    return value, 0, 0, 0


def _seed(seed: int | Tensor | None) -> tuple[int, int, int]:
    """First seed, or the address and stride of one seed per sample."""
    if isinstance(seed, Tensor):
        return 0, seed.data_ptr(), seed.stride(0)
    return seed or 0, 0, 0


def _narrow(value: float | Tensor) -> float | Tensor:
    """float16 and bfloat16 levels in float32 (kept alive by the caller while the kernel reads them)."""
    if isinstance(value, Tensor) and value.dtype not in (torch.float32, torch.float64):
        return value.float()
    return value


def normal(out: Tensor, seed: int | Tensor) -> None:
    _C.normal(_view(out), out.shape, _seed(seed), torch.get_num_threads())


@functools.cache
def _by_fft(kind: int, n: int) -> bool:
    """Whether an axis goes through an FFT: the kernels multiply odd factors out, and work in caches."""
    points = odd = n - 1 if kind == 0 else n + 1 if kind == 4 else n
    while odd and odd % 2 == 0:
        odd //= 2
    return odd > 2048 or points > 16384


def dct(x: Tensor, out: Tensor, axes: tuple[_Axis, ...]) -> None:
    long = [axis for axis in axes if _by_fft(axis[1], out.shape[axis[0]])]
    if long:
        _dct_through_fft(x, out, axes, long)
    else:
        _C.dct(_view(x), x.shape, _view(out), out.shape, axes, torch.get_num_threads())


@alone_after_fork
def _dct_through_fft(x: Tensor, out: Tensor, axes: tuple[_Axis, ...], long: list[_Axis]) -> None:
    y = x.to(torch.float64)
    for axis in long:
        y = _dct_fft.transform(y, axis[0], out.shape[axis[0]], *axis[1:])
    rest = tuple(axis for axis in axes if axis not in long)
    if rest:
        wide = torch.empty_like(out, dtype=torch.float64)
        _C.dct(_view(y), y.shape, _view(wide), wide.shape, rest, torch.get_num_threads())
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
    blur_sigma, noise_sigma, scale = _narrow(blur_sigma), _narrow(noise_sigma), _narrow(scale)
    _C.blur_noise(
        _view(x),
        x.shape,
        _level(blur_sigma),
        _level(noise_sigma),
        _seed(seed),
        _view(noise),
        _level(scale),
        _view(out),
        _view(blurred),
        torch.get_num_threads(),
    )


def sampler_step(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: tuple[float, ...] | Tensor,
    out: Tensor,
    slope_out: Tensor | None,
) -> None:
    numbers, table = ((), coefficients.data_ptr()) if isinstance(coefficients, Tensor) else (coefficients, 0)
    _C.sampler_step(
        _view(x),
        x.shape,
        _view(head_b),
        _view(head_r),
        _view(slope),
        numbers,
        table,
        _view(out),
        _view(slope_out),
        torch.get_num_threads(),
    )
