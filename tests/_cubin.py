"""Compile Triton kernels to machine code for a chip that need not be there, and read what the compiler made of them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that one block may have, by compute capability."""


@dataclass(frozen=True)
class Cubin:
    registers: int
    stack: int
    shared: int
    ptx: str
    sass: str
    ttgir: str

    @property
    def local_memory(self) -> list[str]:
        """Instructions that read or write local memory: spilled registers or arrays that are indexed at run time."""
        return re.findall(r"\b(?:LDL|STL)(?:\.\w+)*", self.sass)

    def loads(self) -> list[str]:
        return re.findall(r"\bLDG(?:\.\w+)*", self.sass)

    def stores(self) -> list[str]:
        return re.findall(r"\bSTG(?:\.\w+)*", self.sass)


def _tool(name: str) -> str:
    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def compile_kernel(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    capability: int,
    options: dict[str, Any],
    aligned: tuple[str, ...] = (),
    disassemble: bool = True,
) -> Cubin:
    """Compile ``kernel`` for sm_``capability``; ``aligned`` arguments are multiples of 16 (bytes, for a pointer).

    signature: type of each argument that is not a constant, such as ``*fp32``, ``i32``.
    """
    names = kernel.arg_names
    full = {name: "constexpr" if name in constants else signature[name] for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=full, constexprs={(names.index(k),): v for k, v in constants.items()}, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([_tool("cuobjdump"), "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
        sass = ""
        if disassemble:
            sass = subprocess.run([_tool("cuobjdump"), "--dump-sass", file.name], capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK):(\d+)", usage)}
    return Cubin(found["REG"], found["STACK"], compiled.metadata.shared, compiled.asm["ptx"], sass, compiled.asm["ttgir"])
