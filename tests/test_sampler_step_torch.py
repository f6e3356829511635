"""`warmops.sampler_step` under autograd, torch.func, torch.compile and vmap."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _cases import bit_equal, randn, strided
from _oracles import numpy_of, rel_l2
from _sampler_calls import LEVELS, SHAPE, case, methods
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacrev, vmap

import warmops


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
