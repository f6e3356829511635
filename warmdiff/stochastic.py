"""The parts of a sampler's step that draw noise: churn, and a step of the forward process backwards, both in DCT space."""

from __future__ import annotations

from torch import Tensor

import warmops
from warmdiff.process import BlurNoiseProcess


def step_seeds(seeds: Tensor, step: int) -> Tensor:
    """Philox keys ``[N]`` of the noise of one step: SplitMix64 of each sample's seed at a distance of ``step``."""

    def signed(word: int) -> int:
        return (word + 2**63) % 2**64 - 2**63

    key = seeds + signed(0x9E3779B97F4A7C15 * step)  # int64 wraps modulo 2^64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> shift & (1 << 64 - shift) - 1)) * signed(factor)
    return key ^ (key >> 31 & (1 << 33) - 1)


def _mix(parts: list[tuple[Tensor, Tensor]], spread: Tensor, seeds: Tensor, backend: str | None) -> Tensor:
    """Sum of ``weights [H, W] * images`` and of noise of standard deviation ``spread [H, W]``, in DCT space."""
    x = parts[0][1]
    # White noise is white in every orthonormal basis.
    u = spread.to(x) * warmops.normal(x.shape, seeds, dtype=x.dtype, backend=backend)
    for weights, image in parts:
        u = u + weights.to(x) * warmops.dct2(image.to(x.dtype), norm="ortho", backend=backend)
    return warmops.idct2(u, norm="ortho", backend=backend)


def add_churn(
    process: BlurNoiseProcess, x: Tensor, beta: float, beta_up: float, seeds: Tensor, factor: float = 1.0, backend: str | None = None
) -> Tensor:
    """Take x from level beta up to beta_up, blur and noise both, so that its marginal stays that of the process.

    In DCT space ``u_up = q u + factor sqrt(noise_up^2 - q^2 noise^2) n``, q being what the further blur leaves: the fresh noise is
    coloured, for the blur also takes away noise that is there. Without blur it is EDM's ``sqrt(beta_up^2 - beta^2) n``.
    """
    q = process.transition(beta, beta_up, (x.shape[-2], x.shape[-1]), x.device)
    variance = process.noise(beta_up) ** 2 - q**2 * process.noise(beta) ** 2
    return _mix([(q, x)], factor * variance.clamp(min=0.0).sqrt(), seeds, backend)


def ancestral(
    process: BlurNoiseProcess, x: Tensor, denoised: Tensor, beta: float, beta_next: float, seeds: Tensor, backend: str | None
) -> Tensor:
    """A sample of ``q(x_next | x, x_0)``, the forward process backwards; per mode, r being what the blur from next to here leaves,

    ``u_next = m_next x_0 + r s^2 (u - m x_0) + sqrt(1 - r^2 s^2) noise_next n`` with ``s = noise_next / noise``.
    """
    size = (x.shape[-2], x.shape[-1])
    s2 = (process.noise(beta_next) / process.noise(beta)) ** 2
    r = process.transition(beta_next, beta, size, x.device)
    m, m_next = (process.multipliers(level, size, x.device) for level in (beta, beta_next))
    spread = process.noise(beta_next) * (1.0 - r**2 * s2).clamp(min=0.0).sqrt()
    return _mix([(r * s2, x), (m_next - r * s2 * m, denoised)], spread, seeds, backend)
