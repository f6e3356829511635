"""Which blur-to-noise ratio is best: the same network, trained with the same budget at each of eight ratios, several times over.

    python experiments/bnr_sweep.py --out runs/bnr                  digits on two CPU cores, about half an hour
    python experiments/bnr_sweep.py --out runs/bnr --report         tables and figures from the cells that are there
    python experiments/bnr_sweep.py --preset gpu --data DIR ..      Fashion-MNIST (a folder of its IDX files) at 32x32, on one GPU
    python experiments/bnr_sweep.py --preset gpu --data cifar10 ..  CIFAR-10, through torchvision

Each cell (a ratio and a seed) is one JSON file in OUT/cells, written when it is done. The same command again does what is missing; a
run that was killed loses what its unfinished cell did since that cell's last checkpoint. Several processes, also on several machines
with a common folder, may run the same command at once: each takes cells that no other has. docs/report.md says what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import multiprocessing
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from _bnr_cell import STRIP, Data, Sweep, name_of, run_cell, settings_of, write_json
from _bnr_report import report

from warmdiff.files import grid, write_png
from warmdiff.runlog import lock
from warmdiff.spectrum import SpectralArgument

CPU = Sweep(
    train={
        "preset": "tiny", "device": "cpu", "images": 64_000, "save_every": 16_000, "log_every": 8_000, "network": {"channels": 16},
    },
)  # fmt: skip
GPU = Sweep(
    data="fashion-mnist", pad=32, held_out=1 / 6, samples=4_000, hidden=128, judge_iterations=20,
    train={
        "preset": "small", "images": 256_000, "ramp_up": 20_000, "ema": 50_000, "learning_rate": 1e-3, "precision": "bf16",
        "save_every": 64_000,
        "network": {"channels": 64, "multipliers": (1, 2, 2), "blocks": 1},
    },
)  # fmt: skip
PRESETS = {"cpu": (CPU, 2), "gpu": (GPU, 2)}  # and how many processes work side by side


def prepare(folder: Path, sweep: Sweep) -> Data:
    """Data, floor and settings of a sweep in its folder; whoever comes first writes them.

    Raises:
        ValueError: the folder holds a sweep with other settings.
    """
    path, mine = folder / "sweep.json", settings_of(sweep)
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        found = json.loads(path.read_text())["sweep"]
        # More seeds or ratios are a longer sweep, not another one.
        other = [key for key in mine if key not in ("seeds", "bnrs", "root") and found.get(key) != mine[key]]
        if other:
            raise ValueError(
                f"--out must be a new folder: in {folder}, {other[0]} is {found.get(other[0])!r}, here it is {mine[other[0]]!r}"
            )
    data = Data.of(sweep)
    while not path.exists():
        with claim(folder, "floor") as mine_to_do:
            if mine_to_do and not path.exists():
                data.save(folder / "train.npz")
                write_png(folder / "cells" / "real.png", grid(data.real[:STRIP], columns=STRIP))
                floor = {"training images": len(data.train), "held-out images": len(data.real), "sets": data.floor()}
                suggested = SpectralArgument.of(data.spectrum).table()
                write_json(path, {"sweep": mine, "machine": machine(), "floor": floor, "spectrum": suggested})
        time.sleep(0.0 if mine_to_do else 1.0)
    return data


@contextlib.contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Whether a piece of work is this process's: no other has it. A claim ends with its process, however that ends."""
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(folder / "locks" / name))
        except OSError:
            yield False
            return
        yield True


def machine() -> dict[str, Any]:
    """Where and how it was run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def work(folder: Path, sweep: Sweep, position: int = 0, keep_runs: bool = False) -> int:
    """Does cells until none is left that nobody else is doing; returns how many it did."""
    from tqdm import tqdm

    data, count = prepare(folder, sweep), 0
    for bnr, seed in sweep.cells():
        name = name_of(bnr, seed)
        path = folder / "cells" / f"{name}.json"
        with claim(folder, name) as mine:
            if not mine or path.exists():
                continue
            with tqdm(total=100, unit="%", position=position, leave=False, mininterval=1.0, disable=None) as bar:

                def show(what: str, part: float, bar: Any = bar, name: str = name) -> None:
                    bar.set_description(f"{name}, {what}", refresh=False)
                    bar.update(int(100 * part) - bar.n)

                run_cell(data, folder, bnr, seed, show, keep_runs)
        count += 1
        print(f"{datetime.datetime.now():%H:%M:%S} {name} done, {finished(folder, sweep)} of {len(sweep.cells())} cells", flush=True)
    return count


def finished(folder: Path, sweep: Sweep) -> int:
    return sum((folder / "cells" / f"{name_of(*cell)}.json").exists() for cell in sweep.cells())


def run(folder: Path, sweep: Sweep, jobs: int, keep_runs: bool) -> None:
    """The sweep in so many processes side by side.

    Raises:
        RuntimeError: one of them failed; what the others finished is there.
    """
    from tqdm import tqdm

    if jobs == 1:
        work(folder, sweep, 0, keep_runs)
        return
    prepare(folder, sweep)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(folder, sweep, 1 + i, keep_runs)) for i in range(jobs)]
    for worker in workers:
        worker.start()
    with tqdm(total=len(sweep.cells()), unit="cell", disable=None) as bar:
        while any(worker.is_alive() for worker in workers):
            time.sleep(1.0)
            bar.update(finished(folder, sweep) - bar.n)
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"{finished(folder, sweep)} of {len(sweep.cells())} cells are done; a process failed: its message is above")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--preset", choices=tuple(PRESETS), default="cpu", help="data, network and budget (default: %(default)s)")
    add("--out", type=Path, default=Path("runs/bnr"), help="folder of cells, tables and figures (default: %(default)s)")
    add("--data", help="other images: whatever `warmdiff train --data` takes")
    add("--size", type=lambda text: (int(text),), metavar="N", help="side to which image files are cropped and scaled")
    add("--root", help="folder for data sets that torchvision downloads (default: data)")
    add("--images", type=int, help="train each network on so many images, repeats counted (default: the preset's)")
    add("--samples", type=int, help="samples of each measurement, at most the number of held-out images (default: the preset's)")
    add("--seeds", type=int, help="seeds of each ratio, from 0 on (default: 3)")
    add("--bnrs", type=lambda text: tuple(map(float, text.split(","))), metavar="A,B,..", help="ratios (default: the paper's eight)")
    add("--jobs", type=int, help="processes side by side (default: 2)")
    add("--keep-runs", action="store_true", help="keep each cell's checkpoints in OUT/runs")
    add(
        "--report", nargs="?", const="", metavar="FILE.md", help="no training: tables and figures of OUT; into a report's marked places too"
    )
    return made


def sweep_of(arguments: argparse.Namespace) -> Sweep:
    """The preset with what was asked for changed."""
    given = {name: getattr(arguments, name) for name in ("data", "root", "size", "samples", "bnrs") if getattr(arguments, name) is not None}
    if arguments.seeds is not None:
        given["seeds"] = tuple(range(arguments.seeds))
    sweep = dataclasses.replace(PRESETS[arguments.preset][0], **given)
    return sweep if arguments.images is None else dataclasses.replace(sweep, train=sweep.train | {"images": arguments.images})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; the exit status."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.report is None:
            run(arguments.out, sweep_of(arguments), arguments.jobs or PRESETS[arguments.preset][1], arguments.keep_runs)
        for path in report(arguments.out, Path(arguments.report) if arguments.report else None):
            print(path)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
