"""Run tests/triton in processes of its own, in Triton's interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

HALVES = ("two-pass", "not two-pass")
"""Two processes side by side, by ``-k``."""


# How many tests at least run in each half: finding nothing must not pass.
@pytest.mark.parametrize(
    ("every_case", "least"), [(False, (30, 60)), pytest.param(True, (100, 200), marks=pytest.mark.slow)], ids=["a quarter", "all"]
)
def test_kernels_in_the_interpreter(every_case, least):
    root = Path(__file__).parents[1]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["WARMOPS_INTERPRET_ALL"] = str(int(every_case))
    command = [sys.executable, "-m", "pytest", "tests/triton", "-q", "-p", "no:cacheprovider", "--confcutdir=tests/triton", "-k"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    runs = [subprocess.Popen([*command, half], cwd=root, env=environment, **pipes) for half in HALVES]
    for run, few in zip(runs, least, strict=True):
        output, _ = run.communicate()
        assert run.returncode == 0, output[-8000:]
        passed = re.search(r"(\d+) passed", output)
        assert passed is not None and int(passed[1]) >= few, output[-2000:]
