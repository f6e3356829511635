"""The DCT family under torch.compile, opcheck, make_fx, export, fake and meta tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from _cases import FLOATS, bit_equal, float_dtypes, layouts, randn, strided
from _dct_cases import FUNCTIONS, ONE_AXIS, TYPES, functions
from test_compile import compiled, fresh_compiler  # noqa: F401 - a fixture
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import warmops

SHAPE = (4, 3, 8, 9)

# ---- opcheck: schema, fake tensor, autograd registration, aot dispatch, dynamic shapes ----

OPCHECKS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "float32": lambda rng: randn(SHAPE, rng, torch.float32),
    "float64 with gradients": lambda rng: randn(SHAPE, rng).requires_grad_(),
    "bfloat16 with gradients": lambda rng: randn(SHAPE, rng, torch.bfloat16).requires_grad_(),
    "complex with gradients": lambda rng: torch.view_as_complex(randn((*SHAPE, 2), rng)).requires_grad_(),
    "empty": lambda rng: randn((0, 3, 8, 9), rng),
    **{
        f"{layout} with gradients": lambda rng, layout=layout: strided(randn(SHAPE, rng), layout).requires_grad_()
        for layout in ("transposed", "channels_last", "sliced", "batch_last")
    },
}


@pytest.mark.parametrize("name", OPCHECKS)
def test_opcheck(name: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    x = OPCHECKS[name](rng)
    x = x.detach().to(device).requires_grad_(x.requires_grad)
    for kind in range(8) if name == "float64 with gradients" else (2,):
        ends = ((0.5, 1.0), (1.0, 0.5), (0.25, 1.0))[kind] if kind < 3 else (1.0, 1.0)
        for dims in ([2, 3], [1]) if kind == 2 else ([2, 3],):
            torch.library.opcheck(torch.ops.warmops.dct.default, (x, dims, kind, "ortho", *ends, dct_backend))


# ---- compiled and eager: the same bits ----


def bound(function: str, dct_backend: str, **arguments: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: getattr(warmops, function)(x, **arguments, backend=dct_backend)


@functions
def test_same_bits_as_eager(function: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Every type in one graph; cropped and padded too, where padding is a step of its own and may change the last bit."""
    x = randn(SHAPE, rng, torch.float32, device)
    plain = [bound(function, dct_backend, type=t, norm="ortho") for t in TYPES]
    sized: dict[str, Any] = {"n": 5, "dim": 1} if function in ONE_AXIS else {"s": (5, -1)}
    fitted = [bound(function, dct_backend, type=t, orthogonalize=True, **sized) for t in TYPES]

    def everything(x: Tensor) -> list[Tensor]:
        return [f(x) for f in plain] + [f(torch.sin(x)) for f in fitted]

    got, want = compiled(everything)(x), everything(x)
    assert all(bit_equal(g, w) for g, w in zip(got[:4], want[:4], strict=True))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-4)


@float_dtypes
def test_every_dtype(dtype: torch.dtype, dct_backend: str, device: str, rng: torch.Generator) -> None:
    x = randn(SHAPE, rng, dtype, device)
    f = bound("dct2", dct_backend, norm="ortho")
    assert bit_equal(compiled(f)(x), f(x))


def test_complex_numbers_and_integers(dct_backend: str, device: str, rng: torch.Generator) -> None:
    f = bound("idct2", dct_backend, norm="ortho")
    x = torch.view_as_complex(randn((*SHAPE, 2), rng, torch.float32, device))
    for values in (x, x.conj()):
        assert bit_equal(torch.view_as_real(compiled(f)(values)), torch.view_as_real(f(values)))
    for dtype in (torch.int64, torch.bool, torch.uint8):
        values = (9 * x.real).to(dtype)
        assert bit_equal(compiled(f)(values), f(values))


@layouts
def test_every_layout(layout: str, dct_backend: str, device: str, rng: torch.Generator) -> None:
    x = strided(randn(SHAPE, rng, torch.float32, device), layout)
    f = bound("dctn", dct_backend, dim=(1, 3))
    got, want = compiled(f)(x), f(x)
    assert bit_equal(got, want) and got.stride() == want.stride()


def test_dynamic_shapes_compile_once(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Batch and transformed sizes vary, of x and of the result; one graph serves them all."""

    def f(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        n = y.shape[0]
        return (
            warmops.dct2(x, norm="ortho", backend=dct_backend),
            warmops.dst(x, n=n, dim=1, norm="forward", backend=dct_backend),
            warmops.idctn(x, s=(n, -1), backend=dct_backend),
        )

    counter = CompileCounterWithBackend("aot_eager")
    fast = torch.compile(f, backend=counter, fullgraph=True)
    for batch, h, w, n in ((5, 6, 7, 12), (3, 9, 4, 10), (17, 5, 30, 31), (2, 3, 8, 9)):
        x, y = randn((batch, h, w), rng, torch.float32, device), torch.zeros(n, device=device)
        for dim in range(3):
            torch._dynamo.mark_dynamic(x, dim)
        torch._dynamo.mark_dynamic(y, 0)
        for got, want in zip(fast(x, y), f(x, y), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1


def test_sizes_as_arguments(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """n grows, shrinks and stays; with dynamic=True an int is a symbol."""

    def f(x: Tensor, n: int) -> Tensor:
        return warmops.dct(x, n=n, backend=dct_backend) * n

    x, fast = randn((3, 8), rng, torch.float32, device), compiled(f, dynamic=True)
    for n in (5, 12, 8, 1, 33):
        torch.testing.assert_close(fast(x, n), f(x, n), rtol=1e-5, atol=1e-4)


def test_gradients(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Of a frequency-domain loss, in one graph, twice through the compiled backward."""

    def f(x: Tensor) -> Tensor:
        spectrum = warmops.dct2(x, s=(6, 12), norm="ortho", backend=dct_backend)
        return (spectrum * warmops.dstn(x, s=(6, 12), type=3, backend=dct_backend)).sum()

    for dtype in FLOATS:
        x = randn(SHAPE, rng, dtype, device)
        results = []
        for call in (f, compiled(f)):
            leaf = x.clone().requires_grad_()
            results.append(torch.autograd.grad(call(leaf), leaf)[0])
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(*results, rtol=16 * eps, atol=64 * eps)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_inductor(dynamic: bool, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """The default compiler, forward and backward, in a network of pointwise work around the transforms."""

    def f(x: Tensor) -> Tensor:
        return warmops.idct2(torch.tanh(warmops.dct2(2 * x, norm="ortho", backend=dct_backend)), norm="ortho", backend=dct_backend)

    fast = compiled(f, "inductor", dynamic=dynamic)
    for n in (4, 6) if dynamic else (4,):
        x, g = (randn((n, 2, 8, 9), rng, torch.float32, device) for _ in range(2))
        results = []
        for call in (f, fast):
            leaf = x.clone().requires_grad_()
            y = call(leaf)
            results.append((y.detach(), torch.autograd.grad(y, leaf, g)[0]))
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_vmap_inside_a_compiled_function(dct_backend: str, device: str, rng: torch.Generator) -> None:
    def f(x: Tensor) -> Tensor:
        return vmap(lambda x: warmops.dct2(x, s=(5, 12), backend=dct_backend), in_dims=1, out_dims=1)(x)

    x = randn(SHAPE, rng, torch.float32, device)
    torch.testing.assert_close(compiled(f)(x), f(x), rtol=1e-5, atol=1e-4)


@pytest.mark.cpu_only
def test_wrong_arguments_in_a_compiled_function(dct_backend: str) -> None:
    x = torch.ones(3, 4)
    wrong = {"ValueError": ({"type": 5}, {"n": 0}, {"norm": "x"}), "IndexError": ({"dim": 7},), "TypeError": ({"type": 2.0},)}
    for kind, arguments in ((kind, a) for kind, several in wrong.items() for a in several):
        with pytest.raises(Exception, match=kind):
            compiled(lambda x, a=arguments: warmops.dct(x, **a, backend=dct_backend))(x)


# ---- other tracers ----


def test_export(dct_backend: str, device: str, rng: torch.Generator) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return warmops.dct2(x, s=(5, 12), norm="ortho", backend=dct_backend)

    x = randn(SHAPE, rng, torch.float32, device)
    batch = torch.export.Dim("batch", min=2)
    for strict in (False, True):
        program = torch.export.export(Module(), (x,), dynamic_shapes=({0: batch},), strict=strict)
        assert any("warmops.dct" in str(node.target) for node in program.graph.nodes)
        more = randn((7, *SHAPE[1:]), rng, torch.float32, device)
        assert bit_equal(program.module()(more), Module()(more)) or torch.allclose(program.module()(more), Module()(more), atol=1e-5)


def test_make_fx_of_a_gradient(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Tracing with gradients records the op forward and backward, and no Python in between."""

    def f(x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(warmops.dct(leaf, type=3, backend=dct_backend).pow(3).sum(), leaf)[0]

    x = randn((3, 8), rng, device=device)
    graph = make_fx(f)(x)
    assert sum("warmops.dct" in str(node.target) for node in graph.graph.nodes) == 2
    assert bit_equal(graph(x + 1), f(x + 1))


def test_fake_tensors_foretell_the_result(dct_backend: str, device: str, rng: torch.Generator) -> None:
    for dtype in (*FLOATS, torch.complex64, torch.int32):
        for layout in ("contiguous", "transposed", "sliced", "channels_last"):
            x = strided((9 * randn(SHAPE, rng, device=device)).to(dtype), layout)
            for arguments in ({}, {"s": (5, 20)}, {"dim": (1, 2), "s": (3, -1)}):
                real = warmops.dctn(x, **arguments, backend=dct_backend)
                with FakeTensorMode() as mode:
                    fake = warmops.dctn(mode.from_tensor(x), **arguments, backend=dct_backend)
                assert (fake.shape, fake.dtype, fake.device) == (real.shape, real.dtype, real.device)
                if not arguments:
                    assert fake.stride() == real.stride()


@pytest.mark.cpu_only
def test_meta_tensors(dct_backend: str) -> None:
    x = torch.empty(SHAPE, device="meta")
    for function in FUNCTIONS:
        y = getattr(warmops, function)(x, backend=dct_backend)
        assert y.device.type == "meta" and y.shape == SHAPE
    assert warmops.dctn(x, s=(20, 2), backend=dct_backend).shape == (4, 3, 20, 2)
    leaf = x.requires_grad_()
    assert torch.autograd.grad(warmops.dct2(leaf, backend=dct_backend).sum(), leaf)[0].shape == SHAPE


def test_torch_func_inside_a_compiled_function(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Every mode and nesting, traced: no tangent is lost on the way. One axis or two: tracing does not depend on the backend."""
    f = bound("dct", dct_backend, type=3, n=6) if dct_backend == "reference" else bound("idstn", dct_backend, type=3, s=(2, 5))
    x = randn((3, 4), rng, device=device)

    def energy(x: Tensor) -> Tensor:
        return f(x).pow(3).sum()

    for transformed in (
        grad(energy),
        jacrev(f),
        jacfwd(f),
        hessian(energy),
        lambda x: jvp(energy, (x,), (x.cos(),))[1],
        lambda x: vjp(f, x)[1](f(x))[0],
        vmap(grad(lambda x: energy(x.unsqueeze(0).expand(2, 4)))),
    ):
        torch._dynamo.reset()
        torch.testing.assert_close(compiled(transformed)(x), transformed(x), rtol=1e-11, atol=1e-11)
