"""Non-leaky augmentation: the network is told what was done to an image, and is told "nothing" when it samples.

After Karras et al., *EDM*, appendix F.2 and table 6: flips, scale, rotation, anisotropic scale and translation, described by nine numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from warmdiff.randomness import normals, uniforms

SCALE = 0.2  # standard deviation of the logarithm, base 2, of scale and of anisotropy
SHIFT = 0.125  # standard deviation of the translation, in image sides


def augment(images: Tensor, probability: float, run_seed: int, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Changes each image by its own random amounts.

    A horizontal flip comes every second time; each of the others with the given probability. Outside of an image its mirror
    image is seen. An image that nothing but flips happened to keeps its bits.

    Args:
        images: ``[N, C, H, W]``, floating point.
        probability: of each augmentation, in (0, 1].
        run_seed, positions ``[N]``: decide the random numbers, see randomness.py.

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

    height, width = images.shape[-2:]
    grow = torch.exp2(-SCALE * scale)  # grid_sample wants the map from the result back to the source
    matrix = rotation(axis) @ torch.diag_embed(torch.exp2(torch.stack([-SCALE * stretch, SCALE * stretch], dim=1))) @ rotation(-axis)
    matrix = grow[:, None, None] * (matrix @ rotation(-angle))
    sides = torch.tensor([width, height], dtype=torch.float64)
    offset = -(matrix @ (SHIFT * sides * shift)[:, :, None])  # pixels
    theta = torch.cat([matrix * (sides[None, None, :] / sides[None, :, None]), offset * 2 / sides[:, None]], dim=2)  # [-1, 1] coordinates

    result = choose(flip_x, images.flip(3), images)
    result = choose(flip_y, result.flip(2), result)
    moved = (torch.cat([torch.stack([scale, angle, stretch], dim=1), shift], dim=1) != 0).any(1)
    if moved.any():
        grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
        warped = F.grid_sample(result, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        result = choose(moved, warped, result)
    return result, labels.to(images)


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.bool().to(yes.device)[:, None, None, None], yes, no)


def rotation(angle: Tensor) -> Tensor:
    """``[N, 2, 2]``."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s], dim=1), torch.stack([s, c], dim=1)], dim=1)
