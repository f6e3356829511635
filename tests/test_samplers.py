"""Samplers against closed forms: recursions per mode, exact distances, orders, marginals. No training, no tolerance by eye."""

from __future__ import annotations

import functools
import itertools
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from _closed_forms import Array, Gaussian, Levels, Mixture, dct, denoiser, edm_levels, eigenvalues, idct, natural, recursion
from torch import Tensor

import warmdiff
import warmops
from warmdiff.sampling import add_churn

DOUBLE = {"dtype": torch.float64}
BNRS = (0.0, 0.5, 2.0, 10.0)
SIZE = (32, 32)
TABLE = {  # W2 of Heun after N steps, BNR .5, 32x32: DESIGN.md's table of exact distances
    0.0: (0.7338, 0.1624, 0.0381, 0.0091, 0.0021, 0.0004),
    0.5: (0.7882, 0.1732, 0.0406, 0.0097, 0.0023, 0.0005),
    2.0: (0.9567, 0.2421, 0.0602, 0.0150, 0.0038, 0.0010),
    10.0: (1.8173, 0.1558, 0.0323, 0.0208, 0.0125, 0.0099),
}
STEPS = (18, 36, 72, 144, 288, 576)


def process_of(name: str, size: tuple[int, int]) -> tuple[warmdiff.BlurNoiseProcess, Levels, list[float]]:
    """A process of ours, the same written again, and a schedule."""
    if name == "ihdm":
        return warmdiff.BlurNoiseProcess.ihdm(), Levels.constant(size, 0.01), [*np.geomspace(24, 0.5, 12).tolist(), 0.0]
    if name == "cold":
        return warmdiff.BlurNoiseProcess.cold(), Levels.constant(size, 0.002), [*np.geomspace(24, 0.5, 12).tolist(), 0.0]
    if name == "free":
        own = warmdiff.BlurNoiseProcess.free(lambda b: 3 * torch.log1p(b) ** 2, sigma_max=50.0, floor=0.01)
        plain = Levels(size, lambda b: 3 * math.log1p(b) ** 2, lambda b: 6 * math.log1p(b) / (1 + b), floor=0.01)
        return own, plain, edm_levels(12, high=50.0)
    return warmdiff.BlurNoiseProcess(float(name)), Levels.mixture(size, float(name)), edm_levels(12)


def start(model: Gaussian, top: float, n: int, rng: torch.Generator) -> Tensor:
    """Samples of the marginal at the first level."""
    z = torch.randn(n, 2, *model.levels.size, generator=rng, dtype=torch.float64).numpy()
    return torch.from_numpy(idct(model.levels.m(top) * model.mu + model.spread(top) * z))


def close(got: Tensor, want: Array, tolerance: float) -> None:
    scale = max(1.0, float(np.abs(want).max()))
    assert float(np.abs(got.numpy() - want).max()) <= tolerance * scale


# ---- the recursion ----


@pytest.mark.parametrize("size", [(32, 32), (12, 20), (9, 5), (1, 16)], ids=str)
@pytest.mark.parametrize("sampler", ["heun", "euler", "ddim"])
@pytest.mark.parametrize("name", ["0", "0.5", "2", "10", "free", "ihdm", "cold"])
def test_states_equal_the_recursion(name: str, sampler: str, size: tuple[int, int], step_backend: str, rng: torch.Generator) -> None:
    process, levels, schedule = process_of(name, size)
    mu = torch.randn(*size, generator=rng, dtype=torch.float64).numpy() * np.sqrt(natural(size))
    model = Gaussian(levels, natural(size), mu)
    x = start(model, schedule[0], 2, rng)
    want = recursion(model, dct(x.numpy()), schedule, sampler)
    states = list(
        warmdiff.sample(denoiser(model), x.shape, process=process, sampler=sampler, steps=12, x_init=x, backend=step_backend, **DOUBLE)
    )
    assert [s.step for s in states] == list(range(1, 13))
    assert np.allclose([s.beta for s in states], schedule[1:], rtol=1e-12)
    for state, u in zip(states, want, strict=True):
        close(state.x, idct(u), 1e-9)
    close(states[0].denoised, idct(model.posterior(dct(x.numpy()), schedule[0])), 1e-9)


@pytest.mark.parametrize("name", ["ihdm", "cold"])
def test_cold_is_algorithm_2(name: str, step_backend: str, rng: torch.Generator) -> None:
    """``x - D(x0, t) + D(x0, s)``; the last step too, unlike ddim's."""
    process, levels, schedule = process_of(name, (8, 10))
    model = Gaussian(levels, natural((8, 10)))
    x = start(model, schedule[0], 3, rng)
    want = recursion(model, dct(x.numpy()), schedule, "cold")
    states = warmdiff.sample(denoiser(model), x.shape, process=process, sampler="cold", steps=12, x_init=x, backend=step_backend, **DOUBLE)
    for state, u in zip(states, want, strict=True):
        close(state.x, idct(u), 1e-9)


@pytest.mark.parametrize("name", ["0.5", "10", "free"])
def test_exact_last(name: str, step_backend: str, rng: torch.Generator) -> None:
    process, levels, schedule = process_of(name, (8, 10))
    model = Gaussian(levels, natural((8, 10)))
    x = start(model, schedule[0], 3, rng)
    want = recursion(model, dct(x.numpy()), schedule, "heun", exact_last=True)[-1]
    states = list(
        warmdiff.sample(denoiser(model), x.shape, process=process, steps=12, x_init=x, exact_last=True, backend=step_backend, **DOUBLE)
    )
    close(states[-1].x, idct(want), 1e-9)
    assert torch.equal(states[-1].x, states[-1].denoised) or (states[-1].x - states[-1].denoised).abs().max() < 1e-13


def test_without_blur_it_is_edm(step_backend: str, rng: torch.Generator) -> None:
    """EDM's Algorithm 1, written as there, on a denoiser that is not linear; step for step."""

    def clean(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(x / (0.25 + sigma.view(-1, 1, 1, 1) ** 2).sqrt())

    shape, steps = (3, 2, 8, 9), 18
    x = 80 * torch.randn(shape, generator=rng, dtype=torch.float64)
    states = warmdiff.sample(
        lambda x, b: warmdiff.Prediction(clean(x, b), torch.zeros_like(x)), shape, process=warmdiff.BlurNoiseProcess.hot(), x_init=x,
        steps=steps, backend=step_backend, **DOUBLE,
    )  # fmt: skip
    t = edm_levels(steps)
    for i, state in enumerate(states):
        here, there = (torch.full((3,), v, dtype=torch.float64) for v in t[i : i + 2])
        d = (x - clean(x, here)) / t[i]
        ahead = x + (t[i + 1] - t[i]) * d
        if t[i + 1] != 0:
            d_ahead = (ahead - clean(ahead, there)) / t[i + 1]
            ahead = x + (t[i + 1] - t[i]) * (0.5 * d + 0.5 * d_ahead)
        x = ahead
        close(state.x, x.numpy(), 1e-12)
    assert i == steps - 1


# ---- distances and orders ----


@functools.cache
def distance(bnr: float, steps: int, sampler: str = "heun") -> float:
    """W2 between what the shipped sampler makes of the true marginal at level 80 and the data: it is linear in each mode, so exact."""
    model = Gaussian(Levels.mixture(SIZE, bnr), natural(SIZE))
    options = {"process": warmdiff.BlurNoiseProcess(bnr), "sampler": sampler, "steps": steps, "backend": "reference", **DOUBLE}
    x = torch.from_numpy(idct(model.spread(80.0)))[None, None]
    x = warmdiff.generate(denoiser(model), x.shape, x_init=x, **options)
    return float(np.linalg.norm(dct(x.numpy()) - np.sqrt(model.variance)))


def recursion_error(bnr: float, steps: int, exact_last: bool = False, rho: float = 7.0, low: float = 0.002) -> Array:
    """Error of each mode's standard deviation after Heun, by the recursion (which the shipped sampler equals to 1e-9)."""
    model = Gaussian(Levels.mixture(SIZE, bnr), natural(SIZE))
    levels = [*np.geomspace(80.0, low, steps).tolist(), 0.0] if math.isinf(rho) else edm_levels(steps, low, rho=rho)
    return recursion(model, model.spread(80.0), levels, "heun", exact_last)[-1] - np.sqrt(model.variance)


def order(distances: list[float]) -> float:
    """Least-squares slope of log distance against log steps, steps doubling."""
    return float(-np.polyfit(np.arange(len(distances)), np.log2(distances), 1)[0])


@pytest.mark.parametrize("bnr", BNRS)
def test_distances_of_heun(bnr: float) -> None:
    got = [distance(bnr, steps) for steps in STEPS]
    assert [f"{d:.4f}" for d in got] == [f"{d:.4f}" for d in TABLE[bnr]]


def test_distances_of_euler() -> None:
    assert [f"{distance(0.5, steps, 'euler'):.3f}" for steps in (18, 36, 72)] == ["2.327", "1.172", "0.588"]


@pytest.mark.parametrize("bnr", [0.0, 0.5, 2.0])
def test_orders(bnr: float) -> None:
    assert abs(order([distance(bnr, n) for n in (72, 144, 288)]) - 2.0) <= 0.15
    assert abs(order([distance(bnr, n, "euler") for n in (72, 144, 288)]) - 1.0) <= 0.1


def test_what_remains_at_bnr_10() -> None:
    """The numbers of docs/samplers.md: the last Euler step's, in the highest modes; no spacing removes it, ``exact_last`` does."""

    def shown(steps: tuple[int, ...], **options: Any) -> list[str]:
        return [f"{np.linalg.norm(recursion_error(10.0, n, **options)):.4f}" for n in steps]

    # The last Euler step alone: the exact flow down to sigma_min, then (1 + z) exp(-z / 2) of the posterior mean.
    model = Gaussian(Levels.mixture(SIZE, 10.0), natural(SIZE))
    z, true = model.levels.eigenvalues * (10 * 0.002) ** 2, np.sqrt(model.variance)
    exact = model.posterior(model.spread(0.002), 0.002)
    assert f"{z.max():.4f}" == "0.0074"
    assert f"{np.linalg.norm((1 + z) * np.exp(-z / 2) * exact - true):.4f}" == "0.0090"
    assert f"{np.linalg.norm(exact - true):.4f}" == "0.0003"
    k, error = np.hypot(*np.ogrid[:32, :32]), recursion_error(10.0, 576)
    bands = (np.linalg.norm(error[part]) for part in (k >= 24, k < 0.5, k < 2))
    assert [f"{band:.4f}" for band in bands] == ["0.0086", "0.0001", "0.0005"]
    for rho in (3.0, 7.0, math.inf):  # other spacings end at the same floor
        assert 0.0089 <= np.linalg.norm(recursion_error(10.0, 576, rho=rho)) <= 0.0105
    assert shown((72, 144, 288, 576), exact_last=True) == ["0.0290", "0.0142", "0.0045", "0.0012"]
    last = [float(np.linalg.norm(recursion_error(10.0, n, exact_last=True))) for n in (288, 576)]
    assert f"{order(last):.2f}" == "1.96"
    assert shown((144, 288, 576), exact_last=True, rho=3.0) == ["0.0331", "0.0025", "0.0008"]
    assert shown((576,), low=0.0005) == ["0.0019"]  # a lower last level: z is 16 times smaller


# ---- noise on the way ----


def spreads(update: Callable[[Tensor, Tensor], Tensor], size: tuple[int, int]) -> tuple[Array, Array]:
    """Of an update ``V (q u + w n)``: q and w of each mode, by applying it to known u and to known noise."""
    shape = (1, 1, *size)
    seeds = torch.tensor([17])
    u = torch.ones(shape, dtype=torch.float64)
    silent = dct(update(torch.zeros(shape, dtype=torch.float64), seeds).numpy())
    kept = dct(update(torch.from_numpy(idct(u.numpy())), seeds).numpy()) - silent
    return kept[0, 0], silent[0, 0] / warmops.normal(shape, seeds, dtype=torch.float64).numpy()[0, 0]


def churn_error(update: Callable[[Tensor, Tensor], Tensor], levels: Levels, s2: Array, beta: float, up: float) -> float:
    """Largest relative error of a mode's variance after an update that should take it from one marginal to another."""
    q, w = spreads(update, levels.size)
    want = levels.m(up) ** 2 * s2 + levels.noise(up) ** 2
    return float(np.abs((q**2 * (levels.m(beta) ** 2 * s2 + levels.noise(beta) ** 2) + w**2) / want - 1).max())


@pytest.mark.parametrize("beta", [0.01, 0.3, 3.0, 60.0])
@pytest.mark.parametrize("name", ["0", "0.5", "2", "10", "free", "ihdm", "cold"])
def test_churn_keeps_every_variance(name: str, beta: float, step_backend: str) -> None:
    process, levels, _ = process_of(name, (8, 12))
    up = 1.3 * beta
    error = churn_error(lambda x, seeds: add_churn(process, x, beta, up, seeds, backend=step_backend), levels, natural((8, 12)), beta, up)
    assert error <= 1e-10


@pytest.mark.parametrize("beta", [0.3, 3.0])
def test_isotropic_churn_does_not(beta: float) -> None:
    """EDM's ``sqrt(beta_up^2 - beta^2) n`` after blurring, or without: it fails the test above, except without blur."""
    size, up = (8, 12), 1.3 * beta

    def isotropic(x: Tensor, seeds: Tensor, alpha: float) -> Tensor:
        noise = torch.from_numpy(idct(warmops.normal(x.shape, seeds, dtype=x.dtype).numpy()))
        return warmops.blur(x, alpha, backend="reference") + math.sqrt(up**2 - beta**2) * noise

    hot, warm = Levels.mixture(size, 0.0), Levels.mixture(size, 0.5)
    assert churn_error(lambda x, s: isotropic(x, s, 0.0), hot, natural(size), beta, up) <= 1e-10
    assert churn_error(lambda x, s: isotropic(x, s, 0.0), warm, natural(size), beta, up) > 1e-3
    assert churn_error(lambda x, s: isotropic(x, s, 0.5 * math.sqrt(up**2 - beta**2)), warm, natural(size), beta, up) > 1e-3


def churned_variances(bnr: float, white: bool, steps: int) -> Array:
    """Variances of all modes after Heun with churn, propagated exactly (each step is linear): coloured or white noise."""
    model = Gaussian(Levels.mixture(SIZE, bnr), natural(SIZE))
    levels, t = model.levels, edm_levels(steps)
    variance = model.spread(80.0) ** 2
    for here, there in itertools.pairwise(t):
        up = here * (1 + min(40 / steps, math.sqrt(2) - 1)) if 0.05 <= here <= 50 else here
        q = np.exp(-levels.eigenvalues * bnr**2 * (up**2 - here**2) / 2)
        variance = variance + up**2 - here**2 if white else q**2 * variance + up**2 - q**2 * here**2
        variance = variance * recursion(model, np.ones(SIZE), [up, there], "heun")[-1] ** 2
    return variance


def test_churn_over_a_whole_run(step_backend: str) -> None:
    """The shipped sampler's images have the exactly propagated variances; those of white churn stay wrong."""
    coloured, white = (
        [float(np.linalg.norm(np.sqrt(churned_variances(0.5, white, steps)) - np.sqrt(natural(SIZE)))) for steps in (144, 288, 576)]
        for white in (False, True)
    )
    assert coloured[-1] < 0.005 and order(coloured) > 1.9, coloured
    assert f"{white[-1]:.2f}" == "0.57", white
    size, n = (8, 8), 4096
    model = Gaussian(Levels.mixture(size, 0.5), natural(size))
    churn = warmdiff.Churn(40.0, 0.05, 50.0)
    x = warmdiff.generate(denoiser(model), (n, 1, *size), steps=36, churn=churn, seed=5, backend=step_backend)
    ratio = (dct(x.double().numpy()) ** 2).mean(axis=(0, 1)) / model.variance
    assert np.abs(ratio - 1).max() < 5 * math.sqrt(2 / n) + 0.03  # 5 standard errors of 64 modes, and the steps' own error


@pytest.mark.parametrize("beta", [0.02, 0.5, 20.0])
@pytest.mark.parametrize("name", ["0", "0.5", "10", "free", "ihdm"])
def test_an_ancestral_step_inverts_the_forward_process(name: str, beta: float, step_backend: str) -> None:
    """Of one known image: variance beta_next^2 after the step, and the covariance that the forward process has."""
    process, levels, _ = process_of(name, (6, 10))
    after, known = 0.6 * beta, np.full((6, 10), 0.7)
    exact = torch.from_numpy(idct(known))

    def update(x: Tensor, seeds: Tensor) -> Tensor:
        def knows(x: Tensor, b: Tensor) -> warmdiff.Prediction:
            return warmdiff.Prediction(exact.expand_as(x), torch.zeros_like(x))

        x = x + torch.from_numpy(idct(levels.m(beta) * known))  # around its mean
        states = warmdiff.sample(
            knows, x.shape, process=process, sampler="ancestral", betas=[beta, after], x_init=x, seed=seeds, backend=step_backend, **DOUBLE
        )
        return next(iter(states)).x - torch.from_numpy(idct(levels.m(after) * known))

    shape = (1, 1, 6, 10)
    silent = dct(update(torch.zeros(shape, dtype=torch.float64), torch.tensor([3])).numpy())
    kept = dct(update(torch.from_numpy(idct(np.ones(shape))), torch.tensor([3])).numpy()) - silent
    r = levels.m(beta) / levels.m(after) if name in ("free",) else np.exp(-levels.eigenvalues * (levels.alpha(beta) ** 2 - levels.alpha(after) ** 2) / 2)  # fmt: skip  # noqa: E501
    b, s = levels.noise(beta), levels.noise(after)
    assert np.abs(kept * b**2 - r * s**2).max() <= 1e-10 * s**2  # covariance of both ends
    # The noise: what is left of the variance at the end. Its pattern is one draw, so its size is compared draw by draw.
    want = np.sqrt(np.maximum(s**2 - kept[0, 0] ** 2 * b**2, 0))
    ratio = silent[0, 0] / np.where(want > 0, want, 1)
    other = dct(update(torch.zeros(shape, dtype=torch.float64), torch.tensor([4])).numpy())[0, 0] / np.where(want > 0, want, 1)
    assert ratio.std() < 1.6 and other.std() < 1.6 and abs(np.concatenate([ratio, other]).std() - 1) < 0.35


def test_ancestral_images_have_the_variances_of_the_formula(step_backend: str) -> None:
    """DESIGN.md, section 3, with the largest eta of each mode, propagated exactly; and that comes to the data's as steps grow."""
    size, n = (8, 8), 4096
    model = Gaussian(Levels.mixture(size, 0.5), natural(size))

    def propagated(steps: int) -> Array:
        variance = np.full(size, 80.0**2)
        for t, s in itertools.pairwise(edm_levels(steps)):
            m, m_next = model.levels.m(t), model.levels.m(s)
            gain = m * model.variance / (m**2 * model.variance + t**2)
            eta2 = s**2 * (1 - np.exp(-model.levels.eigenvalues * 0.25 * (t**2 - s**2)) * s**2 / t**2)
            carry = np.sqrt(s**2 - eta2) / t
            variance = (carry + (m_next - carry * m) * gain) ** 2 * variance + eta2
        return variance / model.variance

    assert [f"{np.abs(propagated(steps) - 1).max():.2f}" for steps in (40, 80, 160, 640)] == ["0.31", "0.17", "0.09", "0.02"]
    x = warmdiff.generate(denoiser(model), (n, 1, *size), sampler="ancestral", steps=40, seed=9, backend=step_backend)
    ratio = (dct(x.double().numpy()) ** 2).mean(axis=(0, 1)) / model.variance
    assert np.abs(ratio / propagated(40) - 1).max() < 5 * math.sqrt(2 / n)


# ---- mixtures ----


def mixture(levels: Levels, rng: torch.Generator) -> Mixture:
    """Three well separated components, of weights that are not round."""
    s2 = natural(levels.size)
    weights = np.array([0.55, 0.3, 0.15])
    mus = torch.randn(3, *levels.size, generator=rng, dtype=torch.float64).numpy() * np.sqrt(s2) * 1.5
    mus -= np.einsum("j,jhw->hw", weights, mus)  # centred, like images: sampling starts from noise around 0
    return Mixture(levels, weights, mus, 0.05 * s2 * np.array([1.0, 0.5, 2.0])[:, None, None])


@pytest.mark.parametrize("beta", [0.1, 0.6, 2.0])
def test_tweedie(beta: float, rng: torch.Generator) -> None:
    """``m E[u_0 | u] = u + beta^2 d log p / d u``, by differences of the log density."""
    size, h = (3, 4), 1e-4
    model = mixture(Levels.mixture(size, 0.5), rng)
    u = torch.randn(*size, generator=rng, dtype=torch.float64).numpy()

    def log_density(u: Array) -> float:
        return float(np.logaddexp.reduce(model.logits(u, beta)))

    for i, j in np.ndindex(*size):
        e = np.zeros(size)
        e[i, j] = h
        slope = (8 * (log_density(u + e) - log_density(u - e)) - (log_density(u + 2 * e) - log_density(u - 2 * e))) / (12 * h)
        assert abs((model.levels.m(beta) * model.posterior(u, beta))[i, j] - (u[i, j] + beta**2 * slope)) <= 1e-8


def test_heun_on_a_mixture(rng: torch.Generator) -> None:
    """Not linear any more: order 2, and the states of the recursion."""
    size = (6, 8)
    model = mixture(Levels.mixture(size, 0.5), rng)
    x = 80 * torch.randn(32, 1, *size, generator=rng, dtype=torch.float64)
    process = warmdiff.BlurNoiseProcess(0.5)
    finals = {
        n: warmdiff.generate(denoiser(model), x.shape, process=process, steps=n, x_init=x, backend="reference", **DOUBLE)
        for n in (72, 144, 288, 864)
    }
    close(finals[72], idct(recursion(model, dct(x.numpy()), edm_levels(72), "heun")[-1]), 1e-9)
    # A path that splits between components moves by more than any order: the median path does not.
    errors = [float((finals[n] - finals[864]).square().sum(dim=(1, 2, 3)).sqrt().median()) for n in (72, 144, 288)]
    assert abs(order(errors) - 2.0) <= 0.15, errors


def test_components_come_back(step_backend: str) -> None:
    """In their frequencies. (Everything is fixed: three standard errors would be missed by chance in one run of a hundred.)"""
    size, n = (8, 8), 4096
    model = mixture(Levels.mixture(size, 0.5), torch.Generator().manual_seed(0))
    x = warmdiff.generate(denoiser(model), (n, 1, *size), steps=24, seed=123, batch=2048, backend=step_backend)
    found = model.logits(dct(x.double().numpy())[:, 0], 1e-3).argmax(axis=-1)
    for j, weight in enumerate(model.weights):
        assert abs((found == j).mean() - weight) <= 3 * math.sqrt(weight * (1 - weight) / n), (j, (found == j).mean())


# ---- seeds and precision ----


@pytest.mark.parametrize(("sampler", "churn"), [("heun", 0.0), ("heun", 30.0), ("ancestral", 0.0)])
def test_a_sample_depends_on_its_seed_alone(sampler: str, churn: float, step_backend: str) -> None:
    model = Gaussian(Levels.mixture((8, 6), 0.5), natural((8, 6)))
    options = {"sampler": sampler, "churn": churn, "steps": 6, "backend": step_backend, **DOUBLE}
    whole = warmdiff.generate(denoiser(model), (7, 2, 8, 6), seed=40, **options)
    assert (warmdiff.generate(denoiser(model), (7, 2, 8, 6), seed=40, batch=3, **options) - whole).abs().max() < 1e-12
    one = warmdiff.generate(denoiser(model), (1, 2, 8, 6), seed=45, **options)
    assert (one[0] - whole[5]).abs().max() < 1e-12
    picked = warmdiff.generate(denoiser(model), (3, 2, 8, 6), seed=torch.tensor([46, 40, 43]), batch=2, **options)
    assert (picked - whole[[6, 0, 3]]).abs().max() < 1e-12
    other = warmdiff.generate(denoiser(model), (7, 2, 8, 6), seed=1040, **options)
    assert (other - whole).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_the_noise_of_steps_is_fresh(step_backend: str) -> None:
    """No two steps, samples or neighbouring seeds share noise: keys are distinct and the noise is uncorrelated."""
    keys = torch.cat([warmdiff.sampling.step_seeds(torch.arange(-50, 50), step) for step in range(2, 80)])
    assert len(keys.unique()) == len(keys)
    assert not set(keys.tolist()) & set(range(-1000, 1000))  # nor with the first noise of other samples
    noise = warmops.normal((len(keys[:200]), 4096), keys[:200], dtype=torch.float64, backend=step_backend)
    correlation = torch.corrcoef(noise) - torch.eye(200, dtype=torch.float64)
    assert correlation.abs().max() < 6 / 64


@pytest.mark.parametrize("bnr", BNRS)
@pytest.mark.parametrize("sampler", ["heun", "ancestral"])
def test_float32_states_lose_nothing(sampler: str, bnr: float, step_backend: str) -> None:
    model = Gaussian(Levels.mixture(SIZE, bnr), natural(SIZE))
    options = {"process": warmdiff.BlurNoiseProcess(bnr), "sampler": sampler, "steps": 18, "seed": 3, "backend": step_backend}
    exact, single = (warmdiff.generate(denoiser(model), (4, 1, *SIZE), dtype=d, **options) for d in (torch.float64, torch.float32))
    assert single.dtype == torch.float32
    assert float((single - exact).square().mean().sqrt() / exact.square().mean().sqrt()) <= 1e-6


def test_raw_heads_give_the_same_images(step_backend: str, rng: torch.Generator) -> None:
    """A network's raw output in the fused step: the same as its scaled predictions, for every sampler."""
    process = warmdiff.BlurNoiseProcess(0.5)
    preconditioning = warmdiff.Preconditioning(process, warmdiff.DataSpectrum.constant((2, 8, 6)))
    weight = torch.randn(4, 2, generator=rng, dtype=torch.float64)

    def raw(x: Tensor, beta: Tensor) -> warmdiff.RawPrediction:
        scalings = preconditioning(beta, dtype=torch.float64)
        heads = torch.tanh(torch.einsum("oc,nchw->nohw", weight, scalings.c_in.view(-1, 1, 1, 1) * x))
        return warmdiff.RawPrediction(x, heads, scalings)

    for sampler in ("heun", "euler", "ddim", "ancestral"):
        options = {"process": process, "sampler": sampler, "steps": 5, "seed": 1, "backend": step_backend, **DOUBLE}
        got = warmdiff.generate(raw, (3, 2, 8, 6), **options)
        want = warmdiff.generate(lambda x, b: raw(x, b).prediction, (3, 2, 8, 6), **options)
        close(got, want.numpy(), 1e-12)


def test_any_schedule(rng: torch.Generator) -> None:
    """Given levels, also ones that stop above 0; x_init at the first of them."""
    size, schedule = (8, 10), [5.0, 1.0, 0.7, 0.1]
    process, levels, _ = process_of("0.5", size)
    model = Gaussian(levels, natural(size))
    x = start(model, 5.0, 2, rng)
    for betas in (schedule, torch.tensor(schedule, dtype=torch.float64)):
        states = list(warmdiff.sample(denoiser(model), x.shape, process=process, betas=betas, x_init=x, backend="reference", **DOUBLE))
        assert [s.beta for s in states] == schedule[1:]
        close(states[-1].x, idct(recursion(model, dct(x.numpy()), schedule, "heun")[-1]), 1e-9)


def test_the_states_dtype() -> None:
    """That of x_init, float32 without one; what the denoiser returns may be anything that floats."""
    seen = []

    def half(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        seen.append((x.dtype, beta.dtype))
        return warmdiff.Prediction((0.3 * x).half(), torch.zeros_like(x).double())

    for dtype in (None, torch.float32, torch.float64, torch.bfloat16):
        x_init = None if dtype is None else torch.ones(2, 1, 4, 4, dtype=dtype)
        x = warmdiff.generate(half, (2, 1, 4, 4), steps=2, x_init=x_init, backend="reference")
        want = torch.float64 if dtype == torch.float64 else torch.float32
        assert x.dtype == want and seen[-1] == (want, want)
    assert warmdiff.generate(half, (2, 1, 4, 4), steps=2, backend="reference", **DOUBLE).dtype == torch.float64


def test_more_dimensions_and_empty_batches(step_backend: str) -> None:
    def zero(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        return warmdiff.Prediction(torch.zeros_like(x), torch.zeros_like(x))

    for shape in ((2, 5, 6), (2, 3, 2, 5, 6), (0, 3, 5, 6)):
        assert warmdiff.generate(zero, shape, steps=3, backend=step_backend).shape == shape


# ---- bad input ----


def still(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
    return warmdiff.Prediction(0.5 * x, torch.zeros_like(x))


BAD: dict[str, tuple[dict[str, object], type[Exception], tuple[str, ...]]] = {
    "no steps": ({"steps": 0}, ValueError, ("steps must be >= 2", "0")),
    "one step": ({"steps": 1}, ValueError, ("steps must be >= 2", "1")),
    "half a step": ({"steps": 2.5}, TypeError, ("steps must be an int", "float")),
    "levels rising": ({"betas": [1.0, 2.0, 0.0]}, ValueError, ("betas must be", "strictly decreasing", "2.0")),
    "levels equal": ({"betas": [1.0, 1.0, 0.0]}, ValueError, ("betas must be", "strictly decreasing")),
    "levels negative": ({"betas": [1.0, -0.5]}, ValueError, ("betas must be", ">= 0", "-0.5")),
    "levels NaN": ({"betas": [1.0, float("nan"), 0.0]}, ValueError, ("betas must be finite", "nan")),
    "one level": ({"betas": [1.0]}, ValueError, ("betas must hold at least 2", "(1,)")),
    "levels in two dimensions": ({"betas": [[1.0, 0.0]]}, ValueError, ("betas", "one dimension", "(1, 2)")),
    "levels in words": ({"betas": ["high", "low"]}, TypeError, ("betas must be levels", "'high'")),
    "process": ({"process": "warm"}, TypeError, ("process must be a warmdiff.BlurNoiseProcess", "str")),
    "sampler": ({"sampler": "dpm"}, ValueError, ("sampler must be one of", "'heun'", "'dpm'")),
    "cold with noise": ({"sampler": "cold"}, ValueError, ("sampler", "'cold'")),
    "denoiser": ({"denoiser": 3}, TypeError, ("denoiser must be callable", "int")),
    "shape short": ({"shape": (8, 8)}, ValueError, ("shape must be [N, ..., H, W]", "(8, 8)")),
    "shape negative": ({"shape": (2, -1, 8, 8)}, ValueError, ("shape", "-1")),
    "shape a number": ({"shape": 8}, ValueError, ("shape must be [N, ..., H, W]", "8")),
    "x_init of integers": ({"x_init": torch.zeros(2, 1, 8, 8).byte()}, TypeError, ("x_init", "floating-point", "uint8")),
    "x_init": ({"x_init": torch.zeros(2, 1, 8, 7)}, ValueError, ("x_init", "(2, 1, 8, 8)", "(2, 1, 8, 7)")),
    "no x_init": ({"process": warmdiff.BlurNoiseProcess.ihdm()}, ValueError, ("x_init must be given",)),
    "seed": ({"seed": torch.zeros(3).long()}, ValueError, ("seed", "[2]", "[3]")),
    "seed too large": ({"seed": 2**63}, ValueError, ("seed", "int64 range")),
    "seed of floats": ({"seed": torch.zeros(2)}, TypeError, ("seed", "int64", "float32")),
    "churn": ({"churn": -1.0}, ValueError, ("churn", ">= 0", "-1")),
    "churn a string": ({"churn": "1"}, TypeError, ("churn", "str")),
    "dtype": ({"dtype": torch.float16}, ValueError, ("dtype", "float32", "float16")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    """Raised by the call, before the denoiser is called."""
    changes, kind, wants = BAD[name]

    def never(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        raise AssertionError("called")

    arguments = {"denoiser": never, "shape": (2, 1, 8, 8), "backend": "reference", **changes}
    with pytest.raises(kind) as caught:
        warmdiff.sample(arguments.pop("denoiser"), arguments.pop("shape"), **arguments)
    assert all(want in str(caught.value) for want in wants), caught.value


@pytest.mark.parametrize("sampler", ["heun", "ddim"])
def test_generate_lets_states_go(sampler: str) -> None:
    """What was predicted some steps ago is not kept: memory does not grow with the number of steps."""
    made: list[weakref.ref[Tensor]] = []
    most = 0

    def watched(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in made))
        prediction = warmdiff.Prediction(torch.zeros_like(x), torch.zeros_like(x))
        made.append(weakref.ref(prediction.blurred))
        return prediction

    warmdiff.generate(watched, (2, 1, 8, 8), steps=12, sampler=sampler, backend="reference")
    assert len(made) >= 12 and most <= 2


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_generate_looks_at_the_whole_of_x_init(batch: int | None) -> None:
    for shape, n in (((2, 1, 8, 8), 4), ((4, 1, 8, 8), 2)):
        with pytest.raises(ValueError, match="x_init must be a tensor of shape"):
            warmdiff.generate(still, shape, x_init=torch.zeros(n, 1, 8, 8), batch=batch, backend="reference")
    with pytest.raises(ValueError, match=r"shape must be \[N, \.\.\., H, W\], ints >= 0, got 8"):
        warmdiff.generate(still, 8, batch=batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "want"),
    [
        ("blurred", math.nan, "a NaN in blurred"),
        ("residual", math.nan, "a NaN in residual"),
        ("blurred", math.inf, "an infinity in blurred"),
    ],
)
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_denoiser_that_breaks(call: int, field: str, value: float, want: str, step_backend: str) -> None:
    calls = []

    def breaks(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
        calls.append(float(beta[0]))
        good = still(x, beta)
        return good._replace(**{field: torch.where(torch.arange(8) == 3, value, getattr(good, field))}) if len(calls) == call else good

    with pytest.raises(warmdiff.SamplingError) as caught:
        list(warmdiff.sample(breaks, (2, 1, 8, 8), steps=5, backend=step_backend))
    assert want in str(caught.value) and f"step {(call + 1) // 2}," in str(caught.value) and f"beta {calls[-1]:.6g}" in str(caught.value)
    assert len(calls) == call


@pytest.mark.parametrize(
    ("result", "wants"),
    [
        (lambda x: warmdiff.Prediction(x[:1], x), ("blurred of shape (2, 1, 8, 8)", "(1, 1, 8, 8)")),
        (lambda x: warmdiff.Prediction(x, x[..., :-1]), ("residual of shape (2, 1, 8, 8)", "(2, 1, 8, 7)")),
        (lambda x: warmdiff.Prediction(x, None), ("residual of shape (2, 1, 8, 8)", "NoneType")),
        (lambda x: x, ("warmdiff.Prediction", "Tensor")),
        (lambda x: None, ("warmdiff.Prediction", "NoneType")),
        (lambda x: warmdiff.Prediction(x, x.int()), ("floating-point", "residual", "int32")),
    ],
)
def test_a_denoiser_of_wrong_shapes(result: Callable[[Tensor], object], wants: tuple[str, ...]) -> None:
    with pytest.raises(warmdiff.SamplingError) as caught:
        list(warmdiff.sample(lambda x, beta: result(x), (2, 1, 8, 8), steps=5, backend="reference"))
    assert all(want in str(caught.value) for want in (*wants, "step 1", "beta 80"))


def test_eigenvalues_of_the_package_are_the_oracles() -> None:
    assert np.allclose(warmdiff.process.eigenvalues((5, 7)).numpy(), eigenvalues((5, 7)), rtol=1e-14)
