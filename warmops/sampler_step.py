"""`warmops.sampler_step`: one update of a blur-noise sampler, in one pass.

Every method is one linear form, and that form is all that a backend implements. Its launcher is

    sampler_step(x, head_b, head_r, slope, coefficients, out, slope_out)

- x ``[N, ..., H, W]``; head_b, head_r: the network's heads, of x's shape and any float dtype (one for both), or None;
  slope: of x's shape and dtype, or None; out, slope_out: to write, of x's shape and dtype, slope_out or None. Strides
  are arbitrary; nothing that is read overlaps what is written. Arithmetic is float32 or better, float64 if x is.
- coefficients: the 14 numbers named in `Coefficients`, in that order: a tuple of floats (the same for all samples), or a
  contiguous float64 tensor ``[N, 14]`` on x's device. With them, per sample,

      x0        = skip x + out_b head_b + out_r head_r          an absent head counts as 0
      K_ij      = k0 + k1 E_ij(alpha1) + (k2 + k3 lambda_ij) E_ij(alpha2)
      y         = V (K * (V^T x0))                              V: orthonormal 2-D DCT-II
      out       = a x + b y + g slope
      slope_out = p x + q y

  ``lambda_ij = pi^2 (i^2 / H^2 + j^2 / W^2)``, ``E_ij(alpha) = exp(-lambda_ij alpha^2 / 2)``. Where alpha1 = alpha2 = 0
  and k3 = 0, K is the number k0 + k1 + k2 and no transform is needed. Where k1 is 0, alpha1 is 0. A sample with a NaN
  among its coefficients comes out as NaN on a GPU and is refused before anything is written on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from warmops import _checks
from warmops._checks import Level
from warmops._dispatch import check_backend, launcher, needs_dispatcher, plain_call
from warmops._registration import LevelFunction, below_autograd, fold_vmap, per_sample, register
from warmops._sampler_levels import METHODS, Coefficients, as_table, check_constant, update_of, update_of_floats

Pair = tuple[Level, Level]


# ---- the linear form as a torch operator ----


def _launch(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: Any,
    out: Tensor,
    slope_out: Tensor | None,
    backend: str | None,
) -> None:
    launch = launcher(backend, x.device, "sampler_step")
    if not x.numel():
        return
    if isinstance(coefficients, Tensor) and coefficients.device.type == "cpu":
        bad = coefficients.isfinite().all(dim=1).logical_not().nonzero()
        if len(bad):
            raise ValueError(
                "alpha, beta, alpha_next, beta_next, eta and the factors must be finite, the levels falling and beta > 0; "
                f"sample {int(bad[0])} is not"
            )
    launch(x, head_b, head_r, slope, coefficients, out, slope_out)


def _kernel(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: Tensor,
    return_slope: bool,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x)
    slope_out = torch.empty_like(x) if return_slope else None
    _launch(x, head_b, head_r, slope, coefficients.contiguous(), out, slope_out, backend)
    return out, x.new_empty(0) if slope_out is None else slope_out


def _fake(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    return_slope = arguments[4]
    return torch.empty_like(x), torch.empty_like(x) if return_slope else x.new_empty(0)


class _Derivatives(LevelFunction):
    @staticmethod
    def forward(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        return below_autograd(_sampler_step, x, *arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, head_b, head_r, _, coefficients, ctx.return_slope, ctx.backend = inputs
        ctx.set_materialize_grads(False)
        ctx.head_dtype = next((h.dtype for h in (head_b, head_r) if h is not None), None)
        ctx.save_for_backward(coefficients)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad_slope: Tensor | None) -> tuple[Tensor | None, ...]:
        """The form is linear and V K V^T symmetric, so one evaluation of the same operator carries all gradients back."""
        (coefficients,) = ctx.saved_tensors
        c = Coefficients(*coefficients.unbind(1))
        if not ctx.return_slope:
            grad_slope = None
        grads: list[Tensor | None] = [None] * 7
        parts = [(g, carried, through) for g, carried, through in ((grad_out, c.a, c.b), (grad_slope, c.p, c.q)) if g is not None]
        if not parts:
            return tuple(grads)

        def total(factors: list[Tensor]) -> Tensor:
            terms = [per_sample(f, g) * g for f, (g, _, _) in zip(factors, parts, strict=True)]
            return terms[0] if len(terms) == 1 else terms[0] + terms[1]

        one, zero = torch.ones_like(c.a), torch.zeros_like(c.a)
        plain = c._replace(skip=one, out_b=zero, out_r=zero, a=zero, b=one, g=zero, p=zero, q=zero)
        y = total([through for _, _, through in parts])
        x0, _ = _sampler_step(y, None, None, None, torch.stack(tuple(plain), dim=1), False, ctx.backend)
        if ctx.needs_input_grad[0]:
            grads[0] = total([carried for _, carried, _ in parts]) + per_sample(c.skip, x0) * x0
        for i, factor in ((1, c.out_b), (2, c.out_r)):
            if ctx.needs_input_grad[i]:
                grads[i] = (per_sample(factor, x0) * x0).to(ctx.head_dtype)
        if ctx.needs_input_grad[3] and grad_out is not None:
            grads[3] = per_sample(c.g, grad_out) * grad_out
        return tuple(grads)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
        tensors, (return_slope, backend) = args[:5], args[5:]
        size = info.batch_size
        folded = [fold_vmap(size, t, dim) for t, dim in zip(tensors, in_dims, strict=False)]
        out, slope_out = _sampler_step(*folded, return_slope, backend)
        out = out.unflatten(0, (size, -1))
        if not return_slope:
            return (out, slope_out), (0, None)
        return (out, slope_out.unflatten(0, (size, -1))), (0, 0)


_sampler_step: Callable[..., tuple[Tensor, Tensor]] = register(
    "sampler_step",
    "(Tensor x, Tensor? head_b, Tensor? head_r, Tensor? slope, Tensor coefficients, bool return_slope, str? backend) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    _Derivatives,
)


# ---- the public function ----


def _check_heads(heads: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The network's output as (head_b, head_r); head_r is None where there is one head."""
    if isinstance(heads, (tuple, list)):
        if len(heads) != 2:
            raise ValueError(f"heads must be a tensor or a pair (blurred, residual), got {len(heads)} of them")
        first, second = _check_head("heads[0]", heads[0], x), _check_head("heads[1]", heads[1], x)
        if first.dtype != second.dtype:
            raise TypeError(f"heads[1] must have the dtype of heads[0], {first.dtype}, got {second.dtype}")
        for i, head in enumerate((first, second)):
            if head.shape != x.shape:
                raise ValueError(f"heads[{i}] must have shape {tuple(x.shape)}, got {tuple(head.shape)}")
        return first, second
    heads = _check_head("heads", heads, x)
    if heads.shape == x.shape:
        return heads, None
    channels = x.shape[1]
    if x.ndim >= 4 and heads.shape == (x.shape[0], 2 * channels, *x.shape[2:]):
        head_b, head_r = heads.chunk(2, dim=1)
        return head_b, head_r
    doubled = f", {(x.shape[0], 2 * channels, *x.shape[2:])} (both heads along dimension 1)" if x.ndim >= 4 else ""
    raise ValueError(f"heads must have shape {tuple(x.shape)} (a prediction of x0){doubled} or be a pair, got {tuple(heads.shape)}")


def _check_head(name: str, head: Any, x: Tensor) -> Tensor:
    """A dense floating-point tensor of any shape on x's device."""
    if not isinstance(head, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor{' or a pair of them' if name == 'heads' else ''}, got {type(head).__name__}")
    dtype = head.dtype
    if dtype not in _checks.FLOAT_DTYPES:
        raise TypeError(f"{name} must be a floating-point tensor, got {dtype}")
    return _checks.as_in_memory(_checks.check_like(name, head, head.shape, dtype, x.device))


def _check_factors(c_skip: Any, c_out: Any, x: Tensor) -> tuple[Any, ...]:
    """Factors of x and of both heads."""
    pair = isinstance(c_out, (tuple, list))
    if pair and len(c_out) != 2:
        raise ValueError(f"c_out must be a number, a tensor or a pair of them, got {len(c_out)} of them")
    values = (c_skip, *c_out) if pair else (c_skip, c_out, c_out)
    checked = []
    for name, value in zip(("c_skip", "c_out[0]", "c_out[1]") if pair else ("c_skip", "c_out", "c_out"), values, strict=True):
        number = _checks.check_number(name, value, x)
        check_constant(name, number)
        if not isinstance(number, Tensor) and not -math.inf < number < math.inf:
            raise ValueError(f"{name} must be finite, got {number}")
        checked.append(number)
    return tuple(checked)


def _check_outputs(out: Any, return_slope: bool, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if out is None:
        return None, None
    if not return_slope:
        return _checks.check_out("out", out, x.shape, x.dtype, x.device), None
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out must be a pair (next state, slope) when return_slope=True, got {type(out).__name__}")
    for name, tensor in zip(("out[0]", "out[1]"), out, strict=True):
        _checks.check_out(name, tensor, x.shape, x.dtype, x.device)
    return out[0], out[1]


@overload
def sampler_step(
    x: Tensor,
    heads: Tensor | tuple[Tensor, Tensor],
    alpha: Level,
    beta: Level,
    alpha_next: Level,
    beta_next: Level,
    *,
    method: str = "ddim",
    c_skip: Level = 0.0,
    c_out: Level | Pair = 1.0,
    slope: Tensor | None = None,
    return_slope: Literal[False] = False,
    alpha_rate: Level | None = None,
    eta: Level = 0.0,
    floor: Level = 0.0,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor: ...


@overload
def sampler_step(
    x: Tensor,
    heads: Tensor | tuple[Tensor, Tensor],
    alpha: Level,
    beta: Level,
    alpha_next: Level,
    beta_next: Level,
    *,
    method: str = "ddim",
    c_skip: Level = 0.0,
    c_out: Level | Pair = 1.0,
    slope: Tensor | None = None,
    return_slope: Literal[True],
    alpha_rate: Level | None = None,
    eta: Level = 0.0,
    floor: Level = 0.0,
    out: tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]: ...


@overload
def sampler_step(
    x: Tensor,
    heads: Tensor | tuple[Tensor, Tensor],
    alpha: Level,
    beta: Level,
    alpha_next: Level,
    beta_next: Level,
    *,
    method: str = "ddim",
    c_skip: Level = 0.0,
    c_out: Level | Pair = 1.0,
    slope: Tensor | None = None,
    return_slope: bool = False,
    alpha_rate: Level | None = None,
    eta: Level = 0.0,
    floor: Level = 0.0,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...


def sampler_step(
    x: Tensor,
    heads: Tensor | tuple[Tensor, Tensor],
    alpha: Level,
    beta: Level,
    alpha_next: Level,
    beta_next: Level,
    *,
    method: str = "ddim",
    c_skip: Level = 0.0,
    c_out: Level | Pair = 1.0,
    slope: Tensor | None = None,
    return_slope: bool = False,
    alpha_rate: Level | None = None,
    eta: Level = 0.0,
    floor: Level = 0.0,
    out: Tensor | tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """One update of a blur-noise sampler, from level ``(alpha, beta)`` to ``(alpha_next, beta_next)``, in one pass.

    The clean image is ``x0 = c_skip x + c_out[0] heads[0] + c_out[1] heads[1]``; ``m = (1 - floor) exp(-lambda alpha^2 / 2)
    + floor`` are the multipliers of the blur in DCT space (u: the state there, M: the blur with these multipliers).

    - ``"ddim"``: the exact step for a given x0, ``u_next = c u + (m_next - c m) x0``, ``c = sqrt(beta_next^2 - eta^2) / beta``.
      With ``beta_next = 0`` it returns x0; with ``eta > 0`` the caller adds ``eta`` times fresh noise (ancestral sampling);
      with ``beta_next = beta`` it is Algorithm 2 of Cold Diffusion [Bansal et al., 2022].
    - ``"euler"``: ``x_next = x + h dx/dt``, ``dx/dt = beta'/beta (x - M x0) + M' x0``, the probability-flow ODE [Hsueh et al.,
      Warm Diffusion, ICLR 2025]. Time is beta, ``h = beta_next - beta``; where beta stands still, time is alpha.
    - ``"heun"``: the second half of Heun's step [Karras et al., EDM, NeurIPS 2022, Algorithm 1]. x and heads are those at the
      *next* level, ``slope`` is what ``"euler"`` returned: ``x + h/2 (dx/dt - slope)``. The levels are those of the first half.

    Args:
        x: state ``[N, ..., H, W]``, any H and W >= 1, any strides; float32, float64, bfloat16 or float16. Computed in
            float32 or better; float64 stays float64.
        heads: the network's raw output ``[N, 2C, ...]``, head of the blurred image first, for x ``[N, C, ...]``; or the pair
            of x's shape each; or one tensor of x's shape. Any floating-point dtype, any strides. With the default factors
            these are predictions: of ``A x0`` and ``x0 - A x0``, or, one tensor, of x0.
        alpha, beta: blur level (pixels, >= 0) and noise level (> 0) of x: floats or tensors ``[N]``.
        alpha_next, beta_next: levels to go to, not above alpha and beta.
        method: "ddim", "euler" or "heun".
        c_skip: factor of x in x0: the sum of both heads' ``c_skip``. A float or a tensor ``[N]``.
        c_out: factor of the heads: one for both or a pair; floats or tensors ``[N]``.
        slope: for ``"heun"``, the slope at the first level, with x's shape and dtype.
        return_slope: for ``"euler"`` and ``"heun"``, also return ``dx/dt`` where x is.
        alpha_rate: ``d alpha / d beta`` where x is (``"euler"``: at alpha; ``"heun"``: at alpha_next). Default: that of the
            straight line between the two levels, exact for a constant ratio of blur to noise.
        eta: for ``"ddim"``, standard deviation of the noise that the caller will add, at most beta_next.
        floor: d, the multiplier that no frequency falls below [Hoogeboom & Salimans, ICLR 2023].
        out: tensor to write, not overlapping an input; with ``return_slope`` a pair of them.
        backend: "reference", "cpu" or "triton"; default: the fastest for the device.

    Returns:
        The next state, with the shape and dtype of x; with ``return_slope`` the pair ``(state, slope)``.

    Differentiable by x, heads and slope, to any order (levels and factors are constants); works under torch.compile,
    vmap and torch.func's grad, vjp and jacrev.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing is written. Values inside CUDA tensors of levels are not
            checked (that would synchronise): samples whose levels make no sense become NaN.
        RuntimeError: the named backend cannot run here (the message says why).

    Example:
        >>> x = 80 * torch.randn(16, 3, 32, 32)
        >>> heads = torch.randn(16, 6, 32, 32)  # a network's output
        >>> y, slope = warmops.sampler_step(x, heads, 40.0, 80.0, 28.9, 57.8, method="euler", return_slope=True)
        >>> y = warmops.sampler_step(y, heads, 40.0, 80.0, 28.9, 57.8, method="heun", slope=slope)
        >>> y.shape
        torch.Size([16, 3, 32, 32])
    """
    in_order = (slope is not None) == (method == "heun") and not (return_slope and method == "ddim")
    if in_order and (plain := plain_call(backend, "sampler_step")):
        update = update_of_floats(method, alpha_rate, (alpha, beta, alpha_next, beta_next, eta, floor))
        done = plain(x, heads, slope, c_skip, c_out, update, bool(return_slope), out, torch.get_num_threads())
        if done is not None:
            return done  # type: ignore[no-any-return]
    check_backend(backend)
    x = _checks.check_images("x", x)
    if x.dtype not in _checks.FLOAT_DTYPES:
        raise TypeError(f"x must be a floating-point tensor, got {x.dtype}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    head_b, head_r = _check_heads(heads, x)
    factors = _check_factors(c_skip, c_out, x)
    levels = (alpha, beta, alpha_next, beta_next, eta, floor)
    form = (*factors[:2], 0.0 if head_r is None else factors[2], *update_of(method, alpha_rate, levels, x))
    tensors = [v for v in form if type(v) is not float and isinstance(v, Tensor)]
    if (slope is None) == (method == "heun"):
        raise ValueError(f"slope must {'be given' if slope is None else 'be None'} for method {method!r}")
    if slope is not None:
        slope = _checks.as_in_memory(_checks.check_like("slope", slope, x.shape, x.dtype, x.device))
    if method == "ddim" and (return_slope or alpha_rate is not None):
        raise ValueError("return_slope and alpha_rate are for methods 'euler' and 'heun', got method 'ddim'")
    if method != "ddim" and (isinstance(eta, Tensor) or eta != 0):
        raise ValueError(f"eta must be 0 for method {method!r}, got {eta}")
    result, slope_out = _check_outputs(out, return_slope, x)

    dispatched = needs_dispatcher(x, head_b, head_r, slope, result, slope_out, *tensors)
    table = as_table(form, x, plain=not dispatched) if dispatched or tensors else form
    if dispatched:
        if out is not None:
            raise ValueError("out must be None when autograd, torch.compile or vmap is at work")
        x_next, rate = _sampler_step(x, head_b, head_r, slope, table, return_slope, backend)
        return (x_next, rate) if return_slope else x_next
    if out is not None:
        read = [("x", x), ("heads", head_b), ("heads", head_r), ("slope", slope)]
        _checks.check_no_overlap([("out", result), ("out[1]", slope_out)], read)
    else:
        result, slope_out = torch.empty_like(x), torch.empty_like(x) if return_slope else None
    assert result is not None
    _launch(x, head_b, head_r, slope, table, result, slope_out, backend)
    return result if slope_out is None else (result, slope_out)
