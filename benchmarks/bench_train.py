"""Images per second of a training step, and how much of it the forward process takes: with warmops, and with plain PyTorch.

    python benchmarks/bench_train.py                              # tiny, and the forward process of the CIFAR-10 preset
    python benchmarks/bench_train.py --quick                      # tiny, nothing compiled, within a minute
    python benchmarks/bench_train.py --presets cifar10 --device cuda

All steps are of the same network, targets and optimizer; only where ``x_t`` and ``A x_0`` come from differs. The plain form is
what a user would write: the DCT matrices once, then per step two products for each of DCT and its inverse, and ``randn``. The
process keeps freed memory, as the command ``warmdiff train`` does. benchmarks/README.md says how to read the numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _chart
import _contest
import _options
import _report
import _timing
import torch
from _extras import require_for
from _rivals import dct_basis
from torch import Tensor

import warmops
from warmdiff import loss as loss_module
from warmdiff.cli import keep_freed_memory
from warmdiff.config import TrainConfig
from warmdiff.draws import draw_levels, seeds
from warmdiff.spectrum import DataSpectrum
from warmdiff.training import Trainer, World

SEED = 0
SHAPES = {"tiny": (1, 8, 8), "small": (1, 28, 28), "cifar10": (3, 32, 32), "ffhq64": (3, 64, 64), "lsun128": (3, 128, 128)}
CPU_STEPS = ("tiny", "small")  # a step of the others takes minutes there
SECONDS, QUICK_SECONDS = 20.0, 4.0  # of timing each case
Form = Callable[..., tuple[Tensor, Tensor]]


class PlainForward:
    """`warmops.blur_noise` with ``return_blurred`` as four matrix products and ``randn``, for images like x."""

    def __init__(self, x: Tensor) -> None:
        self.rows, self.columns = dct_basis(x.shape[-2], x), dct_basis(x.shape[-1], x)
        squares = [(torch.arange(n, dtype=x.dtype, device=x.device) * math.pi / n) ** 2 for n in x.shape[-2:]]
        self.eigenvalues = squares[0][:, None] + squares[1]

    def __call__(
        self, x: Tensor, alpha: Tensor, beta: Tensor, *, seed: Tensor, scale: Tensor, return_blurred: bool
    ) -> tuple[Tensor, Tensor]:
        assert return_blurred
        alpha, beta, scale = (level.to(x.dtype).view(-1, 1, 1, 1) for level in (alpha, beta, scale))
        decay = torch.exp(-0.5 * alpha**2 * self.eigenvalues)
        blurred = self.rows.T @ (decay * (self.rows @ x @ self.columns.T)) @ self.columns
        return scale * (blurred + beta * torch.randn_like(x)), blurred


def forms(x: Tensor, quick: bool) -> Iterator[tuple[str, str, Form]]:
    """Name, kind and function of each way to blur and add noise."""
    yield "warmops", "ours", warmops.blur_noise
    yield "plain PyTorch", "rival", PlainForward(x)
    if not quick:
        yield "plain PyTorch, compiled", "rival", torch.compile(PlainForward(x))


def forward_contest(config: TrainConfig, images: Tensor, quick: bool, clock: _timing.Clock) -> _contest.Contest:
    """The forward process of a batch, alone."""
    n, x0, positions = len(images), images.float() / 127.5 - 1, torch.arange(len(images))
    levels = draw_levels(config, positions)
    alpha, beta = levels.alpha.to(images.device), levels.beta.to(images.device)
    given = {
        "seed": seeds(SEED, "noise", positions).to(images.device),
        "scale": torch.ones(n, device=images.device),
        "return_blurred": True,
    }
    exact = PlainForward(x0.double())(x0.double(), alpha, beta, **given)[1]

    def verify(contestant: _contest.Contestant, variant: str, step: _contest.Step, *arguments: Tensor) -> float:
        error = float((step(*arguments)[1].double() - exact).norm() / exact.norm())
        if not error < 1e-5:
            raise _contest.WrongAnswer(f"{contestant.name}: the blurred images are off by {error:.1e}")
        return error

    def contestant(name: str, kind: str, form: Form) -> _contest.Contestant:
        return _contest.Contestant(name, kind, {"": lambda _: lambda x, alpha, beta: form(x, alpha, beta, **given)})

    return _contest.prepare((contestant(*form) for form in forms(x0, quick)), (x0, alpha, beta), verify, clock)


def step_contest(config: TrainConfig, images: Tensor, quick: bool, clock: _timing.Clock) -> _contest.Contest:
    """Whole training steps, each form with a network of its own."""
    shape, positions = tuple(images.shape[1:]), torch.arange(len(images))
    world, spectrum = World(images.device.type), DataSpectrum.constant((shape[0], shape[1], shape[2]))

    def contestant(name: str, kind: str, form: Form) -> _contest.Contestant:
        def build(_: Tensor) -> _contest.Step:
            trainer = Trainer(config, (shape[0], shape[1], shape[2]), 0, spectrum, world)

            def step(images: Tensor) -> list[float]:
                kept, loss_module.warmops = loss_module.warmops, types.SimpleNamespace(blur_noise=form)  # type: ignore[assignment]
                try:
                    return trainer.train_step(images, None, positions)[0]
                finally:
                    loss_module.warmops = kept

            return step

        return _contest.Contestant(name, kind, {"": build})

    def verify(contestant: _contest.Contestant, variant: str, step: _contest.Step, *arguments: Tensor) -> None:
        if not all(map(math.isfinite, step(*arguments))):
            raise _contest.WrongAnswer(f"{contestant.name}: its loss is not finite")

    return _contest.prepare((contestant(*form) for form in forms(images.float(), quick)), (images,), verify, clock)


def run_preset(options: argparse.Namespace, preset: str) -> list[dict[str, Any]]:
    """The forward process, and where the machine has time for it the step, with what the former takes of the latter."""
    config = TrainConfig.preset(preset, device=options.device, conditional=False)
    on_cpu, clock = options.device == "cpu", _timing.clock(options.device)
    config = dataclasses.replace(config, batch=options.batch or config.batch, precision="fp32" if on_cpu else config.precision)
    if on_cpu:
        torch.set_num_threads(options.threads or config.threads or options.all_threads)
    images = torch.randint(0, 256, (config.batch, *SHAPES[preset]), dtype=torch.uint8).to(options.device)
    parts = {"forward process": forward_contest} | ({"training step": step_contest} if preset in CPU_STEPS or not on_cpu else {})
    cases, forward = [], {}
    for part, prepare in parts.items():
        contest = prepare(config, images, options.quick, clock)
        with torch.set_grad_enabled(part == "training step"):
            timings = contest.run(options.rounds, clock, budget=QUICK_SECONDS if options.quick else SECONDS)
        entries = contest.entries
        kinds = {name: entry.contestant.kind for name, entry in entries.items()}
        errors = {name: entry.error for name, entry in entries.items()}
        moved = dict.fromkeys(entries, 3 * 4 * images.numel())  # x0 once, x_t and A x0 once
        rows = _report.rows_of_case(timings, kinds, dict.fromkeys(entries, ""), errors, moved, images.numel())
        for row in rows:
            name = row["contestant"]
            row["images per second"] = len(images) / (row["median ms"] / 1e3)
            forward.setdefault(name, row["median ms"])
            row["forward process, percent"] = 100 * forward[name] / row["median ms"]
        threads = torch.get_num_threads()
        where = f" ({threads} thread{'s' * (threads > 1)})" if on_cpu else ""
        case = {
            "part": part,
            "preset": preset,
            "shape": f"{part}, {preset} {'x'.join(map(str, images.shape))}{where}",
            "dtype": config.precision if part == "training step" else "fp32",
            "batch MB": 4 * images.numel() / 1e6,
            "slower than the best rival": _report.losses(rows),
            "not measured": contest.absent,
            "rows": rows,
        }
        print(f"\n{_report.case_title(case)}\n{_report.plain_table(*cells(case))}")
        for text in contest.absent:
            print(f"  not measured: {text}")
        cases.append(case)
    return cases


def cells(case: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["", "kind", "ms", "p20..p80", "images/s", "vs best rival", "forward process"]
    return header, [
        [
            row["contestant"], row["kind"], f"{row['median ms']:.3f}", f"{row['p20 ms']:.3f}..{row['p80 ms']:.3f}",
            f"{row['images per second']:,.0f}", f"{row['times faster than best rival']:.2f}x", f"{row['forward process, percent']:.2f}%",
        ]
        for row in case["rows"]
    ]  # fmt: skip


def document(results: dict[str, Any], chart: str | None) -> str:
    """The whole report in Markdown."""
    parts = _report.head(results, chart)
    for case in results["cases"]:
        parts += [f"## {_report.case_title(case)}", _report.markdown_table(*cells(case))]
        parts += [f"Not measured: {text}." for text in case["not measured"]]
    return "\n\n".join([*parts, f"**{_report.summary(results['cases'])}**"]) + "\n"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny, nothing compiled, few repeats: ends within a minute on 2 cores")
    parser.add_argument(
        "--presets", nargs="+", choices=list(SHAPES), help="default: tiny and cifar10; cifar10 on a GPU; --quick: the first"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to run (default: cpu)")
    parser.add_argument("--batch", type=int, help="default: the preset's")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: the preset's: 1 for tiny, all for the others)")
    parser.add_argument("--rounds", type=int, help="timed calls of each contestant (default: 101, quick: 15; fewer where time runs out)")
    parser.add_argument(
        "--out", type=Path, default=_options.RESULTS, metavar="DIR", help="where the result files go (default: benchmarks/results)"
    )
    parser.set_defaults(isa=None, backend=None, all_threads=torch.get_num_threads())
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    presets = ["tiny", "cifar10"] if options.device == "cpu" else ["cifar10"]
    options.presets = options.presets or (presets[:1] if options.quick else presets)
    options.rounds = options.rounds if options.rounds is not None else 15 if options.quick else 101
    if any(value is not None and value < 1 for value in (options.rounds, options.batch, options.threads)):
        parser.error("--rounds, --batch and --threads must be at least 1")
    return options


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(argv)
    require_for(options.device, "matplotlib")
    keep_freed_memory()
    results: dict[str, Any] = {
        "benchmark": "train",
        "title": "Training",
        "machine": _options.start(options, "training", SEED),
        "inputs": {"images": f"random bytes, seed {SEED}", "levels": "one pair for each image, drawn as the preset says"},
        "rounds": options.rounds,
        "cases": [case for preset in options.presets for case in run_preset(options, preset)],
    }
    print(f"\n{_report.summary(results['cases'])}")
    _options.save(results, options, _chart.draw, document)
    return results


if __name__ == "__main__":
    main()
