"""The golden file: what every operation gives on fixed inputs, so that no release changes noise or results by accident.

``python tests/golden.py --write`` makes tests/golden.json anew, and says what has changed; tests/test_golden.py compares. It holds

- ``integers``: Philox words, equal on every machine;
- ``bits``: a hash of each result's bits for each instruction set of the C++ kernels. Those of the noise (float32 and halves) hold
  on every machine: their arithmetic is written out. The others also depend on the mathematical library's last digits, from which
  tables of cosines and exponentials are made; they are compared where that library gives the digits whose hash is ``library``;
- ``values``: some numbers of each result, from the reference, for every other machine: compared within the documented error.

A CPU without AVX-512 makes the bits of that path with a build in which a header stands in for the instructions (_avx512_on_host.py).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from _all_ops import bits, small_calls
from _avx512_on_host import emulated

import warmops
from warmops import reference

FILE = Path(__file__).with_name("golden.json")
SEEDS = (0, 1, -1, 2**32, 2**63 - 1)
COUNTERS = (0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 5)
PLACES = 7
"""Numbers kept of each result, spread over it."""


def library() -> str:
    """A hash of what the C library's functions give: Python calls the same ones as the kernels' tables."""
    digest = hashlib.sha256()
    for i in range(1, 2000):
        x = math.pi * i / 4001
        numbers = (math.cos(x), math.sin(x), math.exp(-x * x), math.expm1(-x / 64), math.log(x), math.log((i + 0.5) * 2.0**-32))
        digest.update(struct.pack("6d", *numbers))
    return digest.hexdigest()[:16]


def pinned_everywhere(name: str) -> bool:
    """Whether a result's bits depend on nothing but this project's code."""
    return name.startswith(("normal", "noise")) and "float64" not in name


def integers() -> list[list[int]]:
    counter = torch.tensor([[c % 2**32, c >> 32, 0, 0] for c in COUNTERS])
    rows = []
    for seed in SEEDS:
        words = reference.philox4x32(counter, torch.tensor([seed % 2**32, (seed >> 32) % 2**32]))
        rows.append(words.flatten().tolist())
    return rows


def sample(result: torch.Tensor) -> list[float]:
    flat = result.double().flatten()
    return flat[torch.linspace(0, flat.numel() - 1, PLACES).long()].tolist()


def bits_of(isa: str) -> dict[str, str]:
    native = importlib.import_module("warmops._C")
    chosen = native.isa()
    native.set_isa(isa)
    try:
        return {name: bits(call("cpu")) for name, call in small_calls().items()}
    finally:
        native.set_isa(chosen)


def emulated_bits() -> dict[str, str]:
    """Of the kernels for AVX-512, on a CPU that has none."""
    with emulated() as build:
        command = [sys.executable, "-c", "import golden, json; print(json.dumps(golden.bits_of('avx512')))"]
        path = os.pathsep.join([str(build), str(Path(__file__).resolve().parent)])
        environment = os.environ | {"PYTHONPATH": path}
        run = subprocess.run(command, cwd=build, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)  # type: ignore[no-any-return]


def values() -> dict[str, list[list[float]]]:
    return {name: [sample(result) for result in call("reference")] for name, call in small_calls().items()}


def make() -> dict[str, Any]:
    found = {isa: bits_of(isa) for isa in importlib.import_module("warmops._C").isas()}
    if "avx512" not in found and "avx2" in found:
        found["avx512"] = emulated_bits()
    return {
        "version": warmops.__version__,
        "library": library(),
        "integers": integers(),
        "bits": found,
        "values": values(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare with tests/golden.json, or make it anew.")
    parser.add_argument("--write", action="store_true", help="make the file anew (needs a CPU with AVX2)")
    write = parser.parse_args().write
    before = json.loads(FILE.read_text()) if FILE.exists() else {"bits": {}, "integers": None}
    now = make()
    changed = []
    for isa, found in now["bits"].items():
        changed += [f"{isa}: {name}" for name, value in found.items() if before["bits"].get(isa, {}).get(name) != value]
    changed += ["the integers"] if before["integers"] != now["integers"] else []
    print("\n".join(changed) or "nothing has changed")
    if write:
        missing = set(before["bits"]) - set(now["bits"])
        if missing:
            sys.exit(f"this CPU cannot make the bits of {', '.join(sorted(missing))}")
        FILE.write_text(json.dumps(now, indent=0) + "\n")
    return int(bool(changed) and not write)


if __name__ == "__main__":
    sys.exit(main())
