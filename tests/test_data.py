"""Images from every source, what is refused, and the order in which they are trained on."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from warmdiff.data import Order, batches, in_memory, open_images
from warmdiff.readers import decode


def pixels(n: int = 4, h: int = 5, w: int = 7, c: int = 3) -> np.ndarray:
    return np.random.default_rng(n * h * w).integers(0, 256, (n, h, w, c), dtype=np.uint8)


def png(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def write_folder(path: Path, images: np.ndarray, classes: int = 1) -> None:
    for i, image in enumerate(images):
        folder = path / f"class{i % classes}" if classes > 1 else path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:03d}.png").write_bytes(png(image))


def chw(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def test_digits_are_scikit_learns() -> None:
    images, truth = open_images("digits"), load_digits()
    assert images.shape == (1, 8, 8) and len(images) == 1797 and images.classes == 10
    assert torch.equal(images.labels, torch.from_numpy(truth.target))
    back = images.read(range(1797)).squeeze(1).double() * 16 / 255
    assert torch.equal(back.round(), torch.from_numpy(truth.images)) and images.read([0]).max() == 239  # 15 of 16


def test_folder_with_classes(tmp_path: Path) -> None:
    truth = pixels(6)
    write_folder(tmp_path, truth, classes=2)
    (tmp_path / "notes.txt").write_text("not an image")
    images = open_images(str(tmp_path))
    assert images.shape == (3, 5, 7) and images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(images.read(range(6)), chw(truth)[[0, 2, 4, 1, 3, 5]])


def test_folder_without_classes_gray_and_scaled(tmp_path: Path) -> None:
    write_folder(tmp_path, pixels(3, 20, 30))
    images = open_images(str(tmp_path), size=(8, 16), gray=True)
    assert images.labels is None and images.classes == 0 and images.shape == (1, 8, 16)
    flat = tmp_path / "flat"
    write_folder(flat, np.full((1, 30, 10, 3), 77, np.uint8))
    assert (open_images(str(flat), size=(6,)).read([0]) == 77).all() and open_images(str(flat), size=(6,)).shape == (3, 6, 6)


@pytest.mark.parametrize("labels", [True, False])
def test_zip_of_images(labels: bool, tmp_path: Path) -> None:
    truth, path = pixels(3), tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(truth):
            archive.writestr(f"00000/img{i:08d}.png", png(image))
        archive.writestr("dataset.json", json.dumps({"labels": [[f"00000/img{i:08d}.png", 2 * i] for i in range(3)] if labels else None}))
    images = open_images(str(path))
    assert torch.equal(images.read([2, 0]), chw(truth)[[2, 0]])
    assert images.labels.tolist() == [0, 2, 4] if labels else images.labels is None


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_larger_than_the_cache(source: str, tmp_path: Path) -> None:
    truth, path = pixels(20, 256, 256), tmp_path / "files"
    write_folder(path, truth)
    if source == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in sorted(path.iterdir()):
                archive.write(file, file.name)
        path = tmp_path / "a.zip"
    images = open_images(str(path), cache_mb=1)
    assert torch.equal(images.read([3, 19, 0]), chw(truth)[[3, 19, 0]])
    stream = batches(images, seed=0, batch=4, workers=2)  # each worker opens the files for itself
    alone = batches(images, seed=0, batch=4)
    for got, want in islice(zip(stream, alone, strict=False), 4):
        assert torch.equal(got[0], want[0]) and torch.equal(got[2], want[2])


@pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw", "unnamed"])
def test_npz(layout: str, tmp_path: Path) -> None:
    truth, labels = pixels(4), np.arange(4) % 3
    path = tmp_path / "set.npz"
    if layout == "nhw":
        np.savez(path, images=truth[..., 0], labels=labels)
    elif layout == "unnamed":
        np.savez(path, truth, labels)
    else:
        np.savez(path, images=truth if layout == "nhwc" else truth.transpose(0, 3, 1, 2), labels=labels)
    images = open_images(str(path))
    assert torch.equal(images.read(range(4)), chw(truth[..., :1] if layout == "nhw" else truth))
    assert images.labels.tolist() == [0, 1, 2, 0] and images.classes == 3


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", [True, False])
def test_idx(packed: bool, folder: bool, tmp_path: Path) -> None:
    truth, end = pixels(4, 6, 5, 1)[..., 0], ".gz" if packed else ""
    wrap = gzip.compress if packed else bytes
    for split in ("t10k", "train"):
        data = truth if split == "train" else truth[:1]
        (tmp_path / f"{split}-images-idx3-ubyte{end}").write_bytes(wrap(b"\0\0\x08\x03" + struct.pack(">3I", *data.shape) + data.tobytes()))
        (tmp_path / f"{split}-labels-idx1-ubyte{end}").write_bytes(
            wrap(b"\0\0\x08\x01" + struct.pack(">I", len(data)) + bytes(range(len(data))))
        )
    images = open_images(str(tmp_path if folder else tmp_path / f"train-images-idx3-ubyte{end}"))
    assert torch.equal(images.read(range(4)), torch.from_numpy(truth)[:, None]) and images.labels.tolist() == [0, 1, 2, 3]


def test_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With torchvision's interface; the real one may not import beside this torch."""
    truth = pixels(3, 32, 32)

    class CIFAR10:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert root == str(tmp_path) and train and download
            self.data, self.targets = truth, [3, 1, 2]

    class MNIST:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    module = types.ModuleType("torchvision")
    module.datasets = types.SimpleNamespace(CIFAR10=CIFAR10, MNIST=MNIST)
    monkeypatch.setitem(sys.modules, "torchvision", module)
    images = open_images("CIFAR-10", root=str(tmp_path))
    assert images.shape == (3, 32, 32) and images.labels.tolist() == [3, 1, 2] and torch.equal(images.read([1]), chw(truth)[1:2])
    with pytest.raises(ValueError, match=r"mnist.*could not be downloaded.*digits"):
        open_images("mnist", root=str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="pip install torchvision"):
        open_images("cifar10")


@pytest.fixture
def real_torchvision() -> Iterator[types.ModuleType]:
    """torchvision's data sets; where it was built for another torch, with the operators declared that its import asks for."""
    library = None
    try:
        torchvision = importlib.import_module("torchvision")
    except ImportError as error:
        pytest.skip(f"torchvision is not installed: {error}")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision = importlib.import_module("torchvision")
    yield torchvision
    for name in [name for name in sys.modules if library is not None and name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def test_files_in_the_format_of_cifar10(real_torchvision: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    truth, labels, folder = pixels(10, 32, 32), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for i in range(5):
        part = chw(truth[2 * i : 2 * i + 2]).reshape(2, 3072).numpy()
        content = pickle.dumps({"data": part, "labels": labels[2 * i : 2 * i + 2]})
        (folder / f"data_batch_{i + 1}").write_bytes(content)
        sums[f"data_batch_{i + 1}"] = hashlib.md5(content).hexdigest()
    content = pickle.dumps({"label_names": list("abcdefghij")})
    (folder / "batches.meta").write_bytes(content)
    cifar = real_torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, digest] for name, digest in sums.items()])
    monkeypatch.setattr(cifar, "test_list", [])
    monkeypatch.setattr(cifar, "meta", {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(content).hexdigest()})
    images = open_images("cifar10", root=str(tmp_path))
    assert torch.equal(images.read(range(10)), chw(truth)) and images.labels.tolist() == labels


def test_files_in_the_format_of_fashion_mnist(real_torchvision: types.ModuleType, tmp_path: Path) -> None:
    truth, folder = pixels(6, 28, 28, 1)[..., 0], tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *truth.shape) + truth.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 6) + bytes(range(6)))
    images = open_images("fashion-mnist", root=str(tmp_path))
    assert torch.equal(images.read(range(6)), torch.from_numpy(truth)[:, None]) and images.labels.tolist() == list(range(6))


BAD = {
    "empty.png": b"",
    "text.png": b"this is no image",
    "cut.png": png(pixels(1, 40, 40)[0])[:-500],
    "cut.jpg": png(pixels(1, 40, 40)[0], "JPEG")[:400],
    "flipped.png": bytes(b ^ (i == 200) for i, b in enumerate(png(pixels(1, 40, 40)[0]))),
    "deep.png": png(np.zeros((4, 4), np.uint16)),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_bad_files_are_named_or_skipped(name: str, kind: str, tmp_path: Path) -> None:
    good, path = pixels(3, 40, 40), tmp_path / "set"
    write_folder(path, good)
    (path / name).write_bytes(BAD[name])
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for file in sorted(path.iterdir()):
                archive.write(file, file.name)
        path = tmp_path / "set.zip"
    with pytest.raises(ValueError, match=rf"1 of 4 files cannot be read:\n  {name}: .+(\n.*)*--on-bad skip"):
        open_images(str(path))
    with pytest.warns(UserWarning, match=name):
        images = open_images(str(path), on_bad="skip")
    assert len(images) == 3 and len(images.skipped) == 1 and images.skipped[0].startswith(name)
    assert torch.equal(images.read(range(3)), chw(good))


def test_nothing_but_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: empty file \(0 bytes\)"):
        open_images(str(tmp_path), on_bad="skip")


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_entry_of_a_zip(packed: int, tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", packed) as archive:
        for i, image in enumerate(pixels(3, 40, 40)):
            archive.writestr(f"{i}.png", png(image))
    raw = bytearray(path.read_bytes())
    raw[300] ^= 255
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"1 of 3 files .*\n  0\.png: (damaged entry|Invalid data stream)"):
        open_images(str(path))
    with pytest.warns(UserWarning, match=r"0\.png"):
        assert len(open_images(str(path), on_bad="skip")) == 2


def archive_with(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", png(pixels(1)[0]))
        archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_names_outside_an_archive(name: str, tmp_path: Path) -> None:
    for on_bad in ("stop", "skip"):
        with pytest.raises(ValueError, match="outside the archive"):
            open_images(str(archive_with(tmp_path / "set.zip", name, b"x")), on_bad=on_bad)


def test_bombs(tmp_path: Path) -> None:
    for path in (archive_with(tmp_path / "a.zip", "b.png", bytes(2**26)), archive_with(tmp_path / "a.npz", "images.npy", bytes(2**26))):
        with pytest.raises(ValueError, match="zip bomb"):
            open_images(str(path), on_bad="skip")
    idx = tmp_path / "x-images-idx3-ubyte.gz"
    idx.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2**20, 2**10, 2**10) + bytes(1000)))
    with pytest.raises(ValueError, match="truncated or hostile"):
        open_images(str(idx))
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">2I", 60000, 60000) + b"\x08\x02\0\0\0"
    with pytest.raises(ValueError, match=r"60000 x 60000 pixels|not a whole image"):
        decode(header + struct.pack(">I", 0) + bytes(100), None, False)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit('it ran')",))

    path = tmp_path / "trap.npz"
    np.savez(path, images=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match=r"trap\.npz: not a usable npz"):
        open_images(str(path))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((2, 4, 4, 3))}, "uint8"),
        ({"images": np.zeros((2, 4), np.uint8)}, "uint8"),
        ({"images": np.zeros((2, 5, 4, 4), np.uint8)}, "1 or 3 channels"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "at least one"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "labels must be 2 integers"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([-1, 0])}, "labels must be 2 integers"),
    ],
)  # fmt: skip
def test_bad_arrays(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        open_images(str(tmp_path / "a.npz"))


def test_truncated_containers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=pixels(50))
    archive_with(tmp_path / "a.zip", "b.png", png(pixels(1)[0]))
    data = b"\0\0\x08\x03" + struct.pack(">3I", 2, 4, 4) + bytes(32)
    (tmp_path / "x-images-idx3-ubyte").write_bytes(data)
    (tmp_path / "y-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
    for path in list(tmp_path.iterdir()):
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ValueError, match=path.name):
            open_images(str(path))
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=path.name):
            open_images(str(path))


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a path"):
        open_images(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no images in it"):
        open_images(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"ending in '\.txt'"):
        open_images(str(tmp_path / "a.txt"))
    with pytest.raises(ValueError, match="on_bad"):
        open_images("digits", on_bad="ignore")
    (tmp_path / "a.png").write_bytes(png(pixels(1, 4, 6)[0]))
    (tmp_path / "b.png").write_bytes(png(pixels(1, 4, 5)[0]))
    with pytest.raises(ValueError, match=r"b\.png is 4 x 5, a\.png is 4 x 6 .*give a size"):
        open_images(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", "[" * 10**5, '{"labels": 3}', '{"labels": [["good.png", 0]]}']
    + [f'{{"labels": [["good.png", {label}], ["b.png", 0]]}}' for label in ("true", "0.5", "-1", "null", 10**6, 10**30)],
    ids=lambda text: text[:40],
)
def test_bad_lists_of_classes(text: str, tmp_path: Path) -> None:
    path = archive_with(tmp_path / "set.zip", "b.png", png(pixels(1)[0]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dataset.json", text)
    with pytest.raises(ValueError, match=r"set\.zip: (not a usable zip of images|dataset\.json)"):
        open_images(str(path))


def test_notes_of_file_managers_are_no_images(tmp_path: Path) -> None:
    for name in ("My Pictures/a cat.PNG", "My Pictures/._a cat.png", ".hidden/b.png", "__MACOSX/My Pictures/._a cat.PNG"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(png(pixels(1)[0]) if name.endswith("a cat.PNG") and "._" not in name else b"notes")
    with zipfile.ZipFile(tmp_path / "SET.ZIP", "w") as archive:
        for file in (tmp_path / "in").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "in"))
    for path in (tmp_path / "in", tmp_path / "SET.ZIP"):
        images = open_images(str(path))
        assert len(images) == 1 and torch.equal(images.read([0]), chw(pixels(1)))


def test_gray_among_colours_and_folders_in_classes(tmp_path: Path) -> None:
    colour, gray = pixels(1)[0], pixels(1)[0, :, :, 0]
    for name, image in (("cat/old/1.png", colour), ("cat/2.png", gray), ("dog/3.png", colour)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(image))
    images = open_images(str(tmp_path))
    assert images.labels.tolist() == [0, 0, 1] and torch.equal(images.read([0])[0], torch.from_numpy(gray).expand(3, -1, -1))
    assert torch.equal(images.read([1])[0], chw(colour[None])[0])


def test_sizes_of_sets_that_are_not_scaled() -> None:
    assert open_images("digits", size=(8,), gray=True).shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"size must be \(8, 8\) for 'digits'.*got \(16, 16\)"):
        open_images("digits", size=(16,))
    for size in ((0, 4), (1, 2, 3), ()):
        with pytest.raises(ValueError, match="size must be"):
            open_images("digits", size=size)


def test_transparency_orientation_and_palette() -> None:
    clear = Image.new("RGBA", (3, 2), (200, 100, 50, 0))
    clear.putpixel((0, 0), (200, 100, 50, 255))
    file = io.BytesIO()
    clear.save(file, "PNG")
    image = decode(file.getvalue(), None, False)
    assert image[:, 0, 0].tolist() == [200, 100, 50] and image.sum() == 350
    turned, file = Image.new("RGB", (6, 2)), io.BytesIO()
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(file, "JPEG", exif=exif)
    assert decode(file.getvalue(), None, False).shape == (3, 6, 2)
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE).save(file, "GIF")
    assert decode(file.getvalue(), None, False)[:, 1, 1].tolist() == [10, 20, 30]


# ---- order ----


def test_each_pass_is_a_fresh_permutation() -> None:
    order = Order(10, seed=5)
    passes = [[order(10 * e + i) for i in range(10)] for e in range(4)]
    assert all(sorted(p) == list(range(10)) for p in passes) and len({tuple(p) for p in passes}) == 4
    assert [Order(10, 5)(i) for i in (23, 3)] == [passes[2][3], passes[0][3]] and Order(10, 6)(0) + Order(1000, 6)(0) >= 0
    assert [Order(1000, 6)(i) for i in range(20)] != [Order(1000, 5)(i) for i in range(20)]


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("start", [0, 3])
def test_batches_do_not_depend_on_processes_or_restarts(world: int, start: int) -> None:
    images = in_memory("x", np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1), np.arange(30))
    whole = list(islice(batches(images, 7, 8), 8))
    parts = [list(islice(batches(images, 7, 8, start, rank, world), 8 - start)) for rank in range(world)]
    for step, group in enumerate(zip(*parts, strict=True), start=start):
        for k in range(3):
            assert torch.equal(torch.cat([part[k] for part in group]), whole[step][k])
        assert torch.equal(whole[step][0].flatten().long(), whole[step][1]) and whole[step][2].tolist() == list(
            range(8 * step, 8 * step + 8)
        )
