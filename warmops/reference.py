"""The plain PyTorch truth that every kernel is tested against; also ``backend="reference"``.

Written to be read, not to be fast: everything is computed in float64 from the formulas of the papers.

Sources: Hsueh et al., Warm Diffusion, ICLR 2025 (forward process); Rissanen et al., Generative Modelling with
Inverse Heat Dissipation, ICLR 2023, section 3 (blur as a DCT multiplier); Salmon et al., Parallel random numbers:
as easy as 1, 2, 3, SC 2011 (Philox4x32-10); Martucci, Symmetric convolution and the discrete sine and cosine
transforms, IEEE Transactions on Signal Processing 42(5), 1994 (the eight kernels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

PHILOX_M = (0xD2511F53, 0xCD9E8D57)
PHILOX_W = (0x9E3779B9, 0xBB67AE85)
MASK32 = 0xFFFFFFFF


def dct_basis(n: int, device: torch.device) -> Tensor:
    """Orthonormal DCT-II basis ``V^T``, shape ``[n frequencies, n pixels]``, float64."""
    k = torch.arange(n, device=device).unsqueeze(1)
    p = torch.arange(n, device=device).unsqueeze(0)
    # The angle is reduced modulo a full turn in integers, so that large n loses no digit.
    angle = (k * (2 * p + 1) % (4 * n)).to(torch.float64) * (math.pi / (2 * n))
    weight = torch.full((n, 1), 2.0 / n, dtype=torch.float64, device=device)
    weight[0] = 1.0 / n
    return weight.sqrt() * torch.cos(angle)


def multiplier(n: int, sigma: Tensor) -> Tensor:
    """``exp(-(pi k / n)^2 sigma^2 / 2)`` for k = 0..n-1, shape ``[N, n]``, of levels ``sigma [N]``."""
    frequency = torch.arange(1, n, device=sigma.device, dtype=torch.float64) * (math.pi / n)
    rest = torch.exp(-0.5 * (sigma.unsqueeze(1) * frequency) ** 2)
    # The mean is preserved at every level, infinity included (0 * inf would be NaN).
    return torch.cat([torch.ones_like(sigma).unsqueeze(1), rest], dim=1)


def to_images(x: Tensor) -> Tensor:
    """``x`` in float64; uint8 is read as ``x / 127.5 - 1`` in float32, as the kernels read it."""
    if x.dtype == torch.uint8:
        x = x.to(torch.float32) / 127.5 - 1.0
    return x.to(torch.float64)


def per_sample(value: float | Tensor, x: Tensor) -> Tensor:
    """A level as float64 of shape ``[N, 1, ..., 1]`` with ``x.ndim`` dimensions."""
    if isinstance(value, Tensor):
        tensor = value.to(x.device, torch.float64).expand(x.shape[0])
    else:  # filled in there: a CUDA graph cannot hold a copy from the CPU
        tensor = torch.full((x.shape[0],), value, dtype=torch.float64, device=x.device)
    return tensor.reshape(-1, *[1] * (x.ndim - 1))


def blur(x: Tensor, sigma: float | Tensor) -> Tensor:
    """``A x = B_H x B_W^T`` per image, ``B = V diag(m) V^T``, float64, differentiable to any order.

    x: ``[N, ..., H, W]``; sigma: float or ``[N]``, in pixels.
    """
    images = to_images(x)
    level = per_sample(sigma, x)
    matrices = []
    for n in x.shape[-2:]:
        basis = dct_basis(n, x.device)
        m = multiplier(n, level.reshape(-1))  # [N, n]
        matrix = basis.T @ (m.unsqueeze(2) * basis)  # [N, n, n]
        matrices.append(matrix.reshape(x.shape[0], *[1] * (x.ndim - 3), n, n))
    blurred = matrices[0] @ images @ matrices[1]  # both matrices are symmetric
    return torch.where(level == 0, images, blurred)


def blur_sigma_vjp(x: Tensor, sigma: Tensor, grad: Tensor) -> Tensor:
    """``<grad, d(A x)/d sigma>`` per sample, shape ``[N]``, float64, differentiable to any order.

    ``dA/dsigma = -sigma V Lambda M V^T``, in DCT space: a sum of products over all modes.
    """
    h, w = x.shape[-2:]
    basis_h, basis_w = dct_basis(h, x.device), dct_basis(w, x.device)
    spectrum = (basis_h @ to_images(x) @ basis_w.T) * (basis_h @ grad.to(torch.float64) @ basis_w.T)
    level = per_sample(sigma, x).reshape(-1)
    m_h, m_w = multiplier(h, level), multiplier(w, level)
    lambda_h = (torch.arange(h, device=x.device, dtype=torch.float64) * (math.pi / h)) ** 2
    lambda_w = (torch.arange(w, device=x.device, dtype=torch.float64) * (math.pi / w)) ** 2
    modes = m_h.unsqueeze(2) * m_w.unsqueeze(1) * (lambda_h.unsqueeze(1) + lambda_w)  # [N, H, W]
    summed = spectrum.sum(dim=tuple(range(1, x.ndim - 2))) if x.ndim > 3 else spectrum  # [N, H, W]
    # An infinite level has nothing left to blur (infinity times the zero of its modes would be NaN).
    return torch.where(level.isinf(), 0.0, -level) * (summed * modes).sum(dim=(1, 2))


def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 [Salmon et al. 2011]: counters ``[..., 4]`` and keys ``[..., 2]`` of 32-bit words held in int64.

    Returns ``[..., 4]`` words in int64. Products wrap modulo 2^64 in int64, so their bits are those of uint64.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        p0, p1 = c0 * PHILOX_M[0], c2 * PHILOX_M[1]
        c0, c1, c2, c3 = (
            (p1 >> 32 & MASK32) ^ c1 ^ k0,
            p1 & MASK32,
            (p0 >> 32 & MASK32) ^ c3 ^ k1,
            p0 & MASK32,
        )
        k0, k1 = (k0 + PHILOX_W[0]) & MASK32, (k1 + PHILOX_W[1]) & MASK32
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), dim=-1)


def box_muller(words: Tensor) -> Tensor:
    """Words ``[..., 4]`` to standard normals ``[..., 4]`` in float64, two per pair of words."""
    pairs = words.unflatten(-1, (2, 2))
    radius = torch.sqrt(-2.0 * torch.log((pairs[..., 0].to(torch.float64) + 0.5) * 2.0**-32))
    # Quarter turns are taken off in integers: sine and cosine keep their relative accuracy near their zeros.
    quarter = pairs[..., 1] + 2**29 >> 30
    rest = (pairs[..., 1] - (quarter << 30)).to(torch.float64)
    angle = (rest + 0.5) * (2.0 * math.pi * 2.0**-32)
    sin, cos = torch.sin(angle), torch.cos(angle)
    quarter = quarter & 3
    odd = quarter % 2 == 1
    cosine = torch.where(odd, sin, cos) * torch.where((quarter == 1) | (quarter == 2), -1.0, 1.0)
    sine = torch.where(odd, cos, sin) * torch.where(quarter >= 2, -1.0, 1.0)
    return torch.stack([radius * cosine, radius * sine], dim=-1).flatten(-2)


def sample_seeds(seed: int | Tensor, n: int, device: torch.device) -> Tensor:
    """The int64 seed of each sample: ``seed + i`` modulo 2^64 for an int, else the tensor itself."""
    if isinstance(seed, Tensor):
        return seed
    return torch.arange(n, dtype=torch.int64, device=device) + seed


def standard_normal(shape: Sequence[int], seed: int | Tensor, device: torch.device) -> Tensor:
    """The noise of `warmops.normal` in float64, shape ``[N, ...]``."""
    n = shape[0]
    elements = math.prod(shape[1:])
    seeds = sample_seeds(seed, n, device)
    j = torch.arange(-(-elements // 4), dtype=torch.int64, device=device)
    counter = torch.stack([j & MASK32, j >> 32, torch.zeros_like(j), torch.zeros_like(j)], dim=-1)  # [J, 4]
    key = torch.stack([seeds & MASK32, seeds >> 32 & MASK32], dim=-1)  # [N, 2]
    words = philox4x32(counter, key.unsqueeze(1))  # [N, J, 4]
    return box_muller(words).reshape(n, -1)[:, :elements].reshape(tuple(shape))


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays float64, everything else is computed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def normal(out: Tensor, seed: int | Tensor) -> None:
    """Write the noise of the seeds into ``out [N, ...]``, rounded once to its dtype (half: through float32)."""
    noise = standard_normal(out.shape, seed, out.device)
    out.copy_(noise.to(compute_dtype(out.dtype)))


def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    seed: int | Tensor | None,
    noise: Tensor | None,
    scale: float | Tensor,
    out: Tensor,
    blurred: Tensor | None,
) -> None:
    """Write ``scale * (A x + noise_sigma * eps)`` into ``out`` and ``A x`` into ``blurred``; arguments are checked already."""
    for name, level in (("blur_sigma", blur_sigma), ("noise_sigma", noise_sigma)):
        if isinstance(level, Tensor) and level.device.type == "cpu" and not bool((level >= 0).all()):
            bad = int((~(level >= 0)).nonzero()[0])
            raise ValueError(f"{name} must be >= 0, got {float(level[bad])} for sample {bad}")
    working = compute_dtype(out.dtype)
    z = blur(x, blur_sigma).to(working)
    result = z
    if isinstance(noise_sigma, Tensor) or noise_sigma != 0.0:
        if noise is None:
            assert seed is not None
            eps = standard_normal(x.shape, seed, x.device).to(working)
        else:
            eps = noise.to(working)
        level = per_sample(noise_sigma, x).to(working)
        result = torch.where(level == 0, z, z + level * eps)
    if isinstance(scale, Tensor) or scale != 1.0:
        result = per_sample(scale, x).to(working) * result
    out.copy_(result)
    if blurred is not None:
        blurred.copy_(z)


def cos_pi(p: Tensor, q: int) -> Tensor:
    """``cos(pi p / q)`` of integers p in float64, reduced exactly: zeros, ones and symmetries are exact at any size."""
    p = p % (2 * q)
    p = torch.minimum(p, 2 * q - p)  # cos is even: 0..q
    flipped = 2 * p > q  # cos(pi - a) = -cos(a): 0..q/2
    p = torch.where(flipped, q - p, p)
    near = torch.cos(p.to(torch.float64) * (math.pi / q))
    far = torch.sin((q - 2 * p).to(torch.float64) * (math.pi / (2 * q)))  # the better one beyond a quarter of pi
    value = torch.where(4 * p > q, far, near)
    return torch.where(flipped, -value, value)


def dct_kernel(kind: int, n: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows and columns of a plain kernel, float64: kinds 0 to 3 are cosine I to IV, 4 to 7 sine I to IV.

    rows: ``[R]`` output indices; columns: ``[C]`` input indices. A sine is a cosine a quarter of a turn later.
    """
    k, j = rows.unsqueeze(1), columns
    if kind == 0:
        return cos_pi(j * k, n - 1)
    if kind == 4:
        return cos_pi(2 * (j + 1) * (k + 1) - (n + 1), 2 * (n + 1))
    if kind in (2, 6):
        return dct_kernel(kind - 1, n, columns, rows).T
    if kind == 1:
        return cos_pi(k * (2 * j + 1), 2 * n)
    if kind == 3:
        return cos_pi((2 * k + 1) * (2 * j + 1), 4 * n)
    if kind == 5:
        return cos_pi((k + 1) * (2 * j + 1) - n, 2 * n)
    return cos_pi((2 * k + 1) * (2 * j + 1) - 2 * n, 4 * n)


def dct_ends(kind: int, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special elements of the input and of the output, which ``ends_in`` and ``ends_out`` multiply."""
    first_and_last = (0, n - 1)
    return {0: (first_and_last, first_and_last), 1: ((), (0,)), 2: ((0,), ()), 5: ((), (n - 1,)), 6: ((n - 1,), ())}.get(kind, ((), ()))


def dct(x: Tensor, out: Tensor, axes: tuple[tuple[int, int, float, float, float], ...]) -> None:
    """Write ``scale * D(ends_out) K D(ends_in) x`` along each axis into ``out``; arguments are checked already.

    axes: (dimension, kind, scale, ends_in, ends_out), with the size n of the transform in ``out``; ``x`` is cropped or
    padded with zeros at the end to that size.
    """
    y = x.to(torch.float64)
    for dim, kind, scale, ends_in, ends_out in axes:
        n = out.shape[dim]
        size = min(n, y.shape[dim])  # the rest of the input is cropped, or zeros
        inputs = y.narrow(dim, 0, size).movedim(dim, -1)
        columns = torch.arange(size, device=x.device)
        before, after = dct_ends(kind, n)
        step = max(1, 2**20 // size)  # rows of the kernel at a time: 8 MB
        blocks = []
        for rows in torch.arange(n, device=x.device).split(step):
            matrix = scale * dct_kernel(kind, n, rows, columns)
            for end in before:
                matrix = torch.where(columns == end, ends_in * matrix, matrix)
            for end in after:
                matrix = torch.where((rows == end).unsqueeze(1), ends_out * matrix, matrix)
            blocks.append(inputs @ matrix.T)
        y = torch.cat(blocks, dim=-1).movedim(-1, dim)
    out.copy_(y.to(compute_dtype(out.dtype)))


def sampler_step(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: Sequence[float] | Tensor,
    out: Tensor,
    slope_out: Tensor | None,
) -> None:
    """The linear form that `warmops.sampler_step` documents, in float64, rounded once."""
    columns = coefficients.unbind(1) if isinstance(coefficients, Tensor) else coefficients
    skip, out_b, out_r, k0, k1, alpha1, k2, k3, alpha2, a, b, g, p, q = (per_sample(c, x) for c in columns)
    state = x.to(torch.float64)
    x0 = skip * state
    for factor, head in ((out_b, head_b), (out_r, head_r)):
        if head is not None:
            x0 = x0 + factor * head.to(torch.float64)

    h, w = x.shape[-2:]
    basis_h, basis_w = dct_basis(h, x.device), dct_basis(w, x.device)

    def modes(alpha: Tensor) -> Tensor:
        """``E(alpha)``, shape ``[N, 1, ..., H, W]``."""
        along_h, along_w = (multiplier(n, alpha.reshape(-1)) for n in (h, w))
        return (along_h.unsqueeze(2) * along_w.unsqueeze(1)).reshape(x.shape[0], *[1] * (x.ndim - 3), h, w)

    lambda_h, lambda_w = ((torch.arange(n, device=x.device, dtype=torch.float64) * (math.pi / n)) ** 2 for n in (h, w))
    eigenvalues = lambda_h.unsqueeze(1) + lambda_w  # [H, W]
    factors = k0 + k1 * modes(alpha1) + (k2 + k3 * eigenvalues) * modes(alpha2)
    y = basis_h.T @ (factors * (basis_h @ x0 @ basis_w.T)) @ basis_w
    y = torch.where((alpha1 == 0) & (alpha2 == 0) & (k3 == 0), (k0 + k1 + k2) * x0, y)

    result = a * state + b * y
    out.copy_(result if slope is None else result + g * slope.to(torch.float64))
    if slope_out is not None:
        slope_out.copy_(p * state + q * y)
