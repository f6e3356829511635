"""README.md: its Python blocks run, one after the other as one program; its sh blocks are what .ci/run runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCKS = [(language, code) for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)]


def test_python_blocks_run() -> None:
    python = [code for language, code in BLOCKS if language == "python"]
    assert len(python) >= 4
    namespace: dict[str, object] = {}
    torch.use_deterministic_algorithms(False)
    for number, code in enumerate(python, 1):
        exec(compile(code, f"{README.name}, Python block {number}", "exec"), namespace)


def test_every_block_runs_somewhere() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    lines = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    listed = subprocess.run([str(ROOT / ".ci" / "run"), "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed == [line for line in lines if line.strip() and not line.startswith("#")]
    for gate in ["-m venv", "bench_forward.py --quick", "-m pytest", "ruff check", "ruff format --check", "mypy"]:
        assert any(gate in line for line in listed), gate
    assert not any(line.rstrip().endswith("\\") for line in listed), "a command must be one line"


def test_links_lead_somewhere() -> None:
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name}: {target}"
