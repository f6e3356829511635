"""What ran where: machine, versions, commit; and the name of the machine's result file."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "triton", "numpy", "scipy", "torch-dct", "dctorch")
ROOT = Path(__file__).resolve().parent.parent


def cpu_model() -> str:
    """As /proc/cpuinfo (Linux) or sysctl (macOS) names it; a name without a number, as virtual machines give, gets family and model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" in about:
        name = about["model name"]
        return name if re.search(r"\d", name) else f"{name} (family {about.get('cpu family', '?')}, model {about.get('model', '?')})"
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    return _output("git", "rev-parse", "HEAD")


def describe(device: str, backend: str, isa: str | None) -> dict[str, Any]:
    """Everything that a reader needs to judge or repeat the numbers; paths are given relative to the repository."""
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    command = shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
    record: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": commit(),
        "uncommitted changes": None if changed is None else bool(changed),
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch CPU capability": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "backend": backend,
        "isa": isa,
        "load average at the start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        record["gpu"] = properties.name
        record["gpu memory GB"] = round(properties.total_memory / 1e9, 1)
        record["cuda"] = torch.version.cuda
    return record


def slug(record: dict[str, Any]) -> str:
    """`amd-epyc-family-25-model-1-2-threads` or `nvidia-h200`: lower case, letters, digits and hyphens."""
    name = record["gpu"] if record["device"] == "cuda" else f"{record['cpu']} {record['threads']} threads"
    name = re.sub(r"\((r|tm)\)|processor|cpu|@.*ghz", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")
