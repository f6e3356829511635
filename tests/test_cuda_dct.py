"""The CUDA transforms without a GPU: the kernels' code run on the host against matrices, and their launcher on top of it."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from _cuda_on_host import A100, H200, SMALL, Axis, Host, compile_host
from _oracles import PI, numpy_of, rel_l2
from _sparse_memory import FAR, far_strides, sparse
from torch import Tensor

from warmops import _dct_fft

_cuda = pytest.importorskip("warmops._cuda", reason="the extension warmops._C was not built", exc_type=ImportError)
pytestmark = pytest.mark.cpu_only
TILES = (8, 16, 32, 48, 64, 128)
# Every leaf there is, by itself and halved; odd and even, folded and not; one line of most points.
LENGTHS = (1, 2, 3, 5, 6, 7, 12, 15, 17, 20, 24, 25, 28, 30, 31, 33, 37, 40, 50, 66, 70, 96, 100, 127, 192, 224, 254, 256, 384, 511, 1000)
FLOATS = (torch.float32, torch.float64)
ENDS = {0: ((0, -1), (0, -1)), 1: ((), (0,)), 2: ((0,), ()), 5: ((), (-1,)), 6: ((-1,), ())}


def matrix(kind: int, n: int) -> np.ndarray:
    """The plain kernel ``[n, n]`` from its definition, angles reduced in integers, long double."""
    k, j = np.arange(n)[:, None], np.arange(n)[None, :]
    if kind in (2, 6):
        return matrix(kind - 1, n).T
    turns, half_turn = {
        0: (j * k, n - 1),
        1: (k * (2 * j + 1), 2 * n),
        3: ((2 * k + 1) * (2 * j + 1), 4 * n),
        4: ((j + 1) * (k + 1), n + 1),
        5: ((k + 1) * (2 * j + 1), 2 * n),
        7: ((2 * k + 1) * (2 * j + 1), 4 * n),
    }[kind]
    angle = PI * (turns % (2 * half_turn)).astype(np.longdouble) / half_turn
    return np.cos(angle) if kind < 4 else np.sin(angle)


def oracle(x: Tensor, shape: Sequence[int], axes: Sequence[Axis]) -> np.ndarray:
    y = numpy_of(x)
    for dim, kind, scale, ends_in, ends_out in axes:
        n = shape[dim]
        full = scale * matrix(kind, n)
        before, after = ENDS.get(kind, ((), ()))
        full[:, list(before)] *= ends_in
        full[list(after)] *= ends_out
        y = np.moveaxis(y, dim, 0)[:n]
        y = np.moveaxis(np.tensordot(full[:, : y.shape[0]], y, 1), 0, dim)
    return y


def bar(dtype: torch.dtype, n: int) -> float:
    if dtype == torch.float64:
        return 2e-15 * max(1.0, math.log2(n))
    return 2.5e-7 if n <= 256 else 4e-7


def kinds(n: int) -> list[int]:
    """Type I is multiplied out, which is for short lengths; cosine I has at least two points."""
    return [kind for kind in range(8) if (kind % 4 or n <= 256) and (kind or n > 1)]


@pytest.fixture
def library() -> ctypes.CDLL:
    return compile_host()


@pytest.fixture
def host(library: ctypes.CDLL) -> Host:
    return Host(library)


def permuted(shape: Sequence[int], order: Sequence[int], dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    """Normals of a shape, its dimensions in any order in memory."""
    memory = torch.randn([shape[i] for i in order], dtype=torch.float64, generator=rng).to(dtype)
    return memory.permute([list(order).index(i) for i in range(len(shape))])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_more_lines_than_a_block_takes(n: int, host: Host, rng: torch.Generator) -> None:
    """Found by fuzzing: one point each, of more lines than a line has points at most."""
    for shape, dim in (((n, 5000), 0), ((5000, n), 1), ((3, n, 4099), 1)):
        for dtype in FLOATS:
            x, axes = permuted(shape, range(len(shape)), dtype, rng), [(dim, 5, 0.7, 1.3, 0.6)]
            out = torch.full_like(x, torch.nan)
            host.launch(x, out, axes)
            assert rel_l2(out, oracle(x, x.shape, axes)) <= bar(dtype, n), (shape, dtype)


@pytest.mark.parametrize("n", sorted({*TILES, *LENGTHS}))
def test_one_axis(n: int, host: Host, rng: torch.Generator) -> None:
    """Every kind, dense and strided lines, float32 and float64; the same bits whatever the order of threads."""
    layouts = ((0, 1, 2), (0, 2, 1)) if n < 384 else ((0, 2, 1),)
    for kind, dtype, order in itertools.product(kinds(n), FLOATS, layouts):
        x = permuted((3, n, 5), order, dtype, rng)
        axes = [(1, kind, 0.7, 1.3, 0.6)]
        out, again = (torch.full_like(x, torch.nan) for _ in range(2))
        host.reversed = False
        host.launch(x, out, axes)
        assert rel_l2(out, oracle(x, x.shape, axes)) <= bar(dtype, n), (kind, dtype, order)
        host.reversed = True
        host.launch(x, again, axes)
        assert torch.equal(out, again), (kind, dtype, order)


def test_one_colour(host: Host, rng: torch.Generator) -> None:
    """Where all is one sum of equal numbers, each rounding counts: products in a row would lose five times the last digit."""
    for n in (33, 99, 127, 147, 201, 221, 234, 244, 253, 446):
        for kind in kinds(n):
            x = torch.rand(4, 1, generator=rng).expand(4, n).contiguous()
            axes, out = [(1, kind, 2.0, 0.5 if kind in (0, 2, 6) else 1.0, 1.0)], torch.full_like(x, torch.nan)
            host.launch(x, out, axes)
            for row in range(4):
                assert rel_l2(out[row], oracle(x[row : row + 1], (1, n), axes)) <= bar(x.dtype, n), (n, kind)


@pytest.mark.parametrize("kind", [1, 2, 3, 6])
def test_most_points(kind: int, host: Host, rng: torch.Generator) -> None:
    for dtype, limit in itertools.product(FLOATS, (H200, SMALL)):
        x = torch.randn(3, 2048, dtype=dtype, generator=rng)
        out, axes, host.limit = torch.full_like(x, torch.nan), [(1, kind, 1.0, 1.0, 1.0)], limit
        assert host.fits(out, axes)
        host.launch(x, out, axes)
        assert rel_l2(out, oracle(x, x.shape, axes)) <= bar(dtype, 2048)


@pytest.mark.parametrize("trial", range(60))
def test_two_axes(trial: int, host: Host, rng: torch.Generator) -> None:
    """Random kinds, sizes, pads and crops, orders in memory, dtypes."""

    def pick(options: Sequence[int]) -> int:
        return options[int(torch.randint(len(options), (), generator=rng))]

    tile = trial % 2 == 0  # the same straight-line length twice
    n = [pick(TILES if tile else (1, 2, 5, 8, 17, 28, 33, 40, 64, 100))] * 2
    if not tile:
        n[1] = pick((2, 3, 7, 16, 31, 50, 96, 127))
    kind = [pick((1, 2, 3, 5, 6, 7) if tile else kinds(size)) for size in n]
    dtype = (torch.float32, torch.float64, torch.float16, torch.bfloat16)[trial % 4 if not tile else trial // 2 % 4]
    sizes_in = [max(1, size + pick((0, 0, -3, 3, -(size // 2), size))) for size in n]
    orders = list(itertools.permutations(range(4)))
    order = orders[pick(range(24))]
    x = permuted((pick((1, 3)), *sizes_in, pick((1, 2))), order, dtype, rng)
    out = permuted((x.shape[0], *n, x.shape[3]), pick((order, (0, 1, 2, 3), orders[pick(range(24))])), dtype, rng).fill_(torch.nan)
    axes = [(1, kind[0], 0.5, 1.3, 0.6), (2, kind[1], 0.25, 0.8, 1.2)]
    if not host.fits(out, axes):
        assert dtype == torch.float64 and min(n) >= 96
        return
    host.reversed = trial % 3 == 0
    host.launch(x, out, axes)
    wide = out
    if dtype in (torch.float16, torch.bfloat16):
        wide = torch.empty_like(out, dtype=torch.float32)
        host.launch(x.float(), wide, axes)
        assert torch.equal(wide.to(dtype), out)  # rounded once
    assert rel_l2(wide, oracle(x, out.shape, axes)) <= bar(wide.dtype, max(n))


@pytest.mark.parametrize("n", [32, 48, 50])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.bfloat16], ids=str)
def test_in_place(n: int, dtype: torch.dtype, host: Host, rng: torch.Generator) -> None:
    """The launcher's later steps write where they read."""
    x = torch.randn(7, n, n, dtype=torch.float64, generator=rng).to(dtype)
    for axes in ([(1, 1, 1.0, 1.0, 1.0), (2, 7, 1.0, 1.0, 1.0)], [(1, 2, 1.0, 1.0, 1.0)], [(2, 3, 1.0, 1.0, 1.0)]):
        want, got = torch.empty_like(x), x.clone()
        host.launch(x, want, axes)
        host.launch(got, got, axes)
        assert torch.equal(got, want)


def test_expanded_and_sliced(host: Host, rng: torch.Generator) -> None:
    """Strides of zero, and rows that do not begin at 16 bytes."""
    for n in (16, 20):
        row = torch.randn(1, 1, n, generator=rng)
        memory = torch.full((3, n, n + 1), torch.nan)
        out, axes = memory[:, :, 1:], [(1, 1, 1.0, 1.0, 1.0), (2, 2, 1.0, 1.0, 1.0)]
        host.launch(row.expand(3, n, n), out, axes)
        assert rel_l2(out, oracle(row.expand(3, n, n), out.shape, axes)) <= bar(torch.float32, n)
        assert memory[:, :, 0].isnan().all()


def test_bad_plans(host: Host) -> None:
    x = torch.zeros(4, 4)
    one = (1, 1, 1.0, 1.0, 1.0)
    for bad, words in (
        ([], "one or two axes"),
        ([one] * 3, "one or two axes"),
        ([one, one], "different dimensions"),
        ([(0, 8, *one[2:])], "kind"),
    ):
        with pytest.raises(ValueError, match=words):
            host.launch(x, torch.zeros(4, 4), bad)
    with pytest.raises(ValueError, match="same size in dimension 0"):
        host.launch(x, torch.zeros(5, 4), [one])
    with pytest.raises(ValueError, match="float64, or both"):
        host.launch(x, torch.zeros(4, 4, dtype=torch.float64), [one])
    with pytest.raises(ValueError, match="does not fit"):
        host.launch(torch.zeros(1, 4099), torch.zeros(1, 4099), [one])


def test_half_precision_numbers(library: ctypes.CDLL, rng: torch.Generator) -> None:
    """All 65536 of both formats, and the rounding of numbers near and between them."""
    every = np.arange(2**16, dtype=np.uint16)
    for bfloat, dtype in ((0, torch.float16), (1, torch.bfloat16)):
        want = torch.from_numpy(every.view(np.int16)).view(dtype)
        wide = np.empty(2**16, np.float32)
        library.halves(ctypes.c_void_p(every.ctypes.data), ctypes.c_int64(2**16), bfloat, ctypes.c_void_p(wide.ctypes.data))
        np.testing.assert_array_equal(wide, want.float().numpy())
        finite = want[want.isfinite()].float()
        between = (finite.double() + torch.nextafter(want, torch.full_like(want, torch.inf))[want.isfinite()].double()) / 2
        ties = between[between.isfinite()].float()
        random = torch.randint(-(2**31), 2**31, (100_000,), generator=rng).to(torch.int32).view(torch.float32)
        edges = torch.tensor([65519.996, 65520.0, 3.4e38, torch.inf, -torch.inf, torch.nan, 2.0**-25, 2.0**-24, 1e-45, -0.0])
        numbers = torch.cat(
            [finite, ties, ties.nextafter(torch.tensor(torch.inf)), ties.nextafter(torch.tensor(-torch.inf)), random, edges]
        )
        bits = np.empty(numbers.numel(), np.uint16)
        library.rounded(ctypes.c_void_p(numbers.data_ptr()), ctypes.c_int64(numbers.numel()), bfloat, ctypes.c_void_p(bits.ctypes.data))
        torch.testing.assert_close(torch.from_numpy(bits.view(np.int16)).view(dtype), numbers.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def launcher(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """`warmops._cuda.dct` on CPU tensors, its launches run on the host."""
    monkeypatch.setattr(_cuda, "_launch", host.launch)
    monkeypatch.setattr(_cuda, "_fits", host.fits)
    return host


@pytest.mark.parametrize("limit", [H200, A100, SMALL])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_launcher(dtype: torch.dtype, limit: int, launcher: Host, rng: torch.Generator) -> None:
    """Steps of one and two axes, FFTs among them; each other dimension padded or cropped when its turn comes."""
    launcher.limit = limit
    for shape_in, shape, dims in (
        ((2, 32, 32), (2, 32, 32), (1, 2)),
        ((40, 3, 31), (33, 5, 64), (0, 1, 2)),
        ((4, 9, 5, 7), (4, 3, 5, 8), (3, 1, 0)),
        ((3, 2500), (3, 2500), (0, 1)),
        ((3, 521, 2), (5, 523, 2), (1, 0)),
        ((2, 100, 0), (2, 128, 6), (1, 2)),
        ((1, 128, 128), (1, 128, 128), (1, 2)),
    ):
        kind = [int(k) for k in torch.randint(1, 8, (len(dims),), generator=rng)]
        axes = tuple((dim, k, 0.5, 1.2, 0.7) for dim, k in zip(dims, kind, strict=True))
        x, out = permuted(shape_in, range(len(shape)), dtype, rng), torch.full(shape, torch.nan, dtype=dtype)
        keep = x.clone()
        _cuda.dct(x, out, axes)
        assert torch.equal(x, keep)
        want = oracle(x, shape, axes)
        if dtype == torch.float16:
            wide = torch.empty(shape)
            _cuda.dct(x.float(), wide, axes)
            assert torch.equal(wide.to(dtype), out)  # rounded once, whatever the number of steps
            out = wide
        error = float(np.sqrt(((numpy_of(out) - want) ** 2).sum()))
        assert error <= bar(out.dtype, max(shape)) * float(np.sqrt((want**2).sum())), (shape, kind)


def test_one_launch_up_to_128(launcher: Host, rng: torch.Generator) -> None:
    """Any two axes of at most 128 points go together in float32, wherever they are; float64 up to 64."""
    for n, m in [(n, n) for n in TILES] + [(128, 127), (100, 100), (28, 28), (96, 7), (1, 128), (127, 127)]:
        for dtype in FLOATS:
            x = torch.randn(2, n, m, dtype=dtype, generator=rng)
            launcher.launches = 0
            _cuda.dct(x, torch.empty_like(x), ((1, 1, 1.0, 1.0, 1.0), (2, 2, 1.0, 1.0, 1.0)))
            assert launcher.launches == 1 or (dtype == torch.float64 and max(n, m) > 64), (n, m, dtype)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12, 127, 300])
def test_fft_formulation(n: int, rng: torch.Generator) -> None:
    for kind, dtype, size in itertools.product(range(8), FLOATS, (n, max(1, n - 2), n + 3)):
        if kind == 0 and n == 1:
            continue
        x = torch.randn(2, size, 2, dtype=dtype, generator=rng)
        keep, axis = x.clone(), (1, kind, 0.7, 1.3, 0.6)
        got = _dct_fft.transform(x, 1, n, *axis[1:])
        assert torch.equal(x, keep) and got.shape == (2, n, 2) and got.dtype == dtype
        assert rel_l2(got, oracle(x, got.shape, [axis])) <= bar(dtype, n), (kind, dtype, size)


def test_fft_formulation_in_float32(rng: torch.Generator) -> None:
    """Against itself in float64, at the largest size that has a bar."""
    for kind, n in itertools.product(range(8), (2049, 4096)):
        x = torch.randn(20, n, generator=rng)
        got, want = (_dct_fft.transform(x.to(dtype), 1, n, kind, 1.0, 1.0, 1.0) for dtype in FLOATS)
        assert rel_l2(got, numpy_of(want)) <= 4e-7, (kind, n)


@pytest.mark.parametrize("n", [2**20, 1_048_573])
def test_fft_formulation_of_a_million(n: int, rng: torch.Generator) -> None:
    """Against single outputs summed in float64, at 2^20 and at a prime."""
    x = torch.randn(n, dtype=torch.float64, generator=rng)
    for kind in (1, 2, 3, 4, 5):
        got = _dct_fft.transform(x.clone(), 0, n, kind, 1.0, 1.0, 1.0)
        for k in (0, 1, 12345, n // 2, n - 1):
            j = torch.arange(n)
            top, half_turn = {
                1: (k * (2 * j + 1), 2 * n),
                2: (j * (2 * k + 1), 2 * n),
                3: ((2 * k + 1) * (2 * j + 1), 4 * n),
                4: ((j + 1) * (k + 1), n + 1),
                5: ((k + 1) * (2 * j + 1), 2 * n),
            }[kind]
            angle = (top % (2 * half_turn)).double() * (math.pi / half_turn)
            want = (x * (angle.cos() if kind < 4 else angle.sin())).sum()
            assert abs(float(got[k] - want)) <= 1e-11 * math.sqrt(n), (kind, k)


@pytest.mark.parametrize("dim", range(3), ids=("batch", "first axis", "second axis"))
def test_elements_billions_apart(dim: int, host: Host, rng: torch.Generator) -> None:
    """Offsets beyond 31 and 32 bits, in memory that exists where it is touched."""
    for shape, stride in itertools.product(((3, 16, 8), (2, 3, 31), (2, 5, 3)), FAR):
        if shape[dim] > 16:
            continue
        x = torch.rand(shape, generator=rng)
        for axes in ([(2, 1, 0.7, 1.0, 1.0)], [(1, 2, 0.7, 0.5, 1.0), (2, 1, 0.3, 1.0, 1.0)]):
            want = torch.full(shape, torch.nan)
            host.launch(x, want, axes)
            got = sparse(torch.full(shape, torch.nan), far_strides(shape, dim, stride))
            host.launch(sparse(x, far_strides(shape, dim, stride)), got, axes)
            assert want.isfinite().all() and (got - want).abs().max() <= 4e-7 * want.abs().max(), (shape, stride, axes)
