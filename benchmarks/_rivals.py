"""How people blur and add noise without warmops: every rival, as strong as plain PyTorch and SciPy allow.

A step is `step(x, alpha, beta) -> x_t`; everything that depends on the levels is inside it, since levels change each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from _contest import Build, Contestant, Step
from _extras import optional, require
from torch import Tensor


def dct_basis(n: int, like: Tensor) -> Tensor:
    """Orthonormal DCT-II, ``[frequency, pixel]``, computed in float64."""
    k = torch.arange(n, dtype=torch.float64).unsqueeze(1)
    p = torch.arange(n, dtype=torch.float64).unsqueeze(0)
    basis = torch.cos(math.pi * k * (2 * p + 1) / (2 * n)) * math.sqrt(2.0 / n)
    basis[0] /= math.sqrt(2.0)
    return basis.to(like.device, like.dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    """float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def result_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype == torch.uint8 else x.dtype


def frequencies(n: int, like: Tensor) -> Tensor:
    return torch.arange(n, dtype=wide(like.dtype), device=like.device) * (math.pi / n)


def multiplier(alpha: Tensor, frequency: Tensor) -> Tensor:
    """``exp(-f^2 alpha^2 / 2)``, shape ``[N, n]``."""
    return torch.exp(-0.5 * (alpha.to(frequency.dtype).unsqueeze(1) * frequency) ** 2)


def as_float(x: Tensor) -> Tensor:
    """Images in float32 (float64 stays); uint8 is read as ``x / 127.5 - 1``."""
    if x.dtype == torch.uint8:
        return x.float().div_(127.5).sub_(1.0)
    return x.to(wide(x.dtype))


def working(x: Tensor) -> Tensor:
    """An empty tensor like `as_float(x)`."""
    return torch.empty_like(x, dtype=wide(x.dtype))


# --- noise ---------------------------------------------------------------------------------------------------------


def randn(buffer: Tensor) -> Callable[[], Tensor]:
    return buffer.normal_


def randn_in_threads(buffer: Tensor) -> Callable[[], Tensor]:
    """torch's serial CPU generator, one per thread: `normal_` releases the GIL."""
    threads = torch.get_num_threads()
    chunks = buffer.view(-1).chunk(threads)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(chunks))]
    pool = ThreadPoolExecutor(threads)

    def draw() -> Tensor:
        for _ in pool.map(lambda chunk, generator: chunk.normal_(generator=generator), chunks, generators):
            pass
        return buffer

    return draw


# --- two products --------------------------------------------------------------------------------------------------


def matrices_by_gemm(n: int, like: Tensor) -> Callable[[Tensor], Tensor]:
    """``B = V diag(m) V^T`` of every sample in one large product."""
    basis, frequency = dct_basis(n, like), frequencies(n, like)
    transposed = basis.t().contiguous()

    def build(alpha: Tensor) -> Tensor:
        m = multiplier(alpha, frequency).to(like.dtype)
        return ((transposed * m.unsqueeze(1)).view(-1, n) @ basis).view(-1, n, n)

    return build


def matrices_by_table(n: int, like: Tensor) -> Callable[[Tensor], Tensor]:
    """The same from one table per sample: ``B[p,q] = h(p-q) + h(p+q+1)``, Toeplitz plus Hankel, as strided views."""
    k = torch.arange(n, dtype=torch.float64).unsqueeze(1)
    r = torch.arange(2 * n, dtype=torch.float64).unsqueeze(0)
    weight = torch.full((n, 1), 1.0 / n, dtype=torch.float64)
    weight[0] = 0.5 / n
    table = (weight * torch.cos(math.pi * k * r / n)).to(like.device, wide(like.dtype))
    frequency = frequencies(n, like)

    def build(alpha: Tensor) -> Tensor:
        h = multiplier(alpha, frequency) @ table  # [N, 2n]
        both_sides = torch.cat([h[:, 1:n].flip(1), h[:, :n]], 1)  # h(|r|) for r = 1-n..n-1
        toeplitz = both_sides.as_strided((len(h), n, n), (2 * n - 1, 1, 1)).flip(1)
        return toeplitz.add_(h.as_strided((len(h), n, n), (2 * n, 1, 1), 1)).to(like.dtype)

    return build


def apply_by_broadcast(x: Tensor, rows: Tensor, columns: Tensor, buffer: Tensor, out: Tensor) -> Tensor:
    """The channels of a sample share one product along W; one product per channel along H."""
    n, h, w = x.shape[0], x.shape[-2], x.shape[-1]
    torch.bmm(x.view(n, -1, w), columns, out=buffer.view(n, -1, w))
    return torch.matmul(rows.unsqueeze(1), buffer.view(n, -1, h, w), out=out.view(n, -1, h, w)).view(x.shape)


def apply_by_permute(x: Tensor, rows: Tensor, columns: Tensor, buffer: Tensor, out: Tensor) -> Tensor:
    """The channels share both products; in between they are moved next to each other by a copy."""
    n, h, w = x.shape[0], x.shape[-2], x.shape[-1]
    torch.bmm(x.view(n, -1, w), columns, out=buffer.view(n, -1, w))
    side_by_side = buffer.view(n, -1, h, w).transpose(1, 2).reshape(n, h, -1)
    blurred = torch.bmm(rows, side_by_side)
    return blurred.view(n, h, -1, w).transpose(1, 2)


def two_products(matrices: Any, apply: Any, source: Any, dtype: torch.dtype | None = None, given: bool = False) -> Build:
    """Both products, arithmetic in ``dtype`` (default: x's own, float32 for uint8)."""

    def build(x: Tensor) -> Step:
        out_dtype = result_dtype(x)
        like = torch.empty_like(x, dtype=dtype or out_dtype)
        buffer, product, noise = torch.empty_like(like), torch.empty_like(like), torch.empty_like(like)
        draw = source(noise)
        h, w = x.shape[-2:]
        make_rows = matrices(h, like)
        make_columns = make_rows if h == w else matrices(w, like)
        level_shape = (-1,) + (1,) * (x.ndim - 1)
        known: list[tuple[Tensor, tuple[Tensor, Tensor]]] = []

        def matrices_of(alpha: Tensor) -> tuple[Tensor, Tensor]:
            if known and known[0][0] is alpha:
                return known[0][1]
            rows = make_rows(alpha)
            both = rows, rows if h == w else make_columns(alpha)
            if given:
                known[:] = [(alpha, both)]
            return both

        def step(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
            images = (as_float(x) if x.dtype == torch.uint8 else x).to(like.dtype)
            blurred = apply(images, *matrices_of(alpha), buffer, product)
            result = torch.addcmul(blurred, draw(), beta.view(level_shape).to(like.dtype), out=product)
            return result if like.dtype == out_dtype else result.to(out_dtype)

        return step

    return build


# --- four products -------------------------------------------------------------------------------------------------


def four_products(transpose: bool, source: Any, dtype: torch.dtype | None = None) -> Build:
    """DCT, scale, inverse DCT as products with the DCT matrix; ``transpose`` moves H last, so that all are large."""

    def build(x: Tensor) -> Step:
        out_dtype = result_dtype(x)
        like = torch.empty_like(x, dtype=dtype or out_dtype)
        first, second, noise = torch.empty_like(like), torch.empty_like(like), torch.empty_like(like)
        draw = source(noise)
        h, w = x.shape[-2:]
        to_h, to_w = dct_basis(h, like), dct_basis(w, like)
        from_h, from_w = to_h.t().contiguous(), to_w.t().contiguous()
        freq_h, freq_w = frequencies(h, x), frequencies(w, x)
        level_shape = (-1,) + (1,) * (x.ndim - 1)

        def step(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
            images = (as_float(x) if x.dtype == torch.uint8 else x).to(like.dtype)
            m_h, m_w = multiplier(alpha, freq_h).to(like.dtype), multiplier(alpha, freq_w).to(like.dtype)
            torch.mm(images.view(-1, w), from_w, out=first.view(-1, w))
            if transpose:
                spectrum = torch.mm(first.mT.reshape(-1, h), from_h, out=second.view(-1, h)).view(*x.shape[:-2], w, h)
                spectrum *= (m_w.unsqueeze(2) * m_h.unsqueeze(1)).unsqueeze(1)
                columns = torch.mm(spectrum.view(-1, h), to_h, out=first.view(-1, h)).view(*x.shape[:-2], w, h)
                blurred = torch.mm(columns.mT.reshape(-1, w), to_w, out=second.view(-1, w)).view(x.shape)
            else:
                spectrum = torch.matmul(to_h, first, out=second)
                spectrum *= (m_h.unsqueeze(2) * m_w.unsqueeze(1)).unsqueeze(1)
                columns = torch.matmul(from_h, spectrum, out=first)
                blurred = torch.mm(columns.view(-1, w), to_w, out=second.view(-1, w)).view(x.shape)
            result = blurred.addcmul_(draw(), beta.view(level_shape).to(like.dtype))
            return result if like.dtype == out_dtype else result.to(out_dtype)

        return step

    return build


# --- transforms ----------------------------------------------------------------------------------------------------


def by_transform(forward: Callable[[Tensor], Tensor], inverse: Callable[[Tensor], Tensor], source: Any) -> Build:
    """DCT, scale, inverse DCT, with the separable multiplier formed from two vectors."""

    def build(x: Tensor) -> Step:
        h, w = x.shape[-2:]
        freq_h, freq_w = frequencies(h, x), frequencies(w, x)
        draw = source(working(x))
        level_shape = (-1,) + (1,) * (x.ndim - 1)
        out_dtype = result_dtype(x)

        def step(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
            spectrum = forward(as_float(x))
            spectrum *= (multiplier(alpha, freq_h).unsqueeze(2) * multiplier(alpha, freq_w).unsqueeze(1)).unsqueeze(1)
            blurred = inverse(spectrum)
            return blurred.addcmul_(draw(), beta.view(level_shape).to(blurred.dtype)).to(out_dtype)

        return step

    return build


def ihdm_as_published(x: Tensor) -> Step:
    """Rissanen et al. (ICLR 2023), section 3: ``V exp(-Lambda t) V^T u`` by torch-dct, then isotropic noise."""
    torch_dct = require("torch_dct")
    h, w = x.shape[-2:]
    freqs = frequencies(h, x).unsqueeze(1) ** 2 + frequencies(w, x).unsqueeze(0) ** 2
    level_shape = (-1,) + (1,) * (x.ndim - 1)
    out_dtype = result_dtype(x)

    def step(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        images = as_float(x)
        t = (alpha.to(freqs.dtype) ** 2 / 2).view(level_shape)
        blurred = torch_dct.idct_2d(torch_dct.dct_2d(images, norm="ortho") * torch.exp(-freqs * t), norm="ortho")
        return (blurred + torch.randn_like(blurred) * beta.view(level_shape).to(blurred.dtype)).to(out_dtype)

    return step


def scipy_transforms() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    fft = require("scipy.fft")

    def run(transform: Any, overwrite: bool) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            workers = torch.get_num_threads()
            return torch.from_numpy(transform(x.numpy(), axes=(-2, -1), norm="ortho", workers=workers, overwrite_x=overwrite))

        return call

    return run(fft.dctn, False), run(fft.idctn, True)


def torch_dct_transforms() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    torch_dct = require("torch_dct")
    return (lambda x: torch_dct.dct_2d(x, norm="ortho")), (lambda x: torch_dct.idct_2d(x, norm="ortho"))


# --- the list ------------------------------------------------------------------------------------------------------


def _randn_alone(x: Tensor) -> Step:
    buffer = torch.empty_like(x, dtype=result_dtype(x))
    return lambda x, alpha, beta: buffer.normal_()


def rivals(device: str, dtype: torch.dtype) -> Iterable[Contestant]:
    """Every eager rival that can run on the device, then the bound and the floors."""
    cpu = device == "cpu"
    sources = {"randn": randn, "randn in threads": randn_in_threads} if cpu else {"randn": randn}
    half = dtype in (torch.bfloat16, torch.float16)
    arithmetic = {"": None, ", float32 inside": torch.float32} if half else {"": None}

    installed = cpu or optional("torch_dct") is not None
    if installed:
        yield Contestant("torch-dct", "rival", {name: by_transform(*torch_dct_transforms(), source) for name, source in sources.items()})
    dctorch = optional("dctorch.functional")
    if dctorch is not None:
        yield Contestant("dctorch", "rival", {n: by_transform(dctorch.dct2, dctorch.idct2, s) for n, s in sources.items()})
    if installed:
        yield Contestant("IHDM as published", "rival", {"torch-dct": ihdm_as_published})
    if cpu:
        variants = {name: by_transform(*scipy_transforms(), source) for name, source in sources.items()}
        yield Contestant("SciPy pocketfft", "rival", variants)
    variants = {}
    for layout, transpose in (("broadcast", False), ("transposed", True)):
        for noise, source in sources.items():
            for suffix, inside in arithmetic.items():
                variants[f"{layout}, {noise}{suffix}"] = four_products(transpose, source, inside)
    yield Contestant("four matmuls", "rival", variants)
    applies = {"broadcast": apply_by_broadcast, "permuted": apply_by_permute}
    builders = {"B by gemm": matrices_by_gemm, "B by table": matrices_by_table}
    variants, bound = {}, {}
    for layout, apply in applies.items():
        for noise, source in sources.items():
            for suffix, inside in arithmetic.items():
                bound[f"{layout}, {noise}{suffix}"] = two_products(matrices_by_table, apply, source, inside, given=True)
                for how, matrices in builders.items():
                    variants[f"{how}, {layout}, {noise}{suffix}"] = two_products(matrices, apply, source, inside)
    yield Contestant("two matmuls", "rival", variants)
    yield Contestant("two matmuls, B given", "bound", bound)
    yield Contestant("torch.randn alone", "floor", {"in place": _randn_alone}, blurs=False)
    yield Contestant("torch.clone", "floor", {"": lambda x: lambda x, alpha, beta: x.clone()}, blurs=False, draws=False)
