"""One step of a blur-noise sampler, and a whole 18-step Heun run: warmops against plain and compiled PyTorch, in one run.

    python benchmarks/bench_sampler.py              # every size and dtype: some minutes on 2 cores
    python benchmarks/bench_sampler.py --quick      # within a minute
    python benchmarks/bench_sampler.py --help

benchmarks/README.md says how the numbers come about and how to read them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _chart
import _contest
import _images
import _options
import _report
import _step_rivals
import _timing
import torch
from _extras import progress_bar, require_for

import warmops

SECONDS, QUICK_SECONDS = 20.0, 4.0  # of timing each case: fewer rounds on a slow or busy machine
GPU_BYTES = 512 * 2**20
SIZES, QUICK_SIZES = ["64x3x32x32", "64x3x64x64", "32x3x128x128", "32x3x45x67"], ["64x3x32x32", "64x3x64x64"]
DTYPES = ["float32", "float64"]
MEANING = {
    "ddim": "the exact step for a given prediction",
    "euler": "the first half of Heun's step, state and slope",
    "heun": "the second half of Heun's step",
    "run": f"{_step_rivals.STEPS} steps of Heun with a denoiser that costs nothing",
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = _options.parser(
        (__doc__ or "").split("\n\n")[0],
        "two sizes, float32, few repeats",
        f"like 64, 45x67 or 64x3x32x32 (default: {' '.join(SIZES)})",
        [name for name in _images.DTYPES if name != "uint8"],
        DTYPES,
        ["reference", "cpu", "triton"],
    )
    parser.add_argument("--tasks", nargs="+", choices=list(MEANING), help="what to time (default: all)")
    options = _options.parsed(parser, argv)
    options.dtypes = options.dtypes or (DTYPES[:1] if options.quick else DTYPES)
    options.tasks = options.tasks or list(MEANING)
    try:
        options.shapes = [_images.parse_shape(size) for size in options.sizes or (QUICK_SIZES if options.quick else SIZES)]
    except ValueError as error:
        parser.error(str(error))
    return options


def run_case(options: argparse.Namespace, shape: _images.Shape, name: str, task: _step_rivals.Task) -> dict[str, Any]:
    """Every contestant on one batch."""
    dtype, clock = _images.DTYPES[name], _timing.clock(options.device)
    if options.device == "cuda":
        shape = _images.enlarged(shape, dtype, GPU_BYTES)
    size = (shape.n, 3, shape.h, shape.w)
    level = 80.0 if task.name == "run" else task.levels[1]
    x = (level * torch.randn(size)).to(options.device, dtype)
    heads = torch.randn(shape.n, 6, shape.h, shape.w).to(options.device, dtype)
    slope = torch.randn(size).to(options.device, dtype)
    entrants = _step_rivals.contestants(task, options.backend)
    contest = _contest.prepare(entrants, (x, heads, slope), _step_rivals.verifier(task), clock, selection_rounds=5)
    timings = contest.run(options.rounds, clock, budget=QUICK_SECONDS if options.quick else SECONDS)
    entries = contest.entries
    rows = _report.rows_of_case(
        timings,
        {name: entry.contestant.kind for name, entry in entries.items()},
        {name: entry.variant for name, entry in entries.items()},
        {name: entry.error for name, entry in entries.items()},
        {name: task.moved(x) if entry.contestant.blurs else 2 * x.nbytes for name, entry in entries.items()},
        x.numel(),
    )
    case = {
        "task": task.name,
        "shape": f"{task.name} {shape}",
        "dtype": name,
        "batch MB": x.nbytes / 1e6,
        "slower than the best rival": _report.losses(rows),
        "not measured": contest.absent,
        "rows": rows,
    }
    print(f"\n{_report.case_title(case)}: {MEANING[task.name]}\n{_report.plain_table(*_report.case_cells(rows))}")
    for text in contest.absent:
        print(f"  not measured: {text}")
    return case


def call_overhead(options: argparse.Namespace) -> dict[str, float]:
    """Microseconds of one eager call on a tiny image."""
    x, heads = torch.randn(1, 1, 8, 8, device=options.device), torch.randn(1, 2, 8, 8, device=options.device)
    calls = 200 if options.quick else 1000

    def call() -> torch.Tensor:
        return warmops.sampler_step(x, heads, 0.5, 1.0, 0.3, 0.6, backend=options.backend)

    timing = _timing.interleave({"call": call}, options.rounds, _timing.CpuClock(), inner=calls, warmup=calls)["call"]
    result = {"median": timing.median * 1e6, "p20": timing.p20 * 1e6, "p80": timing.p80 * 1e6}
    print(f"\neager call on one 1x1x8x8 image, no gradient: {result['median']:.1f} us (p20..p80 {result['p20']:.1f}..{result['p80']:.1f})")
    return result


def document(results: dict[str, Any], chart: str | None) -> str:
    """The whole report in Markdown."""
    parts = _report.head(results, chart)
    for case in results["cases"]:
        parts += [f"## {_report.case_title(case)}: {MEANING[case['task']]}", _report.markdown_table(*_report.case_cells(case["rows"]))]
        parts += [f"Not measured: {text}." for text in case["not measured"]]
    parts.append(f"**{_report.summary(results['cases'])}**")
    return "\n\n".join(parts + _report.overhead(results)) + "\n"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(argv)
    require_for(options.device, "tqdm", "matplotlib", "scipy.fft")
    machine = _options.start(options, "sampler step", _images.SEED)
    plan = [(shape, dtype, task) for dtype in options.dtypes for shape in options.shapes for task in options.tasks]
    results: dict[str, Any] = {
        "benchmark": "sampler",
        "title": "Sampler step",
        "machine": machine,
        "inputs": {
            "state and heads": f"normal numbers, seed {_images.SEED}, the network's raw output with its scalings",
            "levels": f"BNR {_step_rivals.BNR}, steps 8 and 9 of 18 of EDM's schedule, the same for all images",
        },
        "rounds": options.rounds,
        "cases": [],
        "call overhead us": call_overhead(options),
    }
    with progress_bar()(plan, leave=False, disable=None) as bar:
        for shape, dtype, task in bar:
            bar.set_description(f"{task} {shape} {dtype}")
            results["cases"].append(run_case(options, shape, dtype, _step_rivals.TASKS[task]))
    print(f"\n{_report.summary(results['cases'])}")
    _options.save(results, options, _chart.draw, document)
    return results


if __name__ == "__main__":
    main()
