"""The kernels for AVX-512 on a CPU that has none: a build of the package in which tests/_avx512_on_host.h stands in for the instructions.

As a program it is the compiler of that build: g++, with the header in the place of AVX-512's flags.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve()


@contextmanager
def emulated() -> Iterator[Path]:
    """A folder for PYTHONPATH that holds such a build, for as long as the context lasts. It takes a minute or two."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CXX": f"{sys.executable} {HERE}", "WARMOPS_NATIVE": "1", "WARMOPS_CUDA": "0"}
        command = [sys.executable, "setup.py", "-q", "build", "--build-base", f"{folder}/build", "--build-lib", f"{folder}/lib"]
        subprocess.run(command, cwd=HERE.parents[1], env=environment, check=True, stdout=subprocess.DEVNULL)
        yield Path(folder, "lib")


def flags_for_host(flags: list[str]) -> list[str]:
    kept = [flag for flag in flags if not flag.startswith("-mavx512")]
    return kept if kept == flags else [*kept, "-O1", "-DWARMOPS_SLOW_CODELETS", "-include", str(HERE.with_suffix(".h"))]


if __name__ == "__main__":
    sys.exit(subprocess.run(["g++", *flags_for_host(sys.argv[1:])], check=False).returncode)
