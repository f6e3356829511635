"""``warmdiff demo``: everything once, on handwritten digits, in less than three minutes on two cores."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from warmdiff.checkpoint import write_content
from warmdiff.cli import run_training
from warmdiff.config import TrainConfig
from warmdiff.data import digits
from warmdiff.denoiser import Denoiser, load, sample_images
from warmdiff.images import grid, to_uint8, write_png
from warmdiff.metrics import evaluate, extractor
from warmdiff.sampling import sample

STRIP = 10  # samples whose path is shown


def demo(out: Path, minutes: float, seed: int) -> None:
    """Trains the preset "tiny" on digits for so many minutes, then writes samples.png, loss.png, path.png and report.txt to ``out``.

    Run again, it goes on training where it stopped. In samples.png the digits are enlarged smoothly, in path.png as they are.
    """
    config = TrainConfig.preset(
        "tiny", out=str(out / "run"), images=10**9, minutes=minutes, seed=seed, preview_every=0, save_every=10**8, tensorboard=False
    )
    print(f"Training on 1,797 handwritten digits of 8 x 8 pixels for {minutes:g} minutes ...", flush=True)
    run_training(config)
    denoiser, data = load(out / "run"), digits()
    count = len(data) // 2
    print(f"Sampling {count} digits ...", flush=True)
    samples = sample_images(denoiser, count, seed=seed, labels=torch.arange(count) % 10)
    write_png(out / "samples.png", grid(to_uint8(F.interpolate(samples[:80], scale_factor=6, mode="bicubic")), columns=10))
    write_png(out / "path.png", film_strip(denoiser, seed))
    plot_loss(out / "run" / "log.jsonl", out / "loss.png")
    report = evaluate(to_uint8(samples), data, extractor("pixels"))
    ours, floor = report["samples"]["FD-pixels"], report["floor"]["FD-pixels"]
    line = (
        f"Frechet distance of pixels, {count} samples against {count} real digits: {ours:.4f}; {count} other real digits against the same: "
        f"{floor:.4f} (the floor); the samples are {ours / floor:.1f} times as far."
    )
    write_content(out / "report.txt", line + "\n")
    print(line)
    print(f"Look at {out}/samples.png, {out}/path.png and {out}/loss.png")


def film_strip(denoiser: Denoiser, seed: int) -> Tensor:
    """For one sample of each class two rows: the state from noise to image (scaled to one contrast), and the image seen in it so far."""
    labels = torch.arange(STRIP) % max(denoiser.classes, 1) if denoiser.classes else None
    states, seen = [], []
    with torch.no_grad():
        for state in sample(lambda x, b: denoiser.raw(x, b, labels), (STRIP, *denoiser.shape), process=denoiser.process, seed=seed):
            states.append(to_uint8(state.x / (1.0 + 4.0 * state.beta**2) ** 0.5))
            seen.append(to_uint8(state.denoised))
    rows = torch.stack([torch.stack(states, 1), torch.stack(seen, 1)], 1)  # [samples, 2, steps, C, H, W]
    return grid(rows.flatten(0, 2), columns=len(states), tile=32)


def plot_loss(log: Path, path: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("loss_blurred", "blurred image"), ("loss_residual", "missing detail")):
        axes.plot([line["images"] / 1000 for line in lines], [line.get(name) for line in lines], label=label)
    axes.set(xlabel="images seen (thousands)", ylabel="weighted squared error", yscale="log", title="Loss of both heads")
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content)
    write_content(path, content.getbuffer())
