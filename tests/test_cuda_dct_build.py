"""What nvcc makes of the CUDA transforms, for each chip: registers, spills, shared memory, the width of loads and stores."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import _cuda_cubins
import pytest
from _compile_tables import cuda_table, explained
from _cubin import SHARED_TOTAL, cuobjdump, read_code
from _cuda_on_host import A100, H200, compile_host

pytestmark = pytest.mark.cpu_only
SOURCES = sorted(_cuda_cubins.CUDA.glob("dct*.cu"))
PER_BLOCK = {80: A100, 90: H200, 100: H200}
CASES = [(source, capability) for source in SOURCES for capability in PER_BLOCK]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].stem}-{case[1]}")
def compiled(request: pytest.FixtureRequest) -> tuple[int, list[str], Path]:
    """Capability, what ptxas said of each of its kernels, and the machine code of all capabilities."""
    nvcc = _cuda_cubins.nvcc()
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    source, capability = request.param
    run, fatbin = _cuda_cubins.compile_all(nvcc)[source]
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
                assert blocks * (shared + 1024) <= SHARED_TOTAL[capability]


def test_wide_and_local_accesses(compiled: tuple[int, list[str], Path]) -> None:
    """Tiles are written, and rows read and written in shared memory, 16 bytes a lane; nothing is in local memory."""
    if not cuobjdump():
        pytest.skip("there is no cuobjdump (CUDA toolkit or Triton)")
    capability, entries, fatbin = compiled
    kernels = read_code(fatbin, cuobjdump()[-1], "-arch", f"sm_{capability}") if entries else {}
    assert len(kernels) == len(entries)
    for name, code in kernels.items():
        assert not code.local_memory and code.stack == 0
        kernel = code.sass
        tile = re.search(r"tile_kernelI([fd])Li(\d+)E", name)
        if tile is not None:
            for access in ("STG.E.128", "LDS.128", "STS.128"):
                assert access in kernel, (tile[0], access)


def test_no_worse_than_the_table(compiled: tuple[int, list[str], Path]) -> None:
    """benchmarks/results/compile holds what this nvcc made before; of another version nothing is known but the rules above."""
    capability, entries, fatbin = compiled
    table = cuda_table(_cuda_cubins.nvcc_version())
    if not table.exists() or not cuobjdump():
        pytest.skip(f"there is no table for this compiler ({table.name}), or no cuobjdump")
    if entries:
        explained(table, _cuda_cubins.rows(fatbin, capability))


@pytest.mark.parametrize(("points", "twice"), [(n, False) for n in (8, 16, 32, 48, 64, 128)] + [(n, True) for n in (8, 16, 32, 64)])
def test_banks(points: int, twice: bool, library: ctypes.CDLL) -> None:
    """Columns, rows and the pieces that are stored: no two lanes of a phase in one bank (two at 48, where rows are not 2^k pieces)."""
    columns, rows, pieces, *_ = tile_facts(library, points, twice)
    assert (columns, rows) == (1, 1)
    assert pieces == (2 if points == 48 else 1)
