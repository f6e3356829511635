"""The launches that the Triton backend makes for a size, a data type and a chip, compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
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
        constants |= {"P_H": chosen.p_h, "P_W": chosen.p_w, "BLOCK": chosen.block, "PANELS": chosen.panels}
        yield _launch("fused", types, constants, options, capability, size)
        return
    constants |= {"ROWS": chosen.block_rows, "COLUMNS": chosen.block_columns, "INNER": chosen.block_inner}
    yield _launch("columns", types, constants | {"LENGTH": H + two_pass.TABLE_PADDING}, options, capability, size)
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
        constants |= {"P_H": chosen.p_h, "P_W": chosen.p_w, "BLOCK": chosen.block, "PANELS": chosen.panels}
        yield _launch("step fused", types, constants, options, capability, size)
        return
    constants |= {"ROWS": chosen.block_rows, "COLUMNS": chosen.block_columns, "INNER": chosen.block_inner}
    yield _launch("step columns", types, constants | {"LENGTH": H + two_pass.TABLE_PADDING}, options, capability, 0)
    yield _launch("step rows", types, constants | {"LENGTH": W + two_pass.TABLE_PADDING}, options, capability, 0)
    constants |= {"N": H, "LENGTH": H + two_pass.TABLE_PADDING, "BLOCK": two_pass.TABLE_BLOCK, "ALONG_W": True}
    types |= {"out": "*" + working}
    yield _launch("step table", types, constants, options | {"num_warps": 4, "num_stages": 1, "maxnreg": 255}, capability, 0)
