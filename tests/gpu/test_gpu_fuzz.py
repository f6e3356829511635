"""tests/fuzz.py on a GPU: its cases on the device, by the kernels that run there."""

from __future__ import annotations

import pytest
import torch
from _cases import available
from test_fuzz import cases_of, fresh, fuzz


@pytest.mark.parametrize(("kernels", "cases"), [("triton", 15), ("cuda", 400)])
def test_fresh_cases(kernels: str, cases: int, rng: torch.Generator) -> None:
    """Few for Triton, which compiles each shape anew."""
    available(kernels)
    pytest.importorskip("hypothesis")
    assert cases_of(fuzz("--kernels", kernels, "--cases", str(cases), "--seed", fresh(rng))) >= cases // 2
