"""The summary of a run of run_gpu.py: steps, goals and the numbers behind them, from the files that the steps left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _report import markdown_table

Goal = dict[str, Any]


def _read(path: Path) -> Any:
    """The content of a JSON file, None where the step did not get so far."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _one(out: Path, step: str, pattern: str) -> Any:
    paths = sorted((out / step).glob(pattern))
    return _read(paths[0]) if paths else None


def goal(name: str, got: float, limit: float, at_least: bool = False) -> Goal:
    good = got >= limit if at_least else got <= limit
    return {"goal": name, "got": got, "limit": limit, "at least": at_least, "reached": bool(good)}


def goals(out: Path) -> Iterator[Goal]:
    """The goals for an H200 that these results speak to."""
    bars = {"float32": (1.3, 2.2), "bfloat16": (1.25, 1.5)}
    for row in (_one(out, "roofline", "roofline_*.json") or {}).get("rows", []):
        n, dtype = row["n"], row["dtype"]
        if "measured us" not in row:
            continue
        if row["op"] == "blur_noise" and dtype in bars and n <= 128:
            yield goal(f"blur_noise, n = {n}, {dtype}: time / clone", row["measured / clone"], bars[dtype][n > 64])
        if row["op"] == "step euler" and n <= 64:
            yield goal(f"sampler_step, n = {n}, {dtype}: time / its bytes at clone's rate", row["measured us"] / row["memory us"], 1.3)
    results = [_read(path) or {} for path in sorted(out.glob("forward*/forward_*.json"))]
    for case in (case for result in results for case in result.get("cases", [])):
        times = {row["contestant"]: row["median ms"] for row in case["rows"]}
        ours = times.get("warmops")
        if ours is None:
            continue
        compiled = [value for name, value in times.items() if "compiled" in name and "torch-dct" not in name]
        if compiled:
            yield goal(f"{case['shape']} {case['dtype']}: against compiled PyTorch", min(compiled) / ours, 3.0, at_least=True)
        for name, value in times.items():
            if ("torch-dct" in name or "IHDM" in name) and "compiled" not in name:
                yield goal(f"{case['shape']} {case['dtype']}: against {name}", value / ours, 20.0, at_least=True)
    graphs = _one(out, "graphs", "graphs.json") or {}
    if "graph / plain" in graphs:
        yield goal("18 steps of Heun, CUDA graph: against plain PyTorch", graphs["graph / plain"], 3.0, at_least=True)
    rows = (_one(out, "accuracy", "accuracy.json") or {}).get("rows", [])
    for op in dict.fromkeys(row["op"] for row in rows):
        worst = max((row for row in rows if row["op"] == op), key=lambda row: row["error"] / row["bar"])
        yield goal(f"{op}: error against float64 ({worst['shape']} {worst['dtype']} is the worst)", worst["error"], worst["bar"])


def limit_of(g: Goal) -> str:
    return f"{'>=' if g['at least'] else '<='} {g['limit']:.3g}"


def document(out: Path, records: list[Goal], seconds: float) -> str:
    machine, found = _read(out / "machine.json") or {}, list(goals(out))
    versions = machine.get("versions", {})
    software = ", ".join(f"{name} {version}" for name, version in versions.items() if name in ("python", "torch", "triton"))
    where = f"{machine.get('gpu', 'unknown GPU')}, {software}"
    bad = [record for record in records if record["status"] not in ("passed", "left out")]
    missed = [g for g in found if not g["reached"]]
    steps_said = f"{len(records) - len(bad)} of {len(records)} steps without failure"
    said = f"**{steps_said}, {len(found) - len(missed)} of {len(found)} goals reached, {seconds:.0f} s.**"
    parts = ["# GPU run", f"{where}; commit {machine.get('commit')}, {machine.get('date')}", said]
    lines = [[r["step"], r["status"], f"{r['seconds']:.0f}", r["detail"].replace("|", "/")] for r in records]
    parts += ["## Steps", markdown_table(["step", "status", "s", "detail"], lines)]
    if found:
        order = sorted(found, key=lambda g: g["reached"])
        rows = [[g["goal"], f"{g['got']:.3g}", limit_of(g), "yes" if g["reached"] else "NO"] for g in order]
        parts += ["## Goals", markdown_table(["goal", "got", "limit", "reached"], rows)]
    tests = _one(out, "tests", "tests.json")
    if tests:
        rows = [[t["file"], str(t["passed"]), str(t["failed"]), str(t["skipped"]), "" if t["finished"] else "not finished"] for t in tests]
        parts += ["## Tests", markdown_table(["file", "passed", "failed", "skipped", ""], rows)]
        parts += ["\n".join(f"- {name}" for t in tests for name in t["which failed"])]
    parts.append("Each step's folder holds its log and tables.")
    return "\n\n".join(part for part in parts if part) + "\n"


def write(out: Path, records: list[Goal], seconds: float) -> None:
    (out / "summary.md").write_text(document(out, records, seconds))
    content = {"steps": records, "goals": list(goals(out)), "seconds": round(seconds, 1)}
    (out / "summary.json").write_text(json.dumps(content, indent=1) + "\n")
