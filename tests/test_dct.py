"""`warmops.dct` and its family: definitions, accuracy at every size, dtypes."""

from __future__ import annotations

import math
from typing import Any

import _oracles
import numpy as np
import pytest
import torch
from _cases import HALVES, bit_equal, float_dtypes, half_dtypes, ident, randn
from _dct_cases import FUNCTIONS, NORMS, ONE_AXIS, bar, check, one_axis, types
from torch import Tensor

import warmops

SIZES = (*range(2, 34), 37, 40, 45, 48, 49, 55, 60, 64, 65, 72, 81, 96, 97, 99, 100, 112, 120, 121, 125, 127, 128, 129, 131)
MIDDLE_SIZES = (144, 169, 191, 192, 200, 211, 224, 225, 240, 243, 250, 255, 256)
LARGE_SIZES = (257, 320, 384, 500, 509, 512, 513, 720, 768, 1000, 1021, 1024)
LARGEST_SIZES = (2048, 2187, 3125, 4091, 4095, 4096)
IMAGES = ((3, 2, 8, 8), (2, 3, 28, 28), (2, 1, 32, 32), (1, 2, 64, 64), (2, 2, 5, 128), (2, 1, 127, 3), (1, 1, 96, 100), (1, 1, 256, 224))
all_kinds = [pytest.param(f, t, id=f"{f}{t}") for f in ("dct", "dst") for t in (1, 2, 3, 4)]
kinds = pytest.mark.parametrize(("function", "type_"), all_kinds)


def call(function: str, x: Tensor, **arguments: Any) -> Tensor:
    return getattr(warmops, function)(x, **arguments)


# ---- what it computes ----


def by_definition(function: str, type_: int, x: np.ndarray) -> np.ndarray:
    """The sums of the docstrings, in long double."""
    n, pi = len(x), _oracles.PI
    j, k = np.arange(n).astype(np.longdouble), np.arange(n).astype(np.longdouble)[:, None]
    sign = (-1.0) ** k[:, 0]
    if function == "dct":
        if type_ == 1:
            return x[0] + sign * x[-1] + 2 * (np.cos(pi * j * k / (n - 1)) * x)[:, 1:-1].sum(1)
        if type_ == 2:
            return 2 * (np.cos(pi * k * (2 * j + 1) / (2 * n)) * x).sum(1)
        if type_ == 3:
            return x[0] + 2 * (np.cos(pi * (2 * k + 1) * j / (2 * n)) * x)[:, 1:].sum(1)
        return 2 * (np.cos(pi * (2 * k + 1) * (2 * j + 1) / (4 * n)) * x).sum(1)
    if type_ == 1:
        return 2 * (np.sin(pi * (j + 1) * (k + 1) / (n + 1)) * x).sum(1)
    if type_ == 2:
        return 2 * (np.sin(pi * (k + 1) * (2 * j + 1) / (2 * n)) * x).sum(1)
    if type_ == 3:
        return sign * x[-1] + 2 * (np.sin(pi * (2 * k + 1) * (j + 1) / (2 * n)) * x)[:, :-1].sum(1)
    return 2 * (np.sin(pi * (2 * k + 1) * (2 * j + 1) / (4 * n)) * x).sum(1)


@kinds
def test_definitions(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """The docstrings' sums, and what norm and orthogonalize do to them."""
    for n in (2, 3, 4, 7, 16):
        x = randn((n,), rng, device=device)
        values, root = _oracles.numpy_of(x), np.sqrt(np.longdouble(2))
        scale = {"backward": 1, None: 1, "ortho": 1 / np.sqrt(np.longdouble(2 * n)), "forward": np.longdouble(1) / (2 * n)}
        if type_ == 1:
            points = n - 1 if function == "dct" else n + 1
            scale |= {"ortho": 1 / np.sqrt(np.longdouble(2 * points)), "forward": np.longdouble(1) / (2 * points)}
        end = 0 if function == "dct" else n - 1
        for norm in NORMS:
            for orthogonalize in (None, True, False):
                changed = values.copy()
                orthogonal = orthogonalize if orthogonalize is not None else norm == "ortho"
                if orthogonal and function == "dct" and type_ == 1:
                    changed[[0, -1]] *= root
                if orthogonal and type_ == 3:
                    changed[end] *= root
                want = scale[norm] * by_definition(function, type_, changed)
                if orthogonal and function == "dct" and type_ == 1:
                    want[[0, -1]] /= root
                if orthogonal and type_ == 2:
                    want[end] /= root
                got = call(function, x, type=type_, norm=norm, orthogonalize=orthogonalize, backend=dct_backend)
                assert _oracles.rel_l2(got, want) <= bar(x.dtype, [n]), (n, norm, orthogonalize)


@kinds
def test_orthogonal_and_inverse(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    for n in (2, 5, 8, 33, 100):
        matrix = call(function, torch.eye(n, device=device, dtype=torch.float64), type=type_, norm="ortho", backend=dct_backend)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(n, device=device, dtype=torch.float64), rtol=0, atol=2e-14)
        x = randn((3, n, n + 1), rng, device=device)
        for norm in NORMS:
            for orthogonalize in (None, True, False):
                options: dict[str, Any] = {"type": type_, "norm": norm, "orthogonalize": orthogonalize, "backend": dct_backend}
                back = call(f"i{function}", call(function, x, **options, dim=1), **options, dim=1)
                torch.testing.assert_close(back, x, rtol=0, atol=2e-14)
                back = call(f"i{function}n", call(f"{function}n", x, **options, dim=(1, 2)), **options, dim=(1, 2))
                torch.testing.assert_close(back, x, rtol=0, atol=5e-14)


def test_the_shorter_names(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """dct2 is dctn of the last two dimensions; arguments may be given in SciPy's order."""
    x = randn((3, 4, 5, 6), rng, device=device)
    options: dict[str, Any] = {"backend": dct_backend}
    for two, several in ((warmops.dct2, warmops.dctn), (warmops.idct2, warmops.idctn)):
        assert bit_equal(two(x, **options), several(x, dim=(-2, -1), **options))
        assert bit_equal(two(x, 3, (-1, 9), norm="ortho", **options), several(x, 3, (-1, 9), (2, 3), "ortho", **options))
        assert bit_equal(two(x, 1, None, (0, 1), "forward", **options), several(x, type=1, dim=(0, 1), norm="forward", **options))
    for function in FUNCTIONS:
        if function in ONE_AXIS:
            assert bit_equal(
                call(function, x, type=4, n=9, dim=1, norm="ortho", **options), getattr(warmops, function)(x, 4, 9, 1, "ortho", **options)
            )
        else:
            assert bit_equal(call(function, x, s=(7, 8), **options), call(function, x, s=(7, 8), dim=(2, 3), **options))


def test_values_at_the_smallest_sizes(dct_backend: str, device: str) -> None:
    one = torch.tensor([3.0], device=device)
    for function in ONE_AXIS:
        for type_ in (2, 3, 4):
            check(function, one, dct_backend, type=type_)
            check(function, one, dct_backend, type=type_, norm="ortho")
            check(function, one, dct_backend, type=type_, n=5)
    check("dst", one, dct_backend, type=1)
    assert float(warmops.dct(one, backend=dct_backend)) == 6.0
    assert float(warmops.dct(one, norm="ortho", backend=dct_backend)) == pytest.approx(3.0, rel=2.5e-7)


# ---- accuracy ----


def check_sizes(function: str, type_: int, sizes: tuple[int, ...], batch: int, backend: str, device: str, rng: torch.Generator) -> None:
    """Along rows and along columns, float32 and float64; every bar is that of the size."""
    for n in sizes:
        for dtype in (torch.float32, torch.float64):
            norm = NORMS[int(torch.randint(4, (), generator=rng))]
            check(function, randn((batch, n), rng, dtype, device), backend, [n], type=type_, norm=norm)
            check(function, randn((2, n, batch), rng, dtype, device), backend, [n], type=type_, dim=1, norm=norm)


@kinds
def test_accuracy(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    check_sizes(function, type_, SIZES, 5, dct_backend, device, rng)


@kinds
def test_accuracy_at_middle_sizes(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    check_sizes(function, type_, MIDDLE_SIZES, 9, dct_backend, device, rng)


@kinds
def test_accuracy_at_large_sizes(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    chosen = [LARGE_SIZES[i] for i in torch.randperm(len(LARGE_SIZES), generator=rng)[:5]]
    check_sizes(function, type_, tuple(chosen), 3, dct_backend, device, rng)


@kinds
def test_accuracy_at_the_largest_sizes(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    n = LARGEST_SIZES[int(torch.randint(len(LARGEST_SIZES), (), generator=rng))]
    for dtype in (torch.float32, torch.float64):
        check(function, randn((2, n), rng, dtype, device), dct_backend, [n], type=type_)


@kinds
def test_accuracy_of_one_sign(function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """One colour, light, a random walk, each line by itself: their transforms are nearly one number, where roundings do not average."""
    for n in (97, 199, 221, 225, 244, 1021, 1945):
        u = torch.rand(3, n, generator=rng, dtype=torch.float32)
        for line in (u[0, :1].expand(n).clone(), u[1], (u[2] - 0.5).cumsum(0)):
            check(function, line.to(device), dct_backend, [n], type=type_)


@pytest.mark.parametrize("shape", IMAGES, ids=ident)
@float_dtypes
def test_accuracy_of_images(shape: tuple[int, ...], dtype: torch.dtype, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Two axes in one call: each result within the bar of its larger size; smooth images as well as noise."""
    smooth = randn(shape, rng, dtype, device).cumsum(-1).cumsum(-2)
    for x in (randn(shape, rng, dtype, device), smooth):
        for function in ("dctn", "idctn", "dstn", "idstn"):
            for type_ in (1, 2, 3, 4):
                check(function, x, dct_backend, shape[-2:], type=type_, dim=(-2, -1), norm="ortho")
        check("dctn", x, dct_backend, shape[-2:], dim=(-2, -1))


@pytest.mark.parametrize("n", [8, 29, 64, 100, 256])
@half_dtypes
def test_halves(dtype: torch.dtype, n: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Arithmetic in float32, rounded once, crop and padding included."""
    x = randn((4, n, n), rng, dtype, device)
    for function in ONE_AXIS:
        check(function, x, dct_backend, [n], type=2, norm="ortho")
        check(function, x, dct_backend, [n], type=3, dim=1, n=n - 3, norm="forward")
    check("dctn", x, dct_backend, [n + 5], s=(n + 5, n), dim=(1, 2), norm="ortho")


@pytest.mark.parametrize("ends", [(1, 0), (0, 1), (3, 5)])
def test_large_values_and_zeros(ends: tuple[int, int], dct_backend: str, device: str) -> None:
    """No overflow on the way to a result that float32 holds; zeros give zeros; an infinity stays in its row."""
    x = torch.zeros(4, 16, device=device)
    x[0] = 2e37
    x[1, ends[0]] = math.inf
    for type_ in (2, 3):
        y = warmops.dct(x, type=type_, norm="ortho", backend=dct_backend)
        assert y[0].isfinite().all() and (y[2:] == 0).all() and not y[1].isfinite().any()


# ---- dtypes ----


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16], ids=ident)
@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=ident)
def test_integers_become_the_default_dtype(dtype: torch.dtype, default: torch.dtype, dct_backend: str, device: str) -> None:
    x = torch.arange(24, device=device).reshape(4, 6).remainder(2 if dtype == torch.bool else 24).to(dtype)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        got = warmops.dct2(x, backend=dct_backend)
        assert got.dtype == default and bit_equal(got, warmops.dct2(x.to(default), backend=dct_backend))
    finally:
        torch.set_default_dtype(before)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.complex32], ids=ident)
def test_complex_numbers_part_by_part(dtype: torch.dtype, dct_backend: str, device: str, rng: torch.Generator) -> None:
    parts = randn((3, 8, 9, 2), rng, device=device).to(dtype.to_real())
    x = torch.view_as_complex(parts)
    for function, arguments in (("dct", {"type": 3, "dim": 1}), ("dstn", {"s": (5, 11)}), ("idctn", {"norm": "ortho", "dim": (0, 2)})):
        got = torch.view_as_real(call(function, x, **arguments, backend=dct_backend))
        for i in range(2):
            want = call(function, parts[..., i].contiguous(), **arguments, backend=dct_backend)
            tolerance = {torch.complex128: 1e-14, torch.complex64: 1e-6, torch.complex32: 2e-3}[dtype]
            torch.testing.assert_close(got[..., i], want, rtol=tolerance, atol=10 * tolerance)


def test_lazy_conjugates_and_negatives(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """Views whose numbers are not what their memory holds."""
    x = torch.view_as_complex(randn((4, 8, 2), rng, device=device))
    assert bit_equal(
        torch.view_as_real(warmops.dct(x.conj(), backend=dct_backend)),
        torch.view_as_real(warmops.dct(x.conj().resolve_conj(), backend=dct_backend)),
    )
    negative = x.conj().imag
    assert negative.is_neg()
    assert bit_equal(warmops.dct(negative, backend=dct_backend), warmops.dct(negative.clone(), backend=dct_backend))


# ---- one call for the others ----


@one_axis
@types
def test_every_norm_of_every_type_on_halves_and_singles(
    function: str, type_: int, dct_backend: str, device: str, rng: torch.Generator
) -> None:
    for dtype in (torch.float32, *HALVES):
        x = randn((6, 11), rng, dtype, device)
        for norm in NORMS:
            check(function, x, dct_backend, [11], type=type_, norm=norm)
            check(function + "n", x, dct_backend, [11], type=type_, norm=norm)


@pytest.mark.cpu_only
def test_public_names() -> None:
    for name in ("dct2", "idct2", *FUNCTIONS):
        function = getattr(warmops, name)
        assert name in warmops.__all__
        assert "Returns:" in function.__doc__ and "Raises:" in function.__doc__
        assert "return" in function.__annotations__
