"""Forward processes: presets against the papers' own formulas, schedules, statistics of `degrade`, bad input."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from _cases import bit_equal, images
from _closed_forms import dct, eigenvalues, idct
from torch import Tensor

import warmdiff
import warmops

P = warmdiff.BlurNoiseProcess
SHAPE = (3, 2, 8, 12)


def images64(rng: torch.Generator) -> Tensor:
    return 2 * images(SHAPE, torch.float64, rng) - 1


def marginal(x0: Tensor, m: np.ndarray, sigma: float, seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A sample of the marginal and its mean, from multipliers and noise level."""
    mean = idct(m * dct(x0.numpy()))
    return mean + sigma * warmops.normal(shape, seed, dtype=torch.float64).numpy(), mean


# ---- presets ----


@pytest.mark.parametrize("beta", [0.002, 0.3, 5.0, 80.0])
@pytest.mark.parametrize("bnr", [0.0, 0.1, 0.5, 10.0])
def test_mixture(bnr: float, beta: float, backend: str, rng: torch.Generator) -> None:
    """``N(A x0, beta^2)``, ``alpha = bnr * beta``; hot adds noise and nothing else."""
    x0 = images64(rng)
    want = marginal(x0, np.exp(-eigenvalues((8, 12)) * (bnr * beta) ** 2 / 2), beta, 7)
    for process in (P(bnr), P.warm(bnr), *([P.hot()] if bnr == 0 else []), P.free(lambda b: bnr * b)):
        got = process.degrade(x0, beta, seed=7, backend=backend)
        assert all(np.abs(g.numpy() - w).max() < 1e-12 * max(1, beta) for g, w in zip(got, want, strict=True))
        assert process.alpha(beta) == pytest.approx(bnr * beta) and process.noise(beta) == beta
    if bnr == 0:
        assert bit_equal(P.hot().degrade(x0, beta, seed=7, backend=backend)[1], x0)


def test_ihdm(backend: str, rng: torch.Generator) -> None:
    """Rissanen et al. 2023: heat for the time ``sigma_B^2 / 2`` in cosine space, then noise of 0.01; sigma_B log-spaced, 0.5 to 24."""
    process, x0 = P.ihdm(), images64(rng)
    schedule = np.exp(np.linspace(np.log(0.5), np.log(24), 200))
    betas = process.betas(200)
    assert np.allclose(betas[:-1].flip(0).numpy(), schedule, rtol=1e-12) and betas[-1] == 0
    for sigma_b in schedule[::37]:
        h, w = (np.pi * np.linspace(0, n - 1, n) / n for n in (8, 12))
        dissipation = np.exp(-(h[:, None] ** 2 + w**2) * sigma_b**2 / 2)
        got = process.degrade(x0, float(sigma_b), seed=3, backend=backend)
        want = marginal(x0, dissipation, 0.01, 3)
        assert all(np.abs(g.numpy() - v).max() < 1e-12 for g, v in zip(got, want, strict=True))
    assert process.alpha(3.0) == 3.0 and process.noise(3.0) == 0.01 and process.noise(0.0) == 0.0
    clean = process.degrade(x0, 0.0, seed=3, backend=backend)
    assert all(bit_equal(part, x0) for part in clean)


@pytest.mark.parametrize("t", [0.0, 0.001, 0.2, 0.5, 0.77, 1.0])
def test_blurring_diffusion(t: float, backend: str, rng: torch.Generator) -> None:
    """Hoogeboom & Salimans 2023, appendix A, divided by a(t): ``alpha_t = a d_t``, ``d_t`` floored at 0.001, sigma_B = 20 sin^2."""
    x0 = images64(rng)
    limit_max = math.atan(math.exp(-0.5 * 10))
    limit_min = math.atan(math.exp(0.5 * 10)) - limit_max
    logsnr = -2 * math.log(math.tan(limit_min * t + limit_max))
    a, sigma = math.sqrt(1 / (1 + math.exp(-logsnr))), math.sqrt(1 / (1 + math.exp(logsnr)))
    blur = 20 * math.sin(t * math.pi / 2) ** 2
    scaling = np.exp(-eigenvalues((8, 12)) * blur**2 / 2) * (1 - 0.001) + 0.001
    z, mean = marginal(x0, a * scaling, sigma, 5)
    process = P.blurring_diffusion()
    x_t, blurred = process.degrade(x0, sigma / a, seed=5, backend=backend)
    scale = max(1.0, sigma / a)
    assert np.abs(a * x_t.numpy() - z).max() < 1e-11 and np.abs(a * blurred.numpy() - mean).max() < 1e-11
    assert np.abs(process.multipliers(sigma / a, (8, 12)).numpy() - scaling).max() < 1e-12
    assert process.sigma_min == pytest.approx(math.exp(-5)) and process.sigma_max == pytest.approx(math.exp(5))
    assert scale >= 1


def test_blurring_diffusion_of_the_text() -> None:
    """Without the limits of log-SNR, ``theta = pi t / 2``: alpha = 20 beta^2 / (1 + beta^2), whose ratio to beta peaks at 10."""
    process = P.blurring_diffusion(logsnr=60.0)
    beta = torch.logspace(-3, 3, 601, dtype=torch.float64)
    assert torch.allclose(process.alpha(beta), 20 * beta**2 / (1 + beta**2), atol=1e-9)
    assert float((process.alpha(beta) / beta).max()) == pytest.approx(10.0, abs=1e-6)


def test_presets_can_be_pickled() -> None:
    """For worker processes."""
    for process in (P(), P.ihdm(), P.blurring_diffusion()):
        again = pickle.loads(pickle.dumps(process))
        assert again.alpha(1.7) == process.alpha(1.7) and torch.equal(again.betas(5), process.betas(5))


def test_cold(backend: str, rng: torch.Generator) -> None:
    process, x0 = P.cold(), images64(rng)
    x_t, blurred = process.degrade(x0, 4.0, seed=2, backend=backend)
    want = marginal(x0, np.exp(-eigenvalues((8, 12)) * 8), 0.002, 2)
    assert np.abs(x_t.numpy() - want[0]).max() < 1e-12 and np.abs(blurred.numpy() - want[1]).max() < 1e-12
    assert 0.002 < 2 / 255 / math.sqrt(12) < 0.0023


# ---- levels ----


def test_betas_are_edms() -> None:
    for steps in (2, 18, 40):
        i = np.arange(steps)
        want = (80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        got = P().betas(steps)
        assert got.dtype == torch.float64 and got.shape == (steps + 1,) and got[-1] == 0 and got[0] == 80.0 and got[-2] == 0.002
        assert np.allclose(got[:-1].numpy(), want, rtol=1e-12)


def test_alpha_of_floats_and_tensors() -> None:
    """The same number either way, in the dtype of the level; its derivative by differences."""
    processes = (P(0.5), P.ihdm(), P.blurring_diffusion(), P.free(lambda b: torch.sqrt(b) + b), P.hot())
    for process in processes:
        for beta in (0.01, 0.7, 20.0):
            alpha = process.alpha(beta)
            assert isinstance(alpha, float)
            for dtype in (torch.float32, torch.float64):
                levels = torch.tensor([beta, 0.0], dtype=dtype)
                got = process.alpha(levels)
                assert got.dtype == dtype and got[1] == 0 and float(got[0]) == pytest.approx(alpha, rel=1e-6)
                assert process.noise(levels).dtype == dtype
            h = 1e-5 * beta
            slope = (process.alpha(beta + h) - process.alpha(beta - h)) / (2 * h)
            assert process.alpha_rate(beta) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_transition_is_a_ratio_that_never_underflows() -> None:
    for process in (P(0.5), P.blurring_diffusion(), P.ihdm()):
        got = process.transition(0.5, 0.8, (6, 9)).numpy()
        want = (process.multipliers(0.8, (6, 9)) / process.multipliers(0.5, (6, 9))).numpy()
        assert np.allclose(got, want, rtol=1e-12)
    far = P(10.0).transition(79.0, 80.0, (32, 32))
    assert far.isfinite().all() and far[0, 0] == 1 and (far <= 1).all()


# ---- degrade ----


def test_degrade_is_one_call_of_blur_noise(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    calls = []
    real = warmops.blur_noise

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return real(*args, **options)

    for name in ("blur", "normal", "dct2"):
        monkeypatch.setattr(warmops, name, None)
    monkeypatch.setattr(warmops, "blur_noise", counted)
    for process in (P(), P.ihdm(), P.blurring_diffusion()):
        process.degrade(images64(rng), 0.7, seed=1, backend="reference")
    assert len(calls) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("process", [P(), P.blurring_diffusion(), P.ihdm()], ids=["warm", "bd", "ihdm"])
def test_degrade_of_any_images(process: warmdiff.BlurNoiseProcess, dtype: torch.dtype, backend: str, rng: torch.Generator) -> None:
    """dtypes, levels of each sample, seeds, and torch's own seed where there is none."""
    x0 = images(SHAPE, dtype, rng)
    beta = torch.tensor([0.1, 1.0, 30.0])
    x_t, blurred = process.degrade(x0, beta, seed=torch.tensor([5, 1, 9]), backend=backend)
    kind = torch.float32 if dtype == torch.uint8 else dtype
    assert x_t.dtype == blurred.dtype == kind and x_t.shape == blurred.shape == SHAPE
    for i in range(3):
        one, soft = process.degrade(x0[i : i + 1], float(beta[i]), seed=[5, 1, 9][i], backend=backend)
        assert torch.allclose(one[0], x_t[i], rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
        assert torch.allclose(soft[0], blurred[i], rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    torch.manual_seed(3)
    first = process.degrade(x0, beta, backend=backend)[0]
    torch.manual_seed(3)
    assert bit_equal(process.degrade(x0, beta, backend=backend)[0], first)
    generator = torch.Generator().manual_seed(8)
    assert not torch.equal(process.degrade(x0, beta, generator=generator, backend=backend)[0], first)


def test_degrade_of_given_noise_has_gradients(backend: str, rng: torch.Generator) -> None:
    x0, eps = images64(rng).requires_grad_(), torch.randn(SHAPE, generator=rng, dtype=torch.float64)
    process = P.blurring_diffusion()
    x_t, _ = process.degrade(x0, 1.0, noise=eps, backend=backend)
    (grad,) = torch.autograd.grad(x_t.sum(), x0)
    assert (grad - 1).abs().max() < 1e-12  # the mean is kept
    assert (x_t.detach() - eps).abs().max() < 1.0 + 1e-9


# ---- bad input ----

BAD: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "bnr negative": ({"bnr": -0.5}, ValueError, ("bnr must be", ">= 0", "-0.5")),
    "bnr infinite": ({"bnr": math.inf}, ValueError, ("bnr must be finite", "inf")),
    "bnr a string": ({"bnr": "warm"}, TypeError, ("bnr must be a float", "str")),
    "bnr None": ({"bnr": None}, ValueError, ("exactly one of bnr, blur and constant_noise",)),
    "two of them": ({"constant_noise": 0.1}, ValueError, ("exactly one of bnr, blur and constant_noise",)),
    "sigma_min zero": ({"sigma_min": 0.0}, ValueError, ("sigma_min must be", "> 0", "0.0")),
    "sigmas in disorder": ({"sigma_min": 5.0, "sigma_max": 1.0}, ValueError, ("sigma_min must be < sigma_max", "5.0", "1.0")),
    "sigma_max infinite": ({"sigma_max": math.inf}, ValueError, ("sigma_max must be finite", "inf")),
    "rho zero": ({"rho": 0}, ValueError, ("rho must be", "> 0", "0")),
    "rho NaN": ({"rho": math.nan}, ValueError, ("rho must be", "nan")),
    "floor one": ({"floor": 1.0}, ValueError, ("floor must be in [0, 1)", "1.0")),
    "noise zero": ({"bnr": None, "constant_noise": 0.0}, ValueError, ("constant_noise", "> 0", "0.0")),
    "blur a number": ({"bnr": None, "blur": 3.0}, TypeError, ("blur must be a function", "float")),
    "blur decreasing": ({"bnr": None, "blur": lambda b: 10 - b}, ValueError, ("blur must be non-decreasing", "alpha(")),
    "blur with a dip": ({"bnr": None, "blur": lambda b: 2 + torch.sin(b)}, ValueError, ("blur must be non-decreasing", "alpha(")),
    "blur negative": ({"bnr": None, "blur": lambda b: b - 1}, ValueError, ("blur must be finite and >= 0", "alpha(0.002)")),
    "blur NaN": ({"bnr": None, "blur": lambda b: torch.log(b - 1)}, ValueError, ("blur must be finite and >= 0", "nan")),
    "blur of one number": ({"bnr": None, "blur": lambda b: b.sum()}, ValueError, ("blur must return a tensor of the shape",)),
    "blur in NumPy": ({"bnr": None, "blur": lambda b: torch.tensor(np.sqrt(b.detach().numpy()))}, ValueError, ("blur", "differentiable")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    arguments, kind, wants = BAD[name]
    with pytest.raises(kind) as caught:
        P(**arguments)
    assert all(want in str(caught.value) for want in wants), caught.value


@pytest.mark.parametrize("steps", [0, 1, -3])
def test_too_few_steps(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be >= 2, got {steps}"):
        P().betas(steps)
    with pytest.raises(TypeError, match="steps must be an int, got float"):
        P().betas(2.0)  # type: ignore[arg-type]


def test_degrade_names_a_bad_level(backend: str) -> None:
    x0 = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match=r"beta must be >= 0, got -1"):
        P().degrade(x0, -1.0, seed=0, backend=backend)
    with pytest.raises(ValueError, match=r"must be >= 0.*sample 2"):
        P().degrade(x0, torch.tensor([1.0, 1.0, -1.0]), seed=0, backend=backend)
