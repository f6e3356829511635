"""Kernels in Triton's interpreter. The variable must be set before triton is imported, so these tests run in a process of
their own, which tests/test_triton_interpreter.py starts: other runs collect nothing here."""

import os

import pytest

ALONE = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if ALONE else ["test_*.py"]


def _patch_language_once_a_launch():
    """Triton's interpreter patches its whole language anew at each call of a device function, which is most of the time of a
    small kernel: do it once a launch. A Triton without these internals is only slower."""
    import triton.language as tl
    from triton.runtime import interpreter

    if not all(hasattr(interpreter, name) for name in ("_patch_lang", "_LangPatchScope", "GridExecutor")):
        return
    patch, run = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[int] = set()

    def patch_once(function):
        modules = {id(value) for value in function.__globals__.values() if value is tl or value is tl.core}
        if modules <= patched:
            return interpreter._LangPatchScope()
        patched.update(modules)
        return patch(function)

    def run_afresh(*args, **kwargs):
        patched.clear()
        return run(*args, **kwargs)

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch_once, run_afresh


if ALONE:
    _patch_language_once_a_launch()


@pytest.fixture(autouse=True)
def _quiet():
    """Kernels compute lanes that they discard: overflow and NaN there mean nothing."""
    import numpy as np

    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def rng(request):
    """The same numbers for the same test in each run."""
    import torch

    return torch.Generator().manual_seed(len(request.node.name) * 7919 + sum(map(ord, request.node.name)))
