"""What is random about an image in training: its noise and levels, and the augmentation that the network is told of.

Each image of a run has a position in the endless stream of images. What is random about it is a function of the run's seed, the purpose
and that position, so it depends neither on the number of processes, nor on the device, nor on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import warmops
from warmdiff.config import TrainConfig

SCALE = 0.2  # standard deviation of the logarithm, base 2, of scale and of anisotropy
SHIFT = 0.125  # standard deviation of the translation, in image sides


def seeds(run_seed: int, purpose: str, positions: Tensor) -> Tensor:
    """One int64 seed for each position ``[N]``: consecutive numbers from a hash of the run's seed and the purpose."""
    digest = hashlib.blake2b(f"{run_seed}/{purpose}".encode(), digest_size=8).digest()
    return positions + int.from_bytes(digest, "little", signed=True)  # int64 wraps around


def normals(run_seed: int, purpose: str, positions: Tensor, count: int) -> Tensor:
    """Standard normal numbers ``[N, count]``, float64 on the CPU, the same bits on any machine and at any batch size."""
    return warmops.normal((len(positions), count), seeds(run_seed, purpose, positions.cpu()), dtype=torch.float64, device="cpu")


def uniforms(run_seed: int, purpose: str, positions: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1], ``[N, count]``, float64 on the CPU."""
    return torch.special.ndtr(normals(run_seed, purpose, positions, count))


class Levels(NamedTuple):
    """What is random about images, float64 ``[N]`` on the CPU: noise level, blur level, and a number in [0, 1]."""

    beta: Tensor
    alpha: Tensor
    label_chance: Tensor


def draw_levels(config: TrainConfig, positions: Tensor) -> Levels:
    """``ln beta ~ N(level_mean, level_std^2)`` [EDM, table 1]; alpha = bnr beta, ln bnr uniform over a range if there is one."""
    chance = uniforms(config.seed, "levels", positions, 2)
    beta = torch.exp(config.level_mean + config.level_std * normals(config.seed, "beta", positions, 1)[:, 0])
    spread = 1.0 if config.bnr_max is None else (config.bnr_max / config.bnr) ** chance[:, 1]
    return Levels(beta, config.bnr * spread * beta, chance[:, 0])


def augment(images: Tensor, probability: float, run_seed: int, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Changes each image by its own random amounts; non-leaky, as the network is told, and told "nothing" when it samples.

    Flips, scale, rotation, anisotropic scale and translation [Karras et al., EDM, NeurIPS 2022, appendix F.2 and table 6]. A horizontal
    flip comes every second time; each of the others with the given probability. Outside of an image its mirror image is seen. An image
    that nothing but flips happened to keeps its bits.

    Args:
        images: ``[N, C, H, W]``, floating point.
        probability: of each augmentation, in (0, 1].
        run_seed, positions ``[N]``: decide the random numbers.

    Returns:
        The images, and labels ``[N, 9]``: flip x, flip y, scale, cos - 1 and sin of the rotation, the anisotropy (its logarithm
        times cosine and sine of twice its axis), translation x and y. All zeros: nothing was done.
    """
    amount = normals(run_seed, "augment amount", positions, 4)  # [N, 4]
    chance = uniforms(run_seed, "augment chance", positions, 8)  # [N, 8]
    on = (chance[:, :5] < probability).double()  # flip y, scale, rotation, anisotropy, translation
    flip_x, flip_y = (chance[:, 5] < 0.5).double(), on[:, 0] * (amount[:, 0] < 0)
    scale = on[:, 1] * amount[:, 1]
    angle = on[:, 2] * (2 * chance[:, 6] - 1) * math.pi
    stretch, axis = on[:, 3] * normals(run_seed, "augment stretch", positions, 1)[:, 0], (2 * chance[:, 7] - 1) * math.pi / 2
    shift = on[:, 4:5] * amount[:, 2:4]  # [N, 2]
    along, across = stretch * (2 * axis).cos(), stretch * (2 * axis).sin()
    labels = torch.stack([flip_x, flip_y, scale, angle.cos() - 1, angle.sin(), along, across, *shift.unbind(1)], dim=1)

    # grid_sample wants the map from the result back to the source.
    matrix = rotation(axis) @ torch.diag_embed(torch.exp2(torch.stack([-SCALE * stretch, SCALE * stretch], dim=1))) @ rotation(-axis)
    matrix = torch.exp2(-SCALE * scale)[:, None, None] * (matrix @ rotation(-angle))
    sides = torch.tensor(images.shape[:1:-1], dtype=torch.float64)  # width, height
    offset = -(matrix @ (SHIFT * sides * shift)[:, :, None])  # pixels
    theta = torch.cat([matrix * (sides[None, None, :] / sides[None, :, None]), offset * 2 / sides[:, None]], dim=2)  # [-1, 1] coordinates

    result = choose(flip_x, images.flip(3), images)
    result = choose(flip_y, result.flip(2), result)
    moved = labels[:, 2:].any(1)
    if moved.any():
        grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
        result = choose(moved, F.grid_sample(result, grid, "bicubic", "reflection", align_corners=False), result)
    return result, labels.to(images)


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.bool().to(yes.device)[:, None, None, None], yes, no)


def rotation(angle: Tensor) -> Tensor:
    """``[N, 2, 2]``."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, -s, s, c], dim=1).unflatten(1, (2, 2))
