"""What stands in for packages that a GPU machine may lack gives the same answers."""

from __future__ import annotations

import importlib
from typing import Any

import _extras
import _rivals
import _verify
import numpy as np
import pytest
import scipy.fft
import torch


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch and NumPy alone."""
    real = importlib.import_module

    def without(name: str, *args: Any) -> Any:
        if name.split(".")[0] in ("tqdm", "matplotlib", "scipy", "torch_dct", "PIL"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)


def test_the_stand_in_transforms_are_scipys() -> None:
    mine, y = _extras.Transforms(), np.random.default_rng(0).standard_normal((3, 5, 8))
    assert abs(mine.dctn(y, axes=(-2, -1), norm="ortho") - scipy.fft.dctn(y, axes=(-2, -1), norm="ortho")).max() < 1e-14
    assert abs(mine.idctn(y, axes=(1, 2), norm="ortho") - scipy.fft.idctn(y, axes=(1, 2), norm="ortho")).max() < 1e-14


def test_rivals_are_right_on_a_bare_machine_and_the_missing_ones_are_named(bare: None) -> None:
    x, level = torch.randn(6, 3, 8, 8), torch.full((6,), 0.7)
    entrants = {c.name: c for c in _rivals.rivals("cuda", torch.float32)}  # CPU tensors in the GPU's place
    assert "four matmuls" in entrants and "torch-dct" not in entrants and "IHDM as published" not in entrants
    for name in ("four matmuls", "two matmuls"):
        variant, build = next(iter(entrants[name].variants.items()))
        assert _verify.verify(entrants[name], variant, build(x), x, level, level) < 1e-6
    assert _extras.not_installed("torch_dct") == ["torch-dct: not installed"]
    with pytest.raises(SystemExit, match="torch-dct"):
        _extras.require_for("cpu", "torch_dct")
    _extras.require_for("cuda", "torch_dct")
    with _extras.progress_bar()([1, 2], desc="x") as bar:
        bar.set_postfix_str("y")
        assert list(bar) == [1, 2]


def test_noise_that_is_not_normal_is_still_found() -> None:
    """The Kolmogorov-Smirnov distance is computed here, not by SciPy."""
    x, level = torch.zeros(8, 3, 32, 32), torch.zeros(8)

    def uniform(x: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        return x + beta.view(-1, 1, 1, 1) * (torch.rand_like(x) * 2 - 1) * 3**0.5

    faults = _verify.noise_faults(uniform, x, level)
    assert any("Kolmogorov" in fault for fault in faults), faults
    normal = _verify.noise_faults(lambda x, alpha, beta: x + beta.view(-1, 1, 1, 1) * torch.randn_like(x), x, level)
    assert not any("Kolmogorov" in fault for fault in normal), normal
