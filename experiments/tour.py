"""The pictures of docs/tour.md: paths from image to noise or blur, spectra, what each head predicts, a sample's way.

python experiments/tour.py                         trains a small network on digits first, about two minutes of one core
python experiments/tour.py --run runs/digits       shows a network that is there
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

import warmdiff
from warmdiff.config import TrainConfig
from warmdiff.data import digits
from warmdiff.denoiser import Denoiser
from warmdiff.files import to_uint8
from warmdiff.spectrum import DataSpectrum, SpectralArgument

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "benchmarks" / "data" / "china.jpg"
BETAS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)  # noise levels of the paths
ALPHAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # blur levels of the cold path, pixels
HEAD_LEVELS = (0.1, 0.3, 0.6, 1.0, 2.0, 5.0)


def photo() -> Tensor:
    """The photograph in 0..255, uint8 ``[3, H, W]``."""
    from PIL import Image

    with Image.open(PHOTO) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)


def tiles(rows: Sequence[tuple[str, Sequence[tuple[str, Tensor]]]], path: Path, side: float) -> Path:
    """Rows of pictures ``[C, H, W]`` in [-1, 1], each with a caption, on white."""
    columns = max(len(row) for _, row in rows)
    figure = Figure(figsize=(side * columns + 1.6, (side + 0.2) * len(rows)), layout="constrained", facecolor="white")
    for axes_row, (label, row) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes in axes_row:
            axes.set(xticks=[], yticks=[])
        for axes, (text, picture) in zip(axes_row, row, strict=False):
            shown = to_uint8(picture).expand(3, -1, -1).permute(1, 2, 0).numpy()
            axes.imshow(shown, interpolation="nearest")
            axes.set_title(text, fontsize=8, pad=2)
        axes_row[0].set_ylabel(label, fontsize=10, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=80)
    return path


def caption(level: float, process: warmdiff.BlurNoiseProcess) -> str:
    return f"noise {process.noise(level):g}\nblur {process.alpha(level):g} px"


def shown(x: Tensor, beta: float) -> Tensor:
    """A state at one contrast: noise of any level fits into [-1, 1]."""
    return x / math.sqrt(1 + 4 * beta**2)


def paths(out: Path) -> Path:
    """The photograph along three forward processes with noise and one without; under noise, the signal that is left in it."""
    clean = photo()[None, :, 160:256, 270:366]
    image = ("the image", clean[0] / 127.5 - 1)
    rows = []
    for label, bnr in (("hot\nBNR 0", 0.0), ("warm\nBNR 0.5", 0.5), ("cooler\nBNR 2", 2.0)):
        process = warmdiff.BlurNoiseProcess(bnr)
        states, signals = [image], [image]
        for beta in BETAS:
            x, signal = process.degrade(clean, beta, seed=0)
            states.append((caption(beta, process), shown(x[0], beta)))
            signals.append(("", signal[0]))
        rows += [(label, states), ("its signal\nalone", signals)][: 1 if bnr == 0 else 2]
    cold = warmdiff.BlurNoiseProcess.cold()
    row = [(caption(alpha, cold), cold.degrade(clean, alpha, seed=0)[0][0]) for alpha in ALPHAS]
    return tiles([*rows, ("cold", [image, *row])], out / "paths.jpg", 1.2)


def spectra(out: Path) -> Path:
    """The power of the photograph's patches, and what noise and blur do to it."""
    image = photo()
    patches = image.unfold(1, 32, 16).unfold(2, 32, 16).permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32)
    SpectralArgument.of(DataSpectrum.measure(patches.split(512))).plot(out / "spectrum_photo.png", (0.1, 0.5, 2.0, 10.0))
    return out / "spectrum_photo.png"


@torch.no_grad()
def heads(denoiser: Denoiser, out: Path) -> Path:
    """A digit at several levels: what the network sees, what each head says, and the truth."""
    process, clean = denoiser.process, digits().read([13])
    x0 = clean / 127.5 - 1
    rows: dict[str, list[tuple[str, Tensor]]] = {}
    for level in HEAD_LEVELS:
        x, blurred = process.degrade(clean, level, seed=3)
        said = denoiser(x, level)
        pictures = {
            "what it sees": shown(x, level), "head B:\nblurred image": said.blurred, "true\nblurred image": blurred,
            "head R:\nmissing detail": said.residual, "true\nmissing detail": x0 - blurred, "B + R": said.denoised, "the image": x0,
        }  # fmt: skip
        for label, picture in pictures.items():
            text = caption(level, process) if label == "what it sees" else ""
            rows.setdefault(label, []).append((text, picture[0]))
    return tiles(list(rows.items()), out / "heads.png", 1.15)


@torch.no_grad()
def strip(denoiser: Denoiser, out: Path, count: int = 4) -> Path:
    """Samples on their way: the state above, the image seen in it so far below."""
    labels = torch.arange(count) % denoiser.classes if denoiser.classes else None
    rows: list[tuple[str, list[tuple[str, Tensor]]]] = []
    for i in range(count):
        name = "" if labels is None else f"asked for\na {int(labels[i])}"
        rows += [(f"{name}: state", []), ("image seen in it", [])]
    states = warmdiff.sample(
        lambda x, beta: denoiser.raw(x, beta, labels), (count, *denoiser.shape), process=denoiser.process, steps=18, seed=5
    )
    for state in states:
        for i in range(count):
            text = f"level {state.beta:.2g}" if i == 0 else ""
            rows[2 * i][1].append((text, shown(state.x[i], state.beta)))
            rows[2 * i + 1][1].append(("", state.denoised[i]))
    return tiles([(label, row[3::2]) for label, row in rows], out / "strip.png", 0.95)


def trained(run: Path) -> Denoiser:
    """The network of a run; where none is there, one like those of the sweep, at BNR 0.5."""
    if not (run / "checkpoints").exists():
        network: Any = {"channels": 16}
        config = TrainConfig.preset(
            "tiny", out=str(run), images=64_000, device="cpu", tensorboard=False, preview_every=0, save_every=100_000, network=network
        )
        for _ in tqdm(warmdiff.train(config), total=-(-config.images // config.batch), desc="training on digits", disable=None):
            pass
    return warmdiff.load(run)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tour"), help="a trained network's folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "tour", help="where the pictures go (default: docs/tour)")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        denoiser = trained(arguments.run)
        for path in (paths(arguments.out), spectra(arguments.out), heads(denoiser, arguments.out), strip(denoiser, arguments.out)):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
