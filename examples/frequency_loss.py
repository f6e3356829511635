"""A loss that weighs errors by their frequency: squared error in the DCT domain, where blur is what it costs most.

python examples/frequency_loss.py
"""

from __future__ import annotations

import torch
from torch import Tensor

import warmops


def frequency_loss(prediction: Tensor, target: Tensor, power: float = 1.0) -> Tensor:
    """Mean over frequencies of ``(1 + |k|)^power`` times the squared error; ``power = 0`` is the mean squared error.

    prediction, target: ``[..., H, W]``; ``|k|`` counts half waves over the image. A scalar, differentiable to any order.
    """
    h, w = prediction.shape[-2:]
    rows, columns = torch.arange(h, device=target.device), torch.arange(w, device=target.device)
    weight = (1.0 + torch.hypot(rows.unsqueeze(1).to(target.dtype), columns.to(target.dtype))) ** power  # [H, W]
    return (weight * warmops.dct2(prediction - target, norm="ortho").square()).mean()


def main() -> None:
    """Restore a blurred image by gradient descent: the weight brings its fine detail back first."""
    torch.manual_seed(0)
    target = torch.rand(1, 1, 32, 32)
    for power in (0.0, 1.0):
        image = warmops.blur(target, 1.0).requires_grad_()
        optimizer = torch.optim.SGD([image], lr=10.0)
        for _ in range(20):
            optimizer.zero_grad()
            frequency_loss(image, target, power).backward()
            optimizer.step()
        error = warmops.dct2((image - target).detach(), norm="ortho").square()
        print(
            f"power {power:g}: squared error after 20 steps, coarse {error[..., :8, :8].sum():.4f}, fine {error[..., 16:, 16:].sum():.4f}"
        )


if __name__ == "__main__":
    main()
