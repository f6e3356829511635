"""bench_sampler.py's contestants: every variant is right, wrong ones are found, and the whole command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _step_rivals
import _timing
import bench_sampler
import pytest
import torch
from _contest import Contestant, WrongAnswer, prepare

SHAPE = (3, 2, 6, 10)


def inputs(task: _step_rivals.Task, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    level = 80.0 if task.name == "run" else task.levels[1]
    return (level * torch.randn(SHAPE)).to(dtype), torch.randn(3, 4, 6, 10).to(dtype), torch.randn(SHAPE).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", _step_rivals.TASKS)
def test_everyone_is_right(name: str, dtype: torch.dtype) -> None:
    task = _step_rivals.TASKS[name]
    arguments, verify = inputs(task, dtype), _step_rivals.verifier(task)
    for contestant in _step_rivals.contestants(task, "reference"):
        if contestant.name.endswith("compiled"):
            continue  # checked by each run of the benchmark; compiling takes a minute
        for variant, build in contestant.variants.items():
            error = verify(contestant, variant, build(arguments[0]), *arguments)
            assert (error is None) == (contestant.kind == "floor")


@pytest.mark.parametrize("name", _step_rivals.TASKS)
def test_a_wrong_step_is_found(name: str) -> None:
    task = _step_rivals.TASKS[name]
    arguments = inputs(task)
    right = next(_step_rivals.contestants(task, "reference")).variants[""](arguments[0])

    def wrong(*args: Any) -> Any:
        result = right(*args)
        return (result[0], 1.00001 * result[1]) if isinstance(result, tuple) else 1.00001 * result

    with pytest.raises(WrongAnswer, match="relative error"):
        _step_rivals.verifier(task)(Contestant("wrong", "rival", {}), "", wrong, *arguments)


def test_one_rival_of_a_contest() -> None:
    task = _step_rivals.TASKS["euler"]
    rival = Contestant("plain", "rival", {"": _step_rivals.plain(task, lambda *a: _step_rivals.update(_step_rivals.by_image, *a))})
    contest = prepare([rival], inputs(task), _step_rivals.verifier(task), _timing.CpuClock())
    assert contest.entries["plain"].error < 1e-6 and not contest.absent


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled rival: tables, files and the chart."""
    monkeypatch.setattr(_step_rivals, "compiled", lambda task, modes: _step_rivals.plain(task, lambda *a: _step_rivals.update(modes, *a)))
    options = ["--quick", "--rounds", "2", "--sizes", "2x3x8x8", "--backend", "reference", "--out", str(tmp_path)]
    results = bench_sampler.main(options)
    assert [case["task"] for case in results["cases"]] == ["ddim", "euler", "heun", "run"]
    written = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(written) == {".json", ".md", ".png"}
    assert json.loads(written[".json"].read_text())["benchmark"] == "sampler"
    assert "the first half of Heun's step" in written[".md"].read_text()


def test_bad_options() -> None:
    for options in (["--sizes", "0"], ["--tasks", "rk4"], ["--dtypes", "uint8"], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            bench_sampler.arguments(options)
