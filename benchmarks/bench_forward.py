"""Blur + noise on real images: warmops against every other way to do it, in one run.

    python benchmarks/bench_forward.py              # every size and dtype: tens of minutes on 2 cores
    python benchmarks/bench_forward.py --quick      # within a minute
    python benchmarks/bench_forward.py --help

benchmarks/README.md says how the numbers come about and how to read them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _chart
import _compiled
import _contest
import _images
import _options
import _ours
import _report
import _rivals
import _timing
import _verify
import torch
from _extras import not_installed, progress_bar, require_for

SECONDS, QUICK_SECONDS = 40.0, 8.0  # of timing each batch: fewer rounds on a slow or busy machine
GPU_BYTES = 512 * 2**20
SIZES = ["32", "64", "128", "256", "45x67"]
DTYPES = ["float32", "bfloat16", "float16", "uint8"]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = _options.parser(
        (__doc__ or "").split("\n\n")[0],
        "two sizes, float32, few repeats",
        f"like 64, 45x67 or 256x3x32x32 (default: {' '.join(SIZES)})",
        list(_images.DTYPES),
        DTYPES,
        ["reference", "cpu", "triton"],
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of pictures (any format that Pillow reads) instead of the bundled photo"
    )
    options = _options.parsed(parser, argv)
    options.sizes = options.sizes or (SIZES[:2] if options.quick else SIZES)
    options.dtypes = options.dtypes or (DTYPES[:1] if options.quick else DTYPES)
    try:
        options.shapes = [_images.parse_shape(size) for size in options.sizes]
    except ValueError as error:
        parser.error(str(error))
    if options.images is not None and not options.images.is_dir():
        parser.error(f"--images: {options.images} is not a folder")
    return options


def contestants(options: argparse.Namespace, dtype: torch.dtype) -> list[_contest.Contestant]:
    return [
        *_ours.contestants(options.device, options.backend, options.isa),
        *_rivals.rivals(options.device, dtype),
        *_compiled.compiled_rivals(options.device, dtype, options.quick),
    ]


def run_case(options: argparse.Namespace, photos: list[torch.Tensor], shape: _images.Shape, name: str) -> dict[str, Any]:
    """Every contestant on one batch."""
    tqdm = progress_bar()
    dtype, clock = _images.DTYPES[name], _timing.clock(options.device)
    if options.device == "cuda":
        shape = _images.enlarged(shape, dtype, GPU_BYTES)
    x = _images.batch(photos, shape, dtype, options.device)
    alpha, beta = _images.levels(shape.n, options.device)
    entrants = contestants(options, dtype)
    with tqdm(total=len(entrants) + options.rounds, desc=f"{shape} {name}", leave=False, disable=None) as bar:

        def checking(entrant: str) -> None:
            bar.set_postfix_str(f"checking {entrant}")
            bar.update()

        contest = _contest.prepare(entrants, (x, alpha, beta), _verify.verify, clock, checking, 3 if options.quick else 5)
        if options.quick:
            contest.absent.append(f"{_compiled.LEFT_OUT_BY_QUICK}: left out by --quick")
        bar.set_postfix_str("timing")
        timings = contest.run(options.rounds, clock, bar.update, QUICK_SECONDS if options.quick else SECONDS)
    contest.absent += not_installed("torch_dct")
    entries = contest.entries
    rows = _report.rows_of_case(
        timings,
        {name: entry.contestant.kind for name, entry in entries.items()},
        {name: entry.variant for name, entry in entries.items()},
        {name: entry.error for name, entry in entries.items()},
        {name: _contest.moved_bytes(entry.contestant, x) for name, entry in entries.items()},
        x.numel(),
    )
    case = {
        "shape": str(shape),
        "dtype": name,
        "batch MB": x.nbytes / 1e6,
        "slower than the best rival": _report.losses(rows),
        "not measured": contest.absent,
        "rows": rows,
    }
    print(f"\n{_report.case_title(case)}\n{_report.plain_table(*_report.case_cells(rows))}")
    for text in contest.absent:
        print(f"  not measured: {text}")
    return case


def run_self(options: argparse.Namespace, photos: list[torch.Tensor], shape: _images.Shape) -> dict[str, Any]:
    """warmops against itself: what dtypes, a second output, and each half of the work cost."""
    tqdm = progress_bar()
    clock = _timing.clock(options.device)
    if options.device == "cuda":
        shape = _images.enlarged(shape, torch.float32, GPU_BYTES)
    x = _images.batch(photos, shape, torch.float32, options.device)
    alpha, beta = _images.levels(shape.n, options.device)
    calls = _ours.self_comparisons(x, alpha, beta, options.backend)
    with tqdm(total=options.rounds, desc=f"{shape} warmops against itself", leave=False, disable=None) as bar:
        timings = _timing.interleave(calls, options.rounds, clock, tick=bar.update)
    rows = [
        {
            "call": name,
            "median ms": timing.median * 1e3,
            "p20 ms": timing.p20 * 1e3,
            "p80 ms": timing.p80 * 1e3,
            "ns per pixel": timing.median * 1e9 / x.numel(),
            "time against plain": _timing.ratio(timing, timings["plain"]),
        }
        for name, timing in timings.items()
    ]
    record = {"shape": str(shape), "rows": rows}
    print(f"\nwarmops against itself, {shape} float32\n{_report.plain_table(*_report.self_cells(record))}")
    return record


def call_overhead(options: argparse.Namespace) -> dict[str, float]:
    """Microseconds of one eager call on a tiny image."""
    call = _ours.tiny_call(options.device, options.backend)
    calls = 200 if options.quick else 1000
    timing = _timing.interleave({"call": call}, options.rounds, _timing.CpuClock(), inner=calls, warmup=calls)["call"]
    result = {"median": timing.median * 1e6, "p20": timing.p20 * 1e6, "p80": timing.p80 * 1e6}
    print(f"\neager call on one 1x1x8x8 image, no gradient: {result['median']:.1f} us (p20..p80 {result['p20']:.1f}..{result['p80']:.1f})")
    return result


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(argv)
    require_for(options.device, "tqdm", "PIL.Image", "matplotlib", "scipy.fft", "torch_dct")
    warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex operators")
    machine = _options.start(options, "blur + noise", _images.SEED)
    photos = _images.load_photos(options.images)
    results: dict[str, Any] = {
        "benchmark": "forward",
        "machine": machine,
        "inputs": {
            "images": _contest.describe_images(options.images, len(photos)),
            "levels": f"ln beta ~ N(-1.2, 1.2^2), alpha = beta / 2, one pair per image, seed {_images.SEED}",
        },
        "rounds": options.rounds,
        "cases": [run_case(options, photos, shape, name) for name in options.dtypes for shape in options.shapes],
        "warmops against itself": [run_self(options, photos, shape) for shape in options.shapes],
        "call overhead us": call_overhead(options),
    }
    print(f"\n{_report.summary(results['cases'])}")
    _options.save(results, options, _chart.draw, _report.document)
    return results


if __name__ == "__main__":
    main()
