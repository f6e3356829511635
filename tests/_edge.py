"""Tensors at the very edge of readable memory: what is read or written beyond them ends the process.

For processes that may die: tests run them in a child (tests/fuzz.py, tests/test_edges.py), so that a crash is a named failure.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
EDGES = ("end", "start")
_PROT_NONE = 0


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _forbid(address: int, size: int) -> None:
    if _libc().mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), _PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")


def _guarded(pages: int) -> Tensor:
    """Bytes of whole pages between two forbidden ones."""
    memory = mmap.mmap(-1, (pages + 2) * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    _forbid(address, PAGE)
    _forbid(address + (pages + 1) * PAGE, PAGE)
    return torch.frombuffer(memory, dtype=torch.uint8, count=pages * PAGE, offset=PAGE)


def contiguous_strides(shape: Sequence[int]) -> list[int]:
    strides, pitch = [], 1
    for n in reversed(shape):
        strides.append(pitch)
        pitch *= max(n, 1)
    return strides[::-1]


class Edge:
    """A tensor whose last (or first) element is the last (or first) of its pages, with a forbidden page on either side.

    What is in the pages beside the tensor's elements holds ``poison`` bytes: 0xFF is NaN in every float dtype. On a GPU, which
    forbids nothing, the pages on either side hold them too.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        edge: str = "end",
        strides: Sequence[int] | None = None,
        poison: int = 0xFF,
        device: str = "cpu",
    ) -> None:
        strides = contiguous_strides(shape) if strides is None else list(strides)
        span = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if all(shape) else 0
        size = span * dtype.itemsize
        pages = max(1, -(-size // PAGE))
        before = 0 if device == "cpu" else PAGE
        self._bytes = _guarded(pages) if device == "cpu" else torch.empty((pages + 2) * PAGE, dtype=torch.uint8, device=device)
        self._bytes.fill_(poison)
        self._start = before + (pages * PAGE - size if edge == "end" else 0)
        self._where = (tuple(shape), tuple(strides))
        self.tensor = self._view(self._bytes, dtype)
        self._before = self._bytes.clone()
        self.is_input = False

    def _view(self, memory: Tensor, dtype: torch.dtype) -> Tensor:
        shape, strides = self._where
        if not all(shape):
            return torch.empty_strided(shape, strides, dtype=dtype, device=memory.device)
        return memory[self._start :][: memory.numel() - self._start].view(dtype).as_strided(shape, strides)

    def remember(self) -> Tensor:
        """An input from now on: what is there is what `untouched` expects. Returns the tensor."""
        self._before, self.is_input = self._bytes.clone(), True
        return self.tensor

    def untouched(self, including_tensor: bool = True) -> bool:
        """Whether the pages are as they were: all of them, or all but the tensor's own elements."""
        after = self._bytes.clone()
        if not including_tensor and all(self._where[0]):
            bits = torch.uint8 if self.tensor.dtype == torch.bool else self.tensor.dtype  # copying makes a bool 0 or 1
            self._view(after, bits).copy_(self._view(self._before, bits))
        return torch.equal(after, self._before)
