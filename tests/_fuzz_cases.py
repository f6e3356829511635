"""Random calls of every public operation, as plain data (JSON): what tests/fuzz.py draws, prints and repeats.

A case holds no tensors, only what they are made of: shape, dtype, layout, kind of values, seed and place in memory.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from _cases import LAYOUTS, layout_strides
from _dct_cases import NORMS, TYPES
from _edge import EDGES, Edge, contiguous_strides
from hypothesis import strategies as st
from torch import Tensor

Case = dict[str, Any]
FLOATS = ("float32", "float64", "float16", "bfloat16")
NUMBERS = (*FLOATS, "complex64", "complex128", "complex32", "int64", "int8", "uint8", "bool")
TRANSFORMS = ("dct", "idct", "dst", "idst", "dctn", "idctn", "dstn", "idstn", "dct2", "idct2")
OPS = ("blur", "blur_noise", "normal", "sampler_step", *TRANSFORMS)
VALUES = ("normal", "bright", "constant", "huge", "limit", "tiny", "subnormal", "mixed", "impulse", "zero", "special")
MORE_LAYOUTS = ("expanded", "overlapping", "flipped")
BLURS = (0.0, 5e-324, 1e-300, 1e-30, 1e-8, 1e-3, 0.1, 0.37, 0.64, 1.0, 2.5, 10.0, 40.0, 300.0, 1e4, 1e6, 1e30, 1e300, math.inf)
NOISES = (0.0, 1e-300, 1e-45, 1e-30, 1e-3, 0.3, 1.0, 80.0, 1e6, 1e30, 1e300)
SCALES = (1.0, 0.0, -1.0, 0.125, -3.7, 1e-40, 1e-6, 1e6, 1e30)
REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
SEEDS = (0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63 - 2, -(2**63))


# ---- drawing ----


def sizes(most: int) -> st.SearchStrategy[int]:
    """Mostly small, some in the middle, few large."""
    return st.one_of(*[st.integers(1, min(most, 9))] * 4, *[st.integers(1, min(most, 40))] * 3, st.integers(1, most))


@st.composite
def image_shapes(draw: st.DrawFn) -> list[int]:
    """``[N, ..., H, W]``, sides to 300, of few elements but for some large images; N or a channel may be missing."""
    sides = [draw(sizes(300)) for _ in range(2)]
    shape = [draw(st.integers(1, 5)), *draw(st.lists(st.integers(1, 4), max_size=3)), *sides]
    while math.prod(shape) > 12_000:
        largest = max(range(len(shape) - 2), key=shape.__getitem__)
        if shape[largest] == 1:
            break
        shape[largest] = 1
    if draw(st.integers(0, 40)) == 0:
        shape[draw(st.integers(0, len(shape) - 3))] = 0
    return shape


seeds = st.one_of(st.sampled_from(SEEDS), st.integers(-(2**63), 2**63 - 1))
tensor_parts = st.fixed_dictionaries(
    {
        "layout": st.one_of(st.just("contiguous"), st.sampled_from((*LAYOUTS, *MORE_LAYOUTS))),
        "values": st.one_of(st.just("normal"), st.sampled_from(VALUES)),
        "seed": st.integers(0, 2**31),
        "edge": st.sampled_from(EDGES),
    }
)
out_parts = st.one_of(st.none(), st.fixed_dictionaries({"layout": st.sampled_from(LAYOUTS), "edge": st.sampled_from(EDGES)}))


def level_parts(n: int, values: tuple[float, ...], most: float, least: float = 0.0) -> st.SearchStrategy[Case]:
    """A level as a float, or as a tensor ``[N]`` of any float dtype and stride."""
    value = st.one_of(st.sampled_from(values), st.floats(least, 5.0), st.floats(least, most))
    one = st.fixed_dictionaries({"form": st.sampled_from(("float", "0-d")), "values": st.lists(value, min_size=1, max_size=1)})
    forms = st.sampled_from(("dense", "strided", "expanded"))
    many = st.fixed_dictionaries({"form": forms, "dtype": st.sampled_from(FLOATS), "values": st.lists(value, min_size=n, max_size=n)})
    return st.one_of(one, many)


def seed_parts(n: int) -> st.SearchStrategy[Any]:
    return st.one_of(seeds, st.lists(seeds, min_size=n, max_size=n)) if n <= 20 else seeds


@st.composite
def image_cases(draw: st.DrawFn, op: str) -> Case:
    shape = draw(image_shapes())
    n = shape[0]
    case = {"op": op, "shape": shape, "x": draw(tensor_parts), "out": draw(out_parts), "recorded": draw(st.integers(0, 9)) == 0}
    case["dtype"] = draw(st.sampled_from((*FLOATS, "uint8")))
    case["blur"] = draw(level_parts(n, BLURS, 1e6))
    if op == "blur_noise":
        case["noise"] = draw(level_parts(n, NOISES, 1e6))
        case["scale"] = draw(st.one_of(st.none(), level_parts(n, SCALES, 1e6, -1e6)))
        case["seed"] = draw(seed_parts(n))
        case["eps"] = draw(st.one_of(st.none(), st.none(), tensor_parts))
        case["return_blurred"] = draw(st.booleans())
    return case


@st.composite
def normal_cases(draw: st.DrawFn) -> Case:
    shape = draw(st.one_of(image_shapes(), st.lists(st.integers(0, 9), min_size=1, max_size=5), st.tuples(st.integers(1, 9000)).map(list)))
    if len(shape) < 3 and draw(st.booleans()):
        shape = [draw(st.integers(1, 3)), draw(st.integers(0, 20_000))]
    case = {"op": "normal", "shape": shape, "dtype": draw(st.sampled_from(FLOATS)), "out": draw(out_parts)}
    return case | {"seed": draw(seed_parts(shape[0]))}


@st.composite
def step_cases(draw: st.DrawFn) -> Case:
    shape = draw(image_shapes())
    n, method = shape[0], draw(st.sampled_from(("ddim", "euler", "heun")))
    ratio = st.floats(0.0, 1.0)
    alpha = draw(st.one_of(st.just(0.0), st.sampled_from((1e-30, 1e-3, 0.5, 2.0, 40.0, 1e3)), st.floats(0.0, 50.0)))
    beta = draw(st.one_of(st.sampled_from((1e-3, 0.1, 1.0, 80.0, 1e4)), st.floats(0.01, 100.0)))
    alpha_next = alpha * draw(st.one_of(ratio, st.sampled_from((0.0, 0.5, 1.0))))
    beta_next = beta * draw(st.one_of(st.floats(0.1, 1.0), st.sampled_from((0.5, 0.9, 1.0) if method == "heun" else (0.0, 0.5, 1.0))))
    as_tensors = draw(st.sampled_from((None, None, "float32", "float64")))
    least = 1e-6 if as_tensors == "float32" else 0.0  # levels that float32 cannot tell apart are no step
    if method != "ddim" and beta - beta_next <= least * beta and alpha - alpha_next <= least * max(alpha, 1e-30):
        beta_next = beta / 2
    case = {"op": "sampler_step", "method": method, "shape": shape, "x": draw(tensor_parts), "dtype": draw(st.sampled_from(FLOATS))}
    case["levels"] = {"alpha": alpha, "beta": beta, "alpha_next": alpha_next, "beta_next": beta_next}
    case["as_tensors"] = as_tensors
    case["heads"] = [draw(tensor_parts) for _ in range(draw(st.integers(1, 2)))]
    case["joined"] = len(case["heads"]) == 2 and len(shape) >= 4 and draw(st.booleans())
    case["head_dtype"] = draw(st.sampled_from((case["dtype"], *FLOATS)))
    case["c_skip"] = draw(st.one_of(st.just(0.0), level_parts(n, (0.0, 1.0, -0.5), 100.0, -100.0)))
    case["c_out"] = [draw(st.sampled_from((1.0, 0.0, -0.3, 20.0))) for _ in range(2)]
    case["slope"] = draw(tensor_parts) if method == "heun" else None
    case["return_slope"] = method != "ddim" and draw(st.booleans())
    case["alpha_rate"] = draw(st.sampled_from((None, None, 0.37))) if method != "ddim" else None
    case["eta"] = 0.999 * beta_next * draw(ratio) if method == "ddim" and draw(st.booleans()) else 0.0
    case["floor"] = draw(st.one_of(st.just(0.0), st.sampled_from((1e-3, 1.0)), ratio))
    case["out"], case["recorded"] = draw(out_parts), draw(st.integers(0, 9)) == 0
    return case


@st.composite
def transform_cases(draw: st.DrawFn, op: str) -> Case:
    number = draw(st.sampled_from(TYPES))
    least = 2 if number == 1 and "dct" in op else 1
    ndim = draw(st.integers(2 if op.endswith("2") else 1, 5))
    size = sizes(300).map(lambda n: max(n, least))
    shape = [draw(size) if i < 3 else draw(st.integers(least, 5)) for i in range(ndim)]
    shape = draw(st.permutations(shape))
    while math.prod(shape) > 12_000:
        shape[shape.index(max(shape))] = draw(st.integers(least, 12))
    arguments: Case = {"type": number, "norm": draw(st.sampled_from(NORMS)), "orthogonalize": draw(st.sampled_from((None, True, False)))}
    dims = [draw(st.integers(-ndim, ndim - 1))]
    if op[-1] in "n2":
        most = 3 if draw(st.integers(0, 5)) else ndim
        dims = draw(st.lists(st.integers(0, ndim - 1), unique=True, min_size=1, max_size=min(most, ndim)))
        arguments["dim"] = dims
        if draw(st.integers(0, 3)) == 0:
            arguments["s"] = [draw(st.one_of(st.just(-1), st.integers(least, 40))) for _ in dims]
    else:
        arguments["dim"] = dims[0]
        if draw(st.integers(0, 3)) == 0:
            arguments["n"] = draw(st.one_of(size, st.integers(least, 600)))
    batch = [d for d in range(ndim) if d not in [d % ndim for d in dims]]
    if batch and draw(st.integers(0, 40)) == 0:
        shape[draw(st.sampled_from(batch))] = 0
    dtype = draw(st.one_of(st.sampled_from(FLOATS), st.sampled_from(NUMBERS)))
    return {
        "op": op, "shape": shape, "dtype": dtype, "x": draw(tensor_parts), "arguments": arguments, "out": draw(out_parts),
        "recorded": draw(st.integers(0, 9)) == 0,
    }  # fmt: skip


def cases_of(op: str) -> st.SearchStrategy[Case]:
    if op == "normal":
        return normal_cases()
    if op == "sampler_step":
        return step_cases()
    return transform_cases(op) if op in TRANSFORMS else image_cases(op)


def cases(operations: tuple[str, ...]) -> st.SearchStrategy[Case]:
    """Of these operations; the transforms, all together, as often as two others, and blur_noise twice."""
    transforms = tuple(op for op in operations if op in TRANSFORMS)
    others = [st.just(op) for op in operations if op not in TRANSFORMS for _ in range(1 + (op == "blur_noise"))]
    return st.one_of(*others, *[st.sampled_from(transforms)] * (2 if transforms else 0)).flatmap(cases_of)


VARIANTS = 5


def variants(case: Case) -> list[Case]:
    """The case, and others of its shape: with other numbers, dtypes, layouts and blur levels. Drawing takes longer than running."""
    kinds = NUMBERS if case["op"] in TRANSFORMS else (*FLOATS, "uint8") if case["op"] in ("blur", "blur_noise") else FLOATS
    found = [case]
    for i in range(1, VARIANTS):
        other = copy.deepcopy(case)
        other["dtype"] = kinds[(kinds.index(case["dtype"]) + i) % len(kinds)]
        for j, parts in enumerate([other.get("x"), other.get("eps"), other.get("slope"), *other.get("heads", ())]):
            if parts:
                layouts = (*LAYOUTS, *MORE_LAYOUTS)
                parts["values"] = VALUES[(VALUES.index(parts["values"]) + 3 * i + j) % len(VALUES)]
                parts["layout"] = layouts[(layouts.index(parts["layout"]) + 2 * i + j) % len(layouts)]
                parts["edge"], parts["seed"] = EDGES[(i + j) % 2], parts["seed"] + i
        if "blur" in other:
            other["blur"]["values"] = [BLURS[(i * 7 + j * 3) % len(BLURS)] for j, _ in enumerate(other["blur"]["values"])]
        found.append(other)
    return found


# ---- from a case's words to tensors ----


def dtype_of(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def values_of(shape: list[int], dtype: torch.dtype, kind: str, seed: int) -> Tensor:
    """Numbers of a kind. NaN and infinities are in "special" only."""
    rng = torch.Generator().manual_seed(seed)
    if not dtype.is_floating_point and not dtype.is_complex:
        top = 2 if dtype == torch.bool else 128 if dtype == torch.int8 else 256
        return torch.randint(0, 1 if kind == "zero" else top, shape, generator=rng).to(dtype)
    real = REAL.get(dtype, dtype)
    info = torch.finfo(real)
    shape = [*shape, 2] if dtype.is_complex else shape
    x = torch.randn(shape, generator=rng, dtype=torch.float64)
    if kind == "bright":
        x = 0.05 + 0.95 * torch.rand(shape, generator=rng, dtype=torch.float64)
    elif kind == "constant":
        x = torch.full_like(x, float(torch.rand((), generator=rng)))
    elif kind == "huge":
        x = x * (info.max * 2.0**-14 if real == torch.float16 else info.max**0.75)
    elif kind == "limit":
        x = x.sign() * info.max
    elif kind == "tiny":
        x = x * info.tiny * 8
    elif kind == "subnormal":
        x = x * info.tiny / 16
    elif kind == "mixed" and shape:
        span = 3 if real == torch.float16 else 30
        power = (2 * torch.rand(shape[:1], generator=rng, dtype=torch.float64) - 1) * span
        x = x * 10 ** power.reshape(-1, *[1] * (len(shape) - 1))
    elif kind == "impulse" and x.numel():
        x = torch.zeros_like(x)
        x.view(-1)[int(torch.randint(x.numel(), (), generator=rng))] = 1.0
    elif kind == "zero":
        x = torch.where(x > 0, 0.0, -0.0).double()
    elif kind == "special" and x.numel():
        where = torch.randint(x.numel(), (int(torch.randint(1, 4, (), generator=rng)),), generator=rng)
        x.view(-1)[where] = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)[where % 3]
    x = x if kind == "special" else x.clamp(-info.max, info.max)
    return torch.view_as_complex(x).to(dtype) if dtype.is_complex else x.to(dtype)


def strides_of(shape: list[int], layout: str) -> list[int]:
    strides = contiguous_strides(shape)
    if layout == "expanded" and shape:  # the first dimension that repeats something, else none
        wide = [d for d, n in enumerate(shape) if n > 1]
        if wide:
            strides[wide[sum(shape) % len(wide)]] = 0
    elif layout == "overlapping" and len(shape) > 1:  # each row is the one above, one element on
        strides[-2] = 1
    elif layout in LAYOUTS and len(shape) >= (3 if layout == "sliced" else 2):
        strides = layout_strides(shape, layout)
    return strides


def tensor_of(shape: list[int], dtype: torch.dtype, parts: Case, device: str) -> tuple[Tensor, Edge]:
    """The tensor in its place, and the pages around it."""
    layout = parts["layout"]
    strides = strides_of(shape, layout)
    if layout in ("expanded", "overlapping") and all(shape):
        span = [1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))]
        place = Edge(span, dtype, parts["edge"], device=device)
        place.tensor.copy_(values_of(span, dtype, parts["values"], parts["seed"]))
        return place.remember().as_strided(shape, strides), place
    place = Edge(shape, dtype, parts["edge"], strides, device=device)
    place.tensor.copy_(values_of(shape, dtype, parts["values"], parts["seed"]))
    x = place.remember()
    flipped = layout == "flipped" and x.ndim > 1 and dtype != torch.complex32  # which torch cannot flip
    return (x.flip(-1, 0) if flipped else x), place


def out_of(shape: list[int] | torch.Size, dtype: torch.dtype, parts: Case, device: str) -> Edge:
    return Edge(shape, dtype, parts["edge"], strides_of(list(shape), parts["layout"]), poison=0x5A, device=device)


def level_of(parts: Case | float | None, device: str) -> Any:
    """A level's float or tensor; tensors end at a forbidden page."""
    if not isinstance(parts, dict):
        return parts
    values, form = parts["values"], parts["form"]
    if form == "float":
        return values[0]
    dtype = dtype_of(parts.get("dtype", "float64"))
    most = torch.finfo(dtype).max if dtype == torch.float16 else math.inf  # a finite level stays one
    numbers = torch.tensor([max(-most, min(v, most)) if math.isfinite(v) else v for v in values], dtype=torch.float64).to(device, dtype)
    if form == "0-d":
        return numbers[0]
    if form == "expanded":
        return numbers[:1].expand(len(values)) if values else numbers
    place = Edge([len(values)], dtype, "end", [3 if form == "strided" else 1], device=device)
    return place.tensor.copy_(numbers)


def seed_of(parts: Any, device: str) -> Any:
    if not isinstance(parts, list):
        return parts
    place = Edge([len(parts)], torch.int64, "end", [2], device=device)
    return place.tensor.copy_(torch.tensor(parts, dtype=torch.int64))


# ---- a grid: every operation, dtype, layout and edge, at sizes that leave a rest of every vector length ----

_GRID_IMAGES = ([3, 2, 7, 13], [2, 3, 17, 5], [1, 1, 33, 31], [2, 5, 1, 9], [1, 2, 16, 47], [4, 1, 1, 1])
_GRID_LINES = ([3, 13, 7], [17, 5], [2, 33, 31], [41], [3, 1, 19], [2, 9, 16])


def edge_cases() -> list[Case]:
    """At the end and at the beginning of memory in turn; the outputs have the inputs' layout, and end where they end."""
    found: list[Case] = []
    for op in OPS:
        more = "uint8" if op in ("blur", "blur_noise") else "complex64" if op in TRANSFORMS else "float32"
        for turn, dtype in enumerate((*FLOATS, more)):
            for i, layout in enumerate((*LAYOUTS, "expanded", "overlapping")):
                found.append(_edge_case(op, dtype, layout, EDGES[(turn + i) % 2], i, len(found)))
    return found


def _edge_case(op: str, dtype: str, layout: str, edge: str, i: int, count: int) -> Case:
    turn = count + count // 10  # another start for each dtype
    shape = (_GRID_LINES if op in TRANSFORMS else _GRID_IMAGES)[turn % 6]
    if op in TRANSFORMS and len(shape) == 1:
        shape = [3, *shape]
    n = shape[0]
    x = {"layout": layout, "values": "normal", "seed": count, "edge": edge}
    out = {"layout": layout if layout in LAYOUTS else "contiguous", "edge": edge}
    case: Case = {"op": op, "shape": shape, "dtype": dtype, "x": x, "out": out, "recorded": False}
    level = {"form": ("dense", "strided")[i % 2], "dtype": FLOATS[i % 4], "values": [(0.0, 0.4, 1.5, 6.0)[(i + j) % 4] for j in range(n)]}
    if op == "normal":
        return case | {"seed": list(range(n))}
    if op in TRANSFORMS:
        dim = list(range(len(shape)))[-(2 + turn % 2) :] if op[-1] in "n2" else turn % len(shape)
        return case | {"arguments": {"type": i % 4 + 1 if min(shape) > 1 else 2, "norm": NORMS[i % 4], "orthogonalize": None, "dim": dim}}
    if op == "sampler_step":
        case["method"] = ("ddim", "euler", "heun")[turn % 3]
        case |= {"heads": [x, x], "joined": i % 2 == 0, "head_dtype": FLOATS[turn % 4], "c_skip": 0.3, "c_out": [0.7, 0.2]}
        case |= {"levels": {"alpha": 2.0, "beta": 3.0, "alpha_next": 1.0, "beta_next": 1.5}, "as_tensors": None, "alpha_rate": None}
        case |= {"slope": x if case["method"] == "heun" else None, "return_slope": case["method"] != "ddim", "eta": 0.0, "floor": 0.0}
        return case
    case["blur"] = level
    if op == "blur_noise":
        case |= {"noise": level, "scale": level if i % 2 else None, "seed": list(range(i, i + n)), "return_blurred": i % 3 > 0}
        case["eps"] = x if i % 4 == 3 else None
    return case
