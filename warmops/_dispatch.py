"""Which implementation runs a call: the backends, whether they can run here, and why not.

Nothing falls back in silence: a named backend that cannot run raises, and the default choice warns when it has to
leave the compiled kernels for the reference.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from warmops._fork import alone_after_fork

BACKENDS = ("reference", "cpu", "triton", "cuda")
_FOR_CPU = (None, "cpu")
_MODULES = {"reference": "warmops.reference", "cpu": "warmops._cpu", "triton": "warmops.triton", "cuda": "warmops._cuda"}


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run on this machine, and with what, or why not. True in a condition when available.

    Attributes:
        available: whether it can run.
        detail: what it runs with, or why it cannot run.

    Example:
        >>> status = warmops.backends()["reference"]
        >>> status.available, bool(status), status.detail
        (True, True, 'plain PyTorch in float64, on any device')
    """

    available: bool
    detail: str

    def __bool__(self) -> bool:
        return self.available


@functools.cache
def native() -> ModuleType | str:
    """The extension module ``warmops._C``, or why there is none."""
    if importlib.util.find_spec("warmops._C") is None:
        return (
            "the extension warmops._C was not built: reinstall warmops where a C++17 compiler (g++ or clang++) is, without WARMOPS_NATIVE=0"
        )
    try:
        return importlib.import_module("warmops._C")
    except ImportError as error:
        return f"the extension warmops._C cannot be loaded ({error}): reinstall warmops on this machine"


def triton_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _unavailable(backend: str) -> str | None:
    """Why a backend can run nothing at all here, or None."""
    if backend == "reference":
        return None
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed (pip install triton)"
        if not triton_interpreted() and not torch.cuda.is_available():
            return "no CUDA device is available (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, for tests)"
        return None
    module = native()
    if isinstance(module, str):
        return module
    if backend == "cuda":
        if not module.has_cuda:
            return "warmops._C was built without CUDA: reinstall where nvcc is, with WARMOPS_CUDA=1"
        if not torch.cuda.is_available():
            return "no CUDA device is available"
    return None


def backends() -> dict[str, BackendStatus]:
    """Which backends can run here, and for the others, why not.

    Returns:
        ``{"reference": ..., "cpu": ..., "triton": ..., "cuda": ...}``; each value has ``available`` (bool) and
        ``detail`` (str), and is true in a condition when available: `BackendStatus`.

    Example:
        >>> list(warmops.backends())
        ['reference', 'cpu', 'triton', 'cuda']
        >>> warmops.blur(torch.ones(1, 1, 2, 2), 1.0, backend="fpga")
        Traceback (most recent call last):
        ValueError: backend must be None or one of 'reference', 'cpu', 'triton', 'cuda', got 'fpga'
    """
    detail = {
        "reference": "plain PyTorch in float64, on any device",
        "triton": "fused Triton kernels" + (" in Triton's interpreter" if triton_interpreted() else " on CUDA devices"),
        "cuda": "CUDA C++ kernels",
    }
    status = {}
    for backend in BACKENDS:
        reason = _unavailable(backend)
        if reason is None and backend == "cpu":
            module = native()
            assert not isinstance(module, str)
            detail["cpu"] = f"C++ kernels for {module.isa()}, {torch.get_num_threads()} threads"
        status[backend] = BackendStatus(reason is None, detail.get(backend, "") if reason is None else reason)
    return status


def _why_not(backend: str, device: torch.device) -> str | None:
    """Why ``backend`` cannot run on tensors of ``device``, or None."""
    reason = _unavailable(backend)
    if reason is not None:
        return reason
    if backend == "cpu" and device.type != "cpu":
        return f"it runs on CPU tensors, got tensors on {device}"
    if backend == "cuda" and device.type != "cuda":
        return f"it runs on CUDA tensors, got tensors on {device}"
    if backend == "triton" and not triton_interpreted():
        if device.type != "cuda":
            return f"it runs on CUDA tensors, got tensors on {device}"
        if torch.version.hip is not None:
            return f"the Triton kernels are for NVIDIA GPUs, {device} is not one"
        capability = torch.cuda.get_device_capability(device)
        if capability < (8, 0):
            return f"the Triton kernels need compute capability 8.0 or newer, {device} has {capability[0]}.{capability[1]}"
    return None


def _caller_level() -> int:
    """The ``stacklevel`` that points a warning raised by the calling function at the first line outside warmops."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "warmops":
        level, frame = level + 1, frame.f_back
    return level


def default_backend(device: torch.device, op: str) -> str:
    """The fastest backend for an op on a device; warns once where that has to be the reference."""
    return _or_reference({"cpu": "cpu", "cuda": "cuda" if op == "dct" else "triton"}.get(device.type), device)


@functools.cache
def _or_reference(wanted: str | None, device: torch.device) -> str:
    reason = f"warmops has no kernels for {device.type} devices" if wanted is None else _why_not(wanted, device)
    if wanted is not None and reason is None:
        return wanted
    warnings.warn(
        f"warmops runs the slow backend 'reference' on {device.type} tensors: {reason}. "
        "Pass backend='reference' to choose it without this warning.",
        RuntimeWarning,
        stacklevel=_caller_level(),
    )
    return "reference"


def check_backend(backend: Any) -> None:
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend must be None or one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")


@functools.cache
def _load(named: str | None, device: torch.device, op: str) -> Any:
    backend = named or default_backend(device, op)
    reason = _why_not(backend, device)
    if reason is None:
        launcher = getattr(importlib.import_module(_MODULES[backend]), op, None)
        if launcher is not None:
            return alone_after_fork(launcher) if backend == "reference" else launcher
        reason = f"it has no {op} kernel"
    raise RuntimeError(f"backend={backend!r} cannot run here: {reason}")


def launcher(backend: str | None, device: torch.device, op: str) -> Any:
    """The function of a backend that runs ``op`` on tensors of ``device``; RuntimeError says why there is none."""
    return _load(backend, device, op)


def _watched() -> bool:
    """Whether torch.compile, a dispatch mode or one of torch.func's transforms looks at all calls."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def plain_call(backend: str | None, name: str) -> Any:
    """The extension's own way to a kernel for calls of plain CPU tensors, or None: it is not to be used, or not there.

    It returns what the public function returns, or None where an argument is anything but plain: wrong, on a GPU, a subclass,
    watched by autograd. Such calls go on to the checks of each argument by name.
    """
    if backend not in _FOR_CPU or forward_ad._current_level >= 0 or _watched():
        return None
    return getattr(native(), f"plain_{name}", None)


def needs_dispatcher(*values: Any) -> bool:
    """Whether a call has to go through torch's dispatcher: autograd in either mode, torch.compile, vmap, fake or subclassed tensors.

    Every other call goes straight to the kernel, which saves more than a small image costs.
    """
    if _watched():
        return True
    grad = torch.is_grad_enabled()
    forward_mode = forward_ad._current_level >= 0
    for value in values:
        kind = type(value)
        if kind is Tensor or kind is Parameter:
            if value.is_meta or (grad and value.requires_grad):
                return True
            if forward_mode and forward_ad.unpack_dual(value).tangent is not None:
                return True
        elif isinstance(value, Tensor):
            return True
    return False
