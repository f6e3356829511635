"""The contestants of bench_forward.py and bench_dct.py under pytest-benchmark: `pytest benchmarks/ --benchmark-only`.

Each is checked against float64 before it is timed, and runs its fastest variant.
"""

from __future__ import annotations

from typing import Any

import _compiled
import _contest
import _dct_rivals
import _images
import _ours
import _rivals
import _timing
import _verify
import pytest
import torch

SHAPES = [_images.parse_shape(text) for text in ("64x3x32x32", "32x3x64x64", "16x3x45x67")]


def _contestants() -> dict[str, _contest.Contestant]:
    try:
        rivals = [*_rivals.rivals("cpu", torch.float32), *_compiled.compiled_rivals("cpu", torch.float32, quick=True)]
    except SystemExit as error:
        pytest.skip(str(error), allow_module_level=True)
    return {contestant.name: contestant for contestant in [*_ours.contestants("cpu", None, None), *rivals]}


CONTESTANTS = _contestants()
SELF = ["plain", "return_blurred", "without out=", "blur alone", "normal alone", "bfloat16", "float16", "uint8", "float64"]


def _batch(shape: _images.Shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _images.batch(_images.load_photos(), shape, torch.float32, "cpu"), *_images.levels(shape.n, "cpu")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CONTESTANTS)
def test_forward(benchmark: Any, name: str, shape: _images.Shape) -> None:
    benchmark.group = f"blur + noise, {shape}"
    contest = _contest.prepare([CONTESTANTS[name]], _batch(shape), _verify.verify, _timing.CpuClock())
    if name not in contest.entries:
        pytest.skip("; ".join(contest.absent))
    benchmark.extra_info["variant"] = contest.entries[name].variant
    benchmark(contest.call(name))


@pytest.mark.parametrize("name", SELF)
def test_warmops_alone(benchmark: Any, name: str) -> None:
    benchmark.group = f"warmops against itself, {SHAPES[0]}"
    benchmark(_ours.self_comparisons(*_batch(SHAPES[0]), backend=None)[name])


@pytest.mark.parametrize("n", [8, 32, 100, 256])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("name", ["warmops", "SciPy pocketfft", "torch-dct", "matrix products", "rfft (Makhoul)", "torch.clone"])
def test_dct(benchmark: Any, name: str, axes: int, n: int) -> None:
    benchmark.group = f"DCT-II, {axes} axes, n = {n}"
    x = torch.randn(max(2, 2**18 // n**axes), *[n] * axes)
    (contestant,) = [c for c in _dct_rivals.contestants(x, "cpu", None, None, quick=True) if c.name == name]
    contest = _contest.prepare([contestant], (x,), _dct_rivals.verify, _timing.CpuClock())
    benchmark(contest.call(name))


def test_call_overhead(benchmark: Any) -> None:
    benchmark.group = "eager call on 1x1x8x8"
    benchmark(_ours.tiny_call("cpu", None))
