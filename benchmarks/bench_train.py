"""Images per second of a training step, and how much of it the forward process takes: with warmops, and with plain PyTorch.

Both steps are the same network, the same targets and the same optimizer; only where ``x_t`` and ``A x_0`` come from differs. The
plain form is what a user would write: the DCT matrices once, then per step two products for each of DCT and its inverse, and
``randn``. The tiny preset runs anywhere; the CIFAR-10 preset needs a GPU (or ``--preset cifar10`` and patience).

    python benchmarks/bench_train.py [--preset tiny] [--threads 2] [--seconds 20] [--json FILE]
    python benchmarks/bench_train.py --preset cifar10 --forward-only        # what a CPU has time for
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _timing
import torch
from torch import Tensor

import warmops
from warmdiff import loss as loss_module
from warmdiff.config import TrainConfig
from warmdiff.loss import draw_levels
from warmdiff.randomness import seeds
from warmdiff.spectrum import DataSpectrum
from warmdiff.training import Trainer, World

SHAPES = {"tiny": (1, 8, 8), "small": (1, 28, 28), "cifar10": (3, 32, 32), "ffhq64": (3, 64, 64), "lsun128": (3, 128, 128)}


class PlainForward:
    """`warmops.blur_noise` as four matrix products and ``randn``, for one image size."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        def basis(n: int) -> Tensor:
            k = torch.arange(n, dtype=torch.float64)
            matrix = torch.cos(math.pi * k[:, None] * (2 * k + 1) / (2 * n)) * math.sqrt(2 / n)
            matrix[0] /= math.sqrt(2)
            return matrix.float().to(device)

        self.rows, self.columns = basis(size[0]), basis(size[1])
        squares = [(torch.arange(n, device=device) * math.pi / n) ** 2 for n in size]
        self.eigenvalues = squares[0][:, None] + squares[1]

    def __call__(
        self, x: Tensor, alpha: Tensor, beta: Tensor, *, seed: Tensor, scale: Tensor, return_blurred: bool
    ) -> tuple[Tensor, Tensor]:
        assert return_blurred
        alpha, beta, scale = (level.to(x.dtype).view(-1, 1, 1, 1) for level in (alpha, beta, scale))
        decay = torch.exp(-0.5 * alpha**2 * self.eigenvalues)
        blurred = self.rows.T @ (decay * (self.rows @ x @ self.columns.T)) @ self.columns
        return scale * (blurred + beta * torch.randn_like(x)), blurred


def medians(calls: dict[str, Callable[[], object]], seconds: float, device: torch.device) -> list[float]:
    """Median seconds of each call; at least three rounds."""
    timings = _timing.interleave(calls, 100_000, _timing.clock(device.type), budget=seconds)
    return [timings[name].median for name in calls]


def measure(config: TrainConfig, preset: str, seconds: float, steps: bool) -> list[dict[str, Any]]:
    """A row for each form of the forward process; without ``steps``, of its time alone."""
    device = torch.device(config.device)
    shape, n = SHAPES[preset], config.batch
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, device=device)
    x0, positions = images.float() / 127.5 - 1, torch.arange(n)
    levels = draw_levels(config, positions)
    alpha, beta = levels.alpha.to(device), levels.beta.to(device)
    forms: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
        "warmops": warmops.blur_noise,
        "plain PyTorch": PlainForward((shape[1], shape[2]), device),
    }
    given = {"seed": seeds(0, "noise", positions).to(device), "scale": torch.ones(n, device=device), "return_blurred": True}
    blurred = [form(x0, alpha, beta, **given)[1] for form in forms.values()]
    assert (blurred[0] - blurred[1]).norm() < 1e-5 * blurred[0].norm(), "the two forms do not blur alike"
    with torch.no_grad():
        alone = medians({name: functools.partial(form, x0, alpha, beta, **given) for name, form in forms.items()}, seconds / 2, device)

    def step(trainer: Trainer, form: Callable[..., tuple[Tensor, Tensor]]) -> None:
        kept, loss_module.warmops = loss_module.warmops, types.SimpleNamespace(blur_noise=form)  # type: ignore[assignment]
        try:
            trainer.train_step(images, None, positions)
        finally:
            loss_module.warmops = kept

    whole = [math.nan] * len(forms)
    if steps:
        world, spectrum = World(device.type), DataSpectrum.constant(shape)
        calls = {name: functools.partial(step, Trainer(config, shape, 0, spectrum, world), form) for name, form in forms.items()}
        whole = medians(calls, 2 * seconds, device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return [
        {
            "preset": preset, "batch": n, "device": where, "torch": torch.__version__, "forward": name, "forward_ms": 1e3 * forward,
            **({"images_per_second": n / total, "step_ms": 1e3 * total, "share_percent": 100 * forward / total} if steps else {}),
        }
        for name, forward, total in zip(forms, alone, whole, strict=True)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(SHAPES), help="default: cifar10 on a GPU, else tiny")
    parser.add_argument("--batch", type=int, help="default: the preset's")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: the preset's: 1 for tiny, all for the others)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each measurement (default: 10)")
    parser.add_argument("--forward-only", action="store_true", help="no training steps: large presets on a CPU")
    parser.add_argument("--json", type=Path, help="also append the rows to this JSON-lines file")
    arguments = parser.parse_args()
    gpu = torch.cuda.is_available()
    preset = arguments.preset or ("cifar10" if gpu else "tiny")
    config = TrainConfig.preset(preset, device="cuda" if gpu else "cpu", conditional=False)
    config = dataclasses.replace(config, batch=arguments.batch or config.batch, precision=config.precision if gpu else "fp32")
    torch.set_num_threads(arguments.threads or config.threads or torch.get_num_threads())
    rows = measure(config, preset, arguments.seconds, not arguments.forward_only)
    print(f"{preset}, batch {config.batch}, {rows[0]['device']}, torch {torch.__version__}")
    print(f"{'forward process':<16}{'forward, ms':>14}{'step, ms':>12}{'images/s':>12}{'share':>9}")
    for row in rows:
        rest = f"{row['step_ms']:>12.2f}{row['images_per_second']:>12.1f}{row['share_percent']:>8.2f}%" if "step_ms" in row else ""
        print(f"{row['forward']:<16}{row['forward_ms']:>14.3f}{rest}")
    print(f"plain PyTorch's forward process takes {rows[1]['forward_ms'] / rows[0]['forward_ms']:.1f} times as long as warmops'")
    if arguments.json:
        with open(arguments.json, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
