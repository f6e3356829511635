"""Run tests/triton in processes of its own, in Triton's interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

HALVES = {"two-pass": 100, "not two-pass": 200}
"""Two processes side by side, by ``-k``, and how many tests at least run in each: finding nothing must not pass."""


def test_kernels_in_the_interpreter():
    root = Path(__file__).parents[1]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "tests/triton", "-q", "-p", "no:cacheprovider", "--confcutdir=tests/triton", "-k"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    runs = {half: subprocess.Popen([*command, half], cwd=root, env=environment, **pipes) for half in HALVES}
    for half, run in runs.items():
        output, _ = run.communicate()
        assert run.returncode == 0, output[-8000:]
        passed = re.search(r"(\d+) passed", output)
        assert passed is not None and int(passed[1]) >= HALVES[half], output[-2000:]
