"""The CUDA sources without a GPU: compiled for each chip, and their index arithmetic and noise run on the host."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import _cuda_cubins
import numpy as np
import pytest
import torch
from _compile_tables import cuda_table, explained
from _cubin import cuobjdump

import warmops

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
SOURCES = sorted(path for path in CSRC.glob("cuda/*.cu") if not path.stem.startswith("dct"))  # those: test_cuda_dct.py


def nvcc() -> str:
    found = _cuda_cubins.nvcc()
    if found is None:
        pytest.skip("nvcc is not installed")
    return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    library = tmp_path_factory.mktemp("host") / "group.so"
    source = Path(__file__).parent / "_group_on_host.cpp"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-unknown-pragmas", f"-I{CSRC}"]
    subprocess.run([compiler, *flags, "-Werror", str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(a: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(a.ctypes.data)


def int64s(values: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)


def fill(host: ctypes.CDLL, out: torch.Tensor, seed: int | torch.Tensor) -> bool:
    base, seeds, stride = (0, seed.data_ptr(), seed.stride(0)) if isinstance(seed, torch.Tensor) else (seed, 0, 0)
    return bool(
        host.fill_normal(
            ctypes.c_void_p(out.data_ptr()),
            0 if out.dtype == torch.float64 else 1,
            out.ndim,
            int64s(out.shape),
            int64s(out.stride()),
            ctypes.c_int64(base),
            ctypes.c_void_p(seeds),
            ctypes.c_int64(stride),
        )
    )


def check(out: torch.Tensor, seed: int | torch.Tensor) -> None:
    want = warmops.normal(out.shape, seed, dtype=torch.float64, backend="reference")
    if out.dtype == torch.float64:
        torch.testing.assert_close(out, want, rtol=1e-14, atol=0)
    else:
        rounded = want.float()
        ulp = torch.nextafter(rounded.abs(), torch.tensor(torch.inf)) - rounded.abs()
        assert ((out - want).abs() <= 4 * ulp).all()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compiles_without_spills(source: Path) -> None:
    """For each chip, and no worse than this nvcc made it before."""
    run, fatbin = _cuda_cubins.compile_all(nvcc())[source]
    report = run.stdout + run.stderr
    assert run.returncode == 0 and "warning" not in report, report
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert spills and all(spill == ("0", "0") for spill in spills), report
    table = cuda_table(_cuda_cubins.nvcc_version())
    if table.exists() and cuobjdump():
        for capability in _cuda_cubins.CHIPS:
            explained(table, _cuda_cubins.rows(fatbin, capability))


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_dense_output_is_stored_16_bytes_at_a_time(capability: int, tmp_path: Path) -> None:
    ptx = tmp_path / "normal.ptx"
    flags = ["-std=c++17", "-O3", "-fmad=false", "-ptx", f"-arch=compute_{capability}"]
    subprocess.run([nvcc(), *flags, str(CSRC / "cuda" / "normal.cu"), "-o", str(ptx)], check=True, capture_output=True)
    kernels = re.split(r"\.visible \.entry |\.entry ", ptx.read_text())[1:]
    assert len(kernels) == 8
    for kernel in kernels:
        name, vectorised = kernel.split("(")[0], "Lb1E" in kernel.split("(")[0]
        assert bool(re.search(r"st\.global\.(v4\.\w*32|v2\.\w*64)", kernel)) is vectorised, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1,), (5,), (1, 1), (3, 4), (3, 7), (2, 3, 8, 8), (2, 3, 5, 7), (4, 1, 16), (1, 63, 1, 5)], ids=str)
def test_kernel_loop_on_the_host(host: ctypes.CDLL, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    out = torch.full(shape, torch.nan, dtype=dtype)
    fill(host, out, -(2**63))
    check(out, -(2**63))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_strides_on_the_host(host: ctypes.CDLL, dtype: torch.dtype, rng: torch.Generator) -> None:
    seed = torch.randint(-(2**62), 2**62, (6,), generator=rng)[::2]
    big = torch.full((9, 10, 11, 12), 7.0, dtype=dtype)
    views = {
        "dense samples": big[2:5],
        "transposed": big[2:5].transpose(1, 3),
        "channels last": big[2:5].permute(0, 3, 1, 2),
        "steps": big[::3, 1::2, ::5, 2:9:3],
        "columns": big[2:5, :, :, 3:4],
        "batch last": big.permute(3, 0, 1, 2)[1:10:4],
    }
    for name, view in views.items():
        big.fill_(7.0)
        vectorised = fill(host, view, seed)
        assert vectorised is (name == "dense samples"), name
        check(view, seed)
        view.fill_(7.0)
        assert (big == 7.0).all(), f"{name}: wrote outside"


def test_unaligned_output_on_the_host(host: ctypes.CDLL) -> None:
    storage = torch.full((2 * 30 + 3,), 7.0)
    aligned = storage.data_ptr() % 16 == 0
    shifted = storage[1:61].view(2, 30)
    assert not fill(host, shifted, 3) or not aligned
    check(shifted, 3)
    assert storage[0] == 7.0 and (storage[61:] == 7.0).all()


def test_offsets_beyond_32_bits(host: ctypes.CDLL, rng: torch.Generator) -> None:
    host.offset.restype = ctypes.c_int64
    sizes, strides = (1, 70_000, 1, 70_000, 3), (5, 1, 11, 300_000, 90_000)
    total = 70_000 * 70_000 * 3
    for element in [0, 1, 2**32 - 1, 2**32, total - 1, *torch.randint(0, total, (200,), generator=rng).tolist()]:
        index = np.unravel_index(element, sizes)
        want = sum(int(i) * s for i, s in zip(index[1:], strides[1:], strict=True))
        assert host.offset(5, int64s(sizes), int64s(strides), ctypes.c_int64(element)) == want


def test_box_muller_within_4_ulp(host: ctypes.CDLL, rng: torch.Generator) -> None:
    borders = [0, 2**24, 2**31, 0x4AFB0CCC, 0xB504F333, *range(2**29, 2**32, 2**30)]  # also: pieces of the logarithm, octants
    edges = np.array([(border + d) % 2**32 for border in borders for d in range(-9, 10)], dtype=np.uint32)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(edges, edges))
    pairs = np.stack([a, b, b, a], -1)
    random = torch.randint(0, 2**32, (250_000, 4), generator=rng).numpy().astype(np.uint32)
    words = np.ascontiguousarray(np.concatenate([pairs, random]))
    single, double = np.empty(words.shape, np.float32), np.empty(words.shape, np.float64)
    host.box_muller_pairs(pointer(words), ctypes.c_int64(len(words)), pointer(single), pointer(double))

    # log1p of the complement, exact to the last digits near u = 1; quarter turns taken off in integers
    w = words.astype(np.int64)
    radius = np.sqrt(-2 * np.where(w[:, ::2] >= 2**31, np.log1p(-(2**32 - w[:, ::2] - 0.5) / 2**32), np.log((w[:, ::2] + 0.5) / 2**32)))
    quarter = (w[:, 1::2] + 2**29) >> 30
    rest = (w[:, 1::2] - (quarter << 30) + 0.5) * (2 * np.pi / 2**32)
    cos, sin = np.cos(rest), np.sin(rest)
    quarter = quarter % 4
    want = np.empty(words.shape)
    want[:, ::2] = radius * np.choose(quarter, [cos, -sin, -cos, sin])
    want[:, 1::2] = radius * np.choose(quarter, [sin, cos, -sin, -cos])
    np.testing.assert_allclose(double, want, rtol=4e-15)
    assert (np.abs(single - want) <= 4 * np.spacing(np.abs(want).astype(np.float32))).all()
