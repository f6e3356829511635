"""The rivals as torch.compile makes them: written functionally, for Inductor to fuse, one graph per shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from _contest import Build, Contestant, Step
from _extras import optional, require
from _rivals import as_float, dct_basis, frequencies, multiplier, result_dtype
from torch import Tensor

# blur(x, alpha, tables) -> A x, as a pure function
PureBlur = Callable[[Tensor, Tensor, tuple[Tensor, ...]], Tensor]


def tables(x: Tensor) -> tuple[Tensor, ...]:
    like = torch.empty(0, dtype=result_dtype(x), device=x.device)
    h, w = x.shape[-2:]
    return dct_basis(h, like), dct_basis(w, like), frequencies(h, x), frequencies(w, x)


def images(x: Tensor) -> Tensor:
    return x / 127.5 - 1.0 if x.dtype == torch.uint8 else x


def four_products(x: Tensor, alpha: Tensor, fixed: tuple[Tensor, ...]) -> Tensor:
    to_h, to_w, freq_h, freq_w = fixed
    spectrum = to_h @ (images(x) @ to_w.t())
    m_h, m_w = multiplier(alpha, freq_h), multiplier(alpha, freq_w)
    scaled = spectrum * (m_h.unsqueeze(2) * m_w.unsqueeze(1)).unsqueeze(1).to(spectrum.dtype)
    return to_h.t() @ (scaled @ to_w)


def _matrices(alpha: Tensor, basis: Tensor, frequency: Tensor) -> Tensor:
    return (basis.t() * multiplier(alpha, frequency).to(basis.dtype).unsqueeze(1)) @ basis


def two_products(x: Tensor, alpha: Tensor, fixed: tuple[Tensor, ...]) -> Tensor:
    n, h, w = x.shape[0], x.shape[-2], x.shape[-1]
    columns = torch.bmm(images(x).reshape(n, -1, w), _matrices(alpha, fixed[1], fixed[3]))
    return _matrices(alpha, fixed[0], fixed[2]).unsqueeze(1) @ columns.view(n, -1, h, w)


def two_products_permuted(x: Tensor, alpha: Tensor, fixed: tuple[Tensor, ...]) -> Tensor:
    n, h, w = x.shape[0], x.shape[-2], x.shape[-1]
    columns = torch.bmm(images(x).reshape(n, -1, w), _matrices(alpha, fixed[1], fixed[3]))
    side_by_side = columns.view(n, -1, h, w).transpose(1, 2).reshape(n, h, -1)
    return torch.bmm(_matrices(alpha, fixed[0], fixed[2]), side_by_side).view(n, h, -1, w).transpose(1, 2)


def by_torch_dct() -> PureBlur:
    module = require("torch_dct")

    def blur(x: Tensor, alpha: Tensor, fixed: tuple[Tensor, ...]) -> Tensor:
        spectrum = module.dct_2d(images(x).to(fixed[2].dtype), norm="ortho")
        m_h, m_w = multiplier(alpha, fixed[2]), multiplier(alpha, fixed[3])
        return module.idct_2d(spectrum * (m_h.unsqueeze(2) * m_w.unsqueeze(1)).unsqueeze(1), norm="ortho").to(fixed[0].dtype)

    return blur


def inductor_noise(blur: PureBlur) -> Build:
    """One graph with Inductor's own generator, fused into the last pass."""

    def build(x: Tensor) -> Step:
        fixed = tables(x)

        def whole(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
            blurred = blur(x, alpha, fixed)
            return blurred + beta.view(-1, 1, 1, 1).to(blurred.dtype) * torch.randn_like(blurred)

        return torch.compile(whole, dynamic=False, fullgraph=True)

    return build


def torch_noise(blur: PureBlur, source: Callable[[Tensor], Callable[[], Tensor]] | None = None) -> Build:
    """The graph takes the noise as an input, drawn by torch's own generator into a reused buffer."""

    def build(x: Tensor) -> Step:
        fixed = tables(x)
        buffer = torch.empty_like(x, dtype=result_dtype(x))
        draw = buffer.normal_ if source is None else source(buffer)

        def given(x: Tensor, alpha: Tensor, beta: Tensor, noise: Tensor) -> Tensor:
            blurred = blur(x, alpha, fixed)
            return blurred + beta.view(-1, 1, 1, 1).to(blurred.dtype) * noise

        compiled = torch.compile(given, dynamic=False, fullgraph=True)
        return lambda x, alpha, beta: compiled(x, alpha, beta, draw())

    return build


def in_float32(build: Build) -> Build:
    """The same graph on float32 copies of half-precision images."""

    def build_in_float32(x: Tensor) -> Step:
        step = build(as_float(x))
        return lambda x, alpha, beta: step(as_float(x), alpha, beta).to(x.dtype)

    return build_in_float32


# The slowest to compile and never near the best.
LEFT_OUT_BY_QUICK = "torch-dct, compiled"


def compiled_rivals(device: str, dtype: torch.dtype, quick: bool) -> Iterable[Contestant]:
    half = dtype in (torch.bfloat16, torch.float16)
    dct = not quick and (device == "cpu" or optional("torch_dct") is not None)
    blurs: dict[str, dict[str, Any]] = {
        **({LEFT_OUT_BY_QUICK: {"": by_torch_dct()}} if dct else {}),
        "four matmuls, compiled": {"": four_products},
        "two matmuls, compiled": {"broadcast, ": two_products, "permuted, ": two_products_permuted},
    }
    for name, forms in blurs.items():
        variants: dict[str, Build] = {}
        for layout, blur in forms.items():
            if quick and layout.startswith("permuted"):
                continue
            variants[layout + "torch's noise"] = torch_noise(blur)
            if half and name != "torch-dct, compiled":
                variants[layout + "torch's noise, float32 inside"] = in_float32(torch_noise(blur))
            # On the CPU Inductor's noise is scalar code, 6 times slower than torch's (the full run shows it).
            if not quick or device != "cpu":
                variants[layout + "Inductor's noise"] = inductor_noise(blur)
        yield Contestant(name, "rival", variants)
