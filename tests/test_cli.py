"""The command ``warmdiff``, as a person types it."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import types
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import warmdiff
from warmdiff import metrics
from warmdiff.cli import main
from warmdiff.config import PRESETS, TrainConfig
from warmdiff.data import digits
from warmdiff.denoiser import sample_images
from warmdiff.network import NetworkConfig
from warmdiff.options import settings

TINY = ("--batch", "16", "--images", "160", "--network-channels", "8", "--preview-every", "0", "--no-tensorboard", "--device", "cpu")


def run(*words: object) -> tuple[int, str, str]:
    """Exit status, output and errors of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(word) for word in words])
        except SystemExit as leave:
            status = int(leave.code or 0)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "run"
    status, out, err = run("train", "--out", path, *TINY)
    assert status == 0, err
    assert '"channels": 8' in out and "bnr = 0.5" in out and "160 images, loss" in out and ": done" in out
    return path


def test_help_of_everything() -> None:
    status, out, _ = run("--help")
    assert status == 0 and all(name in out for name in ("train", "sample", "evaluate", "spectrum", "demo"))
    for name in ("train", "sample", "evaluate", "spectrum", "demo"):
        status, out, _ = run(name, "--help")
        assert status == 0 and "default" in out
    out = run("train", "--help")[1]
    for name, item, _ in settings(TrainConfig):
        assert f"--{name.replace('.', '-').replace('_', '-')}" in out and item.metadata["help"].split()[0] in out


def test_no_command_and_wrong_flags() -> None:
    assert run()[0] == 2
    status, _, err = run("train", "--batch", "many")
    assert status == 2 and "--batch" in err
    for words, message in (
        (("train", "--batch", "0"), "batch must be > 0"),
        (("train", "--config", "nowhere.toml"), "cannot read the config file"),
        (("train", "--config", "a.toml", "--preset", "tiny"), "cannot be given together"),
        (("train", "--data", "nowhere", "--out", "/tmp/never-written"), "neither a path"),
        (("sample", "nowhere"), "nowhere"),
        (("spectrum", "nowhere"), "neither a path"),
    ):
        status, _, err = run(*words)
        assert status == 1 and err.startswith("warmdiff: error:") and message in err and "Traceback" not in err


def test_training_goes_on_with_the_folder_alone(trained: Path, tmp_path: Path) -> None:
    status, out, _ = run("train", "--out", trained)
    assert status == 0 and "has already seen 160 images" in out
    status, out, _ = run("train", "--out", tmp_path / "new", *TINY[:2], "--images", "32", *TINY[4:])
    assert status == 0
    status, out, _ = run("train", "--out", tmp_path / "new", "--images", "64")
    assert status == 0 and "64 images" in out and json.loads((tmp_path / "new" / "config.json").read_text())["batch"] == 16
    status, _, err = run("train", "--out", tmp_path / "new", "--images", "96", "--bnr", "1")
    assert status == 1 and "bnr must stay 0.5" in err


def test_flags_of_every_kind(tmp_path: Path) -> None:
    flags = (
        "--no-conditional",
        "--size",
        "8x8",
        "--betas",
        "0.8,0.9",
        "--clip",
        "none",
        "--network-multipliers",
        "1",
        "--network-attention",
        "0",
    )
    status, _, err = run("train", "--out", tmp_path, *TINY, *flags, "--images", "16")
    assert status == 0, err
    config = warmdiff.load_config(tmp_path / "config.json")
    assert not config.conditional and config.size == (8, 8) and config.betas == (0.8, 0.9) and config.clip is None
    assert config.network == NetworkConfig(channels=8, multipliers=(1,), blocks=1, attention=(0,))


def test_presets_are_whole() -> None:
    for name, config in PRESETS.items():
        assert warmdiff.TrainConfig.preset(name) == config
    assert TrainConfig.preset("cifar10", batch=64, network={"dropout": 0.0}).network.dropout == 0.0
    assert len({config.out for config in PRESETS.values()}) == len(PRESETS)


def test_sample_to_grid_folder_and_npz(trained: Path, tmp_path: Path) -> None:
    common = ("sample", trained, "--n", "6", "--steps", "3", "--seed", "5")
    for out in ("a.npz", "grid.png", "folder"):
        status, text, err = run(*common, "--out", tmp_path / out)
        assert status == 0 and "6 images" in text, err
    with np.load(tmp_path / "a.npz") as file:
        images = file["images"]
        assert images.shape == (6, 8, 8, 1) and images.dtype == np.uint8 and images.std() > 0
        assert file["seeds"].tolist() == list(range(5, 11)) and file["labels"].tolist() == [5, 6, 7, 8, 9, 0]
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [f"{seed:06d}.png" for seed in range(5, 11)]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "folder" / names[2])), images[2, :, :, 0])
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert np.array_equal(grid[1:49:6, 1:49:6], images[0, :, :, 0]) and grid.shape == (1 + 2 * 49, 1 + 3 * 49)


@pytest.mark.parametrize("more", [(), ("--churn", "20"), ("--sampler", "ancestral"), ("--labels", "none")], ids=str)
def test_same_images_at_any_batch_size(more: tuple[str, ...], trained: Path, tmp_path: Path) -> None:
    results = {}
    for name, n, seed, batch in (("all", 7, 0, 7), ("three", 7, 0, 3), ("one", 7, 0, 1), ("part", 2, 4, 64)):
        out = tmp_path / f"{name}.npz"
        status, _, err = run("sample", trained, "--n", n, "--seed", seed, "--batch", batch, "--steps", "4", "--out", out, *more)
        assert status == 0, err
        results[name] = np.load(out)["images"].astype(int)
    for name in ("three", "one"):
        assert np.abs(results[name] - results["all"]).max() <= 1  # equal to rounding
    assert np.abs(results["part"] - results["all"][4:6]).max() <= 1
    assert len({image.tobytes() for image in results["all"]}) == 7


def test_sampling_refusals(trained: Path, tmp_path: Path) -> None:
    for flags, message in (
        (("--labels", "11"), "0..9"),
        (("--labels", "cat"), "--labels must be"),
        (("--n", "0"), "--n and --batch"),
        (("--out", "x.jpg"), "--out must end"),
        (("--columns", "-1"), "--columns must be >= 1"),
        (("--seed", str(2**63)), "--seed must be within 64 bits"),
        (("--bnr", "2"), "bnr must be 0.5"),
        (("--steps", "1"), "steps"),
        (("--device", "cuda:99"), "device 'cuda:99' is not usable"),
    ):
        status, _, err = run("sample", trained, "--steps", "2", "--out", tmp_path / "x.png", *flags)
        assert status == 1 and message in err


def test_loaded_denoiser_samples(trained: Path) -> None:
    denoiser = warmdiff.load(trained)
    x = warmdiff.generate(denoiser, (3, 1, 8, 8), process=denoiser.process, seed=4, steps=3)
    torch.testing.assert_close(x, sample_images(denoiser, 3, seed=4, steps=3), rtol=1e-4, atol=1e-4)
    prediction = denoiser(torch.zeros(2, 1, 8, 8), 1.0, labels=torch.tensor([3, -1]))
    assert isinstance(prediction, warmdiff.Prediction) and prediction.blurred.shape == (2, 1, 8, 8)
    assert not torch.equal(prediction.blurred[0], prediction.blurred[1])
    assert not any(p.requires_grad for p in denoiser.parameters()) and not denoiser.training
    assert not torch.equal(warmdiff.load(trained, weights="net").net.first.weight, denoiser.net.first.weight)
    with pytest.raises(ValueError, match=r"x must be \[N, 1"):
        denoiser(torch.zeros(2, 3, 8, 8), 1.0)
    for beta in (0.0, -1.0, float("nan"), float("inf"), torch.ones(3), torch.ones(2, 1)):
        with pytest.raises(ValueError, match="beta must be a finite number > 0 or a tensor"):
            denoiser(torch.zeros(2, 1, 8, 8), beta)
    three = sample_images(denoiser, 3, seed=4, steps=3, labels=[1, -1, 5], batch=2)
    torch.testing.assert_close(three[2:], sample_images(denoiser, 1, seed=6, steps=3, labels=torch.tensor([5])), rtol=1e-4, atol=1e-4)
    for wrong in ({"labels": [1, 2]}, {"labels": [10] * 3}, {"labels": [0.5] * 3}, {"batch": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            sample_images(denoiser, 3, steps=2, **wrong)


def test_smaller_batches_where_memory_is_short(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import warmdiff.denoiser as module

    generate, sizes, model = module.generate, [], warmdiff.load(trained)
    want = sample_images(model, 7, steps=2)

    def small(denoiser: object, shape: tuple[int, ...], **options: object) -> torch.Tensor:
        sizes.append(shape[0])
        if shape[0] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(denoiser, shape, **options)

    monkeypatch.setattr(module, "generate", small)
    limit = 2
    torch.testing.assert_close(sample_images(model, 7, steps=2), want, rtol=1e-4, atol=1e-4)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        sample_images(model, 7, steps=2)


def test_a_range_of_ratios(tmp_path: Path) -> None:
    status, _, err = run("train", "--out", tmp_path / "run", *TINY, "--bnr", "0.1", "--bnr-max", "2")
    assert status == 0, err
    grids = []
    for bnr in (0.1, 2):
        status, _, err = run("sample", tmp_path / "run", "--n", 2, "--bnr", bnr, "--steps", 3, "--out", tmp_path / "a.npz")
        assert status == 0, err
        grids.append(np.load(tmp_path / "a.npz")["images"])
    assert not np.array_equal(*grids)
    assert "bnr must be in [0.1, 2.0]" in run("sample", tmp_path / "run", "--n", 2, "--bnr", 3)[2]


# ---- measuring ----


def test_evaluate(trained: Path, tmp_path: Path) -> None:
    status, out, err = run("evaluate", trained, "--n", "64", "--steps", "2", "--out", tmp_path / "report.json")
    assert status == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert "FD-pixels" in out and "FID" not in out and "precision" in out and "level" in out
    assert report["images"] == 64 and report["floor"]["FD-pixels"] < report["samples"]["FD-pixels"]
    assert report["consistency"].keys() == {"0.1", "0.3", "1.0", "3.0", "10.0"}


def test_frechet_distance_and_floor_of_real_digits() -> None:
    """Against the closed form in NumPy; real against real is at the floor, and another distribution far above it."""
    data, n = digits(), 500
    real = data.read(range(1000, 1000 + n))
    report = metrics.evaluate(real, data, metrics.extractor("pixels"))
    assert report["samples"]["FD-pixels"] < 3 * report["floor"]["FD-pixels"] and report["samples"]["precision"] > 0.7
    worse = metrics.evaluate(real.flip(-1), data, metrics.extractor("pixels"))
    assert worse["samples"]["FD-pixels"] > 5 * worse["floor"]["FD-pixels"] and worse["samples"]["recall"] < report["samples"]["recall"]
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    a, b = (x.flatten(1).double().numpy() / 255 for x in (data.read(order[:n]), real))
    ca, cb = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(ca @ cb).real, 0)).sum()
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb) - 2 * roots
    assert report["samples"]["FD-pixels"] == pytest.approx(want, rel=1e-3, abs=1e-4)


def test_distances_are_those_of_torchmetrics(rng: torch.Generator) -> None:
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchmetrics does not import: {error}")
    real, other = torch.randn(300, 12, generator=rng).double(), 1.2 * torch.randn(300, 12, generator=rng).double() + 0.1

    class Given(torch.nn.Module):
        num_features = 12

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    for theirs, ours in (
        (FrechetInceptionDistance(Given()).set_dtype(torch.float64), metrics.frechet(real, other)),
        (KernelInceptionDistance(Given(), subsets=1, subset_size=300), metrics.kernel_distance(real, other)),
    ):
        theirs.update(real, real=True)
        theirs.update(other, real=False)
        value = theirs.compute()
        assert ours == pytest.approx(float(value[0] if isinstance(value, tuple) else value), rel=1e-4)


def test_precision_and_recall_of_known_sets() -> None:
    line = torch.arange(20, dtype=torch.float64).view(-1, 1)
    assert metrics.precision_recall(line, line) == (1.0, 1.0)
    assert metrics.precision_recall(line, line + 1000) == (0.0, 0.0)
    assert metrics.precision_recall(line, line[:10]) == (1.0, 13 / 20)  # within three of 9: 10, 11, 12


def test_consistency_is_zero_for_the_best_denoiser() -> None:
    """Gaussian data: E[x_0 | x_t] in closed form, split by the blur."""
    images = digits()
    denoiser = types.SimpleNamespace(process=warmdiff.BlurNoiseProcess(0.5), net=torch.nn.Linear(1, 1))

    def best(x: torch.Tensor, level: float) -> warmdiff.Prediction:
        import warmops

        clean = 0.3 * warmops.blur(x, 0.7)
        blurred = warmops.blur(clean, 0.5 * level)
        return warmdiff.Prediction(blurred, clean - blurred)

    class Best(types.SimpleNamespace):
        __call__ = staticmethod(best)

    result = metrics.consistency(Best(**vars(denoiser)), images, n=16)
    assert max(result.values()) < 1e-3
    denoiser.process = warmdiff.BlurNoiseProcess.hot()
    assert metrics.consistency(Best(**vars(denoiser)), images, n=16) == {}


def test_own_features_and_missing_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("features_of_mine")
    module.make = lambda: torch.nn.Sequential(torch.nn.Flatten())
    monkeypatch.setitem(sys.modules, "features_of_mine", module)
    found = metrics.extractor("features_of_mine:make")
    assert found.distance == "FD-make" and found.features(digits().read([0, 1])).shape == (2, 3 * 64)
    for name, package in (("inception", "torch_fidelity"), ("efficientnet-lite0", "efficientnet_lite_pytorch")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match="pip install"):
            metrics.extractor(name)
    with pytest.raises(ValueError, match="features must be one of"):
        metrics.extractor("nothing")
    for name in ("os:getcwd", "os:nothing"):
        with pytest.raises(ValueError, match="makes a torch module"):
            metrics.extractor(name)


def test_spectrum(tmp_path: Path) -> None:
    status, out, err = run("spectrum", "digits", "--save", tmp_path / "s.npz", "--plot", tmp_path / "s.png")
    assert status == 0 and "1797 images [1, 8, 8]" in out and "frequency^-" in out, err
    assert warmdiff.DataSpectrum.load(tmp_path / "s.npz").count == 1797 and Image.open(tmp_path / "s.png").size[0] > 100


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(TrainConfig().network, channels=8)
    monkeypatch.setitem(PRESETS, "tiny", TrainConfig(batch=16, log_every=16, network=small))
    status, out, err = run("demo", "--out", tmp_path / "demo", "--minutes", "0.02")
    assert status == 0, err
    assert "times as far" in out and (tmp_path / "demo" / "report.txt").read_text().startswith("Frechet distance of pixels, 898 samples")
    for name in ("samples.png", "path.png", "loss.png"):
        picture = np.asarray(Image.open(tmp_path / "demo" / name).convert("L"))
        assert min(picture.shape) > 300 and picture.std() > 5
