"""Checkpoints: one safetensors file each, whole or not there, and nothing in them that could run code."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from warmdiff.files import replacing
from warmdiff.options import Reworded, check, require

FORMAT = "warmdiff checkpoint 1"
SUFFIX = ".safetensors"


def checksums(tensors: Mapping[str, Tensor], text: str) -> dict[str, str]:
    """CRC-32 of names, dtypes, shapes and bytes of the tensors, in the order of names, and of the state."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)};".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value) if tensor.numel() else value
    return {"crc32": f"{value:08x}", "state_crc32": f"{zlib.crc32(text.encode()):08x}"}


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int) -> Path:
    """Writes ``folder/<step>.safetensors`` and then removes all but the newest ``keep``, and what a killed run left half written.

    ``state``: what JSON can hold (floats come back bit for bit). OSError: it cannot be written; the older ones are all there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(dict(state))
    path = folder / f"{step:010d}{SUFFIX}"
    with replacing(path) as temporary, Reworded("safetensors", SafetensorError, kind=OSError):
        save_file(plain, temporary, {"format": FORMAT, "state": text, **checksums(plain, text)})
    for old in [*existing(folder)[keep:], *folder.glob(f".*{SUFFIX}.*.tmp")]:
        old.unlink(missing_ok=True)
    return path


def existing(folder: Path) -> list[Path]:
    """Checkpoints of a folder, newest first, good or not."""
    return sorted((p for p in folder.glob(f"*{SUFFIX}") if p.stem.isdigit()), key=lambda p: int(p.stem), reverse=True)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of one checkpoint; ValueError: not a whole, unchanged one of this package. Pickled files are never opened."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    require(path.is_file(), f"no checkpoint at {path}", FileNotFoundError)
    with open(path, "rb") as raw:
        pickled = raw.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    require(not pickled, f"{path}: refused, it is a pickled or zipped file, which can run code when opened; only safetensors are read")
    broken = (SafetensorError, OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError)
    with Reworded(f"{path}: truncated or not a safetensors file", *broken), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path}: not a checkpoint of warmdiff (format {metadata.get('format')!r}, not {FORMAT!r})")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        text = metadata.get("state", "")
        state = json.loads(text)
    check(isinstance(state, dict), f"{path}: its state", type(state).__name__, "a table")
    sums = checksums(tensors, text)
    if sums != {"crc32": metadata.get("crc32"), "state_crc32": metadata.get("state_crc32", sums["state_crc32"])}:  # at first without
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
