"""Is it the right answer? Every contestant is compared with float64 before it is timed."""

from __future__ import annotations

import math

import numpy as np
import torch
from _contest import Contestant, Step, WrongAnswer
from _extras import transforms
from torch import Tensor

# Relative L2 error of A x that still counts as the same operation in this arithmetic.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.uint8: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SAMPLES = 8  # images compared: float64 transforms of a whole batch would take longer than the benchmark
DRAWS = 200_000  # normals tested


def true_blur(x: Tensor, alpha: Tensor) -> Tensor:
    """``A x`` by SciPy's DCT in float64."""
    fft = transforms()
    images = x.double().cpu()
    if x.dtype == torch.uint8:
        images = images / 127.5 - 1.0
    h, w = x.shape[-2:]
    squared = (np.arange(h)[:, None] * math.pi / h) ** 2 + (np.arange(w)[None] * math.pi / w) ** 2
    m = np.exp(-0.5 * alpha.double().cpu().numpy().reshape(-1, *[1] * (x.ndim - 1)) ** 2 * squared)
    spectrum = fft.dctn(images.numpy(), axes=(-2, -1), norm="ortho")
    return torch.from_numpy(fft.idctn(spectrum * m, axes=(-2, -1), norm="ortho"))


def _picked(x: Tensor) -> Tensor:
    """Indices of the compared images: spread over the batch."""
    return torch.linspace(0, len(x) - 1, min(SAMPLES, len(x))).long()


def blur_error(step: Step, x: Tensor, alpha: Tensor) -> float:
    """Relative L2 error of the noise-free part."""
    result = step(x, alpha, torch.zeros_like(alpha))
    picked = _picked(x).to(x.device)
    truth = true_blur(x[picked], alpha[picked])
    return float((result[picked].double().cpu() - truth).norm() / truth.norm())


def noise_faults(step: Step, x: Tensor, alpha: Tensor) -> list[str]:
    """What is wrong with the noise: mean, variance of each image, distribution, correlations. Five sigma each."""
    beta = torch.linspace(0.5, 2.0, len(x), device=x.device)
    picked = _picked(x).to(x.device)
    result = step(x, alpha, beta)[picked].double().cpu()
    level = beta[picked].double().cpu()
    again = step(x, alpha, beta)[picked].double().cpu()
    eps = ((result - true_blur(x[picked], alpha[picked])) / level.view(-1, *[1] * (x.ndim - 1))).flatten(1)
    n, flat = eps.numel(), eps.flatten()
    limit = 5.0 / math.sqrt(n)
    faults = []
    if abs(flat.mean()) > limit:
        faults.append(f"mean {flat.mean():.2e}")
    off = float(((eps**2).mean(1) - 1.0).abs().max())
    if off > 5.0 * math.sqrt(2.0 / eps.shape[1]) + 1e-3:
        faults.append(f"variance of an image off by {off:.2e}")
    below = torch.special.ndtr(flat[:DRAWS].sort().values)  # of n sorted numbers, k / n should lie below the k-th
    steps = torch.arange(len(below) + 1, dtype=torch.float64) / len(below)
    distance = float(torch.maximum(below - steps[:-1], steps[1:] - below).max())
    if distance > 2.3 / math.sqrt(min(n, DRAWS)) + 1e-3:
        faults.append(f"Kolmogorov-Smirnov distance {distance:.2e}")
    for lag in (1, 2, 4, x.shape[-1]):
        correlation = float((flat[:-lag] * flat[lag:]).mean())
        if abs(correlation) > 5.0 / math.sqrt(n - lag):
            faults.append(f"correlation {correlation:.2e} at lag {lag}")
    if len(eps) > 1 and abs(float((eps[0] * eps[1]).mean())) > 5.0 / math.sqrt(eps.shape[1]):
        faults.append("two images have correlated noise")
    if step_is_random(step) and torch.equal(result, again):
        faults.append("the same noise twice")
    return faults


def step_is_random(step: Step) -> bool:
    """warmops' noise is a function of its seed: the same noise twice is right there."""
    return not getattr(step, "seeded", False)


def verify(contestant: Contestant, variant: str, step: Step, x: Tensor, alpha: Tensor, *_: Tensor) -> float | None:
    """The error of the noise-free part (None where nothing is blurred); raises `WrongAnswer`."""
    label = f"{contestant.name} ({variant})" if variant else contestant.name
    error = None
    if contestant.blurs:
        error = blur_error(step, x, alpha)
        if not error <= TOLERANCE[x.dtype]:
            raise WrongAnswer(f"{label}: relative error {error:.2e} of the noise-free part, allowed {TOLERANCE[x.dtype]:.0e}")
        if contestant.draws:
            faults = noise_faults(step, x, alpha)
            if faults:
                raise WrongAnswer(f"{label}: its noise is not standard normal: {', '.join(faults)}")
    elif not contestant.draws and not torch.equal(step(x, alpha, alpha), x):
        raise WrongAnswer(f"{label}: not a copy")
    return error
