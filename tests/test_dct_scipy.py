"""The DCT family against scipy.fft: the same results for random calls, the same exceptions for the same mistakes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from _cases import FLOATS, Guarded, bit_equal, randn
from _dct_cases import FUNCTIONS, NORMS, ONE_AXIS, SEVERAL_AXES, TYPES, check, functions, one_axis, scipy_words, several_axes
from torch import Tensor

import warmops

CASES = 10_000
DTYPES = (*FLOATS, torch.complex64, torch.complex128, torch.int64, torch.uint8, torch.bool)
WEIGHTS = (30, 30, 10, 10, 5, 5, 4, 4, 2)
LAYOUTS = ("contiguous", "permuted", "sliced", "offset", "expanded", "expanded batch")


def random_size(choose: random.Random, least: int, ndim: int) -> int:
    """Mostly small; up to 70 where there are few dimensions, past the sizes that have code of their own."""
    largest = choose.choice((9, 9, 9, 20, 70)) if ndim <= 2 else choose.choice((5, 5, 9))
    return max(least, choose.randint(1, largest))


def random_values(shape: list[int], dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    if dtype.is_floating_point or dtype.is_complex:
        parts = torch.randn(*shape, *([2] if dtype.is_complex else []), generator=rng, dtype=torch.float64)
        return (torch.view_as_complex(parts) if dtype.is_complex else parts).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=rng).to(dtype)


def random_tensor(shape: list[int], dtype: torch.dtype, layout: str, choose: random.Random, rng: torch.Generator) -> Tensor:
    if layout == "permuted":
        order = choose.sample(range(len(shape)), len(shape))
        moved = random_values([shape[d] for d in order], dtype, rng)
        return moved.permute(*[order.index(d) for d in range(len(shape))])
    if layout == "sliced":
        steps = [choose.randint(1, 3) for _ in shape]
        wide = random_values([n * step for n, step in zip(shape, steps, strict=True)], dtype, rng)
        return wide[tuple(slice(None, None, step) for step in steps)]
    if layout == "offset":
        return random_values([n + 1 for n in shape], dtype, rng)[(slice(1, None),) * len(shape)]
    if layout.startswith("expanded"):
        chosen = 0 if layout == "expanded batch" else choose.randrange(len(shape))
        return random_values([1 if d == chosen else n for d, n in enumerate(shape)], dtype, rng).expand(shape)
    return random_values(shape, dtype, rng)


def random_call(choose: random.Random, rng: torch.Generator) -> tuple[str, Tensor, list[int], dict[str, Any]]:
    """Function, x, the sizes of its transforms and the other arguments, in warmops' words."""
    function, number = choose.choice(FUNCTIONS), choose.choice(TYPES)
    least = 2 if number == 1 and "dct" in function else 1
    ndim = choose.choice((1, 2, 2, 2, 3, 3, 4))
    shape = [random_size(choose, least, ndim) for _ in range(ndim)]
    arguments: dict[str, Any] = {"type": number, "norm": choose.choice(NORMS)}
    if choose.random() < 0.5:
        arguments["orthogonalize"] = choose.choice((None, True, False))
    dims = [choose.randrange(len(shape))]
    sizes = [shape[dims[0]]]
    if function in ONE_AXIS:
        if choose.random() < 0.7:
            arguments["dim"] = dims[0] - choose.choice((0, len(shape)))
        else:
            dims, sizes = [len(shape) - 1], [shape[-1]]
        if choose.random() < 0.4:
            arguments["n"] = sizes[0] = random_size(choose, least, ndim)
    else:
        dims = choose.sample(range(len(shape)), choose.randint(0 if choose.random() < 0.1 else 1, len(shape)))
        given = choose.random()
        if given < 0.3:
            dims = list(range(len(shape)))
        elif given < 0.5:  # s alone: the last dimensions
            dims = list(range(len(shape) - len(dims), len(shape)))
        else:
            arguments["dim"] = tuple(d - choose.choice((0, len(shape))) for d in dims)
        sizes = [shape[d] for d in dims]
        if 0.3 <= given < 0.5 or choose.random() < 0.4:
            arguments["s"] = [-1 if choose.random() < 0.3 else random_size(choose, least, ndim) for _ in dims]
            sizes = [n if s == -1 else s for n, s in zip(sizes, arguments["s"], strict=True)]
            if len(dims) == 1 and choose.random() < 0.3:
                arguments["s"] = arguments["s"][0]
    batch = [d for d in range(len(shape)) if d not in dims]
    if batch and choose.random() < 0.03:
        shape[choose.choice(batch)] = 0
    dtype, layout = choose.choices(DTYPES, WEIGHTS)[0], choose.choice(LAYOUTS)
    return function, random_tensor(shape, dtype, layout, choose, rng), sizes, arguments


@pytest.mark.cpu_only
def test_ten_thousand_random_calls(dct_backend: str, rng: torch.Generator) -> None:
    """Over function, type, norm, orthogonalize, n, s, dims, dtype and strides; every kind of call takes part."""
    choose = random.Random(int(torch.randint(2**62, (), generator=rng)))
    seen: Counter[Any] = Counter()
    done = 0
    while done < CASES:
        function, x, sizes, arguments = random_call(choose, rng)
        check(function, x, dct_backend, sizes, **arguments)
        done += 1
        seen.update([function, x.dtype, ("type", arguments["type"]), ("norm", arguments["norm"]), x.is_contiguous(), x.numel() > 0])
        seen.update(["cropped or padded" if {"n", "s"} & set(arguments) else "of x's own size"])
        seen.update([("orthogonalize", arguments.get("orthogonalize"))])
    assert done >= 10_000
    kinds = [*FUNCTIONS, *DTYPES, *(("type", t) for t in TYPES), *(("norm", n) for n in NORMS), True, False]
    kinds += ["cropped or padded", "of x's own size", *(("orthogonalize", o) for o in (None, True, False))]
    assert all(seen[kind] >= 50 for kind in kinds), seen


def test_random_calls_on_the_device(dct_backend: str, device: str, rng: torch.Generator) -> None:
    choose = random.Random(int(torch.randint(2**62, (), generator=rng)))
    for _ in range(300):
        function, x, sizes, arguments = random_call(choose, rng)
        check(function, x.to(device), dct_backend, sizes, **arguments)


# ---- the same exceptions ----

# Arguments of a wrong call on an x of shape (3, 4, 5), and the argument that the message must name.
WRONG_IN_BOTH: dict[str, tuple[dict[str, Any], str]] = {
    **{f"type {value!r}": ({"type": value}, "type") for value in (0, 5, -1, 17, 4.0, 1.5, "2", None, [2])},
    **{f"norm {value!r}": ({"norm": value}, "norm") for value in ("Ortho", "", "unitary", 1, True, ["ortho"])},
}
WRONG_IN_ONE: dict[str, tuple[dict[str, Any], str]] = {
    **{f"n {value!r}": ({"n": value}, "n must") for value in (0, -1, -5, 2.0, "3", [3], (3,))},
    **{f"dim {value!r}": ({"dim": value}, "dim") for value in (3, -4, 100, 1.0, None, (0,), [0], "0")},
}
WRONG_IN_SEVERAL: dict[str, tuple[dict[str, Any], str]] = {
    **{f"s {value!r}": ({"s": value}, "s must") for value in (0, -2, 2.0, "3", (0, 3), (3, -2), (2.0, 3), (3, 3, 3, 3), [[3]])},
    **{f"dim {value!r}": ({"dim": value}, "dim") for value in ((0, 0), (0, -3), (1, 2, 1), 1.0, (1.0,), "0", (0, "1"))},
    "s longer than dim": ({"s": (3, 3), "dim": (0,)}, "s and dim"),
    "dim longer than s": ({"s": (3,), "dim": (0, 1)}, "s and dim"),
    "s longer than one dim": ({"s": (3, 3), "dim": 0}, "s and dim"),
    "s for a dim named twice": ({"s": (3, 3), "dim": (0, 0)}, "dim"),
}


def check_same_exception(function: str, x: Tensor, arguments: dict[str, Any], name: str, backend: str) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever SciPy raises
        getattr(scipy.fft, function)(x.numpy(), **scipy_words(function, arguments))
    out = Guarded(x.shape, x.dtype, "cpu")
    for more in ({}, {"out": out.tensor}):
        with pytest.raises(theirs.type) as ours:
            getattr(warmops, function)(x, **arguments, **more, backend=backend)
        assert name in str(ours.value)
    assert out.untouched(including_tensor=True)
    leaf = x.clone().requires_grad_()
    with pytest.raises(theirs.type, match=name):
        getattr(warmops, function)(leaf, **arguments, backend=backend)


@pytest.mark.cpu_only
@pytest.mark.parametrize("wrong", WRONG_IN_BOTH)
@functions
def test_same_exceptions(function: str, wrong: str, dct_backend: str) -> None:
    check_same_exception(function, torch.ones(3, 4, 5), *WRONG_IN_BOTH[wrong], dct_backend)


@pytest.mark.cpu_only
@pytest.mark.parametrize("wrong", WRONG_IN_ONE)
@one_axis
def test_same_exceptions_of_one_axis(function: str, wrong: str, dct_backend: str) -> None:
    check_same_exception(function, torch.ones(3, 4, 5), *WRONG_IN_ONE[wrong], dct_backend)


@pytest.mark.cpu_only
@pytest.mark.parametrize("wrong", WRONG_IN_SEVERAL)
@several_axes
def test_same_exceptions_of_several_axes(function: str, wrong: str, dct_backend: str) -> None:
    check_same_exception(function, torch.ones(3, 4, 5), *WRONG_IN_SEVERAL[wrong], dct_backend)


@pytest.mark.cpu_only
@functions
def test_sizes_that_are_none(function: str, dct_backend: str) -> None:
    """Zero points along a transformed dimension are a mistake; along another one they are an empty batch."""
    check_same_exception(function, torch.ones(4, 0), {}, "at least 1", dct_backend)
    several = function in SEVERAL_AXES
    check_same_exception(function, torch.ones(0, 4), {"dim": (0,) if several else 0}, "at least 1", dct_backend)
    empty = getattr(warmops, function)(torch.ones(0, 4), dim=(1,) if several else 1, backend=dct_backend)
    assert empty.shape == (0, 4)
    padded = getattr(warmops, function)(torch.ones(0, 4), **({"s": (3, -1)} if several else {"n": 3, "dim": 0}), backend=dct_backend)
    assert bit_equal(padded, torch.zeros(3, 4)) or bit_equal(padded.abs(), torch.zeros(3, 4))


@pytest.mark.cpu_only
@pytest.mark.parametrize("function", ["dct", "idct", "dctn", "idctn"])
def test_dct_1_of_one_point(function: str, dct_backend: str) -> None:
    several = function in SEVERAL_AXES
    for x, arguments in ((torch.ones(4, 1), {}), (torch.ones(4, 5), {"s": (3, 1)} if several else {"n": 1})):
        check_same_exception(function, x, {"type": 1, **arguments}, "at least 2", dct_backend)
        with pytest.raises(ValueError, match="at least 2 for a DCT of type 1"):
            getattr(warmops, function)(x, type=1, **arguments, backend=dct_backend)
    sine = function.replace("c", "s")
    assert torch.equal(getattr(warmops, sine)(torch.ones(4, 1), type=1, dim=-1, norm="ortho", backend=dct_backend), torch.ones(4, 1))


@pytest.mark.cpu_only
@functions
def test_a_dim_that_is_not_there_is_torchs_error(function: str, dct_backend: str) -> None:
    for x in (torch.ones(3, 4, 5), torch.tensor(1.0)):
        for dim in (x.ndim, -x.ndim - 1, 7):
            for wrong in (dim, (dim,), (0, dim)) if function in SEVERAL_AXES else (dim,):
                with pytest.raises(IndexError, match=rf"dim must be .*got ({dim}|0)"):
                    getattr(warmops, function)(x, dim=wrong, backend=dct_backend)
                with pytest.raises(IndexError):
                    torch.fft.fftn(x, dim=wrong)
    for name in ("dct2", "idct2"):
        with pytest.raises(IndexError, match="dim must be"):
            getattr(warmops, name)(torch.ones(3), backend=dct_backend)


@pytest.mark.cpu_only
def test_what_only_warmops_refuses(dct_backend: str) -> None:
    x = torch.ones(3, 4)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"x": [1.0, 2.0]}, TypeError, r"x must be a torch\.Tensor, got list"),
        ({"x": np.ones(3)}, TypeError, r"x must be a torch\.Tensor, got ndarray"),
        ({"x": x.to_sparse()}, TypeError, "x must be a strided"),
        ({"x": torch.ones(3, 4).to(torch.float8_e4m3fn)}, TypeError, "x must have one of the dtypes .*float8"),
        ({"orthogonalize": "yes"}, TypeError, "orthogonalize must be None, True or False, got 'yes'"),
        ({"orthogonalize": [True]}, TypeError, "orthogonalize must be"),
        ({"backend": "fftw"}, ValueError, "backend must be"),
        ({"out": torch.ones(3, 5)}, ValueError, r"out must have shape \(3, 4\), got \(3, 5\)"),
        ({"out": torch.ones(3, 4), "n": 6}, ValueError, r"out must have shape \(3, 6\)"),
        ({"out": torch.ones(3, 4, dtype=torch.float64)}, TypeError, "out must have dtype torch.float32"),
        ({"out": torch.ones(3, 4, device="meta")}, ValueError, "out must be on device cpu"),
        ({"out": torch.ones(4).expand(3, 4)}, ValueError, "out must not overlap itself"),
        ({"out": x}, ValueError, "out must not overlap x"),
        ({"out": torch.ones(3, 4, dtype=torch.complex64).conj().imag}, ValueError, "out must not be a lazily negated"),
        ({"x": x + 0j, "out": torch.ones(3, 4, dtype=torch.complex64).conj()}, ValueError, "out must not be a lazily negated or conj"),
        ({"out": "x"}, TypeError, r"out must be a torch\.Tensor, got str"),
    ]
    for arguments, kind, message in wrong:
        for function in (warmops.dct, warmops.idst):
            with pytest.raises(kind, match=message):
                function(**{"x": x, "backend": dct_backend, **arguments})
    with pytest.raises(ValueError, match="s and dim must have the same length"):
        warmops.dct2(torch.ones(3, 4, 5), s=(3,), backend=dct_backend)
    assert torch.equal(x, torch.ones(3, 4))


@pytest.mark.cpu_only
def test_integers_of_other_kinds_are_integers(dct_backend: str, rng: torch.Generator) -> None:
    x = randn((3, 4, 5), rng)
    want = warmops.dct(x, 3, 6, 1, backend=dct_backend)
    got = warmops.dct(x, type=np.int32(3), n=torch.tensor(6), dim=np.int64(1), orthogonalize=np.False_, backend=dct_backend)
    assert bit_equal(got, want)
    several = warmops.dctn(x, 3, s=np.array([6]), dim=torch.tensor([1]), backend=dct_backend)
    assert bit_equal(several, want)


def test_remembered_calls_do_not_mix(dct_backend: str, device: str) -> None:
    """2.0 equals 2, but is no type; what was good once does not make it good."""
    x = torch.ones(3, 4, 5, device=device)
    for function in (warmops.dctn, warmops.dct):
        function(x, 2, backend=dct_backend)
        with pytest.raises(TypeError, match="type"):
            function(x, 2.0, backend=dct_backend)
    warmops.dctn(x, s=(4, 4), backend=dct_backend)
    with pytest.raises(ValueError, match="s must be"):
        warmops.dctn(x, s=(4.0, 4), backend=dct_backend)
    warmops.dct(x, n=4, backend=dct_backend)
    with pytest.raises(TypeError, match="n must be"):
        warmops.dct(x, n=4.0, backend=dct_backend)
