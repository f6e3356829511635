"""A step of run_gpu.py: errors of the GPU kernels against float64 computed on the CPU from the formulas; fails where a bar is missed.

python benchmarks/_gpu_accuracy.py DIR [--small]     # --small: a few tiny launches of every kernel, for memory checkers
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import warmops

# Relative L2 error against float64; half types are rounded once from float32. The DCT's bar is its own.
BARS = {torch.float32: 5e-7, torch.float64: 1e-13, torch.bfloat16: 3e-3, torch.float16: 4e-4}
DCT_BARS = {torch.float32: 2.5e-7, torch.float64: 2e-14}
SIZES = [(8, 8), (32, 32), (45, 67), (64, 64), (128, 128), (256, 256)]
SMALL = [(8, 8), (45, 67), (256, 256)]
CASES = [*((h, w, dtype) for dtype in (torch.float32, torch.bfloat16) for h, w in SIZES),
         *((h, w, dtype) for dtype in (torch.float64, torch.float16) for h, w in SIZES[1:3])]  # fmt: skip
Case = tuple[int, int, torch.dtype]
Row = dict[str, Any]


def compared(op: str, got: Tensor, want: Tensor, bar: float) -> Row:
    difference = got.cpu().double() - want
    error = float(difference.norm() / want.norm())
    return {"op": op, "shape": "x".join(map(str, got.shape)), "dtype": str(got.dtype)[6:], "error": error, "bar": bar, "good": error <= bar}


def blurs(h: int, w: int, dtype: torch.dtype, device: str, backend: str) -> Iterator[Row]:
    x = (0.05 + 0.95 * torch.rand(6, 2, h, w, dtype=torch.float64)).to(dtype)
    alpha = torch.tensor([0.0, 0.01, 0.3, 1.0, 5.0, 40.0], dtype=torch.float64)
    beta = torch.tensor([0.0, 0.002, 0.3, 1.0, 5.0, 0.5], dtype=torch.float64)
    seed = torch.arange(6) + 2**40
    want = warmops.blur_noise(x.double(), alpha, beta, seed=seed, return_blurred=True, backend="reference")
    got = warmops.blur_noise(x.to(device), alpha.to(device), beta.to(device), seed=seed.to(device), return_blurred=True, backend=backend)
    for name, mine, truth in zip(("blur_noise", "blurred"), got, want, strict=True):
        yield compared(name, mine, truth, BARS[dtype])
    noise = warmops.normal(x.shape, seed.to(device), dtype=dtype, backend=backend)
    yield compared("normal", noise, warmops.normal(x.shape, seed, dtype=torch.float64, backend="reference"), BARS[dtype])


def sampler_steps(h: int, w: int, dtype: torch.dtype, device: str, backend: str) -> Iterator[Row]:
    x, head_b, head_r, slope = (torch.randn(3, 2, h, w, dtype=torch.float64).to(dtype) for _ in range(4))

    def step(method: str, kind: torch.dtype, device: str, backend: str) -> Tensor:
        heads = head_b.to(device, kind), head_r.to(device, kind)
        given = {"slope": slope.to(device, kind)} if method == "heun" else {}
        options = {"method": method, "c_skip": 0.3, "c_out": (0.6, 0.2), "backend": backend}
        return warmops.sampler_step(x.to(device, kind), heads, 2.0, 4.0, 1.5, 3.0, **options, **given)  # type: ignore[no-any-return]

    for method in ("ddim", "euler", "heun"):
        want = step(method, torch.float64, "cpu", "reference")
        yield compared(f"sampler_step {method}", step(method, dtype, device, backend), want, BARS[dtype])


def transforms(h: int, w: int, dtype: torch.dtype, device: str, backend: str) -> Iterator[Row]:
    x = torch.randn(4, h, w, dtype=torch.float64).to(dtype)
    for name in ("dct2", "idct2"):
        function = getattr(warmops, name)
        want = function(x.double(), norm="ortho", backend="reference")
        yield compared(name, function(x.to(device), norm="ortho", backend=backend), want, DCT_BARS[dtype])


def rows(case: Case, device: str = "cuda", blur: str = "triton", dct: str = "cuda") -> list[Row]:
    """All ops at one size and data type."""
    torch.manual_seed(0)
    h, w, dtype = case
    found = [*blurs(h, w, dtype, device, blur), *sampler_steps(h, w, dtype, device, blur)]
    return found + (list(transforms(h, w, dtype, device, dct)) if dtype in DCT_BARS else [])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(argv)
    if options.small:
        found = [row for h, w in SMALL for row in rows((h, w, torch.float32))]
    else:  # most of the time goes into compiling kernels, which processes do side by side
        with ProcessPoolExecutor(min(8, os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
            found = [row for several in pool.map(rows, CASES) for row in several]
    (options.out / "accuracy.json").write_text(json.dumps({"rows": found}, indent=1) + "\n")
    for row in found:
        if not row["good"]:
            print(f"{row['op']} {row['shape']} {row['dtype']}: error {row['error']:.2e}, bar {row['bar']:.0e}")
    print(f"{sum(row['good'] for row in found)} of {len(found)} within their bars")
    return int(not all(row["good"] for row in found))


if __name__ == "__main__":
    sys.exit(main())
