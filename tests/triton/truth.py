"""What the kernels must compute, in float64 with NumPy and SciPy, written without the package."""

from __future__ import annotations

import numpy as np
import scipy.fft

ALPHAS = (0.0, 1e-3, 0.3, 1.2, 3.0, 40.0, float("inf"))
"""Every regime: no blur, identity split, its far end, plain matrices, only the mean left."""


def blur(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """x: [N, ..., H, W], alpha: [N]."""
    y = np.empty(x.shape)
    frequencies = [np.pi * np.arange(n) / n for n in x.shape[-2:]]
    square = frequencies[0][:, None] ** 2 + frequencies[1] ** 2  # [H, W]
    for i, a in enumerate(alpha):
        with np.errstate(invalid="ignore", over="ignore"):
            m = np.where(square == 0, 1.0, np.exp(-0.5 * square * float(a) ** 2))
        y[i] = x[i] if a == 0 else scipy.fft.idctn(m * scipy.fft.dctn(x[i], axes=(-2, -1), norm="ortho"), axes=(-2, -1), norm="ortho")
    return y


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10: counter [..., 4] and key [..., 2] of uint32 words held in uint64; returns [..., 4] of the same."""
    mask = np.uint64(0xFFFFFFFF)
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k = [key[..., i].astype(np.uint64) for i in range(2)]
    for _ in range(10):
        p, q = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(q >> np.uint64(32)) ^ c[1] ^ k[0], q & mask, (p >> np.uint64(32)) ^ c[3] ^ k[1], p & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return np.stack(np.broadcast_arrays(*c), axis=-1)


def words(seed: int, j: np.ndarray) -> np.ndarray:
    """The four words of each counter j [...] under a 64-bit seed: [..., 4]."""
    seed %= 1 << 64
    j = j.astype(np.uint64)
    zero = np.zeros_like(j)
    counter = np.stack([j & np.uint64(0xFFFFFFFF), j >> np.uint64(32), zero, zero], axis=-1)
    return philox(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint64))


def box_muller(w: np.ndarray) -> np.ndarray:
    """Words [..., 4] to normals [..., 4]. Both functions keep their relative accuracy: near u = 1, and near their zeros."""
    u_word, t_word = w[..., 0::2].astype(np.int64), w[..., 1::2].astype(np.int64)
    rest = (2**32 - 1 - u_word + 0.5) / 2**32  # 1 - u
    radius = np.sqrt(-2 * np.where(rest < 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log((u_word + 0.5) / 2**32)))
    quarter = (t_word + 2**29) >> 30
    angle = (t_word - (quarter << 30) + 0.5) * (2 * np.pi / 2**32)
    sin, cos = np.sin(angle), np.cos(angle)
    cosine = np.choose(quarter % 4, [cos, -sin, -cos, sin])
    sine = np.choose(quarter % 4, [sin, cos, -sin, -cos])
    return np.stack([radius * cosine, radius * sine], axis=-1).reshape(w.shape)


def normal(shape: tuple[int, ...], seeds: list[int], first: int = 0) -> np.ndarray:
    """Noise of samples [N, ...] by their seeds; ``first`` skips elements."""
    count = int(np.prod(shape[1:]))
    e = first + np.arange(count, dtype=np.uint64)
    rows = []
    for seed in seeds:
        n = box_muller(words(seed, e // 4))  # [count, 4]
        rows.append(np.take_along_axis(n, (e % 4).astype(np.int64)[:, None], axis=1)[:, 0])
    return np.stack(rows).reshape(shape)
