"""A user's program, for mypy alone (tests/test_supply.py): what each call gives, and what no call takes.

An ignored error that is none is an error to mypy, so each ``type: ignore`` here is a promise too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor

import warmdiff
import warmops


def operations(x: Tensor, level: Tensor, seed: Tensor) -> None:
    assert_type(warmops.__version__, str)
    assert_type(warmops.backends(), dict[str, warmops.BackendStatus])
    assert_type(warmops.backends()["cpu"].available, bool)

    assert_type(warmops.blur(x, 1.0), Tensor)
    assert_type(warmops.blur(x, level, out=x, backend="cpu"), Tensor)
    assert_type(warmops.blur_noise(x, 1.0, level), Tensor)
    assert_type(warmops.blur_noise(x, level, 0.5, seed=seed, scale=level, return_blurred=False, out=x), Tensor)
    assert_type(warmops.blur_noise(x, 1.0, 0.5, generator=torch.Generator(), return_blurred=True), tuple[Tensor, Tensor])
    assert_type(warmops.blur_noise(x, 1.0, 0.5, noise=x, return_blurred=True, out=(x, x)), tuple[Tensor, Tensor])
    assert_type(warmops.normal((4, 3), 0, dtype=torch.float64, device="cpu"), Tensor)
    assert_type(warmops.normal(torch.Size([4]), seed), Tensor)

    assert_type(warmops.sampler_step(x, x, 1.0, 2.0, 0.5, 1.0), Tensor)
    state, slope = warmops.sampler_step(x, (x, x), level, level, 0.5, 1.0, method="euler", c_out=(level, 1.0), return_slope=True)
    assert_type(warmops.sampler_step(state, x, 1.0, 2.0, 0.5, 1.0, method="heun", slope=slope, out=x), Tensor)

    for along_one in (warmops.dct, warmops.idct, warmops.dst, warmops.idst):
        assert_type(along_one(x, 2, 8, -1, "ortho", orthogonalize=False, out=x, backend="cpu"), Tensor)
    for along_many in (warmops.dctn, warmops.idctn, warmops.dct2, warmops.idct2, warmops.dstn, warmops.idstn):
        assert_type(along_many(x, type=3, s=(8, 8), dim=(0, 1), norm=None), Tensor)


def mistakes(x: Tensor) -> None:
    warmops.blur("photo.png", 1.0)  # type: ignore[arg-type]
    warmops.blur_noise(x, 1.0)  # type: ignore[call-overload]
    warmops.blur_noise(x, 1.0, 1.0, seed=0.5)  # type: ignore[call-overload]
    warmops.dct(x, type="II")  # type: ignore[arg-type]
    warmops.sampler_step(x, x, 1.0, 2.0, 0.5, 1.0, slop=x)  # type: ignore[call-overload]
    warmdiff.BlurNoiseProcess(bnr="warm")  # type: ignore[arg-type]
    warmdiff.generate(lambda x, beta: x, (1, 1, 8, 8))  # type: ignore[arg-type, return-value]
    warmdiff.sample(denoiser, (1, 1, 8, 8), sampler=2)  # type: ignore[arg-type]
    warmdiff.generate(denoiser, (1, 1, 8, 8), stepz=4)  # type: ignore[call-arg]


def denoiser(x: Tensor, beta: Tensor) -> warmdiff.Prediction:
    return warmdiff.Prediction(x, torch.zeros_like(x))


def stack(x: Tensor, folder: Path) -> Iterator[float]:
    process = warmdiff.BlurNoiseProcess(bnr=0.5)
    assert_type(process.alpha(1.0), float)
    assert_type(process.alpha(x), Tensor)
    assert_type(process.degrade(x, 1.0, seed=0), tuple[Tensor, Tensor])
    assert_type(warmdiff.BlurNoiseProcess.ihdm().betas(18), Tensor)

    for state in warmdiff.sample(denoiser, (1, 1, 8, 8), process=process, churn=warmdiff.Churn(10.0)):
        assert_type(state, warmdiff.State)
        assert_type(state.denoised, Tensor)
    assert_type(warmdiff.generate(denoiser, x.shape, process=process, sampler="euler", steps=3), Tensor)

    spectrum = warmdiff.DataSpectrum.measure([x])
    scalings = warmdiff.Preconditioning(process, spectrum)(x)
    assert_type(scalings, warmdiff.Scalings)
    assert_type(warmdiff.RawPrediction(x, x, scalings).prediction, warmdiff.Prediction)
    assert_type(warmdiff.open_images("digits").read([0]), Tensor)

    config = warmdiff.TrainConfig.preset("tiny", out=str(folder))
    assert_type(warmdiff.load_config(folder / "run.toml"), warmdiff.TrainConfig)
    for step in warmdiff.train(config):
        assert_type(step, warmdiff.TrainState)
        yield step.loss
    trained = warmdiff.load(folder)
    assert_type(trained, warmdiff.Denoiser)
    assert_type(warmdiff.generate(trained, (1, *trained.shape), process=trained.process), Tensor)
    network: warmdiff.WarmNet = warmdiff.WarmNet(warmdiff.NetworkConfig())
    assert_type(network.config, warmdiff.NetworkConfig)
