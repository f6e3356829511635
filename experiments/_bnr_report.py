"""From the cells of a sweep to tables with means and standard errors over seeds; everything here is a function of the JSON files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Value = Callable[[dict[str, Any]], float | None]
# A number of a cell's main quality: its name, heading, and whether more is better.
MEASURES = {
    "FD-pixels": ("FD-pixels", False), "KID-pixels": ("KID-pixels x 1000", False), "FD-classifier": ("FD-classifier", False),
    "KID-classifier": ("KID-classifier", False), "accuracy": ("accuracy", True), "confident": ("confident", True),
    "precision": ("precision", True), "recall": ("recall", True), "classes found": ("classes found", True),
    "class distance": ("class distance", False),
}  # fmt: skip
COVERAGE = ("classes found", "class distance")  # of the samples without class


@dataclass(frozen=True)
class Spread:
    """Mean and standard error of a number over seeds; no error for fewer than two."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def error(self) -> float:
        n = len(self.values)
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (n - 1) / n) if n > 1 else math.nan

    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean by Student's t, for normally distributed values."""
        from scipy.stats import t  # type: ignore[import-untyped]

        half = float(t.ppf(0.975, len(self.values) - 1)) * self.error if len(self.values) > 1 else math.inf
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        """``mean ± error`` to two digits of the error."""
        if not self.error > 0:
            return f"{self.mean:.3g}" if self.error == 0 else f"{self.mean:.3g} ± ?"
        places = min(max(1 - math.floor(math.log10(self.error)), 0), 6)
        return f"{self.mean:.{places}f} ± {self.error:.{places}f}"


@dataclass(frozen=True)
class Results:
    """The finished cells of a sweep's folder."""

    folder: Path
    about: dict[str, Any]
    cells: dict[float, dict[int, dict[str, Any]]]  # by ratio and seed

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Raises:
        ValueError: there is no sweep, or no cell of it is done.
        """
        if not (folder / "sweep.json").exists():
            raise ValueError(f"--out must be the folder of a sweep, got {folder}: no sweep.json in it")
        cells: dict[float, dict[int, dict[str, Any]]] = {}
        found = [json.loads(path.read_text()) for path in (folder / "cells").glob("bnr*.json")]
        for cell in sorted(found, key=lambda cell: (cell["bnr"], cell["seed"])):
            cells.setdefault(cell["bnr"], {})[cell["seed"]] = cell
        if not cells:
            raise ValueError(f"--out must hold finished cells, got {folder} with none")
        return cls(folder, json.loads((folder / "sweep.json").read_text()), cells)

    @property
    def main(self) -> str:
        return str(self.about["sweep"]["main_steps"])

    @cached_property
    def measures(self) -> list[str]:
        """Those that these cells have: without classes there is no classifier."""
        first = next(iter(next(iter(self.cells.values())).values()))
        return [name for name in MEASURES if self.value(name)(first) is not None]

    @property
    def distances(self) -> list[str]:
        return [name for name in self.measures if name.startswith("FD")]

    def value(self, name: str, steps: str | None = None) -> Value:
        """A function from a cell to one of the numbers of MEASURES."""
        if name in COVERAGE:
            return lambda cell: cell.get("without class", {}).get(name)
        return lambda cell: cell["quality"][steps or self.main].get(name)

    def spread(self, bnr: float, value: Value) -> Spread:
        return Spread(tuple(float(v) for v in map(value, self.cells[bnr].values()) if v is not None))

    def floor(self, name: str) -> Spread:
        """What other real images score; accuracy and confidence: what the classifier says of held-out images."""
        return Spread(tuple(float(found[name]) for found in self.about["floor"]["sets"] if name in found))

    def difference(self, bnr: float, value: Value, base: float = 0.0) -> Spread:
        """Differences from another ratio, seed by seed: both have the same initial weights, order of images, noise and starting points."""
        common = [seed for seed in self.cells[bnr] if seed in self.cells.get(base, {})]
        pairs = [(value(self.cells[bnr][seed]), value(self.cells[base][seed])) for seed in common]
        return Spread(tuple(a - b for a, b in pairs if a is not None and b is not None))

    def slope(self, value: Value, highest: float = 1.0) -> Spread:
        """By how much a number rises per unit of BNR from 0 to ``highest``, by least squares for each seed that has all these ratios."""
        bnrs = [bnr for bnr in self.cells if bnr <= highest]
        common = [seed for seed in self.cells[bnrs[0]] if all(seed in self.cells[bnr] for bnr in bnrs)]
        x = [bnr - math.fsum(bnrs) / len(bnrs) for bnr in bnrs]
        norm = math.fsum(v * v for v in x)
        found = [[value(self.cells[bnr][seed]) for bnr in bnrs] for seed in common] if norm > 0 else []
        return Spread(tuple(math.fsum(a * b for a, b in zip(x, row, strict=True) if b is not None) / norm for row in found))


# ---- tables ----


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def scaled(name: str, spread: Spread) -> Spread:
    return Spread(tuple(1000 * v for v in spread.values)) if name == "KID-pixels" else spread


def quality(results: Results) -> str:
    """Every measure at the main number of steps."""
    names = results.measures
    rows = [[f"{bnr:g}", *(str(scaled(name, results.spread(bnr, results.value(name)))) for name in names)] for bnr in results.cells]
    floors = ["real images", *(str(scaled(name, results.floor(name))) if results.floor(name).values else "" for name in names)]
    return table(["BNR", *(MEASURES[name][0] for name in names)], [*rows, floors])


def with_interval(spread: Spread) -> str:
    """``mean (low to high)``, signed, in bold where the 95 % interval leaves out zero."""
    if len(spread.values) < 2:
        return "?"
    low, high = spread.interval()
    places = min(max(1 - math.floor(math.log10(spread.error)), 0), 6) if spread.error > 0 else 3
    text = f"{spread.mean:+.{places}f} ({low:+.{places}f} to {high:+.{places}f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def differences(results: Results) -> str:
    """Each measure less that at BNR 0; in the last line its slope by least squares over the ratios from 0 to 1, a number for each seed."""
    names = [name for name in results.measures if name in ("FD-pixels", "FD-classifier", "accuracy", "recall", "class distance")]
    rows = [
        [f"{bnr:g}", *(with_interval(results.difference(bnr, results.value(name))) for name in names)] for bnr in results.cells if bnr != 0
    ]
    slopes = [with_interval(results.slope(results.value(name))) for name in names]
    return table(["BNR, less BNR 0", *(MEASURES[name][0] for name in names)], [*rows, ["slope, 0 to 1", *slopes]])


def steps(results: Results) -> str:
    """The Frechet distances against the number of network evaluations."""
    counts = sorted(next(iter(next(iter(results.cells.values())).values()))["quality"], key=int)
    parts = []
    for name in results.distances:
        rows = [[f"{bnr:g}", *(str(results.spread(bnr, results.value(name, count))) for count in counts)] for bnr in results.cells]
        parts.append(table([f"{name}, BNR", *(f"{2 * int(count) - 1} evaluations" for count in counts)], rows))
    return "\n".join(parts)


def levels_of(results: Results) -> list[float]:
    return [row["level"] for row in next(iter(next(iter(results.cells.values())).values()))["states"]]


def state_value(level: int, name: str) -> Value:
    return lambda cell: cell["states"][level][name]


def states(results: Results, name: str) -> str:
    """How far reverse states lie from forward ones, by that of other forward states."""
    levels = levels_of(results)
    rows = [[f"{bnr:g}", *(str(results.spread(bnr, state_value(i, name))) for i in range(len(levels)))] for bnr in results.cells]
    return table(["BNR", *(f"level {level:.2g}" for level in levels)], rows)


def best(results: Results) -> str:
    """For each measure the ratio with the best mean, and the others whose paired difference from it may be zero."""
    rows = []
    for name in results.measures:
        sign = -1 if MEASURES[name][1] else 1
        means = {bnr: results.spread(bnr, results.value(name)).mean for bnr in results.cells}
        top = min(means, key=lambda bnr: sign * means[bnr])
        same = []
        for bnr in means:
            spread = results.difference(bnr, results.value(name), top)
            low, high = spread.interval() if len(spread.values) > 1 else (-math.inf, math.inf)
            if bnr != top and low <= 0 <= high:
                same.append(f"{bnr:g}")
        rows.append([MEASURES[name][0], f"{top:g}", ", ".join(same) or "none"])
    return table(["measure", "best mean at BNR", "not told from it by 95 % intervals"], rows)


def machine(results: Results) -> str:
    about, sweep, floor = results.about["machine"], results.about["sweep"], results.about["floor"]
    seconds = [cell["seconds"] for row in results.cells.values() for cell in row.values() if "seconds" in cell]
    cells = sum(map(len, results.cells.values()))
    seen = next(iter(next(iter(results.cells.values())).values()))["images seen"]
    lines = [
        f"Command: `{about['command']}`, {about['date'][:10]}.",
        f"Machine: {about['gpu'] or about['cpu']}, {about['cores']} cores; Python {about['python']}, torch {about['torch']}.",
        f"Data: {sweep['data']}, {floor['training images']:,} images to train on, {floor['held-out images']:,} held out.",
        f"Cells: {cells}, each trained on {seen:,} images (with repeats), {sweep['samples']:,} samples for each number; "
        f"{sum(seconds) / 60:.0f} process minutes in all.",
    ]
    return "".join(f"- {line}\n" for line in lines)


def spectrum(results: Results) -> str:
    """What the data's spectrum suggests, by what counts as removed: the ratio is proportional to ``sqrt(-ln kept)``."""
    found = results.about["spectrum"]
    rows = []
    for kept in (0.9, 0.5, 0.1):
        factor = math.sqrt(math.log(kept) / math.log(found["kept"]))
        rows.append([f"{1 - kept:.0%}", *(f"{factor * found['spread'][name]:.2f}" for name in ("least", "geometric mean", "most"))])
    head = ["blur removes a frequency when it takes", "BNR suggested", "geometric mean over frequencies", "largest"]
    return f"Fitted slope of the training images' power: {found['fit']['slope']:.2f}.\n\n" + table(head, rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "machine": machine, "quality": quality, "best": best, "differences": differences, "steps": steps,
    "states": lambda results: states(results, "energy"), "nearest": lambda results: states(results, "nearest"),
    "spectrum": spectrum,
}  # fmt: skip


def filled(text: str, tables: dict[str, str]) -> str:
    """A page with the tables of this sweep between its marks, ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

    Raises:
        ValueError: a mark has no end, or the page has no marks at all.
    """
    names = [name for name in re.findall(r"<!-- (\w+) -->", text) if name in tables]
    if not names:
        raise ValueError(f"--report must name a page with marks such as <!-- {next(iter(tables))} -->, got none in it")
    for name in names:
        pattern = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
        parts = pattern.split(text)
        text, count = tables[name].join(parts), len(parts) - 1
        if count != 1:
            raise ValueError(f"--report: the mark <!-- {name} --> must be there once and have an end, got {count} such pairs")
    return text


def report(folder: Path, page: Path | None = None, figures: bool = True) -> list[Path]:
    """Writes tables.md and figures into the folder of a sweep, and the tables into a page; returns what it wrote."""
    results = Results.read(folder)
    tables = {name: make(results) for name, make in TABLES.items()}
    written = [folder / "tables.md"]
    written[0].write_text("\n".join(f"## {name}\n\n{text}" for name, text in tables.items()))
    if page is not None:
        page.write_text(filled(page.read_text(), tables))
        written.append(page)
    if figures:
        from _bnr_figures import draw

        written += draw(results)
    return written
