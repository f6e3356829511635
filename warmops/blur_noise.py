"""`warmops.blur_noise`: the forward step of blur-noise mixture diffusion, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from warmops import _checks, reference
from warmops._dispatch import check_backend, launcher, needs_dispatcher, plain_call
from warmops._registration import LevelFunction, below_autograd, empty_images, fold_vmap, image_dtype, level_tensor, per_sample, register
from warmops.blur import differentiable_blur


def _launch(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    seed: int | Tensor | None,
    noise: Tensor | None,
    scale: float | Tensor,
    out: Tensor,
    blurred: Tensor | None,
    backend: str | None,
) -> None:
    launch = launcher(backend, x.device, "blur_noise")
    if x.numel():
        launch(x, blur_sigma, noise_sigma, seed, noise, scale, out, blurred)


def _kernel(
    x: Tensor,
    blur_sigma: Tensor,
    noise_sigma: Tensor,
    seed: Tensor | None,
    noise: Tensor | None,
    scale: Tensor | None,
    return_blurred: bool,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    out = empty_images(x)
    blurred = empty_images(x) if return_blurred else None
    if seed is None and noise is None:
        noise_sigma_or_zero: float | Tensor = 0.0
    else:
        noise_sigma_or_zero = noise_sigma
    _launch(x, blur_sigma, noise_sigma_or_zero, seed, noise, 1.0 if scale is None else scale, out, blurred, backend)
    return out, out.new_empty(0) if blurred is None else blurred


def _fake(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    out, return_blurred = empty_images(x), arguments[5]
    return out, empty_images(x) if return_blurred else out.new_empty(0)


class _Derivatives(LevelFunction):
    @staticmethod
    def forward(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        return below_autograd(_blur_noise, x, *arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, blur_sigma, noise_sigma, seed, noise, scale, ctx.return_blurred, ctx.backend = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, blur_sigma, noise_sigma, seed, noise, scale)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad_blurred: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of ``out = scale (A x + b eps)`` and ``blurred = A x``, in terms of differentiable ops."""
        x, blur_sigma, noise_sigma, seed, noise, scale = ctx.saved_tensors
        needs_x, needs_blur, needs_noise_sigma, _, needs_noise, needs_scale = ctx.needs_input_grad[:6]
        grads: list[Tensor | None] = [None] * 8

        scaled = grad_out
        if grad_out is not None and scale is not None:
            scaled = per_sample(scale, grad_out) * grad_out
        total = scaled
        if grad_blurred is not None and ctx.return_blurred:
            total = grad_blurred if scaled is None else scaled + grad_blurred
        if total is not None and needs_x:
            grads[0] = differentiable_blur(total, blur_sigma, ctx.backend)
        if total is not None and needs_blur:
            grads[1] = reference.blur_sigma_vjp(x, blur_sigma, total).to(blur_sigma.dtype)
        if grad_out is None or scaled is None:
            return tuple(grads)

        drawn = noise is not None or seed is not None
        eps = noise
        if eps is None and drawn and (needs_noise_sigma or needs_scale):
            eps = torch.ops.warmops.normal(x.shape, seed, grad_out.dtype, ctx.backend)
        if needs_noise_sigma and drawn:
            grads[2] = (scaled * eps).sum(dim=tuple(range(1, x.ndim))).to(noise_sigma.dtype)
        if needs_noise:
            grads[4] = per_sample(noise_sigma, scaled) * scaled
        if needs_scale:
            unscaled = differentiable_blur(x, blur_sigma, ctx.backend)
            if drawn:
                unscaled = unscaled + per_sample(noise_sigma, unscaled) * eps
            grads[5] = (grad_out * unscaled).sum(dim=tuple(range(1, x.ndim))).to(scale.dtype)
        return tuple(grads)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
        tensors, (return_blurred, backend) = args[:6], args[6:]
        size = info.batch_size
        folded = [fold_vmap(size, t, dim) for t, dim in zip(tensors, in_dims, strict=False)]
        out, blurred = _blur_noise(*folded, return_blurred, backend)
        out = out.unflatten(0, (size, -1))
        if not return_blurred:
            return (out, blurred), (0, None)
        return (out, blurred.unflatten(0, (size, -1))), (0, 0)


_blur_noise: Callable[..., tuple[Tensor, Tensor]] = register(
    "blur_noise",
    "(Tensor x, Tensor blur_sigma, Tensor noise_sigma, Tensor? seed, Tensor? noise, Tensor? scale, bool return_blurred, str? backend)"
    " -> (Tensor, Tensor)",
    _kernel,
    _fake,
    _Derivatives,
)


def _check_outputs(out: Any, return_blurred: bool, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """``out`` as the pair (out, blurred)."""
    if out is None:
        return None, None
    if not return_blurred:
        return _checks.check_out("out", out, x.shape, image_dtype(x), x.device), None
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out must be a pair (out, blurred) when return_blurred=True, got {type(out).__name__}")
    for name, tensor in zip(("out[0]", "out[1]"), out, strict=True):
        _checks.check_out(name, tensor, x.shape, image_dtype(x), x.device)
    return out[0], out[1]


@overload
def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    *,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    scale: float | Tensor | None = None,
    return_blurred: Literal[False] = False,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor: ...


@overload
def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    *,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    scale: float | Tensor | None = None,
    return_blurred: Literal[True],
    out: tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]: ...


@overload
def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    *,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    scale: float | Tensor | None = None,
    return_blurred: bool = False,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...


def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    *,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    scale: float | Tensor | None = None,
    return_blurred: bool = False,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Blur images and add Gaussian noise: ``x_t = scale * (A x + noise_sigma * eps)``, in one pass.

    The forward process of blur-noise mixture diffusion [Hsueh et al., Warm Diffusion, ICLR 2025, section 3]:
    ``q(x_t | x_0) = N(A x_0, noise_sigma^2 I)``, where ``A`` is the blur of `warmops.blur`. ``blur_sigma = 0`` is
    EDM's forward process (hot), ``noise_sigma = 0`` is inverse heat dissipation's (cold).

    Args:
        x: ``[N, ..., H, W]``, any H and W >= 1, any strides; float32, bfloat16, float16, float64, or uint8, which is
            read as ``x / 127.5 - 1``. Computed in float32 or better; float64 stays float64.
        blur_sigma: alpha, the blur's standard deviation in pixels, >= 0: a float, or a floating-point tensor ``[N]``
            on x's device. 0 leaves the bits of x.
        noise_sigma: beta, the noise's standard deviation in units of x, >= 0: a float or a tensor ``[N]``. 0 draws
            nothing and gives the bits of `warmops.blur`.
        seed: an int in the int64 range (sample ``i`` uses ``seed + i``), or an int64 tensor ``[N]`` of one seed per
            sample. The noise is a function of the seed alone: `warmops.normal`. Without a seed, seeds are drawn from
            ``generator`` or from torch's default generator, so ``torch.manual_seed`` works.
        generator: where to draw seeds from.
        noise: the noise ``eps`` itself, with x's shape and the result's dtype, instead of a seed.
        scale: factor of the result, a float or a tensor ``[N]`` (a denoiser's ``c_in`` costs no pass of its own).
        return_blurred: also return ``A x``, the denoiser's target, from the same pass; it is not scaled.
        out: tensor to write, not overlapping x; with ``return_blurred`` a pair of them.
        backend: "reference", "cpu" or "triton"; default: the fastest for the device.

    Returns:
        ``x_t`` with the shape and dtype of x (float32 for uint8); with ``return_blurred`` the pair ``(x_t, A x)``.

    Differentiable by x, both levels, noise and scale, to any order; works under torch.compile, vmap and torch.func's
    grad, vjp and jacrev.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing is written. Negative or NaN values inside a CUDA tensor
            of levels are not checked (that would synchronise): those samples become NaN.
        RuntimeError: the named backend cannot run here (the message says why).

    Example:
        >>> images = torch.rand(16, 3, 32, 32)
        >>> beta = torch.exp(torch.randn(16) * 1.2 - 1.2)
        >>> x_t, blurred = warmops.blur_noise(images, 0.5 * beta, beta, seed=0, return_blurred=True)
        >>> x_t.shape, blurred.shape
        (torch.Size([16, 3, 32, 32]), torch.Size([16, 3, 32, 32]))
    """
    if noise is None and generator is None and (plain := plain_call(backend, "blur_noise")):
        done = plain(x, blur_sigma, noise_sigma, seed, scale, bool(return_blurred), _checks.draw_cpu_seeds, out, torch.get_num_threads())
        if done is not None:
            return done  # type: ignore[no-any-return]
    check_backend(backend)
    x = _checks.check_images("x", x)
    blur_sigma = _checks.check_level("blur_sigma", blur_sigma, x)
    noise_sigma = _checks.check_level("noise_sigma", noise_sigma, x)
    scale = _checks.check_scale(scale, x)
    if noise is not None:
        noise = _checks.as_in_memory(_checks.check_like("noise", noise, x.shape, image_dtype(x), x.device))
    if (noise is not None) + (seed is not None) + (generator is not None) > 1:
        raise ValueError("at most one of seed, generator and noise must be given")
    result, blurred = _check_outputs(out, return_blurred, x)
    if seed is not None:
        seed = _checks.check_seed(seed, x.shape[0], x.device)
    elif noise is None and (isinstance(noise_sigma, Tensor) or noise_sigma != 0.0):
        seed = _checks.draw_seed(generator, x.shape[0], x.device)

    if needs_dispatcher(x, blur_sigma, noise_sigma, seed, noise, scale, result, blurred):
        if out is not None:
            raise ValueError("out must be None when autograd, torch.compile or vmap is at work")
        x_t, mean = _blur_noise(
            x,
            level_tensor(blur_sigma, x),
            level_tensor(noise_sigma, x),
            None if seed is None else reference.sample_seeds(seed, x.shape[0], x.device),
            noise,
            level_tensor(scale, x) if isinstance(scale, Tensor) or scale != 1.0 else None,
            return_blurred,
            backend,
        )
        return (x_t, mean) if return_blurred else x_t

    if out is not None or noise is not None:  # noise that overlaps x is no noise
        _checks.check_no_overlap([("noise", noise), ("out", result), ("out[1]", blurred)], [("x", x)])
    if result is None:
        result = empty_images(x)
        blurred = empty_images(x) if return_blurred else None
    _launch(x, blur_sigma, noise_sigma, seed, noise, scale, result, blurred, backend)
    return result if blurred is None else (result, blurred)
