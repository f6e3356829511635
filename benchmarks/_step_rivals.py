"""One update of a blur-noise sampler, and a whole Heun run, without warmops: as strong as plain PyTorch allows, and compiled.

A step is ``step(x, heads, slope)`` with the network's raw output ``[N, 2C, H, W]``; all images are at one level, as in sampling. What
depends on the level is computed inside the call, since the level changes each step; DCT matrices, frequencies and output buffers are not.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _contest import Build, Contestant, Step, WrongAnswer
from _extras import transforms
from _rivals import dct_basis
from torch import Tensor

import warmdiff
import warmops

BNR, STEPS = 0.5, 18
FACTORS = (0.31, 0.62, 0.17)  # c_skip of both heads together, c_out of each
LIMIT = {torch.float32: 3e-7, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # warmops' relative L2 error
RIVAL_LIMIT = {torch.float32: 2e-6, torch.float64: 1e-11, torch.bfloat16: 6e-2, torch.float16: 1e-2}
Scalars = tuple[float, float, float, float]


@dataclass(frozen=True)
class Task:
    """What is timed: "ddim", "euler" (with the slope), "heun" (the correction) or "run" (18 steps of Heun)."""

    name: str

    @property
    def levels(self) -> Scalars:
        """alpha, beta, alpha_next, beta_next: the middle of EDM's schedule."""
        beta, beta_next = schedule()[7:9]
        return BNR * beta, beta, BNR * beta_next, beta_next

    def moved(self, x: Tensor) -> int:
        """Bytes that a step must read and write: state, both heads and what the method adds (a run: 17 pairs and one step)."""
        tensors = {"ddim": 4, "euler": 5, "heun": 5}
        return x.nbytes * (17 * (tensors["euler"] + tensors["heun"]) + 4 if self.name == "run" else tensors[self.name])


TASKS = {name: Task(name) for name in ("ddim", "euler", "heun", "run")}


@functools.cache
def schedule() -> list[float]:
    return [(80 ** (1 / 7) + i / (STEPS - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(STEPS)] + [0.0]


# ---- plain PyTorch ----


def tables(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DCT matrices of both axes and lambda ``[H, W]``."""
    h, w = x.shape[-2:]
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    along = [(torch.arange(n, dtype=wide, device=x.device) * (math.pi / n)) ** 2 for n in (h, w)]
    return dct_basis(h, x), dct_basis(w, x), along[0].unsqueeze(1) + along[1]


def clean(x: Tensor, heads: Tensor) -> Tensor:
    head_b, head_r = heads.chunk(2, dim=1)
    return FACTORS[0] * x + FACTORS[1] * head_b + FACTORS[2] * head_r


def clean_in_place(x: Tensor, heads: Tensor) -> Tensor:
    head_b, head_r = heads.chunk(2, dim=1)
    return torch.mul(x, FACTORS[0]).add_(head_b, alpha=FACTORS[1]).add_(head_r, alpha=FACTORS[2])


Fixed = tuple[Tensor, Tensor, Tensor]
Modes = Callable[[Tensor, Tensor, Fixed], Tensor]


def by_image(x0: Tensor, weights: Tensor, fixed: Fixed) -> Tensor:
    """DCT, scale, inverse DCT; the products along the columns are one small product per image."""
    to_h, to_w, _ = fixed
    return to_h.t() @ (((to_h @ (x0 @ to_w.t())) * weights.to(x0.dtype)) @ to_w)


def by_transposing(x0: Tensor, weights: Tensor, fixed: Fixed) -> Tensor:
    """The same with images transposed in between: four large products."""
    to_h, to_w, _ = fixed
    spectrum = (x0 @ to_w.t()).mT.contiguous() @ to_h.t()
    return ((spectrum * weights.mT.to(x0.dtype)) @ to_h).mT.contiguous() @ to_w


def ddim_weights(levels: Scalars, lam: Tensor) -> Tensor:
    alpha, beta, alpha_next, beta_next = levels
    return torch.exp(lam * (-0.5 * alpha_next**2)) - torch.exp(lam * (-0.5 * alpha**2)) * (beta_next / beta)


def ode_weights(alpha: float, lam: Tensor) -> Tensor:
    """``(1 + z) exp(-z / 2)``"""
    z = lam * alpha**2
    return (1.0 + z) * torch.exp(-0.5 * z)


def update(modes: Modes, task: str, x: Tensor, heads: Tensor, slope: Tensor, levels: Scalars, fixed: Fixed) -> Any:
    """The formulas as one writes them; for eager and for the compiler."""
    alpha, beta, alpha_next, beta_next = levels
    x0 = clean(x, heads)
    if task == "ddim":
        return x * (beta_next / beta) + modes(x0, ddim_weights(levels, fixed[2]), fixed)
    here_alpha, here_beta = (alpha, beta) if task == "euler" else (alpha_next, beta_next)
    d = (x - modes(x0, ode_weights(here_alpha, fixed[2]), fixed)) / here_beta
    if task == "euler":
        return x + (beta_next - beta) * d, d
    return x + (0.5 * (beta_next - beta)) * (d - slope)


def update_in_place(modes: Modes, task: str, x: Tensor, heads: Tensor, slope: Tensor, levels: Scalars, fixed: Fixed) -> Any:
    """The same with as few passes and new tensors as PyTorch's own functions allow."""
    alpha, beta, alpha_next, beta_next = levels
    x0 = clean_in_place(x, heads)
    if task == "ddim":
        return modes(x0, ddim_weights(levels, fixed[2]), fixed).add_(x, alpha=beta_next / beta)
    here_alpha, here_beta = (alpha, beta) if task == "euler" else (alpha_next, beta_next)
    y = modes(x0, ode_weights(here_alpha, fixed[2]) / here_beta, fixed)
    d = torch.sub(torch.mul(x, 1.0 / here_beta), y, out=y)
    if task == "euler":
        return torch.add(x, d, alpha=beta_next - beta), d
    return torch.add(x, d.sub_(slope), alpha=0.5 * (beta_next - beta))


def run(step: Callable[..., Any], x: Tensor, heads: Tensor, fixed: Fixed) -> Tensor:
    """18 steps of Heun with a denoiser that costs nothing: its heads are given."""
    levels = schedule()
    for beta, beta_next in itertools.pairwise(levels[:-1]):
        ends = (BNR * beta, beta, BNR * beta_next, beta_next)
        x, d = step("euler", x, heads, x, ends, fixed)
        x = step("heun", x, heads, d, ends, fixed)
    return step("euler", x, heads, x, (BNR * levels[-2], levels[-2], 0.0, 0.0), fixed)[0]


def plain(task: Task, form: Callable[..., Any]) -> Build:
    def build(x: Tensor) -> Step:
        fixed = tables(x)
        if task.name == "run":
            return lambda x, heads, slope: run(form, x, heads, fixed)
        return lambda x, heads, slope: form(task.name, x, heads, slope, task.levels, fixed)

    return build


def compiled(task: Task, modes: Modes) -> Build:
    """Levels are tensors inside the graph, so that one graph serves all levels."""

    def build(x: Tensor) -> Step:
        fixed = tables(x)
        graphs = {
            name: torch.compile(functools.partial(update, modes, name), dynamic=False, fullgraph=True) for name in ("ddim", "euler", "heun")
        }

        def step(name: str, x: Tensor, heads: Tensor, slope: Tensor, levels: Scalars, fixed: Fixed) -> Any:
            return graphs[name](x, heads, slope, torch.tensor(levels, dtype=fixed[2].dtype).to(x.device).unbind(), fixed)

        if task.name == "run":
            return lambda x, heads, slope: run(step, x, heads, fixed)
        return lambda x, heads, slope: step(task.name, x, heads, slope, task.levels, fixed)

    return build


# ---- warmops ----


def ours(task: Task, backend: str | None) -> Build:
    def build(x: Tensor) -> Step:
        out, slope_out = torch.empty_like(x), torch.empty_like(x)
        skip, *c_out = FACTORS
        options: dict[str, Any] = {"c_skip": skip, "c_out": tuple(c_out), "backend": backend}
        if task.name == "ddim":
            return lambda x, heads, slope: warmops.sampler_step(x, heads, *task.levels, out=out, **options)
        if task.name == "heun":
            return lambda x, heads, slope: warmops.sampler_step(x, heads, *task.levels, method="heun", slope=slope, out=out, **options)
        options |= {"method": "euler", "return_slope": True, "out": (out, slope_out)}
        return lambda x, heads, slope: warmops.sampler_step(x, heads, *task.levels, **options)

    def build_run(x: Tensor) -> Step:
        zero, skip, out_b, out_r = (torch.full((len(x),), f, dtype=torch.float64, device=x.device) for f in (0.0, *FACTORS))
        scalings = warmdiff.Scalings(zero, skip, out_b, zero, out_r, zero)
        process = warmdiff.BlurNoiseProcess(BNR)

        def step(x: Tensor, heads: Tensor, slope: Tensor) -> Tensor:
            def denoiser(state: Tensor, beta: Tensor) -> warmdiff.RawPrediction:
                return warmdiff.RawPrediction(state, heads, scalings)

            return warmdiff.generate(denoiser, x.shape, process=process, steps=STEPS, x_init=x, dtype=x.dtype, backend=backend)

        return step

    return build_run if task.name == "run" else build


def contestants(task: Task, backend: str | None) -> Iterator[Contestant]:
    name = "warmdiff.generate" if task.name == "run" else "warmops"
    yield Contestant(name, "ours", {"": ours(task, backend)})
    forms: dict[str, Modes] = {"by image": by_image, "transposing": by_transposing}
    writings = {"as written": update, "in place": update_in_place}
    eager = {f"{w}, {f}": plain(task, functools.partial(writings[w], forms[f])) for w in writings for f in forms}
    yield Contestant("four products", "rival", eager)
    yield Contestant("four products, compiled", "rival", {f: compiled(task, forms[f]) for f in forms})
    if task.name != "run":
        yield Contestant("torch.clone", "floor", {"": lambda x: lambda x, heads, slope: x.clone()}, blurs=False, draws=False)


# ---- the truth ----


def truth(task: Task, x: Tensor, heads: Tensor, slope: Tensor) -> list[np.ndarray]:
    """The result in float64, by SciPy's DCT."""
    fft = transforms()
    h, w = x.shape[-2:]
    lam = (np.arange(h)[:, None] * math.pi / h) ** 2 + (np.arange(w)[None] * math.pi / w) ** 2
    raw, c = heads.double().cpu().numpy(), x.shape[1]

    def blurred(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return fft.idctn(weights * fft.dctn(pixels, axes=(-2, -1), norm="ortho"), axes=(-2, -1), norm="ortho")

    def evaluate(state: np.ndarray, alpha: float, beta: float) -> np.ndarray:
        x0, z = FACTORS[0] * state + FACTORS[1] * raw[:, :c] + FACTORS[2] * raw[:, c:], lam * alpha**2
        return (state - blurred(x0, (1 + z) * np.exp(-z / 2))) / beta

    state = x.double().cpu().numpy()
    if task.name == "run":
        levels = schedule()
        for beta, after in itertools.pairwise(levels):
            d = evaluate(state, BNR * beta, beta)
            ahead = state + (after - beta) * d
            state = ahead if after == 0 else state + (after - beta) * 0.5 * (d + evaluate(ahead, BNR * after, after))
        return [state]
    alpha, beta, alpha_next, beta_next = task.levels
    if task.name == "ddim":
        x0 = FACTORS[0] * state + FACTORS[1] * raw[:, :c] + FACTORS[2] * raw[:, c:]
        noise = (state - blurred(x0, np.exp(-lam * alpha**2 / 2))) / beta
        return [blurred(x0, np.exp(-lam * alpha_next**2 / 2)) + beta_next * noise]
    if task.name == "euler":
        d = evaluate(state, alpha, beta)
        return [state + (beta_next - beta) * d, d]
    return [state + (beta_next - beta) / 2 * (evaluate(state, alpha_next, beta_next) - slope.double().cpu().numpy())]


def verifier(task: Task) -> Callable[..., float | None]:
    def verify(contestant: Contestant, variant: str, step: Step, x: Tensor, heads: Tensor, slope: Tensor) -> float | None:
        if not contestant.blurs:
            return None
        got = step(x, heads, slope)
        parts = list(got) if isinstance(got, tuple) else [got]
        errors = []
        for part, want in zip(parts, truth(task, x, heads, slope), strict=True):
            errors.append(float(np.linalg.norm(part.double().cpu().numpy() - want) / np.linalg.norm(want)))
        limit = (LIMIT if contestant.kind == "ours" else RIVAL_LIMIT)[x.dtype] * (5 if task.name == "run" else 1)
        if not max(errors) <= limit:
            raise WrongAnswer(f"{contestant.name} ({variant}): relative error {max(errors):.1e}, allowed {limit:.0e}")
        return max(errors)

    return verify
