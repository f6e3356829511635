"""Run tests/triton in a process of its own, in Triton's interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

EXPECTED = 100
"""At least so many tests run there: a collection that finds nothing must not pass."""


def test_kernels_in_the_interpreter():
    root = Path(__file__).parents[1]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "tests/triton", "-q", "-p", "no:cacheprovider", "--confcutdir=tests/triton"]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed[1]) >= EXPECTED, run.stdout[-2000:]
