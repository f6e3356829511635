"""Independent truths: nothing here is shared with warmops, except the definition of what is computed.

Arrays are NumPy; arithmetic is in long double (80 bits on x86), so that float64 results can be judged too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft
import torch
from torch import Tensor

PI = np.longdouble("3.14159265358979323846264338327950288")
# Counter, key and result of Random123's kat_vectors for philox4x32-10.
KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def numpy_of(t: Tensor) -> np.ndarray:
    """A tensor of any dtype as long double."""
    return t.detach().cpu().double().numpy().astype(np.longdouble)


def images_of(x: Tensor) -> np.ndarray:
    """What the kernels see in x: uint8 is x / 127.5 - 1, each operation rounded to float32."""
    if x.dtype == torch.uint8:
        return ((x.cpu().numpy().astype(np.float32) / np.float32(127.5)) - np.float32(1)).astype(np.longdouble)
    return numpy_of(x)


def per_sample(level: float | Tensor, shape: Sequence[int]) -> np.ndarray:
    """A level as long double ``[N, 1, ..., 1]``."""
    values = numpy_of(level) if isinstance(level, Tensor) else np.longdouble(level)
    return np.broadcast_to(values, shape[:1]).reshape(-1, *[1] * (len(shape) - 1))


def multiplier(n: int, sigma: np.ndarray) -> np.ndarray:
    """``exp(-(pi k sigma / n)^2 / 2)``, k = 0..n-1 along a new last axis; 1 at k = 0 for every sigma."""
    k = np.arange(1, n, dtype=np.longdouble)
    with np.errstate(over="ignore"):
        rest = np.exp(-((PI * k / n * sigma[..., None]) ** 2) / 2)
    return np.concatenate([np.ones_like(sigma)[..., None], rest], axis=-1)


def blur(x: Tensor, sigma: float | Tensor) -> np.ndarray:
    """SciPy's DCT, the closed-form multiplier, and back."""
    images, level = images_of(x), per_sample(sigma, x.shape)
    h, w = x.shape[-2:]
    spectrum = scipy.fft.dctn(images, type=2, norm="ortho", axes=(-2, -1))
    spectrum *= np.swapaxes(multiplier(h, level[..., 0]), -2, -1) * multiplier(w, level[..., 0])
    return scipy.fft.idctn(spectrum, type=2, norm="ortho", axes=(-2, -1))


def dct(function: str, x: Tensor, **arguments: Any) -> np.ndarray:
    """scipy.fft's function of that name, in long double; complex tensors part by part."""
    transform = getattr(scipy.fft, function)
    if x.is_complex():
        parts = torch.view_as_real(x.detach().resolve_conj()).movedim(-1, 0)
        return np.stack([transform(numpy_of(part), **arguments) for part in parts], axis=-1)
    return transform(numpy_of(x), **arguments)


def philox4x32(counter: Sequence[np.ndarray | int], key: Sequence[np.ndarray | int]) -> np.ndarray:
    """Philox4x32-10 from its definition, uint64 arithmetic; words along a new last axis."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    a, b, c, d = (np.asarray(v, dtype=np.uint64) for v in counter)
    k, m = (np.asarray(v, dtype=np.uint64) for v in key)
    for _ in range(10):
        first, third = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (third >> shift) ^ b ^ k, third & mask, (first >> shift) ^ d ^ m, first & mask
        k, m = (k + np.uint64(0x9E3779B9)) & mask, (m + np.uint64(0xBB67AE85)) & mask
    return np.stack(np.broadcast_arrays(a, b, c, d), axis=-1)


def box_muller(words: np.ndarray) -> np.ndarray:
    """Words ``[..., 4]`` to normals ``[..., 4]``: r(w0) cos t(w1), r(w0) sin t(w1), the same of w2, w3."""
    u = (words.astype(np.longdouble) + 0.5) / 2.0**32
    radius = np.sqrt(-2 * np.log(u[..., 0::2]))
    half_turns = 2 * u[..., 1::2]  # exact; so is the distance to the nearest half of a half turn
    nearest = np.rint(2 * half_turns)
    rest = PI * (half_turns - nearest / 2)
    quarter = nearest.astype(np.int64) % 4
    cos, sin = np.cos(rest), np.sin(rest)
    cosine = np.choose(quarter, [cos, -sin, -cos, sin])
    sine = np.choose(quarter, [sin, cos, -sin, -cos])
    return np.stack([radius * cosine, radius * sine], axis=-1).reshape(words.shape)


def words(seeds: Sequence[int], elements: int) -> np.ndarray:
    """The Philox words of samples with these (any-size, wrapping) seeds, ``[N, ceil(elements / 4), 4]``."""
    seed = np.array([s % 2**64 for s in seeds], dtype=np.uint64)[:, None]
    j = np.arange(-(-elements // 4), dtype=np.uint64)
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    return philox4x32((j & mask, j >> shift, 0, 0), (seed & mask, seed >> shift))


def normal(shape: Sequence[int], seed: int | Sequence[int]) -> np.ndarray:
    """The noise of `warmops.normal`, long double."""
    seeds = [seed + i for i in range(shape[0])] if isinstance(seed, int) else seed
    elements = math.prod(shape[1:])
    return box_muller(words(seeds, elements)).reshape(shape[0], -1)[:, :elements].reshape(tuple(shape))


def blur_noise(
    x: Tensor, blur_sigma: float | Tensor, noise_sigma: float | Tensor, eps: np.ndarray, scale: float | Tensor = 1.0
) -> np.ndarray:
    """``scale * (A x + noise_sigma * eps)``."""
    return per_sample(scale, x.shape) * (blur(x, blur_sigma) + per_sample(noise_sigma, x.shape) * eps)


def eager_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """What a user would write: two matrix products in x's dtype, matrices computed in float64."""
    matrices = []
    for n in x.shape[-2:]:
        basis = scipy.fft.dct(np.eye(n), axis=0, norm="ortho")  # [frequency, pixel]
        m = multiplier(n, numpy_of(sigma)).astype(np.float64)
        matrix = torch.from_numpy(basis.T @ (m[:, :, None] * basis)).to(x.device, x.dtype)
        matrices.append(matrix.reshape(-1, *[1] * (x.ndim - 3), n, n))
    return matrices[0] @ x @ matrices[1]


def rel_l2(got: Tensor, want: np.ndarray, axis: tuple[int, ...] | None = None) -> np.ndarray:
    """Relative L2 error, of the whole or per sample (``axis``); NaN where got has one."""
    return norm(numpy_of(got) - want, axis) / np.maximum(norm(want, axis), np.finfo(np.float64).tiny)


def norm(values: np.ndarray, axis: tuple[int, ...] | None = None) -> np.ndarray:
    return np.sqrt((values**2).sum(axis))


def ulps(got: Tensor, want: np.ndarray) -> float:
    """Largest distance in units of the last place that ``want`` has in got's dtype (float32 or float64)."""
    kind = np.float64 if got.dtype == torch.float64 else np.float32
    return float((np.abs(numpy_of(got) - want) / np.spacing(np.abs(want).astype(kind))).max())


def half_ulps(got: Tensor, exact32: Tensor) -> float:
    """Largest distance of a half-precision result from the rounded float32 result, in steps of its dtype."""
    rounded = exact32.to(got.dtype)
    assert not got.isnan().any()

    def ordinal(t: Tensor) -> Tensor:  # consecutive numbers have consecutive ordinals
        bits = t.view(torch.int16).to(torch.int64)
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)

    return float((ordinal(got) - ordinal(rounded)).abs().max())
