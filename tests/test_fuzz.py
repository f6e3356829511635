"""The short forms of tests/fuzz.py, each in a process of its own: a crash is a failure with the name of its case."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.cpu_only
FUZZ = Path(__file__).with_name("fuzz.py")
ROOT = FUZZ.parent.parent


CASE = (
    '{"op": "blur", "shape": [1, 1, 3], "dtype": "float32", "x": {"layout": "contiguous", "values": "normal", "seed": 1, "edge": "end"},'
    ' "out": null, "recorded": false, "blur": {"form": "float", "values": [1.0]}}'
)


def fuzz(*arguments: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """``first``: a folder whose modules come before all others."""
    path = os.pathsep.join(filter(None, [first, str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, str(FUZZ), *arguments], capture_output=True, text=True, check=False, env=environment)


def cases_of(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"^(\d+) cases, none failing", done.stdout, re.MULTILINE)
    assert count, done.stdout
    return int(count[1])


def fresh(rng: torch.Generator) -> str:
    return str(int(torch.randint(2**31, (), generator=rng)))


def test_corpus_edges_and_random_cases(rng: torch.Generator) -> None:
    """Committed cases, every operation and layout between forbidden pages, and fresh random ones, each on every path of this CPU."""
    assert cases_of(fuzz("--corpus", "--edges", "--cases", "150", "--seed", fresh(rng))) >= 1000


def test_triton_in_the_interpreter(rng: torch.Generator) -> None:
    """Triton's kernels on the committed cases that are small, and on a few fresh ones."""
    pytest.importorskip("triton", reason="Triton is not installed")
    assert cases_of(fuzz("--kernels", "triton", "--corpus", "--cases", "20", "--seed", fresh(rng))) >= 40


def test_cuda_on_the_host(rng: torch.Generator) -> None:
    """The CUDA transforms, compiled for the host, between forbidden pages."""
    pytest.importorskip("warmops._C", reason="the extension warmops._C was not built", exc_type=ImportError)
    assert cases_of(fuzz("--kernels", "cuda", "--corpus", "--cases", "40", "--seed", fresh(rng))) >= 40


def test_what_cannot_run_is_said() -> None:
    for arguments in (("--op", "blur"), ("--repeat", CASE)):
        done = fuzz("--kernels", "cuda", *arguments)
        assert done.returncode == 1 and "none failing" not in done.stdout and "cuda" in done.stderr, done.stdout + done.stderr


@pytest.mark.slow
def test_twenty_thousand_random_cases(rng: torch.Generator) -> None:
    assert cases_of(fuzz("--cases", "20000", "--seed", fresh(rng))) >= 20_000


def test_a_crash_can_be_repeated(tmp_path: Path) -> None:
    """A blur that reads one byte beyond its input ends the child; the parent says in which case. (For wrong results: test_judge.py.)"""
    faulty = "ctypes.string_at(x.data_ptr() + x.numel() * x.element_size(), 1)"
    program = f"import ctypes, warmops\n    warmops.blur = lambda x, *a, **k: {faulty}\n"
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nif '--child' in sys.orig_argv:\n    {program}")
    done = fuzz("--repeat", CASE, first=str(tmp_path))
    assert done.returncode == 1 and "killed by signal 11" in done.stderr and f"--kernels cpu --repeat '{CASE}'" in done.stderr, done.stderr
