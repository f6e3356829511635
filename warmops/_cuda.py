"""Launchers of the CUDA C++ kernels in ``csrc/cuda``."""

from __future__ import annotations

import torch
from torch import Tensor

from warmops import _C
from warmops._cpu import _seed, _view


def normal(out: Tensor, seed: int | Tensor) -> None:
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream(out.device).cuda_stream
        _C.normal_cuda(_view(out), out.shape, _seed(seed), stream)
