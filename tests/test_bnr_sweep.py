"""experiments/: the sweep over blur-to-noise ratios, its statistics, its report; the committed report is what the committed cells give."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import warmdiff
import warmops

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "experiments"))

import _bnr_cell  # noqa: E402
import _bnr_measures as measures  # noqa: E402
import _bnr_report as reports  # noqa: E402
import bnr_sweep  # noqa: E402

pytestmark = pytest.mark.cpu_only
RESULTS = ROOT / "experiments" / "results" / "cpu"
TINY = dataclasses.replace(
    bnr_sweep.CPU, bnrs=(0.0, 2.0), seeds=(0, 1), samples=24, steps=(2, 3), main_steps=3, levels=(1.0, 0.01), hidden=8, judge_iterations=3,
    train={"device": "cpu", "images": 64, "batch": 16, "network": {"channels": 8}},
)  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was killed in its third cell, and then run again."""
    folder = tmp_path_factory.mktemp("sweep")
    whole, calls = _bnr_cell.measure, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bnr_cell, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            bnr_sweep.work(folder, TINY)
    assert names(folder) == {"bnr0-seed0", "bnr2-seed0"}
    before = {name: (folder / "cells" / f"{name}.json").stat().st_mtime_ns for name in names(folder)}
    with bnr_sweep.claim(folder, "bnr2-seed1") as mine:  # another process is doing that one
        assert mine
        assert bnr_sweep.work(folder, TINY) == 1
    assert bnr_sweep.work(folder, TINY) == 1 and bnr_sweep.work(folder, TINY) == 0
    assert names(folder) == {"bnr0-seed0", "bnr2-seed0", "bnr0-seed1", "bnr2-seed1"}
    assert all((folder / "cells" / f"{name}.json").stat().st_mtime_ns == time for name, time in before.items())
    assert not list((folder / "runs").glob("*"))
    return folder


def names(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "cells").glob("*.json")}


def test_cells(swept: Path) -> None:
    """What a cell holds; a cell that is done again holds the same numbers."""
    path = swept / "cells" / "bnr2-seed1.json"
    cell = json.loads(path.read_text())
    assert (cell["bnr"], cell["seed"], cell["images seen"]) == (2.0, 1, 64)
    assert {steps: row["evaluations"] for steps, row in cell["quality"].items()} == {"2": 3, "3": 5}
    for row in cell["quality"].values():
        assert row["FD-pixels"] > 0 and row["FD-classifier"] > 0 and 0 <= row["accuracy"] <= 1 and 0 <= row["recall"] <= 1
    assert 1 <= cell["without class"]["classes found"] <= 10 and 0 <= cell["without class"]["class distance"] <= 1
    betas = warmdiff.BlurNoiseProcess(2.0).betas(3)[1:-1].tolist()
    assert [row["level"] for row in cell["states"]] == betas and all(row["energy"] > 0 for row in cell["states"])
    assert Image.open(path.with_suffix(".png")).size == (20 * 9 + 1, 10)
    path.unlink()
    assert bnr_sweep.work(swept, TINY) == 1
    again = json.loads(path.read_text())
    for timed in ("seconds", "training seconds"):
        assert cell.pop(timed) >= 0 and again.pop(timed) >= 0
    assert cell == again


def test_report(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- quality -->\nold\n<!-- end of quality -->\nafter\n")
    assert bnr_sweep.main(["--out", str(swept), "--report", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- quality -->\n| BNR |") and text.endswith("<!-- end of quality -->\nafter\n") and "old" not in text
    cells = [json.loads((swept / "cells" / f"bnr0-seed{seed}.json").read_text())["quality"]["3"]["FD-pixels"] for seed in (0, 1)]
    mean, error = sum(cells) / 2, abs(cells[0] - cells[1]) / 2
    row = next(line for line in text.splitlines() if line.startswith("| 0 |")).split(" | ")[1].split(" ± ")
    assert float(row[0]) == pytest.approx(mean, abs=error / 10) and float(row[1]) == pytest.approx(error, rel=0.06)
    for name in ("quality", "steps", "states", "samples"):
        picture = np.asarray(Image.open(swept / f"{name}.png").convert("RGB"))
        assert (picture[0, 0] == 255).all() and picture.std() > 10
    page.write_text("no marks")
    assert bnr_sweep.main(["--out", str(swept), "--report", str(page)]) == 1
    assert "<!-- machine -->" in capsys.readouterr().err and page.read_text() == "no marks"


def test_refusals(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings of another sweep, folders without one, impossible sizes: said so, nothing changed."""
    for words, message in (
        (["--out", str(swept), "--jobs", "1"], "samples is 24, here it is 596"),
        (["--out", str(tmp_path), "--report"], "no sweep.json"),
        (["--out", str(tmp_path / "new"), "--samples", "597", "--jobs", "1"], "samples must be 2 to 596"),
        (["--out", str(tmp_path / "new"), "--data", "nowhere", "--jobs", "1"], "neither a path"),
    ):
        assert bnr_sweep.main(words) == 1
        assert message in capsys.readouterr().err
    for wrong in ({"steps": (5,)}, {"seeds": ()}, {"held_out": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
            dataclasses.replace(TINY, **wrong)
    assert len(names(swept)) == 4


def test_without_classes(tmp_path: Path) -> None:
    """Images without labels, in colour, padded: everything but the classifier."""
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (90, 6, 8, 3), dtype=np.uint8))
    sweep = dataclasses.replace(TINY, data=str(tmp_path / "x.npz"), pad=8, bnrs=(0.5,), seeds=(0, 1))
    assert bnr_sweep.work(tmp_path / "out", sweep) == 2
    cell = json.loads((tmp_path / "out" / "cells" / "bnr0.5-seed0.json").read_text())
    assert set(cell["quality"]["3"]) == {"evaluations", "FD-pixels", "KID-pixels", "precision", "recall"} and "without class" not in cell
    assert Image.open(tmp_path / "out" / "cells" / "real.png").size == (20 * 9 + 1, 10)
    assert len(reports.report(tmp_path / "out", figures=False)) == 1


# ---- statistics ----


def test_distances(rng: torch.Generator) -> None:
    """Against sums over pairs by NumPy."""
    x, y = (torch.randn(n, 5, generator=rng, dtype=torch.float64) + shift for n, shift in ((30, 0.0), (40, 0.5)))

    def pairs(a: Any, b: Any) -> Any:
        return np.linalg.norm(a.numpy()[:, None] - b.numpy()[None], axis=2)

    energy = 2 * pairs(x, y).mean() - pairs(x, x).mean() - pairs(y, y).mean()
    assert measures.energy_distance(x, y) == pytest.approx(energy, rel=1e-5)
    assert measures.nearest(x, y) == pytest.approx(pairs(x, y).min(1).mean(), rel=1e-5)
    assert measures.energy_distance(x, x) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("bnr", [0.0, 0.5, 10.0])
def test_states(bnr: float, rng: torch.Generator) -> None:
    """Forward states are white after `whiten`, as far as others are; states with too little noise are far."""
    process = warmdiff.BlurNoiseProcess(bnr)
    k = torch.hypot(torch.arange(6.0)[:, None], torch.arange(8.0)).double()
    spectrum = warmdiff.DataSpectrum((1 / (1 + k**2))[None], torch.full((1, 6, 8), 0.1, dtype=torch.float64), 1)

    def forward(beta: float, noise: float = 1.0) -> torch.Tensor:
        modes = spectrum.mean + spectrum.variance.sqrt() * torch.randn(800, 1, 6, 8, generator=rng, dtype=torch.float64)
        modes = process.multipliers(beta, (6, 8)) * modes + noise * beta * torch.randn(modes.shape, generator=rng, dtype=torch.float64)
        return warmops.idct2(modes, norm="ortho")

    for beta in (0.1, 1.0):
        sets = [forward(beta) for _ in range(5)]
        white = measures.whiten(sets[0], process, beta, spectrum)
        assert white.mean(0).abs().max() < 6 / math.sqrt(800) and (white.var(0) - 1).abs().max() < 6.5 * math.sqrt(2 / 800)
        same = measures.compare_states(sets[0], sets[1], sets[2:], process, beta, spectrum)
        assert 0.3 < same["energy"] < 3 and 0.95 < same["nearest"] < 1.05
        assert len(same["variance"]) == int(measures.rings((6, 8)).max()) + 1 and measures.rings((6, 8))[0, 1] == 1
        assert all(abs(v - 1) < 0.35 for v in same["variance"] + same["variance forward"])
        far = measures.compare_states(forward(beta, 0.5), sets[1], sets[2:], process, beta, spectrum)
        assert far["variance"][-1] < 0.85 and (far["energy"] > 6 or beta < 1)  # at .1 most modes hold more signal than noise


def test_judge() -> None:
    """Accuracy and coverage of images whose classes are known."""
    data = _bnr_cell.Data.of(dataclasses.replace(bnr_sweep.CPU, judge_iterations=60))
    for number in (0, 1):
        chosen = {row.tobytes(): int(label) for row, label in zip(data.train.numpy(), data.train_labels, strict=True)}
        assert np.bincount([chosen[row.tobytes()] for row in data.others(number).numpy()]).tolist() == torch.bincount(data.asked).tolist()
    judge, real, labels = data.judge, data.real, data.real_labels
    assert judge is not None and labels is not None and (len(data.train), len(real)) == (1201, 596)
    assert judge.asked(real, labels)["accuracy"] > 0.9 and judge.asked(real, (labels + 1) % 10)["accuracy"] < 0.05
    assert judge.coverage(real, real) == {"classes found": 10, "class distance": 0.0}
    zeros = judge.coverage(real[labels == 0], real)
    assert zeros["classes found"] <= 4 and zeros["class distance"] > 0.8
    assert judge.features(real[:3]).shape == (3, 64)


def test_spread() -> None:
    spread = reports.Spread((1.0, 2.0, 4.5))
    assert spread.error == pytest.approx(np.std([1, 2, 4.5], ddof=1) / math.sqrt(3)) and str(spread) == "2.5 ± 1.0"
    low, high = spread.interval()
    assert (high - low) / 2 == pytest.approx(4.302653 * spread.error, rel=1e-6)  # Student's t, two degrees of freedom
    assert str(reports.Spread((0.5,))) == "0.5 ± ?" and str(reports.Spread((10.0, 10.0))) == "10"

    made = {bnr: {seed: {"y": seed + 2 * bnr * (seed + 1)} for seed in (0, 1)} for bnr in (0.0, 0.3, 1.0, 2.0)}
    results = reports.Results(Path(), {}, made)
    assert results.slope(lambda cell: cell["y"]).values == pytest.approx((2, 4))
    assert results.difference(0.3, lambda cell: cell["y"]).values == pytest.approx((0.6, 1.2))


# ---- what is committed ----


def test_committed_report() -> None:
    """docs/report.md holds the tables that the committed cells give, of every ratio and at least three seeds."""
    results = reports.Results.read(RESULTS)
    assert tuple(results.cells) == bnr_sweep.CPU.bnrs and all(len(row) >= 3 for row in results.cells.values())
    page = (ROOT / "docs" / "report.md").read_text()
    tables = {name: make(results) for name, make in reports.TABLES.items()}
    assert all(f"<!-- {name} -->" in page for name in tables)
    assert reports.filled(page, tables) == page


def test_links() -> None:
    for name in ("report.md", "tour.md"):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / "docs" / name).read_text()):
            assert (ROOT / "docs" / target).exists(), f"{name}: {target}"
