"""Argument checks shared by the public functions.

Every error names the argument, what it got and what it wants, and is raised before anything is computed or written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

IMAGE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8)
FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
NUMBER_DTYPES = (*FLOAT_DTYPES, torch.complex64, torch.complex128, torch.complex32)
_UNSIGNED_DTYPES = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
INTEGER_DTYPES = (torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, *_UNSIGNED_DTYPES)
SEED_MIN, SEED_MAX = -(2**63), 2**63 - 1
_CPU = torch.device("cpu")

Level = float | Tensor


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


def as_in_memory(t: Tensor) -> Tensor:
    """``t`` with its numbers in memory: a lazily negated view (of a conjugate's imaginary part) is copied.

    Where torch's dispatcher runs the op, it does that itself; while compiling the question cannot even be asked.
    """
    return t if torch.compiler.is_compiling() or not t.is_neg() else t.resolve_neg()


def check_images(name: str, x: Any) -> Tensor:
    """A strided floating-point or uint8 tensor ``[N, ..., H, W]``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if x.dtype not in IMAGE_DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {_names(IMAGE_DTYPES)}, got {x.dtype}")
    if x.layout is not torch.strided:
        raise TypeError(f"{name} must be a strided (dense) tensor, got layout {x.layout}")
    if x.ndim < 3:
        raise ValueError(f"{name} must have at least 3 dimensions [N, ..., H, W], got shape {tuple(x.shape)}")
    if x.shape[-1] < 1 or x.shape[-2] < 1:
        raise ValueError(f"{name} must have H >= 1 and W >= 1, got shape {tuple(x.shape)}")
    return as_in_memory(x)


def check_numbers(name: str, x: Any) -> Tensor:
    """A strided tensor of any shape: floating-point, complex, or integers and bool, which become the default dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if x.layout is not torch.strided:
        raise TypeError(f"{name} must be a strided (dense) tensor, got layout {x.layout}")
    if x.dtype in NUMBER_DTYPES:
        return x
    if x.dtype in INTEGER_DTYPES:
        return x.to(torch.get_default_dtype())
    raise TypeError(f"{name} must have one of the dtypes {_names(NUMBER_DTYPES + INTEGER_DTYPES)}, got {x.dtype}")


def check_number(name: str, value: Any, x: Tensor) -> Level:
    """A Python number, or a floating-point tensor of ``x.shape[0]`` values on x's device (0-d: one for all)."""
    if isinstance(value, Tensor):
        if value.dtype not in FLOAT_DTYPES:
            raise TypeError(f"{name} must be a float or a floating-point tensor, got a tensor of {value.dtype}")
        if value.device != x.device:
            raise ValueError(f"{name} must be on the device of x ({x.device}), got {value.device}")
        if value.ndim == 0:
            return as_in_memory(value).expand(x.shape[0])
        if value.ndim != 1 or value.shape[0] != x.shape[0]:
            raise ValueError(
                f"{name} must be a float or a tensor of shape [{x.shape[0]}] (one value per sample), got shape {list(value.shape)}"
            )
        return as_in_memory(value)
    if isinstance(value, float):
        return value
    if isinstance(value, bool) or not isinstance(value, (Real, torch.SymFloat, torch.SymInt)):
        raise TypeError(f"{name} must be a float or a torch.Tensor of shape [{x.shape[0]}], got {type(value).__name__}")
    return float(value)


def check_level(name: str, value: Any, x: Tensor) -> Level:
    """A blur or noise level: like `check_number`, and not negative or NaN.

    Values inside tensors are checked by the kernels that can do so without a GPU synchronisation.
    """
    level = check_number(name, value, x)
    if not isinstance(level, Tensor) and not level >= 0.0:  # also true for NaN
        raise ValueError(f"{name} must be >= 0, got {level}")
    return level


def check_scale(value: Any, x: Tensor) -> Level:
    """A finite number or a tensor of ``x.shape[0]`` values; None means 1."""
    if value is None:
        return 1.0
    scale = check_number("scale", value, x)
    if not isinstance(scale, Tensor) and not -math.inf < scale < math.inf:  # also true for NaN; traceable, unlike isfinite
        raise ValueError(f"scale must be finite, got {scale}")
    return scale


def check_like(name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A strided tensor of exactly this shape, dtype and device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a strided (dense) tensor, got layout {value.layout}")
    if value.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {value.dtype}")
    if value.device != device:
        raise ValueError(f"{name} must be on device {device}, got {value.device}")
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(value.shape)}")
    return value


def check_seed(seed: Any, n: int, device: torch.device) -> int | Tensor:
    """An int in the int64 range, or an int64 tensor ``[n]`` on the device."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise TypeError(f"seed must be an int or an int64 tensor, got a tensor of {seed.dtype}")
        if seed.device != device:
            raise ValueError(f"seed must be on device {device}, got {seed.device}")
        if tuple(seed.shape) != (n,):
            raise ValueError(f"seed must be an int or a tensor of shape [{n}] (one seed per sample), got shape {list(seed.shape)}")
        return seed
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer, torch.SymInt)):
        raise TypeError(f"seed must be an int or an int64 tensor of shape [{n}], got {type(seed).__name__}")
    if not SEED_MIN <= seed <= SEED_MAX:
        raise ValueError(f"seed must be in the int64 range [-2**63, 2**63 - 1], got {seed}")
    return seed if isinstance(seed, torch.SymInt) else int(seed)  # type: ignore[return-value]  # a SymInt while compiling


def draw_seed(generator: Any, n: int, device: torch.device) -> Tensor:
    """One int64 seed per sample from ``generator``, or from torch's default generator of the device."""
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        if generator.device.type != device.type:
            raise ValueError(f"generator must be on device {device}, got {generator.device}")
    return torch.randint(SEED_MAX, (n,), generator=generator, dtype=torch.int64, device=device)


def draw_cpu_seeds(n: int) -> Tensor:
    """`draw_seed` from torch's default generator of the CPU."""
    return draw_seed(None, n, _CPU)


def _extent(t: Tensor) -> tuple[int, int]:
    """The addresses that a tensor's elements lie in, [first, last)."""
    start = t.data_ptr()
    if t.is_contiguous():
        return start, start + t.nbytes
    if not t.numel():
        return start, start
    span = sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return start, start + (span + 1) * t.element_size()


_MAX_WORK: Any = 10**6  # NumPy takes any int; its stubs know two of them


class _Memory:
    """A view of a tensor's addresses for NumPy; the memory itself is never touched, so GPU tensors work too."""

    def __init__(self, t: Tensor) -> None:
        size = t.element_size()
        self.__array_interface__ = {
            "version": 3,
            "data": (t.data_ptr(), False),
            "typestr": f"|V{size}",
            "shape": tuple(t.shape),
            "strides": tuple(s * size for s in t.stride()),
        }


def _share_memory(a: Tensor, b: Tensor) -> bool:
    try:
        return bool(np.shares_memory(np.asarray(_Memory(a)), np.asarray(_Memory(b)), max_work=_MAX_WORK))
    except np.exceptions.TooHardError:
        return True


def check_no_overlap(written: Sequence[tuple[str, Tensor | None]], read: Sequence[tuple[str, Tensor | None]]) -> None:
    """No element of a written tensor shares memory with one of a read tensor, or of another written one.

    Interleaved views of one buffer are fine. Names come with the tensors; None is an absent one.
    """
    others = [(name, t, *_extent(t)) for name, t in read if t is not None]
    for name, t in written:
        if t is None:
            continue
        first, last = _extent(t)
        for other_name, other, other_first, other_last in others:
            if first < other_last and other_first < last and _share_memory(t, other):
                raise ValueError(f"{name} must not overlap {other_name} in memory")
        others.append((name, t, first, last))


def check_out(name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor that a kernel may write: right shape, dtype and device, no two elements at one address, as it is in memory."""
    out = check_like(name, value, shape, dtype, device)
    if not torch.compiler.is_compiling() and (out.is_neg() or out.is_conj()):
        raise ValueError(f"{name} must not be a lazily negated or conjugated view (of a conjugate's imaginary part, for example)")
    if out.is_contiguous():
        return out
    expected = 1
    for stride, size in sorted(zip(out.stride(), out.shape, strict=True)):
        if size > 1 and stride < expected:
            raise ValueError(f"{name} must not overlap itself in memory, got strides {tuple(out.stride())} for shape {tuple(shape)}")
        expected = max(expected, (size - 1) * stride + 1)
    return out
