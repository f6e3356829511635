"""Samplers: from noise, or from a blurry noisy state, to images. Generators over one update, `warmops.sampler_step`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import warmops
from warmdiff.preconditioning import Prediction, RawPrediction
from warmdiff.process import BlurNoiseProcess
from warmdiff.spectrum import dct2, idct2
from warmops.reference import sample_seeds

SAMPLERS = ("heun", "euler", "ddim", "ancestral", "cold")
Denoiser = Callable[[Tensor, Tensor], Prediction | RawPrediction]
_MASK64 = 2**64 - 1


class SamplingError(RuntimeError):
    """The denoiser returned something that cannot be sampled with; the message says at which step and level."""


@dataclass(frozen=True)
class State:
    """What a sampler has reached.

    step: steps done, 1 to ``steps``. beta: level of x, 0 after the last step. x: the state ``[N, ..., H, W]``.
    prediction: what the denoiser said at the start of the step; ``denoised`` is its clean image.
    """

    step: int
    steps: int
    beta: float
    x: Tensor
    prediction: Prediction | RawPrediction

    @property
    def denoised(self) -> Tensor:
        return self.prediction.denoised


@dataclass(frozen=True)
class Churn:
    """EDM's stochasticity: before a step from a level in ``[beta_min, beta_max]``, go up to ``(1 + min(amount / steps, sqrt(2) - 1))``
    times the level by adding noise, ``noise`` times as much as keeps the marginals [Karras et al., EDM, Algorithm 2]."""

    amount: float
    beta_min: float = 0.0
    beta_max: float = math.inf
    noise: float = 1.0

    def __post_init__(self) -> None:
        for name in ("amount", "beta_min", "beta_max", "noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"churn.{name} must be >= 0, got {getattr(self, name)}")

    def gamma(self, beta: float, steps: int) -> float:
        return min(self.amount / steps, math.sqrt(2.0) - 1.0) if self.beta_min <= beta <= self.beta_max else 0.0


def step_seeds(seeds: Tensor, step: int, purpose: int) -> Tensor:
    """Philox keys of the noise of one step: a 64-bit mix (SplitMix64's finaliser) of each sample's seed, the step and the purpose."""
    offset = (0x9E3779B97F4A7C15 * (4 * step + purpose + 1)) & _MASK64
    key = seeds + (offset - 2**64 if offset >= 2**63 else offset)  # int64 arithmetic wraps modulo 2^64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> shift & (1 << 64 - shift) - 1)) * (factor - 2**64)
    return key ^ (key >> 31 & (1 << 33) - 1)


def add_churn(
    process: BlurNoiseProcess, x: Tensor, beta: float, beta_up: float, seeds: Tensor, noise_factor: float = 1.0, backend: str | None = None
) -> Tensor:
    """Take x from level beta up to beta_up, blur and noise both, so that its marginal stays that of the process.

    In DCT space ``u^ = q u + noise_factor sqrt(noise_up^2 - q^2 noise^2) n`` with q what the further blur leaves: the fresh noise is
    coloured, since the blur also removes noise that is there. (EDM's white ``sqrt(beta_up^2 - beta^2) n`` is this for no blur.)
    """
    size = (x.shape[-2], x.shape[-1])
    q = process.transition(beta, beta_up, size)
    spread = noise_factor * (process.noise(beta_up) ** 2 - q**2 * process.noise(beta) ** 2).clamp(min=0.0).sqrt()
    n = warmops.normal(x.shape, seeds, dtype=x.dtype, backend=backend)  # white in every orthonormal basis
    return idct2(q.to(x) * dct2(x) + spread.to(x) * n)


def _check_prediction(result: Any, x: Tensor, step: int, beta: float) -> None:
    """The type, the shapes and the values of what the denoiser returned."""
    at = f"at step {step}, beta {beta:.6g}"
    if isinstance(result, RawPrediction):
        want = (x.shape[0], 2 * x.shape[1], *x.shape[2:])
        parts = [("heads", result.heads, want)]
    elif isinstance(result, Prediction):
        parts = [("blurred", result.blurred, tuple(x.shape)), ("residual", result.residual, tuple(x.shape))]
    else:
        raise SamplingError(f"denoiser must return a warmdiff.Prediction, got {type(result).__name__} {at}")
    for name, tensor, shape in parts:
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise SamplingError(f"denoiser must return {name} of shape {shape}, got {got} {at}")
        if not bool(tensor.isfinite().all()):
            what = "a NaN" if bool(tensor.isnan().any()) else "an infinity"
            raise SamplingError(f"denoiser must return finite values, got {what} in {name} {at}")


def _update(x: Tensor, result: Prediction | RawPrediction, **levels: Any) -> Any:
    """`warmops.sampler_step` on a prediction, or on a network's raw output without making one."""
    if isinstance(result, Prediction):
        heads: Any = tuple(head.to(x.dtype) for head in result)
        return warmops.sampler_step(x, heads, **levels)
    s = result.scalings
    c_out = (s.c_out_blurred.to(x.device), s.c_out_residual.to(x.device))
    return warmops.sampler_step(x, result.heads, c_skip=s.c_skip_blurred + s.c_skip_residual, c_out=c_out, **levels)


def _check_schedule(betas: Any, process: BlurNoiseProcess) -> list[float]:
    levels = torch.as_tensor(betas, dtype=torch.float64)
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(f"betas must hold at least 2 levels in one dimension, got shape {tuple(levels.shape)}")
    if not (levels.isfinite().all() and (levels >= 0).all() and (levels.diff() < 0).all()):
        raise ValueError(f"betas must be finite, >= 0 and strictly decreasing, got {levels.tolist()}")
    values: list[float] = levels.tolist()
    alphas = [process.alpha(beta) for beta in values]
    if any(a < b for a, b in zip(alphas, alphas[1:], strict=False)):
        raise ValueError(f"alpha of the process must not increase along betas, got {alphas}")
    return values


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
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    backend: str | None = None,
) -> Iterator[State]:
    """Sample images; yields a `State` after each step.

    Args:
        denoiser: ``denoiser(x, beta) -> Prediction`` (or `RawPrediction`), x ``[N, C, H, W]``, beta ``[N]`` of x's dtype.
        shape: ``[N, C, H, W]``.
        process: the forward process; default ``BlurNoiseProcess()``.
        sampler: ``"heun"`` (EDM's Algorithm 1: second order, two evaluations a step, one in the last), ``"euler"``, ``"ddim"`` (the
            exact step for a fixed prediction), ``"ancestral"`` (ddim that replaces as much noise as keeps every marginal) or
            ``"cold"`` (Algorithm 2 of Cold Diffusion; for processes of constant noise).
        steps: number of steps, >= 2; the schedule is ``process.betas(steps)``.
        seed: an int (sample i uses ``seed + i``) or an int64 tensor ``[N]``. A sample depends on nothing but its own seed: not on
            N, the position in the batch or the device (to rounding). The first noise is ``warmops.normal(shape, seed)``.
        x_init: state to start from, at the schedule's first level, instead of noise (``process.degrade`` makes one from
            images). Needed for processes that do not end in noise: `cold`, `ihdm`.
        churn: EDM's S_churn, or a `Churn`; 0 is deterministic.
        betas: another schedule: strictly decreasing levels; the last one may be above 0.
        exact_last: for heun and euler, take the step to level 0 as ddim does, returning the prediction itself. An Euler step, which
            is EDM's, returns ``(1 + z) exp(-z / 2)`` of each mode of it, ``z = lambda alpha^2`` at the last level.
        dtype: of the state. float32 loses nothing against float64 ..., see below.
        device: where the state lives; default that of x_init, of the seed tensor, or torch's default.
        backend: of `warmops`; default: the fastest for the device.

    Raises:
        TypeError, ValueError: an argument is wrong, before the denoiser is called.
        SamplingError: the denoiser returned wrong shapes, NaN or infinity; names the step and the level.

    Example:
        >>> def denoiser(x, beta):  # the best there is for white Gaussian data of variance 0.25, without blur
        ...     blurred = (0.25 / (0.25 + beta**2)).view(-1, 1, 1, 1) * x
        ...     return warmdiff.Prediction(blurred, torch.zeros_like(x))
        >>> for state in warmdiff.sample(denoiser, (4, 3, 32, 32), process=warmdiff.BlurNoiseProcess.hot(), seed=0):
        ...     print(state.step, state.beta, state.x.std())
    """
    process = BlurNoiseProcess() if process is None else process
    if not callable(denoiser):
        raise TypeError(f"denoiser must be callable, got {type(denoiser).__name__}")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(map(repr, SAMPLERS))}, got {sampler!r}")
    if sampler == "cold" and process.constant_noise is None:
        raise ValueError("sampler 'cold' needs a process of constant noise (cold, ihdm); 'ddim' is Algorithm 2 where the noise varies")
    shape = tuple(shape)
    if len(shape) < 3 or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in shape):
        raise ValueError(f"shape must be [N, ..., H, W] of ints >= 0, got {shape}")
    if not isinstance(churn, Churn):
        if isinstance(churn, bool) or not isinstance(churn, (int, float)):
            raise TypeError(f"churn must be a float or a warmdiff.Churn, got {type(churn).__name__}")
        churn = Churn(float(churn))
    levels = process.betas(steps).tolist() if betas is None else _check_schedule(betas, process)
    like = x_init if x_init is not None else seed
    device = torch.device(device) if device is not None else like.device if isinstance(like, Tensor) else torch.get_default_device()
    seeds = sample_seeds(seed, shape[0], device)
    if seeds.dtype != torch.int64 or tuple(seeds.shape) != shape[:1]:
        raise ValueError(f"seed must be an int or an int64 tensor [{shape[0]}], got {seeds.dtype} {list(seeds.shape)}")
    if x_init is None:
        if not process.forgets:
            raise ValueError(
                f"x_init must be given: this process still shows the image at its last level (noise {process.noise(levels[0]):g} only); "
                "take images, blur them with process.degrade(images, process.sigma_max)"
            )
        x = process.noise(levels[0]) * warmops.normal(shape, seeds.to(device), dtype=dtype, backend=backend)
    else:
        if not isinstance(x_init, Tensor) or tuple(x_init.shape) != shape:
            raise ValueError(f"x_init must be a tensor of shape {shape}, got {tuple(getattr(x_init, 'shape', ()))}")
        x = x_init.to(device=device, dtype=dtype)
    return _run(denoiser, x, process, sampler, levels, seeds.to(device), churn, exact_last, backend)


def _run(
    denoiser: Denoiser,
    x: Tensor,
    process: BlurNoiseProcess,
    sampler: str,
    levels: list[float],
    seeds: Tensor,
    churn: Churn,
    exact_last: bool,
    backend: str | None,
) -> Iterator[State]:
    steps = len(levels) - 1

    def evaluate(x: Tensor, level: float, step: int) -> Prediction | RawPrediction:
        result = denoiser(x, torch.full((x.shape[0],), level, dtype=x.dtype, device=x.device))
        _check_prediction(result, x, step, level)
        return result

    for step, (level, level_next) in enumerate(zip(levels, levels[1:], strict=False), start=1):
        gamma = churn.gamma(level, steps)
        if gamma > 0:
            up = (1.0 + gamma) * level
            x = add_churn(process, x, level, up, step_seeds(seeds, step, 0), churn.noise, backend)
            level = up  # noqa: PLW2901  the step starts there
        result = evaluate(x, level, step)
        ends: dict[str, Any] = {
            "alpha": process.alpha(level),
            "beta": process.noise(level),
            "alpha_next": process.alpha(level_next),
            "beta_next": process.noise(level_next),
            "floor": process.floor,
            "backend": backend,
        }
        last = level_next == 0.0
        if sampler == "cold":
            x = _update(x, result, **{**ends, "beta_next": ends["beta"]})
        elif sampler == "ancestral":
            # The most that white noise can replace: at the mean's mode, which no blur touches.
            eta = ends["beta_next"] * math.sqrt(max(0.0, 1.0 - (ends["beta_next"] / ends["beta"]) ** 2))
            if process.constant_noise is not None:
                eta = ends["beta_next"]
            x = _update(x, result, eta=eta, **ends)
            if eta > 0:
                x = x + eta * warmops.normal(x.shape, step_seeds(seeds, step, 1), dtype=x.dtype, backend=backend)
        elif sampler == "ddim" or (last and (exact_last or process.constant_noise is not None)):
            x = _update(x, result, **ends)
        else:
            heun = sampler == "heun" and not last
            rate = process.alpha_rate(level)
            x = _update(x, result, method="euler", alpha_rate=rate, return_slope=heun, **ends)
            if heun:
                x, slope = x
                corrected = evaluate(x, level_next, step)
                rate = process.alpha_rate(level_next)
                x = _update(x, corrected, method="heun", alpha_rate=rate, slope=slope, **ends)
        yield State(step, steps, level_next, x, result)


def generate(denoiser: Denoiser, shape: Sequence[int], *, batch: int | None = None, seed: int | Tensor = 0, **options: Any) -> Tensor:
    """The images at the end of `sample`, ``[N, ..., H, W]``; ``batch`` at a time, which changes no image.

    Args:
        batch: number of images sampled together; default: all of them.
        seed: as in `sample`.
        options: the other arguments of `sample`.
    """
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ValueError(f"batch must be an int >= 1, got {batch!r}")
    n, rest = shape[0], tuple(shape[1:])
    size = n if batch is None else batch
    x_init = options.pop("x_init", None)
    parts = []
    for start in range(0, max(n, 1), max(size, 1)):
        end = min(start + size, n)
        part_seed = seed[start:end] if isinstance(seed, Tensor) else sample_seeds(seed, n, torch.device("cpu"))[start:end]
        x = None
        for state in sample(
            denoiser, (end - start, *rest), seed=part_seed, x_init=None if x_init is None else x_init[start:end], **options
        ):
            x = state.x
        assert x is not None
        parts.append(x)
    return torch.cat(parts)
