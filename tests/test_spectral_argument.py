"""`warmdiff.spectral_argument`: cut-offs, bands and the suggested ratio of power laws, against closed forms."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from _closed_forms import idct
from PIL import Image

import warmdiff
import warmops
from warmdiff.cli import main
from warmdiff.spectrum import BNRS, SpectralArgument

pytestmark = pytest.mark.cpu_only
REACH = math.sqrt(math.log(2)) / (2 * math.pi)  # frequency times alpha at which a Gaussian blur halves the power
C = 0.01


def law(exponent: float, width: int = 64) -> SpectralArgument:
    """Of images of one line, whose rings are single modes: power ``C f^-exponent``, exactly."""
    f = torch.arange(width, dtype=torch.float64) / (2 * width)
    power = torch.where(f > 0, C * f.clamp(min=1e-9) ** -exponent, 5.0)
    return SpectralArgument.of(warmdiff.DataSpectrum(power.view(1, 1, width), torch.zeros(1, 1, width, dtype=torch.float64), 7))


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_power_laws(exponent: float) -> None:
    a = law(exponent)
    f = a.frequency
    assert torch.allclose(f, torch.arange(1, 64, dtype=torch.float64) / 128, rtol=1e-12) and a.count == 7
    assert a.slope == pytest.approx(-exponent, abs=1e-9) and a.amplitude == pytest.approx(C, rel=1e-9)
    balance = REACH / math.sqrt(C) * f ** (exponent / 2 - 1)
    torch.testing.assert_close(a.balance, balance, rtol=1e-12, atol=0)
    worst = {1.0: 63 / 128, 2.0: 0.1, 3.0: 1 / 128}[exponent]
    assert a.bnr == pytest.approx(REACH / math.sqrt(C) * worst ** (exponent / 2 - 1), rel=1e-9)
    for cut in (0.01, 0.0777, 0.2, 0.4):  # between rings too
        assert a.noise_cutoff(math.sqrt(C * cut**-exponent)) == pytest.approx(cut, rel=1e-9)
    assert a.noise_cutoff(1e3) == 0.0 and a.noise_cutoff(1e-3) == math.inf
    for ratio in (0.5 * a.bnr, 1.21 * a.bnr, 2.9 * a.bnr):
        bound = (REACH / math.sqrt(C) / ratio) ** (1 / (1 - exponent / 2)) if exponent != 2 else 0.0
        first = {1.0: f <= bound, 2.0: torch.full_like(f, ratio < a.bnr, dtype=torch.bool), 3.0: f >= bound}[exponent]
        assert torch.equal(a.band(ratio), first)
        for ring in (3, 30, 60):  # the level at which noise overtakes a frequency: has blur halved it already?
            left = math.exp(-((2 * math.pi * float(f[ring]) * ratio * math.sqrt(float(a.power[ring]))) ** 2))
            assert bool(a.band(ratio)[ring]) == (left > 0.5)


def test_scale() -> None:
    """A data set of twice the contrast wants half the ratio; what counts as removed scales the result as documented."""
    a = law(2.0)
    spectrum = warmdiff.DataSpectrum(4 * torch.cat([torch.zeros(1), a.power]).view(1, 1, 64).double(), torch.zeros(1, 1, 64).double(), 1)
    assert SpectralArgument.of(spectrum).bnr == pytest.approx(a.bnr / 2, rel=1e-9)
    for kept, factor in ((0.9, 0.39), (0.1, 1.82)):
        assert SpectralArgument.of(spectrum, kept).bnr == pytest.approx(factor * a.bnr / 2, rel=0.01)


def test_blur_cutoff() -> None:
    """Against `warmops.blur`: a cosine at the cut-off keeps half of its power."""
    a, n, k = law(2.0), 64, 9
    alpha = 1.7
    while a.blur_cutoff(alpha) > k / (2 * n):  # the blur that cuts at mode k, by bisection of an increasing function
        alpha *= 1.0001
    wave = torch.cos(math.pi * k * (torch.arange(n, dtype=torch.float64) + 0.5) / n).view(1, 1, n)
    assert float(warmops.blur(wave, alpha).square().sum() / wave.square().sum()) == pytest.approx(0.5, abs=1e-3)
    assert a.blur_cutoff(0.0) == math.inf


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_fields(exponent: float, rng: torch.Generator) -> None:
    """Random images with a known slope, measured: the slope and the ratio come back."""
    n = 32
    f = np.hypot(*np.ogrid[:n, :n]) / (2 * n)
    amplitude = np.sqrt(C * np.where(f > 0, np.maximum(f, 1e-9) ** -exponent, 0.0))
    images = idct(amplitude * torch.randn(800, 1, n, n, generator=rng, dtype=torch.float64).numpy())
    a = SpectralArgument.of(warmdiff.DataSpectrum.measure([torch.from_numpy(images)], backend="reference"))
    assert a.slope == pytest.approx(-exponent, abs=0.05) and a.amplitude == pytest.approx(C, rel=0.1)
    worst = {1.0: 0.5, 2.0: 0.1, 3.0: 1 / (2 * n)}[exponent]
    assert a.bnr == pytest.approx(REACH / math.sqrt(C) * worst ** (exponent / 2 - 1), rel=0.1)
    crossing = math.sqrt(C * 0.2**-exponent)
    assert a.noise_cutoff(crossing) == pytest.approx(0.2, rel=0.1)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON that holds what the figure shows, one figure."""
    assert main(["spectrum", "digits", "--json", str(tmp_path / "d.json"), "--plot", str(tmp_path / "d.png")]) == 0
    found = json.loads((tmp_path / "d.json").read_text())
    a = SpectralArgument.of(warmdiff.DataSpectrum.measure(warmdiff.data.digits().chunks(999)))
    assert found["suggested bnr"] == pytest.approx(a.bnr, rel=1e-6) and f"at most {a.bnr:.2f} " in capsys.readouterr().out
    assert found["fit"]["slope"] == pytest.approx(a.slope, rel=1e-6) and found["images"] == 1797
    assert [ratio["bnr"] for ratio in found["ratios"]] == list(BNRS) and found["ratios"][0]["band"] == found["frequency"]
    for number, row in enumerate(found["levels"]):
        assert row["noise floor"] == row["level"] ** 2
        assert found["ratios"][2]["blur cut-off"][number] == pytest.approx(REACH / (0.5 * row["level"]), rel=1e-9)
    picture = np.asarray(Image.open(tmp_path / "d.png").convert("RGB"))
    assert (picture[0, 0] == 255).all() and picture.shape[1] > 800  # opaque, whatever the page


def test_errors() -> None:
    flat = warmdiff.DataSpectrum.constant((1, 8, 8))
    for kept in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"kept must be in \(0, 1\)"):
            SpectralArgument.of(flat, kept)
    for shape, variance in (((1, 1, 1), 1.0), ((1, 2, 2), 1.0), ((1, 8, 8), 0.0)):
        with pytest.raises(ValueError, match="power at two spatial frequencies"):
            SpectralArgument.of(warmdiff.DataSpectrum.constant(shape, variance))
