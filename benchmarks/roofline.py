"""The least time that each op can take on a GPU, from its bytes and operations, and what limits it.

    python benchmarks/roofline.py                  # a GPU: its ceilings are measured, and the ops timed beside the floors
    python benchmarks/roofline.py --device h200    # no GPU: the ceilings of a datasheet, said to be that; nothing is timed
    python benchmarks/roofline.py --help

Four ceilings: memory (bytes), tensor cores (three TF32 products for one of float32's accuracy), float64 (the tables of the blur
matrices) and lanes (one instruction each: noise, folding). The floor is the largest of the four times, as if all overlapped;
"one after the other" is their sum. Both count what the method needs; a kernel executes more (addresses, splitting numbers in
two for the tensor cores, moving tiles through shared memory), see results/compile/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _machine
import _report
import _timing
import torch
from _chart import INK
from _extras import optional, require
from _work import ACCURATE, BYTES, OPS, Shape, Work, work

import warmops

RESULTS = Path(__file__).resolve().parent / "results"
SIZES = [8, 16, 32, 48, 64, 96, 128, 256]
DTYPES = ["float32", "bfloat16", "uint8", "float64"]
GPU_BYTES = 512 * 2**20
LIMITS = ("memory", "tensor cores", "float64", "lanes")


@dataclass(frozen=True)
class Ceilings:
    """Bytes, multiply-adds of TF32 and float64 and instructions of one lane, per second; ``source`` says where they are from."""

    name: str
    source: str
    memory: float
    tensor: float
    double: float
    lanes: float


# An instruction of a lane is one multiply-add of the float32 rate; multiply-adds are half of the flop/s that datasheets give.
DATASHEETS = {
    "h200": Ceilings("H200 SXM", "datasheet", 4.8e12, 494e12 / 2, 67e12 / 2, 67e12 / 2),
    "a100": Ceilings("A100 SXM 80 GB", "datasheet", 2.039e12, 156e12 / 2, 19.5e12 / 2, 19.5e12 / 2),
}


def measured_ceilings(seconds: float = 0.5) -> Ceilings:
    """The ceilings of the current GPU: `torch.clone` of 1 GB, and products of square matrices by its own library."""
    clock = _timing.CudaClock()

    def rate(amount: float, call: Callable[[], Any]) -> float:
        call()
        rounds = max(3, min(50, int(seconds / clock.seconds(call, 1))))
        return amount / _timing.interleave({"": call}, rounds, clock, warmup=1)[""].median

    def product(n: int, dtype: torch.dtype, tf32: bool) -> float:
        a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
        out, before = torch.empty_like(a), torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            return rate(n**3, lambda: torch.mm(a, b, out=out))
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    x = torch.ones(2**28, device="cuda")
    memory = rate(2 * x.nbytes, x.clone)
    del x
    tensor, single, double = (product(8192, torch.float32, True), product(4096, torch.float32, False), product(4096, torch.float64, False))
    return Ceilings(torch.cuda.get_device_name(), "measured (clone, matrix products)", memory, tensor, double, single)


def times(of: Work, c: Ceilings, dtype: str) -> dict[str, float]:
    """Seconds at each ceiling."""
    tensor = 0 if dtype == "float64" else ACCURATE * of.products / c.tensor
    return dict(zip(LIMITS, (of.bytes / c.memory, tensor, of.double / c.double, of.lanes / c.lanes), strict=True))


def batch(n: int, dtype: str) -> Shape:
    """Three channels, at least 512 MB."""
    return Shape(-(-GPU_BYTES // (3 * n * n * BYTES[dtype])), 3, n, n)


def supports(op: str, dtype: str) -> bool:
    return dtype != "uint8" or op in ("clone", "blur", "blur_noise", "blur_noise + blurred")


def prediction(op: str, n: int, dtype: str, c: Ceilings) -> dict[str, Any]:
    """A row of the table; ratios are to a clone of a tensor of this type, at the same ceilings."""
    shape = batch(n, dtype)
    of = work(op, shape, dtype)
    parts, clone = times(of, c, dtype), work("clone", shape, dtype).bytes / c.memory
    floor = max(parts.values())
    row = {"op": op, "n": n, "dtype": dtype, "shape": str(shape), "MB": of.bytes / 1e6, "floor us": 1e6 * floor}
    row |= {f"{name} us": 1e6 * value for name, value in parts.items()}
    row |= {"limit": max(parts, key=lambda name: parts[name]), "floor / clone": floor / clone}
    return row | {"one after the other / clone": (sum(parts.values()) + of.extra_bytes / c.memory) / clone}


def call_of(op: str, shape: Shape, dtype: str) -> Callable[[], Any]:
    """The op on the GPU, outputs given."""
    kind = getattr(torch, dtype)
    size = (shape.n, shape.c, shape.h, shape.w)
    x = torch.full(size, 0.25, device="cuda").to(kind) if dtype != "uint8" else torch.full(size, 150, device="cuda", dtype=kind)
    beta = torch.exp(1.2 * torch.randn(shape.n, device="cuda") - 1.2)
    alpha, seeds = 0.5 * beta, torch.arange(shape.n, device="cuda")
    out, second = (torch.empty_like(x, dtype=torch.float32 if dtype == "uint8" else kind) for _ in range(2))
    if op.startswith("step"):
        method, heads, slope = op.split()[1], (torch.ones_like(x), torch.ones_like(x)), torch.ones_like(x)
        levels = (2.0, 4.0, 1.5, 3.0)
        if method == "euler":
            return lambda: warmops.sampler_step(x, heads, *levels, method=method, return_slope=True, out=(out, second))
        given = {"slope": slope} if method == "heun" else {}
        return lambda: warmops.sampler_step(x, heads, *levels, method=method, out=out, **given)
    return {
        "clone": lambda: out.copy_(x),
        "normal": lambda: warmops.normal(size, seeds, out=out),
        "blur": lambda: warmops.blur(x, alpha, out=out),
        "blur_noise": lambda: warmops.blur_noise(x, alpha, beta, seed=seeds, out=out),
        "blur_noise + blurred": lambda: warmops.blur_noise(x, alpha, beta, seed=seeds, return_blurred=True, out=(out, second)),
        "dct2": lambda: warmops.dct2(x, norm="ortho", out=out),
    }[op]


def timed(rows: list[dict[str, Any]], rounds: int) -> None:
    """Add what each op takes, and what a clone takes in the same rounds, to its row."""
    for n, dtype in dict.fromkeys((row["n"], row["dtype"]) for row in rows):
        mine = [row for row in rows if (row["n"], row["dtype"]) == (n, dtype)]
        x = torch.empty((batch(n, dtype).pixels,), dtype=getattr(torch, dtype), device="cuda")
        for row in mine:  # one at a time: the inputs of all would not fit
            calls = {"op": call_of(row["op"], batch(n, dtype), dtype), "clone": x.clone}
            timing = _timing.interleave(calls, rounds, _timing.CudaClock())
            row["measured us"] = 1e6 * timing["op"].median
            row["measured / clone"] = _timing.ratio(timing["op"], timing["clone"])
            row["measured / floor"] = row["measured us"] / row["floor us"]


def cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = [
        "op",
        "n",
        "dtype",
        "MB",
        *(f"{name}, us" for name in LIMITS),
        "floor, us",
        "limit",
        "floor / clone",
        "one after the other / clone",
    ]
    known = "measured us" in rows[0]
    header += ["measured, us", "measured / clone", "measured / floor"] if known else []
    table = []
    for row in rows:
        line = [row["op"], str(row["n"]), row["dtype"], f"{row['MB']:.0f}", *(f"{row[f'{name} us']:.0f}" for name in LIMITS)]
        line += [f"{row['floor us']:.0f}", row["limit"], f"{row['floor / clone']:.2f}", f"{row['one after the other / clone']:.2f}"]
        table.append(
            line + ([f"{row['measured us']:.0f}", f"{row['measured / clone']:.2f}", f"{row['measured / floor']:.2f}"] if known else [])
        )
    return header, table


def about(c: Ceilings) -> str:
    numbers = f"memory {c.memory / 1e12:.2f} TB/s, TF32 {2 * c.tensor / 1e12:.0f}, float64 {2 * c.double / 1e12:.1f} Tflop/s"
    return f"{c.name}, ceilings {c.source}: {numbers}, {c.lanes / 1e12:.1f} T lane instructions/s"


def document(results: dict[str, Any], chart: str | None) -> str:
    parts = ["# Roofline", f"`{results['machine']['command']}`: {about(Ceilings(**results['ceilings']))}."]
    parts += ["**Predictions from shapes, not measurements.**"] if not results["measured"] else []
    parts += [f"![floors]({chart})"] if chart else []
    parts += [" ".join((__doc__ or "").split("\n\n")[-1].split())]
    return "\n\n".join([*parts, _report.markdown_table(*cells(results["rows"]))]) + "\n"


MARKERS = {"memory": "o", "tensor cores": "s", "float64": "D", "lanes": "^"}
COLOURS = {"blur": "#3fa45b", "blur_noise": "#e8590c", "step heun": "#9775c9", "normal": "#4c8dd6", "dct2": "#a08c2d"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Floors against size, as multiples of a clone's: a panel per data type, the marker says what limits; dots are measured."""
    matplotlib = require("matplotlib")
    matplotlib.use("Agg")
    plt = require("matplotlib.pyplot")
    dtypes = [d for d in ("float32", "bfloat16") if any(row["dtype"] == d for row in results["rows"])] or [results["rows"][0]["dtype"]]
    figure, axes = plt.subplots(1, len(dtypes), figsize=(5.6 * len(dtypes), 4.6), squeeze=False, sharey=True)
    for axis, dtype in zip(axes.flat, dtypes, strict=True):
        for op, colour in COLOURS.items():
            rows = [row for row in results["rows"] if row["op"] == op and row["dtype"] == dtype]
            axis.plot([r["n"] for r in rows], [r["floor / clone"] for r in rows], color=colour, linewidth=1.6)
            for r in rows:
                axis.plot([r["n"]], [r["floor / clone"]], color=colour, marker=MARKERS[r["limit"]], markersize=6, linestyle="none")
            if results["measured"]:
                axis.plot([r["n"] for r in rows], [r["measured / clone"] for r in rows], color=colour, marker="x", linestyle=":")
        axis.axhline(1.0, color=INK, linewidth=0.8, linestyle="--")
        axis.set_xscale("log", base=2)
        sizes = sorted({row["n"] for row in results["rows"]})
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("n, of n x n images", color=INK)
        axis.set_title(dtype, color=INK, fontsize=11)
        axis.tick_params(which="both", colors=INK, length=0)
        axis.grid(color=INK, alpha=0.25, linewidth=0.6)
        axis.patch.set_alpha(0.0)
        for side in axis.spines.values():
            side.set_visible(False)
    axes.flat[0].set_ylim(bottom=0)
    axes.flat[0].set_ylabel("times a clone of the tensor", color=INK)
    what = "floor (lines) and measured (x)" if results["measured"] else "predicted floor, nothing measured"
    c = results["ceilings"]
    figure.suptitle(f"{what}: {c['name']}, {c['source']}", color=INK, fontsize=11)
    handles = [plt.Line2D([], [], color=colour, linewidth=2) for colour in COLOURS.values()]
    handles += [plt.Line2D([], [], color=INK, marker=marker, linestyle="none") for marker in MARKERS.values()]
    labels = [*COLOURS, *(f"limit: {name}" for name in MARKERS)]
    figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False, labelcolor=INK, fontsize=9)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=130, transparent=True)
    plt.close(figure)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--device", choices=["cuda", *DATASHEETS], default="cuda", help="this machine's GPU, or a datasheet's (default: cuda)"
    )
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=SIZES, metavar="N", help=f"sides of images (default: {' '.join(map(str, SIZES))})"
    )
    parser.add_argument("--dtypes", nargs="+", choices=list(BYTES), default=DTYPES, metavar="DTYPE", help=f"(default: {' '.join(DTYPES)})")
    parser.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS), metavar="OP", help=f"of {', '.join(OPS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each op on a GPU (default: 15)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the result files go (default: benchmarks/results)")
    options = parser.parse_args(argv)
    if min(options.sizes) < 1 or options.rounds < 1:
        parser.error("--sizes and --rounds must be at least 1")
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        parser.error(f"torch sees no CUDA device here; --device {' or '.join(DATASHEETS)} predicts from a datasheet")
    ceilings = measured_ceilings() if on_gpu else DATASHEETS[options.device]
    print(about(ceilings))
    wanted = [(op, n, dtype) for dtype in options.dtypes for n in options.sizes for op in options.ops if supports(op, dtype)]
    rows = [prediction(*case, ceilings) for case in wanted]
    if on_gpu:
        timed(rows, options.rounds)
    machine = _machine.describe("cuda" if on_gpu else "cpu", "triton" if on_gpu else "none", None)
    results = {"benchmark": "roofline", "machine": machine, "ceilings": asdict(ceilings), "measured": on_gpu, "rows": rows}
    stem = f"roofline_{_machine.slug(machine) if on_gpu else options.device + '-datasheet'}"
    print(_report.plain_table(*cells(rows)))
    options.out.mkdir(parents=True, exist_ok=True)
    _report.write_json(results, options.out / f"{stem}.json")
    chart = f"{stem}.png" if not on_gpu or optional("matplotlib") is not None else None
    if chart:
        draw(results, options.out / chart)
    (options.out / f"{stem}.md").write_text(document(results, chart))
    print(f"written: {options.out / stem}.json, .md and {'.png' if chart else 'no chart (matplotlib is not installed)'}")
    return results


if __name__ == "__main__":
    main()
