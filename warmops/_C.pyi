from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

_Axis = tuple[int, int, float, float, float]  # dimension, kind, scale, ends_in, ends_out

has_cuda: bool

def blur_noise(
    x: Tensor,
    blur_sigma: float | Tensor,
    noise_sigma: float | Tensor,
    seed: int | Tensor | None,
    noise: Tensor | None,
    scale: float | Tensor,
    out: Tensor,
    blurred: Tensor | None,
    threads: int,
    /,
) -> None: ...
def dct(x: Tensor, out: Tensor, axes: tuple[_Axis, ...], threads: int, /) -> None: ...
def dct_by_fft(kind: int, n: int) -> bool: ...
def dct_cuda(x: Tensor, out: Tensor, axes: Sequence[_Axis], stream: int, /) -> None: ...
def dct_cuda_fits(axes: Sequence[tuple[int, int]], twice: bool) -> bool: ...
def normal(out: Tensor, seed: int | Tensor, threads: int, /) -> None: ...
def normal_cuda(out: Tensor, seed: int | Tensor, stream: int, /) -> None: ...
def sampler_step(
    x: Tensor,
    head_b: Tensor | None,
    head_r: Tensor | None,
    slope: Tensor | None,
    coefficients: tuple[float, ...],
    table: Tensor | None,
    out: Tensor,
    slope_out: Tensor | None,
    threads: int,
    /,
) -> None: ...
def plain_blur_noise(
    x: Any,
    blur_sigma: Any,
    noise_sigma: Any,
    seed: Any,
    scale: Any,
    return_blurred: bool,
    draw: Callable[[int], Tensor],
    out: Any,
    threads: int,
    /,
) -> Any: ...
def plain_dct(x: Any, axes: tuple[_Axis, ...], out: Any, threads: int, /) -> Any: ...
def plain_sampler_step(
    x: Any, heads: Any, slope: Any, c_skip: Any, c_out: Any, update: tuple[float, ...], return_slope: bool, out: Any, threads: int, /
) -> Any: ...
def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def isas() -> list[str]: ...
