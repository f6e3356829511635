from collections.abc import Sequence

_View = tuple[int, int, Sequence[int]]  # address (0: absent), dtype code, strides in elements
_Level = tuple[float, int, int, int]  # scalar value, or the address, dtype code and stride of one value per sample
_Seed = tuple[int, int, int]  # first seed, or the address and stride of one seed per sample
_Axis = tuple[int, int, float, float, float]  # dimension, kind, scale, ends_in, ends_out

has_cuda: bool

def blur_noise(
    x: _View,
    sizes: Sequence[int],
    blur_sigma: _Level,
    noise_sigma: _Level,
    seed: _Seed,
    noise: _View,
    scale: _Level,
    out: _View,
    blurred: _View,
    threads: int,
    /,
) -> None: ...
def dct(x: _View, x_sizes: Sequence[int], out: _View, sizes: Sequence[int], axes: Sequence[_Axis], threads: int, /) -> None: ...
def dct_cuda(x: _View, x_sizes: Sequence[int], out: _View, sizes: Sequence[int], axes: Sequence[_Axis], stream: int, /) -> None: ...
def dct_cuda_fits(axes: Sequence[tuple[int, int]], twice: bool) -> bool: ...
def normal(out: _View, sizes: Sequence[int], seed: _Seed, threads: int, /) -> None: ...
def normal_cuda(out: _View, sizes: Sequence[int], seed: _Seed, stream: int, /) -> None: ...
def sampler_step(
    x: _View,
    sizes: Sequence[int],
    head_b: _View,
    head_r: _View,
    slope: _View,
    coefficients: Sequence[float],
    table: int,
    out: _View,
    slope_out: _View,
    threads: int,
    /,
) -> None: ...
def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def isas() -> list[str]: ...
