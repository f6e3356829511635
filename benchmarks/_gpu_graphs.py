"""A step of run_gpu.py: 18 steps of Heun on 64x3x32x32 with a tiny denoiser, as a CUDA graph, step by step, and in plain PyTorch.

python benchmarks/_gpu_graphs.py DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _step_rivals
import _timing
import torch
from torch import Tensor, nn

import warmdiff

SHAPE = (64, 3, 32, 32)


class Tiny(nn.Module):
    """Two convolutions; the heads are scaled by fixed factors."""

    def __init__(self, device: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 6, 3, padding=1)).to(device)
        zero, skip, out_b, out_r = (torch.full((SHAPE[0],), f, dtype=torch.float64, device=device) for f in (0.0, *_step_rivals.FACTORS))
        self.scalings = warmdiff.Scalings(zero, skip, out_b, zero, out_r, zero)

    def heads(self, x: Tensor) -> Tensor:
        return self.net(x / (1.0 + x.abs()))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, beta: Tensor) -> warmdiff.RawPrediction:
        return warmdiff.RawPrediction(x, self.heads(x), self.scalings)


def plain(tiny: Tiny, x: Tensor, fixed: _step_rivals.Fixed) -> Tensor:
    """The same run with matrix products, as one writes it."""

    def step(task: str, x: Tensor, _: Tensor, slope: Tensor, levels: _step_rivals.Scalars, fixed: _step_rivals.Fixed) -> object:
        return _step_rivals.update(_step_rivals.by_image, task, x, tiny.heads(x), slope, levels, fixed)

    return _step_rivals.run(step, x, x, fixed)


def compare(device: str, graph: bool, rounds: int) -> dict[str, float]:
    """Milliseconds of each form, how many times faster than plain PyTorch they are, and how far from each other."""
    tiny = Tiny(device).eval()
    x = 80 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(device)
    fixed = _step_rivals.tables(x)
    process = warmdiff.BlurNoiseProcess(_step_rivals.BNR)
    forms = {"plain": lambda: plain(tiny, x, fixed), "generate": lambda: warmdiff.generate(tiny, SHAPE, process=process, x_init=x)}
    if graph:
        forms["graph"] = lambda: warmdiff.generate(tiny, SHAPE, process=process, x_init=x, cuda_graph=True)
    with torch.no_grad():
        want = forms["plain"]().double()
        errors = {f"{name} error": float((call().double() - want).norm() / want.norm()) for name, call in forms.items() if name != "plain"}
        timing = _timing.interleave(forms, rounds, _timing.clock(device))
    found = {f"{name} ms": 1e3 * timing[name].median for name in forms}
    return found | errors | {f"{name} / plain": _timing.ratio(timing["plain"], timing[name]) for name in forms if name != "plain"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    options = parser.parse_args(argv)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = compare("cuda", True, 30)
    (options.out / "graphs.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(f"{name}: {value:.4g}" for name, value in found.items()))
    return int(not max(value for name, value in found.items() if name.endswith("error")) < 1e-4)


if __name__ == "__main__":
    sys.exit(main())
