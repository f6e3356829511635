"""Training: the loss against a formula written here, exact resume, many processes, and what goes wrong in a long run."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _oracles import blur, normal

import warmdiff
from warmdiff import checkpoint
from warmdiff.cli import main
from warmdiff.config import TrainConfig, config_from, load_config
from warmdiff.data import digits, in_memory
from warmdiff.draws import augment, draw_levels, seeds
from warmdiff.loss import TwoHeadLoss
from warmdiff.network import NetworkConfig, WarmNet
from warmdiff.spectrum import DataSpectrum
from warmdiff.training import Trainer, World

NET = NetworkConfig(channels=8, multipliers=(1, 2), blocks=1)
SMALL = TrainConfig(images=96, batch=8, save_every=10**9, preview_every=0, log_every=8, tensorboard=False, network=NET)
VARIANTS = {
    "plain": {},
    "everything": {"augment": 0.5, "bnr_max": 2.0, "network": dataclasses.replace(NET, dropout=0.1, family="ncsnpp")},
    "bf16": {"precision": "bf16", "channels_last": False},
    "hot": {"bnr": 0.0, "conditional": False},
}


def config_at(path: Path, **changes: Any) -> TrainConfig:
    return dataclasses.replace(SMALL, out=str(path), **changes)


def losses(config: TrainConfig) -> list[float]:
    return [state.loss for state in warmdiff.train(config)]


def final(config: TrainConfig) -> dict[str, torch.Tensor]:
    return checkpoint.newest(Path(config.out) / "checkpoints")[1]


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


# ---- the loss ----


@pytest.mark.parametrize("bnr", [0.0, 0.5, 3.0])
def test_loss_is_the_formula(bnr: float, rng: torch.Generator) -> None:
    """1/c_out^2 |D - target|^2 of both heads in float64, from SciPy's DCT and the Philox of the tests."""
    config = dataclasses.replace(SMALL, bnr=bnr, conditional=False, seed=11)
    images = torch.randint(0, 256, (6, 1, 8, 6), generator=rng, dtype=torch.uint8)
    spectrum = DataSpectrum(torch.rand(1, 8, 6, generator=rng, dtype=torch.float64), torch.zeros(1, 8, 6, dtype=torch.float64), 1)
    net = WarmNet(dataclasses.replace(NET, image_channels=1))
    with torch.no_grad():
        net.last[-1].weight.normal_(generator=rng)
    positions = torch.arange(40, 46)
    got = TwoHeadLoss(config, spectrum, 0)(net, images, None, positions)

    levels = draw_levels(config, positions)
    beta, alpha = (t.numpy().reshape(-1, 1, 1, 1) for t in (levels.beta, levels.alpha))
    assert np.allclose(alpha, bnr * beta)
    x0 = images.numpy().astype(np.float64) / 127.5 - 1
    target = blur(torch.from_numpy(x0), levels.alpha).astype(np.float64)
    x = target + beta * normal(x0.shape, seeds(11, "noise", positions).tolist()).astype(np.float64)
    k = [np.pi**2 * np.arange(n) ** 2 / n**2 for n in (8, 6)]
    m = np.exp(-(k[0][:, None] + k[1])[None, None] * alpha**2 / 2)
    s2 = spectrum.variance.numpy()
    a2, c, r2 = (np.mean(w * s2, axis=(2, 3), keepdims=True) for w in (m**2, m * (1 - m), (1 - m) ** 2))
    v = a2 + beta**2
    floor = 2 / 255 / math.sqrt(12)
    out_r = np.maximum(np.sqrt(np.maximum(r2 - c**2 / v, 0)), floor)
    with torch.no_grad():
        heads = net(torch.from_numpy(x / np.sqrt(v)).float(), torch.from_numpy(np.log(beta.ravel()) / 4)).double().numpy()
    blurred = a2 / v * x + beta * np.sqrt(a2 / v) * heads[:, :1]
    residual = c / v * x + out_r * heads[:, 1:]
    want_b = ((blurred - target) ** 2 / (beta**2 * a2 / v)).mean((1, 2, 3))
    want_r = ((residual - (x0 - target)) ** 2 / out_r**2).mean((1, 2, 3)) if bnr else np.zeros(6)
    np.testing.assert_allclose(got[0].detach().numpy(), want_b, rtol=2e-3)
    np.testing.assert_allclose(got[1].detach().numpy(), want_r, rtol=2e-3, atol=1e-12)


def test_levels() -> None:
    levels = draw_levels(dataclasses.replace(SMALL, bnr=0.1, bnr_max=2.0), torch.arange(20_000))
    log = levels.beta.log()
    assert abs(log.mean() + 1.2) < 0.05 and abs(log.std() - 1.2) < 0.05
    ratio = (levels.alpha / levels.beta).log()
    assert ratio.min() >= math.log(0.1) - 1e-9 and ratio.max() <= math.log(2.0) + 1e-9
    assert abs(ratio.mean() - (math.log(0.1) + math.log(2.0)) / 2) < 0.05 and abs(torch.corrcoef(torch.stack([ratio, log]))[0, 1]) < 0.03
    part = draw_levels(dataclasses.replace(SMALL, bnr=0.1, bnr_max=2.0), torch.arange(700, 705))
    assert torch.equal(part.beta, levels.beta[700:705]) and torch.equal(part.alpha, levels.alpha[700:705])


def test_micro_batches_give_the_same_gradient() -> None:
    images, labels = digits().read(range(8)), digits().labels[:8]
    grads = []
    for micro in (None, 3):
        trainer = Trainer(
            dataclasses.replace(SMALL, micro_batch=micro, clip=None), (1, 8, 8), 10, DataSpectrum.constant((1, 8, 8)), World("cpu")
        )
        trainer.train_step(images, labels, torch.arange(8))
        trainer.train_step(images, labels, torch.arange(8, 16))
        grads.append(torch.cat([p.grad.flatten() for p in trainer.net.parameters()]))
    assert (grads[0] - grads[1]).norm() < 1e-4 * grads[0].norm()


# ---- augmentation ----


def test_augmentation_labels_and_bits(rng: torch.Generator) -> None:
    x, positions = torch.randn(400, 2, 9, 9, generator=rng), torch.arange(400)
    y, labels = augment(x, 0.2, 3, positions)
    assert labels.shape == (400, 9) and 0.4 < labels[:, 0].mean() < 0.6 and 0.05 < labels[:, 1].mean() < 0.15
    for column in (2, 4, 5, 7):
        assert 0.1 < (labels[:, column] != 0).double().mean() < 0.3
    still = (labels[:, 2:] == 0).all(1)
    assert 0.25 < still.double().mean() < 0.6
    for i in still.nonzero().flatten().tolist():
        want = x[i].flip(2) if labels[i, 0] else x[i]
        assert torch.equal(y[i], want.flip(1) if labels[i, 1] else want)
    moved = (~still).nonzero().flatten()[0]
    assert not torch.equal(y[moved], x[moved])
    again, told = augment(x[7:9], 0.2, 3, positions[7:9])
    assert torch.equal(again, y[7:9]) and torch.equal(told, labels[7:9])


def test_augmentation_moves_as_its_labels_say() -> None:
    """A blob's centre and extent, on an image that is not square."""
    height, width = 33, 65
    rows, columns = torch.arange(height).view(-1, 1) - 16.0, torch.arange(width) - 32.0
    blob = torch.exp(-((rows - 3) ** 2 + (columns + 5) ** 2) / 8).expand(300, 1, height, width)
    y, labels = augment(blob, 0.3, 0, torch.arange(300))
    seen = 0
    for image, label in zip(y.double(), labels.double(), strict=True):
        flip_x, flip_y, scale, cos, sin, along, across, right, down = label.tolist()
        point = torch.tensor([-5.0 * (-1) ** flip_x, 3.0 * (-1) ** flip_y], dtype=torch.float64)
        strength, axis = math.hypot(along, across), math.atan2(across, along) / 2
        turn = torch.tensor([[math.cos(axis), -math.sin(axis)], [math.sin(axis), math.cos(axis)]], dtype=torch.float64)
        stretch = turn @ torch.diag(torch.tensor([2 ** (0.2 * strength), 2 ** (-0.2 * strength)], dtype=torch.float64)) @ turn.T
        rotate = torch.tensor([[cos + 1, -sin], [sin, cos + 1]], dtype=torch.float64)
        want = 2 ** (0.2 * scale) * (rotate @ stretch @ point) + torch.tensor([right * width, down * height]) / 8
        if abs(want[0]) < 24 and abs(want[1]) < 8:  # well inside
            near = image * ((columns - want[0]) ** 2 + (rows - want[1]) ** 2 < 64)  # its mirror images are farther away
            centre = torch.stack([(near * columns).sum(), (near * rows).sum()]) / near.sum()
            assert (centre - want).abs().max() < 0.35 and near.max() > 0.8, (label, centre, want)
            seen += 1
    assert seen > 100


# ---- resume ----


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_run_is_the_same_bit_for_bit(variant: str, tmp_path: Path) -> None:
    whole = config_at(tmp_path / "whole", log_every=24, **VARIANTS[variant])
    want = losses(whole)
    assert len(set(want)) == 12 and all(map(math.isfinite, want))
    parts = config_at(tmp_path / "parts", log_every=24, **VARIANTS[variant])
    got = losses(dataclasses.replace(parts, images=40))
    for state in warmdiff.train(parts):  # the loop is left: saved and stopped
        got.append(state.loss)
        if state.step == 8:
            break
    torch.manual_seed(time.time_ns() % 2**31)  # the global generator plays no part
    got += losses(dataclasses.replace(parts, workers=1))
    assert got == want
    assert_same_bits(final(parts), final(whole))
    assert losses(parts) == []
    lines = [
        [{**line, "images_per_second": None} for line in map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())]
        for name in ("whole", "parts")
    ]
    assert lines[0] == lines[1] and [line["step"] for line in lines[0]] == [3, 6, 9, 12]


def test_previews_and_intervals_change_nothing(tmp_path: Path) -> None:
    plain, busy = (
        config_at(tmp_path / "a"),
        config_at(tmp_path / "b", preview_every=48, save_every=16, keep=2, tensorboard=True, log_every=24),
    )
    assert losses(plain) == losses(busy)
    assert_same_bits(final(plain), final(busy))
    assert [p.name for p in sorted((tmp_path / "b" / "previews").iterdir())] == ["000000000048.png", "000000000096.png"]
    assert [p.stem for p in checkpoint.existing(tmp_path / "b" / "checkpoints")] == ["0000000012", "0000000010"]
    assert list((tmp_path / "b" / "tensorboard").iterdir())
    lines = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    each = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [24, 48, 72, 96]
    assert lines[1]["loss"] == pytest.approx(np.mean([line["loss"] for line in each[3:6]]))
    assert config_from(json.loads((tmp_path / "b" / "config.json").read_text())) == busy


def test_settings_that_must_stay(tmp_path: Path) -> None:
    config = config_at(tmp_path / "run", images=8)
    losses(config)
    for change in ({"bnr": 0.3}, {"learning_rate": 1e-3}, {"batch": 4}, {"seed": 1}, {"network": dataclasses.replace(NET, channels=16)}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must stay"):
            losses(dataclasses.replace(config, **change))
    np.savez(tmp_path / "other.npz", images=np.zeros((30, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="data must be"):
        losses(dataclasses.replace(config, images=16, data=str(tmp_path / "other.npz")))


def test_one_run_at_a_time(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    running = warmdiff.train(config)
    next(running)
    with pytest.raises(OSError, match="another process"):
        next(warmdiff.train(config))
    running.close()
    assert next(warmdiff.train(config)).step == 2


def test_images_that_are_not_square(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 11, 3), dtype=np.uint8)
    np.savez(tmp_path / "wide.npz", images=images)
    config = config_at(tmp_path / "run", data=str(tmp_path / "wide.npz"), preview_every=96, augment=0.3)
    assert all(map(math.isfinite, losses(config))) and list((tmp_path / "run" / "previews").iterdir())
    denoiser = warmdiff.load(tmp_path / "run")
    x = warmdiff.generate(denoiser, (2, 3, 6, 11), process=denoiser.process, steps=3)
    assert denoiser.shape == (3, 6, 11) and denoiser.classes == 0 and x.isfinite().all()


def test_a_single_image(tmp_path: Path) -> None:
    """It has no variance that could scale anything; and less than a batch of images is enough."""
    np.savez(tmp_path / "one.npz", images=np.random.default_rng(0).integers(0, 256, (1, 6, 5), dtype=np.uint8))
    config = config_at(tmp_path / "run", data=str(tmp_path / "one.npz"), images=400, ramp_up=0, learning_rate=3e-3)
    with pytest.warns(UserWarning, match="all alike"):
        got = losses(config)
    assert np.mean(got[-10:]) < 0.8 * np.mean(got[:5])


# ---- trouble ----


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_steps_that_are_not_finite_are_skipped_and_counted(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, bad = TwoHeadLoss.__call__, (3, 4)

    def broken(self: TwoHeadLoss, net: Any, images: Any, labels: Any, positions: torch.Tensor) -> Any:
        pair = call(self, net, images, labels, positions)
        if int(positions[0]) // 8 in bad:
            factor = torch.tensor(float("inf"), requires_grad=True) if where == "loss" else torch.ones((), requires_grad=True)
            if where == "gradient":
                factor.register_hook(lambda g: g)
                pair[0].register_hook(lambda g: g * float("nan"))
            return pair[0] * factor, pair[1]
        return pair

    monkeypatch.setattr(TwoHeadLoss, "__call__", broken)
    before: torch.Tensor | None = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for state in warmdiff.train(config_at(tmp_path)):
            weights = torch.cat([p.flatten() for p in state.denoiser.net.parameters()]).clone()
            assert weights.isfinite().all()
            assert state.skipped == sum(b < state.step for b in bad)
            assert (before is not None and torch.equal(weights, before)) == (state.step - 1 in bad)
            before = weights
    assert any("2 steps were skipped" in str(warning.message) for warning in warned)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["skipped"] == 2


def test_gives_up_when_nothing_is_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = TwoHeadLoss.__call__
    monkeypatch.setattr(TwoHeadLoss, "__call__", lambda self, *a: [loss * float("nan") for loss in call(self, *a)])
    with pytest.raises(FloatingPointError, match="5 steps in a row"):
        losses(config_at(tmp_path, max_skipped=5))


def test_data_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png"):
        losses(config_at(tmp_path / "run", data=str(tmp_path / "data")))
    assert not (tmp_path / "run").exists()


# ---- config ----


def test_config_files(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('preset = "small"\nbnr = 1\nbetas = [0.9, 0.95]\nclip = 2.0\n[network]\nchannels = 16\n')
    config = load_config(tmp_path / "a.toml")
    assert config.bnr == 1.0 and config.betas == (0.9, 0.95) and config.network.channels == 16 and config.network.blocks == 2
    (tmp_path / "a.json").write_text(json.dumps(dataclasses.asdict(config)))
    assert load_config(tmp_path / "a.json") == config
    (tmp_path / "deep.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match="cannot read"):
        load_config(tmp_path / "deep.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bnr = -1", "bnr must be >= 0"), ("bnr = 'x'", "bnr must be float"), ("batch = 0", "batch"),
        ("batch = 1.5", "batch must be int"),
        ("batchsize = 3", "did you mean 'batch'"), ("[network]\nchanels = 3", "did you mean 'channels'"),
        ("precision = 'fp16'", "precision"),
        ("bnr_max = 0.1", "bnr_max must be above bnr"), ("betas = [0.9]", "betas"), ("size = [0]", "size"), ("preset = 'huge'", "preset"),
        ("bnr = nan", "finite"), ("bnr =", "cannot read"), ("conditional = 1", "conditional must be bool"),
        ("sigma_max = 0.001", "sigma_max"), ("network = 3", "table"),
        ("label_dropout = 2", "label_dropout"), ("on_bad = 'ignore'", "on_bad"),
    ],
)  # fmt: skip
def test_bad_config_files(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_config(tmp_path / "bad.toml")


# ---- processes ----

PATHS = [str(Path(warmdiff.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PATHS)}
FLAGS = [
    *("--batch", "8", "--log-every", "8", "--preview-every", "0", "--no-tensorboard", "--device", "cpu"),
    *("--network-channels", "8", "--network-blocks", "1"),
]


def start(run: Path, images: int, *more: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "-m", "warmdiff", "train", "--out", str(run), "--images", str(images), *FLAGS, *more]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def logged(run: Path) -> dict[int, dict[str, float]]:
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["step"]: line for line in map(json.loads, (text for text in lines if text.endswith("}")))}


def newest_step(run: Path) -> int:
    return max((int(path.stem) for path in checkpoint.existing(run / "checkpoints")), default=0)


@pytest.mark.cpu_only
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    two = start(tmp_path / "two", 96, launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"))
    output = two.communicate(timeout=240)[0]
    assert two.returncode == 0, output
    network = dataclasses.replace(TrainConfig().network, channels=8, blocks=1)
    want = losses(dataclasses.replace(SMALL, out=str(tmp_path / "one"), network=network))
    got = [line["loss"] for line in logged(tmp_path / "two").values()]
    assert len(got) == 12
    np.testing.assert_allclose(got, want, rtol=1e-4)
    one, both = (checkpoint.newest(tmp_path / name / "checkpoints")[1] for name in ("one", "two"))
    for name in one:
        if name.startswith("ema."):
            torch.testing.assert_close(both[name], one[name], rtol=1e-2, atol=2e-4)


@pytest.mark.cpu_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_signals_save_and_stop(number: int, tmp_path: Path) -> None:
    process = start(tmp_path / "run", 10**6)
    while len(logged(tmp_path / "run")) < 3 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "stopped; go on with: warmdiff train --out" in output, output
    steps = max(logged(tmp_path / "run"))
    assert checkpoint.newest(tmp_path / "run" / "checkpoints")[2]["step"] == steps
    network = dataclasses.replace(TrainConfig().network, channels=8, blocks=1)
    want = losses(dataclasses.replace(SMALL, out=str(tmp_path / "whole"), images=8 * steps, network=network))
    assert [line["loss"] for line in logged(tmp_path / "run").values()] == pytest.approx(want, rel=1e-5)


@pytest.mark.cpu_only
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    """kill -9: each start goes on from a whole checkpoint that is no older than the last one seen, and the end is the same.

    The runs are forked from a process that has imported everything, so that the moments are those of a run and not of its imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warmdiff.cli"])
    run, seen, killed, chance = tmp_path / "run", 0, 0, random.Random(0)

    def begin(images: int) -> multiprocessing.process.BaseProcess:
        flags = ["train", "--out", str(run), "--images", str(images), *FLAGS, "--save-every", "8", "--keep", "2"]
        process = context.Process(target=main, args=(flags,))
        process.start()
        return process

    while killed < 10:
        process = begin(10**6)
        limit = time.monotonic() + 120
        if killed % 2:  # every second time, not before it has saved something
            while newest_step(run) == seen and process.is_alive() and time.monotonic() < limit:
                time.sleep(0.002)
        time.sleep(0.3 * chance.random())
        assert process.is_alive()
        process.kill()
        process.join()
        killed += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a damaged checkpoint
            found = checkpoint.newest(run / "checkpoints")
        before, seen = seen, found[2]["step"] if found else 0
        assert seen == newest_step(run) and seen >= before
        assert seen >= max(logged(run), default=0) - 1  # the log's line comes just before the checkpoint
    assert seen >= 5
    images = 8 * (seen + 3)
    process = begin(images)
    process.join(120)
    assert process.exitcode == 0
    network = dataclasses.replace(TrainConfig().network, channels=8, blocks=1)
    want = losses(dataclasses.replace(SMALL, out=str(tmp_path / "whole"), images=images, network=network))
    assert [line["loss"] for line in logged(run).values()] == pytest.approx(want, rel=1e-5)


@pytest.mark.cpu_only
def test_memory_of_the_tiny_preset(tmp_path: Path) -> None:
    code = (
        "import re, warmdiff; from pathlib import Path\n"
        f"c = warmdiff.TrainConfig(out={str(tmp_path)!r}, images=128 * 4, preview_every=256)\n"
        "for s in warmdiff.train(c): pass\n"
        # Not ru_maxrss: across vfork and exec it keeps the peak of the process that started this one.
        "print('peak', re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1e6  # kB


def test_order_of_data_is_not_that_of_labels_alone() -> None:
    """Labels and images stay together through shuffling."""
    data = in_memory("x", np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10))
    assert torch.equal(data.read([4, 2]).flatten().long(), data.labels[[4, 2]])
