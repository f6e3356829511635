"""Differential fuzzing of every public operation: ``python tests/fuzz.py --cases 20000 --seed 1``.

Hypothesis draws calls (tests/_fuzz_cases.py), every CPU backend and instruction set runs each (or, by ``--kernels``, those of Triton
or CUDA: tests/_fuzz_kernels.py), and 80-bit arithmetic judges (tests/_fuzz_checks.py). Tensors lie between forbidden pages, so the
cases run in a child process: a crash names its case. A failure is made as small as Hypothesis can, and printed so that it can be
repeated:

    python tests/fuzz.py --repeat '{"op": "blur", ...}'
    python tests/fuzz.py --corpus                # the cases in tests/fuzz_corpus.json
    python tests/fuzz.py --edges                 # every operation, dtype and layout
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _fuzz_kernels import Kernels

CORPUS = Path(__file__).with_name("fuzz_corpus.json")
CHUNK = 200  # calls that Hypothesis draws in one run; each has variants


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=None, help="random cases to run; default: 20000, or none with another of these")
    parser.add_argument("--seed", type=int, default=None, help="of the cases; default: a fresh one")
    parser.add_argument("--corpus", action="store_true", help="run the committed cases, and random ones only if --cases is given")
    parser.add_argument("--edges", action="store_true", help="run every operation, dtype and layout at both edges of memory, likewise")
    parser.add_argument("--repeat", metavar="JSON", help="run this case alone")
    parser.add_argument(
        "--kernels",
        choices=("cpu", "triton", "cuda"),
        default="cpu",
        help="which run: reference and cpu (default), or Triton's or CUDA's, which without a GPU run on the host, slowly",
    )
    parser.add_argument("--op", help="cases of one operation only")
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cases is None:
        given.cases = 0 if given.repeat or given.corpus or given.edges else 20_000
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(2**31)
    return given


def interpreted(kernels: str) -> bool:
    import torch

    return kernels == "triton" and not torch.cuda.is_available()


class Runner:
    """Runs cases; the one at work is always in a file, where the parent finds it after a crash."""

    def __init__(self, path: str, kernels: Kernels) -> None:
        self.kernels = kernels
        self.file = open(path, "wb", buffering=0)  # noqa: SIM115 - for the life of the process
        self.ran: collections.Counter[str] = collections.Counter()

    def __call__(self, case: dict[str, Any]) -> None:
        from _fuzz_checks import run

        if not self.kernels.can_run(case):
            return
        text = json.dumps(case)
        os.pwrite(self.file.fileno(), text.encode().ljust(1 << 14), 0)
        self.ran[case["op"]] += 1
        try:
            run(case, self.kernels)
        except Exception as error:
            error.add_note(f"repeat with: python tests/fuzz.py --kernels {self.kernels.name} --repeat '{text}'")
            raise


def child(given: argparse.Namespace) -> None:
    import faulthandler

    import torch
    from _fuzz_cases import VARIANTS, cases, cases_of, edge_cases, variants
    from _fuzz_checks import LARGEST
    from _fuzz_kernels import kernels
    from hypothesis import HealthCheck, Phase, seed, settings
    from hypothesis import given as drawn

    faulthandler.enable()
    warnings.filterwarnings("ignore", message="ComplexHalf support is experimental")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # an output that is not written is NaN
    chosen = kernels(given.kernels)
    run = Runner(given.child, chosen)
    start = time.monotonic()
    if given.repeat:
        case = json.loads(given.repeat)
        run(case)
        if not run.ran.total():
            sys.exit(f"this machine's {given.kernels} kernels cannot run the case")
    if given.corpus:
        for case in json.loads(CORPUS.read_text()):
            run(case)
    if given.edges:
        for case in edge_cases():
            run(case)
    if given.op and given.op not in chosen.operations:
        sys.exit(f"--op must be one of {', '.join(chosen.operations)} with --kernels {given.kernels}, got {given.op!r}")
    strategy = (cases_of(given.op) if given.op else cases(chosen.operations)).filter(chosen.small)
    randomly, before = run.ran.total(), 0
    for chunk in itertools.count():
        done = run.ran.total() - randomly
        if done >= given.cases or (chunk and done == before):
            break
        before = done
        options = settings(
            max_examples=min(CHUNK, -(-(given.cases - done) // VARIANTS)),
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )

        def check(case: dict[str, Any]) -> None:
            for variant in variants(case):
                run(variant)

        seed(given.seed * 1_000_003 + chunk)(options(drawn(strategy)(check)))()
        print(f"{run.ran.total()} cases in {time.monotonic() - start:.0f} s", flush=True)
    each = ", ".join(f"{op} {count}" for op, count in sorted(run.ran.items()))
    print("largest errors, 1 is allowed: " + ", ".join(f"{what} {value:.2f}" for what, value in sorted(LARGEST.items())))
    print(f"{run.ran.total()} cases, none failing, {time.monotonic() - start:.0f} s; {each}", flush=True)


def main() -> int:
    given = arguments()
    if given.child:
        child(given)
        return 0
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        at_work = Path(folder, "case.json")
        command = [sys.executable, __file__, *sys.argv[1:], "--seed", str(given.seed), "--child", str(at_work)]
        environment = {**os.environ, "TRITON_INTERPRET": "1"} if interpreted(given.kernels) else None  # before triton is imported
        status = subprocess.run(command, check=False, env=environment).returncode
        if status < 0:
            case = at_work.read_text().strip() if at_work.exists() else "none yet"
            again = f"python tests/fuzz.py --kernels {given.kernels} --repeat '{case}'"
            print(f"killed by signal {-status} in\n{case}\nrepeat with: {again}", file=sys.stderr)
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
