"""Poisson's equation in a box with insulating walls (Neumann), solved exactly by one DCT, one division and one inverse.

python examples/poisson.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import warmops


def solve_poisson(f: Tensor, spacing: float = 1.0) -> Tensor:
    """The ``u`` with ``laplacian(u) = f - mean(f)``, no flux through the walls, and mean zero.

    f: ``[..., H, W]``, values at the centres of square cells of side ``spacing``; the Laplacian is the five-point
    stencil, whose eigenvectors with these walls are the DCT-II's (so the result is exact for the stencil, to rounding).
    """
    h, w = f.shape[-2:]
    eigenvalues = [(2.0 * torch.cos(torch.arange(n, device=f.device, dtype=torch.float64) * math.pi / n) - 2.0) for n in (h, w)]
    denominator = (eigenvalues[0].unsqueeze(1) + eigenvalues[1]) / spacing**2  # [H, W], zero for the mean alone
    denominator[0, 0] = math.inf  # the mean of u is free: zero; that of f cannot be met
    return warmops.idct2(warmops.dct2(f) / denominator.to(f.dtype))


def laplacian(u: Tensor, spacing: float = 1.0) -> Tensor:
    """Five-point stencil ``[..., H, W]``; a wall mirrors the cell beside it."""
    rows = torch.cat([u[..., :1, :], u, u[..., -1:, :]], dim=-2)
    columns = torch.cat([u[..., :1], u, u[..., -1:]], dim=-1)
    return (rows[..., 2:, :] + rows[..., :-2, :] + columns[..., 2:] + columns[..., :-2] - 4.0 * u) / spacing**2


def main() -> None:
    """A source and a sink in a box: the residual is rounding, and a finer grid comes closer to the true solution."""
    f = torch.zeros(100, 128, dtype=torch.float64)
    f[20, 30], f[70, 100] = 1.0, -1.0
    print(f"source and sink on 100 x 128 cells: residual {(laplacian(solve_poisson(f)) - f).abs().max():.1e}")
    for n in (16, 32, 64, 128):
        x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        true = torch.cos(math.pi * x).unsqueeze(1) * torch.cos(2 * math.pi * x)
        u = solve_poisson(-5 * math.pi**2 * true, spacing=1.0 / n)
        print(f"cos(pi x) cos(2 pi y) on {n} x {n} cells: largest error {(u - true).abs().max():.2e}")


if __name__ == "__main__":
    main()
