"""Forked processes: OpenMP's threads do not survive a fork, and a parallel operation of torch would wait for them forever.

torch's own data loading workers use one thread for that reason. The C++ kernels see to it themselves (csrc/bindings.cpp); what
runs in plain torch operations goes through here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch

_here: dict[str, bool] = {"forked": False}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _here.update(forked=True))


def alone_after_fork(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which in a forked process lets torch use the calling thread only, for as long as it runs."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        threads = torch.get_num_threads() if _here["forked"] else 1
        if threads == 1:
            return function(*arguments)
        torch.set_num_threads(1)
        try:
            return function(*arguments)
        finally:
            torch.set_num_threads(threads)

    return call
