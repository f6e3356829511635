"""Third-party packages of the `bench` extra, loaded when used; a missing one says what to install.

A machine with a GPU may have torch alone: there, what is only drawn or only checked with has a stand-in, and a rival that is not
installed is listed as not measured.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

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


def require_for(device: str, *modules: str) -> None:
    """All of them on a CPU, where they are rivals; on a GPU none."""
    for module in modules if device == "cpu" else ():
        require(module)


def not_installed(module: str) -> list[str]:
    """What to say of a rival that is not there."""
    return [] if optional(module) is not None else [f"{_DISTRIBUTIONS.get(module, module)}: not installed"]


class _NoBar:
    """tqdm's place: counts nothing, shows nothing."""

    def __init__(self, items: Iterable[Any] = (), **_: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, *_: Any) -> None: ...

    set_description = set_postfix_str = update


def progress_bar() -> Any:
    """tqdm, or what stands in for it."""
    tqdm = optional("tqdm")
    return _NoBar if tqdm is None else tqdm.tqdm


class Transforms:
    """SciPy's dctn and idctn in float64, orthonormal, by matrices of cosines: for truths where SciPy is not installed."""

    @staticmethod
    def _along(x: np.ndarray, axis: int, inverse: bool) -> np.ndarray:
        n = x.shape[axis]
        k, j = np.arange(n)[:, None], np.arange(n)
        matrix = np.cos(np.pi / (2 * n) * (k * (2 * j + 1) % (4 * n))) * math.sqrt(2 / n)
        matrix[0] /= math.sqrt(2)
        return np.moveaxis(np.moveaxis(x, axis, -1) @ (matrix if inverse else matrix.T), -1, axis)

    def dctn(self, x: np.ndarray, axes: Sequence[int], norm: str, inverse: bool = False) -> np.ndarray:
        assert norm == "ortho"
        for axis in axes:
            x = self._along(x.astype(np.float64), axis, inverse)
        return x

    def idctn(self, x: np.ndarray, axes: Sequence[int], norm: str) -> np.ndarray:
        return self.dctn(x, axes, norm, inverse=True)


def transforms() -> Any:
    """scipy.fft, or what stands in for it where only the truth is computed."""
    return optional("scipy.fft") or Transforms()
