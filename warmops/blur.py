"""`warmops.blur`: Gaussian blur with reflecting edges, exact in the DCT domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from warmops import _checks, reference
from warmops._dispatch import check_backend, launcher, needs_dispatcher, plain_call
from warmops._registration import LevelFunction, below_autograd, empty_images, fold_vmap, image_dtype, level_tensor, register


def _launch(x: Tensor, sigma: float | Tensor, out: Tensor, backend: str | None) -> Tensor:
    launch = launcher(backend, x.device, "blur_noise")
    if x.numel():
        try:
            launch(x, sigma, 0.0, None, None, 1.0, out, None)
        except ValueError as error:
            raise _of_sigma(error) from None
    return out


def _of_sigma(error: ValueError) -> ValueError:
    """An error about a level inside a tensor, which has another name in the shared kernel."""
    return ValueError(str(error).replace("blur_sigma", "sigma"))


def _kernel(x: Tensor, sigma: Tensor, backend: str | None) -> Tensor:
    return _launch(x, sigma, empty_images(x), backend)


class _Derivatives(LevelFunction):
    @staticmethod
    def forward(x: Tensor, sigma: Tensor, backend: str | None) -> Tensor:
        return below_autograd(differentiable_blur, x, sigma, backend)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, sigma, ctx.backend = inputs
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, sigma)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, sigma = ctx.saved_tensors
        # A is self-adjoint: its backward is itself.
        grad_x = differentiable_blur(grad, sigma, ctx.backend) if ctx.needs_input_grad[0] else None
        grad_sigma = None
        if ctx.needs_input_grad[1]:
            grad_sigma = reference.blur_sigma_vjp(x, sigma, grad).to(sigma.dtype)
        return grad_x, grad_sigma, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, sigma: Tensor, backend: str | None) -> tuple[Tensor, int]:
        size = info.batch_size
        y = differentiable_blur(fold_vmap(size, x, in_dims[0]), fold_vmap(size, sigma, in_dims[1]), backend)
        return y.unflatten(0, (size, -1)), 0


differentiable_blur: Callable[..., Tensor] = register(
    "blur", "(Tensor x, Tensor sigma, str? backend) -> Tensor", _kernel, lambda x, *_: empty_images(x), _Derivatives
)


def blur(x: Tensor, sigma: float | Tensor, *, out: Tensor | None = None, backend: str | None = None) -> Tensor:
    """Blur images with a Gaussian of standard deviation ``sigma`` pixels and reflecting edges.

    ``A x = V M V^T x`` with the orthonormal 2-D DCT-II ``V`` and ``m_ij = exp(-pi^2 (i^2/H^2 + j^2/W^2) sigma^2 / 2)``:
    the heat equation with Neumann walls [Rissanen et al., ICLR 2023, section 3], exact at every size.
    ``blur(blur(x, a), b) = blur(x, sqrt(a^2 + b^2))``, the mean is kept, and ``sigma = 0`` returns the bits of x.

    Args:
        x: ``[N, ..., H, W]``, any H and W >= 1, any strides; float32, bfloat16, float16, float64, or uint8, which is
            read as ``x / 127.5 - 1``. Computed in float32 or better; float64 stays float64.
        sigma: blur level in pixels, >= 0: a float, or a floating-point tensor ``[N]`` on x's device (one per sample).
        out: tensor to write, with the shape and device of x and the dtype of the result, not overlapping x.
        backend: "reference", "cpu" or "triton" (see `warmops.backends`); default: the fastest for the device.

    Returns:
        The blurred images, with the shape and dtype of x (float32 for uint8).

    Differentiable by x and sigma, to any order; works under torch.compile, vmap and torch.func's grad, vjp and jacrev.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing is written. Negative or NaN values inside a CUDA tensor
            of levels are not checked (that would synchronise): those samples become NaN.
        RuntimeError: the named backend cannot run here (the message says why).

    Example:
        >>> images = torch.rand(16, 3, 32, 32)
        >>> warmops.blur(images, 2.0).shape
        torch.Size([16, 3, 32, 32])
    """
    if plain := plain_call(backend, "blur_noise"):
        try:
            done = plain(x, sigma, 0.0, None, None, False, None, out, torch.get_num_threads())
        except ValueError as error:
            raise _of_sigma(error) from None
        if done is not None:
            return done  # type: ignore[no-any-return]
    check_backend(backend)
    x = _checks.check_images("x", x)
    sigma = _checks.check_level("sigma", sigma, x)
    if out is not None:
        _checks.check_out("out", out, x.shape, image_dtype(x), x.device)
    if needs_dispatcher(x, sigma, out):
        if out is not None:
            raise ValueError("out must be None when autograd, torch.compile or vmap is at work")
        return differentiable_blur(x, level_tensor(sigma, x), backend)
    if out is None:
        out = empty_images(x)
    else:
        _checks.check_no_overlap([("out", out)], [("x", x)])
    return _launch(x, sigma, out, backend)
