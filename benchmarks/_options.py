"""What every benchmark's command line has in common, and where its result files go."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _machine
import _ours
import _report
import torch
from _extras import optional

RESULTS = Path(__file__).resolve().parent / "results"


def parser(description: str, quick: str, sizes: str, dtypes: Sequence[str], default_dtypes: Sequence[str], backends: Sequence[str]) -> Any:
    """An argument parser with the options that mean the same everywhere."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--quick", action="store_true", help=f"{quick}: ends within a minute on 2 cores")
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to run (default: cpu)")
    options.add_argument("--threads", type=int, help="CPU threads of torch, SciPy and warmops (default: torch's own choice)")
    options.add_argument("--sizes", nargs="+", metavar="SIZE", help=sizes)
    options.add_argument(
        "--dtypes",
        nargs="+",
        choices=list(dtypes),
        metavar="DTYPE",
        help=f"of {', '.join(dtypes)} (default: {' '.join(default_dtypes)})",
    )
    options.add_argument("--rounds", type=int, help="timed calls of each contestant (default: 31, quick: 7)")
    options.add_argument("--isa", choices=["avx512", "avx2", "baseline"], help="force this path of the C++ kernels for the whole run")
    options.add_argument("--backend", choices=list(backends), help="warmops backend (default: the fastest for the device)")
    options.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the result files go (default: benchmarks/results)")
    return options


def parsed(of: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options, those in common checked."""
    options = of.parse_args(argv)
    options.rounds = options.rounds if options.rounds is not None else 7 if options.quick else 31
    if options.rounds < 1 or (options.threads is not None and options.threads < 1):
        of.error("--rounds and --threads must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        of.error("--device cuda: torch sees no CUDA device here")
    return options


def start(options: argparse.Namespace, title: str, seed: int, op: str = "blur_noise") -> dict[str, Any]:
    """Threads, seed and CPU path as asked for; says where it runs and returns the machine's record."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(seed)
    if options.isa is not None:
        _ours.force_isa(options.isa)
    backend = _ours.resolved_backend(options.backend, options.device, op)
    isa = _ours.current_isa() if backend == "cpu" else None
    machine = _machine.describe(options.device, backend, isa)
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    print(f"{title} on {where}; warmops backend {backend}{f' ({isa})' if isa else ''}; seed {seed}")
    print("ratios: medians over rounds of the time ratio within a round; every contestant was checked against float64 first")
    return machine


def save(results: dict[str, Any], options: argparse.Namespace, draw: Callable[..., None], document: Callable[..., str]) -> None:
    """JSON, Markdown and chart: <benchmark>_<machine>[_isa][_quick].*"""
    suffix = (f"_{options.isa}" if options.isa else "") + ("_quick" if options.quick else "")
    stem = f"{results['benchmark']}_{_machine.slug(results['machine'])}{suffix}"
    options.out.mkdir(parents=True, exist_ok=True)
    _report.write_json(results, options.out / f"{stem}.json")
    chart = f"{stem}.png" if options.device == "cpu" or optional("matplotlib") is not None else None
    (options.out / f"{stem}.md").write_text(document(results, chart))
    if chart:
        draw(results, options.out / chart)
    print(f"written: {options.out / stem}.json, .md and {'.png' if chart else 'no chart (matplotlib is not installed)'}")
