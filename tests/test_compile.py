"""torch.compile, opcheck, fake and meta tensors: the compiled call gives the bits of the eager one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from _cases import all_dtypes, bit_equal, images, layouts, levels, noise_levels, randn, strided
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

import warmops

SHAPE = (4, 3, 8, 9)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(function: Callable[..., Any], backend: str = "aot_eager", **options: Any) -> Callable[..., Any]:
    return torch.compile(function, backend=backend, fullgraph=True, **options)


def same(got: Any, want: Any) -> bool:
    got, want = (value if isinstance(value, tuple) else (value,) for value in (got, want))
    return len(got) == len(want) and all(bit_equal(g.detach(), w.detach()) for g, w in zip(got, want, strict=True))


# ---- opcheck: schema, fake tensor, autograd registration, aot dispatch, dynamic shapes ----


def opcheck_inputs(rng: torch.Generator, device: str) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Name: (op, arguments before the backend)."""

    def x(shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32) -> Tensor:
        return images(shape, dtype, rng, device)

    def level(n: int = 4, grad: bool = False) -> Tensor:
        return (0.2 + torch.rand(n, generator=rng)).to(device).requires_grad_(grad)

    seed = torch.arange(4, device=device)
    inputs: dict[str, tuple[str, tuple[Any, ...]]] = {
        "blur": ("blur", (x(), level())),
        "blur with gradients": ("blur", (x().requires_grad_(), level(grad=True))),
        "blur by sigma only": ("blur", (x(), level(grad=True))),
        "blur 3-d": ("blur", (x((4, 5, 6)), level())),
        "blur uint8": ("blur", (x(dtype=torch.uint8), level())),
        "blur empty": ("blur", (x((0, 3, 4, 4)), level(0))),
        "blur bfloat16": ("blur", (x(dtype=torch.bfloat16), level())),
        "noise of a seed": ("blur_noise", (x(), level(), level(), seed, None, None, False)),
        "noise of a seed, gradients": (
            "blur_noise",
            (x().requires_grad_(), level(4, True), level(4, True), seed, None, level(4, True), True),
        ),
        "noise given": ("blur_noise", (x(), level(), level(), None, randn(SHAPE, rng, torch.float32, device), None, True)),
        "noise given, gradients": (
            "blur_noise",
            (
                x().requires_grad_(),
                level(),
                level(),
                None,
                randn(SHAPE, rng, torch.float32, device).requires_grad_(),
                level(4, True),
                False,
            ),
        ),
        "no noise": ("blur_noise", (x(), level(), level(), None, None, level(), True)),
        "noise uint8": ("blur_noise", (x(dtype=torch.uint8), level(), level(), seed, None, None, True)),
        "noise half": ("blur_noise", (x(dtype=torch.float16).requires_grad_(), level(), level(), seed, None, None, True)),
        "noise double levels": ("blur_noise", (x(), level().double(), level().double(), seed, None, level().double(), False)),
        "noise empty": ("blur_noise", (x((4, 0, 4, 4)), level(), level(), seed, None, None, True)),
        "normal": ("normal", ([4, 3, 5], seed, torch.float32)),
        "normal half": ("normal", ([4, 7], seed, torch.bfloat16)),
        "normal empty": ("normal", ([4, 0], seed, torch.float64)),
    }
    for layout in ("transposed", "channels_last", "sliced", "batch_last"):
        inputs[f"blur {layout}"] = ("blur", (strided(x(), layout), level()))
        inputs[f"noise {layout}"] = ("blur_noise", (strided(x(), layout).requires_grad_(), level(), level(), seed, None, None, True))
    return inputs


@pytest.mark.parametrize("name", opcheck_inputs(torch.Generator(), "cpu"))
def test_opcheck(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    op, arguments = opcheck_inputs(rng, device)[name]
    torch.library.opcheck(getattr(torch.ops.warmops, op).default, (*arguments, backend))


# ---- compiled and eager: the same bits ----

CALLS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, str], Any]] = {
    "blur": lambda x, a, b, s, k: warmops.blur(x, a, backend=k),
    "blur, float level": lambda x, a, b, s, k: warmops.blur(x, 0.8, backend=k),
    "blur, level 0": lambda x, a, b, s, k: warmops.blur(x, 0.0, backend=k),
    "seed tensor": lambda x, a, b, s, k: warmops.blur_noise(x, a, b, seed=s, backend=k),
    "int seed": lambda x, a, b, s, k: warmops.blur_noise(x, a, b, seed=2**63 - 2, backend=k),
    "negative seed": lambda x, a, b, s, k: warmops.blur_noise(x, a, b, seed=-2, backend=k),
    "float levels": lambda x, a, b, s, k: warmops.blur_noise(x, 1.7, 0.3, seed=1, scale=0.3, backend=k),
    "alpha 0": lambda x, a, b, s, k: warmops.blur_noise(x, 0.0, 0.3, seed=1, backend=k),
    "beta 0": lambda x, a, b, s, k: warmops.blur_noise(x, a, 0.0, return_blurred=True, backend=k),
    "both outputs": lambda x, a, b, s, k: warmops.blur_noise(x, a, b, seed=s, scale=b, return_blurred=True, backend=k),
    "noise given": lambda x, a, b, s, k: warmops.blur_noise(x, a, b, noise=warmops.normal(x.shape, s, dtype=x.dtype, backend=k), backend=k),
    "normal": lambda x, a, b, s, k: warmops.normal(x.shape, s, backend=k),
    "inside a larger graph": lambda x, a, b, s, k: torch.sin(warmops.blur_noise(2 * x, a.exp(), b, seed=s, backend=k)) + x,
}


@pytest.mark.parametrize("name", CALLS)
def test_same_bits_as_eager(name: str, backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: Tensor, beta: Tensor, seed: Tensor) -> Any:
        return CALLS[name](x, alpha, beta, seed, backend)

    x, seed = images(SHAPE, torch.float32, rng, device), torch.arange(7, 11, device=device)
    alpha, beta = levels(4, rng, device, torch.float32).clamp(max=80), noise_levels(4, rng, device, torch.float32)
    assert same(compiled(function)(x, alpha, beta, seed), function(x, alpha, beta, seed))


@all_dtypes
def test_every_dtype(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: Tensor) -> Any:
        return warmops.blur_noise(x, alpha, 0.4, seed=3, scale=0.7, return_blurred=True, backend=backend)

    x, alpha = images(SHAPE, dtype, rng, device), levels(4, rng, device)
    assert same(compiled(function)(x, alpha), function(x, alpha))


@layouts
def test_every_layout(layout: str, backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: Tensor) -> Any:
        return warmops.blur_noise(x, alpha, 0.4, seed=3, return_blurred=True, backend=backend)

    x, alpha = strided(images(SHAPE, torch.float32, rng, device), layout), levels(4, rng, device)
    got, want = compiled(function)(x, alpha), function(x, alpha)
    assert same(got, want)
    assert [t.stride() for t in got] == [t.stride() for t in want]


def test_float_arguments_are_not_baked_in(backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: float, beta: float, seed: int, scale: float) -> Tensor:
        return warmops.blur_noise(x, alpha, beta, seed=seed, scale=scale, backend=backend)

    x, fast = images(SHAPE, torch.float32, rng, device), compiled(function)
    for arguments in (
        (0.5, 0.3, 1, 2.0),
        (0.7, 0.9, 2, 3.0),
        (3.0, 0.1, -5, 1.0),
        (0.0, 2.0, 7, 1.0),
        (1.0, 0.0, 7, 0.5),
        (0.25, 4.0, 2**40, 0.25),
    ):
        assert bit_equal(fast(x, *arguments), function(x, *arguments)), arguments


def test_dynamic_batch_compiles_once(backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: Tensor, seed: Tensor) -> Any:
        first = warmops.blur_noise(x, alpha, alpha, seed=seed, scale=0.5, return_blurred=True, backend=backend)
        return (
            *first,
            warmops.blur_noise(x, alpha, 0.2, seed=5, backend=backend),
            warmops.normal(x.shape, 9, device=device, backend=backend),
        )

    counter = CompileCounterWithBackend("aot_eager")
    fast = torch.compile(function, backend=counter, fullgraph=True)
    for n in (5, 3, 17, 2, 64):
        x, alpha, seed = (
            images((n, 2, 6, 5), torch.float32, rng, device),
            levels(n, rng, device).clamp(max=9),
            torch.arange(n, device=device),
        )
        for tensor in (x, alpha, seed):
            torch._dynamo.mark_dynamic(tensor, 0)
        assert same(fast(x, alpha, seed), function(x, alpha, seed)), n
    assert counter.frame_count == 1


def test_dynamic_image_size(backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor) -> Tensor:
        return warmops.blur_noise(x, 1.0, 0.5, seed=5, backend=backend)

    fast = compiled(function, dynamic=True)
    for shape in ((2, 3, 8, 8), (2, 3, 12, 7), (4, 1, 5, 30)):
        x = images(shape, torch.float32, rng, device)
        assert bit_equal(fast(x), function(x))


def test_gradients_have_the_same_bits(backend: str, device: str, rng: torch.Generator) -> None:
    def function(x: Tensor, alpha: Tensor, beta: Tensor, scale: Tensor) -> Tensor:
        out, blurred = warmops.blur_noise(x, alpha, beta, seed=4, scale=scale, return_blurred=True, backend=backend)
        return out.square().sum() + (blurred * x).sum()

    values = [images(SHAPE, torch.float32, rng, device), *(torch.rand(4, generator=rng).to(device) + 0.1 for _ in range(3))]
    results = []
    for call in (function, compiled(function)):
        leaves = [v.clone().requires_grad_() for v in values]
        results.append(torch.autograd.grad(call(*leaves), leaves))
    assert same(*results)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_inductor(dynamic: bool, backend: str, device: str, rng: torch.Generator) -> None:
    """The default compiler, forward and backward, as in a training step."""

    def function(x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        return warmops.blur_noise(x, alpha, beta, seed=4, return_blurred=True, backend=backend)

    fast = compiled(function, "inductor", dynamic=dynamic)
    for n in (4, 6) if dynamic else (4,):
        values = [images((n, 2, 8, 9), torch.float32, rng, device), *(torch.rand(n, generator=rng).to(device) + 0.1 for _ in range(2))]
        grads = [randn(values[0].shape, rng, torch.float32, device) for _ in range(2)]
        results = []
        for call in (function, fast):
            leaves = [v.clone().requires_grad_() for v in values]
            outputs = call(*leaves)
            results.append((outputs, torch.autograd.grad(outputs, leaves, grads)))
        assert same(results[0][0], results[1][0])
        assert bit_equal(results[0][1][0], results[1][1][0])
        for got, want in zip(results[1][1], results[0][1], strict=True):  # sums of the level gradients are inductor's own
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_drawn_seeds(backend: str, device: str, rng: torch.Generator) -> None:
    """Without a seed: torch.manual_seed decides, and two calls differ."""
    x = images(SHAPE, torch.float32, rng, device)
    fast = compiled(lambda x: warmops.blur_noise(x, 1.0, 0.5, backend=backend))
    torch.manual_seed(3)
    first, second = fast(x), fast(x)
    torch.manual_seed(3)
    assert bit_equal(fast(x), first) and bit_equal(fast(x), second) and not torch.equal(first, second)


@pytest.mark.cpu_only
def test_bad_levels_in_a_compiled_call(backend: str) -> None:
    fast = compiled(lambda x, a, b: warmops.blur_noise(x, a, b, seed=1, backend=backend))
    x, good, bad = torch.ones(SHAPE), torch.ones(4), torch.tensor([1.0, 1.0, 1.0, -1.0])
    for alpha, beta, name in ((bad, good, "blur_sigma"), (good, bad, "noise_sigma")):
        with pytest.raises(ValueError, match=rf"{name} must be >= 0.*sample 3"):
            fast(x, alpha, beta)


# ---- fake and meta tensors ----


@all_dtypes
def test_fake_tensors_foretell_the_result(dtype: torch.dtype, backend: str, device: str, rng: torch.Generator) -> None:
    for shape in (SHAPE, (3, 5, 6), (0, 2, 4, 4), (2, 2, 2, 3, 4)):
        for layout in ("contiguous", "transposed", "sliced"):
            x = strided(images(shape, dtype, rng, device), layout)
            real = warmops.blur_noise(x, 1.0, 0.5, seed=1, return_blurred=True, backend=backend)
            with FakeTensorMode() as mode:
                fake = warmops.blur_noise(mode.from_tensor(x), 1.0, 0.5, seed=1, return_blurred=True, backend=backend)
            for f, r in zip(fake, real, strict=True):
                assert (f.shape, f.dtype, f.device) == (r.shape, r.dtype, r.device)
                assert f.stride() == r.stride() or r.numel() == 0


@pytest.mark.cpu_only
def test_meta_tensors(backend: str) -> None:
    x = torch.empty(SHAPE, device="meta")
    for result in (warmops.blur(x, 1.0, backend=backend), *warmops.blur_noise(x, 1.0, 1.0, seed=1, return_blurred=True, backend=backend)):
        assert result.device.type == "meta" and result.shape == SHAPE
    assert warmops.normal(SHAPE, 0, device="meta", backend=backend).device.type == "meta"
