"""warmops as contestants, and the calls in which it is compared with itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _contest import Build, Contestant, Step
from torch import Tensor

import warmops
from warmops import _dispatch

SEED = 1


class Seeded:
    """A step whose noise is a function of the seed (the check must not ask for fresh noise)."""

    seeded = True

    def __init__(self, step: Step) -> None:
        self.step = step

    def __call__(self, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return self.step(x, alpha, beta)


def out_for(x: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32 if x.dtype == torch.uint8 else x.dtype)


def isas() -> list[str]:
    """The instruction sets that the C++ kernels can use here, best first; empty without the extension."""
    module = _dispatch.native()
    return list(module.isas()) if module is not None else []


def current_isa() -> str | None:
    module = _dispatch.native()
    return module.isa() if module is not None else None


def force_isa(name: str) -> None:
    module = _dispatch.native()
    if module is None:
        raise SystemExit(f"--isa {name} needs the C++ kernels: {_dispatch.backends()['cpu'].detail}")
    try:
        module.set_isa(name)
    except ValueError as error:
        raise SystemExit(f"--isa {name}: {error}") from None


def under_isa(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """The call on another CPU path; the path in use before is put back."""
    module = _dispatch.native()
    assert module is not None
    before = module.isa()

    def call(*args: Any) -> Any:
        module.set_isa(name)
        try:
            return step(*args)
        finally:
            module.set_isa(before)

    return call


def blur_noise(backend: str | None, isa: str | None = None) -> Build:
    def build(x: Tensor) -> Step:
        out = out_for(x)

        def step(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
            return warmops.blur_noise(x, alpha, beta, seed=SEED, out=out, backend=backend)

        return Seeded(step if isa is None else under_isa(isa, step))

    return build


def resolved_backend(backend: str | None, device: str, op: str = "blur_noise") -> str:
    """The backend that will run; the reference's warning is not repeated here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return backend or _dispatch.default_backend(torch.device(device), op)


def contestants(device: str, backend: str | None, forced: str | None) -> Iterator[Contestant]:
    """warmops, and on the CPU once more on the AVX2 path where that is not what runs anyway."""
    yield Contestant("warmops", "ours", {"": blur_noise(backend)})
    native = device == "cpu" and resolved_backend(backend, device) == "cpu"
    if native and forced is None and "avx2" in isas() and current_isa() != "avx2":
        yield Contestant("warmops, AVX2 forced", "ours", {"": blur_noise(backend, "avx2")})


def self_comparisons(x: Tensor, alpha: Tensor, beta: Tensor, backend: str | None) -> dict[str, Callable[[], Any]]:
    """Calls on one batch (float32 images in [-1, 1]), each compared with "plain"."""
    out, blurred = out_for(x), out_for(x)
    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: warmops.blur_noise(x, alpha, beta, seed=SEED, out=out, backend=backend),
        "return_blurred": lambda: warmops.blur_noise(x, alpha, beta, seed=SEED, return_blurred=True, out=(out, blurred), backend=backend),
        "without out=": lambda: warmops.blur_noise(x, alpha, beta, seed=SEED, backend=backend),
        "blur alone": lambda: warmops.blur(x, alpha, backend=backend),
        "normal alone": lambda: warmops.normal(tuple(x.shape), SEED, device=x.device, backend=backend),
        "torch.randn": lambda: torch.randn(x.shape, device=x.device),
    }
    bytes_ = ((x + 1.0) * 127.5).round().to(torch.uint8)
    for name, converted in (("bfloat16", x.bfloat16()), ("float16", x.half()), ("uint8", bytes_), ("float64", x.double())):
        target = out_for(converted)
        calls[name] = lambda x=converted, out=target: warmops.blur_noise(x, alpha, beta, seed=SEED, out=out, backend=backend)
    return calls


def tiny_call(device: str, backend: str | None) -> Callable[[], Any]:
    """The overhead of a call: one 1x1x8x8 image, no gradient."""
    x = torch.rand(1, 1, 8, 8, device=device)

    def call() -> Tensor:
        with torch.no_grad():
            return warmops.blur_noise(x, 0.5, 1.0, seed=SEED, backend=backend)

    return call
