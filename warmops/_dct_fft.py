"""Discrete cosine and sine transforms by real FFTs of the same length, in plain PyTorch: for lengths beyond a kernel's reach."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from warmops.reference import dct_ends


def transform(x: Tensor, dim: int, n: int, kind: int, scale: float, ends_in: float, ends_out: float) -> Tensor:
    """``scale * D(ends_out) K D(ends_in) x`` along ``dim``, kinds and D as in `warmops.reference.dct`.

    x: float32 or float64; cropped, or padded with zeros at its end, to n. Returns the same dtype, n along ``dim``.
    """
    x = x.movedim(dim, -1)[..., :n]
    x = torch.cat([x, x.new_zeros(*x.shape[:-1], n - x.shape[-1])], dim=-1)  # [..., n], ours
    before, after = dct_ends(kind, n)
    for end in before:
        x[..., end] *= ends_in
    if kind == 5:
        x[..., 1::2] *= -1  # the reversed cosine II of alternating input
    y = _KERNELS[kind % 4 if kind != 4 else 4](x.flip(-1) if kind in (6, 7) else x)
    if kind == 5:
        y = y.flip(-1)
    y = y * scale
    if kind in (6, 7):
        y[..., 1::2] *= -1
    for end in after:
        y[..., end] *= ends_out
    return y.movedim(-1, dim)


def _quarter_turns(n: int, x: Tensor) -> Tensor:
    """``exp(-i pi k / (2n))``, k = 0 .. n // 2, rounded once."""
    angle = torch.arange(n // 2 + 1, device=x.device, dtype=torch.float64) * (math.pi / (2 * n))
    return torch.polar(torch.ones_like(angle), -angle).to(x.dtype.to_complex())


def _cosine1(x: Tensor) -> Tensor:
    """The FFT of x and its mirror image without the ends, ``[..., 2 (n - 1)]``; the ends are in it once, the others twice."""
    inner = x[..., 1:-1] / 2
    spectrum: Tensor = torch.fft.rfft(torch.cat([x[..., :1], inner, x[..., -1:], inner.flip(-1)], dim=-1))
    return spectrum.real


def _sine1(x: Tensor) -> Tensor:
    """The FFT of zero, x, zero and minus its mirror image, ``[..., 2 (n + 1)]``."""
    zero = torch.zeros_like(x[..., :1])
    spectrum: Tensor = torch.fft.rfft(torch.cat([zero, x, zero, -x.flip(-1)], dim=-1))
    return spectrum.imag[..., 1:-1] / -2


def _cosine2(x: Tensor) -> Tensor:
    """The even elements forwards, then the odd ones backwards [Makhoul, IEEE Trans. ASSP 28(1), 1980]."""
    n = x.shape[-1]
    z = torch.fft.rfft(torch.cat([x[..., 0::2], x[..., 1::2].flip(-1)], dim=-1)) * _quarter_turns(n, x)
    return torch.cat([z.real, -z.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1)


def _cosine3(x: Tensor) -> Tensor:
    """The inverse of `_cosine2`, whose element 0 counts once and not twice, times n / 2."""
    n = x.shape[-1]
    half = n // 2
    mirrored = torch.cat([torch.zeros_like(x[..., :1]), x[..., n - half :].flip(-1)], dim=-1)  # x_(n-k), k = 0 .. n // 2
    front = x[..., : half + 1].clone()
    front[..., 0] *= 2
    v = torch.fft.irfft(torch.complex(front, -mirrored) * _quarter_turns(n, x).conj(), n=n) * (n / 2)
    y = torch.empty_like(x)
    y[..., 0::2] = v[..., : (n + 1) // 2]
    y[..., 1::2] = v[..., (n + 1) // 2 :].flip(-1)
    return y


def _cosine4(x: Tensor) -> Tensor:
    """The odd elements of `_cosine2` of twice the length."""
    return _cosine2(torch.cat([x, torch.zeros_like(x)], dim=-1))[..., 1::2].clone()


_KERNELS = (_cosine1, _cosine2, _cosine3, _cosine4, _sine1)
