"""The levels of a sampler's step: their checks, and the coefficients of the linear form that a backend evaluates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from warmops import _checks
from warmops._dispatch import needs_dispatcher

METHODS = ("ddim", "euler", "heun")
LEVELS = ("alpha", "beta", "alpha_next", "beta_next", "eta", "floor")
_FLOAT, _RATES = {float}, {float, type(None)}


class Coefficients(NamedTuple):
    """The linear form that a backend evaluates, see the top of sampler_step.py. Floats, or tensors ``[N]``."""

    skip: Any
    out_b: Any
    out_r: Any
    k0: Any
    k1: Any
    alpha1: Any
    k2: Any
    k3: Any
    alpha2: Any
    a: Any
    b: Any
    g: Any
    p: Any
    q: Any


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    return torch.where(condition, yes, no) if isinstance(condition, Tensor) else yes if condition else no


def _sqrt(value: Any) -> Any:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def _update(method: str, alpha: Any, beta: Any, alpha_next: Any, beta_next: Any, alpha_rate: Any, eta: Any, floor: Any) -> tuple[Any, ...]:
    """The coefficients k0 .. q of a method, from floats or from float64 tensors ``[N]``."""
    keep = 1.0 - floor
    if method == "ddim":
        # c u + (m_next - c m) x0, with m = (1 - d) E + d
        c = _sqrt((beta_next - eta) * (beta_next + eta)) / beta
        return floor * (1.0 - c), keep, alpha_next, -keep * c, 0.0, alpha, c, 1.0, 0.0, 0.0, 0.0
    # dx/dt = beta'/beta (x - M x0) + M' x0, M' = -(1 - d) lambda alpha alpha' E; t is beta, or alpha where beta stands still.
    moving = beta_next != beta
    h = _choose(moving, beta_next - beta, alpha_next - alpha)
    if alpha_rate is None:
        alpha_rate = (alpha_next - alpha) / h
    if method == "heun":  # evaluated at the step's end: x + h/2 (dx/dt - slope)
        alpha, beta, h = alpha_next, beta_next, 0.5 * h
    p = _choose(moving, 1.0 / beta, 0.0 * beta)
    g = -h if method == "heun" else 0.0
    return floor * p, 0.0, 0.0, keep * p, keep * alpha * alpha_rate, alpha, 1.0 + h * p, -h, g, p, -1.0


def _check_levels(method: str, levels: dict[str, Any]) -> None:
    """The order of the levels, and the bounds of eta and floor. Values inside GPU tensors are not read."""
    rules: dict[str, Callable[[dict[str, Any]], Any]] = {
        "beta must be > 0": lambda v: v["beta"] > 0,
        "beta_next must be >= 0": lambda v: v["beta_next"] >= 0,
        "alpha_next must be >= 0": lambda v: v["alpha_next"] >= 0,
        "beta must be finite and >= beta_next": lambda v: (v["beta"] >= v["beta_next"]) & (v["beta"] < math.inf),
        "alpha must be finite and >= alpha_next": lambda v: (v["alpha"] >= v["alpha_next"]) & (v["alpha"] < math.inf),
        "eta must be in [0, beta_next]": lambda v: (v["eta"] >= 0) & (v["eta"] <= v["beta_next"]),
        "floor must be in [0, 1]": lambda v: (v["floor"] >= 0) & (v["floor"] <= 1),
    }
    if method != "ddim":
        rules["alpha_next and beta_next must not both equal alpha and beta"] = lambda v: (
            (v["beta"] > v["beta_next"]) | (v["alpha"] > v["alpha_next"])
        )
    if method == "heun":
        rules["beta_next must be > 0 for method 'heun'"] = lambda v: v["beta_next"] > 0
    if levels["alpha_rate"] is not None:
        rules["alpha_rate must be finite"] = lambda v: (v["alpha_rate"] > -math.inf) & (v["alpha_rate"] < math.inf)
    for text, rule in rules.items():
        verdict = rule(levels)
        if isinstance(verdict, Tensor):
            bad = (~verdict).nonzero()
            if not len(bad):
                continue
            sample = int(bad[0])
            values = {n: float(v[sample] if isinstance(v, Tensor) else v) for n, v in levels.items() if v is not None}
            where = f" for sample {sample}"
        elif verdict:
            continue
        else:
            values, where = {n: v for n, v in levels.items() if v is not None}, ""
        named = [name for name in values if name in text.replace(",", " ").split()]
        raise ValueError(f"{text}, got {', '.join(f'{name} {values[name]}' for name in named)}{where}")


def _readable(value: Any) -> bool:
    """Whether looking at a level's value waits for no GPU and ties no compiled graph to it."""
    if isinstance(value, Tensor):
        return value.device.type == "cpu" and not needs_dispatcher(value)
    return not torch.compiler.is_compiling()


@functools.lru_cache(maxsize=1024)
def _of_floats(method: str, alpha_rate: float | None, *values: float) -> tuple[float, ...]:
    other_method = alpha_rate is not None if method == "ddim" else values[LEVELS.index("eta")] != 0.0
    if method not in METHODS or other_method or not all(map(math.isfinite, values)) or min(values) < 0.0:
        return ()
    levels: dict[str, Any] = dict(zip(LEVELS, values, strict=True)) | {"alpha_rate": alpha_rate}
    _check_levels(method, levels)
    return _update(method, **levels)


def update_of_floats(method: Any, alpha_rate: Any, values: tuple[Any, ...]) -> tuple[float, ...]:
    """`update_of` for Python floats, remembered: a sampler asks for the same levels for every batch of images. Empty: they are not
    all floats, or something is wrong, and the checks of each have to say what."""
    if type(method) is not str or type(alpha_rate) not in _RATES or not _FLOAT.issuperset(map(type, values)):
        return ()
    return _of_floats(method, alpha_rate, *values)


def update_of(method: str, alpha_rate: Any, values: tuple[Any, ...], x: Tensor) -> tuple[Any, ...]:
    """The coefficients k0 .. q of a method's `LEVELS`, checked: floats, or some of them float64 tensors ``[N]``."""
    levels: dict[str, Any] = {name: _checks.check_level(name, v, x) for name, v in zip(LEVELS, values, strict=True)}
    levels["alpha_rate"] = None if alpha_rate is None else _checks.check_number("alpha_rate", alpha_rate, x)
    for name, value in levels.items():
        check_constant(name, value)
    if all(_readable(v) for v in levels.values()):
        _check_levels(method, levels)
    if torch.compiler.is_compiling() or any(isinstance(v, Tensor) for v in levels.values()):
        levels = {name: v if v is None else _column(v, x) for name, v in levels.items()}
    return _update(method, **levels)


def check_constant(name: str, value: Any) -> None:
    if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name} must not require a gradient: levels and factors are constants here (use .detach())")


def as_table(values: tuple[Any, ...], x: Tensor, plain: bool) -> Tensor:
    """`Coefficients` as a float64 tensor ``[N, 14]``. plain: none of them is seen by torch's dispatcher."""
    if not plain or x.device.type != "cpu":  # a list's way to a GPU would wait for it, and no CUDA graph could take it
        return torch.stack([_column(v, x) for v in values], dim=1)
    tensors = [(i, v) for i, v in enumerate(values) if isinstance(v, Tensor)]
    columns = {i for i, _ in tensors}
    table = torch.tensor([0.0 if i in columns else v for i, v in enumerate(values)], dtype=torch.float64).repeat(x.shape[0], 1)
    for i, v in tensors:
        table[:, i] = v
    return table


def _column(value: Any, x: Tensor) -> Tensor:
    """A number as float64 ``[N]``."""
    if isinstance(value, Tensor):
        return value.to(torch.float64)
    return torch.full((x.shape[0],), value, dtype=torch.float64, device=x.device)
