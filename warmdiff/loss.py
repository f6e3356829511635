"""The loss of both heads, from one pass of the forward process."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import warmops
from warmdiff.config import TrainConfig
from warmdiff.denoiser import one_hot, process_of, run_network
from warmdiff.draws import augment, draw_levels, seeds
from warmdiff.preconditioning import Preconditioning
from warmdiff.spectrum import DataSpectrum


class StepInputs(NamedTuple):
    """What a batch brings to the device: images in [-1, 1], levels (float64 ``[N]``), the noise's seeds, one-hot classes, augmentations."""

    x0: Tensor
    alpha: Tensor
    beta: Tensor
    seeds: Tensor
    classes: Tensor | None = None
    told: Tensor | None = None


class TwoHeadLoss:
    """Weighted squared errors of both heads: each image's are means over its elements of ``|error|^2 / c_out^2``.

    The network sees ``c_in x_t`` and its heads are compared with ``(target - c_skip x_t) / c_out``, which is the same and loses
    no digits at small levels. ``x_t``, scaled, and the first target ``A x_0`` come from one call of `warmops.blur_noise`.
    """

    def __init__(self, config: TrainConfig, spectrum: DataSpectrum, classes: int) -> None:
        self.config, self.classes = config, classes if config.conditional else 0
        self.preconditioning = Preconditioning(process_of(config), spectrum)

    def __call__(self, net: nn.Module, images: Tensor, labels: Tensor | None, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of the blurred image and of the residual, float32 ``[N]`` each, of uint8 images ``[N, C, H, W]`` on the network's device.

        labels: int64 ``[N]``, or None. positions: int64 ``[N]``, places in the stream of images, which decide all random numbers.
        """
        return self.losses(net, self.inputs(images, labels, positions))

    def inputs(self, images: Tensor, labels: Tensor | None, positions: Tensor) -> StepInputs:
        """All that is drawn or decided on the CPU; arguments as in a call."""
        config, device = self.config, images.device
        levels = draw_levels(config, positions)
        x0, told, classes = images.float() / 127.5 - 1.0, None, None
        if config.augment > 0:
            x0, told = augment(x0, config.augment, config.seed, positions)
        if self.classes:
            hidden = torch.full_like(positions, -1)
            shown = hidden if labels is None else torch.where(levels.label_chance < config.label_dropout, hidden, labels.cpu())
            classes = one_hot(shown, self.classes).to(device)
        noise = seeds(config.seed, "noise", positions).to(device)
        return StepInputs(x0, levels.alpha.to(device), levels.beta.to(device), noise, classes, told)

    def losses(self, net: nn.Module, inputs: StepInputs) -> tuple[Tensor, Tensor]:
        """The losses of a call; a function of tensors on the device alone."""
        x0, alpha, beta, noise, classes, told = inputs
        s = self.preconditioning(beta, alpha=alpha)
        x_in, blurred = warmops.blur_noise(x0, alpha, beta, seed=noise, scale=s.c_in, return_blurred=True)
        head_b, head_r = run_network(net, self.config, x_in, s.c_noise, alpha, classes, told).float().chunk(2, dim=1)

        def loss(head: Tensor, target: Tensor, skip: Tensor, out: Tensor) -> Tensor:
            scale = torch.where(out > 0, 1.0 / out, 0.0).view(-1, 1, 1, 1)  # without blur there is no residual, and its head is off
            wanted = scale * (target - (skip / s.c_in).view(-1, 1, 1, 1) * x_in)
            return (head * (scale > 0) - wanted).square().mean(dim=(1, 2, 3))

        detail = loss(head_r, x0 - blurred, s.c_skip_residual, s.c_out_residual)
        return loss(head_b, blurred, s.c_skip_blurred, s.c_out_blurred), detail
