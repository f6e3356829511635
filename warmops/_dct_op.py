"""How a DCT runs: straight to the kernel, or as the registered op ``warmops::dct`` where torch has to know of it.

The op transforms without changing sizes; cropping and padding around it are torch's own differentiable operations. One
rule then gives every derivative: the transpose of a transform is another transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from warmops import _checks
from warmops._dct_plan import Axis, Transform, axes, one_axis, plan, resized, several_axes, transform
from warmops._dispatch import check_backend, launcher, needs_dispatcher, plain_call
from warmops._registration import LevelFunction, below_autograd, register


def _launch(x: Tensor, out: Tensor, along: tuple[Axis, ...], backend: str | None) -> Tensor:
    """Write the transform of ``x`` into ``out``; complex numbers are transformed part by part."""
    launch = launcher(backend, x.device, "dct")
    if out.numel() == 0:
        return out
    if x.numel() == 0:  # nothing but padding
        return out.zero_()
    if x.is_conj():
        x = x.resolve_conj()
    x = _checks.as_in_memory(x)
    if not along:
        return out.copy_(x)
    if x.is_complex():
        launch(torch.view_as_real(x), torch.view_as_real(out), along)
    else:
        launch(x, out, along)
    return out


def _kernel(x: Tensor, dims: Sequence[int], kind: int, scaling: str, ends_in: float, ends_out: float, backend: str | None) -> Tensor:
    along = axes(Transform(kind, scaling, ends_in, ends_out), tuple(x.shape), tuple(dims)) if x.numel() else ()
    return _launch(x, torch.empty_like(x), along, backend)


class _Derivatives(LevelFunction):
    """A transform is linear: forward mode is the transform again, reverse mode its transpose."""

    @staticmethod
    def forward(x: Tensor, *arguments: Any) -> Tensor:
        return below_autograd(_dct, x, *arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.arguments = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dims, *of, backend = ctx.arguments
        return _dct(grad, dims, *Transform(*of).transposed(), backend), *[None] * len(ctx.arguments)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _dct(tangent, *ctx.arguments)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, dims: Sequence[int], *arguments: Any) -> tuple[Tensor, int]:
        mapped = in_dims[0] % x.ndim  # one more dimension that is not transformed, wherever it is
        return _dct(x, [d + (d >= mapped) for d in dims], *arguments), mapped


_dct: Callable[..., Tensor] = register(
    "dct",
    "(Tensor x, int[] dims, int kind, str scaling, float ends_in, float ends_out, str? backend) -> Tensor",
    _kernel,
    lambda x, *_: torch.empty_like(x),
    _Derivatives,
)


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
    return _dct(_fitted(x, dims, sizes), list(dims), *of, backend)


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
    if x.__class__ is Tensor and (plain := plain_call(backend, "dct")):
        shape, along = plan(function, x.shape, type, n, dim, norm, orthogonalize, several)
        if shape == x.shape:
            done = plain(x, along, out, torch.get_num_threads())
            if done is not None:
                return done  # type: ignore[no-any-return]
    check_backend(backend)
    x = _checks.check_numbers("x", x)
    if needs_dispatcher(x, out):
        return _recorded(function, x, type, n, dim, norm, orthogonalize, several, out, backend)
    shape, along = plan(function, x.shape, type, n, dim, norm, orthogonalize, several)
    if out is None:
        out = torch.empty_like(x) if shape == x.shape else x.new_empty(shape)
    else:
        _checks.check_out("out", out, shape, x.dtype, x.device)
        _checks.check_no_overlap([("out", out)], [("x", x)])
    return _launch(x, out, along, backend)
