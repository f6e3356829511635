"""Files of images, from anyone: every reader refuses what is broken or hostile with a ValueError that says what and where.

Nothing is unpickled or extracted to disk. Sizes are checked against what a file claims before memory is taken.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import math
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np

from warmdiff.options import Reworded, require

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_IMAGE_BYTES = 2**28  # of one file in an archive, unpacked
MAX_PIXELS = 2**26  # of one image
MAX_CLASSES = 2**16
DEFLATE_LIMIT = 1032  # no deflate stream expands by more
# What a damaged entry of a zip raises, and one packed in a way that zipfile does not know (NotImplementedError).
BROKEN = (zipfile.BadZipFile, EOFError, NotImplementedError, lzma.LZMAError, zlib.error)

Array = np.ndarray[Any, np.dtype[np.uint8]]


def is_image(path: PurePath) -> bool:
    """By its name; what starts with a dot and the folder __MACOSX are a file manager's notes."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


@contextlib.contextmanager
def opened(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """A zip archive, after names that leave it and entries that expand like bombs were refused; what fails inside names the file."""
    faults = (*BROKEN, OSError, ValueError, TypeError, KeyError, MemoryError, RecursionError)
    with Reworded(f"{path}: not a usable {what}", *faults), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name, small, large = entry.filename, entry.compress_size, entry.file_size
            inside = PurePosixPath(name.replace("\\", "/"))
            outside = inside.is_absolute() or ".." in inside.parts or ":" in name
            require(not outside, f"refused, the entry {name!r} points outside the archive")
            bomb = large > max(2**24, 100 * small)
            require(not bomb, f"refused as a zip bomb, the entry {name!r} would expand from {small:,} to {large:,} bytes")
            require(not entry.flag_bits & 1, f"refused, the entry {name!r} is encrypted")
        yield archive


def read_npz(path: Path) -> tuple[Array, Array | None]:
    """uint8 images under "images" (or first), see `as_planes`, and integer "labels" ``[N]`` (or second, if neither is named)."""
    with opened(path, "npz file"), np.load(path, allow_pickle=False) as file:
        names = file.files if "images" not in file else ["images", *(["labels"] if "labels" in file else [])]
        arrays = [file[name] for name in names[:2]]
    require(arrays, f"{path}: no images in it")
    images = as_planes(path, arrays[0])
    return images, as_labels(path, arrays[1], len(images)) if len(arrays) > 1 else None


def as_planes(path: Path | str, images: Any) -> Array:
    """``[N, C, H, W]`` of uint8 ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]``, C = 1 or 3."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(f"{path}: images must be uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], got {images.dtype} {list(images.shape)}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"{path}: images must be at least one of 1 or 3 channels, got {list(images.shape)} as [N, C, H, W]")
    return np.ascontiguousarray(images)


def as_labels(path: Path | str, labels: Any, count: int) -> Array:
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (count and not 0 <= labels.min() <= labels.max() < MAX_CLASSES):
        got = f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"{path}: labels must be {count} integers in 0..{MAX_CLASSES - 1}, one for each image, got {got}")
    return labels.astype(np.int64)


def read_idx(path: Path) -> Array:
    """The array of an IDX file of unsigned bytes (MNIST's format), gzip'd or not."""
    packed, size = path.suffix == ".gz", path.stat().st_size
    with Reworded(f"{path}: not a usable IDX file", OSError, EOFError, zlib.error, ValueError):
        with gzip.open(path) if packed else open(path, "rb") as file:
            magic = file.read(4)
            known = len(magic) == 4 and magic[:3] == b"\0\0\x08" and 1 <= magic[3] <= 4
            require(known, f"not of unsigned bytes (it starts with {magic.hex() or 'nothing'})")
            shape = [int.from_bytes(file.read(4), "big") for _ in range(magic[3])]
            wanted, most = math.prod(shape), size * (DEFLATE_LIMIT if packed else 1)
            require(wanted <= most, f"truncated or hostile, {size:,} bytes cannot hold the {wanted:,} that its header announces")
            data = file.read(wanted + 1)
        require(len(data) == wanted, f"truncated or too long, its header announces {wanted:,} bytes of {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def read_idx_pair(path: Path) -> tuple[Array, Array | None]:
    """Images of an IDX file and the labels of its neighbour of the usual name; of a folder, the training images in it."""
    if path.is_dir():
        found = idx_files(path)
        path = next((file for file in found if "train" in file.name), found[0])
    images = as_planes(path, read_idx(path))
    neighbour = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if neighbour == path or not neighbour.exists():
        return images, None
    return images, as_labels(neighbour, read_idx(neighbour), len(images))


def idx_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if "images" in p.name and "idx3-ubyte" in p.name and p.suffix in ("", ".gz"))


def decode(content: bytes, size: tuple[int, ...] | None, gray: bool) -> Array:
    """One image file as uint8 ``[C, H, W]``: upright, on black where transparent; to ``size`` (H, W) by cropping and scaling.

    Raises ValueError for whatever is not a whole 8-bit image of at most 2^26 pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    require(content, "empty file (0 bytes)")
    try:
        first = Image.open(io.BytesIO(content))
        require(math.prod(first.size) <= MAX_PIXELS, f"refused, {first.size[0]} x {first.size[1]} pixels are more than {MAX_PIXELS:,}")
        first.verify()  # checksums, where the format has them; the object is useless afterwards
        image: Any = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        require(not image.mode.startswith(("I", "F")), f"pixels of mode {image.mode} are not 8-bit: convert the image first")
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        image = image.convert("L" if gray else "RGB")
    except UnidentifiedImageError:
        raise ValueError("not a whole image of a known format") from None
    except (OSError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole image: {error}") from None
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if gray else pixels.transpose(2, 0, 1))


class Folder:
    """The images under a folder; a first-level subfolder is a class if every image lies in one and there are at least two."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = sorted(str(inside) for p in path.rglob("*") if is_image(inside := p.relative_to(path)) and p.is_file())
        parents = [Path(name).parts[0] if len(Path(name).parts) > 1 else "" for name in self.names]
        classes = sorted(set(parents))
        self.labels = [classes.index(parent) for parent in parents] if len(classes) > 1 and "" not in classes else None

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


class Archive:
    """A zip of images; classes from its ``dataset.json`` as StyleGAN and EDM write it: ``{"labels": [[name, class], ..] or null}``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: dict[tuple[int, int], zipfile.ZipFile] = {}
        with opened(path, "zip of images") as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
            self.names = sorted(name for name in sizes if is_image(PurePosixPath(name)))
            for name in self.names:
                fits = sizes[name] <= MAX_IMAGE_BYTES
                require(fits, f"refused, the entry {name!r} has {sizes[name]:,} bytes, more than {MAX_IMAGE_BYTES:,}")
            listed = dict(json.loads(archive.read("dataset.json"))).get("labels") if "dataset.json" in sizes else None
            self.labels: list[int] | None = None
            if listed is not None:
                with Reworded("dataset.json must hold labels as [[name, class], ..] or null", TypeError, ValueError):
                    given = {str(name): label for name, label in listed}
                odd = [name for name in self.names if type(given.get(name)) is not int or not 0 <= given[name] < MAX_CLASSES]
                some = f"{len(odd)} images, such as {odd[:1]}"
                require(not odd, f"dataset.json has no class (an integer in 0..{MAX_CLASSES - 1}) for {some}")
                self.labels = [given[name] for name in self.names]

    def read(self, name: str) -> bytes:
        key = os.getpid(), threading.get_ident()  # a file position must not be shared, least of all across a fork
        if key not in self._open:
            self._open[key] = zipfile.ZipFile(self.path)
        with Reworded("damaged entry", *BROKEN):
            return self._open[key].read(name)
