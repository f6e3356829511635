"""The forward process: how much blur and how much noise an image has at each level, and the steps between levels, up and down."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

import warmops
from warmdiff.options import check, check_number, check_type

AlphaOfBeta = Callable[[Tensor], Tensor]
Level = TypeVar("Level", float, Tensor)
_GRID = 1024  # levels at which a free alpha(beta) is checked


@dataclass(frozen=True)
class BlurNoiseProcess:
    """Blur-noise mixture diffusion: ``x_t = A x_0 + noise(beta) eps``, ``A`` blurring by ``alpha(beta)`` pixels.

    ``q(x_t | x_0) = N(V M V^T x_0, beta^2 I)``, V the orthonormal 2-D DCT, ``m = (1 - d) exp(-lambda alpha^2 / 2) + d``
    [Hsueh et al., Warm Diffusion, ICLR 2025, section 3; d: Hoogeboom & Salimans, Blurring Diffusion Models, ICLR 2023].

    What is called beta everywhere is the *level*: the noise's standard deviation, with ``alpha = bnr * beta``, or with
    any other non-decreasing alpha(beta). In `ihdm` and `cold` the noise never changes; there the level is alpha itself
    and ``noise(level)`` is the constant. Level 0 is always the clean image.

    Args:
        bnr: blur-to-noise ratio alpha / beta, in pixels per unit of x; 0 is EDM, 0.5 is the paper's best on CIFAR-10.
        sigma_min, sigma_max: smallest and largest level of a schedule.
        rho: how a schedule is spaced: equal steps of ``level^(1 / rho)``; infinity spaces it by equal factors.
        blur: alpha as a differentiable function of a float64 tensor of levels, instead of bnr (see `free`).
        constant_noise: noise of every level above 0, where the level is alpha (see `cold`), instead of bnr.
        floor: d, the multiplier that no frequency falls below.

    Raises:
        TypeError, ValueError: an argument is wrong, or blur is negative, not finite, decreasing or not differentiable somewhere.
            The presets raise the same.

    Example:
        >>> process = warmdiff.BlurNoiseProcess(bnr=0.5)
        >>> x_t, blurred = process.degrade(torch.rand(4, 3, 32, 32), 2.0, seed=0)  # blurred by 1 pixel, noise of 2
        >>> [round(level, 3) for level in process.betas(3).tolist()]
        [80.0, 2.515, 0.002, 0.0]
    """

    bnr: float | None = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    blur: AlphaOfBeta | None = None
    constant_noise: float | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        if sum(v is not None for v in (self.bnr, self.blur, self.constant_noise)) != 1:
            raise ValueError("exactly one of bnr, blur and constant_noise must be given (pass bnr=None with the others)")
        if self.bnr is not None:
            check_number("bnr", self.bnr, zero=True)
        if self.constant_noise is not None:
            check_number("constant_noise", self.constant_noise)
        rising = check_number("sigma_min", self.sigma_min) < check_number("sigma_max", self.sigma_max)
        check(rising, "sigma_min", self.sigma_min, f"< sigma_max = {self.sigma_max}")
        check_number("rho", self.rho, infinite=True)
        check(check_number("floor", self.floor, zero=True) < 1.0, "floor", self.floor, "in [0, 1)")
        if self.blur is not None:
            self._check_blur(self.blur)

    def _check_blur(self, blur: AlphaOfBeta) -> None:
        check_type(callable(blur), "blur", blur, "a function alpha(beta)")
        levels = torch.logspace(math.log10(self.sigma_min), math.log10(self.sigma_max), _GRID, dtype=torch.float64)
        alpha = blur(levels)
        if not isinstance(alpha, Tensor) or alpha.shape != levels.shape:
            raise ValueError(f"blur must return a tensor of the shape of its levels {tuple(levels.shape)}, got {alpha!r}")
        for wanted, bad in (("finite and >= 0", ~alpha.isfinite()), ("non-decreasing", alpha.diff() < 0), ("finite and >= 0", alpha < 0)):
            if bad.any():
                i = int(bad.nonzero()[0])
                found = ", ".join(f"alpha({levels[j]:.6g}) = {alpha[j]:.6g}" for j in (i, i + 1) if j < _GRID)
                raise ValueError(f"blur must be {wanted} in [sigma_min, sigma_max], got {found}")
        self.alpha_rate(self.sigma_max)  # raises if there is no derivative

    # ---- presets ----

    @classmethod
    def hot(cls, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> BlurNoiseProcess:
        """Noise only: exactly EDM [Karras et al., NeurIPS 2022]. Arguments: those of the class."""
        return cls(0.0, sigma_min, sigma_max, rho)

    @classmethod
    def warm(cls, bnr: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> BlurNoiseProcess:
        """``alpha = bnr * beta`` [Hsueh et al., Warm Diffusion, ICLR 2025]. Arguments: those of the class."""
        return cls(bnr, sigma_min, sigma_max, rho)

    @classmethod
    def cold(cls, blur_min: float = 0.5, blur_max: float = 24.0, noise: float = 0.002) -> BlurNoiseProcess:
        """Blur only [Bansal et al., Cold Diffusion, 2022], with the least noise that its sampler needs.

        What the blur removed is made again from the noise, and from nothing else: without noise there is one image for each
        blurred one. The default lies just below the rounding error of 8-bit images in [-1, 1] (2 / 255 / sqrt(12) = 0.0023).
        The number of steps has to grow like ln(1 / noise). Arguments as `ihdm`.
        """
        return cls.ihdm(blur_min, blur_max, noise)

    @classmethod
    def ihdm(cls, blur_min: float = 0.5, blur_max: float = 24.0, noise: float = 0.01) -> BlurNoiseProcess:
        """Inverse heat dissipation [Rissanen et al., ICLR 2023]: ``x = A x_0 + noise eps``, blur spaced by equal factors.

        Levels are alpha in pixels (heat time ``alpha^2 / 2``), from blur_max down to blur_min; ``noise`` is a standard deviation in
        units of x. The defaults are the paper's for CIFAR-10 in [0, 1]; in [-1, 1] the same noise is 0.02.
        """
        return cls(None, blur_min, blur_max, math.inf, constant_noise=noise)

    @classmethod
    def blurring_diffusion(cls, blur_max: float = 20.0, floor: float = 0.001, logsnr: float = 10.0, rho: float = 7.0) -> BlurNoiseProcess:
        """Blurring Diffusion Models [Hoogeboom & Salimans, ICLR 2023, appendix A], divided by its signal scale a(t).

        ``alpha = blur_max sin^2(pi t / 2)`` and ``beta = tan(theta)``, where theta goes linearly in t from ``atan(exp(-logsnr / 2))``
        to ``atan(exp(logsnr / 2))``: with the default, beta is in [0.0067, 148]. blur_max is in pixels; floor is their d.
        """
        beta_max = math.exp(0.5 * check_number("logsnr", logsnr))
        blur_max, low = check_number("blur_max", blur_max, zero=True), math.atan(1 / beta_max)
        blur = functools.partial(_blurring_diffusion_alpha, blur_max=blur_max, low=low)
        return cls(None, 1 / beta_max, beta_max, rho, blur=blur, floor=floor)

    @classmethod
    def free(
        cls, alpha: AlphaOfBeta, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0, floor: float = 0.0
    ) -> BlurNoiseProcess:
        """Any non-decreasing ``alpha(beta)`` in pixels, made of differentiable torch operations on a float64 tensor of levels."""
        return cls(None, sigma_min, sigma_max, rho, blur=alpha, floor=floor)

    # ---- levels ----

    def alpha(self, beta: Level) -> Level:
        """Blur in pixels at a level: a float, or a tensor like ``beta``."""
        if self.blur is None:
            return beta if self.bnr is None else self.bnr * beta
        if isinstance(beta, Tensor):
            return torch.where(beta == 0, 0.0, self.blur(beta.to(torch.float64))).to(beta.dtype)
        return 0.0 if beta == 0 else float(self.blur(torch.tensor(beta, dtype=torch.float64, device="cpu")))

    def alpha_rate(self, beta: float) -> float:
        """``d alpha / d level`` at a level > 0.

        Raises:
            ValueError: a free alpha cannot be differentiated.
        """
        if self.blur is None:
            return 1.0 if self.bnr is None else self.bnr
        with torch.enable_grad():
            level = torch.tensor(beta, dtype=torch.float64, device="cpu", requires_grad=True)
            value = self.blur(level)
            if not value.requires_grad:
                raise ValueError("blur must be made of differentiable torch operations, got a result that does not depend on the level")
            return float(torch.autograd.grad(value, level)[0])

    def noise(self, beta: Level) -> Level:
        """Standard deviation of the noise at a level: the level itself, or the constant of `cold` and `ihdm` (0 at level 0)."""
        if self.constant_noise is None:
            return beta
        if isinstance(beta, Tensor):
            return torch.where(beta == 0, 0.0, self.constant_noise).to(beta.dtype)
        return 0.0 if beta == 0 else self.constant_noise

    def betas(self, steps: int) -> Tensor:
        """A schedule of ``steps`` steps: float64 ``[steps + 1]``, from sigma_max to sigma_min, then 0 [EDM, equation 5].

        Raises:
            TypeError, ValueError: steps is not an int >= 2.
        """
        check_type(isinstance(steps, int) and not isinstance(steps, bool), "steps", steps, "an int")
        check(steps >= 2, "steps", steps, ">= 2")
        along = torch.linspace(0.0, 1.0, steps, dtype=torch.float64, device="cpu")
        if self.rho == math.inf:
            levels = self.sigma_max * (self.sigma_min / self.sigma_max) ** along
        else:
            high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
            levels = (high + along * (low - high)) ** self.rho
        levels[0], levels[-1] = self.sigma_max, self.sigma_min  # the very numbers, unrounded
        return torch.cat([levels, levels.new_zeros(1)])

    # ---- images ----

    def multipliers(self, beta: Level, size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """``m`` of each mode of an image ``[H, W]``, float64: ``[H, W]`` for a float, ``[N, H, W]`` for levels ``[N]``, there."""
        if isinstance(beta, Tensor):
            alpha: Any = self.alpha(beta.to(torch.float64))[..., None, None]
            device = alpha.device
        else:
            alpha = self.alpha(float(beta))
        return (1.0 - self.floor) * torch.exp(-0.5 * alpha**2 * eigenvalues(size, device)) + self.floor

    def transition(self, beta: float, beta_next: float, size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """``m(beta_next) / m(beta)`` of each mode, float64 ``[H, W]``, for ``beta_next >= beta``: what the further blur leaves."""
        if self.floor > 0:
            return self.multipliers(beta_next, size, device) / self.multipliers(beta, size, device)
        # One exponential: under strong blur both multipliers are zero in most modes.
        return torch.exp(-0.5 * (self.alpha(beta_next) ** 2 - self.alpha(beta) ** 2) * eigenvalues(size, device))

    def degrade(
        self,
        x0: Tensor,
        beta: Level,
        *,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(x_t, blurred)``: a sample of ``q(x_t | x_0)`` and its mean ``A x_0``, by one call of `warmops.blur_noise`.

        Args:
            x0: images ``[N, ..., H, W]``, floating-point or uint8 (read as ``x / 127.5 - 1``).
            beta: levels, a float or a tensor ``[N]``.
            seed, generator, noise, backend: as in `warmops.blur_noise`.

        Returns:
            Two tensors of the shape of x0 and its dtype (float32 for uint8).

        Raises:
            TypeError, ValueError: as `warmops.blur_noise`, which names alpha ``blur_sigma`` and the noise ``noise_sigma``.
        """
        check(isinstance(beta, Tensor) or beta >= 0, "beta", beta, ">= 0")
        keep = 1.0 - self.floor
        drawn: dict[str, Any] = {"seed": seed, "generator": generator, "noise": noise, "backend": backend}
        x_t, blurred = warmops.blur_noise(x0, self.alpha(beta), self.noise(beta) / keep, scale=keep, return_blurred=True, **drawn)
        if self.floor == 0.0:
            return x_t, blurred
        kept = self.floor * (x0 if x0.is_floating_point() else x0 / 127.5 - 1.0)  # the part that no blur reaches
        return x_t + kept, keep * blurred + kept


def _blurring_diffusion_alpha(beta: Tensor, blur_max: float, low: float) -> Tensor:
    t = ((torch.atan(beta) - low) / (0.5 * math.pi - 2.0 * low)).clamp(0.0, 1.0)
    return blur_max * torch.sin(0.5 * math.pi * t) ** 2


def eigenvalues(size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """``lambda_ij = pi^2 (i^2 / H^2 + j^2 / W^2)`` of the modes of an image, float64 ``[H, W]``."""
    along = [(torch.arange(n, dtype=torch.float64, device=device) * (math.pi / n)) ** 2 for n in size]
    return along[0].unsqueeze(1) + along[1]


# ---- steps that draw noise ----


def step_seeds(seeds: Tensor, step: int) -> Tensor:
    """Philox keys ``[N]`` of the noise of one step: SplitMix64 of each sample's seed at a distance of ``step``."""

    def signed(word: int) -> int:
        return (word + 2**63) % 2**64 - 2**63

    key = seeds + signed(0x9E3779B97F4A7C15 * step)  # int64 wraps modulo 2^64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> shift & (1 << 64 - shift) - 1)) * signed(factor)
    return key ^ (key >> 31 & (1 << 33) - 1)


def _mix(parts: list[tuple[Tensor, Tensor]], spread: Tensor, seeds: Tensor, backend: str | None) -> Tensor:
    """Sum of ``weights [H, W] * images`` and of noise of standard deviation ``spread [H, W]``, in DCT space."""
    x = parts[0][1]
    # White noise is white in every orthonormal basis.
    u = spread.to(x) * warmops.normal(x.shape, seeds, dtype=x.dtype, backend=backend)
    for weights, image in parts:
        u = u + weights.to(x) * warmops.dct2(image.to(x.dtype), norm="ortho", backend=backend)
    return warmops.idct2(u, norm="ortho", backend=backend)


def add_churn(
    process: BlurNoiseProcess, x: Tensor, beta: float, beta_up: float, seeds: Tensor, factor: float = 1.0, backend: str | None = None
) -> Tensor:
    """Take x from level beta up to beta_up, blur and noise both, so that its marginal stays that of the process.

    In DCT space ``u_up = q u + factor sqrt(noise_up^2 - q^2 noise^2) n``, q being what the further blur leaves: the fresh noise is
    coloured, for the blur also takes away noise that is there. Without blur it is EDM's ``sqrt(beta_up^2 - beta^2) n``.
    """
    q = process.transition(beta, beta_up, x.shape[-2:], x.device)
    variance = process.noise(beta_up) ** 2 - q**2 * process.noise(beta) ** 2
    return _mix([(q, x)], factor * variance.clamp(min=0.0).sqrt(), seeds, backend)


def ancestral(
    process: BlurNoiseProcess, x: Tensor, denoised: Tensor, beta: float, beta_next: float, seeds: Tensor, backend: str | None
) -> Tensor:
    """A sample of ``q(x_next | x, x_0)``, the forward process backwards; per mode, r being what the blur from next to here leaves,

    ``u_next = m_next x_0 + r s^2 (u - m x_0) + sqrt(1 - r^2 s^2) noise_next n`` with ``s = noise_next / noise``.
    """
    size = x.shape[-2:]
    s2 = (process.noise(beta_next) / process.noise(beta)) ** 2
    r = process.transition(beta_next, beta, size, x.device)
    m, m_next = (process.multipliers(level, size, x.device) for level in (beta, beta_next))
    spread = process.noise(beta_next) * (1.0 - r**2 * s2).clamp(min=0.0).sqrt()
    return _mix([(r * s2, x), (m_next - r * s2 * m, denoised)], spread, seeds, backend)
