"""Training images: one uint8 set in memory or on disk, and the endless stream of batches over it."""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmdiff import readers
from warmdiff.config import TrainConfig
from warmdiff.options import Reworded, check, imported, require

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashionmnist": "FashionMNIST"}


@dataclass
class ImageSet:
    """Images of one shape, uint8, read by index.

    Attributes:
        name: where they come from.
        shape: ``(C, H, W)``.
        crc32: checksum of all pixels and labels, in their order.
        labels: int64 ``[N]``, or None.
        classes: number of classes, 0 without labels.
        skipped: names and faults of the files that were left out.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    fetch: Callable[[Sequence[int]], Tensor]
    pixels_crc32: int
    labels: Tensor | None = None
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    @property
    def classes(self) -> int:
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @property
    def crc32(self) -> int:
        return self.pixels_crc32 if self.labels is None else zlib.crc32(self.labels.numpy().data, self.pixels_crc32)

    def read(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Images ``[len(indices), C, H, W]``, uint8."""
        return self.fetch([int(i) for i in indices])

    def chunks(self, size: int, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Every image (or those of ``indices``) in order, ``size`` at a time."""
        everything = range(len(self)) if indices is None else indices
        for start in range(0, len(everything), size):
            yield self.read(everything[start : start + size])


def in_memory(name: str, images: Any, labels: Any = None, skipped: Sequence[str] = ()) -> ImageSet:
    """An `ImageSet` over a uint8 array ``[N, C, H, W]``."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    numbers = None if labels is None else torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    checksum = zlib.crc32(pixels.numpy().data)
    return ImageSet(name, tuple(pixels.shape[1:]), len(pixels), lambda indices: pixels[indices], checksum, numbers, list(skipped))


def digits() -> ImageSet:
    """1,797 hand-written digits of 8x8 with their classes, from UCI (see digits_licence.txt); in the package."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images = np.rint(file["images"] * (255 / 16)).astype(np.uint8)
        return in_memory("digits", images, file["labels"])


def open_images(
    source: str,
    *,
    size: tuple[int, ...] | None = None,
    gray: bool = False,
    on_bad: str = "stop",
    root: str = "data",
    cache_mb: int = 2048,
    progress: bool = False,
) -> ImageSet:
    """Open a set of images; all of it is checked before anything else happens.

    Args:
        source: "digits" (in the package), "cifar10", "cifar100", "mnist" or "fashion-mnist" (through torchvision, downloaded to
            ``root``), or a path: a folder of images (subfolders are classes), a zip of images (as EDM's, with dataset.json), an
            ``.npz`` of uint8 "images" and "labels", an IDX file (gzip'd or not) or a folder of them.
        size: (height, width) or (side,) to crop and scale image files to; None: they must have one size.
        gray: read image files with one channel.
        on_bad: "stop" raises on image files that cannot be read, "skip" leaves them out, counts and names them.
        root: folder for downloads.
        cache_mb: files are decoded once and kept up to this size; larger sets are decoded again whenever they are read.
        progress: show a bar while files are checked.

    Returns:
        The set, as uint8 images of one shape: its ``shape``, ``labels`` and ``classes``, and images by ``read(indices)``.

    Raises:
        ValueError: the source is not there, not readable, hostile (zip bombs, names outside the archive), empty, or of differing sizes.
        ImportError: Pillow or torchvision is needed and missing.

    Example:
        >>> images = warmdiff.open_images("digits")
        >>> images.shape, len(images), images.classes
        ((1, 8, 8), 1797, 10)
        >>> images.read([0, 1]).dtype
        torch.uint8
    """
    check(on_bad in ("stop", "skip"), "on_bad", on_bad, "'stop' or 'skip'")
    check(size is None or (len(size) in (1, 2) and min(size) > 0), "size", size, "(side,) or (height, width), above 0")
    size = (*size, *size)[:2] if size else None
    path, name = Path(source).expanduser(), source.lower().replace("-", "").replace("_", "")
    if source == "digits":
        images = digits()
    elif name in TORCHVISION:
        images = from_torchvision(source, TORCHVISION[name], root)
    elif not path.exists():
        raise ValueError(f"data {source!r} is neither a path that exists nor one of: digits, cifar10, cifar100, mnist, fashion-mnist")
    elif path.suffix.lower() == ".npz":
        images = in_memory(source, *readers.read_npz(path))
    elif (path.is_dir() and readers.idx_files(path)) or (path.is_file() and "ubyte" in path.name):
        images = in_memory(source, *readers.read_idx_pair(path))
    elif path.is_dir() or path.suffix.lower() == ".zip":
        files = readers.Folder(path) if path.is_dir() else readers.Archive(path)
        images = from_files(source, files, size, gray, on_bad, cache_mb, progress)
    else:
        wanted = "a folder, .zip, .npz or IDX file ('ubyte' in its name)"
        raise ValueError(f"data {source!r} must be {wanted}, got a file ending in {path.suffix!r}")
    check(size in (None, images.shape[1:]), "size", size, f"{images.shape[1:]} for {source!r}: only image files are scaled")
    check(not gray or images.shape[0] == 1, "gray", gray, f"False for {source!r}: only image files are converted")
    return images


def images_of(config: TrainConfig, progress: bool = False) -> ImageSet:
    """The images of a run: `open_images` with its settings."""
    options = {name: getattr(config, name) for name in ("size", "gray", "on_bad", "root", "cache_mb")}
    return open_images(config.data, progress=progress, **options)


def from_torchvision(source: str, name: str, root: str) -> ImageSet:
    datasets = imported("torchvision", f"data {source!r}", "torchvision").datasets
    instead = f"without a network, use digits, or put the files of torchvision.datasets.{name} into that folder"
    with Reworded(f"data {source!r} is not in {root!r} and could not be downloaded ({instead})", OSError, RuntimeError):
        found = getattr(datasets, name)(root, train=True, download=True)
    return in_memory(source, readers.as_planes(source, np.asarray(found.data)), np.asarray(found.targets))


def from_files(
    source: str, files: readers.Folder | readers.Archive, size: Any, gray: bool, on_bad: str, cache_mb: int, progress: bool
) -> ImageSet:
    """Decodes every file once: what cannot be read is known before training, and what fits stays in memory."""

    def attempt(index: int) -> Any:
        """The image, or its name and what is wrong with it."""
        try:
            return readers.decode(files.read(files.names[index]), size, gray)
        except (ValueError, OSError) as error:
            return f"{files.names[index]}: {error}"

    require(files.names, f"{source}: no images in it (looked for {', '.join(sorted(readers.IMAGE_SUFFIXES))})")
    kept: list[Any] = []
    good: list[int] = []
    bad: list[str] = []
    shape: tuple[int, ...] = ()
    checksum = 0
    for index, result in enumerate(in_threads(attempt, len(files.names), progress)):
        if isinstance(result, str):
            bad.append(result)
            continue
        shape = shape or result.shape
        if result.shape != shape:
            sizes = [f"{files.names[i]} is {h} x {w}" for i, (_, h, w) in ((index, result.shape), (good[0], shape))]
            raise ValueError(f"{source}: {', '.join(sizes)} (height x width): give a size")
        checksum = zlib.crc32(result.data, checksum)
        good.append(index)
        kept.append(result)
        if len(good) * result.nbytes > cache_mb * 2**20:
            kept.clear()
    if bad:
        summary = "\n  ".join([f"{source}: {len(bad)} of {len(files.names)} files cannot be read:", *bad[:10], *["..."][: len(bad) - 10]])
        if on_bad == "stop" or not good:
            raise ValueError(summary + ("\n(--on-bad skip leaves them out)" if good else ""))
        warnings.warn(f"skipped: {summary}", stacklevel=3)
    labels = None if files.labels is None else torch.tensor([files.labels[i] for i in good])
    if kept:
        return in_memory(source, np.stack(kept), labels, bad)

    def fetch(indices: Sequence[int]) -> Tensor:
        images = [attempt(good[i]) for i in indices]
        for i, image in zip(indices, images, strict=True):
            if isinstance(image, str) or image.shape != shape:
                raise ValueError(f"{source} changed: {image if isinstance(image, str) else f'{files.names[good[i]]} has another size'}")
        return torch.from_numpy(np.stack(images))

    return ImageSet(source, shape, len(good), fetch, checksum, labels, bad)


def in_threads(function: Callable[[int], Any], count: int, progress: bool) -> Iterator[Any]:
    """``function`` of 0, 1, .. in order."""
    from tqdm import tqdm

    quiet = None if progress else True  # None: where nobody looks
    with ThreadPoolExecutor() as pool, tqdm(total=count, desc="checking images", unit="file", disable=quiet, leave=False) as bar:
        for start in range(0, count, 256):  # in blocks, so that decoded images do not pile up
            for result in pool.map(function, range(start, min(start + 256, count))):
                bar.update()
                yield result


class Order:
    """The endless order of images: a fresh permutation of the set in each pass, a function of the seed and the position alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epoch, self._permutation = -1, torch.empty(0)

    def __call__(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._epoch, self._permutation = epoch, torch.randperm(self.count, generator=generator)
        return int(self._permutation[place])


class _Stream(torch.utils.data.Dataset[Any]):
    """What a DataLoader's worker runs: positions in the stream to images, labels and those positions."""

    def __init__(self, images: ImageSet, seed: int) -> None:
        self.images, self.order = images, Order(len(images), seed)

    def __getitems__(self, positions: list[int]) -> tuple[Tensor, Tensor | None, Tensor]:
        indices = [self.order(position) for position in positions]
        labels = None if self.images.labels is None else self.images.labels[indices]
        return self.images.read(indices), labels, torch.tensor(positions)


def batches(
    images: ImageSet, seed: int, batch: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    """This rank's part of each global batch, for ever, from step ``start`` on.

    The global batch of step s holds the positions ``s * batch .. (s + 1) * batch - 1`` of the stream; rank r has the r-th
    consecutive part. So what is trained on depends neither on the number of processes nor on where a run was resumed.

    Yields:
        images uint8 ``[batch / world, C, H, W]``, labels int64 ``[batch / world]`` or None, positions int64 ``[batch / world]``.
    """
    stream, part = _Stream(images, seed), batch // world
    positions = (list(range(step * batch + rank * part, step * batch + (rank + 1) * part)) for step in itertools.count(start))
    if workers == 0:
        return map(stream.__getitems__, positions)
    options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "fork", "pin_memory": torch.cuda.is_available()}
    return iter(torch.utils.data.DataLoader(stream, batch_sampler=positions, collate_fn=lambda batch: batch, **options))
