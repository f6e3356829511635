"""Data whose best denoiser is known in closed form, and the samplers as recursions per mode: NumPy and SciPy only.

Nothing here is shared with warmdiff or warmops: levels, multipliers, transforms and updates are written again from the papers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import scipy.fft
import torch
from torch import Tensor

import warmdiff

Array = np.ndarray


def dct(x: Array) -> Array:
    return scipy.fft.dctn(x, axes=(-2, -1), norm="ortho")


def idct(u: Array) -> Array:
    return scipy.fft.idctn(u, axes=(-2, -1), norm="ortho")


def eigenvalues(size: tuple[int, int]) -> Array:
    """``lambda_ij``, from frequencies as SciPy's users count them."""
    h, w = (np.pi * np.arange(n) / n for n in size)
    return h[:, None] ** 2 + w[None, :] ** 2


def natural(size: tuple[int, int], mean: float = 0.25) -> Array:
    """``s^2 ~ 1 / (k^2 + 1)`` with k the mode's number, scaled to a mean variance."""
    i, j = np.ogrid[: size[0], : size[1]]
    s2 = 1.0 / (i**2 + j**2 + 1.0)
    return s2 * (mean / s2.mean())


class Levels:
    """A process as plain functions of a float: blur, its derivative, noise and multipliers."""

    def __init__(
        self,
        size: tuple[int, int],
        alpha: Callable[[float], float],
        rate: Callable[[float], float],
        noise: Callable[[float], float] = lambda t: t,
        noise_rate: float = 1.0,
        floor: float = 0.0,
    ) -> None:
        self.size, self.alpha, self.rate, self.noise, self.noise_rate, self.floor = size, alpha, rate, noise, noise_rate, floor
        self.eigenvalues = eigenvalues(size)

    @classmethod
    def mixture(cls, size: tuple[int, int], bnr: float) -> Levels:
        return cls(size, lambda t: bnr * t, lambda t: bnr)

    @classmethod
    def constant(cls, size: tuple[int, int], noise: float) -> Levels:
        return cls(size, lambda t: t, lambda t: 1.0, lambda t: noise if t > 0 else 0.0, 0.0)

    def m(self, t: float) -> Array:
        return (1 - self.floor) * np.exp(-self.eigenvalues * self.alpha(t) ** 2 / 2) + self.floor

    def dm(self, t: float) -> Array:
        a = self.alpha(t)
        return -(1 - self.floor) * self.eigenvalues * a * self.rate(t) * np.exp(-self.eigenvalues * a * a / 2)

    def slope(self, u: Array, x0: Array, t: float) -> Array:
        """``du/dt`` of the probability-flow ODE."""
        return self.noise_rate * (u - self.m(t) * x0) / self.noise(t) + self.dm(t) * x0


class Gaussian:
    """Modes ``N(mu, s^2)``: ``E[u_0 | u] = mu + m s^2 (u - m mu) / (m^2 s^2 + beta^2)``."""

    def __init__(self, levels: Levels, variance: Array, mu: Array | float = 0.0) -> None:
        self.levels, self.variance, self.mu = levels, variance, mu

    def posterior(self, u: Array, t: float) -> Array:
        m = self.levels.m(t)
        return self.mu + m * self.variance * (u - m * self.mu) / (m**2 * self.variance + self.levels.noise(t) ** 2)

    def spread(self, t: float) -> Array:
        """Standard deviation of the marginal of each mode."""
        return np.sqrt(self.levels.m(t) ** 2 * self.variance + self.levels.noise(t) ** 2)


class Mixture:
    """Components ``N(mu_j, s_j^2)`` per mode, with weights."""

    def __init__(self, levels: Levels, weights: Array, mus: Array, variances: Array) -> None:
        self.levels, self.weights, self.mus, self.variances = levels, weights, mus, variances

    def logits(self, u: Array, t: float) -> Array:
        """Log of each component's share of the density of u ``[..., H, W]``, without a constant: ``[..., J]``."""
        m, b2 = self.levels.m(t), self.levels.noise(t) ** 2
        var = m**2 * self.variances + b2  # [J, H, W]
        residual = u[..., None, :, :] - m * self.mus
        return np.log(self.weights) - 0.5 * (residual**2 / var + np.log(var)).sum(axis=(-2, -1))

    def posterior(self, u: Array, t: float) -> Array:
        m, b2 = self.levels.m(t), self.levels.noise(t) ** 2
        logits = self.logits(u, t)
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        each = self.mus + m * self.variances * (u[..., None, :, :] - m * self.mus) / (m**2 * self.variances + b2)
        return (share[..., None, None] * each).sum(axis=-3)


def denoiser(model: Gaussian | Mixture) -> Callable[[Tensor, Tensor], warmdiff.Prediction]:
    """What a perfectly trained network returns for this data."""

    def call(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        t = float(beta[0])
        assert beta.shape == x.shape[:1] and bool((beta == beta[0]).all())
        x0 = model.posterior(dct(x.double().numpy()), t)
        m = model.levels.m(t)
        return warmdiff.Prediction(*(torch.from_numpy(idct(part)).to(x.dtype) for part in (m * x0, (1 - m) * x0)))

    return call


def edm_levels(steps: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> list[float]:
    """EDM, equation 5."""
    return [(high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(steps)] + [0.0]


def recursion(model: Gaussian | Mixture, u: Array, schedule: list[float], sampler: str, exact_last: bool = False) -> list[Array]:
    """The states of a sampler in DCT space, one after each step."""
    levels, states = model.levels, []
    for t, s in itertools.pairwise(schedule):
        x0 = model.posterior(u, t)
        m, m_s = levels.m(t), levels.m(s)
        if s == 0 and (exact_last or levels.noise_rate == 0) and sampler in ("heun", "euler"):
            u = x0
        elif sampler == "ddim":
            u = levels.noise(s) / levels.noise(t) * (u - m * x0) + m_s * x0
        elif sampler == "cold":
            u = u - m * x0 + m_s * x0
        else:
            slope = levels.slope(u, x0, t)
            ahead = u + (s - t) * slope
            if sampler == "heun" and s > 0:
                slope = 0.5 * (slope + levels.slope(ahead, model.posterior(ahead, s), s))
            u = u + (s - t) * slope
        states.append(u)
    return states
