"""Build of the extension ``warmops._C`` with ninja. Everything else about the package is in pyproject.toml.

Environment variables:
    WARMOPS_NATIVE        auto (default): build the extension where a C++17 compiler works; 0: never; 1: must be built
    WARMOPS_CUDA          auto (default): with CUDA kernels where nvcc works; 0: without; 1: must be with
    TORCH_CUDA_ARCH_LIST  compute capabilities, such as "8.0;9.0+PTX", each compiled for itself (default: one compilation
                          for 8.0 gives machine code for 8.0, 9.0 and 10.0, as far as nvcc has them, and PTX for the rest)
    CUDA_HOME, CXX, CXXFLAGS, LDFLAGS, MAX_JOBS  as usual
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD_COMMANDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "develop", "install"}
DEFAULT_ARCHITECTURES = ("80", "90", "100")

# No fused or reassociated arithmetic: every instruction set and both compilers give the same bits.
CXX_FLAGS = ["-std=c++17", "-ffp-contract=off", "-fvisibility=hidden", "-fPIC", "-Wno-psabi"]
# The kernels' speed must not depend on where the linker happens to put them: 4 % between two builds of the same source.
ALIGNMENT = ["-falign-functions=64", "-falign-loops=32"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-DWARMOPS_WITH_CUDA", "-Xcompiler", "-fPIC,-fvisibility=hidden,-ffp-contract=off"]
ISA_FLAGS = {
    "_avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-mavx2"],
    "_avx2": ["-mavx2", "-mfma", "-mf16c"],
}

PYTHON_TRIAL = """
#include <Python.h>
#include <cstdint>
#include <vector>
template <class T> int bytes(T) { if constexpr (sizeof(T) == 4) return 4; else return 8; }
extern "C" int trial() { return bytes(std::vector<std::int64_t>(1)[0]); }
"""
OPENMP_TRIAL = """
#include <omp.h>
extern "C" int trial() { int n = 0;
#pragma omp parallel reduction(+ : n)
    n += omp_get_num_threads();
    return n; }
"""
X86_TRIAL = """
#ifndef __x86_64__
#error other architecture
#endif
"""
CUDA_TRIAL = """
#include <cuda_runtime.h>
#include <vector>
__global__ void kernel(float* p) { *p = 1.0f; }
extern "C" int trial() { kernel<<<1, 1>>>(nullptr); return int(cudaGetLastError()); }
"""


class CannotBuild(Exception):
    """This machine lacks a tool; the message says which."""


def say(message: str) -> None:
    print(f"warmops: {message}", file=sys.stderr, flush=True)


def setting(name: str) -> str:
    value = os.environ.get(name) or "auto"
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{name} must be auto, 0 or 1, got {value!r}")
    return value


def flags_from(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


def trial(command: list[str], source: str, suffix: str = ".cpp", link: bool = True) -> str | None:
    """Compiles (and links) a few lines into a shared library; None, or the first line of what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial" + suffix)
        path.write_text(source)
        try:
            run = subprocess.run(
                [*command, *(LINK_FLAGS if link else ["-c"]), str(path), "-o", str(path.with_suffix(".out"))],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except OSError as error:
            return str(error)
    if run.returncode == 0:
        return None
    lines = [line for line in (run.stderr + run.stdout).splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else f"exit status {run.returncode}")


LINK_FLAGS = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]


@dataclass(frozen=True)
class HostCompiler:
    command: list[str]
    flags: list[str]  # for every file
    x86: bool

    @classmethod
    def find(cls) -> HostCompiler:
        if sys.platform == "win32":
            raise CannotBuild("the extension is not supported on Windows")
        candidates = [flags_from("CXX")] if os.environ.get("CXX") else [["c++"], ["g++"], ["clang++"]]
        includes = python_includes()
        reasons = []
        for command in candidates:
            if shutil.which(command[0]) is None:
                reasons.append(f"{command[0]}: not found")
                continue
            base = [*command, *flags_from("CXXFLAGS"), *CXX_FLAGS]
            reason = trial([*base, *includes], PYTHON_TRIAL)
            if reason is not None:
                reasons.append(f"{command[0]}: {reason}")
                continue
            flags = ["-O2", *ALIGNMENT, *flags_from("CXXFLAGS"), *CXX_FLAGS]
            if trial([*base, "-fopenmp"], OPENMP_TRIAL) is None:
                flags.append("-fopenmp")
            else:
                say(f"{command[0]} has no OpenMP: the kernels will use one thread")
            return cls(command, flags, trial(base, X86_TRIAL, link=False) is None)
        raise CannotBuild("no working C++17 compiler (" + "; ".join(reasons) + ")")


@dataclass(frozen=True)
class Nvcc:
    command: list[str]
    architectures: list[str]  # -gencode flags

    @classmethod
    def find(cls, host: HostCompiler) -> Nvcc:
        homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
        places = [str(Path(home, "bin", "nvcc")) for home in homes if home] + ["nvcc", "/usr/local/cuda/bin/nvcc"]
        nvcc = next((found for place in places if (found := shutil.which(place))), None)
        if nvcc is None:
            raise CannotBuild("nvcc was not found in CUDA_HOME, PATH or /usr/local/cuda")
        command = [nvcc]
        if len(host.command) == 1 and not os.environ.get("NVCC_CCBIN"):
            command += ["-ccbin", shutil.which(host.command[0]) or host.command[0]]
        architectures = gencode(nvcc)
        reason = trial([*command, *NVCC_FLAGS, *architectures], CUDA_TRIAL, suffix=".cu")
        if reason is not None:
            raise CannotBuild(f"{nvcc} does not work: {reason}")
        return cls(command, architectures)


def gencode(nvcc: str) -> list[str]:
    """``-gencode`` flags for TORCH_CUDA_ARCH_LIST."""
    run = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    known = set(re.findall(r"compute_(\d+)", run.stdout))
    if not known:
        raise CannotBuild(f"{nvcc} --list-gpu-arch names no architecture: {(run.stderr or run.stdout).strip()[:200]}")
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if not asked:
        chosen = [arch for arch in DEFAULT_ARCHITECTURES if arch in known]
        if not chosen:
            raise CannotBuild(f"{nvcc} supports none of the architectures {', '.join(DEFAULT_ARCHITECTURES)}")
        # nvcc optimises once and only the last stage runs for each chip: half the time of a compilation each.
        return [f"-gencode=arch=compute_{chosen[0]},code=[{','.join(f'sm_{arch}' for arch in chosen)},compute_{chosen[0]}]"]
    result = []
    for item in asked:
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", item)
        if match is None:
            raise SystemExit(f'TORCH_CUDA_ARCH_LIST must be a list such as "8.0;9.0+PTX", got {item!r} in it')
        if match[1] + match[2] not in known:
            has = ", ".join(sorted(known, key=int))
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST asks for {item}, which {nvcc} does not support (it has {has})")
        number = match[1] + match[2] + match[3]
        result.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if match[4]:
            result.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return result


def find_tools() -> tuple[HostCompiler, Nvcc | None] | None:
    """The compilers to build with; None: no extension. Raises SystemExit where one that was asked for is missing."""
    native, cuda = setting("WARMOPS_NATIVE"), setting("WARMOPS_CUDA")
    if native == "0":
        if cuda == "1":
            raise SystemExit("WARMOPS_CUDA=1 needs the extension, which WARMOPS_NATIVE=0 leaves out")
        say("building without the extension warmops._C (WARMOPS_NATIVE=0)")
        return None
    try:
        host = HostCompiler.find()
    except CannotBuild as error:
        for name, value in (("WARMOPS_NATIVE", native), ("WARMOPS_CUDA", cuda)):
            if value == "1":
                raise SystemExit(f"{name}=1, but {error}") from None
        say(f"building without the extension warmops._C: {error}")
        return None
    if cuda == "0":
        say("building without CUDA (WARMOPS_CUDA=0)")
        return host, None
    try:
        return host, Nvcc.find(host)
    except CannotBuild as error:
        if cuda == "1":
            raise SystemExit(f"WARMOPS_CUDA=1, but {error}") from None
        say(f"building without CUDA: {error}")
        return host, None


def python_includes() -> list[str]:
    paths = sysconfig.get_paths()
    return [f"-I{path}" for path in dict.fromkeys((paths["include"], paths["platinclude"]))]


def sources(x86: bool, cuda: bool) -> list[Path]:
    found = [*ROOT.glob("csrc/*.cpp"), *ROOT.glob("csrc/cpu/*.cpp")]
    if cuda:
        found += [*ROOT.glob("csrc/cuda/*.cpp"), *ROOT.glob("csrc/cuda/*.cu")]
    return sorted(path for path in found if x86 or not path.stem.endswith(tuple(ISA_FLAGS)))


class NinjaBuild(build_ext):
    """Compiles each file of csrc with its own flags, all in parallel, again only where something changed."""

    def build_extension(self, ext: Extension) -> None:
        try:
            import pybind11
        except ImportError:
            raise SystemExit("building warmops._C needs pybind11: pip install pybind11 (or set WARMOPS_NATIVE=0)") from None
        assert TOOLS is not None
        host, nvcc = TOOLS
        # An editable install would compile in a folder of its own that nobody finds again.
        folder = ROOT / "build" / f"editable-{sys.implementation.cache_tag}" if self.editable_mode else Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        bindings = [*python_includes(), f"-I{pybind11.get_include()}"]
        defines = ["-DWARMOPS_WITH_CUDA"] if nvcc else []

        edges, objects = [], []
        for source in sources(host.x86, nvcc is not None):
            obj = source.relative_to(ROOT).with_suffix(source.suffix + ".o")
            if source.suffix == ".cu":
                assert nvcc is not None
                command = [*nvcc.command, *NVCC_FLAGS, *nvcc.architectures]
            else:
                command = [*host.command, *host.flags, *defines]
                command += next((flags for end, flags in ISA_FLAGS.items() if source.stem.endswith(end)), [])
                command += bindings if source.stem.startswith("bindings") else []
            edges.append(edge("compile", [obj], [source], command))
            objects.append(obj)
        if nvcc:
            # nvcc adds its static runtime; the driver library libcuda is never linked, so the module loads without one.
            command = [*nvcc.command, "-shared", "-cudart=static"]
            command += [f"-Xcompiler={flag}" for flag in host.flags if flag == "-fopenmp"]
            command += [f"-Xlinker={flag}" for flag in ("--exclude-libs", "ALL")]
            command += [f"-Xcompiler={flag.replace(',', chr(92) + ',')}" for flag in flags_from("LDFLAGS")]
        else:
            command = [*host.command, *host.flags, *LINK_FLAGS, *flags_from("LDFLAGS")]
        edges.append(edge("link", [target], objects, command))
        Path(folder, "build.ninja").write_text(RULES + "".join(edges))

        jobs = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        if subprocess.run([*ninja_command(), "-C", str(folder), *jobs], stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise SystemExit("warmops._C did not compile: the errors are above")


RULES = """ninja_required_version = 1.5
rule compile
  command = $run -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = $run $in -o $out
"""


def edge(rule: str, outputs: list[Path], inputs: list[Path], command: list[str]) -> str:
    def names(paths: list[Path]) -> str:
        return " ".join(re.sub(r"([$: ])", r"$\1", str(path)) for path in paths)

    run = shlex.join(command).replace("$", "$$")
    return f"build {names(outputs)}: {rule} {names(inputs)}\n  run = {run}\n"


def ninja_command() -> list[str]:
    try:
        import ninja
    except ImportError:
        found = shutil.which("ninja")
        if found is None:
            raise SystemExit("building warmops._C needs ninja: pip install ninja (or set WARMOPS_NATIVE=0)") from None
        return [found]
    return [str(Path(ninja.BIN_DIR, "ninja"))]


TOOLS = find_tools() if BUILD_COMMANDS & set(sys.argv) else None

setup(
    license="Apache-2.0",
    ext_modules=[Extension("warmops._C", [str(path.relative_to(ROOT)) for path in sources(True, True)])] if TOOLS else [],
    cmdclass={"build_ext": NinjaBuild},
)
