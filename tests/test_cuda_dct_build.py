"""What nvcc makes of the CUDA transforms, for each chip: registers, spills, shared memory, the width of loads and stores."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from _cuda_on_host import A100, H200, compile_host

pytestmark = pytest.mark.cpu_only
CSRC = Path(__file__).parent.parent / "csrc"
SOURCES = sorted(CSRC.glob("cuda/dct*.cu"))
PER_BLOCK = {80: A100, 90: H200, 100: H200}
PER_MULTIPROCESSOR = {80: 164 * 1024, 90: 228 * 1024, 100: 228 * 1024}


def cuobjdump() -> str | None:
    """The CUDA toolkit's, or the one in Triton's wheel."""
    found = shutil.which("cuobjdump") or shutil.which("/usr/local/cuda/bin/cuobjdump")
    triton = importlib.util.find_spec("triton")
    if found is None and triton is not None and triton.origin is not None:
        found = shutil.which(str(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"))
    return found


CASES = [(source, capability) for source in SOURCES for capability in PER_BLOCK]


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def compile_one(nvcc: str, source: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    """For all chips at once, as setup.py does where TORCH_CUDA_ARCH_LIST is not set."""
    fatbin = Path(folder().name, f"{source.stem}.fatbin")
    architectures = f"-gencode=arch=compute_80,code=[{','.join(f'sm_{capability}' for capability in PER_BLOCK)}]"
    command = [nvcc, "-std=c++17", "-O3", "-fmad=false", architectures, "-Xptxas", "-v", "-fatbin", str(source), "-o", str(fatbin)]
    return subprocess.run(command, capture_output=True, text=True, check=False), fatbin


@functools.cache
def compile_all(nvcc: str) -> dict[Path, tuple[subprocess.CompletedProcess[str], Path]]:
    """Every source, once, as many at a time as there are processors."""
    folder()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(SOURCES, pool.map(lambda source: compile_one(nvcc, source), SOURCES), strict=True))


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].stem}-{case[1]}")
def compiled(request: pytest.FixtureRequest) -> tuple[int, list[str], Path]:
    """Capability, what ptxas said of each of its kernels, and the machine code of all capabilities."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    source, capability = request.param
    run, fatbin = compile_all(nvcc)[source]
    report = run.stdout + run.stderr
    assert run.returncode == 0 and "warning" not in report, report
    entries = [entry for entry in report.split("Compiling entry function '")[1:] if f"for 'sm_{capability}'" in entry]
    assert len(entries) == source.read_text().count("launch_tile<") + 2 * (source.stem == "dct_block"), report
    return capability, entries, fatbin


@pytest.fixture
def library() -> ctypes.CDLL:
    return compile_host()


def tile_facts(library: ctypes.CDLL, points: int, twice: bool) -> list[int]:
    facts = (ctypes.c_int * 6)()
    assert library.tile_facts(points, int(twice), facts) == 0
    return list(facts)


def test_no_spills_and_the_blocks_that_were_planned(compiled: tuple[int, list[str], Path], library: ctypes.CDLL) -> None:
    capability, entries, _ = compiled
    for entry in entries:
        assert re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", entry) == [("0", "0", "0")], entry
        tile = re.search(r"tile_kernelI([fd])Li(\d+)E", entry)
        if tile is not None:
            registers = int(re.search(r"Used (\d+) registers", entry)[1])  # type: ignore[index]
            *_, threads, blocks, shared = tile_facts(library, int(tile[2]), tile[1] == "d")
            warps = -(-threads // 32)
            assert -(-registers // 8) * 8 * 32 * warps * blocks <= 65536
            assert shared <= PER_BLOCK[capability]
            if capability >= 90:  # as many as registers allow; sm_80 has less memory than that for the largest
                assert blocks * (shared + 1024) <= PER_MULTIPROCESSOR[capability]


def test_wide_and_local_accesses(compiled: tuple[int, list[str], Path]) -> None:
    """Tiles are written, and rows read and written in shared memory, 16 bytes a lane; nothing is in local memory."""
    tool = cuobjdump()
    if tool is None:
        pytest.skip("there is no cuobjdump (CUDA toolkit or Triton)")
    capability, entries, fatbin = compiled
    command = [tool, "--dump-sass", "-arch", f"sm_{capability}", str(fatbin)]
    kernels = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("Function :")[1:] if entries else []
    assert len(kernels) == len(entries)
    for kernel in kernels:
        assert not re.search(r"\b(LDL|STL)\b", kernel)
        tile = re.search(r"tile_kernelI([fd])Li(\d+)E", kernel)
        if tile is not None:
            for access in ("STG.E.128", "LDS.128", "STS.128"):
                assert access in kernel, (tile[0], access)


@pytest.mark.parametrize(("points", "twice"), [(n, False) for n in (8, 16, 32, 48, 64, 128)] + [(n, True) for n in (8, 16, 32, 64)])
def test_banks(points: int, twice: bool, library: ctypes.CDLL) -> None:
    """Columns, rows and the pieces that are stored: no two lanes of a phase in one bank (two at 48, where rows are not 2^k pieces)."""
    columns, rows, pieces, *_ = tile_facts(library, points, twice)
    assert (columns, rows) == (1, 1)
    assert pieces == (2 if points == 48 else 1)
