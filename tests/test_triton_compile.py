"""The Triton kernels, compiled to machine code for three chips: nothing spills, all fits, wide loads and stores.

By default every form of every kernel, each on one chip or more; with WARMOPS_COMPILE_ALL=1 (some minutes) every size on
every chip.
"""

from __future__ import annotations

import itertools
import os
import re

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

import torch
import triton
import triton.language as tl
from _compile_tables import TRITON, explained
from _cubin import SHARED_LIMIT, Cubin, compile_kernel
from _triton_launches import CHIPS, compile_all, every_launch, usual_launches

from warmops.triton.config import config, step_config

LAUNCHES = [
    (name, launch) for launch, name in (every_launch() if os.environ.get("WARMOPS_COMPILE_ALL") == "1" else usual_launches()).items()
]


@pytest.fixture(scope="module")
def cubins(tmp_path_factory):
    """Everything, compiled once."""
    compiled = compile_all([launch for _, launch in LAUNCHES], str(tmp_path_factory.mktemp("triton")), 2)
    return dict(zip((name for name, _ in LAUNCHES), compiled, strict=True))


@pytest.mark.parametrize(("name", "launch"), LAUNCHES, ids=[name for name, _ in LAUNCHES])
def test_compiles_well(name, launch, cubins):
    cubin = cubins[name]
    assert isinstance(cubin, Cubin), cubin
    assert cubin.sass.count(";") > 100, "no machine code to read"
    # Local memory holds spilled registers, or the slow path of a general sine: there must be neither.
    assert cubin.stack == 0
    assert not cubin.local_memory
    assert cubin.registers <= 255
    assert cubin.shared <= SHARED_LIMIT[launch.capability]
    if launch.vector_bytes == 16:
        assert "STG.E.128" in cubin.stores() and re.search(r"st\.global\.(v4\.b32|v2\.b64)", cubin.ptx)
        if launch.name != "normal":
            assert "LDG.E.128" in cubin.loads() and re.search(r"ld\.global\.(v4\.b32|v2\.b64)", cubin.ptx)


@pytest.mark.parametrize(("name", "launch"), LAUNCHES, ids=[name for name, _ in LAUNCHES])
def test_no_worse_than_the_table(name, launch, cubins):
    """benchmarks/results/compile holds what this compiler made before; of another one nothing is known but the rules above."""
    if not TRITON.exists():
        pytest.skip(f"there is no table for this compiler: {TRITON.name}")
    explained(TRITON, {name: cubins[name].row(launch.capability)})


def test_products_use_tensor_cores(cubins):
    for name, cubin in cubins.items():
        if not name.startswith("normal") and "table" not in name:
            assert isinstance(cubin, Cubin)
            assert any(f" {unit}." in cubin.sass for unit in ("HMMA", "DMMA", "HGMMA", "UTCHMMA", "UTCQMMA")), name


def test_float32_sums_round_after_each_16_products(cubins):
    """Tensor cores cut sums off: each product of a fused kernel starts from nothing, and is added to the rest outside of them."""
    seen = 0
    for name, cubin in cubins.items():
        if "fused" in name and ("step" in name or "float32" in name or "uint8" in name):
            products = re.findall(r"tt\.dot %\S+, %\S+, %(\S+),.* : tensor<\d+x(\d+)xf32", cubin.ttgir)
            assert products and all(start.startswith("cst") and int(depth) == 16 for start, depth in products), name
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("configuration", [config, step_config])
def test_what_the_slices_follow_from(configuration):
    """Sums of 16 products for float32 results, and wherever the sampler's step would otherwise spill: one rule for all sizes."""
    for sides in itertools.product((1, 7, 32, 33, 64, 65, 100, 128), repeat=2):
        for dtype in (torch.float32, torch.uint8, torch.float16, torch.bfloat16):
            chosen = configuration(*sides, dtype)
            long = configuration is config and dtype.is_floating_point and dtype.itemsize == 2
            assert chosen.fused and chosen.block_inner == (chosen.block if long else 16)


@triton.jit
def product_and_sum_kernel(a, b, c, out):
    tl.store(out, tl.load(a) * tl.load(b) + tl.load(c))


@pytest.mark.parametrize("chip", CHIPS)
def test_products_and_sums_round_each(chip):
    """With the option that every launch carries, ``a * b + c`` is not one instruction."""
    for _, launch in LAUNCHES:
        assert dict(launch.options)["enable_fp_fusion"] is False
    types = dict.fromkeys(("a", "b", "c", "out"), "*fp32")
    cubin = compile_kernel(product_and_sum_kernel, types, {}, chip, {"enable_fp_fusion": False})
    assert "FFMA" not in cubin.sass and "FMUL" in cubin.sass and "FADD" in cubin.sass
