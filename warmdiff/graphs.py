"""A function of tensors as one CUDA graph: its kernels are launched one by one when it is captured, all at once ever after."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_capturing = threading.Lock()  # a capture waits for the whole device when it begins, which would break another one


def capturing(t: Tensor) -> bool:
    """Whether work on ``t`` is being recorded now: its values cannot be looked at."""
    return t.is_cuda and torch.cuda.is_current_stream_capturing()


class Graph:
    """``function(*inputs)``, captured. A call takes new values of the inputs, of the same shapes, and returns copies of the results.

    The function runs once or more before it is captured (kernels are compiled, libraries make their plans). While captured it must
    neither look at values on the GPU nor copy from or to the CPU; what it takes from Python stays what it was. Tensors that it
    reads beside its inputs must outlive the graph; their new contents are seen.

    Calls from several threads and streams take turns.

    Args:
        function: takes tensors, returns a tuple of tensors.
        inputs: CUDA tensors on one device; copied.
        warmups: runs before the capture.

    Raises:
        RuntimeError: the function cannot be captured.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], warmups: int = 1) -> None:
        self.device = inputs[0].device
        self._turn = threading.Lock()
        self._graph = torch.cuda.CUDAGraph()
        with _capturing, torch.cuda.device(self.device):
            self._inputs = [t.detach().clone() for t in inputs]
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(warmups):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            try:
                # The outer context brings the stream back also where a capture breaks; thread_local: other threads may allocate.
                with (
                    torch.cuda.stream(torch.cuda.current_stream()),
                    torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
                ):
                    self._outputs = function(*self._inputs)
            except RuntimeError as error:
                what = "it must not wait for the GPU, look at its values or copy from or to the CPU"
                raise RuntimeError(f"this cannot be captured in a CUDA graph ({what}): {error}") from error
            self._free = torch.cuda.Event()
            self._free.record()

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        with self._turn, torch.cuda.device(self.device):
            torch.cuda.current_stream().wait_event(self._free)  # the last call may still be at work, on another stream
            for mine, value in zip(self._inputs, values, strict=True):
                mine.copy_(value, non_blocking=True)
            self._graph.replay()
            results = tuple(output.clone() for output in self._outputs)
            self._free.record()
        return results


def reached(value: Any, depth: int = 5, seen: set[int] | None = None) -> Iterator[Any]:
    """The tensors and the plain values that a callable holds: in its closure, globals, defaults, attributes and parameters."""
    if isinstance(value, (Tensor, bool, int, float, str, type(None), torch.dtype, torch.device)):
        yield value
        return
    seen = set() if seen is None else seen
    if depth == 0 or id(value) in seen or isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, types.FunctionType):
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            names = inspect.getclosurevars(value)
            parts = [*names.nonlocals.values(), *names.globals.values()]
        parts += [value.__defaults__, value.__kwdefaults__]
    elif isinstance(value, (types.MethodType, functools.partial, list, tuple, dict)):
        parts = gc.get_referents(value)
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers(), *(m.training for m in value.modules()))
        parts = [part for name, part in vars(value).items() if not name.startswith("_")]
    elif hasattr(value, "__dict__"):
        parts = list(vars(value).values())
    for part in parts:
        yield from reached(part, depth - 1, seen)
