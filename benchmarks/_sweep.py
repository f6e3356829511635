"""Reports of a benchmark over many sizes: one table per group of cases, geometric means, every loss."""

from __future__ import annotations

import statistics
from typing import Any

from _report import COPY, head, losses, markdown_table, overhead

Case = dict[str, Any]


def best(case: Case) -> Case:
    """warmops' own row (the fastest path, not a forced one)."""
    return next(row for row in case["rows"] if row["contestant"] == "warmops")


def groups(cases: list[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case["group"], []).append(case)
    return found


def mean_line(name: str, cases: list[Case]) -> str | None:
    """Geometric mean and worst case of the speed against the best rival of each case."""
    speeds = {case["n"]: best(case)["times faster than best rival"] for case in cases}
    known = {n: speed for n, speed in speeds.items() if speed is not None}
    if not known:
        return None
    worst = min(known, key=lambda n: known[n])
    return f"{name}: {statistics.geometric_mean(known.values()):.2f}x the best rival, worst {known[worst]:.2f}x at n = {worst}"


def means(cases: list[Case], limit: int = 256) -> list[str]:
    """Per group: over the sizes up to ``limit``, and each size beyond."""
    lines = []
    for name, members in groups(cases).items():
        small = [case for case in members if case["n"] <= limit]
        lines.append(mean_line(f"{name}, n <= {limit} ({len(small)} sizes)", small))
        lines += [mean_line(f"{name}, n = {case['n']}", [case]) for case in members if case["n"] > limit]
    return [line for line in lines if line is not None]


def all_losses(cases: list[Case]) -> list[str]:
    return [f"{case['group']}, n = {case['n']}: {text}" for case in cases for text in losses(case["rows"])]


def table(cases: list[Case]) -> tuple[list[str], list[list[str]]]:
    """A line per size, a column per contestant (nanoseconds per value, median)."""
    names: list[str] = []
    for case in cases:
        names += [row["contestant"] for row in case["rows"] if row["contestant"] not in names]
    order = {"ours": 0, "rival": 1, "bound": 2, "floor": 3}
    kind = {row["contestant"]: row["kind"] for case in cases for row in case["rows"]}
    names = sorted(names, key=lambda name: order[kind[name]])
    header = ["n", "batch", *names, "best rival", "warmops is", "p20..p80 us", "copy bw", "rel. error"]
    cells = []
    for case in cases:
        rows = {row["contestant"]: row for row in case["rows"]}
        mine = best(case)
        speed, share = mine["times faster than best rival"], mine["share of copy bandwidth"]
        rival = rows.get(mine["best rival"])
        named = "" if rival is None else rival["contestant"] + (f" ({rival['variant']})" if rival["variant"] else "")
        cells.append(
            [
                str(case["n"]),
                str(case["batch"]),
                *(f"{rows[name]['ns per pixel']:.3f}" if name in rows else "" for name in names),
                named,
                "" if speed is None else f"{speed:.2f}x",
                f"{mine['p20 ms'] * 1e3:.1f}..{mine['p80 ms'] * 1e3:.1f}",
                "" if share is None else f"{share:.0%}",
                f"{mine['relative error']:.1e}",
            ]
        )
    return header, cells


def document(results: dict[str, Any], chart: str | None) -> str:
    """The whole report in Markdown."""
    parts = head(results, chart)
    parts.append("## Geometric means\n\n" + "\n".join(f"- {line}" for line in means(results["cases"])))
    lost = all_losses(results["cases"])
    parts.append("## Slower than the best rival\n\n" + ("\n".join(f"- {line}" for line in lost) if lost else "none"))
    for name, members in groups(results["cases"]).items():
        parts += [f"## {name}: nanoseconds per value", markdown_table(*table(members))]
    absent = sorted({text for case in results["cases"] for text in case["not measured"]})
    parts += [f"Not measured: {text}." for text in absent]
    parts.append(f"{COPY} is a copy, part of the work only; copy bw is warmops' share of its rate, at the same bytes.")
    return "\n\n".join(parts + overhead(results)) + "\n"
