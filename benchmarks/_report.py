"""Results as a table for people, Markdown for pages and JSON for charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _timing import Timing, ratio

Row = dict[str, Any]
COPY = "torch.clone"


def rows_of_case(
    timings: dict[str, Timing],
    kinds: dict[str, str],
    variants: dict[str, str],
    errors: dict[str, float | None],
    moved: dict[str, int],
    pixels: int,
) -> list[Row]:
    """One row per contestant, fastest first; ``moved`` is the bytes that the task makes each one read and write."""
    copy = timings.get(COPY)
    rivals = [name for name in timings if kinds[name] == "rival"]
    best = min(rivals, key=lambda name: timings[name].median) if rivals else None
    rows = []
    for name in sorted(timings, key=lambda name: timings[name].median):
        timing = timings[name]
        row: Row = {
            "contestant": name,
            "kind": kinds[name],
            "variant": variants[name],
            "median ms": timing.median * 1e3,
            "p20 ms": timing.p20 * 1e3,
            "p80 ms": timing.p80 * 1e3,
            "rounds": len(timing.seconds),
            "ns per pixel": timing.median * 1e9 / pixels,
            "times faster than best rival": ratio(timings[best], timing) if best else None,
            "best rival": best,
            "bytes": moved[name],
            "GB per s": moved[name] / timing.median / 1e9,
            "share of copy bandwidth": ratio(copy, timing) * moved[name] / moved[COPY] if copy else None,
            "relative error": errors[name],
        }
        rows.append(row)
    return rows


def losses(rows: list[Row]) -> list[str]:
    """Where warmops is slower than the best rival, said as plainly as the wins."""
    speeds = [(row, row["times faster than best rival"]) for row in rows if row["kind"] == "ours"]
    return [
        f"{row['contestant']} takes {1.0 / speed:.2f}x the time of {row['best rival']}"
        for row, speed in speeds
        if speed is not None and speed < 1.0
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def case_cells(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["", "kind", "ms", "p20..p80", "ns/pixel", "vs best rival", "MB moved", "copy bw", "rel. error", "variant"]
    cells = [
        [
            row["contestant"],
            row["kind"],
            f"{row['median ms']:.2f}",
            f"{row['p20 ms']:.2f}..{row['p80 ms']:.2f}",
            f"{row['ns per pixel']:.3f}",
            _number(row["times faster than best rival"], ".2f") + ("x" if row["times faster than best rival"] else ""),
            f"{row['bytes'] / 1e6:.1f}",
            _number(row["share of copy bandwidth"], ".0%"),
            _number(row["relative error"], ".1e"),
            row["variant"],
        ]
        for row in rows
    ]
    return header, cells


def self_cells(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["", "ms", "p20..p80", "ns/pixel", "time against plain"]
    cells = []
    for row in record["rows"]:
        spread = f"{row['p20 ms']:.2f}..{row['p80 ms']:.2f}"
        cells.append([row["call"], f"{row['median ms']:.2f}", spread, f"{row['ns per pixel']:.3f}", f"{row['time against plain']:.2f}x"])
    return header, cells


def plain_table(header: list[str], cells: list[list[str]]) -> str:
    """Columns aligned: first and last to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    left = {0, 1, len(header) - 1} if "variant" in header else {0}
    lines = []
    for line in [header, *cells]:
        parts = [text.ljust(width) if i in left else text.rjust(width) for i, (text, width) in enumerate(zip(line, widths, strict=True))]
        lines.append("  " + "  ".join(parts).rstrip())
    lines.insert(1, "  " + "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def markdown_table(header: list[str], cells: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *cells])


def case_title(case: dict[str, Any]) -> str:
    return f"{case['shape']} {case['dtype']}, {case['batch MB']:.1f} MB"


def summary(cases: list[dict[str, Any]]) -> str:
    lines = []
    for case in cases:
        lines += [f"{case_title(case)}: {text}" for text in case["slower than the best rival"]]
    return "slower than the best rival: " + ("; ".join(lines) if lines else "none")


def document(results: dict[str, Any], chart: str | None) -> str:
    """The whole report in Markdown."""
    parts = head(results, chart)
    for case in results["cases"]:
        parts += [f"## {case_title(case)}", markdown_table(*case_cells(case["rows"]))]
        parts += [f"Not measured: {text}." for text in case["not measured"]]
    parts.append(f"**{summary(results['cases'])}**")
    for record in results["warmops against itself"]:
        parts += [f"## warmops against itself, {record['shape']} float32", markdown_table(*self_cells(record))]
    return "\n\n".join(parts + overhead(results)) + "\n"


def head(results: dict[str, Any], chart: str | None) -> list[str]:
    """What ran where, and the chart."""
    machine = results["machine"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads, {machine['isa'] or machine['backend']}"
    inputs = ". ".join(f"{name.capitalize()}: {text}" for name, text in results["inputs"].items())
    commit = (machine["commit"] or "unknown")[:12] + (", with uncommitted changes" if machine["uncommitted changes"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    parts = [
        f"# {results['benchmark']}: {where}",
        f"{machine['date']}, commit {commit}, load average at the start {machine['load average at the start']}. {versions}.",
        f"`{machine['command']}`. {inputs}. Method: benchmarks/README.md.",
    ]
    if chart:
        parts.append(f"![{results['benchmark']}]({chart})")
    return parts


def overhead(results: dict[str, Any]) -> list[str]:
    call = results["call overhead us"]
    text = f"Eager call on one 1x1x8x8 image, no gradient: {call['median']:.1f} us"
    return [f"{text} (p20..p80 {call['p20']:.1f}..{call['p80']:.1f})."]


def write_json(results: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
