"""What a user gets: the source archive, the wheel built from it, a clean environment, types, an import without network."""

from __future__ import annotations

import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import warmops

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
PACKAGES = ("warmops", "warmdiff")
FILES = {
    "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "NOTICE", "README.md", "constraints.txt", "pyproject.toml", "setup.py",
}  # fmt: skip
FOLDERS = {  # and what of them is in the source archive
    ".ci": ("run",),
    "benchmarks": ("*",),
    "csrc": ("*",),
    "docs": ("*",),
    "examples": ("*",),
    "experiments": ("*",),
    "tests": ("*",),
    "warmdiff": ("*.py", "py.typed", "digits.npz", "digits_licence.txt"),
    "warmops": ("*.py", "*.pyi", "py.typed"),
}
NOT_SOURCES = ("__pycache__", "*.pyc", "*.so", "*.egg-info", ".*_cache", ".benchmarks")
IDLE = ("matplotlib", "torchvision", "tqdm", "PIL", "tensorboard", "sklearn", "scipy", "torchmetrics", "safetensors", "pytest")
"""Loaded where they are used, not by an import of the packages (torch itself loads some)."""

SMOKE = f"""
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind", "urllib.Request"):
        raise RuntimeError(f"network: {{event}} {{arguments}}")

sys.addaudithook(refuse)
import torch

before = set(sys.modules)
import warmops
import warmdiff
import warmdiff.cli

early = [name for name in {IDLE} if name in sys.modules and name not in before]
assert not early, f"imported without need: {{early}}"

import importlib.metadata

environment, version = sys.argv[1:]
for module in (warmops, warmdiff, sys.modules["warmops._C"] if "warmops._C" in sys.modules else __import__("warmops._C")._C):
    assert module.__file__.startswith(environment), module.__file__
assert warmops.__version__ == importlib.metadata.version("warmops") == version
assert warmops.backends()["cpu"], warmops.backends()["cpu"]

x = torch.rand(3, 2, 9, 16)
for isa in warmops._C.isas():
    warmops._C.set_isa(isa)
    both = [warmops.blur_noise(x, 1.5, 0.5, seed=7, backend=backend) for backend in ("cpu", "reference")]
    assert torch.allclose(*both, atol=1e-5), isa
    assert torch.allclose(warmops.idct2(warmops.dct2(x)), x, atol=1e-5), isa
images = warmdiff.generate(lambda x, beta: warmdiff.Prediction(0 * x, 0 * x), (2, 1, 8, 8), steps=2)
assert images.shape == (2, 1, 8, 8)
assert len(warmdiff.open_images("digits")) == 1797
(command,) = importlib.metadata.entry_points(group="console_scripts", name="warmdiff")
try:
    command.load()(["sample", "--help"])
except SystemExit as done:
    assert done.code == 0
"""


def run(command: list[object], cwd: Path, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WARMOPS_", "CXXFLAGS", "LDFLAGS"))}
    clean |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[:4]}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def sources() -> set[str]:
    """What the source archive has to hold."""
    found = set(FILES)
    for folder, patterns in FOLDERS.items():
        for pattern in patterns:
            found |= {str(path.relative_to(ROOT)) for path in ROOT.joinpath(folder).rglob(pattern) if path.is_file()}
    ignored = re.compile(r"(^|/)(__pycache__|\.\w+_cache|\.benchmarks)/|\.(pyc|so)$")
    return {name for name in found if not ignored.search(name)}


def source_archive(folder: Path) -> Path:
    """Made in a copy: setuptools leaves a folder of its own beside setup.py."""
    tree = folder / "tree"
    tree.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", build, folder], tree)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def environment(folder: Path, wheel: Path) -> Path:
    """Python of a new environment with the wheel alone; what it depends on is seen, what else is installed beside it is not."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = folder.joinpath("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    dependencies = {str(Path(str(module.__file__)).parent.parent) for module in (torch, np)}
    site.joinpath("dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    run([sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    return python


def test_the_version_is_that_of_the_changelog() -> None:
    """Newest first, semantic versioning; the package's metadata reads the same number."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    numbers = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?: \((?:unreleased|\d{4}-\d\d-\d\d)\))?", heading) for heading in headings]
    assert all(numbers), headings
    versions = [tuple(map(int, number.groups())) for number in numbers if number]
    assert versions and versions == sorted(set(versions), reverse=True)
    assert warmops.__version__ == ".".join(map(str, versions[0]))


def test_licences() -> None:
    """Every file of others that we ship is named with its licence."""
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    notice = (ROOT / "NOTICE").read_text()
    for name, licence in (("warmdiff/digits.npz", "CC BY 4.0"), ("benchmarks/data/china.jpg", "CC BY 2.0"), ("pybind11", "Wenzel Jakob")):
        assert name in notice and licence in notice
    ours = {".py", ".pyi", ".cpp", ".cu", ".h", ".md", ".csv", ".json", ".svg", ".png", ".typed", ".txt", ".toml", ".in", ""}
    drawn = ("docs/", "experiments/")  # pictures and tables that our own programs made
    others = {name for name in sources() if Path(name).suffix not in ours and not name.startswith(drawn)}
    assert others == {"warmdiff/digits.npz", "benchmarks/data/china.jpg"}


def test_source_archive_wheel_and_clean_environment(tmp_path: Path) -> None:
    missing = [name for name in ("setuptools", "pybind11", "pip", "mypy") if importlib.util.find_spec(name) is None]
    if missing or not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        pytest.skip(f"not installed: {', '.join(missing) or 'a C++ compiler'}")
    archive = source_archive(tmp_path)
    stem = f"warmops-{warmops.__version__}"
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames() if not tar.getmember(name).isdir()}
    assert archive.name == f"{stem}.tar.gz"
    made = {"PKG-INFO", "setup.cfg", *(name for name in held if name.startswith("warmops.egg-info/"))}
    assert held - made == sources()

    # As a user's pip does it, but without network, and nothing is optimised: it takes a fraction of the time.
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", tmp_path, archive]
    run(pip, tmp_path, WARMOPS_NATIVE="1", WARMOPS_CUDA="0", CXXFLAGS="-O0 -DWARMOPS_SLOW_CODELETS")
    (wheel,) = tmp_path.glob("*.whl")
    check_wheel(wheel, stem)

    python = environment(tmp_path / "environment", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run([python, "-P", "-c", SMOKE, tmp_path / "environment", warmops.__version__], elsewhere)
    assert (python.parent / "warmdiff").is_file()

    # The cache is that of the repository's own check, which then has less to do.
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    said = run([*mypy, "--python-executable", python, ROOT / "tests" / "_typed_user.py"], elsewhere)
    assert "Success" in said


def check_wheel(wheel: Path, stem: str) -> None:
    """The packages and their licences, and nothing else."""
    wanted = {name for name in sources() if name.startswith(PACKAGES)}
    wanted |= {f"warmops/_C{sysconfig.get_config_var('EXT_SUFFIX')}"}
    about = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE", "licenses/NOTICE")
    wanted |= {f"{stem}.dist-info/{name}" for name in about}
    with zipfile.ZipFile(wheel) as file:
        assert set(file.namelist()) == wanted
        metadata = email.message_from_bytes(file.read(f"{stem}.dist-info/METADATA"))
        assert file.read(f"{stem}.dist-info/top_level.txt").split() == [b"warmdiff", b"warmops"]
        assert file.read(f"{stem}.dist-info/licenses/NOTICE") == (ROOT / "NOTICE").read_bytes()
    assert (metadata["Name"], metadata["Version"]) == ("warmops", warmops.__version__)
    assert "Apache-2.0" in (metadata["License-Expression"], metadata["License"])
    required = [re.split(r"[\s<>=;]", name)[0] for name in metadata.get_all("Requires-Dist", []) if "extra ==" not in name]
    assert sorted(required) == ["numpy", "torch", "triton"]
