"""The launches that the Triton backend makes for a size, a data type and a chip, compiled without a GPU."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _cubin import Cubin, compile_kernel

from warmops.triton import blur_noise_two_pass as two_pass
from warmops.triton import launch
from warmops.triton import sampler_step_two_pass as step_two_pass
from warmops.triton.blur_noise import blur_noise_kernel
from warmops.triton.config import Config, config, step_config
from warmops.triton.normal import COUNTERS, NUM_WARPS, normal_kernel
from warmops.triton.sampler_step import sampler_step_kernel

CHIPS = (80, 90, 100)
F32, F64, F16, BF16, U8 = torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8
USUAL = {
    80: [(32, 32, F32), (48, 33, F32), (128, 128, F32)],
    90: [(32, 32, BF16), (31, 31, F32), (64, 64, F32), (256, 256, F32), (40, 40, F64)],
    100: [(128, 128, BF16), (256, 256, BF16)],
}
"""H, W and data type of blur_noise."""
USUAL_STEPS = {
    80: [(128, 128, F32, BF16), (128, 64, F32, F32)],
    90: [(64, 64, F32, BF16), (128, 40, F16, F16), (256, 256, F32, F32)],
    100: [(48, 33, F32, F32), (128, 128, BF16, BF16)],
}
"""H, W, data types of the state and of the heads in sampler_step."""
ALL = [
    *((n, n, F32) for n in (8, 16, 28, 32, 48, 64, 128, 256)),
    *((n, n, BF16) for n in (8, 32, 48, 64, 96, 128, 256)),
    *((n, n, F16) for n in (16, 64)),
    *((n, n, U8) for n in (32, 64, 128)),
    (64, 64, F64), (40, 40, F64),
    (31, 31, F32), (31, 31, BF16), (63, 63, BF16), (13, 7, U8), (48, 33, F32), (45, 64, F32), (45, 64, BF16), (33, 48, BF16), (64, 40, F16),
    (97, 101, F32), (97, 101, BF16), (128, 100, BF16), (65, 127, U8), (12, 128, BF16), (128, 12, F32), (17, 129, BF16),
]  # fmt: skip
"""All of config's forms and data types; odd sizes, and sides of different padding."""
ALL_STEPS = [
    *((n, n, F32, head) for n in (32, 64, 128) for head in (F32, BF16)),
    *((n, n, BF16, BF16) for n in (32, 64, 128)),
    (28, 28, F32, BF16), (31, 31, F32, F32), (13, 7, BF16, BF16), (45, 64, F32, BF16), (48, 33, F32, F32),
    (97, 101, F32, F32), (97, 101, BF16, BF16), (128, 40, F16, F16),
    (128, 64, F32, F32), (40, 128, F16, F16), (12, 128, F16, F16), (100, 40, F32, BF16), (256, 256, F32, F32), (40, 40, F64, F32),
]  # fmt: skip

NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.uint8: "u8"}
TENSORS = ("x", "out", "blurred", "noise")
LEVELS = ("alpha", "beta", "scale", "seed")


@dataclass(frozen=True)
class Launch:
    """One kernel with everything that decides its machine code; hashable, so that equal launches compile once."""

    name: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]
    capability: int
    vector_bytes: int
    """Bytes of one load or store of consecutive pixels where the layout allows, at most 16."""

    def compile(self) -> Cubin:
        signature = dict(self.signature)
        pointers = tuple(k for k, v in signature.items() if v.startswith("*"))
        constants, options = dict(self.constants), dict(self.options)
        return compile_kernel(KERNELS[self.name], signature, constants, self.capability, options, pointers)


KERNELS = {
    "fused": blur_noise_kernel,
    "table": two_pass.table_kernel,
    "columns": two_pass.columns_kernel,
    "rows": two_pass.rows_kernel,
    "normal": normal_kernel,
    "step fused": sampler_step_kernel,
    "step table": step_two_pass.terms_table_kernel,
    "step columns": step_two_pass.terms_columns_kernel,
    "step rows": step_two_pass.terms_rows_kernel,
}


def _launch(name: str, types: dict[str, str], constants: dict[str, Any], options: dict[str, Any], capability: int, size: int) -> Launch:
    names = KERNELS[name].arg_names
    signature = {n: types.get(n, "i32") for n in names if n not in constants}
    constants = {n: constants[n] for n in names if n in constants}
    return Launch(name, tuple(signature.items()), tuple(constants.items()), tuple(options.items()), capability, min(16, size))


def _options(chosen: Config) -> dict[str, Any]:
    limit = {} if chosen.max_registers is None else {"maxnreg": chosen.max_registers}
    return {"num_warps": chosen.num_warps, "num_stages": chosen.num_stages, "enable_fp_fusion": False, **limit}


def blur_noise_launches(H: int, W: int, dtype: torch.dtype, capability: int, noise: int = 1, blurred: bool = True) -> Iterator[Launch]:
    """Launches on contiguous, aligned tensors, with levels, scale and seeds as tensors: the most that a call can ask for."""
    chosen = config(H, W, dtype)
    x, out = NAMES[dtype], NAMES[torch.float32 if dtype == torch.uint8 else dtype]
    working = "fp64" if dtype == torch.float64 else "fp32"
    vector = launch.vector_width(dtype, W)
    types = {"x": "*" + x, **dict.fromkeys(TENSORS[1:], "*" + out), "middle": "*" + working, "table": "*" + working}
    types |= {**dict.fromkeys(LEVELS, "*fp32"), "seed": "*i64"}
    constants: dict[str, Any] = {f"{t}_w": 1 for t in TENSORS} | {f"{t}_n": 1 for t in LEVELS}
    constants |= {f"{level.upper()}_TENSOR": True for level in LEVELS}
    constants |= {f"{t.upper()}_UNIT": vector for t in TENSORS}
    constants |= {"HAS_SCALE": True, "NOISE": noise, "BLURRED": blurred, "WIDE": False, "FAR": False}
    constants |= {"H": H, "W": W, "V": vector, "PRECISION": chosen.precision, "FP64": working == "fp64"}
    options = _options(chosen)
    size = vector * dtype.itemsize
    if chosen.fused:
        constants |= {"P_H": chosen.p_h, "P_W": chosen.p_w, "BLOCK": chosen.block, "SLICE": chosen.block_inner, "PANELS": chosen.panels}
        yield _launch("fused", types, constants, options, capability, size)
        return
    constants |= {"ROWS": chosen.block_rows, "COLUMNS": chosen.block_columns, "INNER": chosen.block_inner}
    yield _launch("columns", types, constants | {"LENGTH": H + two_pass.TABLE_PADDING}, options, capability, size)
    options.pop("maxnreg", None)
    yield _launch("rows", types, constants | {"LENGTH": W + two_pass.TABLE_PADDING}, options, capability, size)
    constants |= {"N": H, "LENGTH": H + two_pass.TABLE_PADDING, "BLOCK": two_pass.TABLE_BLOCK}
    yield _launch("table", types, constants, options | {"num_warps": 4, "num_stages": 1, "maxnreg": 255}, capability, 0)


def normal_launch(dtype: torch.dtype, capability: int, aligned: bool = True) -> Launch:
    vector = 8 if dtype.itemsize == 2 else 4
    constants: dict[str, Any] = {"seed_n": 1, "SEED_TENSOR": True, "WIDE": False, "FP64": dtype == torch.float64}
    constants |= {"UNIT": vector if aligned else 1, "LINEAR": aligned, "COUNTERS": COUNTERS}
    constants |= {"out_w": 1}
    options = {"num_warps": NUM_WARPS, "num_stages": 1, "enable_fp_fusion": False}
    types = {"out": "*" + NAMES[dtype], "seed": "*i64"}
    return _launch("normal", types, constants, options, capability, vector * dtype.itemsize if aligned else 0)


def sampler_step_launches(H: int, W: int, dtype: torch.dtype, head: torch.dtype, capability: int) -> Iterator[Launch]:
    """As `blur_noise_launches`: two heads of their own data type, the slope read and written, coefficients as a tensor."""
    chosen = step_config(H, W, dtype)
    working = "fp64" if dtype == torch.float64 else "fp32"
    vector = launch.vector_width(dtype, W)
    types = dict.fromkeys(("x", "slope", "out", "slope_out"), "*" + NAMES[dtype]) | {"table": "*fp64"}
    types |= dict.fromkeys(("head_b", "head_r"), "*" + NAMES[head]) | dict.fromkeys(("middle", "h_table", "w_table"), "*" + working)
    types |= {f"c{i}": "i64" for i in range(14)}
    constants: dict[str, Any] = {f"{t}_w": 1 for t in ("x", "b", "r", "s", "out", "so")}
    constants |= {f"{t}_UNIT": vector for t in ("X", "B", "R", "SLOPE", "OUT", "SLOPE_OUT")}
    constants |= dict.fromkeys(("TABLE", "B", "R", "SLOPE", "SLOPE_OUT"), True) | {"FAR": False}
    constants |= {"H": H, "W": W, "V": vector, "PRECISION": chosen.precision, "FP64": working == "fp64"}
    options = _options(chosen)
    size = vector * dtype.itemsize
    if chosen.fused:
        constants |= {"P_H": chosen.p_h, "P_W": chosen.p_w, "BLOCK": chosen.block, "SLICE": chosen.block_inner, "PANELS": chosen.panels}
        yield _launch("step fused", types, constants, options, capability, size)
        return
    constants |= {"ROWS": chosen.block_rows, "COLUMNS": chosen.block_columns, "INNER": chosen.block_inner}
    yield _launch("step columns", types, constants | {"LENGTH": H + two_pass.TABLE_PADDING}, options, capability, 0)
    yield _launch("step rows", types, constants | {"LENGTH": W + two_pass.TABLE_PADDING}, options, capability, 0)
    constants |= {"N": H, "LENGTH": H + two_pass.TABLE_PADDING, "BLOCK": two_pass.TABLE_BLOCK, "ALONG_W": True}
    types |= {"out": "*" + working}
    yield _launch("step table", types, constants, options | {"num_warps": 4, "num_stages": 1, "maxnreg": 255}, capability, 0)


def _named(
    capability: int, sizes: Iterable[tuple[int, int, torch.dtype]], steps: Iterable[tuple[int, int, torch.dtype, torch.dtype]]
) -> Any:
    for h, w, dtype in sizes:
        for launch_ in blur_noise_launches(h, w, dtype, capability):
            yield launch_, f"{launch_.name}-{h}x{w}-{str(dtype)[6:]}-sm{capability}"
    for h, w, dtype, head in steps:
        for launch_ in sampler_step_launches(h, w, dtype, head, capability):
            yield launch_, f"{launch_.name}-{h}x{w}-{str(dtype)[6:]}-{str(head)[6:]}-sm{capability}"


def every_launch() -> dict[Launch, str]:
    """All forms, sizes and data types on all chips, each once, with a readable name."""
    found: dict[Launch, str] = {}
    for chip in CHIPS:
        for launch_, name in _named(chip, ALL, ALL_STEPS):
            found.setdefault(launch_, name)
        for dtype in (F32, F16, F64):
            found[normal_launch(dtype, chip)] = f"normal-{str(dtype)[6:]}-sm{chip}"
        found[normal_launch(F32, chip, aligned=False)] = f"normal-general-sm{chip}"
    return found


def usual_launches() -> dict[Launch, str]:
    """Every form on one chip or more: few enough for each test run. Names as in `every_launch`."""
    names, found = every_launch(), {}
    for chip in CHIPS:
        usual = [launch_ for launch_, _ in _named(chip, USUAL[chip], USUAL_STEPS[chip])]
        usual += [normal_launch(dtype, chip) for dtype in ((F32, F16, F64) if chip == 90 else (F32,))]
        found |= {launch_: names[launch_] for launch_ in usual}
    general = normal_launch(F32, 80, aligned=False)
    return found | {general: names[general]}


def compile_into(cache: str, launch_: Launch) -> Cubin | str:
    """The launch compiled, or what went wrong; for a process of its own."""
    os.environ["TRITON_CACHE_DIR"] = cache
    try:
        return launch_.compile()
    except Exception as error:  # noqa: BLE001 - reported by whoever asked
        return f"{type(error).__name__}: {error}"


def compile_all(launches: Iterable[Launch], cache: str, processes: int) -> Iterator[Cubin | str]:
    """All of them in turn, by fresh processes."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(functools.partial(compile_into, cache), list(launches))
