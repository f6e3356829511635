"""Which backend runs a call, what `warmops.backends` says, and what importing warmops loads."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from _cases import bit_equal

import warmops
from warmops import _dispatch

pytestmark = pytest.mark.cpu_only
X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


@pytest.fixture
def uncached() -> Iterator[None]:
    """What was found out about the machine is forgotten before and after the test."""
    caches = (_dispatch.native, _dispatch._or_reference, _dispatch._load)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def no_extension(uncached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None if name == "warmops._C" else found(name, *args))


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(warmops.__file__).parent.parent)
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True, check=False
    )


def test_backends_says_what_runs_and_why_not() -> None:
    status = warmops.backends()
    assert list(status) == ["reference", "cpu", "triton", "cuda"]
    for name, entry in status.items():
        assert isinstance(entry, warmops.BackendStatus) and bool(entry) is entry.available
        assert entry.detail and entry.detail.strip() == entry.detail, name
    assert status["reference"]
    if not torch.cuda.is_available():
        assert not status["cuda"] and not warmops.backends()["triton"]
        assert "CUDA" in status["cuda"].detail and "TRITON_INTERPRET" in status["triton"].detail


def test_threads_are_reported() -> None:
    if not warmops.backends()["cpu"]:
        pytest.skip(warmops.backends()["cpu"].detail)
    torch.set_num_threads(1)
    one = warmops.backends()["cpu"].detail
    torch.set_num_threads(2)
    assert "1 thread" in one and "2 thread" in warmops.backends()["cpu"].detail


def test_the_default_is_the_named_backend() -> None:
    if not warmops.backends()["cpu"]:
        pytest.skip(warmops.backends()["cpu"].detail)
    assert bit_equal(warmops.blur_noise(X, 1.0, 0.5, seed=1), warmops.blur_noise(X, 1.0, 0.5, seed=1, backend="cpu"))
    assert bit_equal(warmops.normal((2, 99), 1), warmops.normal((2, 99), 1, backend="cpu"))


def test_the_default_without_the_extension_warns_once(no_extension: None) -> None:
    with pytest.warns(RuntimeWarning, match=r"reference.*warmops\._C was not built") as record:
        got = warmops.blur(X, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warmops.blur_noise(X, 1.0, 0.5, seed=1)
        warmops.normal((2, 3), 1)
    assert len(record) == 1
    assert Path(record[0].filename) == Path(__file__), "the warning points at the caller's line"
    assert bit_equal(got, warmops.blur(X, 1.0, backend="reference"))


def test_without_the_extension(no_extension: None) -> None:
    status = warmops.backends()
    assert not status["cpu"] and "compiler" in status["cpu"].detail and "WARMOPS_NATIVE" in status["cpu"].detail
    with pytest.raises(RuntimeError, match=r"'cpu' cannot run here.*not built"):
        warmops.blur(X, 1.0, backend="cpu")
    assert warmops.blur(X, 1.0, backend="reference").isfinite().all()


def test_without_triton(uncached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None)
    assert "pip install triton" in warmops.backends()["triton"].detail
    with pytest.raises(RuntimeError, match=r"'triton' cannot run here.*pip install triton"):
        warmops.blur(X, 1.0, backend="triton")


def test_a_gpu_that_is_too_old(uncached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, the Triton backend is refused there; by default the reference runs, with a warning."""
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(RuntimeError, match=r"'triton' cannot run here: .*8\.0 or newer, cuda:0 has 7\.5"):
        _dispatch.launcher("triton", device, "blur_noise")
    with pytest.warns(RuntimeWarning, match=r"'reference' on cuda tensors: .*cuda:0 has 7\.5"):
        assert _dispatch.default_backend(device, "blur_noise") == "reference"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    _dispatch._or_reference.cache_clear()
    assert _dispatch.default_backend(device, "blur_noise") == "triton"


def test_extension_without_cuda(uncached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type("Module", (), {"has_cuda": False, "isa": staticmethod(lambda: "avx2")})
    monkeypatch.setattr(_dispatch, "native", lambda: module)
    status = warmops.backends()
    assert "avx2" in status["cpu"].detail and "without CUDA" in status["cuda"].detail
    with pytest.raises(RuntimeError, match=r"'cuda' cannot run here.*nvcc"):
        warmops.normal((2, 3), 1, backend="cuda")


def test_a_broken_extension_is_a_reason_not_a_crash(uncached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension that does not load (a missing libgomp, another Python) is reported; the other backends still run."""
    load = importlib.import_module

    def broken(name: str, *args: str) -> object:
        if name == "warmops._C":
            raise ImportError("libgomp.so.1: cannot open shared object file")
        return load(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: object())
    monkeypatch.setattr(importlib, "import_module", broken)
    status = warmops.backends()
    assert not status["cpu"] and "libgomp.so.1" in status["cpu"].detail
    with pytest.raises(RuntimeError, match=r"libgomp\.so\.1"):
        warmops.blur(X, 1.0, backend="cpu")


def test_importing_loads_nothing_that_is_not_needed() -> None:
    """Beyond torch's own modules: no Triton, SciPy, matplotlib, no compiler stack, no extension before its first call."""
    code = "import sys, json, torch; before = set(sys.modules); import warmops; print(json.dumps(sorted(set(sys.modules) - before)))"
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert loaded - set(sys.stdlib_module_names) - {"warmops", "torch"} == set()


def test_importing_without_triton_or_extension() -> None:
    code = (
        "import sys; sys.modules['triton'] = None; sys.modules['warmops._C'] = None\n"
        "import torch, warmops\n"
        "print(warmops.blur(torch.ones(1, 4, 4), 1.0, backend='reference').sum().item())"
    )
    result = run_python(code)
    assert result.returncode == 0 and float(result.stdout) == pytest.approx(16), result.stderr


def test_public_names() -> None:
    assert set(warmops.__all__) >= {"backends", "blur", "blur_noise", "normal"}
    for name in warmops.__all__:
        assert getattr(warmops, name) is not None
    for function in (warmops.blur, warmops.blur_noise, warmops.normal, warmops.backends):
        assert "Returns:" in (function.__doc__ or "")
        assert "return" in function.__annotations__
