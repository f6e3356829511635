"""The Triton backend: kernels and their launchers.

The launchers take checked arguments and only write ``out`` and ``blurred``; a sample whose level, in a tensor, is negative
or NaN comes out as NaN, since checking it would wait for the GPU.
"""

from __future__ import annotations

from warmops.triton.blur_noise import blur_noise
from warmops.triton.normal import normal
from warmops.triton.sampler_step import sampler_step

__all__ = ["blur_noise", "normal", "sampler_step"]
