"""`warmops.sampler_step` against the papers' formulas in 80-bit arithmetic, and its promises on strides, dtypes, autograd and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from _cases import HALVES, Guarded, bit_equal, float_dtypes, ident, layouts, randn, strided
from _oracles import numpy_of, per_sample, rel_l2
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacrev, vmap

import warmops

METHODS = ("ddim", "euler", "heun")
SHAPE = (4, 3, 6, 10)
LEVELS = {"alpha": 1.5, "beta": 3.0, "alpha_next": 0.8, "beta_next": 1.9}
LIMIT = {torch.float64: 1e-13, torch.float32: 3e-7, torch.float16: 6e-4, torch.bfloat16: 5e-3}
methods = pytest.mark.parametrize("method", METHODS)


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


def case(method: str, shape: tuple[int, ...], dtype: torch.dtype, rng: torch.Generator, device: str = "cpu", head_dtype: torch.dtype | None = None) -> dict[str, Any]:  # fmt: skip  # noqa: E501
    """Arguments of a call: a state at its level, heads of unit size."""
    x = (LEVELS["beta"] * randn(shape, rng)).to(device, dtype)
    heads = tuple(randn(shape, rng).to(device, head_dtype or dtype) for _ in range(2))
    slope = {"slope": randn(shape, rng).to(device, dtype)} if method == "heun" else {}
    return {"x": x, "heads": heads, "method": method, **slope}


def call(arguments: dict[str, Any], levels: dict[str, Any], backend: str, **options: Any) -> Any:
    return warmops.sampler_step(**arguments, **levels, **options, backend=backend)


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


# ---- torch ----


@methods
def test_func(method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    """torch.func: grad by all inputs, of each of a batch, and a Hessian's rows: what autograd gives."""
    arguments = case(method, (2, 2, 3, 4), torch.float64, rng, device)
    tensors = [arguments["x"], *arguments["heads"], *([arguments["slope"]] if method == "heun" else [])]

    def energy(x: Tensor, head_b: Tensor, head_r: Tensor, slope: Tensor | None = None) -> Tensor:
        options = {"c_skip": 0.3, "c_out": (0.7, 0.2), "method": method, "slope": slope, "backend": step_backend}
        return warmops.sampler_step(x, (head_b, head_r), **LEVELS, **options).pow(3).sum()

    which = tuple(range(len(tensors)))
    want = torch.autograd.grad(energy(*(leaves := [t.clone().requires_grad_() for t in tensors])), leaves)
    for got, expected in zip(grad(energy, argnums=which)(*tensors), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    batch = [torch.stack([t, 2 * t]) for t in tensors]
    for got, expected in zip(vmap(grad(energy, argnums=which))(*batch), want, strict=True):
        torch.testing.assert_close(got[0], expected, rtol=1e-12, atol=1e-12)
    hessian = jacrev(grad(energy))(*tensors)
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(lambda x: energy(x, *tensors[1:]), tensors[0]), rtol=1e-10, atol=1e-10)  # fmt: skip  # noqa: E501


@methods
def test_gradients(method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    """By x, both heads and the slope, first and second order; the next state and the slope as outputs."""
    arguments = case(method, (2, 1, 2, 3), torch.float64, rng, device)
    tensors = [arguments["x"], *arguments["heads"], *([arguments["slope"]] if method == "heun" else [])]
    leaves = tuple(t.requires_grad_() for t in tensors)
    options: dict[str, Any] = {"c_skip": torch.tensor([0.3, -0.2], device=device), "c_out": (0.7, 0.2), "floor": 0.1, "method": method}
    if method != "ddim":
        options["return_slope"] = True

    def function(x: Tensor, head_b: Tensor, head_r: Tensor, slope: Tensor | None = None) -> Any:
        return warmops.sampler_step(x, (head_b, head_r), **LEVELS, slope=slope, **options, backend=step_backend)

    assert gradcheck(function, leaves, eps=1e-6, atol=1e-7, rtol=1e-6)
    assert gradgradcheck(function, leaves, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_gradients_of_raw_heads(step_backend: str, device: str, rng: torch.Generator) -> None:
    """Through the network's doubled channels, in its own dtype."""
    x, raw = randn(SHAPE, rng, device=device), randn((4, 6, 6, 10), rng, device=device).requires_grad_()
    half = raw.detach().to(torch.bfloat16).requires_grad_()
    for leaf, limit in ((raw, 1e-12), (half, 1e-2)):
        y = warmops.sampler_step(x, leaf, **LEVELS, c_out=(0.4, 0.8), backend=step_backend)
        (got,) = torch.autograd.grad(y.square().sum(), leaf)
        assert got.dtype == leaf.dtype and got.shape == leaf.shape
        through = warmops.blur(2 * y, 0.8, backend="reference") - 1.9 / 3.0 * warmops.blur(2 * y, 1.5, backend="reference")
        assert rel_l2(got, numpy_of(torch.cat([0.4 * through, 0.8 * through], dim=1))) <= limit


def opcheck_inputs(rng: torch.Generator, device: str) -> dict[str, tuple[Any, ...]]:
    def t(grad: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
        return randn(SHAPE, rng, dtype, device).requires_grad_(grad)

    table = torch.rand(4, 14, generator=rng, dtype=torch.float64).to(device)
    return {
        "both heads": (t(), t(), t(), None, table, False),
        "gradients": (t(True), t(True), t(True), t(True), table, True),
        "one head": (t(True), t(True), None, None, table, True),
        "none": (t(True), None, None, None, table, False),
        "half heads": (t(True), t(True, torch.bfloat16), t(True, torch.bfloat16), None, table, True),
        "strided": (strided(t(), "channels_last").requires_grad_(), strided(t(), "sliced"), t(), t(), table, True),
        "double": (t(True, torch.float64), t(True, torch.float64), None, None, table, False),
    }


@pytest.mark.parametrize("name", opcheck_inputs(torch.Generator(), "cpu"))
def test_opcheck(name: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    torch.library.opcheck(torch.ops.warmops.sampler_step.default, (*opcheck_inputs(rng, device)[name], step_backend))


@methods
def test_compile_fullgraph(method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    """One graph, the same bits as eager, for levels that are numbers and for tensors."""
    options = {} if method == "ddim" else {"return_slope": True}

    def function(arguments: dict[str, Any], alpha: Any, beta: Any, fraction: float) -> Any:
        ends = {"alpha": alpha, "beta": beta, "alpha_next": fraction * alpha, "beta_next": fraction * beta}
        return warmops.sampler_step(**arguments, **ends, **options, backend=step_backend)

    torch._dynamo.reset()
    fast = torch.compile(function, backend="aot_eager", fullgraph=True)
    arguments = case(method, SHAPE, torch.float32, rng, device)
    level = torch.tensor([0.5, 1.0, 3.0, 9.0], device=device)
    for alpha, beta, fraction in ((1.5, 3.0, 0.5), (2.5, 7.0, 0.25), (0.5, 0.3, 0.75), (level, 2 * level, 0.5), (0.0, 3.0, 0.5)):
        got, want = fast(arguments, alpha, beta, fraction), function(arguments, alpha, beta, fraction)
        pairs = zip(got, want, strict=True) if options else [(got, want)]
        assert all(bit_equal(g, w) for g, w in pairs), (alpha, beta)


@methods
def test_vmap(method: str, step_backend: str, device: str, rng: torch.Generator) -> None:
    """Over states, heads, slopes and levels: what a loop gives, bit for bit."""
    many = [case(method, SHAPE, torch.float32, rng, device) for _ in range(3)]
    alpha = torch.rand(3, 4, generator=rng).to(device) + 0.1
    slopes = torch.stack([m["slope"] for m in many]) if method == "heun" else None
    options = {} if method == "ddim" else {"return_slope": True}

    def function(x: Tensor, head: Tensor, alpha: Tensor, slope: Tensor | None) -> Any:
        ends = {"alpha": alpha, "beta": 2 * alpha, "alpha_next": 0.5 * alpha, "beta_next": alpha}
        return warmops.sampler_step(x, (head, many[0]["heads"][1]), **ends, method=method, slope=slope, **options, backend=step_backend)

    xs, heads = torch.stack([m["x"] for m in many], dim=1), torch.stack([m["heads"][0] for m in many])
    got = vmap(function, in_dims=(1, 0, 0, None if slopes is None else 0))(xs, heads, alpha, slopes)
    want = [function(xs[:, i], heads[i], alpha[i], None if slopes is None else slopes[i]) for i in range(3)]
    for part, parts in zip(got, zip(*want, strict=True), strict=True) if options else [(got, want)]:
        assert bit_equal(part, torch.stack(list(parts)))


@pytest.mark.cpu_only
def test_meta_and_fake_tensors(step_backend: str) -> None:
    x = torch.empty(SHAPE, device="meta")
    for result in warmops.sampler_step(x, (x, x), *LEVELS.values(), method="euler", return_slope=True, backend=step_backend):
        assert result.device.type == "meta" and result.shape == SHAPE
    with FakeTensorMode() as mode:
        fake, level = mode.from_tensor(strided(torch.ones(SHAPE), "channels_last")), mode.from_tensor(torch.ones(4))
        got = warmops.sampler_step(fake, fake, level, level, 0.0, 0.0, backend=step_backend)
    real = torch.empty_like(strided(torch.ones(SHAPE), "channels_last"))
    assert (got.shape, got.dtype, got.stride()) == (real.shape, real.dtype, real.stride())


@pytest.mark.cpu_only
def test_bad_levels_in_a_compiled_call(step_backend: str, device: str) -> None:
    x = torch.ones(SHAPE)
    torch._dynamo.reset()
    fast = torch.compile(
        lambda beta: warmops.sampler_step(x, x, 0.0, beta, 0.0, 0.0, backend=step_backend), backend="aot_eager", fullgraph=True
    )
    fast(torch.ones(4))
    with pytest.raises(ValueError, match="sample 2"):
        fast(torch.tensor([1.0, 1.0, math.nan, 1.0]))


# ---- bad input ----

NARROW = torch.ones(4, 3, 6, 9)
BAD: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "x a list": ({"x": [1.0]}, TypeError, ("x must be a torch.Tensor", "list")),
    "x uint8": ({"x": torch.ones(SHAPE, dtype=torch.uint8)}, TypeError, ("x must be a floating-point", "uint8")),
    "x 2-d": ({"x": torch.ones(6, 10)}, ValueError, ("x must have at least 3 dimensions",)),
    "method": ({"method": "rk4"}, ValueError, ("method must be one of", "'ddim'", "'rk4'")),
    "heads None": ({"heads": None}, TypeError, ("heads must be a torch.Tensor or a pair", "NoneType")),
    "heads of three": ({"heads": (torch.ones(SHAPE),) * 3}, ValueError, ("heads", "pair", "3")),
    "heads narrow": ({"heads": NARROW}, ValueError, ("heads must have shape", "(4, 3, 6, 10)", "(4, 6, 6, 10)", "(4, 3, 6, 9)")),
    "heads tripled": ({"heads": torch.ones(4, 9, 6, 10)}, ValueError, ("heads must have shape", "(4, 9, 6, 10)")),
    "second head narrow": ({"heads": (torch.ones(SHAPE), NARROW)}, ValueError, ("heads[1]", "(4, 3, 6, 9)")),
    "second head half": ({"heads": (torch.ones(SHAPE), torch.ones(SHAPE).half())}, TypeError, ("heads[1]", "float32", "float16")),
    "heads of integers": ({"heads": torch.ones(SHAPE, dtype=torch.int64)}, TypeError, ("heads must be a floating-point", "int64")),
    "heads elsewhere": ({"heads": torch.ones(SHAPE, device="meta")}, ValueError, ("heads", "cpu", "meta")),
    "beta zero": ({"beta": 0.0, "beta_next": 0.0}, ValueError, ("beta must be > 0", "0.0")),
    "beta rising": ({"beta_next": 4.0}, ValueError, ("beta must be", ">= beta_next", "beta 3.0", "beta_next 4.0")),
    "alpha rising": ({"alpha_next": 1.6}, ValueError, ("alpha must be", ">= alpha_next", "alpha 1.5", "alpha_next 1.6")),
    "beta infinite": ({"beta": math.inf}, ValueError, ("beta must be finite", "inf")),
    "alpha infinite": ({"alpha": math.inf}, ValueError, ("alpha must be finite", "inf")),
    "alpha negative": ({"alpha": -1.0}, ValueError, ("alpha must be >= 0", "-1.0")),
    "alpha_next NaN": ({"alpha_next": math.nan}, ValueError, ("alpha_next must be >= 0", "nan")),
    "beta a string": ({"beta": "3"}, TypeError, ("beta must be a float", "str")),
    "beta too short": ({"beta": torch.ones(3)}, ValueError, ("beta", "[4]", "[3]")),
    "beta rising in a sample": ({"beta_next": torch.tensor([1.0, 1.0, 3.5, 1.0])}, ValueError, ("beta_next 3.5", "sample 2")),
    "beta zero in a sample": ({"beta": torch.tensor([3.0, 0.0, 3.0, 3.0]), "beta_next": 0.0}, ValueError, ("beta must be > 0", "sample 1")),
    "alpha NaN in a sample": ({"alpha": torch.tensor([3.0, 3.0, 3.0, math.nan])}, ValueError, ("alpha", "nan", "sample 3")),
    "eta above": ({"eta": 2.0}, ValueError, ("eta must be in [0, beta_next]", "eta 2.0")),
    "eta negative": ({"eta": -0.1}, ValueError, ("eta must be >= 0", "-0.1")),
    "eta for euler": ({"eta": 0.1, "method": "euler"}, ValueError, ("eta must be 0", "'euler'")),
    "floor above": ({"floor": 1.5}, ValueError, ("floor must be in [0, 1]", "1.5")),
    "no step": ({"method": "euler", "alpha_next": 1.5, "beta_next": 3.0}, ValueError, ("must not both equal",)),
    "heun to zero": ({"method": "heun", "beta_next": 0.0, "slope": torch.ones(SHAPE)}, ValueError, ("beta_next must be > 0", "'heun'")),
    "heun without slope": ({"method": "heun"}, ValueError, ("slope must be given", "'heun'")),
    "slope for ddim": ({"slope": torch.ones(SHAPE)}, ValueError, ("slope must be None", "'ddim'")),
    "slope narrow": ({"method": "heun", "slope": NARROW}, ValueError, ("slope", "(4, 3, 6, 10)", "(4, 3, 6, 9)")),
    "slope double": ({"method": "heun", "slope": torch.ones(SHAPE).double()}, TypeError, ("slope", "float32", "float64")),
    "return_slope for ddim": ({"return_slope": True}, ValueError, ("return_slope", "'ddim'")),
    "alpha_rate for ddim": ({"alpha_rate": 0.5}, ValueError, ("alpha_rate", "'ddim'")),
    "alpha_rate NaN": ({"alpha_rate": math.nan, "method": "euler"}, ValueError, ("alpha_rate must be finite", "nan")),
    "c_skip NaN": ({"c_skip": math.nan}, ValueError, ("c_skip must be finite", "nan")),
    "c_out of three": ({"c_out": (1.0, 1.0, 1.0)}, ValueError, ("c_out", "pair", "3")),
    "c_out infinite": ({"c_out": (1.0, math.inf)}, ValueError, ("c_out[1] must be finite", "inf")),
    "c_out too short": ({"c_out": (1.0, torch.ones(2))}, ValueError, ("c_out[1]", "[4]", "[2]")),
    "gradient of a level": ({"beta": torch.full((4,), 3.0, requires_grad=True)}, ValueError, ("beta must not require a gradient",)),
    "out too small": ({"out": NARROW}, ValueError, ("out", "(4, 3, 6, 10)", "(4, 3, 6, 9)")),
    "out half": ({"out": torch.ones(SHAPE).half()}, TypeError, ("out", "float32", "float16")),
    "out expanded": ({"out": torch.ones(4, 1, 6, 10).expand(SHAPE)}, ValueError, ("out must not overlap itself",)),
    "out not a pair": ({"method": "euler", "return_slope": True, "out": torch.ones(SHAPE)}, TypeError, ("out must be a pair",)),
    "backend": ({"backend": "gpu"}, ValueError, ("backend must be", "'gpu'")),
}  # fmt: skip


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, step_backend: str) -> None:
    changes, kind, wants = BAD[name]
    good: dict[str, Any] = {"x": torch.ones(SHAPE), "heads": torch.ones(SHAPE), **LEVELS, "backend": step_backend}
    warmops.sampler_step(**good)
    guards = [Guarded(SHAPE, torch.float32, "cpu") for _ in range(2)]
    out = tuple(g.tensor for g in guards) if changes.get("return_slope") else guards[0].tensor
    with pytest.raises(kind) as caught:
        warmops.sampler_step(**{**good, "out": out, **changes})
    assert all(want in str(caught.value) for want in wants), caught.value
    assert all(g.untouched(including_tensor=True) for g in guards)


@pytest.mark.cpu_only
def test_overlap(step_backend: str) -> None:
    x, other = torch.ones(SHAPE), torch.ones(SHAPE)
    raw = torch.ones(4, 6, 6, 10)
    for arguments, message in (
        ({"x": x, "heads": other, "out": x}, "out must not overlap x"),
        ({"x": x, "heads": other, "out": other}, "out must not overlap heads"),
        ({"x": x, "heads": raw, "out": raw[:, 3:]}, "out must not overlap heads"),
        ({"x": x, "heads": raw, "method": "heun", "slope": other, "out": other}, "out must not overlap slope"),
        ({"x": x, "heads": raw, "method": "euler", "return_slope": True, "out": (other, other)}, "out[1] must not overlap out"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            warmops.sampler_step(**arguments, **LEVELS, backend=step_backend)
        assert message in str(caught.value)
    assert bit_equal(x, torch.ones(SHAPE)) and bit_equal(other, torch.ones(SHAPE))


@pytest.mark.cpu_only
def test_out_and_autograd_exclude_each_other(step_backend: str) -> None:
    x = torch.ones(SHAPE, requires_grad=True)
    with pytest.raises(ValueError, match="out must be None"):
        warmops.sampler_step(x, torch.ones(SHAPE), *LEVELS.values(), out=torch.ones(SHAPE), backend=step_backend)
