"""The Triton kernels, compiled to machine code for three chips: nothing spills, all fits, wide loads and stores.

By default every form of every kernel, each on one chip or more; with WARMOPS_COMPILE_ALL=1 (some minutes) every size on
every chip.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from functools import partial

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

import triton
import triton.language as tl
from _cubin import SHARED_LIMIT, Cubin, compile_kernel
from _triton_launches import Launch, blur_noise_launches, normal_launch, sampler_step_launches

CHIPS = (80, 90, 100)
F32, F64, F16, BF16, U8 = torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8
EVERYTHING = os.environ.get("WARMOPS_COMPILE_ALL") == "1"
USUAL = {
    80: [(32, 32, F32), (64, 64, F32), (48, 33, F32), (128, 128, F32), (128, 128, BF16)],
    90: [(32, 32, BF16), (31, 31, F32), (64, 64, F32), (128, 128, BF16), (256, 256, F32), (40, 40, F64)],
    100: [(32, 32, F32), (64, 64, F32), (45, 64, BF16), (128, 128, BF16), (256, 256, BF16)],
}
"""H, W and data type of blur_noise."""
USUAL_STEPS = {
    80: [(32, 32, F32, F32), (128, 128, F32, BF16)],
    90: [(64, 64, F32, BF16), (256, 256, F32, F32)],
    100: [(48, 33, F32, F32), (128, 128, BF16, BF16)],
}
"""H, W, data types of the state and of the heads in sampler_step."""
ALL = [
    *((n, n, F32) for n in (8, 16, 28, 32, 48, 64, 128, 256)),
    *((n, n, BF16) for n in (8, 32, 48, 64, 96, 128, 256)),
    *((n, n, F16) for n in (16, 64)),
    *((n, n, U8) for n in (32, 64, 128)),
    (64, 64, F64),
    (31, 31, F32), (31, 31, BF16), (63, 63, BF16), (13, 7, U8), (48, 33, F32), (45, 64, F32), (33, 48, BF16), (64, 40, F16),
    (97, 101, F32), (97, 101, BF16), (128, 100, BF16), (65, 127, U8), (12, 128, BF16), (128, 12, F32), (17, 129, BF16),
]  # fmt: skip
"""All of config's forms and data types; odd sizes, and sides of different padding."""
ALL_STEPS = [
    *((n, n, F32, head) for n in (32, 64, 128) for head in (F32, BF16)),
    *((n, n, BF16, BF16) for n in (32, 64, 128)),
    (28, 28, F32, BF16), (31, 31, F32, F32), (13, 7, BF16, BF16), (45, 64, F32, BF16), (48, 33, F32, F32),
    (97, 101, F32, F32), (97, 101, BF16, BF16), (128, 40, F16, F16), (256, 256, F32, F32), (40, 40, F64, F32),
]  # fmt: skip


def all_launches() -> list[tuple[str, Launch]]:
    """Each once, with a readable name."""
    found: dict[Launch, str] = {}
    for chip in CHIPS:
        for h, w, dtype in ALL if EVERYTHING else USUAL[chip]:
            for launch in blur_noise_launches(h, w, dtype, chip):
                found.setdefault(launch, f"{launch.name}-{h}x{w}-{str(dtype)[6:]}-sm{chip}")
        for h, w, dtype, head in ALL_STEPS if EVERYTHING else USUAL_STEPS[chip]:
            for launch in sampler_step_launches(h, w, dtype, head, chip):
                found.setdefault(launch, f"{launch.name}-{h}x{w}-{str(dtype)[6:]}-{str(head)[6:]}-sm{chip}")
        for dtype in (F32, F16, F64) if EVERYTHING or chip == 90 else (F32,):
            found[normal_launch(dtype, chip)] = f"normal-{str(dtype)[6:]}-sm{chip}"
    found[normal_launch(F32, 80, aligned=False)] = "normal-general-sm80"
    return [(name, launch) for launch, name in found.items()]


LAUNCHES = all_launches()


def _compiled(cache: str, launch: Launch) -> Cubin | str:
    os.environ["TRITON_CACHE_DIR"] = cache
    try:
        return launch.compile()
    except Exception as error:  # noqa: BLE001 - reported by the test of this launch
        return f"{type(error).__name__}: {error}"


@pytest.fixture(scope="module")
def cubins(tmp_path_factory):
    """Everything, compiled by two fresh processes."""
    cache = str(tmp_path_factory.mktemp("triton"))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return dict(zip((n for n, _ in LAUNCHES), pool.imap(partial(_compiled, cache), [x for _, x in LAUNCHES]), strict=True))


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


def test_products_use_tensor_cores(cubins):
    for name, cubin in cubins.items():
        if not name.startswith("normal") and "table" not in name:
            assert isinstance(cubin, Cubin)
            assert any(f" {unit}." in cubin.sass for unit in ("HMMA", "DMMA", "HGMMA", "UTCHMMA", "UTCQMMA")), name


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
