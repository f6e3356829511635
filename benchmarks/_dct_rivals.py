"""The orthonormal DCT-II as people compute it without warmops, and as warmops does: every contestant of bench_dct.py.

A step is `step(x) -> y` on ``x [batch, n]`` (one axis) or ``[batch, n, n]`` (two axes); tables and buffers are made before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _contest import Build, Contestant, Step, WrongAnswer
from _extras import optional, require, transforms
from _ours import current_isa, isas, resolved_backend, under_isa
from _rivals import dct_basis, wide
from torch import Tensor

import warmops

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # relative L2
COMPARED = 8  # samples of the batch, spread over it: float64 transforms of all would take longer than the benchmark
KRONECKER = 16  # up to this n two axes are also tried as one product with a matrix of n^2 x n^2


def axes_of(x: Tensor) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def verify(contestant: Contestant, variant: str, step: Step, x: Tensor) -> float | None:
    """Relative L2 error against SciPy in float64; raises `WrongAnswer`."""
    label = f"{contestant.name} ({variant})" if variant else contestant.name
    picked = torch.linspace(0, len(x) - 1, min(COMPARED, len(x)), device=x.device).long()
    got = step(x)
    if contestant.kind == "floor":
        if not torch.equal(got, x):
            raise WrongAnswer(f"{label}: not a copy")
        return None
    if got.shape != x.shape or got.dtype != x.dtype:
        raise WrongAnswer(f"{label}: shape {tuple(got.shape)} and {got.dtype} instead of {tuple(x.shape)} and {x.dtype}")
    truth = torch.from_numpy(transforms().dctn(x[picked].double().cpu().numpy(), axes=axes_of(x), norm="ortho"))
    error = float((got[picked].double().cpu() - truth).norm() / truth.norm())
    if not error <= TOLERANCE[x.dtype]:
        raise WrongAnswer(f"{label}: relative error {error:.2e}, allowed {TOLERANCE[x.dtype]:.0e}")
    return error


# --- warmops -------------------------------------------------------------------------------------------------------


def ours(backend: str | None, isa: str | None = None) -> Build:
    def build(x: Tensor) -> Step:
        out, transform = torch.empty_like(x), warmops.dct if x.ndim == 2 else warmops.dct2

        def step(x: Tensor) -> Tensor:
            return transform(x, norm="ortho", out=out, backend=backend)

        return step if isa is None else under_isa(isa, step)

    return build


# --- matrix products -----------------------------------------------------------------------------------------------


def rows_then_columns(x: Tensor) -> Step:
    """``C @ (X @ C^T)`` into buffers; one axis: ``X @ C^T``."""
    matrix = dct_basis(x.shape[-1], x)
    transposed, first, second = matrix.t().contiguous(), torch.empty_like(x), torch.empty_like(x)
    n = x.shape[-1]

    def step(x: Tensor) -> Tensor:
        torch.mm(x.view(-1, n), transposed, out=first.view(-1, n))
        return first if x.ndim == 2 else torch.matmul(matrix, first, out=second)

    return step


def rows_twice(x: Tensor) -> Step:
    """The same with two large products and a transposing copy in between; the result is a transposed view."""
    n = x.shape[-1]
    transposed, first, second = dct_basis(n, x).t().contiguous(), torch.empty_like(x), torch.empty_like(x)

    def step(x: Tensor) -> Tensor:
        torch.mm(x.view(-1, n), transposed, out=first.view(-1, n))
        torch.mm(first.mT.reshape(-1, n), transposed, out=second.view(-1, n))
        return second.mT

    return step


def kronecker(x: Tensor) -> Step:
    """Both axes as one product with ``C (x) C``."""
    matrix = dct_basis(x.shape[-1], x.double())
    both = torch.kron(matrix, matrix).t().contiguous().to(x.dtype)
    out = torch.empty_like(x)
    return lambda x: torch.mm(x.view(len(x), -1), both, out=out.view(len(x), -1)).view(x.shape)


def compiled(form: Callable[[Tensor, Tensor], Tensor]) -> Build:
    def build(x: Tensor) -> Step:
        matrix = dct_basis(x.shape[-1], x)
        fast = torch.compile(form, dynamic=False, fullgraph=True)
        return lambda x: fast(matrix, x)

    return build


COMPILED_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "C @ (X @ C.T)": lambda c, x: c @ (x @ c.T),
    "(C @ X) @ C.T": lambda c, x: (c @ x) @ c.T,
    "twice X.T @ C.T": lambda c, x: ((x @ c.T).mT @ c.T).mT,
}


def products(x: Tensor) -> dict[str, Build]:
    if x.ndim == 2:
        return {"": rows_then_columns}
    forms: dict[str, Build] = {"rows then columns": rows_then_columns, "rows twice": rows_twice}
    return forms | {"Kronecker": kronecker} if x.shape[-1] <= KRONECKER else forms


# --- Fourier transforms --------------------------------------------------------------------------------------------


def _twiddles(n: int, like: Tensor) -> Tensor:
    """``exp(-i pi k / (2n))`` for k = 0..n/2, times the orthonormal weight."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    weight = torch.full_like(k, math.sqrt(2.0 / n))
    weight[0] = math.sqrt(1.0 / n)
    return torch.polar(weight, -math.pi * k / (2 * n)).to(like.device, torch.complex128 if like.dtype == torch.float64 else torch.complex64)


def _reordered(x: Tensor) -> Tensor:
    """Even elements, then the odd ones backwards [Makhoul, IEEE Trans. ASSP 28(1), 1980]."""
    return torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)


def _real_parts(z: Tensor, n: int) -> Tensor:
    """``y_k = Re z_k`` and ``y_(n-k) = -Im z_k``."""
    return torch.cat([z.real, -z.imag[..., 1 : (n + 1) // 2].flip(-1)], -1)


def makhoul(x: Tensor) -> Step:
    """One real FFT per axis, over the last dimension; two axes give a transposed view."""
    n, twiddles = x.shape[-1], _twiddles(x.shape[-1], x)

    def along_rows(x: Tensor) -> Tensor:
        return _real_parts(torch.fft.rfft(_reordered(x)) * twiddles, n)

    return along_rows if x.ndim == 2 else lambda x: along_rows(along_rows(x).mT).mT


def makhoul_2d(x: Tensor) -> Step:
    """Both axes by one two-dimensional real FFT."""
    n, rows = x.shape[-1], _twiddles(x.shape[-1], x)
    k = torch.arange(n, dtype=torch.float64)
    weight = torch.full_like(k, math.sqrt(0.5 / n))
    weight[0] = math.sqrt(0.25 / n)
    columns = torch.polar(weight, -math.pi * k / (2 * n)).to(rows).unsqueeze(1)
    conjugate, mirrored = columns.conj().resolve_conj(), torch.arange(n, 0, -1, device=x.device) % n
    order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)]).to(x.device)

    def step(x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(_reordered(x[:, order]))
        return _real_parts((columns * spectrum + conjugate * spectrum[:, mirrored]) * rows, n)

    return step


def scipy_step(workers: int) -> Build:
    fft = require("scipy.fft")
    return lambda x: lambda x: torch.from_numpy(np.asarray(fft.dctn(x.numpy(), axes=axes_of(x), norm="ortho", workers=workers)))


# --- the list ------------------------------------------------------------------------------------------------------


def widened(build: Build) -> Build:
    """The same on a float32 copy of half-precision numbers."""

    def build_widened(x: Tensor) -> Step:
        step = build(x.float())
        return lambda x: step(x.float()).to(x.dtype)

    return build_widened


def _by(module: Any, one: str, two: str, **options: Any) -> Build:
    def build(x: Tensor) -> Step:
        transform = getattr(module, one if x.ndim == 2 else two)
        return lambda x: transform(x, **options)

    return build


def contestants(x: Tensor, device: str, backend: str | None, forced: str | None, quick: bool) -> Iterator[Contestant]:
    """Everything that can transform ``x`` on the device, then the floor."""
    half = x.dtype != wide(x.dtype)

    def entry(name: str, variants: dict[str, Build], natively: bool = True) -> Contestant:
        if half:
            inside = {f"{variant}, float32 inside".removeprefix(", "): widened(build) for variant, build in variants.items()}
            variants = variants | inside if natively else inside
        return Contestant(name, "rival", variants)

    yield Contestant("warmops", "ours", {"": ours(backend)})
    native = device == "cpu" and resolved_backend(backend, device, "dct") == "cpu"
    if native and forced is None and "avx2" in isas() and current_isa() != "avx2":
        yield Contestant("warmops, AVX2 forced", "ours", {"": ours(backend, "avx2")})
    if device == "cpu":
        workers = {"one worker": scipy_step(1), "all workers": scipy_step(torch.get_num_threads())}
        yield entry("SciPy pocketfft", workers if torch.get_num_threads() > 1 else {"one worker": workers["one worker"]}, natively=False)
    if device == "cpu" or optional("torch_dct") is not None:
        yield entry("torch-dct", {"": _by(require("torch_dct"), "dct", "dct_2d", norm="ortho")}, natively=False)
    dctorch = optional("dctorch.functional")
    if dctorch is not None:
        variants = {"": _by(dctorch, "", "dct2")} if x.ndim == 3 else {"": lambda x: lambda x: dctorch.dct(x.unsqueeze(-1)).squeeze(-1)}
        yield entry("dctorch", variants)
    yield entry("matrix products", products(x))
    if not quick:
        forms = COMPILED_FORMS if x.ndim == 3 else {"X @ C.T": lambda c, x: x @ c.T}
        yield Contestant("matrix products, compiled", "rival", {name: compiled(form) for name, form in forms.items()})
    yield entry("rfft (Makhoul)", {"": makhoul} if x.ndim == 2 else {"axis by axis": makhoul, "rfft2": makhoul_2d}, natively=False)
    yield Contestant("torch.clone", "floor", {"": lambda x: lambda x: x.clone()})
