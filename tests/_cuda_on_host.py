"""The DCT kernels of csrc/cuda, compiled for the host by tests/_dct_on_host.cpp and called like the extension's functions."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

Axis = tuple[int, int, float, float, float]
CODES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
TESTS = Path(__file__).parent
H200, A100, SMALL = 227 * 1024, 163 * 1024, 99 * 1024
"""Bytes of shared memory that a block may have: compute capabilities 9.0 and 10.0, 8.0, 8.6 and 12.0."""


_folder = tempfile.TemporaryDirectory()


@functools.cache
def compile_host() -> ctypes.CDLL:
    """Once a run."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    library = Path(_folder.name, "dct.so")
    flags = ["-std=c++17", "-O1", "-DWARMOPS_SLOW_CODELETS", "-ffp-contract=off", "-fPIC", "-shared"]
    warnings = ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror"]
    source = str(TESTS / "_dct_on_host.cpp")
    subprocess.run([compiler, *flags, *warnings, f"-I{TESTS.parent / 'csrc'}", source, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.last_message.restype = ctypes.c_char_p
    return loaded


def int64s(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)


class Host:
    """One launch of one or two axes, and whether it fits."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.limit = H200
        self.reversed = False  # the order of threads and items between two barriers
        self.launches = 0

    def launch(self, x: Tensor, out: Tensor, axes: Sequence[Axis]) -> None:
        self.launches += 1
        factors = [value for axis in axes for value in axis[2:]]
        failed = self.library.transform(
            ctypes.c_void_p(x.data_ptr()),
            CODES[x.dtype],
            int64s(x.shape),
            int64s(x.stride()),
            ctypes.c_void_p(out.data_ptr()),
            CODES[out.dtype],
            int64s(out.shape),
            int64s(out.stride()),
            out.ndim,
            len(axes),
            (ctypes.c_int * len(axes))(*[axis[0] for axis in axes]),
            (ctypes.c_int * len(axes))(*[axis[1] for axis in axes]),
            (ctypes.c_double * len(factors))(*factors),
            ctypes.c_int64(self.limit),
            int(self.reversed),
        )
        if failed:
            raise ValueError(self.library.last_message().decode())

    def fits(self, out: Tensor, axes: Sequence[Axis]) -> bool:
        kinds = (ctypes.c_int * len(axes))(*[axis[1] for axis in axes])
        sizes = int64s([out.shape[axis[0]] for axis in axes])
        return bool(self.library.fits(len(axes), kinds, sizes, int(out.dtype == torch.float64), ctypes.c_int64(self.limit)))
