"""A full disk and a read-only one, for real: a small file system of this process's own, on which runs are trained.

    python tests/_faults.py FOLDER [--step KB]

``--step 4`` lets space end at every page. Prints a line of JSON: {"faults": runs that were stopped, "steps": at which steps, ..}, or
{"skipped": why such a file system cannot be mounted here}.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000  # of unshare(2)
READ_ONLY, REMOUNT, PRIVATE = 1, 32, 0x4000 | 0x40000  # of mount(2)
LIBC = ctypes.CDLL(None, use_errno=True)


def mount(kind: bytes, where: str, flags: int, options: str = "") -> None:
    if LIBC.mount(kind, where.encode(), kind, flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "mount")


def own_disk(where: Path, size: int) -> None:
    """Mounts a file system of so many bytes for this process alone; it is gone when the process ends."""
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(NEW_MOUNTS | (NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount(b"none", "/", PRIVATE)
    mount(b"tmpfs", str(where), 0, f"size={size}")


def leave(free: int, ballast: Path) -> None:
    """Fills the disk up to so many bytes."""
    ballast.unlink(missing_ok=True)
    room = shutil.disk_usage(ballast.parent).free - free
    ballast.write_bytes(bytes(max(room, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--step", type=int, default=80, help="KB of space from one run to the next")
    arguments = parser.parse_args()
    disk = arguments.folder / "disk"
    disk.mkdir(parents=True)
    try:
        own_disk(disk, 4 * 2**20)
    except OSError as error:
        print(json.dumps({"skipped": str(error)}))
        return

    import torch
    from PIL import Image

    import warmdiff
    from warmdiff import checkpoint

    torch.set_num_threads(1)
    net = warmdiff.NetworkConfig(channels=4, multipliers=(1,), blocks=1, attention=())
    plain = warmdiff.TrainConfig(images=48, batch=8, save_every=16, log_every=8, preview_every=0, tensorboard=False, network=net)

    def train(config: warmdiff.TrainConfig) -> tuple[dict[int, float], OSError | None]:
        losses: dict[int, float] = {}
        try:
            for state in warmdiff.train(config):
                losses[state.step] = state.loss
        except OSError as error:
            return losses, error
        return losses, None

    def whole(run: Path) -> None:
        """Nothing of a run is half written or lost."""
        for path in [p for p in run.rglob("*") if p.is_file()]:
            assert not path.name.endswith(".tmp"), path
            if path.suffix == ".safetensors":
                checkpoint.load(path)
            elif path.suffix == ".png":
                with Image.open(path) as picture:
                    picture.load()
            elif path.name == "config.json":
                warmdiff.load_config(path)
            elif path.name == "log.jsonl":
                text = path.read_text()
                assert text == "" or text.endswith("\n")
                [json.loads(line) for line in text.splitlines()]

    def bits(run: Path) -> dict[str, Any]:
        found = checkpoint.newest(run / "checkpoints")
        assert found is not None
        return found[1]

    want, error = train(dataclasses.replace(plain, out=str(arguments.folder / "whole")))
    assert error is None and len(want) == 6
    truth, one = bits(arguments.folder / "whole"), max(p.stat().st_size for p in (arguments.folder / "whole" / "checkpoints").iterdir())
    stopped, faults, quiet = [], 0, 0
    busy = dataclasses.replace(plain, out=str(disk / "run"), preview_every=24, tensorboard=True)
    for free in range(0, 4 * one, 1024 * arguments.step):
        leave(free, disk / "ballast")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            losses, error = train(busy)
        quiet += any("training goes on" in str(warning.message) for warning in warned)
        run = disk / "run"
        if run.exists():
            whole(run)
        assert all(want[step] == loss for step, loss in losses.items())
        if error is not None:
            faults += 1
            stopped.append(max(losses, default=0))
            assert "No space left on device" in str(error) and str(run) in str(error), error
        (disk / "ballast").unlink()
        rest, error = train(busy)  # there is space again
        assert error is None and all(want[step] == loss for step, loss in rest.items())
        assert losses.keys() | rest.keys() == want.keys()
        assert all(torch.equal(tensor, truth[name]) for name, tensor in bits(run).items())
        assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == list(want)
        whole(run)
        shutil.rmtree(run)

    train(dataclasses.replace(busy, images=16))
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    mount(b"tmpfs", str(disk), READ_ONLY | REMOUNT)
    losses, error = train(busy)
    assert not losses and error is not None and "cannot write to" in str(error) and str(disk) in str(error), error
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before
    mount(b"tmpfs", str(disk), REMOUNT)
    losses, error = train(busy)
    assert error is None and list(losses) == [3, 4, 5, 6]
    print(json.dumps({"faults": faults, "steps": stopped, "went on without extras": quiet, "checkpoint": one}))


if __name__ == "__main__":
    sys.exit(main())
