"""`torch.func` over blur and blur_noise: grad, vjp, jacrev and their compositions are what autograd gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from _cases import randn
from torch import Tensor
from torch.func import grad, grad_and_value, jacrev, jvp, vjp, vmap

import warmops

SHAPE = (2, 2, 4, 3)
CALLS: dict[str, Callable[..., Any]] = {
    "blur": lambda x, alpha, beta, scale, eps, backend: warmops.blur(x, alpha, backend=backend),
    "seed": lambda x, alpha, beta, scale, eps, backend: warmops.blur_noise(x, alpha, beta, seed=4, scale=scale, backend=backend),
    "noise": lambda x, alpha, beta, scale, eps, backend: warmops.blur_noise(x, alpha, beta, noise=eps, backend=backend),
    "both outputs": lambda x, alpha, beta, scale, eps, backend: sum(
        warmops.blur_noise(x, alpha, beta, noise=eps, scale=scale, return_blurred=True, backend=backend)
    ),
}
TAKES_PART = {"blur": (0, 1), "seed": (0, 1, 2, 3), "noise": (0, 1, 2, 4), "both outputs": (0, 1, 2, 3, 4)}
calls = pytest.mark.parametrize("name", CALLS)


def inputs(rng: torch.Generator, device: str, *more: int) -> list[Tensor]:
    """x, alpha, beta, scale, eps."""
    levels = [0.2 + torch.rand(*more, 2, generator=rng, dtype=torch.float64).to(device) for _ in range(3)]
    return [randn((*more, *SHAPE), rng, device=device), *levels, randn((*more, *SHAPE), rng, device=device)]


def energy(name: str, backend: str) -> Callable[..., Tensor]:
    return lambda *arguments: CALLS[name](*arguments, backend).pow(3).sum()


def by_autograd(f: Callable[..., Tensor], arguments: list[Tensor], which: tuple[int, ...]) -> tuple[Tensor, ...]:
    leaves = [a.clone().requires_grad_() for a in arguments]
    return torch.autograd.grad(f(*leaves), [leaves[i] for i in which])


@calls
def test_grad(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    f, arguments, which = energy(name, backend), inputs(rng, device), TAKES_PART[name]
    got, value = grad_and_value(f, argnums=which)(*arguments)
    torch.testing.assert_close(value, f(*arguments), rtol=1e-13, atol=0)
    for part, want in zip(got, by_autograd(f, arguments, which), strict=True):
        torch.testing.assert_close(part, want, rtol=1e-12, atol=1e-12)


@calls
def test_gradients_of_each_batch(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    f, arguments, which = energy(name, backend), inputs(rng, device, 3), TAKES_PART[name]
    got = vmap(grad(f, argnums=which))(*arguments)
    for v in range(3):
        for part, want in zip(got, by_autograd(f, [a[v] for a in arguments], which), strict=True):
            torch.testing.assert_close(part[v], want, rtol=1e-12, atol=1e-12)


@calls
def test_jacobians(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    arguments, which = inputs(rng, device), TAKES_PART[name]
    got = jacrev(lambda *a: CALLS[name](*a, backend), argnums=which)(*arguments)
    leaves = tuple(a.clone().requires_grad_() for a in arguments)
    want = torch.autograd.functional.jacobian(lambda *a: CALLS[name](*a, backend), leaves)
    for part, i in zip(got, which, strict=True):
        torch.testing.assert_close(part, want[i], rtol=1e-12, atol=1e-12)


@calls
def test_second_order(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    f, arguments, which = energy(name, backend), inputs(rng, device), TAKES_PART[name][1:]  # by levels, scale and noise
    got = jacrev(jacrev(f, argnums=which), argnums=which)(*arguments)
    leaves = [a.clone().requires_grad_() for a in arguments]
    first = torch.autograd.grad(f(*leaves), [leaves[i] for i in which], create_graph=True)
    for row, gradient in zip(got, first, strict=True):
        chosen = [leaves[i] for i in which]
        rows = [torch.autograd.grad(g, chosen, retain_graph=True, materialize_grads=True) for g in gradient.flatten()]
        for j, block in enumerate(row):
            want = torch.stack([r[j] for r in rows]).reshape(block.shape)
            torch.testing.assert_close(block, want, rtol=1e-11, atol=1e-11)


def test_vjp_of_blur_is_blur(backend: str, device: str, rng: torch.Generator) -> None:
    x, alpha, _, _, g = inputs(rng, device)
    y, pull = vjp(lambda x: warmops.blur(x, alpha, backend=backend), x)
    assert torch.equal(y, warmops.blur(x, alpha, backend=backend))
    torch.testing.assert_close(pull(g)[0], warmops.blur(g, alpha, backend=backend), rtol=1e-13, atol=1e-14)


def test_forward_mode_is_refused_and_not_ignored(backend: str, device: str, rng: torch.Generator) -> None:
    x = inputs(rng, device)[0]
    for f in (lambda x: warmops.blur(x, 1.0, backend=backend), lambda x: warmops.blur_noise(x, 1.0, 0.5, seed=1, backend=backend)):
        with pytest.raises(NotImplementedError, match="jvp"):
            jvp(f, (x,), (x,))
        with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
            f(torch.autograd.forward_ad.make_dual(x, x))


@pytest.mark.parametrize("name", ["blur", "both outputs"])
def test_compiled(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    """torch.func inside torch.compile: the same; forward mode is refused there too."""
    f, arguments, which = energy(name, backend), inputs(rng, device), TAKES_PART[name]

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        torch._dynamo.reset()
        return torch.compile(function, backend="aot_eager", fullgraph=True)

    for got, want in zip(compiled(grad(f, argnums=which))(*arguments), grad(f, argnums=which)(*arguments), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    second = jacrev(grad(f, argnums=1), argnums=1)
    torch.testing.assert_close(compiled(second)(*arguments), second(*arguments), rtol=1e-12, atol=1e-12)
    with pytest.raises(Exception, match="jvp"):
        compiled(lambda x: jvp(lambda x: f(x, *arguments[1:]), (x,), (x,)))(arguments[0])
    torch._dynamo.reset()
