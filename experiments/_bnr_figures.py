"""The figures of a sweep, on an opaque white ground. Error bars are standard errors over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _bnr_report import MEASURES, Results, levels_of, scaled, state_value
from matplotlib.figure import Figure
from PIL import Image

COLOURS = ("#d73027", "#f46d43", "#d99000", "#66a61e", "#1b9e77", "#2c7fb8", "#253494", "#7a4d9a")  # hot to cold
MARKERS = "os^DvPX*"
SHOWN = {  # measures that are drawn, the first six that there are, with their units
    "FD-pixels": "FD-pixels (pixels in 0..1, squared)", "FD-classifier": "FD-classifier (features, squared)",
    "KID-classifier": "KID-classifier (squared MMD)", "accuracy": "accuracy (share of samples)", "recall": "recall (share of real images)",
    "class distance": "distance of class shares (0 to 1)", "KID-pixels": "KID-pixels x 1000", "precision": "precision (share of samples)",
}  # fmt: skip


def style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.3,
        "capsize": 3,
    }


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=100)
    return path


def log_axis(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 times each power of ten."""

    def plain(value: float, _: int) -> str:
        return f"{value:g}" if f"{value:e}"[0] in "125" else ""

    axis.set_major_formatter(plain)
    axis.set_minor_formatter(plain)
    axis.set_tick_params(which="minor", labelsize=8)


def draw(results: Results) -> list[Path]:
    """quality.png, steps.png, states.png and samples.png in the sweep's folder."""
    return [make(results, results.folder / f"{make.__name__}.png") for make in (quality, steps, states, samples)]


def quality(results: Results, path: Path) -> Path:
    """Each measure against the ratio; a dot for each seed, a dashed line for other real images."""
    names = [name for name in SHOWN if name in results.measures][:6]
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.5 * rows), layout="constrained", facecolor="white")
    places = list(range(len(results.cells)))
    for axes, name in zip(figure.subplots(rows, columns, squeeze=False).flat, names, strict=False):
        spreads = [scaled(name, results.spread(bnr, results.value(name))) for bnr in results.cells]
        for place, spread in zip(places, spreads, strict=True):
            axes.plot([place] * len(spread.values), spread.values, ".", color="#999999", markersize=5)
        errors = np.nan_to_num([spread.error for spread in spreads])
        axes.errorbar(
            places, [spread.mean for spread in spreads], errors, fmt="o-", color="#253494", markersize=5, linewidth=1.3, capsize=3
        )
        if results.floor(name).values:
            axes.axhline(scaled(name, results.floor(name)).mean, color="#d95f02", linestyle="--", linewidth=1.2, label="real images")
            axes.legend(fontsize=8)
        every = [value for spread in spreads for value in spread.values]
        if min(every) > 0 and max(every) > 10 * min(every):
            axes.set_yscale("log")
            log_axis(axes.yaxis)
        axes.set_xticks(places, [f"{bnr:g}" for bnr in results.cells])
        better = "more" if MEASURES[name][1] else "less"
        axes.set(
            xlabel="blur-to-noise ratio (pixels per unit of noise)", ylabel=SHOWN[name], title=f"{MEASURES[name][0]} ({better} is better)"
        )
        axes.grid(alpha=0.3)
    return save(figure, path)


def steps(results: Results, path: Path) -> Path:
    """The Frechet distances against network evaluations, a line for each ratio."""
    figure = Figure(figsize=(5.5 * len(results.distances), 4.2), layout="constrained", facecolor="white")
    counts = sorted(next(iter(next(iter(results.cells.values())).values()))["quality"], key=int)
    evaluations = [2 * int(count) - 1 for count in counts]
    for axes, name in zip(figure.subplots(1, len(results.distances), squeeze=False).flat, results.distances, strict=True):
        for number, bnr in enumerate(results.cells):
            spreads = [results.spread(bnr, results.value(name, count)) for count in counts]
            errors = np.nan_to_num([spread.error for spread in spreads])
            axes.errorbar(evaluations, [spread.mean for spread in spreads], errors, label=f"BNR {bnr:g}", **style(number))
        axes.axhline(results.floor(name).mean, color="black", linestyle="--", linewidth=1, label="real images")
        axes.set(xscale="log", yscale="log", xlabel="network evaluations for each sample (Heun)", ylabel=SHOWN[name], title=name)
        axes.set_xticks(evaluations, [str(count) for count in evaluations])
        axes.set_xticks([], minor=True)
        log_axis(axes.yaxis)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return save(figure, path)


def states(results: Results, path: Path) -> Path:
    """Left: distance of reverse from forward states against the level. Right: variance of reverse states by frequency at one level."""
    levels = levels_of(results)
    figure = Figure(figsize=(12, 4.4), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    chosen = min(range(len(levels)), key=lambda i: abs(np.log(levels[i] / 0.3)))
    for number, bnr in enumerate(results.cells):
        spreads = [results.spread(bnr, state_value(i, "energy")) for i in range(len(levels))]
        errors = np.nan_to_num([spread.error for spread in spreads])
        left.errorbar(levels, [spread.mean for spread in spreads], errors, label=f"BNR {bnr:g}", **style(number))
        rows = np.array([cell["states"][chosen]["variance"] for cell in results.cells[bnr].values()])
        errors = np.nan_to_num(rows.std(0, ddof=1) / len(rows) ** 0.5) if len(rows) > 1 else np.zeros(rows.shape[1])
        right.errorbar(range(rows.shape[1]), rows.mean(0), errors, **style(number))
    left.axhline(1, color="black", linestyle="--", linewidth=1, label="other forward states")
    left.set(
        xscale="log", yscale="log", xlabel="level (standard deviation of the noise)", ylabel="energy distance (forward to forward = 1)"
    )
    left.set_title("Distance of reverse states from forward states")
    left.invert_xaxis()
    left.legend(fontsize=8)
    right.axhline(1, color="black", linestyle="--", linewidth=1)
    right.set(xlabel="spatial frequency (half cycles per image)", ylabel="variance (forward process = 1)")
    right.set_title(f"Variance of reverse states by frequency, level {levels[chosen]:.2g}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    log_axis(left.xaxis)
    log_axis(left.yaxis)
    return save(figure, path)


def samples(results: Results, path: Path) -> Path:
    """Real images, and the same seeds and classes at each ratio."""
    seed = min(min(row) for row in results.cells.values())
    rows = {"real images": results.folder / "cells" / "real.png"}
    rows |= {f"BNR {bnr:g}": results.folder / "cells" / f"bnr{bnr:g}-seed{seed}.png" for bnr in results.cells if seed in results.cells[bnr]}
    figure = Figure(figsize=(11, 0.62 * len(rows) + 0.3), layout="constrained", facecolor="white")
    for axes, (label, file) in zip(figure.subplots(len(rows), 1, squeeze=False).flat, rows.items(), strict=True):
        axes.imshow(np.asarray(Image.open(file).convert("RGB")), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    return save(figure, path)
