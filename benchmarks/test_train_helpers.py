"""bench_train.py: both forms of the forward process blur alike, a wrong one is found, and the whole command runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _timing
import bench_train
import pytest
import torch
from torch import Tensor

from warmdiff import loss as loss_module
from warmdiff.config import TrainConfig


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Presets choose their number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_wrong_form_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def dimmed(*args: Any, **words: Any) -> tuple[Tensor, Tensor]:
        noisy, blurred = bench_train.PlainForward(args[0])(*args, **words)
        return noisy, 0.999 * blurred

    monkeypatch.setattr(bench_train, "forms", lambda x, quick: iter([("dimmed", "rival", dimmed)]))
    images = torch.randint(0, 256, (4, 1, 8, 9), dtype=torch.uint8)
    contest = bench_train.forward_contest(TrainConfig(), images, True, _timing.CpuClock())
    assert not contest.entries and contest.absent == ["dimmed: the blurred images are off by 1.0e-03"]


def test_a_step_runs_its_own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: Any, **words: Any) -> tuple[Tensor, Tensor]:
        calls.append(args[0].shape)
        return bench_train.PlainForward(args[0])(*args, **words)

    monkeypatch.setattr(bench_train, "forms", lambda x, quick: iter([("counted", "rival", counted)]))
    before = loss_module.warmops
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    contest = bench_train.step_contest(TrainConfig(batch=4, conditional=False), images, True, _timing.CpuClock())
    assert list(contest.entries) == ["counted"] and set(calls) == {(4, 1, 8, 8)} and loss_module.warmops is before


def test_the_command(tmp_path: Path) -> None:
    results = bench_train.main(["--quick", "--rounds", "2", "--batch", "4", "--out", str(tmp_path)])
    assert [case["part"] for case in results["cases"]] == ["forward process", "training step"]
    for case in results["cases"]:
        assert [row["contestant"] for row in sorted(case["rows"], key=lambda row: row["kind"])] == ["warmops", "plain PyTorch"]
        assert all(row["images per second"] > 0 for row in case["rows"])
    shares = {row["contestant"]: row["forward process, percent"] for row in results["cases"][1]["rows"]}
    assert all(0 < share < 100 for share in shares.values())
    written = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(written) == {".json", ".md", ".png"}
    assert json.loads(written[".json"].read_text())["benchmark"] == "train"
    assert "training step, tiny 4x1x8x8" in written[".md"].read_text()


def test_bad_options() -> None:
    for options in (["--presets", "huge"], ["--batch", "0"], ["--rounds", "0"], ["--threads", "-1"]):
        with pytest.raises(SystemExit):
            bench_train.arguments(options)
