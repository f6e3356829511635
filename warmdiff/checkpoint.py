"""Checkpoints: one safetensors file each, whole or not there, and nothing in them that could run code."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = "warmdiff checkpoint 1"
SUFFIX = ".safetensors"


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of names, dtypes, shapes and bytes, in the order of names."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)};".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value) if tensor.numel() else value
    return f"{value:08x}"


def text_checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def write_durably(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """``write(temporary path)``, then flush it to the disk, rename it to ``path`` and flush the folder, which is made if need be.

    At any moment, also after a power failure, ``path`` is the old file or the new one, whole. Without ``sync`` nothing is flushed: that
    holds for a killed program and a full disk, and many small files take less time.

    Raises:
        OSError: it cannot be written; the message names ``path``, which is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if sync:
            flush(temporary)
        os.replace(temporary, path)
        if sync:
            flush(path.parent)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_content(path: Path, content: str | bytes | memoryview) -> None:
    """`write_durably` of a text or of bytes."""
    write_durably(path, lambda temporary: temporary.write_bytes(content.encode() if isinstance(content, str) else content))


def check_writable(folder: Path) -> None:
    """Makes a folder if need be, and tries to write to it: before hours of work, not after them.

    Raises:
        OSError: it is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error}") from error


def flush(path: Path) -> None:
    """Has the disk take all of a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int) -> Path:
    """Writes ``folder/<step>.safetensors`` and then removes all but the newest ``keep``, and what a killed run left half written.

    Args:
        tensors: any names; moved to the CPU.
        state: what JSON can hold (floats come back bit for bit).

    Raises:
        OSError: it cannot be written; the older ones are all there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(dict(state))
    metadata = {"format": FORMAT, "state": text, "crc32": checksum(plain), "state_crc32": text_checksum(text)}

    def write(temporary: Path) -> None:
        try:
            save_file(plain, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    path = folder / f"{step:010d}{SUFFIX}"
    write_durably(path, write)
    for old in [*existing(folder)[keep:], *folder.glob(f".*{SUFFIX}.*.tmp")]:
        old.unlink(missing_ok=True)
    return path


def existing(folder: Path) -> list[Path]:
    """Checkpoints of a folder, newest first, good or not."""
    return sorted((p for p in folder.glob(f"*{SUFFIX}") if p.stem.isdigit()), key=lambda p: int(p.stem), reverse=True)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of one checkpoint.

    Raises:
        ValueError: not a whole, unchanged checkpoint of this package; pickled files are never opened.
        FileNotFoundError: no such file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with open(path, "rb") as raw:
        start = raw.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ValueError(f"{path}: refused, it is a pickled or zipped file, which can run code when opened; only safetensors are read")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{path}: not a checkpoint of warmdiff (format {metadata.get('format')!r}, not {FORMAT!r})")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            text = metadata.get("state", "")
            state = json.loads(text)
    except (SafetensorError, OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: truncated or not a safetensors file: {error}") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: its state must be a table, got {type(state).__name__}")
    sums = checksum(tensors), text_checksum(text)
    if sums != (metadata.get("crc32"), metadata.get("state_crc32", sums[1])):  # the second was not written at first
        raise ValueError(f"{path}: damaged, its contents do not match their checksum")
    return tensors, state


def newest(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]] | None:
    """The newest good checkpoint of a folder, or None if there is none; each damaged one is warned about and passed over."""
    for path in existing(folder):
        try:
            return path, *load(path)
        except ValueError as error:
            warnings.warn(f"passed over: {error}", stacklevel=2)
    return None


def set_aside(folder: Path, step: int) -> None:
    """Renames the checkpoints of later steps, which a run that goes on from ``step`` found damaged: they must not count as its newest."""
    for path in existing(folder):
        if int(path.stem) > step:
            path.rename(path.with_suffix(".damaged"))
