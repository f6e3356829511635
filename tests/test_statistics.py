"""The noise is Gaussian and white: 10^8 draws (10^6 of the slow reference), each statistic within 5 standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from scipy.special import ndtr
from test_normal import random_seed
from torch import Tensor

import warmops

LAGS = (1, 2, 3, 4, 32, 64)
SIGMAS = 5.0


def chunks(backend: str, device: str, rng: torch.Generator) -> Iterator[Tensor]:
    """Half of the draws in long samples, half in images of many seeds (a third of them consecutive), ``[samples, elements]``."""
    rows, count = ((1, 125_000), 4) if backend == "reference" else ((1, 12_500_000), 4)
    for _ in range(count):
        yield warmops.normal(rows, random_seed(rng), backend=backend, device=device)
    for _ in range(count):
        n = rows[1] // 3072 + 1
        seeds = torch.randint(-(2**63), 2**63 - 1, (n,), generator=rng)
        seeds[: n // 3] = seeds[0] // 2 + torch.arange(n // 3)
        yield warmops.normal((n, 3072), seeds.to(device), backend=backend)


class Sums:
    """Sample means of functions of the noise, each with mean 0 and variance 1 under the null hypothesis."""

    def __init__(self) -> None:
        self.totals: dict[str, tuple[float, int]] = {}

    def add(self, name: str, values: Tensor) -> None:
        self.add_total(name, float(values.sum()), values.numel())

    def add_total(self, name: str, total: float, count: int) -> None:
        before = self.totals.get(name, (0.0, 0))
        self.totals[name] = (before[0] + total, before[1] + count)

    def outliers(self) -> dict[str, float]:
        scores = {name: total / math.sqrt(count) for name, (total, count) in self.totals.items()}
        return {name: score for name, score in scores.items() if not abs(score) <= SIGMAS}


def test_moments_tails_and_correlations(normal_backend: str, device: str, rng: torch.Generator) -> None:
    sums, draws = Sums(), 0
    for chunk in chunks(normal_backend, device, rng):
        draws += chunk.numel()
        blocks = chunk.split(64) if chunk.shape[0] > 1 else chunk.split(200_000, dim=1)
        for x in blocks:  # small enough for the cache, and for float32 sums
            z = x * x
            square = (z - 1) * math.sqrt(0.5)
            sums.add("mean", x)
            sums.add("variance", square)
            sums.add("skew", (z - 3) * x * math.sqrt(1 / 6))  # Hermite polynomials: uncorrelated, exact variances
            sums.add("kurtosis", ((z - 6) * z + 3) * math.sqrt(1 / 24))
            for bound in (3.0, 4.0, 5.0):
                p = 2 * float(ndtr(-bound))
                sums.add_total(f"beyond {bound}", (int((z > bound**2).sum()) - p * x.numel()) / math.sqrt(p * (1 - p)), x.numel())
            for lag in LAGS:
                sums.add(f"lag {lag}", x[:, lag:] * x[:, :-lag])
            sums.add("squares, lag 1", square[:, 1:] * square[:, :-1])
            sums.add("squares, lag 2", square[:, 2:] * square[:, :-2])
            if x.shape[0] > 1:
                sums.add("next sample", x[1:] * x[:-1])
                sums.add("next sample, squares", square[1:] * square[:-1])
    assert draws >= (10**6 if normal_backend == "reference" else 10**8)
    assert sums.outliers() == {}


def test_kolmogorov_smirnov(normal_backend: str, device: str, rng: torch.Generator) -> None:
    """The largest distance of the sorted draws from the normal distribution, over all of them and in each chunk."""
    edges = torch.linspace(-6, 6, 4097, dtype=torch.float64)
    normal = torch.from_numpy(ndtr(edges.numpy()))
    limit = math.sqrt(math.log(2 / 5.7e-7) / 2)  # Kolmogorov's distribution at the probability of 5 sigma
    below, draws = torch.zeros(4097, dtype=torch.float64), 0
    for chunk in chunks(normal_backend, device, rng):
        draws += chunk.numel()
        inside = torch.histc(chunk.cpu().flatten(), 4096, -6, 6).double().cumsum(0)
        below[1:] += inside
        below += float((chunk < -6).sum())
    assert float((below / draws - normal).abs().max()) * math.sqrt(draws) <= limit
    for x in (warmops.normal((1, 10**6), random_seed(rng), backend=normal_backend, device=device), chunk[:300]):
        ordered = x.flatten().sort().values.double().cpu()
        ranks = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
        expected = torch.from_numpy(ndtr(ordered.numpy()))
        distance = max(float((expected - ranks[:-1]).max()), float((ranks[1:] - expected).max()))
        assert distance * math.sqrt(len(ordered)) <= limit


@pytest.mark.parametrize("distance", [1, 2, 2**32, -(2**32), 2**63 - 1])
def test_neighbouring_seeds_are_independent(distance: int, normal_backend: str, device: str, rng: torch.Generator) -> None:
    first = random_seed(rng)
    second = (first + distance + 2**63) % 2**64 - 2**63
    n = 100_000 if normal_backend == "reference" else 2_000_000
    a, b = warmops.normal((2, n), torch.tensor([first, second], device=device), backend=normal_backend)
    sums = Sums()
    sums.add("product", a * b)
    sums.add("squares", (a * a - 1) * (b * b - 1) / 2)
    for lag in (1, 2, 4):
        sums.add(f"lag {lag}", a[lag:] * b[:-lag])
    assert sums.outliers() == {}
