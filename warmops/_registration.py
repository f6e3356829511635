"""What the registered ops share: levels as tensors, output allocation, and the batching rule of vmap."""

from __future__ import annotations

import torch
from torch import Tensor


def image_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a blurred x: its own, float32 for uint8."""
    return torch.float32 if x.dtype == torch.uint8 else x.dtype


def empty_images(x: Tensor) -> Tensor:
    """An uninitialised output for x, in x's memory format."""
    return torch.empty_like(x, dtype=image_dtype(x))


def level_tensor(value: float | Tensor, x: Tensor) -> Tensor:
    """A level as a tensor ``[N]``: the dispatcher takes no union of float and Tensor."""
    if isinstance(value, Tensor):
        return value
    return torch.full((x.shape[0],), value, dtype=torch.float64, device=x.device)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """``[N]`` to ``[N, 1, ..., 1]``, in x's dtype."""
    return value.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def fold_vmap(size: int, t: Tensor | None, dim: int | None) -> Tensor | None:
    """``[V, N, ...]`` (V at ``dim``, or absent) to ``[V * N, ...]``: samples are independent, so vmap is a larger batch."""
    if t is None:
        return None
    t = t.unsqueeze(0).expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.flatten(0, 1)
