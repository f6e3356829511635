"""Two heads with unit-variance inputs, outputs and targets: what the network's raw output means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from warmdiff.process import BlurNoiseProcess
from warmdiff.spectrum import DataSpectrum

# Rounding error of 8-bit images in [-1, 1]: a residual smaller than that is not in the data.
RESIDUAL_FLOOR = 2.0 / 255.0 / math.sqrt(12.0)


class Prediction(NamedTuple):
    """What a denoiser says about the clean image: ``blurred ~ A x_0``, ``residual ~ (I - A) x_0``, each of x's shape.

    The two targets are those of Warm Diffusion's "divide and conquer" [Hsueh et al., ICLR 2025, section 3].

    Example:
        >>> blurred, residual = torch.rand(4, 3, 32, 32), torch.zeros(4, 3, 32, 32)
        >>> torch.equal(warmdiff.Prediction(blurred, residual).denoised, blurred)
        True
    """

    blurred: Tensor
    residual: Tensor

    @property
    def denoised(self) -> Tensor:
        """The clean image: the sum."""
        return self.blurred + self.residual


@dataclass(frozen=True)
class Scalings:
    """Factors of a batch of levels, each ``[N]``; `Preconditioning` computes them.

    The network sees ``c_in x`` and ``c_noise``; a head's prediction is ``c_skip x + c_out head`` [Karras et al., EDM, NeurIPS 2022,
    equation 7, for each of the two heads].

    Attributes:
        c_in, c_noise: of the input and of the noise level's coordinate, ``ln(beta) / 4``.
        c_skip_blurred, c_out_blurred: of the head of the blurred image.
        c_skip_residual, c_out_residual: of the head of the missing detail.

    Example:
        >>> edm = warmdiff.Preconditioning(warmdiff.BlurNoiseProcess.hot(), warmdiff.DataSpectrum.constant((3, 32, 32)))
        >>> scalings = edm(torch.tensor([0.5, 0.5]))
        >>> scalings.c_skip_blurred
        tensor([0.5000, 0.5000])
        >>> scalings.predict(torch.rand(2, 3, 32, 32), torch.rand(2, 6, 32, 32)).denoised.shape
        torch.Size([2, 3, 32, 32])
    """

    c_in: Tensor
    c_skip_blurred: Tensor
    c_out_blurred: Tensor
    c_skip_residual: Tensor
    c_out_residual: Tensor
    c_noise: Tensor

    @property
    def weight_blurred(self) -> Tensor:
        """Loss weight of head B: ``1 / c_out^2``."""
        return self.c_out_blurred**-2

    @property
    def weight_residual(self) -> Tensor:
        """Loss weight of head R: ``1 / c_out^2``, and 0 where there is no residual (no blur)."""
        return torch.where(self.c_out_residual > 0, self.c_out_residual**-2, 0.0)

    def predict(self, x: Tensor, heads: Tensor) -> Prediction:
        """The raw output ``[N, 2C, ...]`` (head B first) of a network that saw ``c_in x`` as a `Prediction`."""
        factors = (self.c_skip_blurred, self.c_out_blurred, self.c_skip_residual, self.c_out_residual)
        skip_b, out_b, skip_r, out_r = (f.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) for f in factors)
        head_b, head_r = heads.to(x.dtype).chunk(2, dim=1)
        return Prediction(skip_b * x + out_b * head_b, skip_r * x + out_r * head_r)


@dataclass(frozen=True)
class RawPrediction:
    """A network's raw output with its scalings: a denoiser may return it, and no pass is spent on making a `Prediction`.

    Attributes:
        x: the state that the denoiser was given, ``[N, C, ...]``.
        heads: ``[N, 2C, ...]``, head B first.
        scalings: the factors of both heads.

    Example:
        >>> edm = warmdiff.Preconditioning(warmdiff.BlurNoiseProcess.hot(), warmdiff.DataSpectrum.constant((3, 32, 32)))
        >>> raw = warmdiff.RawPrediction(torch.rand(2, 3, 32, 32), torch.rand(2, 6, 32, 32), edm(torch.ones(2)))
        >>> raw.prediction.blurred.shape, raw.denoised.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 32, 32]))
    """

    x: Tensor
    heads: Tensor
    scalings: Scalings

    @cached_property
    def prediction(self) -> Prediction:
        """The same as a `Prediction`: ``c_skip x + c_out head`` of each head."""
        return self.scalings.predict(self.x, self.heads)

    @property
    def denoised(self) -> Tensor:
        """The clean image: the sum of both predictions."""
        return self.prediction.denoised


class Preconditioning:
    """Scalings of the two heads for a process and the spectrum of its data.

    Derived as in EDM [Karras et al., NeurIPS 2022, appendix B.6], for inputs and targets of unit variance and the least ``c_out``, from
    the data's variance per mode ``s^2``: with means over all modes ``A2 = mean(m^2 s^2)``, ``C = mean(m (1 - m) s^2)``,
    ``R2 = mean((1 - m)^2 s^2)`` and ``v = A2 + beta^2``,

        c_in = 1 / sqrt(v)
        head B: c_skip = A2 / v,  c_out = beta sqrt(A2 / v)
        head R: c_skip = C / v,   c_out = sqrt(R2 - C^2 / v)

    Without blur they are EDM's, with ``sigma_data^2`` the mean variance, and head R is switched off.

    Args:
        process: the forward process.
        spectrum: variance of the data per mode. `DataSpectrum.constant` (0.25 in every mode) is for lack of data only: natural
            images have most of their variance in few modes, and from beta = 1 on the scalings of white data are wrong by
            up to 10 times.

    Example:
        >>> preconditioning = warmdiff.Preconditioning(warmdiff.BlurNoiseProcess(), warmdiff.DataSpectrum.constant((3, 32, 32)))
        >>> preconditioning(torch.tensor([0.5, 2.0])).c_in.shape
        torch.Size([2])
    """

    def __init__(self, process: BlurNoiseProcess, spectrum: DataSpectrum) -> None:
        self.process, self.spectrum = process, spectrum
        self._variance = spectrum.variance.to(torch.float64).mean(dim=0)  # [H, W]
        self._copies = {self._variance.device: self._variance}  # copied to a device once

    def moments(self, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``A2, C, R2`` at blur levels ``[N]``: float64, ``[N]`` each.

        With ``E = e_h e_w`` and ``1 - e`` from expm1, ``1 - E = (1 - e_h) + e_h (1 - e_w)`` has positive terms only: nothing cancels
        however small the blur, and the means over all modes are products of small matrices.
        """
        if alpha.device not in self._copies:
            self._copies[alpha.device] = self._variance.to(alpha.device)
        s2 = self._copies[alpha.device]
        exponents = [
            -0.5 * (alpha.to(torch.float64).unsqueeze(1) * torch.arange(n, device=alpha.device) * (math.pi / n)) ** 2 for n in s2.shape
        ]
        (e_h, e_w), (l_h, l_w) = [e.exp() for e in exponents], [-e.expm1() for e in exponents]  # kept and lost, [N, H] and [N, W]

        def mean(along_h: Tensor, along_w: Tensor) -> Tensor:
            return ((along_h @ s2) * along_w).sum(dim=1) / s2.numel()

        one, keep, d = torch.ones_like(e_w), 1.0 - self.process.floor, self.process.floor
        kept2 = mean(e_h**2, e_w**2)
        both = mean(e_h * l_h, e_w) + mean(e_h**2, e_w * l_w)
        lost2 = mean(l_h**2, one) + 2.0 * mean(e_h * l_h, l_w) + mean(e_h**2, l_w**2)
        kept, lost = mean(e_h, e_w), mean(l_h, one) + mean(e_h, l_w)
        return keep**2 * kept2 + 2.0 * keep * d * kept + d**2 * s2.mean(), keep**2 * both + keep * d * lost, keep**2 * lost2

    def __call__(self, beta: Tensor, alpha: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Scalings:
        """Scalings of levels ``[N]`` (> 0), computed in float64, returned in ``dtype``; blur levels alpha where the process has others."""
        beta = beta.to(torch.float64)
        a2, c, r2 = self.moments(self.process.alpha(beta) if alpha is None else alpha)
        noise = self.process.noise(beta)
        v = a2 + noise**2
        # R2 - C^2 / v >= R2 noise^2 / v (Cauchy-Schwarz): that bound, where the difference has lost its digits.
        residual = torch.maximum(r2 - c**2 / v, r2 * noise**2 / v).sqrt().clamp(min=RESIDUAL_FLOOR)
        out_r = torch.where(r2 > 0, residual, 0.0)
        values = (v.rsqrt(), a2 / v, noise * (a2 / v).sqrt(), c / v, out_r, 0.25 * torch.log(beta))
        return Scalings(*(value.to(dtype) for value in values))
