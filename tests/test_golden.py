"""Results against the golden file (tests/golden.py): a release that changes noise, or another result's bits, says so."""

from __future__ import annotations

import importlib
import json
import shutil

import golden
import numpy as np
import pytest
import torch
from _all_ops import small_calls
from _cases import available

pytestmark = pytest.mark.cpu_only
KNOWN = json.loads(golden.FILE.read_text())
ISAS = ("avx512", "avx2", "baseline")


def test_the_file_is_complete() -> None:
    assert set(KNOWN["bits"]) == set(ISAS)
    assert all(set(bits) == set(small_calls()) for bits in (*KNOWN["bits"].values(), KNOWN["values"]))


def test_integers() -> None:
    """Of the noise: bit-equal on any machine, in Python and in C++."""
    assert golden.integers() == KNOWN["integers"]
    available("cpu")
    native = importlib.import_module("warmops._C")
    for seed, row in zip(golden.SEEDS, KNOWN["integers"], strict=True):
        got = [native.philox4x32((c % 2**32, c >> 32, 0, 0), (seed % 2**32, (seed >> 32) % 2**32)) for c in golden.COUNTERS]
        assert [word for words in got for word in words] == row


def changed_bits(got: dict[str, str], isa: str) -> list[str]:
    same_library = golden.library() == KNOWN["library"]
    judged = [name for name in got if same_library or golden.pinned_everywhere(name)]
    assert len(judged) >= 6
    return [name for name in judged if got[name] != KNOWN["bits"][isa][name]]


@pytest.mark.parametrize("isa", ISAS)
def test_bits(isa: str) -> None:
    available("cpu")
    if isa not in importlib.import_module("warmops._C").isas():
        pytest.skip(f"this CPU has no {isa} path")
    assert changed_bits(golden.bits_of(isa), isa) == [], "python tests/golden.py --write, if this is meant"


@pytest.mark.slow
def test_bits_of_avx512_lane_by_lane() -> None:
    """The kernels for AVX-512, compiled for any CPU with AVX2, give what a CPU with AVX-512 has given."""
    available("cpu")
    if "avx2" not in importlib.import_module("warmops._C").isas() or shutil.which("g++") is None:
        pytest.skip("needs AVX2 and g++")
    assert changed_bits(golden.emulated_bits(), "avx512") == []


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_values(backend: str) -> None:
    """On any machine: within four roundings of the values that were written down, in the units of each result."""
    available(backend)
    for name, call in small_calls().items():
        for result, want in zip(call(backend), KNOWN["values"][name], strict=True):
            numbers = np.array(want)
            eps = 64 * 2.0**-52 if result.dtype == torch.float64 else 4 * max(torch.finfo(result.dtype).eps, 2.0**-23)
            assert np.abs(np.array(golden.sample(result)) - numbers).max() <= eps * max(1.0, np.abs(numbers).max()), name
