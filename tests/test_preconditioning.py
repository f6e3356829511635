"""Scalings of two heads: EDM's without blur, sums over modes in high precision otherwise, and unit variances as they promise."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from _closed_forms import dct, eigenvalues, idct, natural

import warmdiff
from warmdiff.preconditioning import RESIDUAL_FLOOR

P = warmdiff.BlurNoiseProcess
SIZE = (8, 12)
BETAS = (0.002, 0.05, 0.5, 2.0, 20.0, 80.0)


def spectrum(size: tuple[int, int] = SIZE, channels: int = 2) -> warmdiff.DataSpectrum:
    variance = torch.from_numpy(np.stack([natural(size) * f for f in np.linspace(0.5, 1.5, channels)]))
    return warmdiff.DataSpectrum(variance, torch.zeros_like(variance), 100)


def test_without_blur_it_is_edm() -> None:
    """Table 1 of EDM, sigma_data = 0.5; the second head is off."""
    sigma = torch.tensor(BETAS, dtype=torch.float64)
    s = warmdiff.Preconditioning(P.hot(), warmdiff.DataSpectrum.constant((3, 32, 32)))(sigma, dtype=torch.float64)
    d2 = 0.5**2
    want = {
        "c_skip_blurred": d2 / (sigma**2 + d2),
        "c_out_blurred": sigma * 0.5 / (sigma**2 + d2).sqrt(),
        "c_in": 1 / (sigma**2 + d2).sqrt(),
        "c_noise": sigma.log() / 4,
        "weight_blurred": (sigma**2 + d2) / (sigma * 0.5) ** 2,
        "c_skip_residual": torch.zeros(6),
        "c_out_residual": torch.zeros(6),
        "weight_residual": torch.zeros(6),
    }
    for name, value in want.items():
        assert torch.allclose(getattr(s, name), value.double(), rtol=1e-12, atol=0), name
    x, heads = torch.randn(6, 3, 4, 4), torch.randn(6, 6, 4, 4)
    assert not s.predict(x, heads).residual.any()


def exact(beta: float, bnr: float, d: float) -> dict[str, mpmath.mpf]:
    """The same by mpmath, 50 digits, mode by mode."""
    with mpmath.workdps(50):
        variance = spectrum().variance.mean(dim=0).numpy()
        sums = [mpmath.mpf(0)] * 3
        for i, j in np.ndindex(*SIZE):
            eigenvalue = mpmath.pi**2 * (mpmath.mpf(int(i)) ** 2 / SIZE[0] ** 2 + mpmath.mpf(int(j)) ** 2 / SIZE[1] ** 2)
            m = (1 - mpmath.mpf(d)) * mpmath.exp(-eigenvalue * (mpmath.mpf(bnr) * beta) ** 2 / 2) + mpmath.mpf(d)
            s2 = mpmath.mpf(float(variance[i, j]))
            for k, term in enumerate((m * m, m * (1 - m), (1 - m) ** 2)):
                sums[k] += term * s2
        a2, c, r2 = (s / (SIZE[0] * SIZE[1]) for s in sums)
        v = a2 + mpmath.mpf(beta) ** 2
        return {
            "A2": a2, "C": c, "R2": r2, "c_in": 1 / mpmath.sqrt(v), "c_skip_blurred": a2 / v, "c_out_blurred": beta * mpmath.sqrt(a2 / v),
            "c_skip_residual": c / v, "c_out_residual": max(mpmath.sqrt(r2 - c * c / v), mpmath.mpf(RESIDUAL_FLOOR)),
        }  # fmt: skip


@pytest.mark.parametrize("floor", [0.0, 0.001])
@pytest.mark.parametrize("bnr", [1e-4, 0.5, 10.0])
@pytest.mark.parametrize("beta", BETAS)
def test_against_fifty_digits(beta: float, bnr: float, floor: float) -> None:
    """Also where ``1 - m`` is 1e-14: no digit is lost to cancellation."""
    process = P(bnr, floor=floor)
    preconditioning = warmdiff.Preconditioning(process, spectrum())
    level = torch.tensor([beta], dtype=torch.float64)
    want = exact(beta, bnr, floor)
    for name, got in zip(("A2", "C", "R2"), preconditioning.moments(process.alpha(level)), strict=True):
        assert abs(float(got) - float(want[name])) <= 1e-11 * float(want[name]) + 1e-300, name
    scalings = preconditioning(level, dtype=torch.float64)
    for name in ("c_in", "c_skip_blurred", "c_out_blurred", "c_skip_residual", "c_out_residual"):
        assert abs(float(getattr(scalings, name)) - float(want[name])) <= 1e-10 * float(want[name]) + 1e-300, name
    assert float(scalings.weight_residual) == pytest.approx(float(scalings.c_out_residual) ** -2)


@pytest.mark.parametrize("beta", [0.3, 3.0, 30.0])
def test_unit_variances(beta: float) -> None:
    """Of 4,000 Gaussian images: the network's input and both of its targets have variance 1."""
    process, s = P(0.5), spectrum(channels=1)
    n, rng = 4000, torch.Generator().manual_seed(1)  # fixed: the bounds are a few standard errors
    z = torch.randn(n, 1, *SIZE, generator=rng, dtype=torch.float64).numpy()
    u0 = np.sqrt(s.variance.numpy()) * z
    m = np.exp(-eigenvalues(SIZE) * (0.5 * beta) ** 2 / 2)
    x0, blurred = torch.from_numpy(idct(u0)), torch.from_numpy(idct(m * u0))
    x = blurred + beta * torch.randn(x0.shape, generator=rng, dtype=torch.float64)
    c = warmdiff.Preconditioning(process, s)(torch.full((1,), beta, dtype=torch.float64), dtype=torch.float64)
    targets = ((blurred, c.c_skip_blurred, c.c_out_blurred), (x0 - blurred, c.c_skip_residual, c.c_out_residual))
    assert float((c.c_in * x).square().mean()) == pytest.approx(1, abs=0.05)
    for target, skip, out in targets:
        assert float(((target - skip * x) / out).square().mean()) == pytest.approx(1, abs=0.08)
        # c_skip is the best linear guess: the target is uncorrelated with the input.
        assert abs(float(((target - skip * x) / out * c.c_in * x).mean())) < 0.03


def test_small_residuals_are_floored() -> None:
    """Below the rounding error of 8-bit images there is nothing to learn."""
    assert pytest.approx(2 / 255 / math.sqrt(12)) == RESIDUAL_FLOOR
    s = warmdiff.Preconditioning(P(0.5), spectrum())(torch.tensor([0.002, 1.0]))
    assert float(s.c_out_residual[0]) == pytest.approx(RESIDUAL_FLOOR) and float(s.c_out_residual[1]) > 0.05


def test_white_data_mislead_at_high_noise() -> None:
    """How wrong the constant fallback is for natural data: the scale of head B at beta = 80, where a few modes survive."""
    size = (32, 32)
    beta = torch.tensor([0.01, 1.0, 80.0], dtype=torch.float64)
    natural_data = warmdiff.DataSpectrum(torch.from_numpy(natural(size))[None], torch.zeros(1, *size, dtype=torch.float64), 1)
    true, white = (
        warmdiff.Preconditioning(P(0.5), s)(beta, dtype=torch.float64).c_out_blurred
        for s in (natural_data, warmdiff.DataSpectrum.constant((1, *size)))
    )
    ratio = true / white
    assert abs(float(ratio[0]) - 1) < 0.01 and float(ratio[2]) > 5


def test_dtype_floor_and_given_blur() -> None:
    preconditioning = warmdiff.Preconditioning(P(0.5), spectrum())
    beta = torch.tensor([0.1, 1.0, 9.0])
    assert preconditioning(beta).c_in.dtype == torch.float32
    given = preconditioning(beta, alpha=2.0 * beta)
    want = warmdiff.Preconditioning(P(2.0), spectrum())(beta)
    assert all(torch.allclose(getattr(given, f), getattr(want, f)) for f in ("c_in", "c_out_blurred", "c_skip_residual", "c_out_residual"))
    constant = warmdiff.Preconditioning(P.ihdm(), spectrum())(torch.tensor([3.0]), dtype=torch.float64)
    a2 = float((np.exp(-eigenvalues(SIZE) * 9) * natural(SIZE)).mean())
    assert float(constant.c_in) == pytest.approx(1 / math.sqrt(a2 + 0.01**2))  # the noise is 0.01, the level 3


def test_predictions() -> None:
    """Heads to predictions, head B first; a raw prediction says the same."""
    preconditioning = warmdiff.Preconditioning(P(0.5), spectrum())
    x, heads = torch.randn(3, 2, 8, 12), torch.randn(3, 4, 8, 12)
    s = preconditioning(torch.tensor([0.1, 1.0, 9.0]))
    got = s.predict(x, heads)
    for i in range(3):
        assert torch.allclose(got.blurred[i], s.c_skip_blurred[i] * x[i] + s.c_out_blurred[i] * heads[i, :2])
        assert torch.allclose(got.residual[i], s.c_skip_residual[i] * x[i] + s.c_out_residual[i] * heads[i, 2:])
    raw = warmdiff.RawPrediction(x, heads, s)
    assert torch.equal(raw.denoised, got.blurred + got.residual) and torch.equal(got.denoised, raw.denoised)
    assert dct(x.numpy()).shape == x.shape
