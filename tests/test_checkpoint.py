"""Checkpoints: whole or not there, and harmless whoever sent them."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import warmdiff
from warmdiff import checkpoint
from warmdiff.config import TrainConfig
from warmdiff.network import NetworkConfig

NET = NetworkConfig(channels=8, multipliers=(1, 2), blocks=1)
STATE = {"step": 3, "loss": 0.1 + 0.2, "config": {"a": [1, None]}}


def tensors(rng: torch.Generator) -> dict[str, torch.Tensor]:
    return {
        "a": torch.randn(3, 4, generator=rng),
        "b.c": torch.randn(2, 3, 4, 5, generator=rng).to(memory_format=torch.channels_last),
        "half": torch.randn(7, generator=rng).bfloat16(),
        "scalar": torch.tensor(5.0, dtype=torch.float64),
        "empty": torch.empty(0, 3),
    }


def test_round_trip(tmp_path: Path, rng: torch.Generator) -> None:
    before = tensors(rng)
    path = checkpoint.save(tmp_path / "new" / "folder", 3, before, STATE, keep=2)
    after, state = checkpoint.load(path)
    assert state == STATE and after.keys() == before.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], tensor)
    assert list(path.parent.iterdir()) == [path]


def test_newest_first_and_only_so_many_kept(tmp_path: Path, rng: torch.Generator) -> None:
    (tmp_path / ".0000000009.safetensors.123.tmp").write_bytes(b"what a killed run left")
    for step in (1, 20, 3):
        checkpoint.save(tmp_path, step, tensors(rng), {"step": step}, keep=2)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found[2] == {"step": 20}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000000003.safetensors", "0000000020.safetensors"]
    assert checkpoint.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, 600, -1])
def test_truncated_ones_are_passed_over(cut: int, tmp_path: Path, rng: torch.Generator) -> None:
    checkpoint.save(tmp_path, 1, tensors(rng), {"step": 1}, keep=3)
    last = checkpoint.save(tmp_path, 2, tensors(rng), {"step": 2}, keep=3)
    content = last.read_bytes()
    last.write_bytes(content[:cut])
    with pytest.raises(ValueError, match=last.name):
        checkpoint.load(last)
    with pytest.warns(UserWarning, match=rf"passed over: .*{last.name}"):
        found = checkpoint.newest(tmp_path)
    assert found is not None and found[2] == {"step": 1}


def test_any_changed_byte_is_noticed(tmp_path: Path, rng: torch.Generator) -> None:
    path = checkpoint.save(tmp_path, 1, tensors(rng), STATE, keep=1)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for place in range(start, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            checkpoint.load(path)


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_one(moment: str, tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, tensors(rng), {"step": 1}, keep=1)

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr("safetensors.torch.save_file", fail)
        else:
            patch.setattr(os, moment, fail)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.save(tmp_path, 2, tensors(rng), {"step": 2}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["0000000001.safetensors"]
    assert checkpoint.newest(tmp_path)[2] == {"step": 1}


def test_written_durably_in_this_order(tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """File to disk, then its name, then the folder's entry, and only then are old ones removed."""
    calls: list[str] = []
    fsync, replace, unlink = os.fsync, os.replace, Path.unlink
    checkpoint.save(tmp_path, 1, tensors(rng), {}, keep=1)
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    monkeypatch.setattr(Path, "unlink", lambda self, **k: (calls.append("remove") if self.exists() else None, unlink(self, **k))[1])
    checkpoint.save(tmp_path, 2, tensors(rng), {}, keep=1)
    assert calls == ["file", "rename", "folder", "remove"]


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize("kind", ["torch.save", "pickle", "old torch.save"])
def test_pickles_are_never_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "0000000001.safetensors"
    path.parent.mkdir()
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save({"net": Trap()}, path, _use_new_zipfile_serialization=kind == "torch.save")
    with pytest.raises(ValueError, match=r"refused.*run code"):
        warmdiff.load(path)
    with pytest.warns(UserWarning, match="refused"), pytest.raises(FileNotFoundError, match="no usable checkpoint"):
        warmdiff.load(tmp_path)


def trained(path: Path) -> Path:
    config = TrainConfig(out=str(path), images=16, batch=8, preview_every=0, tensorboard=False, network=NET)
    list(warmdiff.train(config))
    return checkpoint.existing(path / "checkpoints")[0]


def forged(path: Path, good: Path, change: dict[str, torch.Tensor] | None = None, **state: object) -> Path:
    """A well-formed checkpoint with other contents, checksum and all."""
    contents, old = checkpoint.load(good)
    return checkpoint.save(path, 1, {**contents, **(change or {})}, {**old, **state}, keep=1)


def test_hostile_contents(tmp_path: Path) -> None:
    good = trained(tmp_path / "run")
    assert isinstance(warmdiff.load(good), warmdiff.Denoiser)
    config = json.loads(json.dumps(dataclasses.asdict(TrainConfig(network=NET))))
    huge = {**config, "network": {**config["network"], "channels": 2**24}}
    cases: list[tuple[dict[str, torch.Tensor], dict[str, object], str]] = [
        ({}, {"config": huge}, "weights do not fit"),
        ({}, {"config": {**config, "network": {**config["network"], "blocks": -1}}}, "blocks"),
        ({}, {"config": {**config, "network": {**config["network"], "blocks": 10**9}}}, "blocks"),
        ({}, {"config": {**config, "network": {**config["network"], "multipliers": [1] * 10**5}}}, "multipliers"),
        ({}, {"config": {**config, "bnr": 10**400}}, "bnr"),
        ({}, {"config": {**config, "bnr.x": 1}}, "bnr.x"),
        ({}, {"config": {**config, "surprise": 1}}, "surprise"),
        ({}, {"config": [1]}, "table of settings"),
        ({}, {"config": None}, "table of settings"),
        ({}, {"classes": "ten"}, "not usable"),
        ({}, {"classes": 2**31}, "weights do not fit|not usable"),
        ({"ema.first.weight": torch.zeros(9, 1, 3, 3)}, {}, "ema.*first.weight|first.weight"),
        ({"ema.surprise": torch.zeros(1)}, {}, "surprise"),
        ({"spectrum.variance": torch.zeros(1)}, {}, "not usable|spectrum"),
        ({"spectrum.variance": torch.full((1, 8, 8), float("nan"), dtype=torch.float64)}, {}, "not usable|spectrum"),
    ]
    for number, (change, state, words) in enumerate(cases):
        path = forged(tmp_path / str(number), good, change, **state)
        with pytest.raises(ValueError, match=words):
            warmdiff.load(path)


def test_other_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of warmdiff"):
        warmdiff.load(path)
    save_file({"weight": torch.zeros(3)}, path, {"format": checkpoint.FORMAT, "state": "[" * 10**5})
    with pytest.raises(ValueError, match="truncated or not a safetensors"):
        warmdiff.load(path)
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="truncated or not a safetensors"):
        warmdiff.load(path)
    with pytest.raises(FileNotFoundError):
        warmdiff.load(tmp_path / "nowhere")
