"""`warmops.sampler_step` against the papers' formulas in 80-bit arithmetic, and its promises on strides and dtypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from _cases import HALVES, Guarded, bit_equal, float_dtypes, ident, layouts, randn, strided
from _oracles import numpy_of, per_sample, rel_l2
from _sampler_calls import LEVELS, METHODS, SHAPE, call, case, methods
from torch import Tensor

import warmops

LIMIT = {torch.float64: 1e-13, torch.float32: 3e-7, torch.float16: 6e-4, torch.bfloat16: 5e-3}


def oracle(
    method: str,
    x: Tensor,
    heads: tuple[Tensor, ...],
    levels: dict[str, Any],
    *,
    c_skip: Any = 0.0,
    c_out: tuple[Any, ...] = (1.0, 1.0),
    slope: Tensor | None = None,
    alpha_rate: Any = None,
    eta: Any = 0.0,
    floor: Any = 0.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The next state and the slope, in long double, straight from the formulas in DCT space."""
    n = x.shape
    a, b, a_next, b_next = (per_sample(levels[name], n) for name in ("alpha", "beta", "alpha_next", "beta_next"))
    skip, out, eta, d = per_sample(c_skip, n), [per_sample(c, n) for c in c_out], per_sample(eta, n), per_sample(floor, n)
    pixels = skip * numpy_of(x)
    for factor, head in zip(out, heads, strict=False):
        pixels = pixels + factor * numpy_of(head)
    frequency = [(np.longdouble(np.pi) * np.arange(s, dtype=np.longdouble) / s) ** 2 for s in n[-2:]]
    eigenvalues = frequency[0][:, None] + frequency[1][None, :]

    def forward(v: np.ndarray) -> np.ndarray:
        return scipy.fft.dctn(v, axes=(-2, -1), norm="ortho")

    u, x0 = forward(numpy_of(x)), forward(pixels)

    def decay(level: np.ndarray) -> np.ndarray:
        return np.exp(-eigenvalues * level**2 / 2)

    def m(level: np.ndarray) -> np.ndarray:
        return (1 - d) * decay(level) + d

    def back(v: np.ndarray) -> np.ndarray:
        return scipy.fft.idctn(v, axes=(-2, -1), norm="ortho")

    if method == "ddim":
        noise = (u - m(a) * x0) / b
        return back(m(a_next) * x0 + np.sqrt(b_next**2 - eta**2) * noise), None
    still = b == b_next
    step = np.where(still, a_next - a, b_next - b)
    rate = (a_next - a) / step if alpha_rate is None else per_sample(alpha_rate, n)
    here_a, here_b = (a_next, b_next) if method == "heun" else (a, b)
    drift = np.where(still, 0, 1 / here_b) * (u - m(here_a) * x0) - (1 - d) * eigenvalues * here_a * rate * decay(here_a) * x0
    if method == "euler":
        return back(u + step * drift), back(drift)
    return back(u + step / 2 * (drift - forward(numpy_of(slope)))), back(drift)


# ---- values ----


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (3, 1, 1), (2, 3, 1, 7), (2, 2, 64, 48), (2, 3, 5, 3), (2, 2, 3, 8, 12), (3, 13, 31)], ids=ident)  # fmt: skip  # noqa: E501
@float_dtypes
@methods
def test_values(method: str, dtype: torch.dtype, shape: tuple[int, ...], step_backend: str, device: str, rng: torch.Generator) -> None:
    arguments = case(method, shape, dtype, rng, device)
    options = {"c_skip": 0.3, "c_out": (0.7, 0.2)}
    want, want_slope = oracle(method, arguments["x"], arguments["heads"], LEVELS, slope=arguments.get("slope"), **options)
    got = call(arguments, LEVELS, step_backend, **options)
    assert got.dtype == dtype and got.shape == shape
    assert rel_l2(got, want) <= LIMIT[dtype]
    if method == "ddim":
        return
    got, slope = call(arguments, LEVELS, step_backend, return_slope=True, **options)
    assert rel_l2(got, want) <= LIMIT[dtype] and rel_l2(slope, want_slope) <= LIMIT[dtype]


@methods
@pytest.mark.parametrize("bnr", [0.0, 0.5, 2.0, 10.0])
def test_every_level_of_a_run(bnr: float, method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    """From 80 to 0, all levels in one batch: float32 within 3e-7 of the exact step, each sample for itself."""
    schedule = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)] + ([] if method == "heun" else [0.0])
    beta = torch.tensor(schedule, dtype=torch.float64, device=device)
    levels = {"alpha": bnr * beta[:-1], "beta": beta[:-1], "alpha_next": bnr * beta[1:], "beta_next": beta[1:]}
    shape = (len(beta) - 1, 3, 32, 32)
    arguments = case(method, shape, torch.float32, rng, device)
    arguments["x"] = (beta[1 if method == "heun" else 0 :][: shape[0]].view(-1, 1, 1, 1) * randn(shape, rng, device=device)).float()
    want, _ = oracle(method, arguments["x"], arguments["heads"], levels, slope=arguments.get("slope"))
    got = call(arguments, levels, step_backend)
    assert rel_l2(got, want, axis=(1, 2, 3)).max() <= 3e-7
    single = {name: level.float() for name, level in levels.items()}
    want, _ = oracle(method, arguments["x"], arguments["heads"], single, slope=arguments.get("slope"))
    assert rel_l2(call(arguments, single, step_backend), want, axis=(1, 2, 3)).max() <= 3e-7


@methods
def test_levels_of_each_sample(method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    """Tensors of any float dtype and stride, mixed with floats; the same bits as one call for each sample."""
    arguments = case(method, SHAPE, torch.float32, rng, device)
    beta = torch.tensor([3.0, 0.5, 20.0, 1.0], device=device)
    levels = {"alpha": 0.5 * beta, "beta": beta.double(), "alpha_next": 0.1, "beta_next": torch.stack([beta, 0.5 * beta], dim=1)[:, 1]}
    options = {
        "c_skip": torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.bfloat16, device=device),
        "c_out": (torch.rand(4, generator=rng).to(device), 0.3),
    }
    got = call(arguments, levels, step_backend, **options)
    want, _ = oracle(method, arguments["x"], arguments["heads"], levels, slope=arguments.get("slope"), **options)
    assert rel_l2(got, want) <= 3e-7

    def one(value: Any, i: int) -> Any:
        if isinstance(value, tuple):
            return tuple(one(v, i) for v in value)
        return value[i : i + 1] if isinstance(value, Tensor) and value.ndim > 1 else float(value[i]) if isinstance(value, Tensor) else value

    for i in range(4):
        single = call(*({name: one(v, i) for name, v in d.items()} for d in (arguments, levels)), step_backend, **{n: one(v, i) for n, v in options.items()})  # fmt: skip  # noqa: E501
        assert bit_equal(single[0], got[i])


@methods
def test_floor_rate_and_constant_noise(method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    arguments = case(method, SHAPE, torch.float64, rng, device)
    rate = {} if method == "ddim" else {"alpha_rate": 0.37}
    still = {**LEVELS, "beta_next": LEVELS["beta"]}
    for levels, options in (
        (LEVELS, {"floor": 0.2}),
        (LEVELS, {"floor": 0.001, **rate}),
        (LEVELS, {"floor": torch.tensor([0.0, 0.5, 0.1, 1.0], device=device), **rate}),
        (LEVELS, {"floor": 1.0}),
        (still, {}),
        (still, {"floor": 0.1}),
        (still, rate),
        ({**LEVELS, "beta_next": torch.tensor([3.0, 1.0, 3.0, 0.5], device=device)}, {}),
    ):
        got = call(arguments, levels, step_backend, **options)
        want, _ = oracle(method, arguments["x"], arguments["heads"], levels, slope=arguments.get("slope"), **options)
        assert rel_l2(got, want) <= 1e-13, (levels, options)


def test_ddim(step_backend: str, device: str, rng: torch.Generator) -> None:
    """Its ends: x0 at level 0, Algorithm 2 at constant noise, nothing at equal levels; and what eta leaves."""
    arguments = case("ddim", SHAPE, torch.float64, rng, device)
    x0 = sum(arguments["heads"])
    clean = call(arguments, {**LEVELS, "alpha_next": 0.0, "beta_next": 0.0}, step_backend)
    assert (clean - x0).abs().max() < 1e-13
    same = call(arguments, {**LEVELS, "alpha_next": 1.5, "beta_next": 3.0}, step_backend)
    assert (same - arguments["x"]).abs().max() < 1e-13
    cold = call(arguments, {**LEVELS, "beta_next": 3.0}, step_backend)
    want = arguments["x"] - warmops.blur(x0, 1.5, backend="reference") + warmops.blur(x0, 0.8, backend="reference")
    assert (cold - want).abs().max() < 1e-13
    for eta in (0.0, 1.1, 1.9, torch.tensor([0.0, 0.3, 1.0, 1.9], device=device)):
        got = call(arguments, LEVELS, step_backend, eta=eta)
        assert rel_l2(got, oracle("ddim", arguments["x"], arguments["heads"], LEVELS, eta=eta)[0]) <= 1e-13
    assert (call(arguments, LEVELS, step_backend, eta=1.9) - warmops.blur(x0, 0.8, backend="reference")).abs().max() < 1e-13


def test_the_slope_is_the_odes(step_backend: str, device: str, rng: torch.Generator) -> None:
    """``(x - D) / beta``, ``D = V (1 + z) exp(-z / 2) V^T x0``; and D itself at level 0."""
    arguments = case("euler", SHAPE, torch.float64, rng, device)
    x0 = sum(arguments["heads"]).cpu().numpy()
    z = (np.pi**2 * (np.arange(6)[:, None] ** 2 / 36 + np.arange(10) ** 2 / 100)) * 1.5**2
    u = (1 + z) * np.exp(-z / 2) * scipy.fft.dctn(x0, axes=(2, 3), norm="ortho")
    d = torch.from_numpy(scipy.fft.idctn(u, axes=(2, 3), norm="ortho")).to(device)
    levels = {"alpha": 1.5, "beta": 3.0, "alpha_next": 0.0, "beta_next": 0.0}
    last, slope = call(arguments, levels, step_backend, return_slope=True)
    assert (slope - (arguments["x"] - d) / 3.0).abs().max() < 1e-13
    assert (last - d).abs().max() < 1e-13


def test_raw_output_pair_and_prediction(step_backend: str, device: str, rng: torch.Generator) -> None:
    """``[N, 2C, ...]``, the pair, and one prediction of x0 are three ways to say the same."""
    arguments = case("ddim", SHAPE, torch.float32, rng, device)
    x, (head_b, head_r) = arguments["x"], arguments["heads"]
    options = {**LEVELS, "c_skip": 0.2, "backend": step_backend}
    want = warmops.sampler_step(x, (head_b, head_r), c_out=(0.6, 0.9), **options)
    assert bit_equal(warmops.sampler_step(x, torch.cat([head_b, head_r], dim=1), c_out=(0.6, 0.9), **options), want)
    assert bit_equal(warmops.sampler_step(x, [head_b, head_r], c_out=[0.6, 0.9], **options), want)
    one = warmops.sampler_step(x, 0.6 * head_b + 0.9 * head_r, **options)
    assert rel_l2(one, numpy_of(want)) <= 4e-7
    video = randn((2, 3, 2, 4, 5), rng, torch.float32, device)
    raw = randn((2, 6, 2, 4, 5), rng, torch.float32, device)
    assert bit_equal(warmops.sampler_step(video, raw, **options), warmops.sampler_step(video, (raw[:, :3], raw[:, 3:]), **options))


@pytest.mark.parametrize("head_dtype", [torch.float32, *HALVES, torch.float64], ids=ident)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=ident)
def test_heads_of_another_dtype(dtype: torch.dtype, head_dtype: torch.dtype, step_backend: str, device: str, rng: torch.Generator) -> None:
    """A network in half precision, a state in float32 or float64: the heads are read as they are, not rounded again."""
    arguments = case("euler", SHAPE, dtype, rng, device, head_dtype)
    got, slope = call(arguments, LEVELS, step_backend, return_slope=True)
    want, want_slope = oracle("euler", arguments["x"], arguments["heads"], LEVELS)
    assert got.dtype == slope.dtype == dtype
    assert rel_l2(got, want) <= LIMIT[dtype] and rel_l2(slope, want_slope) <= LIMIT[dtype]


def test_without_blur_pixels_do_not_mix(step_backend: str, device: str, rng: torch.Generator) -> None:
    """alpha = 0 at both ends: EDM's step pixel by pixel, one infinite pixel stays alone."""
    arguments = case("euler", SHAPE, torch.float32, rng, device)
    x, x0 = arguments["x"], sum(arguments["heads"])
    levels = {"alpha": 0.0, "beta": 3.0, "alpha_next": 0.0, "beta_next": 2.0}
    got, slope = call(arguments, levels, step_backend, return_slope=True)
    assert rel_l2(got, numpy_of(x) - (numpy_of(x) - numpy_of(x0)) / 3) <= 3e-7
    assert rel_l2(slope, (numpy_of(x) - numpy_of(x0)) / 3) <= 3e-7
    x[1, 2, 3, 4] = math.inf
    got = call(arguments, levels, step_backend)
    assert int((~got.isfinite()).sum()) == 1


def test_nan_reaches_what_is_made_of_it(step_backend: str, device: str) -> None:
    """Whatever its factor; and the slope that is given is no part of the slope that is returned."""
    x = torch.ones(2, 3, 8, 20, device=device)
    spoiled = x.clone()
    spoiled[1, 2, 3, 17] = math.nan
    levels = (1.0, 2.0, 0.5, 1.5)
    out, slope = warmops.sampler_step(x, x, *levels, method="heun", slope=spoiled, return_slope=True, backend=step_backend)
    assert torch.equal(out.isnan(), spoiled.isnan()) and slope.isfinite().all()
    for levels in ((0.0, 2.0, 0.0, 2.0), (0.0, 2.0, 0.0, 1.0)):  # with a factor of 0, and another one
        for heads in (spoiled, (x, spoiled)):
            assert torch.equal(warmops.sampler_step(x, heads, *levels, backend=step_backend).isnan(), spoiled.isnan())


@pytest.mark.parametrize("alpha", [1e-4, 40.0, 800.0, 1e8, 1e30])
def test_extreme_blur_is_finite(alpha: float, step_backend: str, device: str, rng: torch.Generator) -> None:
    for method in METHODS:
        arguments = case(method, SHAPE, torch.float32, rng, device)
        levels = {"alpha": alpha, "beta": 3.0, "alpha_next": 0.6 * alpha, "beta_next": 1.8}
        want, _ = oracle(method, arguments["x"], arguments["heads"], levels, slope=arguments.get("slope"))
        assert rel_l2(call(arguments, levels, step_backend), want) <= 3e-7


# ---- memory ----


@layouts
@methods
def test_strides_and_out(method: str, layout: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    arguments = case(method, SHAPE, torch.float32, rng, device)
    options = {} if method == "ddim" else {"return_slope": True}
    want = call(arguments, LEVELS, step_backend, **options)
    pair = want if options else (want,)
    moved = {name: tuple(strided(t, layout) for t in v) if name == "heads" else strided(v, layout) if isinstance(v, Tensor) else v for name, v in arguments.items()}  # fmt: skip  # noqa: E501
    outs = [Guarded(SHAPE, torch.float32, device, layout) for _ in pair]
    out = tuple(g.tensor for g in outs) if options else outs[0].tensor
    result = call(moved, LEVELS, step_backend, out=out, **options)
    assert result is out or all(r is o for r, o in zip(result, out, strict=True))
    for guard, expected in zip(outs, pair, strict=True):
        assert guard.untouched() and rel_l2(guard.tensor, numpy_of(expected)) <= 3e-7
    fresh = call(moved, LEVELS, step_backend, **options)
    for got, expected in zip(fresh if options else (fresh,), pair, strict=True):
        assert rel_l2(got, numpy_of(expected)) <= 3e-7


def test_lazily_negated_views(step_backend: str, device: str, rng: torch.Generator) -> None:
    """The imaginary part of a conjugate is a view whose numbers are still to be negated."""
    arguments = case("heun", SHAPE, torch.float32, rng, device)

    def lazy(t: Tensor) -> Tensor:
        view = torch.complex(torch.zeros_like(t), -t).conj().imag
        assert view.is_neg() and torch.equal(view, t)
        return view

    same = {"x": lazy(arguments["x"]), "heads": tuple(map(lazy, arguments["heads"])), "slope": lazy(arguments["slope"]), "method": "heun"}
    assert rel_l2(call(same, LEVELS, step_backend), numpy_of(call(arguments, LEVELS, step_backend))) <= 3e-7


def test_empty(step_backend: str, device: str) -> None:
    for shape in ((0, 3, 4, 4), (4, 0, 4, 4)):
        x = torch.zeros(shape, device=device)
        assert warmops.sampler_step(x, x, *LEVELS.values(), backend=step_backend).shape == shape
        pair = warmops.sampler_step(x, (x, x), *LEVELS.values(), method="euler", return_slope=True, backend=step_backend)
        assert [t.shape for t in pair] == [shape, shape]
