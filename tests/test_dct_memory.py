"""`warmops.dct` and its family: strides, what is read and written, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from _cases import FLOATS, Guarded, bit_equal, float_dtypes, ident, layouts, randn, strided
from _dct_cases import FUNCTIONS, check, functions
from test_dct import call

import warmops
from warmops import _dispatch

# ---- strides and memory ----


@layouts
@float_dtypes
def test_layouts(layout: str, dtype: torch.dtype, dct_backend: str, device: str, rng: torch.Generator) -> None:
    for shape in ((3, 4, 16, 16), (2, 3, 9, 37), (1, 2, 130, 5)):
        x = strided(randn(shape, rng, dtype, device), layout)
        check("dctn", x, dct_backend, dim=(-2, -1))
        check("dctn", x, dct_backend, dim=(1, 3), s=(5, 12), type=3)
        check("dst", x, dct_backend, dim=2)
        check("idct", x, dct_backend, dim=0, n=3)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_expanded_tensors(dim: int, dct_backend: str, device: str, rng: torch.Generator) -> None:
    shape = [3, 4, 8, 9]
    shape[dim] = 1
    x = randn(tuple(shape), rng, torch.float32, device).expand(*(n if d != dim else 6 for d, n in enumerate(shape)))
    for dims in ((2, 3), (0,), (1, 2), (0, 1, 2, 3)):
        check("dctn", x, dct_backend, dim=dims)


@layouts
@float_dtypes
def test_out_is_written_and_nothing_else(layout: str, dtype: torch.dtype, dct_backend: str, device: str, rng: torch.Generator) -> None:
    shape = (4, 3, 10, 12)
    for function, arguments in (("dctn", {"dim": (2, 3)}), ("dst", {"dim": 1}), ("idctn", {"type": 3, "dim": (0, 2, 3)})):
        x = randn(shape, rng, dtype, device)
        out = Guarded(shape, dtype, device, layout)
        assert call(function, x, **arguments, out=out.tensor, backend=dct_backend) is out.tensor
        assert out.untouched()
        want = call(function, x, **arguments, backend=dct_backend)
        eps = torch.finfo(dtype).eps
        assert torch.equal(out.tensor.isfinite(), want.isfinite())
        torch.testing.assert_close(out.tensor, want, rtol=2 * eps, atol=16 * eps * float(want.abs().max()))
        for s in (7, 17):  # cropped, padded
            result = Guarded((4, 3, s, 12), dtype, device, layout)
            call("dct", x, n=s, dim=2, out=result.tensor, backend=dct_backend)
            assert result.untouched() and not result.tensor.isnan().any()


def test_out_beside_x_in_one_buffer(dct_backend: str, device: str, rng: torch.Generator) -> None:
    buffer = torch.zeros(4, 6, 8, 8, device=device)
    x, out = buffer[:, 0::2], buffer[:, 1::2]
    x.copy_(randn((4, 3, 8, 8), rng))
    before = x.clone()
    warmops.dct2(x, out=out, backend=dct_backend)
    assert bit_equal(x, before)
    torch.testing.assert_close(out, warmops.dct2(before, backend=dct_backend), rtol=1e-6, atol=1e-5)


def test_unwritten_outputs_are_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every other test relies on: a kernel that writes nothing yields NaN."""
    monkeypatch.setattr(_dispatch, "_load", lambda backend, device, op: lambda *args: None)
    monkeypatch.setattr(_dispatch, "native", lambda: "not to be used")
    x = torch.ones(2, 3, 8, 8)
    for function in FUNCTIONS:
        assert call(function, x).isnan().all() and call(function, x.requires_grad_()).isnan().all()
        x = x.detach()
    assert warmops.dctn(x, s=(3, 20)).isnan().all()


def test_inputs_at_the_end_of_memory(dct_backend: str, device: str, rng: torch.Generator) -> None:
    """x's neighbours hold NaN; none of it reaches the result, cropped, padded or whole."""
    for shape in ((5, 3, 16, 16), (3, 2, 9, 23), (2, 1, 33, 5), (4, 1, 1, 1), (1, 1, 128, 128)):
        for dtype in FLOATS:
            x = randn(shape, rng, dtype, device)
            buffer = torch.full((x.numel() + 96,), torch.nan, dtype=dtype, device=device)
            among_nan = buffer[31 : 31 + x.numel()].reshape(shape).copy_(x)
            for s in (None, (3, 7), (40, 20)):
                options: dict[str, Any] = {"s": s, "dim": (2, 3), "backend": dct_backend}
                assert bit_equal(warmops.dctn(among_nan, **options), warmops.dctn(x, **options))


def test_inputs_are_not_written(dct_backend: str, device: str, rng: torch.Generator) -> None:
    x = randn((4, 3, 12, 10), rng, torch.float32, device)
    before = x.clone()
    for function in FUNCTIONS:
        call(function, x, backend=dct_backend)
    assert bit_equal(x, before)


def test_nothing_to_transform_is_a_copy(dct_backend: str, device: str, rng: torch.Generator) -> None:
    for x in (randn((3, 4), rng, device=device), torch.tensor(2.5, device=device)):
        y = warmops.dctn(x, dim=(), backend=dct_backend)
        assert bit_equal(y, x) and y.data_ptr() != x.data_ptr()
        assert bit_equal(warmops.idstn(x, s=(), backend=dct_backend), x)
    assert warmops.dctn(torch.tensor(2.5, device=device), backend=dct_backend) == 2.5


@functions
def test_empty_batches(function: str, dct_backend: str, device: str) -> None:
    for shape in ((0, 8), (3, 0, 8), (0, 0, 8)):
        for dtype in (*FLOATS, torch.complex64, torch.int64):
            x = torch.zeros(shape, dtype=dtype, device=device)
            y = call(function, x, dim=-1, backend=dct_backend)
            assert y.shape == shape and y.dtype == (torch.float32 if dtype == torch.int64 else dtype)
            out = torch.empty_like(y)
            assert call(function, x, dim=-1, out=out, backend=dct_backend) is out


@pytest.mark.cpu_only
@layouts
def test_no_hidden_copy(layout: str, rng: torch.Generator) -> None:
    """The C++ kernels read and write strided tensors where they are: torch allocates the output and nothing of its size."""
    if not warmops.backends()["cpu"]:
        pytest.skip(warmops.backends()["cpu"].detail)
    x = strided(randn((8, 4, 64, 64), rng, torch.float32), layout)
    out = strided(x, layout)
    with torch.profiler.profile(profile_memory=True) as profile:
        warmops.dct2(x, out=out, backend="cpu")
        warmops.dctn(x, dim=(1, 3), out=out, backend="cpu")
    assert sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages()) <= 4096


# ---- threads ----


@pytest.mark.cpu_only
@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (1, 1, 256, 200), (7, 1, 33, 47), (3, 2, 1024), (2, 600, 5)], ids=ident)
def test_same_bits_for_any_thread_count(shape: tuple[int, ...], dct_backend: str, rng: torch.Generator) -> None:
    if dct_backend == "reference":
        pytest.skip("the reference multiplies matrices with torch, whose sums depend on the threads")
    for dtype in FLOATS:
        x = randn(shape, rng, dtype)
        results = []
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append([warmops.dctn(x, dim=dims, backend=dct_backend) for dims in ((-2, -1), (-1,), (-2,), (0, -1))])
        for result in results[1:]:
            assert all(bit_equal(a, b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.cpu_only
def test_same_bits_in_any_batch(dct_backend: str, rng: torch.Generator) -> None:
    """A sample's result does not depend on what is transformed beside it."""
    if dct_backend == "reference":
        pytest.skip("the reference multiplies matrices with torch, whose sums depend on their shapes")
    for dtype in FLOATS:
        for shape in ((37, 16, 16), (37, 9, 12), (11, 100, 64)):
            x = randn(shape, rng, dtype)
            whole = warmops.dct2(x, backend=dct_backend)
            for part in (slice(0, 1), slice(3, 8), slice(5, None)):
                assert bit_equal(warmops.dct2(x[part], backend=dct_backend), whole[part])


@pytest.mark.cpu_only
def test_calls_from_eight_threads(dct_backend: str, rng: torch.Generator) -> None:
    """Tables are made once however many threads ask for them at the same time."""
    torch.set_num_threads(1)
    sizes = [int(n) for n in torch.randint(2, 300, (16,), generator=rng)]
    cases = [(randn((6, n, n % 7 + 1), rng, torch.float32), {"type": i % 4 + 1, "dim": 1}) for i, n in enumerate(sizes)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            got = list(pool.map(lambda case: warmops.dct(case[0], **case[1], backend=dct_backend), cases))
    want = [warmops.dct(x, **arguments, backend=dct_backend) for x, arguments in cases]
    assert all(bit_equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.cpu_only
def test_more_threads_than_work(dct_backend: str, rng: torch.Generator) -> None:
    torch.set_num_threads(16)
    for shape in ((1, 1, 1, 1), (2, 1, 3, 2), (3, 5, 8, 8)):
        check("dctn", randn(shape, rng, torch.float32), dct_backend, dim=(2, 3))
