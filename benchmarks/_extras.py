"""Third-party packages of the `bench` extra, loaded when used; a missing one says what to install."""

from __future__ import annotations

import importlib
from typing import Any

_DISTRIBUTIONS = {"PIL": "Pillow", "torch_dct": "torch-dct"}


def require(module: str) -> Any:
    """The module, or an error that names the pip command."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        name = _DISTRIBUTIONS.get(error.name, error.name)
        raise SystemExit(f"this benchmark needs {name}, which is not installed: pip install 'warmops[bench]'") from None


def optional(module: str) -> Any | None:
    """The module, or None where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
