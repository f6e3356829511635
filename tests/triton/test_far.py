"""Elements billions apart: offsets of the kernels beyond 31 and 32 bits, in memory that exists where it is touched."""

from __future__ import annotations

import pytest
import torch
from _sparse_memory import far_strides, sparse

import warmops.triton as backend

# Strides that do not fit 31 or 32 bits, and one that does while its multiples do not.
STRIDES = {0: 2**32 + 3, 1: 2**31 + 11, 2: 2**30 + 5, 3: 2**32 + 3}


@pytest.mark.parametrize(("dim", "stride"), STRIDES.items(), ids=("samples", "channels", "rows", "columns"))
def test_far_elements(dim, stride, rng):
    shape = tuple(max(size, 2 if d == dim else 1) for d, size in enumerate((1, 1, 5, 6)))
    x, eps = (torch.rand(shape, generator=rng) for _ in range(2))
    strides, empty = far_strides(shape, dim, stride), torch.full(shape, torch.nan)
    level, seed = torch.tensor([0.7, 2.0])[: shape[0]], torch.tensor([3, 2**40])[: shape[0]]

    def far(t):
        return sparse(t, strides)

    for arguments in ((level, level, None, eps), (level, 0.5, seed, None))[: 2 if dim == 0 else 1]:
        want, blurred = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
        got, got_blurred = far(empty), far(empty)
        backend.blur_noise(x, *arguments, 1.0, want, blurred)
        alpha, beta, seeds, noise = arguments
        backend.blur_noise(far(x), alpha, beta, seeds, None if noise is None else far(noise), 1.0, got, got_blurred)
        assert want.isfinite().all() and torch.allclose(got, want, atol=1e-6) and torch.allclose(got_blurred, blurred, atol=1e-6)
    want, got = torch.full(shape, torch.nan), far(empty)
    backend.normal(want, seed)
    backend.normal(got, seed)
    assert torch.equal(got, want) and want.isfinite().all()
    table = tuple(float(v) for v in 0.1 + torch.rand(14, generator=rng))
    outs, fars = [torch.full(shape, torch.nan) for _ in range(2)], [far(empty) for _ in range(2)]
    backend.sampler_step(x, eps, x, eps, table, *outs)
    backend.sampler_step(far(x), far(eps), far(x), far(eps), table, *fars)
    assert all(a.isfinite().all() and torch.allclose(b, a, atol=1e-5) for a, b in zip(outs, fars, strict=True))
