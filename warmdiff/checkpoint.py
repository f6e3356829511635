"""Checkpoints: one safetensors file each, whole or not there, and nothing in them that could run code."""

from __future__ import annotations

import json
import os
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


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """``write(temporary path)``, then flush it to the disk, rename it to ``path`` and flush the folder.

    At any moment, also after a power failure, ``path`` is the old file or the new one, whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int) -> Path:
    """Writes ``folder/<step>.safetensors`` and then removes all but the newest ``keep``, and what a killed run left half written.

    Args:
        tensors: any names; moved to the CPU.
        state: what JSON can hold (floats come back bit for bit).
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "state": json.dumps(dict(state)), "crc32": checksum(plain)}
    path = folder / f"{step:010d}{SUFFIX}"
    write_durably(path, lambda temporary: save_file(plain, temporary, metadata))
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
            state = json.loads(metadata.get("state", ""))
    except (SafetensorError, OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: truncated or not a safetensors file: {error}") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: its state must be a table, got {type(state).__name__}")
    if checksum(tensors) != metadata.get("crc32"):
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
