"""What the registered ops share: registration itself, levels as tensors, output allocation, and vmap's batching rule.

An op's derivatives are an autograd function that runs where torch's dispatcher asks for derivatives, at one level of
them at a time. So one rule serves autograd, forward mode and any nesting of torch.func's transforms, eager and compiled;
`torch.library.custom_op` knows reverse mode only, and drops forward mode's tangents without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd.forward_ad import _set_fwd_grad_enabled
from torch.autograd.function import _SingleLevelFunction

LevelFunction = _SingleLevelFunction  # what torch.autograd.Function is without torch.func's own handling of it


def register(name: str, schema: str, kernel: Callable[..., Any], fake: Callable[..., Any], derivatives: Any) -> Callable[..., Any]:
    """Register ``warmops::name`` with torch and return it.

    kernel computes, fake allocates what it would return; derivatives is a `LevelFunction` whose forward is
    `below_autograd` of the op, and whose backward, jvp and vmap call the op.
    """

    def differentiable(*arguments: Any) -> Any:
        with enable_single_level_autograd_function():
            return derivatives.apply(*arguments)

    qualified = f"warmops::{name}"
    torch.library.define(qualified, schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(qualified, "CompositeExplicitAutograd")(_disable_dynamo(kernel))
    torch.library.impl(qualified, "Autograd")(differentiable)
    torch.library.register_fake(qualified)(fake)
    torch.library.register_vmap(qualified, derivatives.vmap)
    op: Callable[..., Any] = getattr(torch.ops.warmops, name)
    return op


def below_autograd(op: Callable[..., Any], *arguments: Any) -> Any:
    """The op without this level's derivatives; levels around it (grad of grad, jvp of grad) still see it."""
    with torch.enable_grad(), _set_fwd_grad_enabled(True), torch._C._AutoDispatchBelowAutograd():
        return op(*arguments)


def image_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a blurred x: its own, float32 for uint8."""
    return torch.float32 if x.dtype == torch.uint8 else x.dtype


def empty_images(x: Tensor) -> Tensor:
    """An uninitialised output for x, in x's memory format."""
    return torch.empty_like(x, dtype=torch.float32) if x.dtype == torch.uint8 else torch.empty_like(x)


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
