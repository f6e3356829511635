"""The DCT along one axis and two, at sizes from 8 to 1024: warmops against every other way to do it, in one run.

    python benchmarks/bench_dct.py              # every size, one and many transforms, three dtypes: about an hour on 2 cores
    python benchmarks/bench_dct.py --quick      # within a minute
    python benchmarks/bench_dct.py --help

benchmarks/README.md says how the numbers come about and how to read them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _chart
import _contest
import _dct_rivals
import _options
import _report
import _sweep
import _timing
import torch
from _extras import not_installed, progress_bar, require_for

import warmops

SEED = 20251116
SIZES = [8, 16, 28, 32, 48, 64, 96, 100, 127, 128, 192, 224, 256, 384, 512, 1024]
QUICK_SIZES = [8, 32, 100, 256]
DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT_DTYPES = ["float32", "float64", "float16"]
VALUES, GPU_BYTES = 3 * 2**19, 512 * 2**20  # of a large batch
SECONDS, QUICK_SECONDS = 5.0, 1.0  # of timing each case: fewer rounds on a slow or busy machine
TURN = 5e-4  # seconds that a timed turn of the fastest contestant takes at least: short calls are repeated


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = _options.parser(
        (__doc__ or "").split("\n\n")[0],
        f"float32, two axes, n = {', '.join(map(str, QUICK_SIZES))}, nothing compiled",
        f"n, such as 8 100 (default: {' '.join(map(str, SIZES))})",
        list(DTYPES),
        DEFAULT_DTYPES,
        ["reference", "cpu", "cuda"],
    )
    parser.add_argument("--axes", nargs="+", type=int, choices=[1, 2], help="transforms along one axis, two, or both (default: both)")
    parser.add_argument("--batches", nargs="+", choices=["one", "many"], help="one transform in a call, many, or both (default: both)")
    options = _options.parsed(parser, argv)
    if options.sizes and not all(size.isdecimal() and int(size) >= 1 for size in options.sizes):
        parser.error(f"--sizes must be whole numbers of at least 1, got {' '.join(options.sizes)}")
    options.sizes = [int(size) for size in options.sizes] if options.sizes else QUICK_SIZES if options.quick else SIZES
    options.dtypes = options.dtypes or (DEFAULT_DTYPES[:1] if options.quick else DEFAULT_DTYPES)
    options.axes = options.axes or ([2] if options.quick else [1, 2])
    options.batches = options.batches or ["one", "many"]
    return options


def batch_of(options: argparse.Namespace, n: int, axes: int, many: bool, dtype: torch.dtype) -> int:
    """How many transforms: one, or about as many values at every size (on a GPU far more than its caches hold)."""
    if not many:
        return 1
    values = n**axes
    return -(-GPU_BYTES // (values * dtype.itemsize)) if options.device == "cuda" else max(2, VALUES // values)


def inner_calls(contest: _contest.Contest, clock: _timing.Clock) -> int:
    """Calls in one timed turn, so that the clock's own cost does not count; all have run before, to be checked."""
    quickest = min(min(clock.seconds(contest.call(name), 1) for _ in range(2)) for name in contest.entries)
    return min(200, max(1, round(TURN / quickest)))


def run_case(options: argparse.Namespace, n: int, axes: int, many: bool, name: str, tick: Any) -> dict[str, Any]:
    """Every contestant on one batch."""
    dtype, clock = DTYPES[name], _timing.clock(options.device)
    batch = batch_of(options, n, axes, many, dtype)
    x = torch.randn(batch, *[n] * axes, device=options.device).to(dtype)
    entrants = list(_dct_rivals.contestants(x, options.device, options.backend, options.isa, options.quick))
    contest = _contest.prepare(entrants, (x,), _dct_rivals.verify, clock, tick, 3)
    timings = contest.run(options.rounds, clock, budget=QUICK_SECONDS if options.quick else SECONDS, inner=inner_calls(contest, clock))
    contest.absent += not_installed("torch_dct")
    entries = contest.entries
    rows = _report.rows_of_case(
        timings,
        {name: entry.contestant.kind for name, entry in entries.items()},
        {name: entry.variant for name, entry in entries.items()},
        {name: entry.error for name, entry in entries.items()},
        dict.fromkeys(entries, 2 * x.nbytes),
        x.numel(),
    )
    shape = "x".join(map(str, x.shape))
    return {
        "group": f"{name}, {'one axis' if axes == 1 else 'two axes'}, {'large batch' if many else 'batch of one'}",
        "n": n,
        "axes": axes,
        "batch": batch,
        "shape": shape,
        "dtype": name,
        "batch MB": x.nbytes / 1e6,
        "slower than the best rival": _report.losses(rows),
        "not measured": contest.absent,
        "rows": rows,
    }


def run_cases(options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The cases of one group after the other."""
    groups = [(axes, many == "many", name) for name in options.dtypes for axes in options.axes for many in options.batches]
    with progress_bar()(total=len(groups) * len(options.sizes), leave=False, disable=None) as bar:
        for axes, many, name in groups:
            cases = []
            for n in options.sizes:
                bar.set_description(f"n = {n}, {axes} axes, {'many' if many else 'one'}, {name}")
                cases.append(run_case(options, n, axes, many, name, bar.set_postfix_str))
                bar.update()
            print(f"\n{cases[0]['group']}: nanoseconds per value\n{_report.plain_table(*_sweep.table(cases))}", flush=True)
            yield cases


def call_overhead(options: argparse.Namespace) -> dict[str, float]:
    """Microseconds of one eager call on a tiny image."""
    x = torch.rand(1, 1, 8, 8, device=options.device)
    calls = 200 if options.quick else 1000

    def call() -> torch.Tensor:
        return warmops.dct2(x, norm="ortho", backend=options.backend)

    timing = _timing.interleave({"call": call}, options.rounds, _timing.CpuClock(), inner=calls, warmup=calls)["call"]
    result = {"median": timing.median * 1e6, "p20": timing.p20 * 1e6, "p80": timing.p80 * 1e6}
    print(f"\neager call on one 1x1x8x8 image, no gradient: {result['median']:.1f} us (p20..p80 {result['p20']:.1f}..{result['p80']:.1f})")
    return result


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(argv)
    require_for(options.device, "tqdm", "matplotlib", "scipy.fft", "torch_dct")
    warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex operators")
    machine = _options.start(options, "orthonormal DCT-II", SEED, "dct")
    results: dict[str, Any] = {
        "benchmark": "dct",
        "machine": machine,
        "inputs": {"transform": 'type 2, norm="ortho"', "values": f"standard normal numbers, seed {SEED}"},
        "rounds": options.rounds,
        "cases": [],
        "call overhead us": call_overhead(options),
    }
    for cases in run_cases(options):  # saved after each group: what a long run has measured is not lost when it is stopped
        results["cases"] += cases
        _options.save(results, options, _chart.draw_sweep, _sweep.document)
    for text in sorted({text for case in results["cases"] for text in case["not measured"]}):
        print(f"  not measured: {text}")
    print("\nwarmops against the best rival of each size, geometric means:")
    print("\n".join(f"  {line}" for line in _sweep.means(results["cases"])))
    lost = _sweep.all_losses(results["cases"])
    print("\n  ".join(["slower than the best rival:", *lost]) if lost else "slower than the best rival: none")
    return results


if __name__ == "__main__":
    main()
