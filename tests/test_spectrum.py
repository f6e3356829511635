"""`warmdiff.DataSpectrum`: measured in one pass, kept in a file, drawn."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _closed_forms import dct, idct

import warmdiff

SHAPE = (200, 3, 6, 10)


def test_measure(dct_backend: str, rng: torch.Generator) -> None:
    """Mean and variance of every mode, whatever the batches."""
    x = torch.randn(SHAPE, generator=rng, dtype=torch.float64) + 3.0
    u = dct(x.numpy())
    for sizes in ([200], [1] * 200, [7, 93, 0, 100]):
        s = warmdiff.DataSpectrum.measure(iter(x.split(sizes)), backend=dct_backend)
        assert s.count == 200 and s.variance.dtype == s.mean.dtype == torch.float64
        assert np.abs(s.variance.numpy() - u.var(axis=0)).max() < 1e-12
        assert np.abs(s.mean.numpy() - u.mean(axis=0)).max() < 1e-12


def test_large_means_cancel_nothing(rng: torch.Generator) -> None:
    x = 1e6 + torch.randn(SHAPE, generator=rng, dtype=torch.float64)
    s = warmdiff.DataSpectrum.measure(x.split(13), backend="reference")
    assert np.abs(s.variance.numpy() / dct(x.numpy()).var(axis=0) - 1).max() < 1e-6


def test_dtypes(dct_backend: str, rng: torch.Generator) -> None:
    pixels = torch.randint(0, 256, SHAPE, generator=rng, dtype=torch.uint8)
    want = dct(pixels.numpy() / 127.5 - 1).var(axis=0)
    for batch in (pixels, pixels.float() / 127.5 - 1, pixels.double() / 127.5 - 1):
        s = warmdiff.DataSpectrum.measure([batch], backend=dct_backend)
        assert np.abs(s.variance.numpy() - want).max() < 1e-5


def test_constant() -> None:
    s = warmdiff.DataSpectrum.constant((3, 4, 5))
    assert s.variance.shape == (3, 4, 5) and (s.variance == 0.25).all() and not s.mean.any() and s.count == 0


@pytest.mark.parametrize("exponent", [-2.0, -3.4])
def test_slope(exponent: float, rng: torch.Generator) -> None:
    """Of data made with a power law: found again."""
    size = (48, 48)
    k = np.hypot(*np.ogrid[: size[0], : size[1]])
    amplitude = np.where(k > 0, np.maximum(k, 1) ** (exponent / 2), 0)
    x = idct(amplitude * torch.randn(500, 1, *size, generator=rng, dtype=torch.float64).numpy())
    s = warmdiff.DataSpectrum.measure(torch.from_numpy(x).split(100), backend="reference")
    assert abs(s.slope() - exponent) < 0.05
    frequency, variance = s.radial()
    assert (frequency.diff() > 0).all() and frequency[0] == pytest.approx(0.5 / 48, rel=0.2) and len(frequency) == len(variance)


def spectrum(rng: torch.Generator) -> warmdiff.DataSpectrum:
    return warmdiff.DataSpectrum.measure([torch.randn(SHAPE, generator=rng)], backend="reference")


def test_file(tmp_path: Path, rng: torch.Generator) -> None:
    """What was saved comes back, bit for bit; the file is small and no other is left behind."""
    s, path = spectrum(rng), tmp_path / "data.npz"
    for _ in range(2):
        s.save(path)
    back = warmdiff.DataSpectrum.load(str(path))
    assert torch.equal(back.variance, s.variance) and torch.equal(back.mean, s.mean) and back.count == s.count
    assert os.listdir(tmp_path) == ["data.npz"]
    assert path.stat().st_size < 2 * 8 * 180 + 2000


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    s, path = spectrum(rng), tmp_path / "data.npz"
    s.save(path)
    before = path.read_bytes()

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        s.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["data.npz"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("unpickled",))


def test_files_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    """Nothing is unpickled, and whatever is not a spectrum is refused with the file's name."""
    monkeypatch.chdir(tmp_path)
    good = {"format": 1, "count": 3, "mean": np.zeros((1, 2, 2)), "variance": np.ones((1, 2, 2))}
    bad = {
        "pickled": {**good, "mean": np.array([Evil()], dtype=object)},
        "of another format": {**good, "format": 2},
        "without mean": {k: v for k, v in good.items() if k != "mean"},
        "negative": {**good, "variance": -np.ones((1, 2, 2))},
        "not finite": {**good, "variance": np.full((1, 2, 2), np.nan)},
        "of floats": {**good, "variance": np.ones((1, 2, 2), dtype=np.float32)},
        "flat": {**good, "variance": np.ones(4), "mean": np.ones(4)},
        "of two shapes": {**good, "variance": np.ones((1, 2, 3))},
        "with many counts": {**good, "count": np.zeros(3)},
    }
    for name, contents in bad.items():
        np.savez(tmp_path / f"{name}.npz", **contents)
    np.savez(tmp_path / "good.npz", **good)
    warmdiff.DataSpectrum.load("good.npz")
    for name in bad:
        with pytest.raises(ValueError, match=f"{name}.npz is not a spectrum"):
            warmdiff.DataSpectrum.load(f"{name}.npz")
    for name, data in (("text", b"hello"), ("empty", b""), ("pickle", pickle.dumps(Evil())), ("cut", (tmp_path / "good.npz").read_bytes()[:100])):  # fmt: skip  # noqa: E501
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name} is not a spectrum"):
            warmdiff.DataSpectrum.load(name)
    assert not (tmp_path / "unpickled").exists()
    with pytest.raises(FileNotFoundError):
        warmdiff.DataSpectrum.load("absent.npz")


@pytest.mark.parametrize("name", ["spectrum.png", "spectrum.svg"])
def test_plot(name: str, tmp_path: Path, rng: torch.Generator) -> None:
    spectrum(rng).plot(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 2000
    if name.endswith("svg"):
        assert "200 images" in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("batches", "kind", "wants"),
    [
        ([], ValueError, ("at least one image",)),
        ([torch.zeros(0, 3, 4, 4)], ValueError, ("at least one image",)),
        ([np.zeros((2, 3, 4, 4))], TypeError, ("batch 0", "tensor")),
        ([torch.zeros(2, 3, 4, 4, dtype=torch.int64)], TypeError, ("batch 0", "int64")),
        ([torch.zeros(3, 4, 4)], ValueError, ("batch 0", "[N, C, H, W]", "[3, 4, 4]")),
        ([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5)], ValueError, ("batch 1", "[N, 3, 4, 4]", "[2, 3, 4, 5]")),
        ([torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), np.nan)], ValueError, ("batch 1", "finite")),
    ],
)  # fmt: skip
def test_bad_batches(batches: list[Any], kind: type[Exception], wants: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught:
        warmdiff.DataSpectrum.measure(batches, backend="reference")
    assert all(want in str(caught.value) for want in wants), caught.value
