"""The C++ kernels under AddressSanitizer and UndefinedBehaviorSanitizer, driven by the tests of every operation.

    python tests/sanitize.py                        # all of them
    python tests/sanitize.py --isa baseline         # all of them on the plainest kernels, of which every access is watched
    python tests/sanitize.py tests/test_blur.py -x  # what pytest is given instead
    python tests/sanitize.py --threads              # ThreadSanitizer: the kernels called from four threads at once

The package is built into a temporary folder (``--build`` names one to keep), never into the checkout. pytest runs in a process
that has the sanitizers loaded before Python, so that torch's memory has poisoned margins too. A report does not stop the run:
all are printed at the end. The exit status is 0 only if every test passed and nothing was reported. Needs Linux and a compiler
with the sanitizers. Loads and stores with masks, which the AVX kernels use at the end of a row, are not seen by the compiler;
tests of the guard pages behind tensors and ``--isa baseline`` see to them.

ThreadSanitizer does not know OpenMP's barriers and would report each of them: with ``--threads`` the kernels are compiled without
OpenMP, so that what is watched is what callers share.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Not about the operations on the CPU: builds, GPU code, the stack above them.
OTHERS = {
    "cuda_build", "cuda_dct", "cuda_dct_build", "setup", "triton_compile", "triton_interpreter", "readme", "sanitizers", "supply",
    "docstrings", "no_memory",
    "checkpoint", "cli", "data", "digits", "faults", "network", "samplers", "train", "bnr_sweep", "judge", "spectral_argument",
}  # fmt: skip
SANITIZERS = "address,undefined,float-cast-overflow"  # a division by zero is no error: IEEE 754 says what it gives
FLAGS = ["-g1", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZERS}", f"-fsanitize-recover={SANITIZERS}"]
# What AddressSanitizer finds anyway is left to it, and its checks are calls: it compiles in a third of the time.
FLAGS += ["-fno-sanitize=null,object-size", "--param", "asan-instrumentation-with-call-threshold=0", "-DWARMOPS_SLOW_CODELETS"]
OPTIONS = {
    # Python and torch do not free what they hold at the end.
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1:log_path={}",
    "UBSAN_OPTIONS": "halt_on_error=0:print_stacktrace=1:log_path={}",
}
REPORT = re.compile(r"^.*(?:runtime error: |ERROR: AddressSanitizer).*$", re.MULTILINE)
PROBE = """
import ctypes
import warmops._C
print(warmops._C.__file__)
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
ctypes.memset(malloc(64), 0, 65)
"""


class Missing(Exception):
    """This machine cannot do it; the message says why."""


def compiler() -> list[str]:
    """$CXX, or the first C++ compiler of this machine."""
    command = shlex.split(os.environ.get("CXX", "")) or [next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), "c++")]
    if shutil.which(command[0]) is None:
        raise Missing(f"there is no C++ compiler {command[0]!r}")
    return command


def check(cxx: list[str]) -> None:
    """Raises `Missing` where the compiler cannot link with the sanitizers."""
    if sys.platform != "linux":
        raise Missing(f"needs Linux, this is {sys.platform}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.cpp")
        source.write_text("int main() { return 0; }\n")
        command = [*cxx, *FLAGS, str(source), "-o", str(source.with_suffix(""))]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Missing(f"{shlex.join(cxx)} has no {SANITIZERS}: {run.stderr.strip()[-200:]}")


def runtimes(cxx: list[str]) -> list[str]:
    """What has to be loaded before Python: the sanitizers, and the C++ library whose exceptions they watch."""
    found = []
    for names in (("libasan.so", "libclang_rt.asan-x86_64.so"), ("libubsan.so",), ("libstdc++.so.6",)):
        for name in names:
            said = subprocess.run([*cxx, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
            if Path(said).is_absolute() and Path(said).is_file():
                found.append(os.path.realpath(said))
                break
    if not found or "asan" not in found[0]:
        raise Missing(f"{shlex.join(cxx)} has no AddressSanitizer that can be loaded before Python")
    return found


def program(cxx: list[str], flags: list[str], target: Path) -> Path:
    """Compiles _sanitized.cpp, for the plainest CPU: of others the compiler watches all but the loads and stores with masks."""
    common = ["-std=c++17", "-O0", "-ffp-contract=off", "-Wno-psabi", "-g1", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*cxx, *common, *flags, str(ROOT / "tests" / "_sanitized.cpp"), "-o", str(target)], check=True)
    return target


def threads(cxx: list[str]) -> int:
    """The calls of _sanitized.cpp from four threads under ThreadSanitizer; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        target = program(cxx, ["-fsanitize=thread", "-pthread"], Path(folder, "threads"))
        return subprocess.run([target, "together"], env={**os.environ, "TSAN_OPTIONS": "halt_on_error=0"}, check=False).returncode


def build(folder: Path) -> Path:
    """Builds the package with the sanitizers; the folder to put on Python's path."""
    flags = {"CXXFLAGS": shlex.join(["-O1", "-D_GLIBCXX_ASSERTIONS", *FLAGS]), "LDFLAGS": f"-fsanitize={SANITIZERS}"}
    environment = {**os.environ, **flags, "WARMOPS_NATIVE": "1", "WARMOPS_CUDA": "0"}
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(folder), "--build-lib", str(folder / "lib")]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise SystemExit("the build with sanitizers failed: the errors are above")
    return folder / "lib"


def watched(library: Path, preload: list[str], log: Path) -> dict[str, str]:
    """The environment of a process that is watched; its reports go to files whose names begin with ``log``."""
    options = {name: value.format(log) for name, value in OPTIONS.items()}
    return {**os.environ, **options, "LD_PRELOAD": ":".join(preload), "PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}


def reports(log: Path) -> dict[str, str]:
    """First line of each distinct report, without addresses: the report."""
    found: dict[str, str] = {}
    for path in sorted(log.parent.glob(f"{log.name}*")):
        text = path.read_text(errors="replace")
        starts = [match.start() for match in REPORT.finditer(text)] or [0]
        for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
            report = text[begin:end]
            places = re.findall(r"(?:csrc|cpu)/[\w./]+:\d+", report)[:1]
            found.setdefault(re.sub(r"0x[0-9a-f]+|==\d+==", "", report.partition("\n")[0]) + " ".join(places), report)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Everything else is given to pytest: files and options, instead of every test.",
    )
    parser.add_argument("--build", type=Path, help="folder to build in, kept (default: a temporary one)")
    parser.add_argument("--isa", help="kernels of this instruction set (default: the CPU's best; tests/test_isa.py forces each)")
    parser.add_argument("--threads", action="store_true", help="ThreadSanitizer instead")
    options, given = parser.parse_known_args()
    try:
        cxx = compiler()
        if options.threads:
            return threads(cxx)
        check(cxx)
        preload = runtimes(cxx)
    except Missing as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.build or temporary).resolve()
        library = build(folder)
        probe = Path(temporary, "probe")
        run = [sys.executable, "-P", "-c", PROBE]
        said = subprocess.run(run, cwd=folder, env=watched(library, preload, probe), capture_output=True, text=True, check=False)
        if not said.stdout.startswith(str(library)) or not any("heap-buffer-overflow" in report for report in reports(probe)):
            print(f"cannot run: the sanitizers do not see a write beyond the end of memory\n{said.stdout}{said.stderr}", file=sys.stderr)
            return 2
        log = Path(temporary, "report")
        tests = given or sorted(str(p) for p in ROOT.glob("tests/test_*.py") if p.stem.removeprefix("test_") not in OTHERS)
        if options.isa:
            library.joinpath("forced_isa.py").write_text(f"import warmops._C\nwarmops._C.set_isa({options.isa!r})\n")
            # A process that starts from nothing takes the best path again.
            unforced = ("test_isa.py::test_the_best_path_is_the_default", "test_threads.py::test_in_data_loading_workers[spawn]")
            tests = ["-p", "forced_isa", *(f"--deselect=tests/{test}" for test in unforced), *tests]
        # The first ends a process of its own by the signal that the sanitizers report; the others run no kernel of the extension.
        left_out = ("test_a_crash_can_be_repeated", "test_triton_in_the_interpreter", "test_cuda_on_the_host")
        tests = [*(f"--deselect=tests/test_fuzz.py::{name}" for name in left_out), *tests]
        command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", *tests]
        status = subprocess.run(command, cwd=ROOT, env=watched(library, preload, log), check=False).returncode
        found = reports(log)
    for report in found.values():
        print("\n" + report.strip())
    print(f"\nsanitizers ({SANITIZERS}): {len(found)} distinct reports; pytest's exit status: {status}")
    return 1 if found else status


if __name__ == "__main__":
    sys.exit(main())
