"""compile_table.py: what counts as worse, what is written and read back, and the one command on a few kernels."""

from __future__ import annotations

import json
from pathlib import Path

import compile_table
import pytest

tables = compile_table.tables
ROW = {"registers": 128, "stack": 0, "local": 0, "shared": 4096, "warps": 2, "resident warps": 16, "instructions": 900, "LDG.128": 8,
       "LDG, narrower": 2, "STG.128": 4, "STG, narrower": 0, "HMMA": 18, "FFMA": 100, "MUFU": 5}  # fmt: skip
# The library's sine of a double, whose slow path no angle of ours takes.
KNOWN = {f"normal_kernel<double, {form}>-sm{chip}" for form in ("wide", "general") for chip in (80, 90, 100)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stack": 16}, "stack 0 -> 16"),
        ({"local": 3}, "local 0 -> 3"),
        ({"registers": 168, "resident warps": 12}, "resident warps 16 -> 12 (registers 128 -> 168)"),
        ({"LDG.128": 6, "LDG, narrower": 10}, "16-byte LDG 8 -> 6"),
        ({"STG.128": 0, "STG, narrower": 16}, "16-byte STG 4 -> 0"),
        ({"STG.128": 0}, "16-byte STG 4 -> 0"),
        ({"HMMA": None}, "no products on tensor cores"),
        ({"HMMA": None, "HGMMA": 4}, ""),
        ({"registers": 130, "instructions": 1000, "FFMA": 200, "LDG.128": 9}, ""),
        ({"LDG.128": 4, "LDG, narrower": 1}, ""),
    ],
)
def test_what_is_worse(change: dict[str, int | None], said: str, tmp_path: Path) -> None:
    new = {key: value for key, value in {**ROW, **change}.items() if value is not None}
    table = tmp_path / "triton-1.json"
    compile_table.write(table, "Triton 1", {"fused-sm90": ROW, "other-sm80": ROW})
    if said:
        with pytest.raises(AssertionError, match=r"^fused-sm90: .*\n\(.*compile_table.py writes"):
            tables.explained(table, {"fused-sm90": new})
    else:
        tables.explained(table, {"fused-sm90": new})
    assert said in "; ".join(tables.worse(new, ROW))
    lines = compile_table.difference(table, {"fused-sm90": new}, whole=True)
    assert lines[0].startswith("fused-sm90: " + "WORSE: " * bool(said)) and lines[1:] == ["other-sm80: in the table alone"]


def test_a_kernel_that_no_table_knows(tmp_path: Path) -> None:
    compile_table.write(tmp_path / "t.json", "nvcc 1", {"a-sm90": ROW})
    with pytest.raises(AssertionError, match=r"b-sm90: not in the table"):
        tables.explained(tmp_path / "t.json", {"a-sm90": ROW, "b-sm90": ROW})
    assert compile_table.difference(tmp_path / "none.json", {"a-sm90": ROW}, whole=False)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One kernel is compiled, written, found unchanged, and found changed."""
    pytest.importorskip("triton")
    table = tmp_path / tables.TRITON.name
    monkeypatch.setattr(tables, "TRITON", table)
    only = ["--compiler", "triton", "--processes", "1", "--only", "normal-float16-sm90"]
    assert compile_table.main(only) == 0
    (row,) = tables.read(table).values()
    assert row["stack"] == row["local"] == 0 and row["STG.128"] > 0 and row["resident warps"] >= 16 and row["instructions"] > 200
    assert "| normal-float16 |" in table.with_suffix(".md").read_text()
    assert compile_table.main([*only, "--check"]) == 0
    content = json.loads(table.read_text())
    content["rows"]["normal-float16-sm90"]["registers"] -= 1
    table.write_text(json.dumps(content))
    assert compile_table.main([*only, "--check"]) == 1
    assert f"registers {row['registers'] - 1} -> {row['registers']}" in capsys.readouterr().out


def test_bad_options() -> None:
    for options in (["--compiler", "gcc"], ["--compiler", "triton", "--only", "no such kernel"]):
        with pytest.raises(SystemExit):
            compile_table.main(options)


@pytest.mark.parametrize("path", sorted(tables.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_committed_tables_hold_no_spills(path: Path) -> None:
    rows = tables.read(path)
    assert {name.rpartition("-sm")[2] for name in rows} == {"80", "90", "100"}
    assert {name for name, row in rows.items() if row["stack"] or row["local"]} <= KNOWN
    title = json.loads(path.read_text())["compiler"]
    assert path.with_suffix(".md").read_text() == compile_table.document(title, rows)
