"""The benchmark's own logic: clocks, ratios, images, and that a wrong contestant is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _contest
import _images
import _machine
import _ours
import _report
import _rivals
import _timing
import _verify
import bench_forward
import pytest
import torch
from torch import Tensor

import warmops


def test_quantiles_and_ratio() -> None:
    one = _timing.Timing((1.0, 2.0, 4.0, 3.0, 5.0))
    assert (one.median, one.quantile(0.0), one.quantile(1.0), one.p20) == (3.0, 1.0, 5.0, pytest.approx(1.8))
    other = _timing.Timing((2.0, 6.0, 8.0, 3.0, 5.0))
    assert _timing.ratio(other, one) == 2.0  # of 2, 3, 2, 1, 1


def test_interleave_times_every_call_in_every_round() -> None:
    seen: list[str] = []
    calls = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    timings = _timing.interleave(calls, 5, _timing.CpuClock(), inner=3, warmup=2)
    assert all(len(timing.seconds) == 5 for timing in timings.values())
    assert all(seen.count(name) == 2 + 5 * (1 + 3) for name in "abc")
    rounds = [seen[6 + 12 * r : 18 + 12 * r] for r in range(5)]
    assert all(len({turn[i] for i in (0, 4, 8)}) == 3 for turn in rounds)
    assert all(turn[4 * i : 4 * i + 4] == [turn[4 * i]] * 4 for turn in rounds for i in range(3))


def test_interleave_stops_at_its_budget_after_three_rounds() -> None:
    assert len(_timing.interleave({"a": lambda: None}, 50, _timing.CpuClock(), budget=0.0)["a"].seconds) == 3


def test_cuda_clock_reads_events_around_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("synchronize")

        def elapsed_time(self, stop: Event) -> float:
            return 6.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    seconds = _timing.CudaClock().seconds(lambda: log.append("call"), 3)
    assert seconds == pytest.approx(2e-3)
    assert log == ["record", "call", "call", "call", "record", "synchronize"]


def test_fastest_variant() -> None:
    ticks = iter(range(10_000))

    class Clock(_timing.CpuClock):
        def seconds(self, call: Any, calls: int) -> float:
            return call()

    assert _timing.fastest({"slow": lambda: 2 + 0 * next(ticks), "fast": lambda: 1}, Clock()) == "fast"


@pytest.mark.parametrize(
    ("text", "shape"), [("32", (256, 32, 32)), ("45x67", (64, 45, 67)), ("7x3x9x8", (7, 9, 8)), ("1000", (1, 1000, 1000))]
)
def test_parse_shape(text: str, shape: tuple[int, int, int]) -> None:
    assert _images.parse_shape(text) == _images.Shape(*shape)


@pytest.mark.parametrize("text", ["", "x", "0", "3x4x5", "2x4x8x8", "-3", "32,64"])
def test_parse_shape_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="a size must be like"):
        _images.parse_shape(text)


def test_crops_are_real_pixels_and_reproducible() -> None:
    photos = _images.load_photos()
    shape = _images.Shape(5, 45, 67)
    first = _images.crops(photos, shape)
    assert torch.equal(first, _images.crops(photos, shape))
    assert first.shape == (5, 3, 45, 67) and first.float().std() > 10
    patches = photos[0].unfold(1, 45, 1).unfold(2, 67, 1)[0, :, :, 0, :]  # first row of every red crop
    assert any(torch.equal(first[0, 0, 0], row) or torch.equal(first[0, 0, 0].flip(0), row) for row in patches.reshape(-1, 67))


def test_a_batch_larger_than_the_crops_repeats_them() -> None:
    x = _images.batch(_images.load_photos(), _images.Shape(10, 8, 8), torch.float32, "cpu", distinct=4)
    assert x.shape == (10, 3, 8, 8) and torch.equal(x[0], x[8]) and x.abs().max() <= 1.0
    assert _images.enlarged(_images.Shape(4, 8, 8), torch.float16, 2**20).n == -(-(2**20) // 384)


def test_pictures_too_small_are_an_error() -> None:
    with pytest.raises(SystemExit, match="no picture is as large as 4096x4096"):
        _images.crops(_images.load_photos(), _images.Shape(1, 4096, 4096))


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(SystemExit, match="no picture that Pillow can read"):
        _images.load_photos(tmp_path)


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    shape = _images.Shape(16, 24, 20)
    return _images.batch(_images.load_photos(), shape, torch.float32, "cpu"), *_images.levels(shape.n, "cpu")


def _broken(change: Any) -> _contest.Contestant:
    right = _rivals.two_products(_rivals.matrices_by_table, _rivals.apply_by_broadcast, _rivals.randn)

    def build(x: Tensor) -> Any:
        step = right(x)
        return lambda x, alpha, beta: change(step, x, alpha, beta)

    return _contest.Contestant("broken", "rival", {"": build})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda step, x, a, b: step(x, 1.01 * a, b), "relative error"),
        (lambda step, x, a, b: step(x, a, b) * 1.001, "relative error"),
        (lambda step, x, a, b: step(x, a, b * 1.1), "variance of an image"),
        (lambda step, x, a, b: step(x, a, b.mean().expand(len(b))), "variance of an image"),
        (lambda step, x, a, b: step(x, a, 0 * b) + 0.1 * b.view(-1, 1, 1, 1), "mean"),
        (lambda step, x, a, b: step(x, a, 0 * b) + b.view(-1, 1, 1, 1) * (torch.rand_like(x) - 0.5) * 12**0.5, "Kolmogorov"),
        (lambda step, x, a, b: step(x, a, 0 * b) + b.view(-1, 1, 1, 1) * torch.randn(1, *x.shape[1:]), "correlated"),
    ],
)
def test_a_wrong_contestant_is_not_timed(change: Any, reason: str) -> None:
    torch.manual_seed(0)
    contest = _contest.prepare([_broken(change)], _batch(), _verify.verify, _timing.CpuClock())
    assert not contest.entries and reason in contest.absent[0]


def test_frozen_noise_is_found_out() -> None:
    torch.manual_seed(0)
    x, alpha, beta = _batch()
    frozen = torch.randn_like(x)
    broken = _broken(lambda step, x, a, b: step(x, a, 0 * b) + b.view(-1, 1, 1, 1) * frozen)
    assert "the same noise twice" in _contest.prepare([broken], (x, alpha, beta), _verify.verify, _timing.CpuClock()).absent[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.float64], ids=str)
def test_every_eager_variant_is_right(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = _images.batch(_images.load_photos(), _images.Shape(12, 20, 31), dtype, "cpu")
    for contestant in _rivals.rivals("cpu", dtype):
        for variant, build in contestant.variants.items():
            _verify.verify(contestant, variant, build(x), x, _images.levels(12, "cpu")[0])


def test_rows_count_bytes_and_name_losses() -> None:
    seconds = {"warmops": 2.0, "a": 1.0, "b": 4.0, "torch.clone": 0.5}
    kinds = {"warmops": "ours", "a": "rival", "b": "rival", "torch.clone": "floor"}
    moved = {"warmops": 500, "a": 500, "b": 500, "torch.clone": 200}
    timings = {name: _timing.Timing((value,)) for name, value in seconds.items()}
    rows = _report.rows_of_case(timings, kinds, dict.fromkeys(seconds, ""), dict.fromkeys(seconds), moved, 100)
    row = next(row for row in rows if row["contestant"] == "warmops")
    assert (row["best rival"], row["times faster than best rival"]) == ("a", 0.5)
    assert row["share of copy bandwidth"] == pytest.approx((500 / 2.0) / (200 / 0.5))
    assert _report.losses(rows) == ["warmops takes 2.00x the time of a"]


def test_slug() -> None:
    cpu = {"device": "cpu", "cpu": "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "threads": 8}
    assert _machine.slug(cpu) == "intel-xeon-gold-6248-8-threads"
    assert _machine.slug({"device": "cuda", "gpu": "NVIDIA H200"}) == "nvidia-h200"


def test_a_cpu_that_hides_its_name_is_told_by_family_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, want in (("AMD EPYC", "AMD EPYC (family 25, model 1)"), ("AMD EPYC 7763", "AMD EPYC 7763")):
        text = f"processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: {name}\n\nprocessor\t: 1\nmodel name\t: other\n"
        monkeypatch.setattr(Path, "read_text", lambda self, text=text: text)
        assert _machine.cpu_model() == want


@pytest.mark.parametrize("arguments", [["--sizes", "3x4x5"], ["--rounds", "-1"], ["--threads", "0"], ["--images", "no/such/folder"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_forward.arguments(arguments)
    assert arguments[0].strip("-")[:4] in capsys.readouterr().err


def test_files_of_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import _compiled

    monkeypatch.setattr(_compiled, "compiled_rivals", lambda *_: [])
    bench_forward.main(["--quick", "--sizes", "6x3x16x16", "--rounds", "2", "--out", str(tmp_path)])
    names = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(names) == {".json", ".md", ".png"} and all("_quick" in path.name for path in names.values())
    results = json.loads(names[".json"].read_text())
    assert results["machine"]["versions"]["torch"] == torch.__version__ and results["cases"][0]["shape"] == "6x3x16x16"
    assert "slower than the best rival:" in names[".md"].read_text()


def test_the_backend_that_will_run_is_known_by_name() -> None:
    for op in ("blur_noise", "dct", "sampler_step"):
        assert _ours.resolved_backend(None, "cpu", op) == ("cpu" if warmops.backends()["cpu"] else "reference")
    assert _ours.resolved_backend("triton", "cpu") == "triton"
    if warmops.backends()["cpu"] and "avx2" in _ours.isas() and _ours.current_isa() != "avx2":
        assert "warmops, AVX2 forced" in [c.name for c in _ours.contestants("cpu", None, None)]
