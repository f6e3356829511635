"""Tensors whose elements lie billions of elements apart, in memory of which only the touched pages exist."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
FAR = (2**31 + 11, 2**32 + 3)
"""Strides in elements that neither 31 nor 32 bits hold."""


def far_strides(shape: Sequence[int], dim: int, stride: int) -> list[int]:
    """Contiguous strides, but for ``dim``, whose elements are ``stride`` apart."""
    strides, pitch = [0] * len(shape), 1
    for d in reversed(range(len(shape))):
        strides[d] = pitch
        pitch *= shape[d]
    strides[dim] = stride
    return strides


def sparse(values: Tensor, strides: Sequence[int]) -> Tensor:
    """The values in memory with these strides; a test is skipped where the system refuses that much address space."""
    span = sum((n - 1) * s for n, s in zip(values.shape, strides, strict=True)) + 1
    try:
        memory = mmap.mmap(-1, span * values.element_size(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    except OSError as error:
        pytest.skip(f"no {span * values.element_size() >> 30} GiB of address space: {error}")
    flat = torch.frombuffer(memory, dtype=values.dtype, count=span)
    return flat.as_strided(tuple(values.shape), tuple(strides)).copy_(values)
