"""The Triton backend: kernels and their launchers.

The launchers take checked arguments and only write ``out`` and ``blurred``; a sample whose level, in a tensor, is negative
or NaN comes out as NaN, since checking it would wait for the GPU.
"""

from __future__ import annotations

import torch

from warmops.triton.blur_noise import blur_noise
from warmops.triton.launch import compute_capability, interpreted
from warmops.triton.normal import normal
from warmops.triton.sampler_step import sampler_step

__all__ = ["blur_noise", "can_run", "normal", "sampler_step"]


def can_run(device: torch.device) -> str | None:
    """Why these kernels cannot run on tensors of ``device``, or None if they can."""
    if interpreted():
        return None if device.type in ("cpu", "cuda") else f"Triton's interpreter takes CPU tensors, got {device}"
    if device.type != "cuda":
        return f"Triton kernels run on CUDA devices (or with TRITON_INTERPRET=1 on the CPU), got {device}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if torch.version.cuda is not None and compute_capability(device) < (8, 0):
        return f"compute capability 8.0 or newer is needed, {device} has {'.'.join(map(str, compute_capability(device)))}"
    return None
