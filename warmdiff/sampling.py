"""Samplers: from noise, or from a blurry noisy state, to images. Generators over one update, `warmops.sampler_step`."""

from __future__ import annotations

import itertools
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

import warmops
from warmdiff.graphs import Graph, capturing, reached
from warmdiff.options import Reworded, check, check_number, check_type, require
from warmdiff.preconditioning import Prediction, RawPrediction
from warmdiff.process import BlurNoiseProcess, add_churn, ancestral, step_seeds
from warmops._checks import check_seed
from warmops.reference import sample_seeds

SAMPLERS = ("heun", "euler", "ddim", "ancestral", "cold")
Denoiser = Callable[[Tensor, Tensor], Prediction | RawPrediction]


class SamplingError(RuntimeError):
    """The denoiser returned something that cannot be sampled with; the message says at which step and level.

    Example:
        >>> warmdiff.generate(lambda x, beta: x, (1, 1, 8, 8))
        Traceback (most recent call last):
        warmdiff.sampling.SamplingError: denoiser must return a warmdiff.Prediction, got Tensor at step 1, beta 80
    """


@dataclass(frozen=True)
class State:
    """What a sampler has reached.

    Attributes:
        step: steps done, from 1 on.
        beta: level of x, 0 after the last step.
        x: the state, of the shape that was asked for.
        prediction: what the denoiser said at the start of the step; ``denoised`` is its clean image.

    Example:
        >>> def denoiser(x, beta):  # the only image is black
        ...     return warmdiff.Prediction(torch.full_like(x, -1.0), torch.zeros_like(x))
        >>> first = next(warmdiff.sample(denoiser, (2, 3, 8, 8), sampler="ddim"))
        >>> first.step, first.x.shape, first.denoised.unique()
        (1, torch.Size([2, 3, 8, 8]), tensor([-1.]))
    """

    step: int
    beta: float
    x: Tensor
    prediction: Prediction | RawPrediction

    @property
    def denoised(self) -> Tensor:
        """The clean image that the denoiser sees in the state."""
        return self.prediction.denoised


@dataclass(frozen=True)
class Churn:
    """EDM's stochasticity: steps from levels in ``[beta_min, beta_max]`` first go up to ``1 + min(amount / steps, sqrt(2) - 1)`` times
    the level by adding noise, ``noise`` times what keeps the marginals [Karras et al., EDM, NeurIPS 2022, Algorithm 2].

    Attributes:
        amount: S_churn, 0 for none.
        beta_min, beta_max: S_tmin and S_tmax.
        noise: S_noise.

    Raises:
        TypeError, ValueError: a value is not a number >= 0.

    Example:
        >>> churn = warmdiff.Churn(40.0, beta_min=0.05, beta_max=50.0, noise=1.003)
        >>> round(churn.factor(1.0, steps=200), 3), churn.factor(80.0, steps=200)
        (1.2, 1.0)
    """

    amount: float
    beta_min: float = 0.0
    beta_max: float = math.inf
    noise: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_number(f"churn.{name}", value, zero=True, infinite=True)

    def factor(self, beta: float, steps: int) -> float:
        """How many times its level a step from beta goes up to, of so many steps."""
        return 1.0 + min(self.amount / steps, math.sqrt(2.0) - 1.0) if self.beta_min <= beta <= self.beta_max else 1.0


def _seeds(seed: int | Tensor, n: int) -> Tensor:
    """The int64 seed of each sample, checked: a tensor as it is, an int counted up on the CPU."""
    device = seed.device if isinstance(seed, Tensor) else torch.device("cpu")
    return sample_seeds(check_seed(seed, n, device), n, device)


def _device(device: torch.device | str | None, *tensors: Any) -> torch.device:
    if device is None:
        return next((t.device for t in tensors if isinstance(t, Tensor)), torch.get_default_device())
    return torch.device(device)


def _check_prediction(result: Any, x: Tensor, step: int, beta: float) -> None:
    """The type, the shapes and the values of what the denoiser returned."""
    at = f"at step {step}, beta {beta:.6g}"
    if not isinstance(result, (Prediction, RawPrediction)):
        raise SamplingError(f"denoiser must return a warmdiff.Prediction, got {type(result).__name__} {at}")
    raw = isinstance(result, RawPrediction)
    shape = (x.shape[0], 2 * x.shape[1], *x.shape[2:]) if raw else tuple(x.shape)
    for name in ("heads",) if raw else ("blurred", "residual"):
        tensor = getattr(result, name)
        got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        require(got == shape, f"denoiser must return {name} of shape {shape}, got {got} {at}", SamplingError)
        numbers = f"denoiser must return floating-point numbers, got {name} of {tensor.dtype} {at}"
        require(tensor.is_floating_point(), numbers, SamplingError)
        # One cheap pass: a sum is finite if all is; only if it is not (large numbers overflow too) each number is looked at.
        if not capturing(tensor) and not math.isfinite(float(tensor.sum(dtype=torch.float32))) and not bool(tensor.isfinite().all()):
            what = "a NaN" if bool(tensor.isnan().any()) else "an infinity"
            raise SamplingError(f"denoiser must return finite values, got {what} in {name} {at}")


def _update(x: Tensor, result: Prediction | RawPrediction, **levels: Any) -> Any:
    """`warmops.sampler_step` on a prediction, or on a network's raw output without making one."""
    if isinstance(result, RawPrediction):
        s = result.scalings
        c_skip, c_out = s.c_skip_blurred + s.c_skip_residual, (s.c_out_blurred, s.c_out_residual)
        return warmops.sampler_step(x, result.heads, c_skip=c_skip, c_out=c_out, **levels)
    heads: Any = result
    if result.blurred.dtype != result.residual.dtype:
        heads = tuple(head.to(x.dtype) for head in result)
    return warmops.sampler_step(x, heads, **levels)


class Options(TypedDict, total=False):
    """The arguments of `sample` that `generate` hands on."""

    process: BlurNoiseProcess | None
    sampler: str
    steps: int
    churn: float | Churn
    betas: Tensor | Sequence[float] | None
    exact_last: bool
    dtype: torch.dtype | None
    backend: str | None


def _check_shape(shape: Sequence[int], x_init: Tensor | None) -> tuple[int, ...]:
    """``[N, ..., H, W]``, and x_init of that shape."""
    given = tuple(shape) if isinstance(shape, Sequence) else ()
    sizes = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in given)
    check(len(given) >= 3 and sizes, "shape", shape, "[N, ..., H, W], ints >= 0")
    if x_init is not None:
        shape = tuple(getattr(x_init, "shape", ()))
        check(isinstance(x_init, Tensor) and shape == given, "x_init", shape, f"a tensor of shape {given}")
        require(x_init.is_floating_point(), f"x_init must be a floating-point tensor, got {x_init.dtype}", TypeError)
    return given


def _check_schedule(betas: Tensor | Sequence[float], process: BlurNoiseProcess) -> list[float]:
    with Reworded(f"betas must be levels, a tensor or floats, got {betas!r}", TypeError, ValueError, RuntimeError, kind=TypeError):
        levels = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(f"betas must hold at least 2 levels in one dimension, got shape {tuple(levels.shape)}")
    good = bool(levels.isfinite().all() and (levels >= 0).all() and (levels.diff() < 0).all())
    check(good, "betas", levels.tolist(), "finite, >= 0 and strictly decreasing")
    alphas = process.alpha(levels)
    check(not bool((alphas.diff() > 0).any()), "betas", f"alpha {alphas.tolist()}", "levels along which alpha does not increase")
    return levels.tolist()


def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    *,
    process: BlurNoiseProcess | None = None,
    sampler: str = "heun",
    steps: int = 18,
    seed: int | Tensor = 0,
    x_init: Tensor | None = None,
    churn: float | Churn = 0.0,
    betas: Tensor | Sequence[float] | None = None,
    exact_last: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    backend: str | None = None,
) -> Iterator[State]:
    """Sample images, step by step.

    The state is float32: with closed-form denoisers the final images differ from those of a float64 state by 6e-7 of their RMS at
    most (BNR 0 to 10, 18 to 72 steps, the same noise; 1.3e-6 where ancestral noise is rounded too), thousands of times less
    than the rounding to 8 bits. ``dtype=torch.float64`` is there for checks of order and for tiny levels.

    Args:
        denoiser: ``denoiser(x, beta) -> Prediction`` (or `RawPrediction`), of x ``[N, ..., H, W]`` and beta ``[N]``, x's dtype.
        shape: ``[N, ..., H, W]``.
        process: the forward process; default ``BlurNoiseProcess()``.
        sampler: ``"heun"`` (EDM's Algorithm 1: second order, two evaluations a step and one in the last), ``"euler"``, ``"ddim"`` (the
            exact step for a prediction that stays), ``"ancestral"`` (the forward process backwards, with fresh noise) or ``"cold"``
            (Algorithm 2 of Cold Diffusion [Bansal et al., 2022]; for processes of constant noise).
        steps: number of steps, >= 2, of the schedule ``process.betas(steps)``.
        seed: an int (sample i uses ``seed + i``) or an int64 tensor ``[N]``. A sample depends on its own seed alone: not on N, nor on its
            position, nor on the device (to rounding). The first noise is that of ``warmops.normal(shape, seed)``.
        x_init: state at the first level to start from, instead of noise. Needed for `cold` and `ihdm`, which do not end in noise:
            ``process.degrade(images, process.sigma_max, seed=..)[0]``.
        churn: EDM's S_churn, or a `Churn`; with 0, heun, euler, ddim and cold are deterministic.
        betas: another schedule: strictly decreasing levels; the last one may be above 0.
        exact_last: heun and euler take the step to level 0 as ddim does and return the prediction itself. The Euler step there, as
            in EDM, returns ``(1 + z) exp(-z / 2)`` of each of its modes, ``z = lambda alpha^2`` at the last level: no difference
            without blur, the largest error of all at a BNR of 10.
        dtype: of the state: float32 or float64; default: that of x_init if it is one of these, else float32.
        device: where the state lives; default: that of x_init or of the seed tensor, else torch's default.
        backend: of `warmops`; default: the fastest for the device.

    Yields:
        A `State` after each step; that of the last one holds the images.

    Raises:
        TypeError, ValueError: an argument is wrong; raised by the call itself, before the denoiser sees anything.
        SamplingError: the denoiser returned a wrong shape, a NaN or an infinity.

    Example:
        >>> def denoiser(x, beta):  # the best one for white data of variance 0.25, without blur
        ...     clean = (0.25 / (0.25 + beta**2)).view(-1, 1, 1, 1) * x
        ...     return warmdiff.Prediction(clean, torch.zeros_like(x))
        >>> for state in warmdiff.sample(denoiser, (4, 3, 32, 32), process=warmdiff.BlurNoiseProcess.hot()):
        ...     if state.step % 6 == 0:
        ...         print(f"step {state.step}, beta {state.beta:.3f}, standard deviation {state.x.std():.1f}")
        step 6, beta 8.401, standard deviation 8.4
        step 12, beta 0.296, standard deviation 0.6
        step 18, beta 0.000, standard deviation 0.5

    Gradients are recorded where torch records them: call it under ``torch.no_grad()`` unless they are wanted.
    """
    process = BlurNoiseProcess() if process is None else process
    check_type(isinstance(process, BlurNoiseProcess), "process", process, "a warmdiff.BlurNoiseProcess")
    check_type(callable(denoiser), "denoiser", denoiser, "callable")
    check(sampler in SAMPLERS, "sampler", sampler, f"one of {', '.join(map(repr, SAMPLERS))}")
    if sampler == "cold" and process.constant_noise is None:
        raise ValueError("sampler must not be 'cold' for a process whose noise varies: 'ddim' is the same algorithm for those")
    dtype = dtype or (torch.float64 if isinstance(x_init, Tensor) and x_init.dtype == torch.float64 else torch.float32)
    check(dtype in (torch.float32, torch.float64), "dtype", dtype, "torch.float32 or torch.float64")
    shape = _check_shape(shape, x_init)
    churn = churn if isinstance(churn, Churn) else Churn(churn)
    levels = process.betas(steps).tolist() if betas is None else _check_schedule(betas, process)
    device = _device(device, x_init, seed)
    seeds = _seeds(seed, shape[0]).to(device)
    if x_init is not None:
        x = x_init.to(device, dtype)
    elif process.constant_noise is not None:
        raise ValueError("x_init must be given: this process does not end in noise (see process.degrade)")
    else:
        x = levels[0] * warmops.normal(shape, seeds, dtype=dtype, backend=backend)

    def evaluate(x: Tensor, level: float, step: int) -> Prediction | RawPrediction:
        result = denoiser(x, torch.full((x.shape[0],), level, dtype=x.dtype, device=x.device))
        _check_prediction(result, x, step, level)
        return result

    def advance(x: Tensor, start: float, end: float, step: int) -> tuple[Tensor, Prediction | RawPrediction]:
        level = start * churn.factor(start, len(levels) - 1)
        if level > start:
            x = add_churn(process, x, start, level, step_seeds(seeds, 2 * step), churn.noise, backend)
        result = evaluate(x, level, step)
        if sampler == "ancestral":
            return ancestral(process, x, result.denoised, level, end, step_seeds(seeds, 2 * step + 1), backend), result
        ends: dict[str, Any] = {"alpha": process.alpha(level), "beta": process.noise(level), "alpha_next": process.alpha(end)}
        ends |= {"beta_next": process.noise(end), "floor": process.floor, "backend": backend}
        if sampler == "cold":
            ends["beta_next"] = ends["beta"]
        exact = sampler in ("ddim", "cold") or (end == 0 and (exact_last or process.constant_noise is not None))
        if not exact:
            ends |= {"method": "euler", "alpha_rate": process.alpha_rate(level)}
        if exact or sampler == "euler" or end == 0:
            return _update(x, result, **ends), result
        ahead, slope = _update(x, result, return_slope=True, **ends)
        ends |= {"method": "heun", "alpha_rate": process.alpha_rate(end)}
        return _update(ahead, evaluate(ahead, end, step), slope=slope, **ends), result

    def states(x: Tensor) -> Iterator[State]:
        for step, (start, end) in enumerate(itertools.pairwise(levels), start=1):
            x, prediction = advance(x, start, end, step)
            yield State(step, end, x, prediction)

    return states(x)


def generate(
    denoiser: Denoiser,
    shape: Sequence[int],
    *,
    batch: int | None = None,
    seed: int | Tensor = 0,
    x_init: Tensor | None = None,
    device: torch.device | str | None = None,
    cuda_graph: bool = False,
    **options: Unpack[Options],
) -> Tensor:
    """Sample images: `sample` without the loop over its states.

    Args: those of `sample`, and:
        batch: how many images at a time, which changes none of them; default: all.
        cuda_graph: replay all steps as one CUDA graph, without gradients. It is captured where the arguments are new and kept as long
            as the denoiser lives (the last one of each; a change of its parameters, or of what else it holds, is seen). A denoiser that
            looks at values on the GPU, or takes tensors from the CPU, cannot be captured: RuntimeError. Values are checked at the end.

    Returns:
        The images at the last level, ``[N, ..., H, W]``, in the dtype of the state.

    Raises:
        TypeError, ValueError, SamplingError: as `sample`; ValueError also for ``cuda_graph`` on a device that is no GPU.

    Example:
        >>> def denoiser(x, beta):  # the only image is black
        ...     return warmdiff.Prediction(torch.full_like(x, -1.0), torch.zeros_like(x))
        >>> warmdiff.generate(denoiser, (5, 3, 8, 8), batch=2, sampler="ddim", steps=4).shape
        torch.Size([5, 3, 8, 8])
    """
    check(batch is None or (isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1), "batch", batch, "an int >= 1")
    shape = _check_shape(shape, x_init)  # whole, before it is taken apart
    device, seeds = _device(device, x_init, seed), _seeds(seed, shape[0])
    check(not cuda_graph or device.type == "cuda", "cuda_graph", cuda_graph, f"False on {device} (a CUDA graph needs an NVIDIA GPU)")
    parts = []
    for first in range(0, max(1, shape[0]), batch or max(1, shape[0])):
        some = seeds[first : first + batch] if batch else seeds
        start = None if x_init is None else x_init[first : first + len(some)]
        size = (len(some), *shape[1:])
        if cuda_graph and len(some):
            parts.append(_replayed(denoiser, size, some.to(device), start, device, dict(options)))
        else:
            parts.append(_last(sample(denoiser, size, seed=some, x_init=start, device=device, **options)))
    return torch.cat(parts)


def _last(states: Iterator[State]) -> Tensor:
    """Where they end; those on the way are let go."""
    return deque(states, maxlen=1)[0].x


_graphs: weakref.WeakKeyDictionary[Any, tuple[Any, Graph]] = weakref.WeakKeyDictionary()  # the last of each denoiser


@torch.no_grad()
def _replayed(
    denoiser: Denoiser, shape: tuple[int, ...], seeds: Tensor, x_init: Tensor | None, device: torch.device, options: dict[str, Any]
) -> Tensor:
    """The end of `sample` by a graph: that of the last such call, where nothing but seeds and images differs, or a new one."""
    if options.get("betas") is not None:
        options = options | {"betas": tuple(torch.as_tensor(options["betas"], dtype=torch.float64).tolist())}
    inputs = [seeds] if x_init is None else [seeds, x_init.to(device)]

    def key() -> tuple[Any, ...]:
        held = [(v.data_ptr(), v.shape, v.stride(), v.dtype) if isinstance(v, Tensor) else v for v in reached(denoiser)]
        return shape, [t.dtype for t in inputs], seeds.device, sorted(options.items()), getattr(denoiser, "__func__", None), held

    def end(seeds: Tensor, x_init: Tensor | None = None) -> tuple[Tensor, ...]:
        return (_last(sample(denoiser, shape, seed=seeds, x_init=x_init, device=device, **options)),)

    owner = getattr(denoiser, "__self__", denoiser)  # a bound method lives no longer than its call
    try:
        known, graph = _graphs.get(owner, (None, None))
    except TypeError:  # it cannot be a key, so nothing is remembered
        owner = known = None
    if graph is None or known != key():
        graph = Graph(end, inputs)
        if owner is not None:
            _graphs[owner] = key(), graph  # as it is after the first run, which may have made copies of its own
    (x,) = graph(*inputs)
    if not bool(x.isfinite().all()):
        raise SamplingError("denoiser must return finite values, got a state that is not after the last step (cuda_graph=False says where)")
    return x
