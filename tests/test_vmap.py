"""`torch.func.vmap` over images, levels, noise and seeds: what a loop gives, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _cases import bit_equal, randn
from torch import Tensor
from torch.func import vmap

import warmops

V, N, C, H, W = 3, 2, 2, 7, 6
Dims = tuple[int | None, ...]
DIMS: list[Dims] = [
    (0, None, None, None),
    (None, 0, None, None),
    (None, None, 0, None),
    (None, None, None, 0),
    (0, 0, 0, 0),
    (2, 0, None, 0),
    (-1, None, 0, None),
    (None, 0, 0, 1),
    (1, -1, 1, -1),
    (3, 1, None, None),
]
in_dims = pytest.mark.parametrize("dims", DIMS, ids=str)


def inputs(dims: Dims, rng: torch.Generator, device: str) -> list[Tensor]:
    """x, alpha, beta, seed, each with a mapped dimension of V at its place in ``dims`` (or none)."""

    def build(shape: tuple[int, ...], dim: int | None, kind: str) -> Tensor:
        full = shape if dim is None else (V, *shape)
        if kind == "seed":
            values = torch.randint(-(2**63), 2**63 - 1, full, generator=rng)
        else:
            values = torch.randn(full, generator=rng) if kind == "x" else torch.rand(full, generator=rng) * 3
        return (values if dim is None else values.movedim(0, dim)).to(device)

    return [build((N, C, H, W), dims[0], "x"), *(build((N,), dim, "level") for dim in dims[1:3]), build((N,), dims[3], "seed")]


def loop(function: Any, dims: Dims, arguments: list[Tensor]) -> list[Any]:
    return [function(*(a if d is None else a.select(d, v) for a, d in zip(arguments, dims, strict=True))) for v in range(V)]


@in_dims
@pytest.mark.parametrize("return_blurred", [False, True])
def test_blur_noise(return_blurred: bool, dims: Dims, backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: Tensor, beta: Tensor, seed: Tensor) -> Any:
        return warmops.blur_noise(x, alpha, beta, seed=seed, scale=0.5, return_blurred=return_blurred, backend=backend)

    arguments = inputs(dims, rng, device)
    got, want = vmap(function, in_dims=dims)(*arguments), loop(function, dims, arguments)
    if return_blurred:
        assert all(bit_equal(part, torch.stack(parts)) for part, parts in zip(got, zip(*want, strict=True), strict=True))
    else:
        assert bit_equal(got, torch.stack(want))


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (2, 1), (-1, -1)], ids=str)
def test_blur(dims: Dims, backend: str, device: str, rng: torch.Generator) -> None:
    arguments = inputs((*dims, None, None), rng, device)[:2]

    def function(x: Tensor, sigma: Tensor) -> Tensor:
        return warmops.blur(x, sigma, backend=backend)

    assert bit_equal(vmap(function, in_dims=dims)(*arguments), torch.stack(loop(function, dims, arguments)))


@pytest.mark.parametrize("dim", [0, 1])
def test_normal(dim: int, normal_backend: str, device: str, rng: torch.Generator) -> None:
    seeds = inputs((None, None, None, dim), rng, device)[3]
    got = vmap(lambda seed: warmops.normal((N, 3, 5), seed, backend=normal_backend), in_dims=dim)(seeds)
    assert bit_equal(got, torch.stack([warmops.normal((N, 3, 5), seeds.select(dim, v), backend=normal_backend) for v in range(V)]))


def test_float_levels_int_seeds_and_out_dims(backend: str, device: str, rng: torch.Generator) -> None:
    x = inputs((0, None, None, None), rng, device)[0]
    got = vmap(lambda x: warmops.blur_noise(x, 1.0, 0.5, seed=3, backend=backend), out_dims=2)(x)
    assert bit_equal(got.movedim(2, 0), torch.stack([warmops.blur_noise(x[v], 1.0, 0.5, seed=3, backend=backend) for v in range(V)]))


def test_zero_d_levels(backend: str, device: str, rng: torch.Generator) -> None:
    """One level per mapped element: the level of a slice has no dimension."""
    x = inputs((0, None, None, None), rng, device)[0]
    sigma = torch.tensor([0.0, 0.7, 3.0], device=device)
    got = vmap(lambda x, s: warmops.blur_noise(x, s, 2 * s, seed=3, backend=backend))(x, sigma)
    want = [warmops.blur_noise(x[v], sigma[v], 2 * sigma[v], seed=3, backend=backend) for v in range(V)]
    assert bit_equal(got, torch.stack(want))


@pytest.mark.parametrize("noise_dim", [None, 0, 3])
@pytest.mark.parametrize("scale_dim", [None, 0, 1])
def test_noise_and_scale(scale_dim: int | None, noise_dim: int | None, backend: str, device: str, rng: torch.Generator) -> None:
    x = torch.randn(N, C, H, W, generator=rng).to(device)
    noise = torch.randn((V, *x.shape) if noise_dim is not None else x.shape, generator=rng).to(device)
    scale = torch.rand((V, N) if scale_dim is not None else (N,), generator=rng).to(device)

    def function(noise: Tensor, scale: Tensor) -> Tensor:
        return warmops.blur_noise(x, 1.0, 0.5, noise=noise, scale=scale, backend=backend)

    if noise_dim is None and scale_dim is None:
        dims: Dims = (0, None)
        noise = noise.expand(V, *x.shape)
    else:
        noise = noise if noise_dim is None else noise.movedim(0, noise_dim)
        scale = scale if scale_dim is None else scale.movedim(0, scale_dim)
        dims = (noise_dim, scale_dim)
    assert bit_equal(vmap(function, in_dims=dims)(noise, scale), torch.stack(loop(function, dims, [noise, scale])))


def test_nested(backend: str, device: str, rng: torch.Generator) -> None:
    x = torch.randn(V, 4, N, C, H, W, generator=rng).to(device)
    sigma = (torch.rand(4, V, N, generator=rng) * 3).to(device)

    def function(x: Tensor, s: Tensor) -> Tensor:
        return warmops.blur_noise(x, s, 0.5, seed=3, backend=backend)

    got = vmap(vmap(function), in_dims=(0, 1))(x, sigma)
    want = torch.stack([torch.stack([function(x[i, j], sigma[j, i]) for j in range(4)]) for i in range(V)])
    assert bit_equal(got, want)


def test_uint8_and_half(backend: str, device: str, rng: torch.Generator) -> None:
    for dtype in (torch.uint8, torch.bfloat16, torch.float16):
        x = (torch.rand(V, N, C, H, W, generator=rng) * 200).to(device, dtype)
        got = vmap(lambda x: warmops.blur_noise(x, 1.0, 0.5, seed=3, backend=backend))(x)
        assert bit_equal(got, torch.stack([warmops.blur_noise(x[v], 1.0, 0.5, seed=3, backend=backend) for v in range(V)]))


def test_grad_of_vmap(backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((V, N, C, H, W), rng, device=device).requires_grad_()
    sigma = (0.2 + torch.rand(V, N, generator=rng, dtype=torch.float64)).to(device).requires_grad_()
    mapped = vmap(lambda x, s: warmops.blur(x, s, backend=backend))(x, sigma)
    whole = warmops.blur(x.flatten(0, 1), sigma.flatten(), backend=backend).unflatten(0, (V, N))
    for got, want in zip(
        torch.autograd.grad(mapped.square().sum(), (x, sigma)), torch.autograd.grad(whole.square().sum(), (x, sigma)), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_batched_gradients(backend: str, device: str, rng: torch.Generator) -> None:
    """Many backward passes at once (torch.autograd's own vmap over the backward)."""
    x = randn((N, C, H, W), rng, device=device).requires_grad_()
    alpha, beta = (torch.rand(N, generator=rng, dtype=torch.float64).to(device).requires_grad_() for _ in range(2))
    out = warmops.blur_noise(x, alpha, beta, seed=1, scale=0.7, backend=backend)
    grads = randn((V, *out.shape), rng, device=device)
    got = torch.autograd.grad(out, (x, alpha, beta), grads, is_grads_batched=True, retain_graph=True)
    for v in range(V):
        for part, want in zip(got, torch.autograd.grad(out, (x, alpha, beta), grads[v], retain_graph=True), strict=True):
            torch.testing.assert_close(part[v], want, rtol=1e-12, atol=1e-12)


def test_drawing_seeds_follows_vmaps_randomness(backend: str, device: str) -> None:
    x = torch.zeros(V, N, C, H, W, device=device)

    def function(x: Tensor) -> Tensor:
        return warmops.blur_noise(x, 0.0, 1.0, backend=backend)

    with pytest.raises(RuntimeError, match="randomness"):
        vmap(function)(x)
    same = vmap(function, randomness="same")(x)
    assert torch.equal(same[0], same[1]) and same.std() > 0.5
    different = vmap(function, randomness="different")(x)
    assert not torch.equal(different[0], different[1])


def test_empty(backend: str, device: str) -> None:
    x = torch.zeros(V, 0, C, H, W, device=device)
    assert vmap(lambda x: warmops.blur(x, 1.0, backend=backend))(x).shape == (V, 0, C, H, W)
