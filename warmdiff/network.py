"""`WarmNet`: the U-Nets of Song et al. and Karras et al. with two heads.

Written from *Score-Based Generative Modeling through SDEs* (Song et al., ICLR 2021, appendices C and H) and the tables of *EDM* (Karras
et al., NeurIPS 2022, appendix F). DDPM++: sinusoidal embedding of the noise level, 2x2 mean and nearest resampling. NCSN++: random
Fourier embedding, resampling with [1, 3, 3, 1], and the input added again at each resolution. The output has twice the image's channels,
first the blurred image, then the missing detail: the blur-to-noise ratio does not change the network's capacity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warmdiff.options import check, documented, option, validate

AUGMENT_LABELS = 9  # numbers that describe one augmentation, see draws.py
ROOT_HALF = math.sqrt(0.5)


@documented
@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a `WarmNet`. Fields marked (data) are set from the data and the process when training starts.

    Raises:
        ValueError: a value is of the wrong type or out of range.

    Example:
        >>> warmdiff.NetworkConfig(channels=64, multipliers=(1, 2, 2), blocks=2).attention
        (1,)
        >>> warmdiff.NetworkConfig(channels=7)
        Traceback (most recent call last):
        ValueError: network.channels must be even, got 7
    """

    family: str = option("ddpmpp", "architecture of Song et al. 2021", choices=("ddpmpp", "ncsnpp"))
    image_channels: int = option(3, "(data) channels of an image", derived=True, low=1)
    classes: int = option(0, "(data) number of classes, 0: unconditional", derived=True, low=0)
    augment: bool = option(False, "(data) takes augmentation labels", derived=True)
    blur_input: bool = option(False, "(data) is told the blur level too, for a range of blur-to-noise ratios", derived=True)
    channels: int = option(128, "channels at full resolution, an even number", low=2)
    multipliers: tuple[int, ...] = option((2, 2, 2), "channel multiplier of each resolution, from full to coarsest")
    blocks: int = option(4, "residual blocks per resolution", low=1, high=64)
    attention: tuple[int, ...] = option((1,), "resolutions with self-attention, 0 is the full one; the middle always has it")
    dropout: float = option(0.0, "dropout inside residual blocks", low=0, high=0.99)

    def __post_init__(self) -> None:
        validate(self, "network.")
        check(self.channels % 2 == 0, "network.channels", self.channels, "even")
        levels = range(len(self.multipliers))
        few = 1 <= len(levels) <= 12 and min(self.multipliers) >= 1
        check(few, "network.multipliers", self.multipliers[:13], "one to twelve integers >= 1")
        check(all(a in levels for a in self.attention), "network.attention", self.attention, f"resolutions 0..{len(levels) - 1}")


def initialised(layer: Any, gain: float = 1.0) -> Any:
    """Xavier-uniform weights times ``gain`` (0 starts a residual branch as nothing), zero bias."""
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def convolution(inputs: int, outputs: int, size: int = 3, gain: float = 1.0) -> Any:
    return initialised(nn.Conv2d(inputs, outputs, size, padding=size // 2), gain)


def normalisation(channels: int) -> nn.GroupNorm:
    """Groups of at least four channels, 32 groups at most."""
    groups = next(g for g in range(min(32, max(channels // 4, 1)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Resample(nn.Module):
    """Halves (``scale=-1``) or doubles (``scale=1``) the resolution; ``smooth``: with the filter [1, 3, 3, 1] / 8 along each axis."""

    kernel: Tensor

    def __init__(self, scale: int, smooth: bool) -> None:
        super().__init__()
        self.scale, self.smooth = scale, smooth
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.smooth:
            return F.avg_pool2d(x, 2) if self.scale < 0 else F.interpolate(x, scale_factor=2.0, mode="nearest")
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)
        if self.scale < 0:
            return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])
        return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=x.shape[1])


class Attention(nn.Module):
    """Self-attention over pixels, one head, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalisation(channels)
        self.qkv = convolution(channels, 3 * channels, 1, gain=math.sqrt(0.1))
        self.out = convolution(channels, channels, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, c, h * w).mT.unbind(1)  # [N, HW, C]
        mixed = F.scaled_dot_product_attention(q, k, v)
        return (x + self.out(mixed.mT.reshape(n, c, h, w))) * ROOT_HALF


class Block(nn.Module):
    """BigGAN's residual block: norm, SiLU, (resample), convolution, plus embedding, norm, SiLU, dropout, convolution."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float, attention: bool, scale: int, smooth: bool) -> None:
        super().__init__()
        self.resample = Resample(scale, smooth) if scale else nn.Identity()
        self.norm0, self.conv0 = normalisation(inputs), convolution(inputs, outputs)
        self.embed = initialised(nn.Linear(embedding, outputs))
        self.norm1, self.dropout, self.conv1 = normalisation(outputs), nn.Dropout(dropout), convolution(outputs, outputs, gain=0.0)
        self.skip = convolution(inputs, outputs, 1) if inputs != outputs or scale else nn.Identity()
        self.attention = Attention(outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(self.resample(F.silu(self.norm0(x)))) + self.embed(embedding)[:, :, None, None]
        h = self.conv1(self.dropout(F.silu(self.norm1(h))))
        return self.attention((self.skip(self.resample(x)) + h) * ROOT_HALF)


class Waves(nn.Module):
    """A number as sines and cosines: fixed frequencies from 1 down to 1e-4 (DDPM++), or random normal ones times 16 (NCSN++)."""

    frequencies: Tensor

    def __init__(self, channels: int, random: bool) -> None:
        super().__init__()
        half = channels // 2
        frequencies = torch.randn(half) * 16 * 2 * math.pi if random else 1e-4 ** (torch.arange(half) / max(half - 1, 1))
        self.register_buffer("frequencies", frequencies.float(), persistent=random)

    def forward(self, value: Tensor) -> Tensor:
        angle = value.float()[:, None] * self.frequencies  # [N, half]
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class WarmNet(nn.Module):
    """A two-headed U-Net: ``net(x, noise, blur, labels, augment)`` gives ``[N, 2C, H, W]``, head of the blurred image first.

    It is the raw network: `warmdiff.Denoiser` adds the preconditioning. Any H and W: sides that the coarsest resolution does not divide are
    padded by repeating the edge, and cropped again.

    Args of a call:
        x: ``[N, C, H, W]``, of about unit variance.
        noise: ``[N]``, the noise level's embedding coordinate (``c_noise``, ln(beta) / 4).
        blur: ``[N]``, the blur level's coordinate; needed if and only if ``config.blur_input``.
        labels: ``[N, classes]`` one-hot rows, or None or rows of zeros for images of no stated class.
        augment: ``[N, 9]`` augmentation labels, or None for images as they are.

    Raises:
        ValueError: x has another shape, or an input that the config does not have is given (or the reverse for ``blur``).

    Example:
        >>> net = warmdiff.WarmNet(warmdiff.NetworkConfig(image_channels=1, channels=8, multipliers=(1, 2), blocks=1, attention=()))
        >>> net(torch.randn(2, 1, 9, 7), torch.zeros(2)).shape
        torch.Size([2, 2, 9, 7])
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = c = config
        smooth, levels = c.family == "ncsnpp", len(c.multipliers)
        waves, width = c.channels * (2 if smooth else 1), 4 * c.channels
        self.waves = Waves(waves, random=smooth)
        self.blur = nn.Linear(waves, waves, bias=False) if c.blur_input else None
        self.labels = nn.Linear(c.classes, waves, bias=False) if c.classes else None
        self.augment = nn.Linear(AUGMENT_LABELS, waves, bias=False) if c.augment else None
        self.mlp = nn.Sequential(initialised(nn.Linear(waves, width)), nn.SiLU(), initialised(nn.Linear(width, width)), nn.SiLU())

        def block(inputs: int, outputs: int, attention: bool = False, scale: int = 0) -> Block:
            return Block(inputs, outputs, width, c.dropout, attention, scale, smooth)

        channels, again = c.channels, c.image_channels
        self.first = convolution(again, channels)
        self.down, self.up, self.again = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips = [channels]
        for level, multiplier in enumerate(c.multipliers):
            stage = nn.ModuleList()
            if level:
                stage.append(block(channels, channels, scale=-1))
                skips.append(channels)
            if level and smooth:
                self.again.append(nn.Sequential(Resample(-1, smooth), convolution(again, channels)))
                again = channels
            for _ in range(c.blocks):
                stage.append(block(channels, c.channels * multiplier, level in c.attention))
                channels = c.channels * multiplier
                skips.append(channels)
            self.down.append(stage)
        self.middle = nn.ModuleList([block(channels, channels, attention) for attention in (True, False)])
        for level, multiplier in reversed(list(enumerate(c.multipliers))):
            stage = nn.ModuleList([block(channels, channels, scale=1)] if level < levels - 1 else [])
            for i in range(c.blocks + 1):
                stage.append(block(channels + skips.pop(), c.channels * multiplier, level in c.attention and i == c.blocks))
                channels = c.channels * multiplier
            self.up.append(stage)
        self.last = nn.Sequential(normalisation(channels), nn.SiLU(), convolution(channels, 2 * c.image_channels, gain=0.0))

    def embedding(self, noise: Tensor, blur: Tensor | None, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        """Everything but the image as one vector, ``[N, 4 * config.channels]``; arguments and errors are those of a call."""
        c = self.config
        if (blur is not None) != c.blur_input:
            raise ValueError(f"blur must be {'a tensor [N]' if c.blur_input else 'None'} for this network (blur_input={c.blur_input})")
        total = self.waves(noise)  # [N, waves]
        if self.blur is not None and blur is not None:
            total = total + self.blur(self.waves(blur))
        for name, given, factor in (("labels", labels, math.sqrt(c.classes)), ("augment", augment, 1.0)):
            layer: Any = getattr(self, name)
            if given is not None and layer is None:
                raise ValueError(f"{name} must be None: the network was made without {name}")
            if given is not None:
                total = total + layer(given.float() * factor)
        return self.mlp(total)

    def forward(
        self, x: Tensor, noise: Tensor, blur: Tensor | None = None, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        c = self.config
        if x.ndim != 4 or x.shape[1] != c.image_channels:
            raise ValueError(f"x must be [N, {c.image_channels}, H, W], got {list(x.shape)}")
        embedding = self.embedding(noise, blur, labels, augment)
        height, width = x.shape[-2:]
        step = 2 ** (len(c.multipliers) - 1)
        padding = (0, -width % step, 0, -height % step)
        if any(padding):
            x = F.pad(x, padding, mode="replicate")

        again = x
        h = self.first(x)
        skips = [h]
        stage: Any
        for level, stage in enumerate(self.down):
            for i, block in enumerate(stage):
                h = block(h, embedding)
                if self.again and level and i == 0:
                    h = again = (h + self.again[level - 1](again)) * ROOT_HALF
                skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for i, stage in enumerate(self.up):
            for j, block in enumerate(stage):
                resampling = i > 0 and j == 0
                h = block(h if resampling else torch.cat([h, skips.pop()], dim=1), embedding)
        return self.last(h)[..., :height, :width]
