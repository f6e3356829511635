"""The CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer, in short: tests/_sanitized.cpp on the
plainest kernels. In full, with every test of the operations: ``python tests/sanitize.py``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import sanitize

pytestmark = pytest.mark.cpu_only


def test_kernels_touch_no_memory_but_their_own(tmp_path: Path) -> None:
    """Every kernel, dtype and layout on blocks of the exact size; a read beyond one of them is reported."""
    try:
        cxx = sanitize.compiler()
        sanitize.check(cxx)
    except sanitize.Missing as reason:
        pytest.skip(str(reason))
    program = sanitize.program(cxx, [*sanitize.FLAGS, "-fno-sanitize-recover=all", "-fopenmp"], tmp_path / "sanitized")
    environment = {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    run = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and run.stdout == "every call done\n" and not run.stderr, run.stdout + run.stderr
    beyond = subprocess.run([program, "beyond"], env=environment, capture_output=True, text=True, check=False)
    assert beyond.returncode != 0 and "AddressSanitizer: heap-buffer-overflow" in beyond.stderr, beyond.stderr
