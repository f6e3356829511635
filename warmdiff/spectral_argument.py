"""Which blur-to-noise ratio a data set's spectrum suggests: what noise overtakes, what blur removes, and which comes first."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from warmdiff.checkpoint import write_content
from warmdiff.spectrum import DataSpectrum

KEPT = 0.5  # share of a frequency's power at which blur counts as having removed it
LEVELS = tuple(10.0 ** (k / 4) for k in range(-10, 9))  # .003 to 100: noise levels of the tables
BNRS = (0.1, 0.3, 0.5, 0.65, 1.0, 2.0, 10.0)  # the ratios of Warm Diffusion, table 3


@dataclass(frozen=True)
class SpectralArgument:
    """The argument of Warm Diffusion (Hsueh et al., ICLR 2025) for its blur-to-noise ratio, made into numbers.

    With P(f) the data's power at f cycles per pixel (`DataSpectrum.radial`), a state of level beta holds ``m^2 P`` of signal and
    ``beta^2`` of noise in each mode, ``m = exp(-(2 pi f alpha)^2 / 2)``, ``alpha = BNR beta``. As the level rises, two things
    happen to a frequency:

    - noise overtakes it at ``beta_n(f) = sqrt(P(f))``;
    - blur removes it at ``beta_b(f) = sqrt(-ln kept) / (2 pi f BNR)``, where it keeps the share ``kept`` of its power.

    Where noise comes first, blur takes only what noise hides: states stay as spread out as those of plain noise, and fine
    detail is gone instead of drowned. Where blur comes first, states lie near a thinner set, noise filling in less than was taken.
    Both come at once if ``BNR = B(f) = sqrt(-ln kept) / (2 pi f sqrt(P(f)))``; noise comes first in the *band* of frequencies
    with ``B(f) >= BNR``. **The ratio suggested** is the largest whose band is the whole spectrum, ``min over f of B(f)``.

    For ``P = c f^-a``, ``B(f) = sqrt(-ln kept) / (2 pi sqrt(c)) f^(a / 2 - 1)``: its minimum is at the highest frequency for a < 2 and
    at the lowest for a > 2. At a = 2 every frequency gives the same ratio: that is what makes ``alpha = BNR beta`` natural
    for images. For other slopes no ratio fits all frequencies.

    What it assumes: that "removed" means half of the power is gone (``kept`` = 0.9 suggests 0.39 times as much, 0.1 1.8 times); that
    a ring of modes stands for each of them; that power alone matters, though images are not Gaussian; and, above all, that it is
    good to blur as much as noise hides. Of how well a network learns it says nothing: that takes an experiment.

    Attributes:
        frequency, power: rings up to 1/2 cycle per pixel with power above 0, float64 ``[R]``, of images in [-1, 1].
        slope, amplitude: the fitted law ``amplitude * frequency^slope``.
        count: number of images. kept: see above, in (0, 1).
    """

    frequency: Tensor
    power: Tensor
    slope: float
    amplitude: float
    count: int
    kept: float = KEPT

    @classmethod
    def of(cls, spectrum: DataSpectrum, kept: float = KEPT) -> SpectralArgument:
        """From a measured spectrum.

        Raises:
            ValueError: fewer than two rings of it have power, or kept is not in (0, 1).
        """
        frequency, power = spectrum.radial()
        use = (frequency <= 0.5) & (power > 0)
        frequency, power, slope = frequency[use], power[use], spectrum.slope()
        if len(frequency) < 2:
            raise ValueError(f"spectrum must have power at two spatial frequencies up to 1/2 cycle per pixel, got {len(frequency)}")
        if not 0 < kept < 1:
            raise ValueError(f"kept must be in (0, 1), got {kept}")
        return cls(frequency, power, slope, float((power.log() - slope * frequency.log()).mean().exp()), spectrum.count, kept)

    @property
    def _reach(self) -> float:
        return math.sqrt(-math.log(self.kept)) / (2 * math.pi)

    def blur_cutoff(self, alpha: float) -> float:
        """The frequency (cycles per pixel) above which a blur of alpha pixels leaves less than ``kept`` of the power."""
        return self._reach / alpha if alpha > 0 else math.inf

    def noise_cutoff(self, beta: float) -> float:
        """The frequency above which all power is below the noise floor ``beta^2``, between rings by a power law; 0 if noise is above all
        of them, infinity if the last ring is still above noise."""
        above = (self.power > beta**2).nonzero().flatten()
        if len(above) == 0:
            return 0.0
        i = int(above[-1])
        if i == len(self.power) - 1:
            return math.inf
        (x0, x1), (y0, y1) = (t[i : i + 2].log().tolist() for t in (self.frequency, self.power))
        return math.exp(x0 + (x1 - x0) * (y0 - 2 * math.log(beta)) / (y0 - y1))

    @property
    def balance(self) -> Tensor:
        """B(f): the ratio at which noise and blur reach each ring at the same level, float64 ``[R]``."""
        return self._reach / (self.frequency * self.power.sqrt())

    @property
    def bnr(self) -> float:
        """The ratio suggested: the largest at which noise overtakes every ring before blur removes it."""
        return float(self.balance.min())

    def band(self, bnr: float) -> Tensor:
        """Whether noise overtakes each ring before blur removes it, bool ``[R]``."""
        return self.balance >= bnr

    def table(self, bnrs: Sequence[float] = BNRS, levels: Sequence[float] = LEVELS) -> dict[str, Any]:
        """Everything above as JSON can hold it; a cut-off that is infinite is null."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        balance, frequency = self.balance, self.frequency.tolist()
        noise = [{"level": b, "noise floor": b * b, "noise cut-off": finite(self.noise_cutoff(b))} for b in levels]
        ratios = [
            {
                "bnr": ratio,
                "band": [f for f, first in zip(frequency, self.band(ratio).tolist(), strict=True) if first],
                "blur cut-off": [finite(self.blur_cutoff(ratio * level)) for level in levels],
            }
            for ratio in bnrs
        ]
        spread = {"least": self.bnr, "geometric mean": float(balance.log().mean().exp()), "most": float(balance.max())}
        fit = {"slope": self.slope, "amplitude": self.amplitude}
        rings = {"frequency": frequency, "power": self.power.tolist(), "balance": balance.tolist()}
        about = {"images": self.count, "units": "cycles per pixel; power per mode of images in [-1, 1]; kept: share of the power"}
        about |= {"suggested bnr": self.bnr, "kept": self.kept}
        return {**about, "spread": spread, "fit": fit, **rings, "levels": noise, "ratios": ratios}

    def plot(self, path: str | os.PathLike[str], bnrs: Sequence[float] = BNRS) -> None:
        """One figure: power, fit and noise floors; the levels at which noise and blur reach each frequency (needs matplotlib)."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("SpectralArgument.plot needs matplotlib: pip install matplotlib") from error
        f = self.frequency
        left, right = Figure(figsize=(12, 4.5), layout="constrained", facecolor="white").subplots(1, 2)
        left.loglog(f, self.power, "o", color="black", markersize=4, label="data")
        left.loglog(f, self.amplitude * f**self.slope, color="#d95f02", label=f"fit: frequency^{self.slope:.2f}")
        for level in (b for b in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0) if self.power.min() / 10 < b**2 < self.power.max()):
            left.axhline(level**2, color="#1f77b4", linewidth=0.8, linestyle=":")
            left.annotate(f" noise floor, level {level:g}", (float(f[0]), level**2), color="#1f77b4", fontsize=8, va="bottom")
        left.set(ylabel="variance per mode (of images in [-1, 1])", title=f"{self.count} images")
        right.loglog(f, self.power.sqrt(), "o-", color="black", markersize=4, label="noise overtakes the signal")
        for place, ratio in enumerate(sorted({*bnrs, 0.0} - {0.0})):
            line, first = self._reach / (ratio * f), self.band(ratio)
            right.loglog(f, line, ":", color=f"C{place}", linewidth=1)
            right.loglog(
                f, torch.where(first, line, torch.nan), ".-", color=f"C{place}", linewidth=1.6, label=f"blur removes it, BNR {ratio:g}"
            )
        right.loglog(f, self._reach / (self.bnr * f), "--", color="black", label=f"BNR {self.bnr:.2g}: nowhere before noise")
        right.set(ylabel="level (standard deviation of the noise)", title="Solid: noise comes first. Dotted: blur does")
        right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
        left.legend(fontsize=8)
        for axes in (left, right):
            axes.set_xlabel("spatial frequency (cycles per pixel)")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
            axes.grid(alpha=0.3)
        content = io.BytesIO()
        left.figure.savefig(content, dpi=110, format=Path(path).suffix[1:] or "png")
        write_content(Path(path), content.getbuffer())
