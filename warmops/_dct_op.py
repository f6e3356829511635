"""How a DCT runs: straight to the kernel, through autograd and torch.func, or as the registered op ``warmops::dct``.

The op and the autograd function transform without changing sizes; cropping and padding around them are torch's own
differentiable operations. One rule then gives every derivative: the transpose of a transform is another transform.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from warmops import _checks
from warmops._dct_plan import Axis, Transform, axes, integers, one_axis, plan, resized, several_axes, transform
from warmops._dispatch import check_backend, launcher, needs_dispatcher


def _launch(x: Tensor, out: Tensor, along: tuple[Axis, ...], backend: str | None) -> Tensor:
    """Write the transform of ``x`` into ``out``; complex numbers are transformed part by part."""
    launch = launcher(backend, x.device, "dct")
    if out.numel() == 0:
        return out
    if x.numel() == 0:  # nothing but padding
        return out.zero_()
    if x.is_conj():
        x = x.resolve_conj()
    if x.is_neg():
        x = x.resolve_neg()
    if not along:
        return out.copy_(x)
    if x.is_complex():
        launch(torch.view_as_real(x), torch.view_as_real(out), along)
    else:
        launch(x, out, along)
    return out


@torch.library.custom_op("warmops::dct", mutates_args=())
def _dct(x: Tensor, dims: Sequence[int], kind: int, scaling: str, ends_in: float, ends_out: float, backend: str | None) -> Tensor:
    along = axes(Transform(kind, scaling, ends_in, ends_out), tuple(x.shape), tuple(dims)) if x.numel() else ()
    return _launch(x, torch.empty_like(x), along, backend)


@_dct.register_fake
def _(x: Tensor, dims: Sequence[int], kind: int, scaling: str, ends_in: float, ends_out: float, backend: str | None) -> Tensor:
    return torch.empty_like(x)


def _mapped(op: Callable[..., Tensor], info: Any, in_dims: Any, x: Tensor, dims: Sequence[int], *rest: Any) -> tuple[Tensor, int]:
    """vmap: one more dimension that is not transformed, wherever it is."""
    mapped = in_dims[0] % x.ndim
    return op(x, [d + (d >= mapped) for d in dims], *rest), mapped


def _transposed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    dims, *of, backend = arguments
    return dims, *Transform(*of).transposed(), backend


def _keep_arguments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.arguments = inputs[1:]


def _backward(op: Callable[..., Tensor], ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return op(grad, *_transposed(ctx.arguments)), *[None] * len(ctx.arguments)


_registered: Callable[..., Tensor] = torch.ops.warmops.dct
_dct.register_vmap(functools.partial(_mapped, _registered))
_dct.register_autograd(functools.partial(_backward, _registered), setup_context=_keep_arguments)


class _Differentiable(torch.autograd.Function):
    """The same with what an op registered from Python cannot have: forward mode, and every transform of torch.func."""

    @staticmethod
    def forward(x: Tensor, dims: Sequence[int], kind: int, scaling: str, ends_in: float, ends_out: float, backend: str | None) -> Tensor:
        return _registered(x, dims, kind, scaling, ends_in, ends_out, backend)

    setup_context = staticmethod(_keep_arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(_apply, ctx, grad)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _apply(tangent, *ctx.arguments)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Tensor, int]:
        return _mapped(_apply, info, in_dims, *arguments)


_apply: Callable[..., Tensor] = _Differentiable.apply


def _fitted(x: Tensor, dims: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """``x`` cropped or padded with zeros at the end of each dimension."""
    padding = [0] * (2 * x.ndim)
    for d, n in zip(dims, sizes, strict=True):
        if n < x.shape[d]:
            x = x.narrow(d, 0, n)
        elif n > x.shape[d]:
            padding[2 * (x.ndim - 1 - d) + 1] = n - x.shape[d]
    return torch.nn.functional.pad(x, padding) if any(padding) else x


def _recorded(
    function: str,
    x: Tensor,
    type: Any,  # noqa: A002
    n: Any,
    dim: Any,
    norm: Any,
    orthogonalize: Any,
    several: bool,
    out: Any,
    backend: str | None,
) -> Tensor:
    of = transform(function, type, norm, orthogonalize)
    dims, sizes = (several_axes if several else one_axis)(x.shape, n, dim)
    shape = resized("s" if several else "n", of.kind, x.shape, dims, sizes)
    if out is not None:
        _checks.check_out("out", out, shape, x.dtype, x.device)
        raise ValueError("out must be None when autograd, torch.compile or vmap is at work")
    x = _fitted(x, dims, sizes)
    run = _registered if torch.compiler.is_compiling() else _apply
    return run(x, list(dims), *of, backend)


def call(
    function: str,
    x: Any,
    type: Any,  # noqa: A002
    n: Any,
    dim: Any,
    norm: Any,
    orthogonalize: Any,
    several: bool,
    out: Any,
    backend: Any,
) -> Tensor:
    """The body of every public function; ``n`` is s where there are several dimensions."""
    check_backend(backend)
    x = _checks.check_numbers("x", x)
    if needs_dispatcher(x, out):
        return _recorded(function, x, type, n, dim, norm, orthogonalize, several, out, backend)
    if several:  # as tuples, which can be remembered
        n, dim = (value if value is None else integers(name, value) for name, value in (("s", n), ("dim", dim)))
    try:
        planned = plan(function, x.shape, type, n, dim, norm, orthogonalize, several)
    except TypeError:  # perhaps only that an argument cannot be remembered: let it be checked
        planned = None
    shape, along = planned or plan.__wrapped__(function, x.shape, type, n, dim, norm, orthogonalize, several)
    if out is None:
        out = torch.empty_like(x) if shape == x.shape else x.new_empty(shape)
    else:
        _checks.check_out("out", out, shape, x.dtype, x.device)
        _checks.check_no_overlap("out", out, "x", x)
    return _launch(x, out, along, backend)
