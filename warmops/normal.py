"""`warmops.normal`: Gaussian noise that is a function of its seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from warmops import _checks
from warmops._dispatch import check_backend, launcher, needs_dispatcher
from warmops.reference import sample_seeds


@torch.library.custom_op("warmops::normal", mutates_args=())
def _normal(shape: Sequence[int], seed: Tensor, dtype: torch.dtype, backend: str | None) -> Tensor:
    out = torch.empty(shape, dtype=dtype, device=seed.device)
    if out.numel():
        launcher(backend, out.device, "normal")(out, seed)
    return out


@_normal.register_fake
def _(shape: Sequence[int], seed: Tensor, dtype: torch.dtype, backend: str | None) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=seed.device)


@_normal.register_vmap
def _(info: Any, in_dims: Any, shape: Sequence[int], seed: Tensor, dtype: torch.dtype, backend: str | None) -> tuple[Tensor, int]:
    seed = seed.movedim(in_dims[1], 0)  # [V, N]
    noise = torch.ops.warmops.normal([seed.shape[0] * seed.shape[1], *shape[1:]], seed.reshape(-1), dtype, backend)
    return noise.reshape(seed.shape[0], *shape), 0


def normal(
    shape: Sequence[int],
    seed: int | Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Standard normal noise that depends on nothing but each sample's seed.

    The noise that `warmops.blur_noise` adds for the same seeds, on its own: Philox4x32-10 [Salmon et al., SC 2011]
    with the sample's 64-bit seed as the key and the element's position in the sample as the counter, then
    Box-Muller. The same sample gets the same noise on every backend (equal integers; normals to a few ulp), and the
    same bits in any batch, at any position, on any number of threads on one backend.

    Element ``e`` of a sample (row-major) uses word ``e % 4`` of the counter ``(e // 4, 0)``; words 0, 1 give a cosine
    and a sine, words 2, 3 another pair.

    Args:
        shape: ``[N, ...]``, N samples.
        seed: an int in the int64 range (sample ``i`` uses ``seed + i`` modulo 2^64), or an int64 tensor ``[N]`` on
            the device. Without one, seeds are drawn from ``generator`` or torch's default generator.
        generator: where to draw seeds from; not together with ``seed``.
        dtype: float32 (torch's default dtype), float64, bfloat16 or float16. Half precision is float32 rounded once.
        device: where; default: that of ``out``, of the seed tensor, or torch's default device.
        out: tensor to write, of this shape, dtype and device, any strides.
        backend: "reference", "cpu", "triton" or "cuda"; default: the fastest for the device.

    Returns:
        Tensor ``[N, ...]`` (``out`` if given).

    Raises:
        TypeError, ValueError: an argument is wrong; nothing is written.
        RuntimeError: the named backend cannot run here (the message says why).

    Example:
        >>> noise = warmops.normal((16, 3, 32, 32), seed=0)
        >>> torch.equal(noise[5:6], warmops.normal((1, 3, 32, 32), seed=5))
        True
    """
    check_backend(backend)
    if isinstance(shape, (int, str)) or not isinstance(shape, Sequence):
        raise TypeError(f"shape must be a sequence [N, ...] of ints, got {type(shape).__name__}")
    shape = tuple(shape)
    if len(shape) < 1 or any(isinstance(s, bool) or not isinstance(s, (int, torch.SymInt)) or s < 0 for s in shape):
        raise ValueError(f"shape must be a sequence [N, ...] of at least one int >= 0, got {shape}")
    if dtype is None:
        dtype = out.dtype if isinstance(out, Tensor) else torch.get_default_dtype()
    if dtype not in _checks.FLOAT_DTYPES:
        raise TypeError(f"dtype must be float32, bfloat16, float16 or float64, got {dtype}")
    if device is None:
        like = out if isinstance(out, Tensor) else seed
        device = like.device if isinstance(like, Tensor) else torch.get_default_device()
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if out is not None:
        _checks.check_out("out", out, shape, dtype, device)
    if seed is None:
        seed = _checks.draw_seed(generator, shape[0], device)
    elif generator is not None:
        raise ValueError("seed and generator must not be given together")
    else:
        seed = _checks.check_seed(seed, shape[0], device)
    if needs_dispatcher(seed, out) or device.type == "meta":
        result = torch.ops.warmops.normal(shape, sample_seeds(seed, shape[0], device), dtype, backend)
        return result if out is None else out.copy_(result)
    result = torch.empty(shape, dtype=dtype, device=device) if out is None else out
    launch = launcher(backend, device, "normal")
    if result.numel():
        launch(result, seed)
    return result
