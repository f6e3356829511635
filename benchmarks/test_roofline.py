"""roofline.py: bytes against tensors that exist, operations against loops that count, predictions against hand calculation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import _work
import pytest
import roofline
import torch
from _work import Shape, work

import warmops
from warmops import reference
from warmops.triton.config import FUSED_SIDE


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "uint8"])
def test_bytes_are_those_of_the_tensors(dtype: str) -> None:
    x = torch.full((5, 3, 8, 12), 7).to(getattr(torch, dtype))
    shape = Shape(*x.shape)
    levels = torch.ones(5, dtype=torch.float64)
    out, blurred = warmops.blur_noise(x, levels, levels, seed=1, return_blurred=True, backend="reference")
    assert work("clone", shape, dtype).bytes == x.nbytes + x.clone().nbytes
    assert work("blur", shape, dtype).bytes == x.nbytes + blurred.nbytes + levels.nbytes
    seeds = torch.arange(5)
    moved = x.nbytes + out.nbytes + 2 * levels.nbytes + seeds.nbytes
    assert work("blur_noise", shape, dtype).bytes == moved
    assert work("blur_noise + blurred", shape, dtype).bytes == moved + blurred.nbytes
    assert work("normal", shape, dtype).bytes == out.nbytes + seeds.nbytes
    table = torch.ones(5, 14, dtype=torch.float64)
    for method, tensors in (("ddim", 4), ("euler", 5), ("heun", 5)):  # state, two heads, next state; the slope
        assert work(f"step {method}", shape, dtype).bytes == tensors * x.nbytes + table.nbytes


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 2), (5, 4), (8, 8), (7, 12), (16, 3)])
def test_products_are_those_of_the_folded_matrices(h: int, w: int) -> None:
    """The matrix of an axis commutes with mirroring, so in even and odd coordinates it is two blocks: their entries are counted."""
    alpha = torch.tensor([0.7], dtype=torch.float64)

    def entries(n: int) -> int:
        basis = reference.dct_basis(n, torch.device("cpu"))
        matrix = basis.T @ (reference.multiplier(n, alpha)[0].unsqueeze(1) * basis)
        fold = torch.zeros(n, n, dtype=torch.float64)
        for p in range((n + 1) // 2):
            fold[p, p] = fold[p, n - 1 - p] = 1.0
        for p in range(n // 2):
            fold[(n + 1) // 2 + p, p], fold[(n + 1) // 2 + p, n - 1 - p] = 1.0, -1.0
        return int((fold @ matrix @ torch.linalg.inv(fold)).abs().gt(1e-12).sum())

    assert work("blur", Shape(2, 3, h, w), "float32").products == 2 * 3 * (h * entries(w) + w * entries(h))
    if h == w and h % 2 == 0:  # 2 n flops a pixel, half of the 4 n of plain products
        assert 2 * _work.folded_products(h, h) == 2 * h * h * h


def test_table_sums_count_each_term() -> None:
    for n in (1, 2, 5, 8):
        terms = [(r, k) for r, k in itertools.product(range(n + 1), range(n))]
        assert _work.table_sums(n) == len(terms)


def test_philox_is_counted_right() -> None:
    """Ten rounds written out on counting integers: products and exclusive ors of three, none for the key's schedule."""
    operations = 0

    def product(a: int, b: int) -> tuple[int, int]:
        nonlocal operations
        operations += 1
        return a * b >> 32, a * b & 0xFFFFFFFF

    def xor3(a: int, b: int, c: int) -> int:
        nonlocal operations
        operations += 1
        return a ^ b ^ c

    counter, key = [3, 0, 0, 0], [17, 5]
    for _ in range(10):
        high0, low0 = product(0xD2511F53, counter[0])
        high1, low1 = product(0xCD9E8D57, counter[2])
        counter = [xor3(high1, counter[1], key[0]), low1, xor3(high0, counter[3], key[1]), low0]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    want = reference.philox4x32(torch.tensor([3, 0, 0, 0]), torch.tensor([17, 5]))
    assert counter == want.tolist()
    assert operations / 4 == _work.PHILOX_PER_NORMAL


@pytest.mark.parametrize("chip", [80, 90, 100])
def test_noise_costs_about_what_the_compiler_makes_of_it(chip: int) -> None:
    """The kernel of `warmops.normal` has no loop: 512 counters, 4 normals each, by 128 threads."""
    tables = sorted((roofline.RESULTS / "compile").glob("triton-*.json"))
    assert tables
    for table in tables:
        row = json.loads(table.read_text())["rows"][f"normal-float32-sm{chip}"]
        of_a_normal = row["instructions"] / (512 * 4 / (32 * row["warps"]))
        counted = _work.PHILOX_PER_NORMAL + _work.BOX_MULLER_PER_NORMAL
        assert counted <= of_a_normal <= 1.5 * counted


def test_small_parts_add_up() -> None:
    """A sampler's step transforms two terms; longer sides and float64 move an intermediate image out and in for each."""
    blur, step = work("blur", Shape(4, 3, 32, 32), "float32"), work("step heun", Shape(4, 3, 32, 32), "float32")
    assert step.products == 2 * blur.products and step.double == 2 * blur.double and not step.extra_bytes
    assert FUSED_SIDE == _work.FUSED_SIDE
    assert work("blur", Shape(4, 3, 129, 32), "bfloat16").extra_bytes == 2 * 4 * 4 * 3 * 129 * 32
    assert work("blur", Shape(4, 3, 32, 32), "float64").extra_bytes == 2 * 8 * 4 * 3 * 32 * 32
    assert work("blur_noise", Shape(4, 3, 32, 32), "float32").lanes - blur.lanes == (10 + 33.5 + 1) * 4 * 3 * 32 * 32


def test_a_row_by_hand() -> None:
    c = roofline.Ceilings("x", "y", memory=1e12, tensor=1e14, double=1e12, lanes=1e13)
    row = roofline.prediction("blur", 32, "float32", c)
    images = 3 * 43691  # 43691 samples of three channels are 512 MiB
    assert row["shape"] == "43691x3x32x32"
    assert row["memory us"] == pytest.approx((8 * images * 1024 + 8 * 43691) / 1e6)
    assert row["tensor cores us"] == pytest.approx(3 * images * 2 * 32 * (16**2 + 16**2) / 1e8)
    assert row["limit"] == "memory" and row["floor us"] == row["memory us"] and row["floor / clone"] == pytest.approx(1.0, abs=1e-3)
    total = sum(row[f"{name} us"] for name in roofline.LIMITS)
    assert row["one after the other / clone"] == pytest.approx(total / row["memory us"], rel=1e-3)


def test_the_command_without_a_gpu(tmp_path: Path) -> None:
    results = roofline.main(["--device", "a100", "--sizes", "32", "128", "--dtypes", "float32", "uint8", "--out", str(tmp_path)])
    assert not results["measured"] and {row["op"] for row in results["rows"]} == set(_work.OPS)
    assert {path.name for path in tmp_path.iterdir()} == {f"roofline_a100-datasheet{end}" for end in (".json", ".md", ".png")}
    text = (tmp_path / "roofline_a100-datasheet.md").read_text()
    assert "not measurements" in text and "datasheet" in text and "| blur_noise | 128 | uint8 |" in text
    with pytest.raises(SystemExit):
        roofline.main(["--device", "h200", "--sizes", "0"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        roofline.main([])
    assert "--device h200" in capsys.readouterr().err
