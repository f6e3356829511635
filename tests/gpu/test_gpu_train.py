"""Training and sampling on a GPU: the same numbers as on the CPU, to rounding, and every option at work."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

import warmdiff
from warmdiff.denoiser import sample_images
from warmdiff.network import NetworkConfig

CONFIG = warmdiff.TrainConfig(
    images=96, batch=16, preview_every=0, tensorboard=False, network=NetworkConfig(channels=16, multipliers=(1, 2), blocks=1)
)


def losses(path: Path, **changes: object) -> list[float]:
    return [state.loss for state in warmdiff.train(dataclasses.replace(CONFIG, out=str(path), **changes))]


@pytest.fixture
def exact_products() -> object:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_same_losses_and_images_as_on_the_cpu(exact_products: object, tmp_path: Path) -> None:
    cpu, gpu = losses(tmp_path / "cpu", device="cpu"), losses(tmp_path / "gpu", device="cuda")
    assert gpu == pytest.approx(cpu, rel=1e-3)
    images = [sample_images(warmdiff.load(tmp_path / "gpu", device), 5, labels=torch.arange(5), steps=4) for device in ("cpu", "cuda")]
    torch.testing.assert_close(images[1], images[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {"compile": True}, {"channels_last": False}, {"augment": 0.5, "bnr_max": 2.0}, {"micro_batch": 5}],
    ids=lambda changes: next(iter(changes)),
)
def test_options(changes: dict[str, object], tmp_path: Path) -> None:
    got = losses(tmp_path, device="cuda", preview_every=96, **changes)
    assert len(got) == 6 and all(map(math.isfinite, got))
    assert list((tmp_path / "previews").iterdir())
    assert losses(tmp_path, device="cuda", preview_every=96, images=112, **changes)[0] > 0  # resumed
