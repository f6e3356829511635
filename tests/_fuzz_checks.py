"""Runs a case of tests/_fuzz_cases.py on the kernels of tests/_fuzz_kernels.py and judges each result against arithmetic in 80 bits.

What is asked of each image (the plane ``[H, W]``; for a DCT, what it transforms together):

- Its error is at most the documented one, relative to what went into it (L2 norms): a blur may leave less than it got.
- Halves are, element by element, within one step of the exact result more than that.
- A NaN or an infinity spoils its own image and no other: where an image is blurred it has no finite pixel left, where it is
  not (level 0) the same pixels are spoiled and no more.
- Where the numbers on the way could pass the largest one of the dtype, an image is right or has infinities or NaN in it.
  It is never finite and wrong.
- Inputs, gaps between their elements, and what lies around outputs are as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import _oracles
import numpy as np
import scipy.fft
import torch
from _fuzz_cases import REAL, TRANSFORMS, Case, dtype_of, level_of, out_of, seed_of, tensor_of
from _fuzz_kernels import Kernels
from _oracles import images_of, numpy_of, per_sample
from torch import Tensor

import warmops

Array = np.ndarray
PI = _oracles.PI
LARGEST: dict[str, float] = {}
"""The largest error met, in units of the allowed one, by operation and path."""


def working(dtype: torch.dtype) -> torch.dtype:
    """What is computed in."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def clean(values: Array) -> tuple[Array, Array]:
    """Finite numbers, and where they were none."""
    bad = ~np.isfinite(values)
    return np.where(bad, 0, values), bad


class Judge:
    """The bar for results of one case. ``axes``: those of an image.

    ``tensor_cores``: float32 is multiplied in parts of fewer digits, the smaller of which are lost below the normal numbers.
    """

    def __init__(self, dtype: torch.dtype, axes: tuple[int, ...], bar: float, tensor_cores: bool = False) -> None:
        self.dtype, self.axes, self.bar = dtype, axes, bar
        info = torch.finfo(working(dtype))
        self.most = float(info.max)
        split = tensor_cores and working(dtype) == torch.float32
        self.least = float(info.smallest_normal) * (1 if split else info.eps)  # eps: a subnormal step
        real = REAL.get(dtype, dtype)
        self.real = torch.float32 if not real.is_floating_point else real

    def norm(self, values: Array) -> Array:
        if not self.axes:
            return np.abs(values)
        top = np.abs(values).max(axis=self.axes, keepdims=True, initial=0)  # no overflow, and no underflow, of squares
        unit = np.where(top > 0, top, 1)
        return top * np.sqrt(((values / unit) ** 2).sum(axis=self.axes, keepdims=True))

    def __call__(self, what: str, got: Tensor, want: Array, size: Array, reach: Array, floor: Array | float, spoiled: Array) -> None:
        """``size``: L2 norm of what went into each image; ``reach``: bound on any number on the way; ``spoiled``: images not to judge."""
        result = numpy_of(torch.view_as_real(got.resolve_conj()) if got.is_complex() else got)
        assert result.shape == want.shape, (what, result.shape, want.shape)
        if not want.size:
            return
        largest = float(torch.finfo(self.real).max)
        with np.errstate(invalid="ignore", over="ignore"):
            # Rounded to its dtype a result may become infinite: then it counts as the next number after the largest.
            slack = self.bar * size + self.least * floor
            result = np.where(np.isposinf(result) & (want + slack >= largest), want, result)
            result = np.where(np.isneginf(result) & (want - slack <= -largest), want, result)
            error = np.abs(result - want)
            excused = spoiled | ((reach > self.most / 4) & ~np.isfinite(result).all(axis=self.axes, keepdims=True))
            count = math.prod(want.shape[a] for a in self.axes)
            if self.real in (torch.float16, torch.bfloat16):
                rounded = np.maximum(np.abs(want), np.abs(np.where(np.isfinite(result), result, 0)))
                eps, tiny = torch.finfo(self.real).eps, torch.finfo(self.real).tiny
                step = eps * np.maximum(2.0 ** np.floor(np.log2(np.maximum(rounded, tiny))), tiny)
                allowed = step + self.bar * size + self.least * floor
                wrong = (~(error <= allowed)) & np.broadcast_to(~excused, error.shape)
                worst = np.where(np.broadcast_to(excused, error.shape), 0, error / np.where(allowed > 0, allowed, self.least))
            else:
                # NaN, where an infinite level meets a factor of 0: nothing is allowed to an image that is not excused.
                allowed = np.nan_to_num(self.bar * size + self.least * floor * math.sqrt(count), nan=0.0, posinf=np.inf)
                distance = self.norm(np.where(np.broadcast_to(excused, error.shape), 0, error))
                wrong = ~(distance <= allowed)
                worst = distance / np.where(allowed > 0, allowed, self.least)
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            times = float(np.nan_to_num(worst, nan=np.inf).max())
            raise AssertionError(
                f"{what}: {int(wrong.sum())} of {wrong.size} are wrong, by up to {times:.3g} allowed errors, first at {where}"
            )
        LARGEST[what] = max(LARGEST.get(what, 0.0), float(worst.max()))


def over(values: Array, axes: tuple[int, ...]) -> Array:
    """Whether there is one in each image."""
    return values.any(axis=axes, keepdims=True)


# ---- one function for each kind of operation: everything about a case but the backend, then a call and a judgement ----

Call = Callable[[str, str], None]


def prepared(case: Case, kernels: Kernels) -> Call:
    if case["op"] == "normal":
        return normal(case, kernels)
    if case["op"] == "sampler_step":
        return step(case, kernels)
    return transform(case, kernels) if case["op"] in TRANSFORMS else image(case, kernels)


def run(case: Case, kernels: Kernels) -> None:
    """AssertionError says what is wrong."""
    call = prepared(case, kernels)
    for backend, isa in kernels.paths():
        call(backend, f"{case['op']} on {backend} {isa}".strip())


def recorded(x: Tensor, case: Case) -> Tensor:
    """x, perhaps such that torch's dispatcher and autograd take part."""
    return x.detach().requires_grad_() if case["recorded"] and (x.is_floating_point() or x.is_complex()) else x


def image(case: Case, kernels: Kernels) -> Call:
    shape, dtype, noisy = case["shape"], dtype_of(case["dtype"]), case["op"] == "blur_noise"
    x, place = tensor_of(shape, dtype, case["x"], kernels.device)
    alpha, axes = level_of(case["blur"], kernels.device), (-2, -1)
    result = torch.float32 if dtype == torch.uint8 else dtype
    numbers, bad = clean(images_of(x))
    n_alpha = per_sample(alpha, shape)
    blurs = (n_alpha != 0) & np.ones((shape[0], *[1] * (len(shape) - 1)), dtype=bool)
    blurred = np.where(blurs, blur(numbers, n_alpha), numbers)
    spoiled = np.where(blurs, over(bad, axes), bad)
    bar = 1e-14 if dtype == torch.float64 else 2.5e-7 if max(shape[-2:]) <= 256 else 4e-7
    judge = Judge(result, axes, bar, kernels.tensor_cores)
    size, top = judge.norm(numbers), np.abs(numbers).max(axis=axes, keepdims=True, initial=0)
    reach, floor = 4 * max(shape[-2:]) * top, 8.0 * max(shape[-2:])
    whole = over(bad, axes)

    def check_spoiled(what: str, got: Tensor, extra: Array | bool = False) -> None:
        values = numpy_of(got)
        mine = spoiled | extra
        assert not np.isfinite(values[np.broadcast_to(mine, values.shape)]).any(), f"{what}: a NaN or infinity is lost"

    if not noisy:

        def call(backend: str, what: str) -> None:
            out = None if case["out"] is None or case["recorded"] else out_of(shape, result, case["out"], kernels.device)
            got = warmops.blur(recorded(x, case), alpha, out=None if out is None else out.tensor, backend=backend)
            assert got.dtype == result
            judge(what, got, blurred, size, reach, floor, np.where(blurs, whole, bad) if bad.any() else False)
            check_spoiled(what, got)
            untouched(what, place, out)

        return call

    beta, scale, seed = (
        level_of(case["noise"], kernels.device),
        level_of(case["scale"], kernels.device),
        seed_of(case["seed"], kernels.device),
    )
    factor = per_sample(1.0 if scale is None else scale, shape)
    n_beta = per_sample(beta, shape)
    eps_place = None
    if case["eps"] is not None:
        given, eps_place = tensor_of(shape, result, case["eps"], kernels.device)
        eps, bad_eps = clean(numpy_of(given))
        source: Case = {"noise": given}
    else:
        eps = oracle_normal(shape, case["seed"])
        bad_eps = np.zeros(eps.shape, dtype=bool)
        source = {"seed": seed}
    with np.errstate(over="ignore"):
        drawn = n_beta.astype(np.float64 if dtype == torch.float64 else np.float32) != 0  # below the smallest number: none
    eps, bad_eps = np.where(drawn, eps, 0), bad_eps & drawn
    want = factor * (blurred + n_beta * eps)
    ulps = 0.0 if case["eps"] is not None else 4 * torch.finfo(working(dtype)).eps / bar
    total = np.abs(factor) * (size + (1 + ulps) * n_beta * judge.norm(eps))
    top_eps = np.abs(eps).max(axis=axes, keepdims=True, initial=0)
    total_reach = 8 * np.maximum(np.abs(factor), 1) * np.maximum(n_beta, 1) * (reach + top_eps + 8)
    # Levels and factors are rounded too: by half a subnormal step, where they are that small.
    total_floor = floor * np.maximum(np.abs(factor), 1) + (np.abs(factor) + n_beta) * top_eps + top

    def call_noisy(backend: str, what: str) -> None:
        pair = case["return_blurred"]
        outs = None
        if case["out"] is not None and not case["recorded"]:
            outs = [out_of(shape, result, case["out"], kernels.device) for _ in range(1 + pair)]
        out: Any = None if outs is None else tuple(o.tensor for o in outs) if pair else outs[0].tensor
        words: Any = {"scale": scale, "return_blurred": pair, "out": out, "backend": backend}
        got = warmops.blur_noise(recorded(x, case), alpha, beta, **source, **words)
        got, second = got if pair else (got, None)
        assert got.dtype == result
        judge(what, got, want, total, total_reach, total_floor, spoiled | bad_eps if bad.any() or bad_eps.any() else False)
        check_spoiled(what, got, bad_eps)
        if second is not None:
            judge(what + ", blurred", second, blurred, size, reach, floor, spoiled)
            check_spoiled(what + ", blurred", second)
        untouched(what, place, eps_place, *(outs or ()))

    return call_noisy


def untouched(what: str, *places: Any) -> None:
    """Inputs come first and are as they were; the others may have changed in their tensor alone."""
    for place in places:
        if place is not None:
            assert place.untouched(including_tensor=place.is_input), f"{what}: memory around a tensor has changed"


def blur(images: Array, sigma: Array) -> Array:
    """In the cosine domain, with exact multipliers."""
    h, w = images.shape[-2:]
    if not images.size:
        return images
    level = np.broadcast_to(sigma, (images.shape[0], *[1] * (images.ndim - 1)))[..., 0]
    spectrum = scipy.fft.dctn(images, norm="ortho", axes=(-2, -1))
    spectrum *= np.swapaxes(_oracles.multiplier(h, level), -2, -1) * _oracles.multiplier(w, level)
    return scipy.fft.idctn(spectrum, norm="ortho", axes=(-2, -1))


def oracle_normal(shape: list[int], seed: Any) -> Array:
    if not all(shape):
        return np.zeros(shape, dtype=np.longdouble)
    seeds = seed if isinstance(seed, list) else [seed + i for i in range(shape[0])]
    return _oracles.normal(shape, seeds)


def normal(case: Case, kernels: Kernels) -> Call:
    shape, dtype = case["shape"], dtype_of(case["dtype"])
    want, seed = oracle_normal(shape, case["seed"]), seed_of(case["seed"], kernels.device)
    judge = Judge(dtype, (), 4 * torch.finfo(working(dtype)).eps)

    def call(backend: str, what: str) -> None:
        out = None if case["out"] is None else out_of(shape, dtype, case["out"], kernels.device)
        got = warmops.normal(shape, seed, dtype=dtype, device=kernels.device, out=None if out is None else out.tensor, backend=backend)
        assert got.dtype == dtype
        judge(what, got, want, np.abs(want), np.abs(want), 0.0, False)
        untouched(what, out)

    return call


def step(case: Case, kernels: Kernels) -> Call:
    """The update from its formula in the cosine domain (`warmops.sampler_step`), with the sizes of its terms."""
    shape, dtype, method, axes = case["shape"], dtype_of(case["dtype"]), case["method"], (-2, -1)
    h, w = shape[-2:]
    x, place = tensor_of(shape, dtype, case["x"], kernels.device)
    head_dtype, parts = dtype_of(case["head_dtype"]), case["heads"]
    if case["joined"]:
        heads, *places = tensor_of([shape[0], 2 * shape[1], *shape[2:]], head_dtype, parts[0], kernels.device)
        split = heads.split(shape[1], dim=1) if shape[1] else (heads, heads)
    else:
        made = [tensor_of(shape, head_dtype, p, kernels.device) for p in parts]
        split, places = tuple(m[0] for m in made), [m[1] for m in made]
        heads = split if len(split) == 2 else split[0]
    slope, slope_place = (None, None) if case["slope"] is None else tensor_of(shape, dtype, case["slope"], kernels.device)
    levels = dict(case["levels"])
    if case["as_tensors"]:
        rising = 1 + 0.1 * torch.arange(shape[0], dtype=torch.float64)
        levels = {name: (value * rising).to(kernels.device, dtype_of(case["as_tensors"])) for name, value in levels.items()}
    skip, rate = level_of(case["c_skip"], kernels.device), case["alpha_rate"]
    words: Any = {**levels, "method": method, "c_skip": skip, "eta": case["eta"], "floor": case["floor"]}
    words["c_out"] = tuple(case["c_out"]) if len(split) == 2 else case["c_out"][0]

    state, bad = clean(numpy_of(x))
    inputs, bad_heads = zip(*[clean(numpy_of(t)) for t in split], strict=True)
    given, bad_slope = clean(numpy_of(slope)) if slope is not None else (np.zeros(1), np.zeros(1, dtype=bool))
    a, b, a_next, b_next = (per_sample(levels[name], shape) for name in ("alpha", "beta", "alpha_next", "beta_next"))
    d, eta, c_skip = np.longdouble(case["floor"]), np.longdouble(case["eta"]), per_sample(skip, shape)
    weighted = [(c_skip, state), *zip((np.longdouble(c) for c in case["c_out"]), inputs, strict=False)]
    x0 = sum(factor * values for factor, values in weighted)
    judge = Judge(dtype, axes, 1e-13 if dtype == torch.float64 else 3e-7, kernels.tensor_cores)
    size, size0, size_slope = judge.norm(state), sum(np.abs(f) * judge.norm(v) for f, v in weighted), judge.norm(given + 0 * state)
    modes = (PI * np.arange(h, dtype=np.longdouble) / h)[:, None] ** 2 + (PI * np.arange(w, dtype=np.longdouble) / w) ** 2

    def cosine(values: Array) -> Array:
        return scipy.fft.dctn(values, axes=axes, norm="ortho") if values.size else values

    def back(values: Array) -> Array:
        return scipy.fft.idctn(values, axes=axes, norm="ortho") if values.size else values

    def decay(level: Array) -> Array:
        return np.exp(-modes * level**2 / 2)

    u, u0, want_slope, terms_slope = cosine(state), cosine(x0), None, 0.0
    times, steep = np.longdouble(1), np.longdouble(0)
    if method == "ddim":
        keep = np.sqrt((b_next - eta) * (b_next + eta)) / b
        m, m_next = (1 - d) * decay(a) + d, (1 - d) * decay(a_next) + d
        want, terms = back(m_next * u0 + keep * (u - m * u0)), keep * size + (1 + keep) * size0
    else:
        still = b == b_next
        long = np.where(still, a_next - a, b_next - b)
        rate = (a_next - a) / long if rate is None else np.longdouble(rate)
        here_a, here_b = (a_next, b_next) if method == "heun" else (a, b)
        # The multipliers, which may be subnormal themselves, are multiplied by as much.
        steep = (1 - d) * modes.max() * here_a * np.abs(rate)
        pull, sharpen = np.where(still, 0, 1 / here_b), (1 - d) * modes * here_a * rate * decay(here_a)
        drift = pull * (u - ((1 - d) * decay(here_a) + d) * u0) - sharpen * u0
        # The factor before the largest exponential is part of what is summed.
        terms_slope = pull * (size + size0) + np.abs(sharpen).max(axis=axes, keepdims=True) * size0
        want_slope = back(drift)
        times = 1 + np.abs(long)  # a slope too small to be a normal number is rounded before it is multiplied
        if method == "euler":
            want, terms = back(u + long * drift), size + np.abs(long) * terms_slope
        else:
            want, terms = back(u + long / 2 * (drift - cosine(given + 0 * u))), size + np.abs(long) / 2 * (terms_slope + size_slope)
    filtered = bool(np.any(a != 0) or np.any(a_next != 0)) if method == "ddim" else bool(np.any(here_a != 0))
    must_spread = filtered and d != 1  # a floor of 1 leaves nothing to filter, which a backend may make use of
    images = np.logical_or.reduce([bad, *bad_heads])
    images = over(images, axes) if filtered else images
    spoiled = images | (bad_slope & np.ones(state.shape, dtype=bool))  # a slope is only added: pixel by pixel
    tops = sum(np.abs(v).max(axis=axes, keepdims=True, initial=0) for v in (state, *inputs, given + 0 * state))
    floor = 16.0 * h * w + tops
    reach = 16 * h * w * size0 + 4 * tops  # float64 heads of a float32 state are float32 numbers first

    def call(backend: str, what: str) -> None:
        outs = None
        if case["out"] is not None and not case["recorded"]:
            outs = [out_of(shape, dtype, case["out"], kernels.device) for _ in range(1 + case["return_slope"])]
        out: Any = None if outs is None else tuple(o.tensor for o in outs) if case["return_slope"] else outs[0].tensor
        more: Any = {"alpha_rate": case["alpha_rate"], "return_slope": case["return_slope"], "out": out, "backend": backend}
        got = warmops.sampler_step(recorded(x, case), heads, **words, slope=slope, **more)
        got, got_slope = got if case["return_slope"] else (got, None)
        assert got.dtype == dtype
        on_the_way = reach + 16 * h * w * (judge.norm(want) + terms + terms_slope)  # the slope, before it is multiplied by a short time
        judge(what, got, want, terms, on_the_way, floor * times * (1 + steep), spoiled)
        if got_slope is not None:
            judge(
                what + ", slope", got_slope, want_slope, terms_slope, reach + 16 * h * w * terms_slope, floor * (1 + pull + steep), spoiled
            )
        if must_spread:
            assert not np.isfinite(numpy_of(got)[np.broadcast_to(spoiled, want.shape)]).any(), f"{what}: a NaN or infinity is lost"
        untouched(what, place, *places, slope_place, *(outs or ()))

    return call


def transform(case: Case, kernels: Kernels) -> Call:
    op, shape, dtype, arguments = case["op"], case["shape"], dtype_of(case["dtype"]), case["arguments"]
    x, place = tensor_of(shape, dtype, case["x"], kernels.device)
    numbers = x if dtype.is_floating_point or dtype.is_complex else x.to(torch.get_default_dtype())
    several = op[-1] in "n2"
    named = arguments["dim"] if several else [arguments["dim"]]
    dims = [d % len(shape) for d in named]
    asked = arguments.get("s") if several else [arguments["n"]] if "n" in arguments else None
    lengths = [shape[d] if n == -1 else n for d, n in zip(dims, asked or [-1] * len(dims), strict=True)]
    result = list(shape)
    for d, n in zip(dims, lengths, strict=True):
        result[d] = n
    family = "dct" if "dct" in op else "dst"
    half_periods = [n + {"dct": -1, "dst": 1}[family] * (arguments["type"] == 1) for n in lengths]
    norm_of = arguments["norm"] or "backward"
    if op[0] == "i":
        norm_of = {"backward": "forward", "forward": "backward"}.get(norm_of, norm_of)
    gain = math.prod({"backward": math.sqrt(2 * p), "ortho": 1.0, "forward": 1 / math.sqrt(2 * p)}[norm_of] for p in half_periods)

    parts = torch.view_as_real(numbers.resolve_conj()) if numbers.is_complex() else numbers
    values, bad = clean(numpy_of(parts))
    words = {name: value for name, value in arguments.items() if name not in ("dim", "n", "s")}
    axes = tuple(dims)
    words |= {"axes": axes, "s": lengths} if several else {"axis": dims[0], "n": lengths[0]}
    oracle = getattr(scipy.fft, op.replace("2", "n"))
    want = oracle(values, **words) if values.size else np.zeros(result + list(values.shape[len(shape) :]))
    used = tuple(slice(0, n) for n in result)
    values, bad = values[used], bad[used]
    most = max(lengths)
    bar = 2e-15 * max(1.0, math.log2(most)) if working(numbers.dtype) == torch.float64 else 2.5e-7 if most <= 256 else 4e-7
    judge = Judge(numbers.dtype, axes, bar)
    size = np.maximum(gain * judge.norm(values), judge.norm(want))
    spoiled = over(bad, axes)
    points = math.prod(lengths)
    reach = 16 * np.abs(values).max(axis=axes, keepdims=True, initial=0) * max(1.0, gain) * points
    floor = 8.0 * points * max(1.0, gain)

    def call(backend: str, what: str) -> None:
        out = None if case["out"] is None or case["recorded"] else out_of(result, numbers.dtype, case["out"], kernels.device)
        got = getattr(warmops, op)(recorded(x, case), **arguments, out=None if out is None else out.tensor, backend=backend)
        assert got.dtype == numbers.dtype and list(got.shape) == result
        judge(what, got, want, size, reach, floor, spoiled)
        if spoiled.any():  # its zero frequency or another sum of all: nothing is lost without a trace
            finite = np.isfinite(numpy_of(torch.view_as_real(got) if got.is_complex() else got))
            assert not (spoiled & finite.all(axis=axes, keepdims=True)).any(), f"{what}: a NaN or infinity is lost"
        untouched(what, place, out)

    return call
