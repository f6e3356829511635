"""The Triton sampler step in the interpreter, against the formulas in float64. bf16 stores truncate there: one more ulp."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import scipy.fft
import torch

import warmops
import warmops.triton as backend
from warmops.triton import launch
from warmops.triton.config import Config, step_config

module = importlib.import_module("warmops.triton.sampler_step")

F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
NAN = float("nan")
BOUND = {F64: 1e-14, F32: 3e-7, F16: 6e-4, BF16: 8e-3}
"""Relative L2 error of a sample."""
ALPHA_PAIRS = ((0.0, 0.0), (0.0, 0.3), (0.2, 0.37), (0.5, 3.0), (2.0, 40.0))


@pytest.fixture(params=["fused", "two-pass"])
def form(request, monkeypatch):
    """Both forms at sizes where only one would be chosen."""
    if request.param == "two-pass":
        two_pass = Config(False, 4, 1, "tf32x3", block_rows=32, block_columns=32, block_inner=32)
        monkeypatch.setattr(module, "step_config", lambda *_: two_pass)
    return request.param


def randn(shape, dtype, rng):
    return torch.randn(shape, dtype=F64, generator=rng).to(dtype)


def coefficients(rng, terms=(1.0, 1.0, 1.0)):
    """[5, 14], one row for each pair of levels; terms: factors of k1, k2 and k3."""
    table = torch.randn(len(ALPHA_PAIRS), 14, dtype=F64, generator=rng)
    table[:, 5], table[:, 8] = torch.tensor(ALPHA_PAIRS, dtype=F64).T
    table[:, 4], table[:, 6] = terms[0] * table[:, 4], terms[1] * table[:, 6]
    table[:, 7] *= terms[2] * table[:, 8] ** 2 + (table[:, 8] == 0)  # as in a drift, alpha times its rate
    return table


def exact(x, head_b, head_r, slope, table):
    """(next state, slope), and of each the size of what is added up in it: [N, ...], float64 NumPy."""
    x, head_b, head_r, slope = (0.0 if t is None else t.double().numpy() for t in (x, head_b, head_r, slope))
    table = table.numpy() if isinstance(table, torch.Tensor) else np.array([table] * len(x))
    skip, out_b, out_r, k0, k1, alpha1, k2, k3, alpha2, a, b, g, p, q = (c.reshape(-1, *[1] * (x.ndim - 1)) for c in table.T)
    x0 = skip * x + out_b * head_b + out_r * head_r
    h, w = ((np.pi * np.arange(n) / n) ** 2 for n in x.shape[-2:])
    eigenvalues = h[:, None] + w
    parts = [
        k0 + 0 * eigenvalues,
        k1 * np.exp(-eigenvalues * alpha1**2 / 2),
        (k2 + k3 * eigenvalues) * np.exp(-eigenvalues * alpha2**2 / 2),
    ]
    y = scipy.fft.idctn(sum(parts) * scipy.fft.dctn(x0, axes=(-2, -1), norm="ortho"), axes=(-2, -1), norm="ortho")
    size = sum(abs(part).max(axis=(-2, -1), keepdims=True) for part in parts)
    size = size * (abs(skip * x) + abs(out_b * head_b) + abs(out_r * head_r))
    state = abs(a * x) + abs(b) * size + abs(g * slope)
    return (a * x + b * y + g * slope, p * x + q * y), (state, abs(p * x) + abs(q) * size)


def run(x, head_b, head_r, slope, table, return_slope=True):
    """(next state, slope), checked to be written whole and nowhere else."""
    buffers = [torch.full((x.numel() + 64,), NAN, dtype=x.dtype) for _ in range(2)]
    results = [b[32 : 32 + x.numel()].view(x.shape) for b in buffers]
    backend.sampler_step(x, head_b, head_r, slope, table, results[0], results[1] if return_slope else None)
    for buffer in buffers:
        assert buffer[:32].isnan().all() and buffer[-32:].isnan().all()
    assert return_slope or buffers[1].isnan().all()
    return results


def assert_close(values, wanted, sizes):
    """Random coefficients may cancel anything: errors relative to what is added up, not to what is left."""
    for value, want, size in zip(values, wanted, sizes, strict=False):
        assert not value.isnan().any()
        for got, w, s in zip(value.double().numpy(), want, size, strict=True):
            assert np.linalg.norm(got - w) <= BOUND[value.dtype] * np.linalg.norm(s)


@pytest.mark.parametrize("terms", [(1, 1, 0), (0, 1, 1), (1, 1, 1), (0, 0, 1), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 8), (13, 7), (12, 20), (31, 33), (32, 32)], ids=str)
def test_every_term(size, terms, form, rng):
    x, head_b, head_r, slope = (randn((len(ALPHA_PAIRS), 2, *size), F32, rng) for _ in range(4))
    table = coefficients(rng, terms)
    assert_close(run(x, head_b, head_r, slope, table), *exact(x, head_b, head_r, slope, table))


@pytest.mark.parametrize("size", [(64, 64), (45, 64), (48, 33), (128, 128), (72, 10), (97, 101)], ids=str)
def test_larger(size, rng):
    assert step_config(*size, F32).fused
    x, head_b, head_r, slope = (randn((2, 1, *size), F32, rng) for _ in range(4))
    table = coefficients(rng)[2:4]
    assert_close(run(x, head_b, head_r, slope, table), *exact(x, head_b, head_r, slope, table))


@pytest.mark.parametrize(
    ("dtype", "head"), [(F64, F64), (F64, F32), (F32, BF16), (F32, F16), (F16, F16), (BF16, BF16), (BF16, F32)], ids=str
)
@pytest.mark.parametrize("size", [(13, 7), (16, 40)], ids=str)
def test_every_dtype(size, dtype, head, form, rng):
    if dtype == F64 and form == "two-pass":
        pytest.skip("float64 takes two passes by itself, with blocks of its own")
    shape = (len(ALPHA_PAIRS), 1, *size)
    x, slope = randn(shape, dtype, rng), randn(shape, dtype, rng)
    head_b, head_r = randn(shape, head, rng), randn(shape, head, rng)
    table = coefficients(rng)
    assert_close(run(x, head_b, head_r, slope, table), *exact(x, head_b, head_r, slope, table))


def test_what_is_absent(form, rng):
    x, head_b, head_r, slope = (randn((len(ALPHA_PAIRS), 2, 8, 12), F32, rng) for _ in range(4))
    table = coefficients(rng)
    for given in ((None, None, None), (head_b, None, None), (None, head_r, slope), (head_b, head_r, None)):
        assert_close(run(x, *given, table, return_slope=False)[:1], *exact(x, *given, table))


def test_the_same_coefficients_for_all(form, rng):
    x, head_b, head_r, slope = (randn((3, 2, 8, 12), F32, rng) for _ in range(4))
    for row in coefficients(rng):
        numbers = tuple(row.tolist())
        want = run(x, head_b, head_r, slope, row.expand(3, 14).contiguous())
        assert all(map(torch.equal, run(x, head_b, head_r, slope, numbers), want))
        assert_close(want, *exact(x, head_b, head_r, slope, numbers))


LAYOUTS = {
    "channels last": lambda t: t.clone(memory_format=torch.channels_last),
    "transposed": lambda t: t.mT.contiguous().mT,
    "every second column": lambda t: t.repeat_interleave(2, dim=3)[..., ::2],
    "window": lambda t: torch.nn.functional.pad(t, (4, 8, 1, 1, 1, 0))[:, 1:, 1:-1, 4:-8],
    "halves of one output": lambda t: torch.cat([t, t], dim=1)[:, t.shape[1] :],
}


@pytest.mark.parametrize("size", [(8, 16), (9, 7)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, size, form, rng):
    place = LAYOUTS[layout]
    tensors = [randn((2, 2, *size), F32, rng) for _ in range(4)]
    table = coefficients(rng)[2:4]
    want = run(*tensors, table)
    results = [place(torch.full_like(tensors[0], NAN)) for _ in range(2)]
    backend.sampler_step(*map(place, tensors), table, *results)
    assert all(map(torch.equal, results, want))


def test_batch_dimensions_that_no_stride_walks(form, rng):
    tensors = [randn((1, 2, 3, 8, 12), F32, rng) for _ in range(4)]
    table = coefficients(rng)[3:4]
    want = run(*tensors, table)
    odd = [t.permute(0, 2, 1, 3, 4).contiguous().permute(0, 2, 1, 3, 4) for t in tensors]
    assert launch.strides_of(odd[0], 4) is None
    assert all(map(torch.equal, run(*odd, table), want))


@pytest.mark.parametrize("bad", [NAN, math.inf], ids=str)
def test_bad_coefficients_poison_their_sample_only(bad, form, rng):
    """Each of the 14 coefficients in a sample of its own, a good sample on either side of them."""
    tensors = [randn((16, 1, 8, 8), F32, rng) for _ in range(4)]
    table = coefficients(rng)[[3]].repeat(16, 1)
    good = run(*tensors, table)
    table[range(1, 15), range(14)] = bad
    for got, want in zip(run(*tensors, table), good, strict=True):
        assert got[1:15].isnan().flatten(1).all() and torch.equal(got[[0, 15]], want[[0, 15]])


@pytest.mark.parametrize("column", [5, 8])
def test_negative_levels_poison(column, form, rng):
    tensors = [randn((1, 1, 8, 8), F32, rng) for _ in range(4)]
    table = coefficients(rng)[3:4].contiguous()
    table[0, column] = -0.5
    assert all(t.isnan().all() for t in run(*tensors, table))


@pytest.mark.parametrize("bnr", [0.0, 0.5, 10.0])
@pytest.mark.parametrize("ends", [(80.0, 57.8), (1.0, 0.6), (0.003, 0.002), (0.002, 0.0)], ids=str)
def test_the_public_function(ends, bnr, rng):
    """Each method, as a sampler calls it, against the reference: the state to 3e-7."""
    beta, beta_next = ends
    shape = (2, 3, 16, 12)
    x, heads = beta * randn(shape, F32, rng) + randn(shape, F32, rng), randn((2, 6, 16, 12), F32, rng)
    levels = (bnr * beta, beta, bnr * beta_next, beta_next)
    methods = ["ddim", "euler"] + ["heun"] * (beta_next > 0)
    for method in methods:
        options = {"method": method, "c_skip": 0.3, "c_out": (0.7, 0.2)}
        if method == "heun":
            options["slope"] = warmops.sampler_step(x, heads, *levels, method="euler", return_slope=True, backend="reference")[1]
        wide = options | ({"slope": options["slope"].double()} if "slope" in options else {})
        want = warmops.sampler_step(x.double(), heads.double(), *levels, **wide, backend="reference")
        got = warmops.sampler_step(x, heads, *levels, **options, backend="triton")
        assert_close([got], [want.numpy()], [want.numpy()])


def test_no_blur_is_plain_edm(form, rng):
    """Where nothing is blurred the step is EDM's, with one multiplication for each factor: no transform at all."""
    x, heads = randn((2, 1, 8, 8), F32, rng), randn((2, 1, 8, 8), F32, rng)
    got = warmops.sampler_step(x, heads, 0.0, 1.0, 0.0, 0.5, method="euler", backend="triton")
    assert torch.equal(got, 0.5 * x + 0.5 * heads)
