"""The data's variance per DCT mode, measured in one pass, kept in a small file, drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import warmops
from warmdiff.checkpoint import write_durably

_FORMAT = 1


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
    def constant(cls, size: tuple[int, int, int], variance: float = 0.25) -> DataSpectrum:
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
            where = f"batch {number}"
            if not isinstance(batch, Tensor) or not (batch.is_floating_point() or batch.dtype == torch.uint8):
                raise TypeError(f"{where} must be a floating-point or uint8 tensor, got {getattr(batch, 'dtype', type(batch).__name__)}")
            if batch.ndim != 4 or (mean is not None and batch.shape[1:] != mean.shape):
                want = "[N, C, H, W]" if mean is None else f"[N, {', '.join(map(str, mean.shape))}]"
                raise ValueError(f"{where} must have shape {want}, got {list(batch.shape)}")
            if len(batch) == 0:
                continue
            images = batch.double() if batch.is_floating_point() else (batch / 127.5 - 1.0).double()
            modes = warmops.dct2(images, norm="ortho", backend=backend).cpu()
            if not modes.isfinite().all():
                raise ValueError(f"{where} must be finite, got a NaN or an infinity")
            # Means and sums of squares of two parts make those of the whole (Chan, Golub & LeVeque, 1979).
            n, part = len(modes), modes.mean(dim=0)
            mean = torch.zeros_like(part) if mean is None else mean
            delta, total = part - mean, count + n
            squares = squares + (modes - part).square().sum(dim=0) + delta.square() * (count * n / total)
            mean, count = mean + delta * (n / total), total
        if mean is None:
            raise ValueError("batches must hold at least one image, got none")
        return cls(squares / count, mean, count)

    # ---- file ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a small npz file; the old file stays whole until the new one is complete."""

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, format=_FORMAT, count=self.count, mean=self.mean.cpu().numpy(), variance=self.variance.cpu().numpy())

        write_durably(Path(path), write)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DataSpectrum:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            OSError: the file cannot be read. ValueError: it is not a spectrum.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) != _FORMAT:
                    raise ValueError(f"format {int(file['format'])} instead of {_FORMAT}")
                variance, mean = (torch.from_numpy(np.array(file[name])) for name in ("variance", "mean"))
                return cls(variance, mean, int(file["count"]))
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a spectrum of warmdiff: {error}") from error

    # ---- picture ----

    def radial(self) -> tuple[Tensor, Tensor]:
        """Spatial frequency (cycles per pixel) and mean variance of rings of modes, the mode of the mean left out."""
        h, w = self.variance.shape[-2:]
        along = [torch.arange(n, dtype=torch.float64) / (2 * n) for n in (h, w)]
        radius = (along[0].unsqueeze(1) ** 2 + along[1] ** 2).sqrt().flatten()
        step = 0.5 / max(h, w)
        ring = (radius / step).round().long()
        power = self.variance.mean(dim=0).flatten()
        number = torch.bincount(ring).to(torch.float64)
        frequency = torch.bincount(ring, weights=radius) / number
        variance = torch.bincount(ring, weights=power) / number
        keep = (number > 0) & (torch.arange(len(number)) > 0)
        return frequency[keep], variance[keep]

    def slope(self) -> float:
        """Exponent of the power law that fits best: of ``log variance`` against ``log frequency``, over `radial` rings up to 1/2."""
        frequency, variance = self.radial()
        use = (frequency <= 0.5) & (variance > 0)
        if int(use.sum()) < 2:
            return math.nan
        x, y = frequency[use].log(), variance[use].log()
        x = x - x.mean()
        return float((x * (y - y.mean())).sum() / (x * x).sum())

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw variance against frequency, with the fitted power law, and what noise and blur make of it (needs matplotlib)."""
        from warmdiff.spectral_argument import SpectralArgument  # which imports this module

        SpectralArgument.of(self).plot(path)
