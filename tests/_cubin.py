"""What the compilers made of a kernel: registers, stack, shared memory, occupancy and instructions, read from machine code.

Triton kernels are compiled here for a chip that need not be there; `_cuda_cubins.py` compiles the CUDA sources.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _compile_tables import TENSOR

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that one block may have, by compute capability."""
SHARED_TOTAL = {80: 164 * 1024, 90: 228 * 1024, 100: 228 * 1024}
"""Bytes of a multiprocessor; each block costs 1024 more than it asks for."""
REGISTERS, WARPS, BLOCKS = 65536, 64, 32
"""Registers, resident warps and resident blocks of a multiprocessor: alike on these chips."""
COUNTED = (*TENSOR, "FFMA", "FMUL", "FADD", "DFMA", "IMAD", "LOP3", "MUFU", "SHFL", "BAR", "LDS", "STS", "LDSM")


@dataclass(frozen=True)
class Kernel:
    """Machine code of one kernel."""

    registers: int
    stack: int
    shared: int
    threads: int
    """Of a block, at most."""
    sass: str

    @property
    def local_memory(self) -> list[str]:
        """Instructions that read or write local memory: spilled registers or arrays that are indexed at run time."""
        return re.findall(r"\b(?:LDL|STL)(?:\.\w+)*", self.sass)

    def loads(self) -> list[str]:
        return re.findall(r"\bLDG(?:\.\w+)*", self.sass)

    def stores(self) -> list[str]:
        return re.findall(r"\bSTG(?:\.\w+)*", self.sass)

    def instructions(self) -> Counter[str]:
        """How often each instruction stands in the code (in a loop it runs more often), by the first part of its name."""
        return Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", self.sass))

    def row(self, capability: int) -> dict[str, int]:
        """The line of the committed tables."""
        warps, counts = self.threads // 32, self.instructions()
        loads, stores = self.loads(), self.stores()
        wide = {"LDG.128": sum(".128" in name for name in loads), "STG.128": sum(".128" in name for name in stores)}
        found = {"registers": self.registers, "stack": self.stack, "local": len(self.local_memory), "shared": self.shared, "warps": warps}
        found |= {"resident warps": resident_warps(self.registers, self.shared, warps, capability), "instructions": sum(counts.values())}
        found |= {"LDG.128": wide["LDG.128"], "LDG, narrower": len(loads) - wide["LDG.128"]}
        found |= {"STG.128": wide["STG.128"], "STG, narrower": len(stores) - wide["STG.128"]}
        return found | {name: counts[name] for name in COUNTED if counts[name]}


@dataclass(frozen=True)
class Cubin(Kernel):
    """A Triton kernel, with what it was on the way."""

    ptx: str
    ttgir: str


def resident_warps(registers: int, shared: int, warps: int, capability: int) -> int:
    """The most warps of a multiprocessor that registers and shared memory allow: the bound on occupancy."""
    of_a_warp = -(-registers * 32 // 256) * 256
    blocks = min(BLOCKS, WARPS // warps, REGISTERS // of_a_warp // warps, SHARED_TOTAL[capability] // (shared + 1024))
    return blocks * warps


def cuobjdump() -> list[str]:
    """Where this utility is: in Triton's wheel, in the CUDA toolkit."""
    triton = importlib.util.find_spec("triton")
    places = ["cuobjdump", "/usr/local/cuda/bin/cuobjdump"]
    if triton is not None and triton.origin is not None:
        places.insert(0, str(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"))
    return [found for place in places if (found := shutil.which(place)) is not None]


def read_code(path: Path, tool: str, *of: str) -> dict[str, Kernel]:
    """The kernels of a cubin, by their mangled names; shared memory is what is known before the launch.

    tool: a cuobjdump. of: its options, such as which chip of a fatbin.
    """
    usage, sass, elf = (
        subprocess.run([tool, *of, option, str(path)], capture_output=True, text=True, check=True).stdout
        for option in ("--dump-resource-usage", "--dump-sass", "--dump-elf")
    )
    threads = {}
    for name, attributes in re.findall(r"^\.nv\.info\.(\S+)$(.*?)(?=^\.\w)", elf, re.MULTILINE | re.DOTALL):
        sides = re.search(r"(?:EIATTR_MAX_THREADS|EIATTR_REQNTID)\s+Format:.*\s+Value:\s*(\w+) (\w+) (\w+)", attributes)
        if sides is not None:
            threads[name] = math.prod(int(side, 16) for side in sides.groups())
    code = {part.split(maxsplit=1)[0]: part for part in sass.split("Function : ")[1:]}
    kernels = {}
    for name, line in re.findall(r"Function (\S+):\s*\n\s*(.*)", usage):
        found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED):(\d+)", line)}
        kernels[name] = Kernel(found["REG"], found["STACK"], found["SHARED"], threads[name], code[name])
    return kernels


def compile_kernel(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    capability: int,
    options: dict[str, Any],
    aligned: tuple[str, ...] = (),
) -> Cubin:
    """Compile a Triton ``kernel`` for sm_``capability``; ``aligned`` arguments are multiples of 16 (bytes, for a pointer).

    signature: type of each argument that is not a constant, such as ``*fp32``, ``i32``.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    full = {name: "constexpr" if name in constants else signature[name] for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=full, constexprs={(names.index(k),): v for k, v in constants.items()}, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        (code,) = read_code(Path(file.name), cuobjdump()[0]).values()
    shared = compiled.metadata.shared
    return Cubin(code.registers, code.stack, shared, code.threads, code.sass, compiled.asm["ptx"], compiled.asm["ttgir"])
