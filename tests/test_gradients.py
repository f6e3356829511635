"""Derivatives by x, both levels, noise and scale: first and second order, every dtype, every level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _oracles
import pytest
import torch
from _cases import INF, bit_equal, half_dtypes, images, randn, strided
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import warmops

ALPHAS = [0.0, 0.3, 1.2, 6.0]
BETAS = [0.7, 0.0, 0.2, 2.0]
NAMES = ("x", "blur_sigma", "noise_sigma", "noise", "scale")


def leaves(shape: tuple[int, ...], rng: torch.Generator, device: str, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Leaf tensors of every differentiable argument, shape ``[4, ...]``."""
    values = {
        "x": randn(shape, rng, dtype, device),
        "blur_sigma": torch.tensor(ALPHAS, dtype=dtype, device=device),
        "noise_sigma": torch.tensor(BETAS, dtype=dtype, device=device),
        "noise": randn(shape, rng, dtype, device),
        "scale": torch.tensor([1.0, -0.5, 2.0, 0.1], dtype=dtype, device=device),
    }
    return {name: value.requires_grad_() for name, value in values.items()}


def call(arguments: dict[str, Any], **options: Any) -> Any:
    return warmops.blur_noise(arguments["x"], arguments["blur_sigma"], arguments["noise_sigma"], **options)


def finite_difference_checks(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
    assert gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)
    assert gradgradcheck(function, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)


# ---- finite differences ----


@pytest.mark.parametrize("shape", [(4, 2, 4, 5), (4, 3, 3), (4, 1, 1, 1), (4, 1, 1, 6)], ids=lambda s: "x".join(map(str, s)))
def test_blur(shape: tuple[int, ...], backend: str, device: str, rng: torch.Generator) -> None:
    x = randn(shape, rng, device=device).requires_grad_()
    sigma = torch.tensor([0.2, 0.3, 1.2, 6.0], dtype=torch.float64, device=device).requires_grad_()
    finite_difference_checks(lambda x, sigma: warmops.blur(x, sigma, backend=backend), (x, sigma))
    finite_difference_checks(lambda x: warmops.blur(x, 0.8, backend=backend), (x,))
    finite_difference_checks(lambda x: warmops.blur(x, 0.0, backend=backend), (x,))


@pytest.mark.parametrize("name", NAMES)
def test_blur_noise_by_one_argument(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    arguments = {key: value.detach() for key, value in leaves((4, 2, 3, 4), rng, device).items()}
    arguments["blur_sigma"] += 0.1  # away from 0, where a finite difference steps out of the domain
    arguments["noise_sigma"] += 0.1

    def function(value: Tensor) -> Any:
        given = {**arguments, name: value}
        return call(given, noise=given["noise"], scale=given["scale"], return_blurred=True, backend=backend)

    finite_difference_checks(function, (arguments[name].clone().requires_grad_(),))


def test_blur_noise_by_all_arguments(backend: str, device: str, rng: torch.Generator) -> None:
    values = leaves((4, 1, 3, 4), rng, device)
    with torch.no_grad():
        values["blur_sigma"] += 0.1
        values["noise_sigma"] += 0.1

    def function(*tensors: Tensor) -> Any:
        given = dict(zip(NAMES, tensors, strict=True))
        return call(given, noise=given["noise"], scale=given["scale"], return_blurred=True, backend=backend)

    finite_difference_checks(function, tuple(values.values()))


def test_blur_noise_of_a_seed(backend: str, device: str, rng: torch.Generator) -> None:
    values = leaves((4, 1, 3, 4), rng, device)
    with torch.no_grad():
        values["blur_sigma"] += 0.1
        values["noise_sigma"] += 0.1

    def function(x: Tensor, alpha: Tensor, beta: Tensor, scale: Tensor) -> Tensor:
        return warmops.blur_noise(x, alpha, beta, seed=5, scale=scale, backend=backend)

    finite_difference_checks(function, tuple(values[name] for name in ("x", "blur_sigma", "noise_sigma", "scale")))


# ---- closed forms ----


def expected_grads(values: dict[str, Tensor], eps: Tensor, grad: Tensor, grad_blurred: Tensor) -> dict[str, Tensor]:
    """The derivatives, through autograd over plain float64 matrices: B = V^T diag(m) V per axis."""
    with torch.enable_grad():
        leaf = {name: value.detach().double().cpu().requires_grad_() for name, value in values.items()}
        blurred = leaf["x"]
        for axis in (-2, -1):
            n = blurred.shape[axis]
            basis = torch.from_numpy(_oracles.scipy.fft.dct(torch.eye(n).double().numpy(), axis=0, norm="ortho"))
            k = torch.arange(n, dtype=torch.float64) * torch.pi / n
            m = torch.exp(-0.5 * (leaf["blur_sigma"][:, None] * k) ** 2)
            matrix = (basis.T @ (m[:, :, None] * basis))[:, None]
            blurred = matrix @ blurred if axis == -2 else blurred @ matrix
        beta, scale = (leaf[name][:, None, None, None] for name in ("noise_sigma", "scale"))
        out = scale * (blurred + beta * (leaf["noise"] if "noise" in leaf else eps.double().cpu()))
        total = (out * grad.double().cpu()).sum() + (blurred * grad_blurred.double().cpu()).sum()
        return dict(zip(leaf, torch.autograd.grad(total, list(leaf.values())), strict=True))


@pytest.mark.parametrize("noise", ["given", "of a seed"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)], ids=["float64", "float32"])
def test_closed_forms(dtype: torch.dtype, tolerance: float, noise: str, backend: str, device: str, rng: torch.Generator) -> None:
    """Levels of 0 included, where finite differences cannot go."""
    values = leaves((4, 3, 16, 11), rng, device, dtype)
    if noise == "given":
        options: dict[str, Any] = {"noise": values["noise"]}
        eps = values["noise"]
    else:
        del values["noise"]
        options = {"seed": 5}
        eps = warmops.normal((4, 3, 16, 11), 5, dtype=dtype, device=device, backend=backend)
    out, blurred = call(values, **options, scale=values["scale"], return_blurred=True, backend=backend)
    grads = randn(out.shape, rng, dtype, device), randn(out.shape, rng, dtype, device)
    got = torch.autograd.grad((out, blurred), list(values.values()), grads)
    for (name, want), result in zip(expected_grads(values, eps, *grads).items(), got, strict=True):
        assert result.dtype == dtype and result.shape == values[name].shape
        assert _oracles.rel_l2(result, _oracles.numpy_of(want)) <= tolerance, name


@half_dtypes
def test_half_gradients(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    """Relative L2, cosine and bias against float64, so that outliers cannot hide a biased gradient."""
    values = leaves((4, 3, 16, 11), rng, device, dtype)
    out, blurred = call(values, noise=values["noise"], scale=values["scale"], return_blurred=True, backend=backend)
    grads = randn(out.shape, rng, dtype, device), randn(out.shape, rng, dtype, device)
    got = torch.autograd.grad((out, blurred), list(values.values()), grads)
    eps = torch.finfo(dtype).eps
    for (name, want), result in zip(expected_grads(values, values["noise"], *grads).items(), got, strict=True):
        assert result.dtype == dtype
        bar = (1 if name in ("x", "noise") else 8) * eps
        assert _oracles.rel_l2(result, _oracles.numpy_of(want)) <= bar, name
        flat, truth = result.double().cpu().flatten(), want.flatten()
        assert torch.nn.functional.cosine_similarity(flat, truth, dim=0) >= 1 - bar**2 / 2 - 1e-6, name
        if name in ("x", "noise"):
            assert abs(float((flat - truth).mean() / truth.abs().mean())) <= eps / 4, name


def test_backward_of_blur_is_blur(backend: str, device: str, rng: torch.Generator) -> None:
    """A is self-adjoint: the same kernel, the same bits."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = randn((4, 3, 16, 16), rng, dtype, device).requires_grad_()
        sigma = torch.tensor([0.0, 0.5, 3.0, INF], device=device)
        grad = randn(x.shape, rng, dtype, device)
        (got,) = torch.autograd.grad(warmops.blur(x, sigma, backend=backend), x, grad)
        assert bit_equal(got, warmops.blur(grad, sigma, backend=backend))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-3, 40.0, 1e6, 1e30, INF])
def test_gradients_are_finite_at_every_level(level: float, backend: str, device: str, rng: torch.Generator) -> None:
    for dtype in (torch.float64, torch.float32):
        x = images((2, 3, 8, 8), dtype, rng, device).requires_grad_()
        sigma = torch.full((2,), level, dtype=dtype, device=device).requires_grad_()
        grads = torch.autograd.grad(warmops.blur(x, sigma, backend=backend).square().sum(), (x, sigma))
        assert all(g.isfinite().all() for g in grads)
        if level == 0.0 or level >= 1e6:
            assert (grads[1] == 0).all()


# ---- which outputs and inputs take part ----


@pytest.mark.parametrize("used", ["out", "blurred", "both"])
def test_one_of_two_outputs(used: str, backend: str, device: str, rng: torch.Generator) -> None:
    values = leaves((4, 3, 9, 8), rng, device)
    out, blurred = call(values, noise=values["noise"], scale=values["scale"], return_blurred=True, backend=backend)
    grads = randn(out.shape, rng, device=device), randn(out.shape, rng, device=device)
    picked = [(o, g) for o, g, name in zip((out, blurred), grads, ("out", "blurred"), strict=True) if used in (name, "both")]
    got = torch.autograd.grad([o for o, _ in picked], list(values.values()), [g for _, g in picked], allow_unused=True)
    zeros = torch.zeros_like(grads[0])
    want = expected_grads(values, values["noise"], grads[0] if used != "blurred" else zeros, grads[1] if used != "out" else zeros)
    for (name, truth), result in zip(want.items(), got, strict=True):
        assert result is not None or (truth == 0).all(), name
        if result is not None:
            torch.testing.assert_close(result.cpu(), truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_only_one_input_needs_a_gradient(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    values = leaves((4, 3, 9, 8), rng, device)
    everything = call(values, noise=values["noise"], scale=values["scale"], backend=backend)
    grad = randn(everything.shape, rng, device=device)
    want = dict(zip(values, torch.autograd.grad(everything, list(values.values()), grad), strict=True))
    single = {key: value.detach().requires_grad_(key == name) for key, value in values.items()}
    out = call(single, noise=single["noise"], scale=single["scale"], backend=backend)
    assert bit_equal(out, everything)
    out.backward(grad)
    assert bit_equal(single[name].grad, want[name])
    assert all(value.grad is None for key, value in single.items() if key != name)


def test_a_zero_d_level_gets_a_zero_d_gradient(backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((4, 3, 9, 8), rng, device=device)
    alpha, beta = (torch.tensor(v, dtype=torch.float64, device=device).requires_grad_() for v in (1.3, 0.4))
    many = [torch.full((4,), float(v), dtype=torch.float64, device=device).requires_grad_() for v in (alpha, beta)]
    warmops.blur_noise(x, alpha, beta, seed=2, backend=backend).square().sum().backward()
    warmops.blur_noise(x, *many, seed=2, backend=backend).square().sum().backward()
    for single, batch in zip((alpha, beta), many, strict=True):
        torch.testing.assert_close(single.grad, batch.grad.sum(), rtol=1e-12, atol=0)


def test_levels_of_another_dtype(backend: str, device: str, rng: torch.Generator) -> None:
    for x_dtype, dtype in ((torch.float32, torch.float64), (torch.float64, torch.float32), (torch.bfloat16, torch.float32)):
        x = randn((3, 2, 6, 6), rng, x_dtype, device).requires_grad_()
        alpha, beta = (torch.rand(3, generator=rng).to(device, dtype).requires_grad_() for _ in range(2))
        warmops.blur_noise(x, alpha, beta, seed=2, scale=alpha, backend=backend).square().sum().backward()
        assert (x.grad.dtype, alpha.grad.dtype, beta.grad.dtype) == (x_dtype, dtype, dtype)


def test_uint8_images_have_level_gradients(backend: str, device: str, rng: torch.Generator) -> None:
    x = images((2, 3, 8, 8), torch.uint8, rng, device)
    levels = [torch.tensor([0.5, 2.0], dtype=torch.float64, device=device).requires_grad_() for _ in range(4)]
    grad = randn(x.shape, rng, torch.float32, device)
    warmops.blur_noise(x, *levels[:2], seed=1, backend=backend).backward(grad)
    warmops.blur_noise(x.double() / 127.5 - 1, *levels[2:], seed=1, backend=backend).backward(grad.double())
    for got, want in zip(levels[:2], levels[2:], strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "sliced"])
def test_strided_gradients(layout: str, backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((3, 2, 9, 8), rng, device=device)
    grad = randn((3, 2, 9, 8), rng, device=device)
    sigma = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64, device=device)
    leaf = strided(x, layout).requires_grad_()
    (got,) = torch.autograd.grad(warmops.blur(leaf, sigma, backend=backend), leaf, strided(grad, layout))
    torch.testing.assert_close(got, warmops.blur(grad, sigma, backend=backend), rtol=1e-13, atol=1e-14)
    shared = torch.autograd.grad(warmops.blur(leaf, sigma, backend=backend).sum(), leaf)[0]  # an expanded gradient
    torch.testing.assert_close(shared, torch.ones_like(x), rtol=1e-13, atol=0)


def test_empty_batches(backend: str, device: str) -> None:
    for shape in ((0, 3, 8, 8), (2, 0, 8, 8)):
        x = torch.empty(shape, device=device, requires_grad=True)
        levels = [torch.ones(shape[0], device=device, requires_grad=True) for _ in range(3)]
        out = warmops.blur_noise(x, levels[0], levels[1], scale=levels[2], seed=1, backend=backend)
        grads = torch.autograd.grad(out.sum(), [x, *levels])
        assert [g.shape for g in grads] == [x.shape, *(level.shape for level in levels)]
        assert all((g == 0).all() for g in grads)


def test_gradient_path_has_the_same_bits(backend: str, device: str, rng: torch.Generator) -> None:
    """Through the dispatcher (a gradient is wanted) and straight to the kernel (none is): one result."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = randn((4, 3, 16, 11), rng, dtype, device)
        for alpha, beta in ((0.7, 0.3), (torch.tensor(ALPHAS, device=device), torch.tensor(BETAS, device=device))):
            direct = warmops.blur_noise(x, alpha, beta, seed=3, scale=0.3, return_blurred=True, backend=backend)
            leaf = x.clone().requires_grad_()
            recorded = warmops.blur_noise(leaf, alpha, beta, seed=3, scale=0.3, return_blurred=True, backend=backend)
            assert all(r.requires_grad and bit_equal(d, r.detach()) for d, r in zip(direct, recorded, strict=True))
