"""The implementations that fuzzed cases run on: those of this CPU, Triton's, or CUDA's.

Without a GPU, Triton's kernels run in its interpreter, and the CUDA transforms compiled for the host (tests/_cuda_on_host.py).
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from _cuda_on_host import Host, compile_host
from _fuzz_cases import OPS, TRANSFORMS, Case
from _interpreter import patch_language_once_a_launch

import warmops
from warmops import _dispatch

INTERPRETED_ELEMENTS = 1000
"""Of a case in Triton's interpreter, which needs a second for a few thousand."""


@dataclass(frozen=True)
class Kernels:
    """``paths``: backend and instruction set, each in use while it is iterated over."""

    name: str
    device: str
    operations: tuple[str, ...]
    paths: Callable[[], Iterator[tuple[str, str]]]
    interpreted: bool = False

    @property
    def tensor_cores(self) -> bool:
        """Whether float32 goes through the parts that tensor cores multiply."""
        return self.name == "triton"

    def can_run(self, case: Case) -> bool:
        """In the interpreter: few elements, and no bfloat16, which it truncates, and misreads where it is subnormal."""
        if case["op"] not in self.operations:
            return False
        return not self.interpreted or (self.small(case) and "bfloat16" not in str(case))

    def small(self, case: Case) -> bool:
        """Whether the shape is one to run: few elements in the interpreter."""
        return not self.interpreted or math.prod(case["shape"]) <= INTERPRETED_ELEMENTS


def kernels(name: str) -> Kernels:
    gpu = torch.cuda.is_available()
    if name == "cpu":
        return Kernels(name, "cpu", OPS, _cpu)
    if name == "triton":
        if not gpu:
            _interpret()
        operations = tuple(op for op in OPS if op not in TRANSFORMS)
        return Kernels(name, "cuda" if gpu else "cpu", operations, lambda: iter([("triton", "")]), interpreted=not gpu)
    if gpu:
        return Kernels(name, "cuda", ("normal", *TRANSFORMS), lambda: iter([("cuda", "")]))
    return Kernels(name, "cpu", TRANSFORMS, _cuda_on_host)


def _cpu() -> Iterator[tuple[str, str]]:
    yield "reference", ""
    if warmops.backends()["cpu"]:
        native = importlib.import_module("warmops._C")
        chosen = native.isa()
        try:
            for isa in native.isas():
                native.set_isa(isa)
                yield "cpu", isa
        finally:
            native.set_isa(chosen)


def _interpret() -> None:
    assert os.environ.get("TRITON_INTERPRET") == "1", "set by the parent process"
    patch_language_once_a_launch()
    np.seterr(all="ignore")  # lanes that are computed and not stored


def _cuda_on_host() -> Iterator[tuple[str, str]]:
    host = Host(compile_host())
    launcher = importlib.import_module("warmops._cuda")
    with mock.patch.multiple(launcher, _launch=host.launch, _fits=host.fits), mock.patch.object(_dispatch, "_why_not", return_value=None):
        yield "cuda", "on the host"
