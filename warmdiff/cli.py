"""The command ``warmdiff`` (also ``python -m warmdiff``): train, sample, evaluate, spectrum, demo."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import inspect
import json
import math
import operator
import os
import platform
import signal
import sys
import time
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from warmdiff.config import PRESETS, TrainConfig, load_config
from warmdiff.data import digits, images_of
from warmdiff.denoiser import Denoiser, load, pick_device, sample_images
from warmdiff.files import check_writable, grid, replacing, to_uint8, write_png, write_text
from warmdiff.metrics import EXTRACTORS, consistency, evaluate, extractor
from warmdiff.options import Reworded, changed, check, imported, parts_of, settings
from warmdiff.sampling import SAMPLERS, SamplingError, sample
from warmdiff.spectrum import DataSpectrum, SpectralArgument
from warmdiff.training import train

SECTIONS = {  # the setting that each part of the help begins with
    "out": "where", "data": "data", "bnr": "forward process", "images": "optimisation", "device": "machine", "log_every": "watching",
    "network.family": "network",
}  # fmt: skip
HINTS = {
    ModuleNotFoundError: " (pip install 'warmops[train]' brings what warmdiff needs)",
    torch.OutOfMemoryError: " (where that was training: a smaller --micro-batch takes less memory)",
}
FEATURES_HELP = (
    f"{', '.join(EXTRACTORS)} (inception gives the FID; it needs torch-fidelity and its weights); or package.module:function that makes a "
    "torch module from uint8 images [N, 3, H, W] to features [N, D] (default: %(default)s)"
)

# ---- train ----


def parse_setting(hint: Any) -> Callable[[str], Any]:
    """A function from a flag's text to a value of a field's type."""
    kind, optional = parts_of(hint)

    def setting(text: str) -> Any:
        if optional and text == "none":
            return None
        if typing.get_origin(kind) is tuple:
            return tuple(typing.get_args(kind)[0](part) for part in text.replace("x", ",").split(","))
        return kind(text)

    return setting


def add_settings(parser: argparse.ArgumentParser, names: Collection[str] = ()) -> None:
    """A flag for each setting of the config, or some of them; only those that were typed end up in the namespace."""
    group: Any = parser
    for name, item, hint in settings(TrainConfig):
        if names and name not in names:
            continue
        if name in SECTIONS and not names:
            group = parser.add_argument_group(SECTIONS[name])
        default = operator.attrgetter(name)(TrainConfig())
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else "none" if default is None else default
        options: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if hint is not bool:
            choices = item.metadata.get("choices")
            metavar = None if choices else "A,B,.." if "tuple" in str(hint) else name.rpartition(".")[2].upper()
            options = {"type": parse_setting(hint), "choices": choices, "metavar": metavar}
        text = f"{item.metadata['help']} (default: {shown})".replace("%", "%%")
        group.add_argument(f"--{name.replace('.', '-').replace('_', '-')}", dest=name, default=argparse.SUPPRESS, help=text, **options)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name) for name, _, _ in settings(TrainConfig) if hasattr(arguments, name)}
    network = {name.removeprefix("network."): given.pop(name) for name in tuple(given) if name.startswith("network.")}
    return {**given, "network": network}


def config_of(arguments: argparse.Namespace) -> Any:
    """The config that the flags mean: a run found at --out, or a preset or file, with the flags' changes."""
    given = given_settings(arguments)
    found = Path(given.get("out", TrainConfig.out)) / "config.json"
    if arguments.config and arguments.preset:
        raise ValueError("--config and --preset cannot be given together (a file may name its preset)")
    file = arguments.config or (found if found.exists() and not arguments.preset else None)
    return changed(load_config(file) if file else TrainConfig.preset(arguments.preset or "tiny"), given)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGTERM or Ctrl-C came; meanwhile they do nothing else, but a second Ctrl-C interrupts at once."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received and number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:  # torchrun passes each on once more
            raise KeyboardInterrupt
        received.append(number)
        print(f"\n{signal.Signals(number).name}: saving and stopping after this step", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_command(arguments: argparse.Namespace) -> None:
    """Train a model on images. Examples:

      warmdiff train --out runs/digits                                   handwritten digits (in the package), minutes on a CPU
      warmdiff train --out runs/cats --data ~/cats --size 64,64 --preset small
      warmdiff train --preset cifar10 --out runs/cifar10                 the network and schedule of the papers; wants GPUs
      torchrun --standalone --nproc-per-node 8 -m warmdiff train --preset cifar10 --out runs/cifar10

    The same command again, or just --out, goes on where the run stopped. Ctrl-C and SIGTERM save and stop. The folder of the run holds
    checkpoints/, previews/ (sample grids), tensorboard/, log.jsonl and config.json. All intervals are counted in images."""
    config, first = config_of(arguments), os.environ.get("RANK", "0") == "0"
    if first:
        print("\n".join(f"{name} = {json.dumps(value)}" for name, value in dataclasses.asdict(config).items()), flush=True)
    state = run_training(config, show=first)
    if first and state is None:
        print(f"{config.out} has already seen {config.images:,} images: nothing to do (--images trains longer)")
    elif first:
        skipped = f", {state.skipped} steps skipped (not finite)" if state.skipped else ""
        todo = "done" if state.step == state.steps else f"stopped; go on with: warmdiff train --out {config.out}"
        print(f"{config.out}: {state.images:,} images, loss {state.loss:.4f}{skipped}: {todo}")


def run_training(config: TrainConfig, show: bool = True) -> Any:
    """Runs `warmdiff.train` behind a progress bar until the end or a signal; the last state, or None if there was nothing to do."""
    from tqdm import tqdm  # of the extra "train"

    state, mean, total = None, math.nan, None if config.minutes else config.images
    often, began = 0.5 if sys.stderr.isatty() else 30.0, time.monotonic()
    with contextlib.ExitStack() as resources:
        bar: Any = None
        for state in train(config, stop=resources.enter_context(stop_signals()), progress=show):
            if bar is None:  # not before the data was found good
                options = {"unit": "img", "unit_scale": True, "disable": not show, "mininterval": often}
                bar = resources.enter_context(tqdm(total=total, initial=state.images - config.batch, **options))
            mean = 0.98 * mean + 0.02 * state.loss if math.isfinite(mean) else state.loss
            left = {"left": f"{max(0.0, 60 * config.minutes - time.monotonic() + began):.0f}s"} if config.minutes else {}
            bar.set_postfix({"loss": f"{mean:.3f}", **left, **({"skipped": state.skipped} if state.skipped else {})}, refresh=False)
            bar.update(config.batch)
    return state


# ---- sample and evaluate ----


def add_sampling(parser: argparse.ArgumentParser, n: int) -> None:
    add, samplers = parser.add_argument, [s for s in SAMPLERS if s != "cold"]
    add("run", metavar="RUN", help="folder of a run (its newest good checkpoint) or a checkpoint file")
    add("--n", type=int, default=n, help="number of images (default: %(default)s)")
    add("--sampler", choices=samplers, default="heun", help="method (default: %(default)s)")
    add("--steps", type=int, default=18, help="steps; heun evaluates the network twice in each but the last (default: 18)")
    add("--seed", type=int, default=0, help="image i depends on seed + i alone (default: 0)")
    add("--churn", type=float, default=0.0, help="EDM's S_churn, fresh noise in each step (default: 0, deterministic)")
    add("--labels", metavar="L", default="all", help="classes, such as 3 or 1,7, repeated; none: without class (default: all in turn)")
    add("--bnr", type=float, help="blur-to-noise ratio, for a network trained for a range of them")
    add("--batch", type=int, help="images at once; changes no image (default: by image size)")
    add("--weights", choices=("ema", "net"), default="ema", help="averaged or last weights (default: ema)")
    add("--device", default="auto", help="cpu, cuda, .. (default: a GPU if there is one)")


def labels_of(text: str, classes: int, n: int, seed: int) -> Any:
    """Classes of n images: a function of each image's seed."""
    if text == "none" or (text == "all" and classes == 0):
        return None
    with Reworded("--labels must be all, none, or classes such as 1,7", ValueError):
        chosen = range(classes) if text == "all" else [int(part) for part in text.split(",")]
    return torch.tensor([chosen[(seed + i) % len(chosen)] for i in range(n)])


def samples_of(arguments: argparse.Namespace, n: int) -> tuple[Any, Any, Any]:
    """(denoiser, uint8 images, labels) that the flags of `add_sampling` mean."""
    from tqdm import tqdm

    if n < 1 or (arguments.batch is not None and arguments.batch < 1):
        raise ValueError(f"--n and --batch must be >= 1, got {n} and {arguments.batch}")
    check(-(2**63) <= arguments.seed <= 2**63 - n, "--seed", arguments.seed, f"within 64 bits, for all of {n} images")
    denoiser = load(arguments.run, pick_device(arguments.device), arguments.weights)
    if arguments.bnr is not None:
        denoiser = denoiser.at_bnr(arguments.bnr)
    labels = labels_of(arguments.labels, denoiser.classes, n, arguments.seed)
    options = {name: getattr(arguments, name) for name in ("sampler", "steps", "churn", "batch", "seed")}
    with tqdm(total=n, unit="img", desc="sampling", disable=None) as bar:
        return denoiser, to_uint8(sample_images(denoiser, n, labels=labels, done=bar.update, **options)), labels


def sample_command(arguments: argparse.Namespace) -> None:
    """Make images with a trained model."""
    out = Path(arguments.out)
    if out.suffix not in ("", ".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, or be a folder, got {arguments.out!r}")
    check(arguments.columns is None or arguments.columns >= 1, "--columns", arguments.columns, ">= 1")
    check_writable(out.parent if out.suffix else out)
    _, images, labels = samples_of(arguments, arguments.n)
    if out.suffix == ".png":
        write_png(out, grid(images, arguments.columns, tile=48))
    elif out.suffix == ".npz":
        arrays = {"images": images.permute(0, 2, 3, 1).numpy(), "seeds": arguments.seed + np.arange(arguments.n)}
        arrays |= {} if labels is None else {"labels": labels.numpy()}
        with replacing(out) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
    else:
        for i, image in enumerate(images):
            write_png(out / f"{arguments.seed + i:06d}.png", image, sync=False)
    print(f"{out}: {arguments.n} images")


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measure how close a model's images are to real ones. Frechet distance, KID, precision and recall of features of samples,
    each beside what other real images score."""
    if arguments.out:
        check_writable(Path(arguments.out).parent)
    features = extractor(arguments.features, str(pick_device(arguments.device)))
    config = load(arguments.run).config
    data = images_of(dataclasses.replace(config, data=arguments.data or config.data), progress=True)
    denoiser, images, _ = samples_of(arguments, min(arguments.n, len(data) // 2))
    report = evaluate(images, data, features) | {"consistency": consistency(denoiser, data)}
    n = report["images"]
    print(f"{n} samples against {n} real images of {report['data']}; in brackets: {n} other real images against them")
    for key, value in report["samples"].items():
        print(f"  {key:<24}{value:10.4f}   [{report['floor'][key]:.4f}]")
    if n < 10_000:
        print("  (the Frechet distance of fewer than 10,000 images is too large by much: look at the brackets)")
    print("Head consistency |(I - A) B - A R| / |A R| on degraded real images, 0 is perfect:")
    levels = [f"  level {level:<8g} {value:.4f}" for level, value in report["consistency"].items()]
    print("\n".join(levels or ["  not defined without blur (bnr 0)"]))
    if arguments.out:
        write_text(Path(arguments.out), json.dumps(report, indent=2) + "\n")


# ---- the rest ----


def spectrum_command(arguments: argparse.Namespace) -> None:
    """Measure how images' variance falls with frequency, and what ratio that suggests."""
    images = images_of(changed(TrainConfig(), given_settings(arguments)), progress=True)
    spectrum = DataSpectrum.measure(images.chunks(256))
    argument = SpectralArgument.of(spectrum)
    print(f"{arguments.data}: {len(images)} images {list(images.shape)}, variance falls as frequency^{spectrum.slope():.2f}")
    spread = f"for single frequencies {argument.bnr:.2f} to {float(argument.balance.max()):.2f}"
    print(f"blur-to-noise ratio that removes nothing before noise hides it: at most {argument.bnr:.2f} ({spread})")

    def write_json(path: str) -> None:
        write_text(Path(path), json.dumps({"data": arguments.data, **argument.table()}, indent=1) + "\n")

    outputs = {"save": (spectrum.save, "variance of each mode"), "json": (write_json, "numbers"), "plot": (argument.plot, "plot")}
    for name, (write, what) in outputs.items():
        if path := getattr(arguments, name):
            write(path)
            print(f"{path}: {what}")


def demo_command(arguments: argparse.Namespace) -> None:
    """Train on handwritten digits, sample and measure, within 3 minutes on a CPU. Run again, it goes on training where it stopped."""
    out, minutes, seed = Path(arguments.out), arguments.minutes, arguments.seed
    figure = imported("matplotlib.figure", "the demo", "matplotlib").Figure(figsize=(6, 4), layout="constrained")
    options = {"images": 10**9, "minutes": minutes, "seed": seed, "threads": min(2, torch.get_num_threads())}
    options |= {"preview_every": 0, "save_every": 10**8, "tensorboard": False}
    print(f"Training on 1,797 handwritten digits of 8 x 8 pixels for {minutes:g} minutes ...", flush=True)
    run_training(TrainConfig.preset("tiny", out=str(out / "run"), **options))
    denoiser, data = load(out / "run"), digits()
    count = len(data) // 2
    print(f"Sampling {count} digits ...", flush=True)
    samples = sample_images(denoiser, count, seed=seed, labels=torch.arange(count) % 10)
    write_png(out / "samples.png", grid(to_uint8(F.interpolate(samples[:80], scale_factor=6, mode="bicubic")), columns=10))
    write_png(out / "path.png", film_strip(denoiser, seed))
    lines = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    axes = figure.subplots()
    for name, label in (("loss_blurred", "blurred image"), ("loss_residual", "missing detail")):
        axes.plot([line["images"] / 1000 for line in lines], [line.get(name) for line in lines], label=label)
    axes.set(xlabel="images seen (thousands)", ylabel="weighted squared error", yscale="log", title="Loss of both heads")
    axes.legend()
    with replacing(out / "loss.png") as temporary:
        figure.savefig(temporary, format="png")
    report = evaluate(to_uint8(samples), data, extractor("pixels"))
    ours, floor = report["samples"]["FD-pixels"], report["floor"]["FD-pixels"]
    line = f"Frechet distance of pixels, {count} samples against {count} real digits: {ours:.4f}; {count} other real digits against the "
    line += f"same: {floor:.4f} (the floor); the samples are {ours / floor:.1f} times as far."
    write_text(out / "report.txt", line + "\n")
    print(f"{line}\nLook at {out}/samples.png, {out}/path.png and {out}/loss.png")


@torch.no_grad()
def film_strip(denoiser: Denoiser, seed: int) -> Tensor:
    """For one sample of each class two rows: the state from noise to image (scaled to one contrast), and the image seen in it so far."""
    labels, pairs = torch.arange(denoiser.classes), []
    for state in sample(lambda x, b: denoiser.raw(x, b, labels), (len(labels), *denoiser.shape), process=denoiser.process, seed=seed):
        pairs.append(torch.stack([to_uint8(state.x / (1.0 + 4.0 * state.beta**2) ** 0.5), to_uint8(state.denoised)], 1))
    rows = torch.stack(pairs, 2)  # [samples, 2, steps, C, H, W]
    return grid(rows.flatten(0, 2), columns=len(pairs), tile=32)


# ---- the command line ----


def parser() -> argparse.ArgumentParser:
    about = "Blur-noise mixture diffusion models: train, sample, measure. Start with: warmdiff demo"
    root = argparse.ArgumentParser(prog="warmdiff", description=about)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        name, text, formatter = run.__name__.removesuffix("_command"), inspect.getdoc(run) or "", argparse.RawDescriptionHelpFormatter
        made = commands.add_parser(name, help=text.partition(".")[0], description=text, formatter_class=formatter)
        made.set_defaults(run_command=run)
        return made

    teach = command(train_command)
    teach.add_argument("--preset", choices=tuple(PRESETS), help="settings to start from (default: tiny; defaults below are those of tiny)")
    teach.add_argument("--config", metavar="FILE", help="a .toml or .json file of settings, such as a run's config.json; flags change it")
    add_settings(teach)
    draw = command(sample_command)
    add_sampling(draw, 64)
    draw.add_argument("--out", default="samples.png", help="a .png (grid), a .npz, or a folder of PNGs (default: %(default)s)")
    draw.add_argument("--columns", type=int, help="columns of a grid (default: about square)")
    measure = command(evaluate_command)
    add_sampling(measure, 10_000)
    measure.add_argument("--data", help="real images (default: those of the run); one half is compared with, the other is the floor")
    measure.add_argument("--features", default="pixels", help=FEATURES_HELP)
    measure.add_argument("--out", help="also write the numbers to this JSON file")
    spectrum = command(spectrum_command)
    spectrum.add_argument("data", metavar="DATA", help="digits, cifar10, .., or a folder, zip, npz or IDX file of images")
    add_settings(spectrum, ("size", "gray", "on_bad", "root"))
    spectrum.add_argument("--save", metavar="FILE.npz", help="write the measured variances")
    spectrum.add_argument("--json", metavar="FILE.json", help="write power, fit, noise floors, blur cut-offs and the ratio suggested")
    spectrum.add_argument("--plot", metavar="FILE.png", help="draw all that (needs matplotlib)")
    demo = command(demo_command)
    demo.add_argument("--out", default="demo", help="folder to write (default: demo)")
    demo.add_argument("--minutes", type=float, default=2.0, help="how long to train (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
    return root


def keep_freed_memory() -> None:
    """Has the C library keep what a step frees for the next one. Given back to the system and fetched again, page by page, it makes
    training steps of the preset tiny take 6% longer."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 2**25), (-1, 2**31 - 1)):  # M_MMAP_THRESHOLD at its limit, M_TRIM_THRESHOLD
            libc.mallopt(option, value)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0, or 1 with a message for what the user can mend."""
    arguments = parser().parse_args(argv)
    keep_freed_memory()
    try:
        arguments.run_command(arguments)
    except (ValueError, ImportError, OSError, FloatingPointError, SamplingError, torch.OutOfMemoryError) as error:
        print(f"warmdiff: error: {error}{HINTS.get(type(error), '')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
