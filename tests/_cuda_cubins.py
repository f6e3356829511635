"""csrc/cuda compiled by nvcc for chips that need not be there: machine code, and what ptxas said."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _cubin import cuobjdump, read_code

CUDA = Path(__file__).parent.parent / "csrc" / "cuda"
FLAGS = ("-std=c++17", "-O3", "-fmad=false")
CHIPS = (80, 90, 100)
Compiled = tuple[subprocess.CompletedProcess[str], Path]

_folder = tempfile.TemporaryDirectory()


def sources() -> tuple[Path, ...]:
    return tuple(sorted(CUDA.glob("*.cu")))


def nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def nvcc_version() -> str:
    """Such as "13.0"; ptxas comes with it."""
    compiler = nvcc()
    assert compiler is not None
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V(\d+\.\d+\.\d+)", said)[1]  # type: ignore[index]


def compile_one(compiler: str, source: Path) -> Compiled:
    """For all chips at once, as setup.py does where TORCH_CUDA_ARCH_LIST is not set."""
    fatbin = Path(_folder.name, f"{source.stem}.fatbin")
    chips = f"-gencode=arch=compute_80,code=[{','.join(f'sm_{chip}' for chip in CHIPS)}]"
    command = [compiler, *FLAGS, chips, "-Xptxas", "-v", "-fatbin", str(source), "-o", str(fatbin)]
    return subprocess.run(command, capture_output=True, text=True, check=False), fatbin


@functools.cache
def compile_all(compiler: str) -> dict[Path, Compiled]:
    """Every source, once, as many at a time as there are processors."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(sources(), pool.map(functools.partial(compile_one, compiler), sources()), strict=True))


def rows(fatbin: Path, capability: int) -> dict[str, dict[str, int]]:
    """The lines of the committed table, by name, of the kernels of one source."""
    kernels = read_code(fatbin, cuobjdump()[-1], "-arch", f"sm_{capability}")
    return {f"{short_name(name)}-sm{capability}": kernel.row(capability) for name, kernel in kernels.items()}


def short_name(mangled: str) -> str:
    """``tile_kernel<float, 64>`` of a mangled instantiation."""
    name, arguments = re.search(r"\d([a-z_]+_kernel)I(\w+?)EEv", mangled).groups()  # type: ignore[union-attr]
    for code, word in (("13__nv_bfloat16", "bfloat16 "), ("6__half", "half "), ("Lb1E", "wide "), ("Lb0E", "general ")):
        arguments = arguments.replace(code, word)
    arguments = re.sub(r"Li(\d+)E?", r"\1 ", arguments)
    words = [{"f": "float", "d": "double"}.get(word, word) for word in re.sub(r"^([fd])", r"\1 ", arguments).split()]
    return f"{name}<{', '.join(words)}>"
