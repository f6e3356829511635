"""bench_dct.py's own logic: every rival is right, a wrong one is found out, means and losses, result files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import _contest
import _dct_rivals
import _sweep
import _timing
import bench_dct
import pytest
import torch


def _rivals(x: torch.Tensor, quick: bool = True) -> list[_contest.Contestant]:
    return [c for c in _dct_rivals.contestants(x, "cpu", "reference", None, quick) if c.kind != "ours"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axes", [1, 2])
def test_every_variant_is_right(axes: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for n in (1, 2, 3, 8, 16, 17, 45):
        x = torch.randn(5, *[n] * axes).to(dtype)
        for contestant in _rivals(x):
            for variant, build in contestant.variants.items():
                _dct_rivals.verify(contestant, variant, build(x), x)


@pytest.mark.parametrize("axes", [1, 2])
def test_compiled_forms_are_right(axes: int) -> None:
    x = torch.randn(3, *[9] * axes)
    (contestant,) = [c for c in _rivals(x, quick=False) if "compiled" in c.name]
    assert len(contestant.variants) == (1 if axes == 1 else len(_dct_rivals.COMPILED_FORMS))
    form = next(iter(contestant.variants.values()))
    _dct_rivals.verify(contestant, "", form(x), x)
    for function in _dct_rivals.COMPILED_FORMS.values() if axes == 2 else ():
        matrix = _dct_rivals.dct_basis(9, x)
        _dct_rivals.verify(contestant, "", lambda x, f=function, c=matrix: f(c, x), x)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y: y * 1.001, "relative error"),
        (lambda y: y.roll(1, -1), "relative error"),
        (lambda y: y.mT, "relative error"),
        (lambda y: y.double(), "torch.float64 instead of"),
        (lambda y: y[:-1], "instead of"),
    ],
)
def test_a_wrong_contestant_is_not_timed(change: Any, reason: str) -> None:
    x = torch.randn(4, 8, 8)
    right = _dct_rivals.rows_then_columns(x)
    broken = _contest.Contestant("broken", "rival", {"": lambda x: lambda x: change(right(x))})
    contest = _contest.prepare([broken], (x,), _dct_rivals.verify, _timing.CpuClock())
    assert not contest.entries and reason in contest.absent[0]


def test_a_wrong_warmops_stops_the_benchmark() -> None:
    broken = _contest.Contestant("warmops", "ours", {"": lambda x: lambda x: 2 * x})
    with pytest.raises(_contest.WrongAnswer):
        _contest.prepare([broken], (torch.randn(4, 8),), _dct_rivals.verify, _timing.CpuClock())


def _case(n: int, speed: float) -> dict[str, Any]:
    shared = {
        "variant": "",
        "best rival": "a",
        "bytes": 8,
        "relative error": 1e-8,
        "share of copy bandwidth": 0.5,
        "p20 ms": 1.0,
        "p80 ms": 2.0,
    }
    rows = [
        {"contestant": "warmops", "kind": "ours", "ns per pixel": 1.0, "times faster than best rival": speed, **shared},
        {"contestant": "a", "kind": "rival", "ns per pixel": speed, "times faster than best rival": 1.0, **shared},
    ]
    return {"group": "float32, two axes", "n": n, "batch": 3, "rows": rows}


def test_means_and_losses() -> None:
    cases = [_case(8, 2.0), _case(256, 0.5), _case(512, 1.5)]
    assert _sweep.means(cases) == [
        f"float32, two axes, n <= 256 (2 sizes): {math.sqrt(2.0 * 0.5):.2f}x the best rival, worst 0.50x at n = 256",
        "float32, two axes, n = 512: 1.50x the best rival, worst 1.50x at n = 512",
    ]
    assert _sweep.all_losses(cases) == ["float32, two axes, n = 256: warmops takes 2.00x the time of a"]
    header, cells = _sweep.table(cases)
    assert all(len(line) == len(header) for line in cells)
    assert cells[1][header.index("warmops is")] == "0.50x"


def test_batches_have_about_as_many_values_at_every_size() -> None:
    options = bench_dct.arguments([])
    for n in bench_dct.SIZES:
        assert bench_dct.batch_of(options, n, 2, False, torch.float32) == 1
        values = bench_dct.batch_of(options, n, 2, True, torch.float32) * n * n
        assert 0.9 * bench_dct.VALUES < values < 1.4 * bench_dct.VALUES
    options.device = "cuda"
    assert bench_dct.batch_of(options, 100, 2, True, torch.float16) * 100 * 100 * 2 >= bench_dct.GPU_BYTES


@pytest.mark.parametrize("arguments", [["--sizes", "0"], ["--sizes", "x"], ["--axes", "3"], ["--rounds", "0"], ["--batches", "two"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_dct.arguments(arguments)
    assert arguments[0].strip("-")[:4] in capsys.readouterr().err


def test_files_of_a_small_run(tmp_path: Path) -> None:
    bench_dct.main(["--quick", "--sizes", "8", "12", "--axes", "1", "2", "--rounds", "2", "--backend", "reference", "--out", str(tmp_path)])
    names = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(names) == {".json", ".md", ".png"} and all(path.name.startswith("dct_") for path in names.values())
    results = json.loads(names[".json"].read_text())
    assert len(results["cases"]) == 8 and results["machine"]["versions"]["torch"] == torch.__version__
    text = names[".md"].read_text()
    assert "## Geometric means" in text and "## Slower than the best rival" in text
    assert text.count("nanoseconds per value") == 4
