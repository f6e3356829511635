"""Everything that only a GPU can tell, by one command: tests, accuracy, speed, rooflines, memory checks. Builds nothing.

    python benchmarks/run_gpu.py --out DIR                    # under 8 minutes
    python benchmarks/run_gpu.py --out DIR --only tests       # one step or several
    python benchmarks/run_gpu.py --help

Install the package first (`pip install --no-build-isolation --no-deps .`). DIR gets a folder for each step with its log and
results, `summary.md` to read and `summary.json` to compare. A step that fails or takes longer than its budget does not stop the
others. Exit status: 0 all good, 1 a step failed, 2 something is missing and nothing was run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _gpu_summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TOTAL = 470.0  # seconds of all steps together


@dataclass(frozen=True)
class Step:
    """A command of its own. ``{out}`` in it is the step's folder; ``seconds`` is what it may take at most.

    needs: None, or why the step is left out here.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    needs: str | None = None


def steps() -> list[Step]:
    """In the order of their worth, should time run out."""
    python = sys.executable

    def bench(name: str, *options: str) -> tuple[str, ...]:
        return (python, str(HERE / name), *options)

    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    here, quick = ("--out", "{out}"), ("--device", "cuda", "--quick")
    ops = ("--ops", "clone", "normal", "blur_noise", "step euler", "dct2", "--dtypes", "float32", "bfloat16")
    small = ("--tool", "memcheck", "--error-exitcode", "9", *bench("_gpu_accuracy.py", "{out}", "--small"))
    training = ("--presets", "cifar10", "--batch", "128")
    return [
        Step("accuracy", bench("_gpu_accuracy.py", "{out}"), 40),
        Step("roofline", bench("roofline.py", "--sizes", "32", "64", "128", *ops, *here), 50),
        Step("graphs", bench("_gpu_graphs.py", "{out}"), 35),
        *(Step(f"forward {n}", bench("bench_forward.py", *quick, "--sizes", n, *here), 32) for n in ("64", "32", "128")),
        Step("tests", bench("_gpu_tests.py", "{out}", "--seconds", "105"), 115),
        Step("sampler", bench("bench_sampler.py", *quick, "--sizes", "64", "--tasks", "euler", "run", *here), 45),
        Step("dct", bench("bench_dct.py", *quick, "--batches", "many", *here), 30),
        Step("training", bench("bench_train.py", *quick, *training, *here), 25),
        Step("memcheck", (sanitizer or "", *small), 30, None if sanitizer else "compute-sanitizer is not installed"),
    ]


def missing() -> list[str]:
    """What the machine lacks to run anything at all."""
    try:
        import torch
    except ImportError:
        return ["torch is not installed"]
    lacks = []
    if not torch.cuda.is_available():
        why = "it was built without CUDA" if torch.version.cuda is None else "no driver, or no GPU"
        lacks.append(f"torch {torch.__version__} sees no CUDA device ({why})")
    if importlib.util.find_spec("warmops") is None:
        return [*lacks, "warmops is not installed (pip install --no-build-isolation --no-deps .)"]
    import warmops

    for name in ("triton", "cuda") if not lacks else ():
        status = warmops.backends()[name]
        if not status:
            lacks.append(f"backend {name}: {status.detail}")
    if importlib.util.find_spec("pytest") is None:
        lacks.append("pytest is not installed")
    return lacks


def stop(process: subprocess.Popen[bytes]) -> None:
    """The step and whatever it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
            return


def run_step(step: Step, out: Path, left: float) -> dict[str, Any]:
    """Runs it in a folder and a session of its own; its record."""
    record: dict[str, Any] = {"step": step.name, "budget s": step.seconds, "seconds": 0.0, "status": "left out", "detail": step.needs or ""}
    if step.needs is not None:
        return record
    allowed = min(step.seconds, left)
    if allowed < 5:
        return record | {"status": "no time left", "detail": f"{left:.0f} s were left of all"}
    folder = out / step.name
    folder.mkdir(parents=True, exist_ok=True)
    command = [part.replace("{out}", str(folder)) for part in step.command]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1", "WARMOPS_TEST_SEED": "20251116"}
    start = time.monotonic()
    with open(folder / "log.txt", "wb") as log:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True
            )
        except OSError as error:
            return record | {"status": "failed", "detail": str(error)}
        try:
            code = process.wait(timeout=allowed)
            status, detail = ("passed", "") if code == 0 else ("failed", f"exit status {code}")
        except subprocess.TimeoutExpired:
            status, detail = "out of time", f"stopped after {allowed:.0f} s"
        finally:
            if process.poll() is None:
                stop(process)
    seconds = time.monotonic() - start
    if status != "passed":
        lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
        detail += ": " + " / ".join(lines[-2:])[:300] if lines else ""
    return record | {"seconds": round(seconds, 1), "status": status, "detail": detail}


def run(plan: Sequence[Step], out: Path, total: float = TOTAL, say: Callable[[str], Any] = print) -> int:
    """All steps, one after the other; writes the summary after each, so that nothing is lost whatever happens."""
    began, records = time.monotonic(), []
    for step in plan:
        say(f"{step.name} (at most {step.seconds:.0f} s) ...")
        records.append(run_step(step, out, total - (time.monotonic() - began)))
        say(f"  {records[-1]['status']} in {records[-1]['seconds']:.0f} s {records[-1]['detail']}")
        _gpu_summary.write(out, records, time.monotonic() - began)
    return int(any(record["status"] not in ("passed", "left out") for record in records))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder for logs, results and the summary")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="run these steps alone")
    options = parser.parse_args(argv)
    lacks = missing()
    if lacks:
        print("run_gpu.py needs an NVIDIA GPU and the installed package; nothing was run:", *lacks, sep="\n  ", file=sys.stderr)
        return 2
    plan = steps()
    unknown = set(options.only or ()) - {step.name for step in plan}
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(step.name for step in plan)}")
    out = options.out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        parser.error(f"--out: {out} is not an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    import _machine

    (out / "machine.json").write_text(json.dumps(_machine.describe("cuda", "triton", None), indent=1) + "\n")
    status = run([step for step in plan if not options.only or step.name in options.only], out)
    print(f"\n{(out / 'summary.md').read_text()}\nwritten: {out / 'summary.md'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
