"""The committed tables of what the compilers make of each kernel, and what is worse than in them.

A table belongs to one version of one compiler: another one allocates registers differently, and nothing is compared with
it. Its rows are those of `_cubin.Kernel.row`.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "benchmarks" / "results" / "compile"
Row = dict[str, int]
TENSOR = ("HMMA", "DMMA", "HGMMA", "UTCHMMA", "UTCQMMA")
"""Products on tensor cores."""


def _triton_version() -> str:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return "none"


TRITON = FOLDER / f"triton-{_triton_version()}.json"


def cuda_table(nvcc_version: str) -> Path:
    return FOLDER / f"nvcc-{nvcc_version}.json"


def worse(new: Row, old: Row) -> list[str]:
    """What a row has lost: spills, occupancy, wide accesses, tensor cores. Other changes are no loss."""
    found = [f"{key} {old[key]} -> {new[key]}" for key in ("stack", "local") if new[key] > old[key]]
    if new["resident warps"] < old["resident warps"]:
        of = ", ".join(f"{key} {old[key]} -> {new[key]}" for key in ("registers", "shared") if new[key] != old[key])
        found.append(f"resident warps {old['resident warps']} -> {new['resident warps']} ({of})")
    for kind in ("LDG", "STG"):
        wide, narrow = f"{kind}.128", f"{kind}, narrower"
        if new[wide] < old[wide] and (new[wide] == 0 or new[narrow] > old[narrow]):
            found.append(f"16-byte {kind} {old[wide]} -> {new[wide]} (narrower ones {old[narrow]} -> {new[narrow]})")
    if any(unit in old for unit in TENSOR) and not any(unit in new for unit in TENSOR):
        found.append("no products on tensor cores any more")
    return found


def read(table: Path) -> dict[str, Row]:
    rows: dict[str, Row] = json.loads(table.read_text())["rows"]
    return rows


def explained(table: Path, rows: dict[str, Row]) -> None:
    """AssertionError, by name, for each row that is worse than in the table or missing there."""
    old = read(table)
    lost = {name: worse(row, old[name]) if name in old else ["not in the table"] for name, row in rows.items()}
    text = "\n".join(f"{name}: {'; '.join(found)}" for name, found in lost.items() if found)
    assert not text, f"{text}\n(if that is meant: python benchmarks/compile_table.py writes the tables anew; commit {table.name} and .md)"
