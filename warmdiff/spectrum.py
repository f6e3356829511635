"""The data's variance per DCT mode: measured in one pass, kept in a small file, drawn, and which blur-to-noise ratio it suggests."""

from __future__ import annotations

import io
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import warmops
from warmdiff.files import replacing
from warmdiff.options import Reworded, check, imported

_FORMAT = 1
KEPT = 0.5  # share of a frequency's power at which blur counts as having removed it
LEVELS = tuple(10.0 ** (k / 4) for k in range(-10, 9))  # .003 to 100: noise levels of the tables
BNRS = (0.1, 0.3, 0.5, 0.65, 1.0, 2.0, 10.0)  # the ratios of Warm Diffusion, table 3


@dataclass(frozen=True)
class DataSpectrum:
    """Mean and variance of every DCT mode of a data set, ``[C, H, W]`` float64, of images in [-1, 1].

    Attributes:
        variance: ``s^2`` of each mode of the orthonormal 2-D DCT; its mean over modes is the variance of a pixel.
        mean: mean of each mode.
        count: number of images (0 for the constant form).

    Raises:
        ValueError: variance and mean are not finite float64 of one shape ``[C, H, W]``, or a variance is negative.

    Example:
        >>> images = torch.rand(64, 3, 16, 16) * 2 - 1
        >>> spectrum = warmdiff.DataSpectrum.measure([images[:32], images[32:]])
        >>> spectrum.variance.shape, spectrum.count
        (torch.Size([3, 16, 16]), 64)
    """

    variance: Tensor
    mean: Tensor
    count: int

    def __post_init__(self) -> None:
        variance, mean = self.variance, self.mean
        good = variance.dtype == mean.dtype == torch.float64 and variance.ndim == 3 and variance.shape == mean.shape
        if not (good and variance.isfinite().all() and (variance >= 0).all() and mean.isfinite().all()):
            raise ValueError("mean and variance of a spectrum must be finite float64 [C, H, W], variance >= 0")

    @classmethod
    def constant(cls, size: Sequence[int], variance: float = 0.25) -> DataSpectrum:
        """White data ``[C, H, W]`` of EDM's variance (sigma_data = 0.5): for lack of data."""
        return cls(torch.full(size, variance, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), 0)

    @classmethod
    def measure(cls, batches: Iterable[Tensor], backend: str | None = None) -> DataSpectrum:
        """One pass over batches ``[N, C, H, W]``: uint8 (read as ``x / 127.5 - 1``) or floating-point images.

        Raises:
            TypeError, ValueError: a batch is not images, has another shape than the first or is not finite; no image came.
        """
        count, mean, squares = 0, None, torch.zeros((), dtype=torch.float64)
        for number, batch in enumerate(batches):
            where, wanted = f"batch {number}", ["N", *("CHW" if mean is None else mean.shape)]
            if not isinstance(batch, Tensor) or not (batch.is_floating_point() or batch.dtype == torch.uint8):
                raise TypeError(f"{where} must be a floating-point or uint8 tensor, got {getattr(batch, 'dtype', type(batch).__name__)}")
            fits = batch.ndim == 4 and (mean is None or batch.shape[1:] == mean.shape)
            check(fits, where, list(batch.shape), f"of shape [{', '.join(map(str, wanted))}]")
            if len(batch) == 0:
                continue
            images = batch.double() if batch.is_floating_point() else (batch / 127.5 - 1.0).double()
            modes = warmops.dct2(images, norm="ortho", backend=backend).cpu()
            check(bool(modes.isfinite().all()), where, "a NaN or an infinity", "finite")
            # Means and sums of squares of two parts make those of the whole (Chan, Golub & LeVeque, 1979).
            n, part = len(modes), modes.mean(dim=0)
            mean = torch.zeros_like(part) if mean is None else mean
            delta, total = part - mean, count + n
            squares = squares + (modes - part).square().sum(dim=0) + delta.square() * (count * n / total)
            mean, count = mean + delta * (n / total), total
        if mean is None:
            raise ValueError("batches must hold at least one image, got none")
        return cls(squares / count, mean, count)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a small npz file; the old file stays whole until the new one is complete."""
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez(file, format=_FORMAT, count=self.count, mean=self.mean.cpu().numpy(), variance=self.variance.cpu().numpy())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DataSpectrum:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            OSError: the file cannot be read. ValueError: it is not a spectrum.
        """
        with open(path, "rb") as raw, Reworded(f"{path} is not a spectrum of warmdiff", Exception):
            file = np.load(raw, allow_pickle=False)
            check(int(file["format"]) == _FORMAT, "format", int(file["format"]), str(_FORMAT))
            variance, mean = (torch.from_numpy(np.array(file[name])) for name in ("variance", "mean"))
            return cls(variance, mean, int(file["count"]))

    def radial(self) -> tuple[Tensor, Tensor]:
        """Spatial frequency (cycles per pixel) and mean variance of rings of modes, the mode of the mean left out."""
        h, w = self.variance.shape[-2:]
        along = [torch.arange(n, dtype=torch.float64) / (2 * n) for n in (h, w)]
        radius = (along[0].unsqueeze(1) ** 2 + along[1] ** 2).sqrt().flatten()
        ring = (radius / (0.5 / max(h, w))).round().long()
        number = torch.bincount(ring).to(torch.float64)
        sums = [torch.bincount(ring, weights=values) for values in (radius, self.variance.mean(dim=0).flatten())]
        keep = (number > 0) & (torch.arange(len(number)) > 0)
        return (sums[0] / number)[keep], (sums[1] / number)[keep]

    def rings(self) -> tuple[Tensor, Tensor]:
        """`radial` up to 1/2 cycle per pixel, where there is any power."""
        frequency, power = self.radial()
        use = (frequency <= 0.5) & (power > 0)
        return frequency[use], power[use]

    def slope(self) -> float:
        """Exponent of the power law that fits best: of ``log variance`` against ``log frequency``, over the `rings`."""
        x, y = (values.log().tolist() for values in self.rings())
        return statistics.linear_regression(x, y).slope if len(x) > 1 else math.nan

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw variance against frequency, with the fitted power law, and what noise and blur make of it (needs matplotlib)."""
        SpectralArgument.of(self).plot(path)


@dataclass(frozen=True)
class SpectralArgument:
    """The argument of Warm Diffusion (Hsueh et al., ICLR 2025) for its blur-to-noise ratio, made into numbers.

    With P(f) the data's power at f cycles per pixel (`DataSpectrum.radial`), a state of level beta holds ``m^2 P`` of signal and
    ``beta^2`` of noise in each mode, ``m = exp(-(2 pi f alpha)^2 / 2)``, ``alpha = BNR beta``. As the level rises, two things
    happen to a frequency:

    - noise overtakes it at ``beta_n(f) = sqrt(P(f))``;
    - blur removes it at ``beta_b(f) = sqrt(-ln kept) / (2 pi f BNR)``, where it keeps the share ``kept`` of its power.

    Where noise comes first, blur takes only what noise hides; where blur comes first, states lie near a thinner set. Both come at once if
    ``BNR = B(f) = sqrt(-ln kept) / (2 pi f sqrt(P(f)))``; noise comes first in the *band* of frequencies with ``B(f) >= BNR``. **The ratio
    suggested** is the largest whose band is the whole spectrum, ``min over f of B(f)``. For ``P = c f^-a`` that is at the highest frequency
    for a < 2 and at the lowest for a > 2; at a = 2 every frequency gives the same ratio, and for other slopes no ratio fits them all.

    What it assumes: that "removed" means half of the power is gone (``kept`` = 0.9 suggests 0.39 times as much, 0.1 1.8 times); that
    a ring of modes stands for each of them; that power alone matters; and, above all, that it is good to blur as much as noise hides. Of
    how well a network learns it says nothing: that takes an experiment.

    Attributes:
        frequency, power: `DataSpectrum.rings`, float64 ``[R]``, of images in [-1, 1].
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
        """From a measured spectrum; ValueError: fewer than two rings of it have power, or kept is not in (0, 1)."""
        (frequency, power), slope = spectrum.rings(), spectrum.slope()
        check(len(frequency) >= 2, "spectrum", len(frequency), "of power at two spatial frequencies up to 1/2 cycle per pixel at least")
        check(0 < kept < 1, "kept", kept, "in (0, 1)")
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

    def table(self) -> dict[str, Any]:
        """Everything above as JSON can hold it; a cut-off that is infinite is null."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        balance, frequency = self.balance, self.frequency
        about = {"images": self.count, "units": "cycles per pixel; power per mode of images in [-1, 1]; kept: share of the power"}
        about |= {"suggested bnr": self.bnr, "kept": self.kept}
        spread = {"least": self.bnr, "geometric mean": float(balance.log().mean().exp()), "most": float(balance.max())}
        fit = {"slope": self.slope, "amplitude": self.amplitude}
        rings = {"frequency": frequency.tolist(), "power": self.power.tolist(), "balance": balance.tolist()}
        noise = [{"level": b, "noise floor": b * b, "noise cut-off": finite(self.noise_cutoff(b))} for b in LEVELS]
        ratios: list[dict[str, Any]] = [{"bnr": ratio, "band": frequency[self.band(ratio)].tolist()} for ratio in BNRS]
        for row in ratios:
            row["blur cut-off"] = [finite(self.blur_cutoff(row["bnr"] * level)) for level in LEVELS]
        return {**about, "spread": spread, "fit": fit, **rings, "levels": noise, "ratios": ratios}

    def plot(self, path: str | os.PathLike[str], bnrs: Sequence[float] = BNRS) -> None:
        """One figure: power, fit and noise floors; the levels at which noise and blur reach each frequency (needs matplotlib)."""
        figure = imported("matplotlib.figure", "a plot", "matplotlib").Figure(figsize=(12, 4.5), layout="constrained")
        f = self.frequency
        left, right = figure.subplots(1, 2)
        left.loglog(f, self.power, "o", color="black", markersize=4, label="data")
        left.loglog(f, self.amplitude * f**self.slope, color="#d95f02", label=f"fit: frequency^{self.slope:.2f}")
        for level in (b for b in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0) if self.power.min() / 10 < b**2 < self.power.max()):
            left.axhline(level**2, color="#1f77b4", linewidth=0.8, linestyle=":")
            left.annotate(f" noise floor, level {level:g}", (float(f[0]), level**2), color="#1f77b4", fontsize=8, va="bottom")
        left.set(ylabel="variance per mode (of images in [-1, 1])", title=f"{self.count} images")
        right.loglog(f, self.power.sqrt(), "o-", color="black", markersize=4, label="noise overtakes the signal")
        for place, ratio in enumerate(sorted({*bnrs, 0.0} - {0.0})):
            line, solid = self._reach / (ratio * f), {"color": f"C{place}", "linewidth": 1.6, "label": f"blur removes it, BNR {ratio:g}"}
            right.loglog(f, line, ":", color=f"C{place}", linewidth=1)
            right.loglog(f, torch.where(self.band(ratio), line, torch.nan), ".-", **solid)
        right.loglog(f, self._reach / (self.bnr * f), "--", color="black", label=f"BNR {self.bnr:.2g}: nowhere before noise")
        right.set(ylabel="level (standard deviation of the noise)", title="Solid: noise comes first. Dotted: blur does")
        right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
        left.legend(fontsize=8)
        for axes in (left, right):
            axes.set_xlabel("spatial frequency (cycles per pixel)")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
            axes.grid(alpha=0.3)
        content = io.BytesIO()  # a PDF's writer does not bear a full disk
        figure.savefig(content, dpi=110, facecolor="white", format=Path(path).suffix[1:] or "png")
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())
