"""What the compilers make of every GPU kernel, without a GPU: registers, spills, shared memory, occupancy, instructions.

    python benchmarks/compile_table.py                    # compile everything, write results/compile/ (some minutes)
    python benchmarks/compile_table.py --check            # compile everything, compare with the committed tables
    python benchmarks/compile_table.py --only sm90 fused  # rows whose names hold all of these words; the others stay
    python benchmarks/compile_table.py --help

Every form of every Triton kernel at the sizes, data types and chips of tests/_triton_launches.py, and every kernel of csrc/cuda.
The tests compile some of these each time and fail, by name, where a kernel has become worse than its row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import _compile_tables as tables
import _machine

Rows = dict[str, tables.Row]
LEGEND = """\
Numbers of the code as it stands: an instruction in a loop counts once. `warps`: of a block. `resident`: the most warps of a
multiprocessor (of 64) that registers and static shared memory allow. `16 B`: loads and stores of 16 bytes a lane, and `others`.
`tensor`: products on tensor cores (HMMA, DMMA, HGMMA, UTCHMMA). `spills`: bytes of stack and instructions on local memory; for
`normal_kernel<double>` that is the slow path of the library's sine, which no angle there takes."""


def triton_rows(wanted: Callable[[str], bool], processes: int) -> Rows:
    """A row of each launch that the Triton backend makes."""
    from _triton_launches import compile_all, every_launch

    launches = {launch: name for launch, name in every_launch().items() if wanted(name)}
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as cache:
        for (launch, name), code in zip(launches.items(), compile_all(launches, cache, processes), strict=True):
            if isinstance(code, str):
                raise SystemExit(f"{name} does not compile: {code}")
            rows[name] = code.row(launch.capability)
            print(f"  {len(rows)}/{len(launches)} {name}", file=sys.stderr)
    return rows


def cuda_rows(wanted: Callable[[str], bool]) -> Rows:
    """A row of each kernel in csrc/cuda. Shared memory of the transforms is asked for at each launch and not in it."""
    import _cuda_cubins

    compiler = _cuda_cubins.nvcc()
    assert compiler is not None
    rows: Rows = {}
    for source, (run, fatbin) in _cuda_cubins.compile_all(compiler).items():
        if run.returncode:
            raise SystemExit(f"{source.name} does not compile:\n{run.stderr}")
        for chip in _cuda_cubins.CHIPS if "Compiling entry function" in run.stderr else ():
            rows |= {name: row for name, row in _cuda_cubins.rows(fatbin, chip).items() if wanted(name)}
    return dict(sorted(rows.items(), key=lambda item: int(item[0].rpartition("-sm")[2])))


def document(title: str, rows: Rows) -> str:
    """The table in Markdown, a section per chip."""
    header = ["kernel", "registers", "spills", "shared", "warps", "resident", "LDG 16 B (others)", "STG 16 B (others)", "tensor",
              "FFMA", "FADD + FMUL", "integer", "MUFU", "SHFL", "BAR", "LDS + STS", "all"]  # fmt: skip
    parts = [f"# {title}", "Written by `python benchmarks/compile_table.py`; the numbers are in the `.json` beside it.", LEGEND]
    for chip in sorted({name.rpartition("-sm")[2] for name in rows}, key=int):
        lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
        for name, r in rows.items():
            if name.rpartition("-sm")[2] != chip:
                continue

            def n(*keys: str, r: tables.Row = r) -> int:
                return sum(r.get(key, 0) for key in keys)

            cells = [name.rpartition("-sm")[0], n("registers"), n("stack", "local"), n("shared"), n("warps"), n("resident warps")]
            cells += [f"{r['LDG.128']} ({r['LDG, narrower']})", f"{r['STG.128']} ({r['STG, narrower']})", n(*tables.TENSOR)]
            cells += [n("FFMA"), n("FADD", "FMUL"), n("IMAD", "LOP3"), n("MUFU"), n("SHFL"), n("BAR"), n("LDS", "STS", "LDSM")]
            lines.append("| " + " | ".join(map(str, [*cells, n("instructions")])) + " |")
        parts += [f"## sm_{chip}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def write(table: Path, title: str, rows: Rows) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    about = f'"compiler": {json.dumps(title)},\n "commit": {json.dumps(_machine.commit())}'
    table.write_text(f'{{{about},\n "rows": {{\n{lines}\n}}}}\n')
    table.with_suffix(".md").write_text(document(title, rows))
    print(f"written: {table} and .md ({len(rows)} kernels)")


def difference(table: Path, new: Rows, whole: bool) -> list[str]:
    """A line for each row that is not as in the table: what is worse, or just other."""
    if not table.exists():
        return [f"{table} is not there"]
    old, lines = tables.read(table), []
    for name in [*new, *(old.keys() - new.keys() if whole else ())]:
        if name not in new or name not in old:
            lines.append(f"{name}: {'not in the table' if name in new else 'in the table alone'}")
        elif new[name] != old[name]:
            changed = {k: (old[name].get(k, 0), new[name].get(k, 0)) for k in {**old[name], **new[name]}}
            text = ", ".join(f"{key} {a} -> {b}" for key, (a, b) in changed.items() if a != b)
            lines.append(f"{name}: {'WORSE: ' if tables.worse(new[name], old[name]) else ''}{text}")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a row differs from the committed one")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="rows whose names hold all of these")
    parser.add_argument("--compiler", choices=["triton", "nvcc", "all"], default="all", help="whose kernels (default: all)")
    parser.add_argument("--processes", type=int, default=_machine.cores(), help="for Triton's compiler (default: one for each core)")
    options = parser.parse_args(argv)

    def wanted(name: str) -> bool:
        return all(word in name for word in options.only)

    made: list[tuple[Path, str, Rows]] = []
    if options.compiler != "nvcc":
        table = tables.TRITON
        made.append((table, f"Triton {table.stem.removeprefix('triton-')}", triton_rows(wanted, options.processes)))
    if options.compiler != "triton":
        import _cuda_cubins

        if _cuda_cubins.nvcc() is None:
            parser.error("nvcc is not installed (--compiler triton leaves the CUDA kernels out)")
        version = _cuda_cubins.nvcc_version()
        made.append((tables.cuda_table(version), f"nvcc {version}", cuda_rows(wanted)))
    if not any(rows for _, _, rows in made):
        parser.error(f"--only {' '.join(options.only)}: no kernel has such a name")
    if options.check:
        lines = [line for table, _, rows in made for line in difference(table, rows, not options.only)]
        print("\n".join(lines) or f"all {sum(len(rows) for _, _, rows in made)} rows are as committed")
        return int(bool(lines))
    for table, title, rows in made:
        kept = tables.read(table) if options.only and table.exists() else {}
        if rows:
            write(table, title, {**kept, **rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
