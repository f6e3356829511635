"""One chart per result file: time per pixel of every contestant at every size. Drawn from the JSON alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _extras import require

# Mid-tone colours with enough contrast on white and on dark pages; the background is transparent.
INK = "#7d8590"
COLOURS = {"ours": "#e8590c", "rival": "#4c8dd6", "bound": "#9775c9", "floor": "#8b949e"}
LABELS = {"ours": "warmops", "rival": "rivals", "bound": "rival given its matrices", "floor": "part of the work only"}


def draw(results: dict[str, Any], path: Path, dtype: str = "float32") -> None:
    """A dot per contestant on a logarithmic axis (line: p20 to p80), one panel per size, fastest on top, numbers written out."""
    matplotlib = require("matplotlib")
    matplotlib.use("Agg")
    plt = require("matplotlib.pyplot")
    cases = [case for case in results["cases"] if case["dtype"] == dtype] or results["cases"]
    columns = min(len(cases), 3)
    lines = -(-len(cases) // columns)
    most = max(len(case["rows"]) for case in cases)
    figure, axes = plt.subplots(lines, columns, figsize=(5.4 * columns, (0.27 * most + 0.9) * lines + 0.9), squeeze=False)
    for axis in axes.flat[len(cases) :]:
        axis.remove()
    for axis, case in zip(axes.flat, cases, strict=False):
        _panel(axis, case)
    machine = results["machine"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    what = f"{results.get('title', 'Blur + noise')}, {cases[0]['dtype']}"
    figure.suptitle(f"{what}, {where}: nanoseconds per pixel (fewer is better)", color=INK, fontsize=12)
    present = {row["kind"] for case in cases for row in case["rows"]}
    handles = [plt.Line2D([], [], marker="o", markersize=8, linestyle="none", color=COLOURS[kind]) for kind in COLOURS if kind in present]
    labels = [LABELS[kind] for kind in COLOURS if kind in present]
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, labelcolor=INK, fontsize=10)
    margin = 0.42 / figure.get_figheight()
    figure.tight_layout(rect=(0, margin, 1, 1 - margin / 2), h_pad=2.0)
    figure.savefig(path, dpi=130, transparent=True, bbox_inches="tight")
    plt.close(figure)


def _panel(axis: Any, case: dict[str, Any]) -> None:
    rows = case["rows"][::-1]
    values = [row["ns per pixel"] for row in rows]
    low, high = (at(row["ns per pixel"] / row["median ms"] * row[end] for row in rows) for at, end in ((min, "p20 ms"), (max, "p80 ms")))
    for position, (row, value) in enumerate(zip(rows, values, strict=True)):
        colour = COLOURS[row["kind"]]
        per_ms = value / row["median ms"]
        axis.plot([row["p20 ms"] * per_ms, row["p80 ms"] * per_ms], [position, position], color=colour, linewidth=2.0, alpha=0.6)
        axis.plot([value], [position], marker="o", markersize=8, color=colour, linestyle="none")
        text = f"{value:.2f}" if value < 10 else f"{value:.1f}"
        if row["kind"] == "ours" and row["times faster than best rival"] is not None:
            text += f"  ({row['times faster than best rival']:.1f}x the best rival)"
        end = max(value, row["p80 ms"] * per_ms)
        place = {"xy": (end, position), "xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(text, **place, fontsize=8.5, color=colour if row["kind"] == "ours" else INK)
    axis.set_xscale("log")
    axis.set_xlim(low / 1.4, high * 2.2)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_yticks(range(len(rows)), [row["contestant"] for row in rows], fontsize=9)
    axis.set_title(case["shape"].replace("x", " x "), color=INK, fontsize=10.5)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.tick_params(which="both", colors=INK, length=0)
    axis.tick_params(axis="x", which="minor", labelbottom=False)
    axis.grid(color=INK, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.patch.set_alpha(0.0)


# Contestants keep their colour and marker from chart to chart; warmops alone is orange.
LINES = {
    "warmops": ("#e8590c", "o"),
    "warmops, AVX2 forced": ("#e8590c", "o"),
    "SciPy pocketfft": ("#4c8dd6", "s"),
    "torch-dct": ("#d6609a", "^"),
    "dctorch": ("#a08c2d", "v"),
    "matrix products": ("#3fa45b", "D"),
    "matrix products, compiled": ("#2aa198", "P"),
    "rfft (Makhoul)": ("#9775c9", "X"),
    "torch.clone": ("#8b949e", None),
}


def draw_sweep(results: dict[str, Any], path: Path, dtype: str = "float32") -> None:
    """Time per value against size, both logarithmic: a line per contestant, a panel per group of cases of one dtype."""
    matplotlib = require("matplotlib")
    matplotlib.use("Agg")
    plt = require("matplotlib.pyplot")
    cases = [case for case in results["cases"] if case["dtype"] == dtype] or results["cases"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        groups.setdefault(case["group"], []).append(case)
    columns = min(len(groups), 2)
    lines = -(-len(groups) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(6.6 * columns, 4.0 * lines + 1.1), squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.remove()
    handles: dict[str, Any] = {}
    for axis, (group, members) in zip(axes.flat, groups.items(), strict=False):
        handles |= _sweep_panel(axis, group, members)
    machine = results["machine"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    figure.suptitle(f"DCT-II, {where}: nanoseconds per value (fewer is better)", color=INK, fontsize=12)
    ordered = {name: handles[name] for name in LINES if name in handles} | handles
    figure.legend(
        ordered.values(), ordered.keys(), loc="lower center", ncols=min(len(ordered), 4), frameon=False, labelcolor=INK, fontsize=9.5
    )
    margin = (0.3 * -(-len(ordered) // 4) + 0.15) / figure.get_figheight()
    figure.tight_layout(rect=(0, margin, 1, 1 - 0.15 / figure.get_figheight()), h_pad=2.0)
    figure.savefig(path, dpi=130, transparent=True, bbox_inches="tight")
    plt.close(figure)


def _sweep_panel(axis: Any, title: str, cases: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = [case["n"] for case in cases]
    names = {row["contestant"] for case in cases for row in case["rows"]}
    handles = {}
    for name in sorted(names, key=lambda name: (name.startswith("warmops"), name)):  # warmops is drawn last, on top
        colour, marker = LINES.get(name, (INK, "."))
        points = [(case["n"], row["ns per pixel"]) for case in cases for row in case["rows"] if row["contestant"] == name]
        ours, forced = name == "warmops", name.endswith("forced")
        style = {"linestyle": "--" if marker is None else ":" if forced else "-", "linewidth": 2.6 if ours else 1.4}
        (handles[name],) = axis.plot(
            *zip(*points, strict=True), color=colour, marker=marker, markersize=7 if ours else 5, alpha=1.0 if ours else 0.85, **style
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    # A size too close to the one before it goes without its number.
    named = [n for before, n in zip([0, *sizes], sizes, strict=False) if n > 1.12 * before]
    axis.set_xticks(sizes, [str(n) if n in named else "" for n in sizes], fontsize=8.5, rotation=45)
    axis.set_xticks([], minor=True)
    axis.set_title(title, color=INK, fontsize=10.5)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.tick_params(which="both", colors=INK, length=0)
    axis.grid(color=INK, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.patch.set_alpha(0.0)
    return handles
