"""Launchers of the CUDA C++ kernels in ``csrc/cuda``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from warmops import _C, _dct_fft

_Axis = tuple[int, int, float, float, float]  # dim, kind, scale, ends_in, ends_out


def normal(out: Tensor, seed: int | Tensor) -> None:
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream(out.device).cuda_stream
        _C.normal_cuda(out, seed, stream)


def dct(x: Tensor, out: Tensor, axes: tuple[_Axis, ...]) -> None:
    """One launch for two axes where the image fits in shared memory, else one per axis; FFTs where one line does not."""
    groups = _groups(out, axes)
    wide = torch.float64 if out.dtype == torch.float64 else torch.float32
    between = out if len(groups) == 1 or out.dtype == wide else torch.empty_like(out, dtype=wide)
    for dim, *_ in axes:
        x = x.narrow(dim, 0, min(x.shape[dim], out.shape[dim]))
    for i, (group, fits) in enumerate(groups):
        target = out if i == len(groups) - 1 else between
        for later, _ in groups[i + 1 :]:
            for dim, *_ in later:
                target = target.narrow(dim, 0, x.shape[dim])  # padded when its turn comes
        if fits:
            _launch(x, target, group)
        else:
            target.copy_(_dct_fft.transform(x.to(wide), group[0][0], out.shape[group[0][0]], *group[0][1:]))
        x = target  # a launch may write where it reads: a tile is read whole before it is written


def _groups(out: Tensor, axes: tuple[_Axis, ...]) -> list[tuple[tuple[_Axis, ...], bool]]:
    """Axes that one step transforms, and whether a kernel can."""
    groups, rest = [], list(axes)
    while rest:
        for size in (2, 1):
            group = tuple(rest[-size:])
            fits = len(group) == size and _fits(out, group)
            if fits or size == 1:
                groups.append((group, fits))
                del rest[-size:]
                break
    return groups


def _fits(out: Tensor, axes: Sequence[_Axis]) -> bool:
    with torch.cuda.device(out.device):
        return _C.dct_cuda_fits([(kind, out.shape[dim]) for dim, kind, *_ in axes], out.dtype == torch.float64)


def _launch(x: Tensor, out: Tensor, axes: Sequence[_Axis]) -> None:
    with torch.cuda.device(out.device):
        _C.dct_cuda(x, out, axes, torch.cuda.current_stream(out.device).cuda_stream)
