"""Random numbers that belong to a place in a run, not to a generator's state.

Each image of a run has a position in the endless stream of images. What is random about it (noise, noise level, hidden class, augmentation)
is a function of the run's seed, the purpose and that position, so it depends neither on the number of processes, nor on the device, nor on
where a run was interrupted.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

import warmops


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
