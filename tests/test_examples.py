"""examples/: each does what it says, judged by something else than warmops."""

from __future__ import annotations

import importlib.util
import io
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.fft
import torch
from _cases import randn

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
NAMES = ("frequency_loss", "jpeg_blocks", "poisson")
PHOTO = ROOT / "benchmarks" / "data" / "china.jpg"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} >= set(NAMES)
    for name in NAMES:
        example(name).main(*([str(PHOTO)] if name == "jpeg_blocks" else []))
        assert len(capsys.readouterr().out.splitlines()) >= 2


def test_frequency_loss(rng: torch.Generator) -> None:
    """Parseval without weights; with them the sum over SciPy's spectrum, and its gradient."""
    loss = example("frequency_loss").frequency_loss
    prediction, target = randn((3, 2, 12, 9), rng).requires_grad_(), randn((3, 2, 12, 9), rng)
    torch.testing.assert_close(loss(prediction, target, 0.0), torch.nn.functional.mse_loss(prediction, target), rtol=1e-12, atol=0)
    error = (prediction - target).detach().numpy()
    weight = (1 + np.hypot(np.arange(12)[:, None], np.arange(9))) ** 1.5
    spectrum = scipy.fft.dctn(error, axes=(-2, -1), norm="ortho")
    value = loss(prediction, target, 1.5)
    assert value.item() == pytest.approx((weight * spectrum**2).mean(), rel=1e-12)
    (got,) = torch.autograd.grad(value, prediction)
    want = scipy.fft.idctn(2 * weight * spectrum, axes=(-2, -1), norm="ortho") / error.size
    torch.testing.assert_close(got, torch.from_numpy(want), rtol=1e-10, atol=1e-14)


def test_frequency_loss_restores_detail(capsys: pytest.CaptureFixture[str]) -> None:
    example("frequency_loss").main()
    fine = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines()]
    assert fine[1] < 0.5 * fine[0]


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
def test_jpeg_blocks(quality: int) -> None:
    """Coefficients against SciPy, block by block; the decoded picture is as close to the original as libjpeg's."""
    from PIL import Image

    jpeg = example("jpeg_blocks")
    picture = Image.open(PHOTO).convert("L").crop((0, 0, 333, 250))  # no multiples of 8
    image = torch.from_numpy(np.array(picture))
    coefficients, decoded = jpeg.compress(image, quality)
    assert decoded.shape == image.shape and coefficients.shape == (32, 8, 42, 8)
    blocks = np.pad(np.array(picture), ((0, 6), (0, 3)), mode="edge").reshape(32, 8, 42, 8) - 128.0
    table = jpeg.quantisation(quality).numpy()[:, None]
    exact = scipy.fft.dctn(blocks, axes=(1, 3), norm="ortho") / table
    assert np.abs(coefficients.numpy() - exact).max() <= 0.5 + 1e-4
    restored = scipy.fft.idctn(coefficients.numpy() * table, axes=(1, 3), norm="ortho").reshape(256, 336)[:250, :333] + 128
    assert np.abs(decoded.numpy() - restored.clip(0, 255)).max() <= 0.5 + 1e-3
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    saved = Image.open(file)
    assert np.array_equal(np.array(saved.quantization[0]).reshape(8, 8), table[:, 0])
    errors = [float((other - image.float()).square().mean()) for other in (decoded, torch.from_numpy(np.array(saved)).float())]
    assert errors[0] == pytest.approx(errors[1], rel=0.03)
    batch = torch.stack([image, image.flip(1)])
    assert torch.equal(jpeg.compress(batch, quality)[1][0], decoded)


@pytest.mark.parametrize("shape", [(16, 16), (7, 30), (2, 3, 33, 20), (1, 5)])
def test_poisson(shape: tuple[int, ...], rng: torch.Generator) -> None:
    """The stencil gives f back; the dense least-squares solution of the same system is the same u."""
    poisson = example("poisson")
    f, spacing = randn(shape, rng), 0.3
    u = poisson.solve_poisson(f, spacing)
    wanted = f - f.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(poisson.laplacian(u, spacing), wanted, rtol=0, atol=1e-11)
    assert u.mean((-2, -1)).abs().max() < 1e-13
    h, w = shape[-2:]
    stencil = torch.stack([poisson.laplacian(e.reshape(h, w), spacing).flatten() for e in torch.eye(h * w, dtype=torch.float64)], dim=1)
    dense = torch.linalg.pinv(stencil, rtol=1e-12) @ wanted.reshape(-1, h * w).T
    torch.testing.assert_close(u.reshape(-1, h * w).T, dense, rtol=0, atol=1e-10)


def test_poisson_converges_to_the_continuum(capsys: pytest.CaptureFixture[str]) -> None:
    """Second order: a grid twice as fine, a quarter of the error."""
    example("poisson").main()
    errors = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert all(3.8 < coarse / fine < 4.2 for coarse, fine in itertools.pairwise(errors))
