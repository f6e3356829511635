"""Every operation and dtype on fixed inputs, as functions of the backend: for tests of bits (threads, processes, releases).

The inputs are exact numbers made by integer arithmetic, the same on every machine and with every version of torch.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from _cases import FLOATS, ident
from torch import Tensor

import warmops

Call = Callable[[str], tuple[Tensor, ...]]
TRANSFORMS = ("dct", "idct", "dst", "idst", "dctn", "idctn", "dstn", "idstn", "dct2", "idct2")


def numbers(shape: Sequence[int], dtype: torch.dtype, salt: int) -> Tensor:
    """Multiples of 1/256 in [-1, 1), or bytes: exact in every dtype."""
    i = torch.arange(math.prod(shape), dtype=torch.int64) + 7919 * salt
    byte = ((i * 2654435761) % 2**32) >> 24
    return (byte.to(torch.uint8) if dtype == torch.uint8 else ((byte - 128).double() / 128).to(dtype)).reshape(tuple(shape))


def small_calls() -> dict[str, Call]:
    """For the golden file: each operation in each dtype."""
    calls: dict[str, Call] = {}
    shape, seed = (3, 2, 11, 20), torch.tensor([5, 2**40 + 1, -3])
    alpha, beta = torch.tensor([0.0, 0.4, 3.0], dtype=torch.float64), torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)
    for dtype in (*FLOATS, torch.uint8):
        x, name = numbers(shape, dtype, 1), ident(dtype)
        calls[f"blur {name}"] = lambda b, x=x: (warmops.blur(x, alpha, backend=b),)
        calls[f"blur_noise {name}"] = lambda b, x=x: warmops.blur_noise(
            x, alpha, beta, seed=seed, scale=0.75, return_blurred=True, backend=b
        )
        if dtype == torch.uint8:
            continue
        calls[f"noise {name}"] = lambda b, x=x: (warmops.blur_noise(torch.zeros_like(x), 0.0, 1.0, seed=seed, backend=b),)
        calls[f"normal {name}"] = lambda b, dtype=dtype: (warmops.normal((3, 1031), seed, dtype=dtype, backend=b),)
        head, slope = numbers(shape, dtype, 2), numbers(shape, dtype, 3)
        for method in ("ddim", "euler", "heun"):
            more: dict[str, Any] = {} if method == "ddim" else {"return_slope": True}
            more |= {"slope": slope} if method == "heun" else {}

            def step(b: str, x: Tensor = x, head: Tensor = head, method: str = method, more: dict[str, Any] = more) -> tuple[Tensor, ...]:
                words: dict[str, Any] = {"method": method, "c_skip": 0.3, "c_out": (0.7, 0.2), "backend": b}
                result = warmops.sampler_step(x, (head, x), 1.5, 3.0, 0.8, 1.9, **words, **more)
                return result if isinstance(result, tuple) else (result,)

            calls[f"sampler_step {method} {name}"] = step
        for function in TRANSFORMS:
            for type_ in (1, 2, 3, 4):
                dim = {"dim": -1} if function[-1] == "t" else {"dim": (-2, -1)}

                def transform(
                    b: str, x: Tensor = x, function: str = function, type_: int = type_, dim: dict[str, Any] = dim
                ) -> tuple[Tensor, ...]:
                    return (getattr(warmops, function)(x, type=type_, norm="ortho", backend=b, **dim),)

                if dtype == torch.float32 or (type_ == 2 and function in ("dct2", "idst")):
                    calls[f"{function} {type_} {name}"] = transform
    return calls


def large_calls() -> dict[str, Call]:
    """Work for several threads: many images, and one that they share."""
    calls: dict[str, Call] = {}
    for name, shape in (("many", (10, 3, 32, 40)), ("one", (1, 1, 264, 256))):
        x, head = numbers(shape, torch.float32, 4), numbers(shape, torch.float32, 5)
        alpha = torch.linspace(0.3, 3.0, shape[0], dtype=torch.float64)
        seed = torch.arange(shape[0]) + 11
        step = {"method": "euler", "return_slope": True}
        calls[f"blur {name}"] = lambda b, x=x, alpha=alpha: (warmops.blur(x, alpha, backend=b),)
        calls[f"blur_noise {name}"] = lambda b, x=x, alpha=alpha, seed=seed: warmops.blur_noise(
            x, alpha, 0.7, seed=seed, return_blurred=True, backend=b
        )
        calls[f"normal {name}"] = lambda b, x=x, seed=seed: (warmops.normal(x.shape, seed, backend=b),)
        calls[f"sampler_step {name}"] = lambda b, x=x, head=head, step=step: warmops.sampler_step(
            x, head, 2.0, 3.0, 1.0, 1.0, backend=b, **step
        )
        calls[f"dct2 {name}"] = lambda b, x=x: (warmops.dct2(x, norm="ortho", backend=b),)
        calls[f"dct {name}"] = lambda b, x=x: (warmops.dct(x, type=3, dim=-2, norm="ortho", backend=b),)
        half = x.half()
        calls[f"dctn half {name}"] = lambda b, x=half: (warmops.dctn(x, type=4, dim=(1, 2, 3), norm="ortho", backend=b),)
    return calls


@functools.cache
def known_large() -> dict[str, Call]:
    return large_calls()


def bits(results: Sequence[Tensor]) -> str:
    """SHA-256 of the numbers' bits, first bytes."""
    digest = hashlib.sha256()
    for t in results:
        digest.update(t.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
