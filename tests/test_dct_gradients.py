"""The DCT family under autograd (every order, both modes), torch.func and vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from _cases import FLOATS, bit_equal, layouts, randn, strided
from _dct_cases import FUNCTIONS, TYPES, functions, types
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import warmops

# Crop, padding and several axes, in the words of one axis and of several.
ARGUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "ortho": ({"norm": "ortho"}, {"norm": "ortho", "dim": (-1, 0)}),
    "cropped": ({"n": 2, "dim": 1}, {"s": (2, 3), "dim": (1, 2)}),
    "padded": ({"n": 6, "norm": "forward"}, {"s": (5, 7), "norm": "forward"}),
    "both": ({"n": 3, "dim": 0, "orthogonalize": True}, {"s": (3, 2), "orthogonalize": True}),
}
SHAPE = (2, 3, 4)
# Each function and type with one of the calls: the Jacobians below are exact, and try them all.
in_turn = pytest.mark.parametrize(
    ("function", "type_", "name"), [(f, t, list(ARGUMENTS)[(i + t) % 5]) for i, f in enumerate(FUNCTIONS) for t in TYPES]
)


def bound(function: str, type_: int, name: str, backend: str) -> Callable[[Tensor], Tensor]:
    """The transform as a function of x alone."""
    arguments = ARGUMENTS[name][function.endswith("n")]
    return lambda x: getattr(warmops, function)(x, type=type_, **arguments, backend=backend)


def matrix_of(function: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: str) -> Tensor:
    """The transform of every unit tensor, by plain calls: ``[*result, *shape]``, a Jacobian without any autograd."""
    size = torch.Size(shape).numel()
    unit = torch.eye(size, dtype=torch.float64, device=device).reshape(size, *shape)
    columns = torch.stack([function(u) for u in unit], dim=-1)
    return columns.reshape(*columns.shape[:-1], *shape)


# ---- autograd ----


@in_turn
def test_first_and_second_order(function: str, type_: int, name: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    f = bound(function, type_, name, dct_backend)
    x = randn(SHAPE, rng, device=device).requires_grad_()
    assert gradcheck(f, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert gradgradcheck(f, x)


@pytest.mark.parametrize("function", ["dct", "idstn"])
def test_complex_numbers(function: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    x = torch.view_as_complex(randn((2, 3, 2), rng, device=device)).requires_grad_()
    f = getattr(warmops, function)
    for arguments in ({"type": 3}, {"n": 2} if function == "dct" else {"s": (3, 2)}):
        assert gradcheck(lambda x, a=arguments: f(x, **a, backend=dct_backend), x, check_forward_ad=True, check_batched_grad=True)
        assert gradcheck(lambda x, a=arguments: f(x.conj(), **a, backend=dct_backend), x)
        assert gradgradcheck(lambda x, a=arguments: f(x, **a, backend=dct_backend), x)


def test_third_order(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Of the sum of cubes of the spectrum: the third derivative along one direction is six times that of its own spectrum."""
    f = bound("dctn", 2, "padded", dct_backend)
    x, u = randn(SHAPE, rng, device=device).requires_grad_(), randn(SHAPE, rng, device=device)
    value = f(x).pow(3).sum()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        value = (gradient * u).sum()
    torch.testing.assert_close(value, 6 * f(u).pow(3).sum(), rtol=1e-12, atol=0)
    (fourth,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
    assert fourth is None or not fourth.abs().max() > 1e-9


@types
@functions
def test_backward_is_the_transpose(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """With norm="ortho" the matrix is orthogonal: backward is the inverse, in every dtype."""
    for dtype in FLOATS:
        x = randn((5, 8, 9), rng, dtype, device).requires_grad_()
        y = getattr(warmops, function)(x, type=type_, norm="ortho", backend=dct_backend)
        g = randn(y.shape, rng, dtype, device)
        (got,) = torch.autograd.grad(y, x, g)
        assert got.dtype == dtype and got.shape == x.shape
        inverse = function[1:] if function.startswith("i") else "i" + function  # ortho: the transpose is the inverse
        want = getattr(warmops, inverse)(g, type=type_, norm="ortho", backend=dct_backend)
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(got, want, rtol=4 * eps, atol=8 * eps)


@layouts
def test_strided_gradients(layout: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    x, g = randn((3, 2, 9, 8), rng, device=device), randn((3, 2, 9, 8), rng, device=device)
    leaf = strided(x, layout).requires_grad_()
    (got,) = torch.autograd.grad(warmops.dct2(leaf, norm="ortho", backend=dct_backend), leaf, strided(g, layout))
    torch.testing.assert_close(got, warmops.idct2(g, norm="ortho", backend=dct_backend), rtol=1e-13, atol=1e-13)
    (shared,) = torch.autograd.grad(warmops.idct2(leaf, backend=dct_backend).sum(), leaf)  # an expanded gradient
    want = torch.autograd.grad((warmops.idct2(leaf, backend=dct_backend) * torch.ones_like(x)).sum(), leaf)[0]
    torch.testing.assert_close(shared, want, rtol=1e-13, atol=1e-14)


def test_gradient_path_has_the_same_bits(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Recorded or not, by autograd, forward mode or torch.func: one kernel, one result."""
    for dtype in FLOATS:
        x = randn((4, 3, 16, 11), rng, dtype, device)
        for function in FUNCTIONS:
            f = bound(function, 2, "ortho", dct_backend)
            want = f(x)
            recorded = f(x.clone().requires_grad_())
            assert recorded.requires_grad and bit_equal(recorded.detach(), want)
            with forward_ad.dual_level():
                dual = forward_ad.unpack_dual(f(forward_ad.make_dual(x, x.flip(0))))
                assert bit_equal(dual.primal, want) and bit_equal(dual.tangent, f(x.flip(0).contiguous()))
            assert bit_equal(vjp(f, x)[0], want)
            with torch.inference_mode():
                assert bit_equal(f(x), want)


def test_integers_and_detached_inputs_have_no_gradient(dct_backend: str, device: str) -> None:
    assert not warmops.dct(torch.arange(4, device=device), backend=dct_backend).requires_grad
    assert not warmops.dct(torch.ones(4, device=device), backend=dct_backend).requires_grad
    with torch.no_grad():
        assert not warmops.dct(torch.ones(4, device=device, requires_grad=True), backend=dct_backend).requires_grad


def test_out_with_autograd(dct_backend: str, device: str) -> None:
    x, out = torch.ones(3, 4, device=device, requires_grad=True), torch.zeros(3, 4, device=device)
    with pytest.raises(ValueError, match="out must be None"):
        warmops.dct(x, out=out, backend=dct_backend)
    with forward_ad.dual_level(), pytest.raises(ValueError, match="out must be None"):
        warmops.dct(forward_ad.make_dual(x.detach(), x.detach()), out=out, backend=dct_backend)
    with pytest.raises(ValueError, match="out must be None"):
        vmap(lambda x: warmops.dct(x, out=out[0], backend=dct_backend))(x.detach())
    assert (out == 0).all()
    with torch.no_grad():
        assert warmops.dct(x, out=out, backend=dct_backend) is out


def test_empty_batches(dct_backend: str, device: str) -> None:
    x = torch.empty(0, 3, 8, device=device, requires_grad=True)
    for f in (lambda x: warmops.dct2(x, s=(5, 9), backend=dct_backend), lambda x: warmops.dst(x, dim=1, backend=dct_backend)):
        (got,) = torch.autograd.grad(f(x).sum(), x)
        assert got.shape == x.shape
        assert jvp(f, (x.detach(),), (x.detach(),))[1].shape == f(x).shape
    grown = torch.ones(0, 3, device=device, requires_grad=True)
    assert torch.autograd.grad(warmops.dct(grown, n=4, dim=0, backend=dct_backend).sum(), grown)[0].shape == (0, 3)


def test_module_parameters(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Parameters take the same path as tensors, through functional_call too."""

    class Spectrum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(randn((4, 5), rng, device=device))

        def forward(self, x: Tensor) -> Tensor:
            return (warmops.dct2(self.weight * x, backend=dct_backend) ** 2).sum()

    module, x = Spectrum(), randn((4, 5), rng, device=device)
    module(x).backward()
    got = grad(lambda p: functional_call(module, p, (x,)))({"weight": module.weight.detach()})
    torch.testing.assert_close(got["weight"], module.weight.grad, rtol=1e-13, atol=0)


# ---- torch.func ----


@types
@functions
def test_jacobians(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Reverse mode, forward mode, and the plain transforms of the unit tensors."""
    x = randn(SHAPE, rng, device=device)
    for name in ARGUMENTS:
        f = bound(function, type_, name, dct_backend)
        want = matrix_of(f, SHAPE, device)
        for jacobian in (jacrev(f), jacfwd(f)):
            torch.testing.assert_close(jacobian(x), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("function", ["dct", "idctn", "dst", "dstn"])
def test_hessians(function: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Of the sum of squares: 2 T'T, whichever way it is taken."""
    f = bound(function, 1, "padded", dct_backend)
    x = randn(SHAPE, rng, device=device)
    matrix = matrix_of(f, SHAPE, device).reshape(-1, 24)
    want = (2 * matrix.T @ matrix).reshape(*SHAPE, *SHAPE)

    def energy(x: Tensor) -> Tensor:
        return f(x).square().sum()

    for second in (hessian(energy), jacfwd(jacfwd(energy)), jacrev(jacrev(energy)), jacrev(jacfwd(energy)), jacfwd(grad(energy))):
        torch.testing.assert_close(second(x), want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("function", ["dct", "idctn", "idst", "dstn"])
def test_vmap(function: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """What a loop gives, wherever the mapped dimension is, and however many of them."""
    x = randn((3, 4, 5, 6), rng, torch.float32, device)
    for name in ARGUMENTS:
        f = bound(function, 2, name, dct_backend)
        for dim in (0, 1, 3, -2):
            got = vmap(f, in_dims=dim)(x)
            want = torch.stack([f(x.select(dim, v)) for v in range(x.shape[dim])])
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-5)
            moved = vmap(f, in_dims=dim, out_dims=-1)(x)
            assert bit_equal(moved.movedim(-1, 0), got)
    f = bound(function, 2, "plain", dct_backend)
    nested = vmap(vmap(f), in_dims=2)(x)
    want = torch.stack([torch.stack([f(x[i, :, k]) for i in range(3)]) for k in range(5)])
    torch.testing.assert_close(nested, want, rtol=1e-6, atol=1e-5)


def test_vmap_of_complex_integers_and_halves(dct_backend: str, device: str, rng: torch.Generator) -> None:
    parts = randn((3, 4, 5, 2), rng, torch.float32, device)
    cases = [torch.view_as_complex(parts).conj(), parts.bfloat16(), parts.half(), (9 * parts).long(), parts > 0, parts[:0]]
    for x in cases:
        got = vmap(lambda x: warmops.dctn(x, s=(5, 3), backend=dct_backend), in_dims=1)(x)
        want = torch.stack([warmops.dctn(x[:, v], s=(5, 3), backend=dct_backend) for v in range(4)])
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=1e-2 if x.dtype in FLOATS[2:] else 1e-6, atol=1e-2 if x.dtype in FLOATS[2:] else 1e-4)


def test_gradients_of_each_sample(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """vmap of grad, grad of vmap, batched gradients, vmap of jvp."""
    x, u = randn((3, 4, 5), rng, device=device), randn((3, 4, 5), rng, device=device)

    def energy(x: Tensor) -> Tensor:
        return warmops.dct2(x, s=(6, 3), norm="ortho", backend=dct_backend).pow(4).sum()

    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(energy(leaf), leaf)
    torch.testing.assert_close(vmap(grad(energy))(x), want, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(grad(lambda x: vmap(energy)(x).sum())(x), want, rtol=1e-12, atol=1e-13)
    (want,) = torch.autograd.grad(vmap(energy)(leaf).sum(), leaf)
    torch.testing.assert_close(vmap(grad(energy))(x), want, rtol=1e-12, atol=1e-13)
    tangent = vmap(lambda x, u: jvp(energy, (x,), (u,))[1])(x, u)
    torch.testing.assert_close(tangent, (want * u).sum((1, 2)), rtol=1e-12, atol=1e-13)
    y = warmops.dct2(leaf, backend=dct_backend)
    many = randn((7, *y.shape), rng, device=device)
    (got,) = torch.autograd.grad(y, leaf, many, is_grads_batched=True, retain_graph=True)
    for g, part in zip(many, got, strict=True):
        torch.testing.assert_close(part, torch.autograd.grad(y, leaf, g, retain_graph=True)[0], rtol=1e-12, atol=1e-12)


def test_forward_mode_over_reverse_mode(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Hessian times vector by torch.autograd's own forward mode, without torch.func."""
    x, u = randn(SHAPE, rng, device=device).requires_grad_(), randn(SHAPE, rng, device=device)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, u)
        value = warmops.dstn(dual, s=(5, 3), backend=dct_backend).pow(3).sum()
        (gradient,) = torch.autograd.grad(value, dual, create_graph=True)
        got = forward_ad.unpack_dual(gradient).tangent
    (first,) = torch.autograd.grad(warmops.dstn(x, s=(5, 3), backend=dct_backend).pow(3).sum(), x, create_graph=True)
    (want,) = torch.autograd.grad((first * u).sum(), x)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_a_level_of_forward_mode_without_tangent_is_a_plain_call(dct_backend: str, device: str) -> None:
    x, out = torch.ones(3, 4, device=device), torch.zeros(3, 4, device=device)
    with forward_ad.dual_level():
        assert warmops.dct(x, out=out, backend=dct_backend) is out
        assert forward_ad.unpack_dual(warmops.dct(x, backend=dct_backend)).tangent is None


@functions
def test_checkpointing_and_saved_tensor_hooks(function: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Nothing is saved for backward: a linear function needs none of its input."""
    x = randn(SHAPE, rng, device=device).requires_grad_()
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t), t)[1], lambda t: t):
        y = getattr(warmops, function)(x, backend=dct_backend)
    assert saved == []
    again = torch.utils.checkpoint.checkpoint(lambda x: getattr(warmops, function)(x, backend=dct_backend), x, use_reentrant=False)
    assert bit_equal(torch.autograd.grad(again.sum(), x)[0], torch.autograd.grad(y.sum(), x)[0])
