"""What a DCT or DST call means: its arguments checked as SciPy checks them, then kind, scale and ends of each axis.

Every transform is ``y = scale * D(ends_out) K D(ends_in) x`` along each axis, with one of eight plain kernels K:

    kind  kernel                                                             special elements, which D multiplies
    0     C_I[k,j]   = cos(pi j k / (n - 1))                                 first and last, of input and output
    1     C_II[k,j]  = cos(pi k (2j + 1) / (2n))                             output 0
    2     C_III      = C_II transposed                                       input 0
    3     C_IV[k,j]  = cos(pi (2k + 1)(2j + 1) / (4n))                       none
    4     S_I[k,j]   = sin(pi (j + 1)(k + 1) / (n + 1))                      none
    5     S_II[k,j]  = sin(pi (k + 1)(2j + 1) / (2n))                        output n - 1
    6     S_III      = S_II transposed                                       input n - 1
    7     S_IV[k,j]  = sin(pi (2k + 1)(2j + 1) / (4n))                       none

The family is closed under transposition: swap kinds 1 and 2, 5 and 6, and the two ends. So the derivative of each
transform is another one. Source: Martucci, Symmetric convolution and the discrete sine and cosine transforms, IEEE
Transactions on Signal Processing 42(5), 1994; normalisation as in scipy.fft.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

KINDS = {"dct": (0, 1, 2, 3), "idct": (0, 2, 1, 3), "dst": (4, 5, 6, 7), "idst": (4, 6, 5, 7)}  # by type, I to IV
TRANSPOSED = (0, 2, 1, 3, 4, 6, 5, 7)
NORMS = (None, "backward", "ortho", "forward")
_PLAIN = (1.0, 1.0)
_ENDS = {0: (0.5, 1.0), 2: (0.5, 1.0), 6: (0.5, 1.0)}  # ends_in, ends_out by kind; others 1
_HALF = math.sqrt(0.5)
_ORTHOGONAL_ENDS = {0: (_HALF, _HALF), 1: (1.0, _HALF), 2: (_HALF, 1.0), 5: (1.0, _HALF), 6: (_HALF, 1.0)}

Axis = tuple[int, int, float, float, float]  # dim, kind, scale, ends_in, ends_out: what a launcher takes


class Transform(NamedTuple):
    """What is the same along every axis. scaling: "backward" (2), "ortho" (sqrt(2 / N)) or "forward" (1 / N)."""

    kind: int
    scaling: str
    ends_in: float
    ends_out: float

    def transposed(self) -> Transform:
        return Transform(TRANSPOSED[self.kind], self.scaling, self.ends_out, self.ends_in)


class Plan(NamedTuple):
    """A call on one shape, ready for a launcher."""

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]


class DegenerateLengthError(ValueError, RuntimeError):
    """A DCT-I of one point. Bad input is a ValueError here; scipy.fft raises RuntimeError: this is both."""


def transform(function: str, type: Any, norm: Any, orthogonalize: Any) -> Transform:  # noqa: A002
    """The transform of ``function`` ("dct", "idct", "dst" or "idst"), or the error that scipy.fft has for a wrong argument."""
    try:
        number = operator.index(type)
    except TypeError:
        raise TypeError(f"type must be an int, 1, 2, 3 or 4, got {type!r}") from None
    if not 1 <= number <= 4:
        raise ValueError(f"type must be 1, 2, 3 or 4, got {number}")
    if isinstance(norm, (list, dict, set)):  # unhashable for SciPy
        raise TypeError(f"norm must be None, 'backward', 'ortho' or 'forward', got {norm!r}")
    if norm not in NORMS:
        raise ValueError(f"norm must be None, 'backward', 'ortho' or 'forward', got {norm!r}")
    if orthogonalize is None:
        orthogonalize = norm == "ortho"
    elif orthogonalize not in (True, False):
        raise TypeError(f"orthogonalize must be None, True or False, got {orthogonalize!r}")
    kind = KINDS[function][number - 1]
    scaling = norm or "backward"
    if function in ("idct", "idst"):
        scaling = {"backward": "forward", "ortho": "ortho", "forward": "backward"}[scaling]
    return Transform(kind, scaling, *(_ORTHOGONAL_ENDS if orthogonalize else _ENDS).get(kind, _PLAIN))


def _integer(value: Any) -> Any:
    """An int (or a symbolic one, while compiling); TypeError for what is none."""
    return value if isinstance(value, (int, torch.SymInt)) else operator.index(value)


def integers(name: str, value: Any) -> tuple[Any, ...]:
    """An int or several; ValueError for anything else, as scipy.fft has it."""
    try:
        return tuple(_integer(v) for v in value) if isinstance(value, Iterable) else (_integer(value),)
    except TypeError:
        raise ValueError(f"{name} must be an int or a sequence of ints, got {value!r}") from None


def _dimension(dim: Any, ndim: int) -> Any:
    """``dim`` counted from the front."""
    if not -ndim <= dim < ndim:
        if ndim == 0:
            raise IndexError(f"dim must be a dimension of x, which has none, got {dim}")
        raise IndexError(f"dim must be in the range [{-ndim}, {ndim - 1}] (x has {ndim} dimensions), got {dim}")
    return dim % ndim


def one_axis(shape: Sequence[int], n: Any, dim: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Dims and sizes of a transform along one axis."""
    try:
        dim = _integer(dim)
    except TypeError:
        raise TypeError(f"dim must be an int, got {dim!r}") from None
    dim = _dimension(dim, len(shape))
    if n is None:
        return (dim,), (shape[dim],)
    try:
        return (dim,), (_integer(n),)
    except TypeError:
        raise TypeError(f"n must be None or an int, got {n!r}") from None


def several_axes(shape: Sequence[int], s: Any, dim: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Dims and sizes of a transform along several axes: all of them, the last ``len(s)``, or those in ``dim``."""
    sizes = None if s is None else integers("s", s)
    if dim is not None:
        dims = tuple(_dimension(d, len(shape)) for d in integers("dim", dim))
        if len(set(dims)) != len(dims):
            raise ValueError(f"dim must not name a dimension twice, got {dim!r} for an x of {len(shape)} dimensions")
        if sizes is not None and len(sizes) != len(dims):
            raise ValueError(f"s and dim must have the same length, got s={s!r} and dim={dim!r}")
    elif sizes is None:
        dims = tuple(range(len(shape)))
    elif len(sizes) > len(shape):
        raise ValueError(f"s must not be longer than x has dimensions ({len(shape)}), got {s!r}")
    else:
        dims = tuple(range(len(shape) - len(sizes), len(shape)))
    if sizes is None:
        return dims, tuple(shape[d] for d in dims)
    return dims, tuple(shape[d] if n == -1 else n for d, n in zip(dims, sizes, strict=True))


def resized(name: str, kind: int, shape: Sequence[int], dims: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """The result's shape, all sizes checked; ``name`` is that of the argument, n or s."""
    result = list(shape)
    for d, n in zip(dims, sizes, strict=True):
        if n < 1:
            raise ValueError(f"{name} must be at least 1 (x has shape {tuple(shape)}), got {n} along dimension {d}")
        result[d] = n
    if kind == 0 and any(n == 1 for n in sizes) and all(n != 0 for n in result):
        raise DegenerateLengthError(f"{name} must be at least 2 for a DCT of type 1, got 1 (x has shape {tuple(shape)})")
    return tuple(result)


@functools.lru_cache(maxsize=4096)
def axes(of: Transform, shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[Axis, ...]:
    """What a launcher takes for a result of this shape."""
    entries = []
    for d in dims:
        half_period = shape[d] + {0: -1, 4: 1}.get(of.kind, 0)
        scale = {"backward": 2.0, "ortho": math.sqrt(2.0 / half_period), "forward": 1.0 / half_period}[of.scaling]
        entries.append((d, of.kind, scale, of.ends_in, of.ends_out))
    return tuple(entries)


@functools.lru_cache(maxsize=4096, typed=True)
def _remembered(*call: Any) -> Plan:
    function, shape, type_, n, dim, norm, orthogonalize, several = call
    of = transform(function, type_, norm, orthogonalize)
    dims, sizes = (several_axes if several else one_axis)(shape, n, dim)
    result = resized("s" if several else "n", of.kind, shape, dims, sizes)
    return Plan(result, axes(of, result, dims) if all(result) else ())


def plan(
    function: str,
    shape: tuple[int, ...],
    type: Any,  # noqa: A002
    n: Any,
    dim: Any,
    norm: Any,
    orthogonalize: Any,
    several: bool,
) -> Plan:
    """Everything about a call that does not depend on the tensor's values; remembered, since it costs more than a small kernel."""
    if several:  # as tuples, which can be remembered
        n = None if n is None else integers("s", n)
        dim = None if dim is None else integers("dim", dim)
    call = function, shape, type, n, dim, norm, orthogonalize, several
    try:
        return _remembered(*call)
    except TypeError:  # perhaps only that an argument cannot be remembered: let it be checked
        return _remembered.__wrapped__(*call)
