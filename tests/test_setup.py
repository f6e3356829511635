"""setup.py on a small copy of the package: what is built, what is refused, and with which words."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
BINDINGS = """
#include <pybind11/pybind11.h>
#include "cpu/part.h"
PYBIND11_MODULE(_C, m) { m.def("answer", &answer); }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    files = {
        "warmops/__init__.py": '__version__ = "0.1.0"\n',
        "csrc/bindings.cpp": BINDINGS,
        "csrc/cpu/part.h": "int answer();\n",
        "csrc/cpu/part.cpp": '#include "part.h"\nint answer() { return 42; }\n',
    }
    for isa in ("avx2", "avx512"):
        files[f"csrc/cpu/wide_{isa}.cpp"] = f"#ifndef __{isa.upper()}{'F__' if isa == 'avx512' else '__'}\n#error flags\n#endif\n"
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def build(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    missing = [name for name in ("setuptools", "pybind11") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    inherited = {k: v for k, v in os.environ.items() if k not in ("WARMOPS_NATIVE", "WARMOPS_CUDA", "TORCH_CUDA_ARCH_LIST")}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = {"WARMOPS_CUDA": "0", **environment}
    return subprocess.run(command, cwd=project, env={**inherited, **environment}, capture_output=True, text=True, check=False)


def built(project: Path) -> list[Path]:
    return list(project.glob("warmops/_C*"))


def compiler() -> None:
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler is installed")


def test_builds_with_the_flags_of_each_file(project: Path) -> None:
    compiler()
    run = build(project)
    assert run.returncode == 0, run.stderr
    answer = subprocess.run(
        [sys.executable, "-c", "from warmops import _C; print(_C.answer())"], cwd=project, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "42\n"
    (ninja,) = project.glob("build/*/build.ninja")
    commands = dict(re.findall(r"^build .*: compile .*/(\w+)\.cpp\n  run = (.*)$", ninja.read_text(), re.MULTILINE))
    for name, command in commands.items():
        assert ("-mavx512f" in command) is name.endswith("_avx512"), command
        assert ("-mavx2" in command) is ("_avx" in name), command
        assert "-ffp-contract=off" in command and ("pybind11" in command) is (name == "bindings"), command

    header = project / "csrc/cpu/part.h"  # a changed header: what includes it is compiled again, nothing else
    os.utime(header, (header.stat().st_atime, header.stat().st_mtime + 10))
    again = build(project)
    assert sorted(re.findall(r"(\w+)\.cpp -o", again.stdout)) == ["bindings", "part"], again.stdout


def test_an_error_in_the_sources_fails(project: Path) -> None:
    compiler()
    (project / "csrc/cpu/part.cpp").write_text("int answer() { return nothing; }\n")
    run = build(project)
    assert run.returncode != 0 and not built(project)
    assert "warmops._C did not compile" in run.stderr and "nothing" in run.stdout + run.stderr


@pytest.mark.parametrize("environment", [{"WARMOPS_NATIVE": "0"}, {"CXX": "/no/such/compiler"}, {"CXX": "false"}], ids=str)
def test_without_a_compiler_nothing_is_built(project: Path, environment: dict[str, str]) -> None:
    run = build(project, **environment)
    assert run.returncode == 0 and not built(project), run.stderr
    reason = "WARMOPS_NATIVE=0" if "WARMOPS_NATIVE" in environment else f"no working C++17 compiler ({environment['CXX']}:"
    assert "building without the extension warmops._C" in run.stderr and reason in run.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WARMOPS_CUDA": "yes"}, "WARMOPS_CUDA must be auto, 0 or 1, got 'yes'"),
        ({"WARMOPS_NATIVE": "2"}, "WARMOPS_NATIVE must be auto, 0 or 1, got '2'"),
        ({"WARMOPS_NATIVE": "1", "CXX": "false"}, "WARMOPS_NATIVE=1, but no working C++17 compiler"),
        ({"WARMOPS_CUDA": "1", "CXX": "false"}, "WARMOPS_CUDA=1, but no working C++17 compiler"),
        ({"WARMOPS_CUDA": "1", "WARMOPS_NATIVE": "0"}, "WARMOPS_CUDA=1 needs the extension"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(project: Path, environment: dict[str, str], message: str) -> None:
    run = build(project, **environment)
    assert run.returncode != 0 and message in run.stderr and not built(project), run.stderr


@pytest.mark.parametrize(("architectures", "message"), [("8.0;ninety", "got 'ninety'"), ("8.0 42.0", "asks for 42.0")])
def test_architectures_are_checked(project: Path, architectures: str, message: str) -> None:
    compiler()
    if not (shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")):
        pytest.skip("nvcc is not installed")
    run = build(project, WARMOPS_CUDA="auto", TORCH_CUDA_ARCH_LIST=architectures)
    assert run.returncode != 0 and "TORCH_CUDA_ARCH_LIST" in run.stderr and message in run.stderr, run.stderr


@pytest.mark.parametrize(
    ("asked", "wants"),
    [
        ("8.0;9.0+PTX", [("compute_80", "sm_80"), ("compute_90", "sm_90"), ("compute_90", "compute_90")]),
        ("", [("compute_80", "[sm_80,sm_90,sm_100,compute_80]")]),
    ],
    ids=["asked", "default"],
)
def test_architectures_reach_nvcc(project: Path, asked: str, wants: list[tuple[str, str]]) -> None:
    """What is asked for is compiled for itself, the default all at once."""
    compiler()
    if not (shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")):
        pytest.skip("nvcc is not installed")
    (project / "csrc/cuda").mkdir()
    (project / "csrc/cuda/empty.cu").write_text("__global__ void kernel(float* p) { *p = 1.0f; }\n")
    run = build(project, WARMOPS_CUDA="1", TORCH_CUDA_ARCH_LIST=asked)
    assert run.returncode == 0, run.stderr
    (ninja,) = project.glob("build/*/build.ninja")
    assert re.findall(r"arch=(compute_\d+),code=(\w+|\[[\w,]+\])", ninja.read_text()) == wants
    (module,) = built(project)
    linked = subprocess.run(["ldd", str(module)], capture_output=True, text=True, check=True).stdout
    assert "libcuda" not in linked, linked
