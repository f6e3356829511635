"""What goes wrong around a run: full and read-only disks, damaged checkpoints, clocks, second trainers, changed data, killed processes,
too little memory. Nothing may be lost or half written, and whoever reads the message knows what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import warmdiff
from warmdiff import checkpoint
from warmdiff.cli import main, run_training
from warmdiff.config import TrainConfig
from warmdiff.data import batches, in_memory, open_images
from warmdiff.denoiser import sample_images
from warmdiff.files import append, write_png
from warmdiff.network import NetworkConfig
from warmdiff.runlog import RunLog, lock
from warmdiff.spectrum import SpectralArgument

NET = NetworkConfig(channels=8, multipliers=(1,), blocks=1, attention=())
SMALL = TrainConfig(images=48, batch=8, save_every=16, log_every=8, preview_every=0, tensorboard=False, network=NET)
PAGE = 4096


def config_at(path: Path, **changes: Any) -> TrainConfig:
    return dataclasses.replace(SMALL, out=str(path), **changes)


def losses(config: TrainConfig) -> list[float]:
    return [state.loss for state in warmdiff.train(config)]


def newest(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    return found[1:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert len(losses(config_at(run))) == 6
    return run


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel lets no file of this process grow beyond ``size`` bytes: writes stop in their middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- disks ----


@pytest.mark.cpu_only
def test_full_and_read_only_disks(tmp_path: Path) -> None:
    """Training on a small file system of its own, with space that ends at different moments (tests/_faults.py)."""
    paths = [str(Path(warmdiff.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    script, environment = Path(__file__).with_name("_faults.py"), {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in result:
        pytest.skip(f"no file system can be mounted here: {result['skipped']}")
    assert result["faults"] >= 3 and min(result["steps"]) == 0 and max(result["steps"]) >= 2, result


def test_a_checkpoint_that_finds_no_space_at_any_page(tmp_path: Path, rng: torch.Generator) -> None:
    tensors = {"a": torch.randn(20, 1000, generator=rng), "b": torch.randn(33, 999, generator=rng)}
    size = checkpoint.save(tmp_path, 1, tensors, {"step": 1}, keep=1).stat().st_size
    for space in range(0, size, PAGE):
        with files_of_at_most(space), pytest.raises(OSError, match=r"cannot write .*0000000002\.safetensors: .*File too large"):
            checkpoint.save(tmp_path, 2, tensors, {"step": 2}, keep=1)
        assert [path.name for path in tmp_path.iterdir()] == ["0000000001.safetensors"]
    found = checkpoint.newest(tmp_path)
    assert found is not None and found[2] == {"step": 1} and torch.equal(found[1]["b"], tensors["b"])


def test_other_files_are_whole_or_as_they_were(tmp_path: Path, trained: Path) -> None:
    config, spectrum = config_at(tmp_path), warmdiff.load(trained).spectrum
    picture = torch.randint(0, 256, (3, 60, 60), dtype=torch.uint8)
    sample = ["sample", str(trained), "--n", "64", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "samples.npz")]
    writers = {
        "config.json": lambda: RunLog(tmp_path, config, 0, 0),
        "log.jsonl": lambda: append(tmp_path / "log.jsonl", "x" * 5000 + "\n"),
        "picture.png": lambda: write_png(tmp_path / "picture.png", picture),
        "spectrum.npz": lambda: spectrum.save(tmp_path / "spectrum.npz"),
        "argument.pdf": lambda: SpectralArgument.of(spectrum).plot(tmp_path / "argument.pdf"),
        "samples.npz": lambda: main(sample),
    }
    for name, write in writers.items():
        for old in (b"", b"what was there before\n"):
            path = tmp_path / name
            path.write_bytes(old)
            files = set(tmp_path.iterdir())
            for space in (600,) if name == "argument.pdf" else (0, 1, 600, 1500):
                if name == "samples.npz":  # what it prints would go to pytest's files
                    said = io.StringIO()
                    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), files_of_at_most(space):
                        assert main(sample) == 1
                    assert f"cannot write {path}" in said.getvalue()
                elif name == "config.json" and space == 1500:
                    continue  # it fits
                else:
                    with files_of_at_most(space), pytest.raises(OSError, match=rf"cannot write .*{name}"):
                        write()
                assert path.read_bytes() == old and set(tmp_path.iterdir()) == files
        if name != "config.json":
            write()
            assert path.stat().st_size > 1500 and set(tmp_path.iterdir()) == files


def test_extras_that_cannot_be_written_do_not_stop_a_run(tmp_path: Path, trained: Path) -> None:
    """Previews and TensorBoard's files: their folders are files here, so nothing goes into them."""
    for name in ("previews", "tensorboard"):
        (tmp_path / name).write_text("in the way")
    with pytest.warns(RuntimeWarning, match="training goes on") as warned:
        losses(config_at(tmp_path, tensorboard=True, preview_every=24))
    assert {str(warning.message).partition(" left out")[0] for warning in warned} == {"a preview", "TensorBoard's files"}
    assert newest(tmp_path)[1]["step"] == 6


@pytest.mark.parametrize("where", ["", "checkpoints"])
def test_a_read_only_folder_is_noticed_before_the_work(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = tempfile.TemporaryFile

    def refuse(**options: Any) -> Any:
        if options["dir"] == tmp_path / "run" / where:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(options["dir"]))
        return make(**options)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match=rf"cannot write to .*run/?{where}: .*Read-only"):
        next(warmdiff.train(config_at(tmp_path / "run")))
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    for out in (tmp_path / "run" / where / "a.png", tmp_path / "run" / where):
        assert main(["sample", str(tmp_path / "nothing"), "--out", str(out)]) == 1  # before anything is looked for
        assert "cannot write to" in capsys.readouterr().err


# ---- damaged checkpoints ----


def test_cut_off_at_every_page(tmp_path: Path, trained: Path) -> None:
    paths = checkpoint.existing(trained / "checkpoints")
    for path in paths[:2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    last, content = tmp_path / paths[0].name, paths[0].read_bytes()
    cuts = range(0, len(content), PAGE)
    assert len(cuts) > 10
    for cut in cuts:
        last.write_bytes(content[:cut])
        with pytest.warns(UserWarning, match=f"passed over: .*{last.name}"):
            found = checkpoint.newest(tmp_path)
        assert found is not None and found[2]["step"] == 4


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, rng: torch.Generator) -> None:
    """Each bit of the header, the run's state in it, and some of the numbers."""
    tensors = {"a": torch.randn(3, 5, generator=rng), "b": torch.ones(4, dtype=torch.int64)}
    path = checkpoint.save(tmp_path, 1, tensors, {"step": 12, "window": [[0.125, 3.5e-7]]}, keep=1)
    content, (_, state) = path.read_bytes(), checkpoint.load(path)
    start = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for place, bit in itertools.product([*range(start), *range(start, len(content), 7)], range(8)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        try:
            got, told = checkpoint.load(path)
        except ValueError as error:
            refused += str(path) in str(error)
            continue
        assert told == state and all(torch.equal(got[name], tensor) for name, tensor in tensors.items()), (place, bit)
    assert refused > 7.5 * start


def test_damaged_checkpoints_cost_no_good_one(tmp_path: Path, trained: Path) -> None:
    """They have the highest numbers, and ``keep`` newest ones are kept."""
    config = config_at(tmp_path / "run")
    losses(config)
    paths = checkpoint.existing(tmp_path / "run" / "checkpoints")
    assert [int(path.stem) for path in paths] == [6, 4, 2]
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-1])
    log = tmp_path / "run" / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'\xff\x00{"step": 9')  # what a power failure may leave
    with pytest.warns(UserWarning, match="passed over"):
        assert next(warmdiff.train(dataclasses.replace(config, keep=1))).step == 3  # the loop is left: saved
    assert newest(tmp_path / "run")[1]["step"] == 3
    assert sorted(path.name for path in paths[0].parent.iterdir()) == [
        f"{n:010d}.{s}" for n, s in ((3, "safetensors"), (4, "damaged"), (6, "damaged"))
    ]
    assert len(losses(config)) == 3
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    got = newest(tmp_path / "run")[0]
    assert all(torch.equal(got[name], tensor) for name, tensor in newest(trained)[0].items())


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(tmp_path: Path) -> None:
    config = config_at(tmp_path / "run", images=32)
    losses(config)
    for path in checkpoint.existing(tmp_path / "run" / "checkpoints"):
        path.write_bytes(b"")
    before = (tmp_path / "run" / "log.jsonl").read_text()
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(ValueError, match="none of its 2 checkpoints is whole"):
        losses(config)
    assert (tmp_path / "run" / "log.jsonl").read_text() == before and before


# ---- clocks ----


def test_a_clock_that_jumps_by_days_changes_nothing(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps, real = itertools.cycle([0.0, 40 * 86400.0, -40 * 86400.0]), time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    config = config_at(tmp_path / "run", minutes=5.0, tensorboard=True, preview_every=24)
    for state in warmdiff.train(config):
        assert state.images_per_second > 0
        if state.step == 3:
            break
    for number, path in enumerate(checkpoint.existing(tmp_path / "run" / "checkpoints")):  # the newest by name is the oldest by date
        os.utime(path, (10**9 + number, 10**9 + number))
    assert run_training(config).step == 6  # behind the command's progress bar
    want, got = newest(trained)[0], newest(tmp_path / "run")[0]
    assert all(torch.equal(got[name], tensor) for name, tensor in want.items())
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


# ---- two trainers ----


def hold(run: Path, ready: Any) -> None:
    """A trainer whose process that reads images is busy for a long time."""

    def fetch(indices: Any) -> torch.Tensor:
        ready.send(os.getpid())
        time.sleep(60)
        return torch.zeros(len(indices), 1, 1, 1, dtype=torch.uint8)

    images = dataclasses.replace(in_memory("x", np.zeros((8, 1, 1, 1), np.uint8)), fetch=fetch)
    with lock(run):
        next(batches(images, 0, 4, workers=1))


@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_lock_dies_with_its_owner_and_not_with_its_children(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    first = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, theirs))
    first.start()
    assert ours.poll(60)
    reader = ours.recv()
    try:
        with pytest.raises(OSError, match="another process is training"), lock(tmp_path):
            pass
        first.kill()
        first.join()
        assert Path(f"/proc/{reader}").exists()  # it lives on, for a while, without the lock
        with lock(tmp_path):
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(reader, signal.SIGKILL)


# ---- data ----


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8), np.arange(20) % 3
    source = tmp_path / "set.npz"
    np.savez(source, images=images, labels=labels)
    config = config_at(tmp_path / "run", data=str(source), images=16)
    losses(config)
    config = dataclasses.replace(config, images=32)
    other, hidden = images.copy(), labels.copy()
    other[7, 2, 3] ^= 1
    hidden[4] = 2 - hidden[4] if hidden[4] != 1 else 0
    for changed in ({"images": other, "labels": labels}, {"images": images, "labels": hidden}, {"images": images[::-1], "labels": labels}):
        np.savez(source, **changed)
        with pytest.raises(ValueError, match=r"data must be.*not all the same"):
            losses(config)
    np.savez(source, images=images[:19], labels=labels[:19])
    with pytest.raises(ValueError, match=r"data must be .*20.* got .*19"):
        losses(config)
    np.savez(tmp_path / "moved.npz", images=images, labels=labels)
    config = dataclasses.replace(config, data=str(tmp_path / "moved.npz"))
    path, tensors, state = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert state.pop("data_crc32")
    checkpoint.save(path.parent, 2, tensors, state, keep=3)  # as the first releases wrote it
    assert len(losses(config)) == 2


def folder_of(path: Path, images: np.ndarray) -> Path:
    path.mkdir()
    for number, image in enumerate(images):
        write_png(path / f"{number:02d}.png", torch.from_numpy(image)[None], sync=False)
    return path


def test_the_checksum_of_data_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 400, 500), dtype=np.uint8)
    folder = folder_of(tmp_path / "set", images)
    cached, uncached = open_images(str(folder), gray=True), open_images(str(folder), gray=True, cache_mb=1)
    assert cached.crc32 == uncached.crc32 == in_memory("x", images[:, None]).crc32
    assert uncached.fetch is not cached.fetch and torch.equal(uncached.read([3]), cached.read([3]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_goes_bad_while_training(workers: int, tmp_path: Path) -> None:
    """It is named, what was computed is saved, and with the file back the run goes on as if nothing had been."""
    folder = folder_of(tmp_path / "set", np.random.default_rng(0).integers(0, 256, (8, 6, 7), dtype=np.uint8))
    config = config_at(tmp_path / "run", data=str(folder), gray=True, cache_mb=0, workers=workers, save_every=10**9)
    want = losses(dataclasses.replace(config, out=str(tmp_path / "whole")))
    content, got = (folder / "05.png").read_bytes(), []

    def spoil() -> None:
        for state in warmdiff.train(config):
            got.append(state.loss)
            if state.step == 2:
                (folder / "05.png").write_bytes(b"")

    with pytest.raises(OSError, match=r"stopped after step \d+, images cannot be read: .*set changed: 05\.png: empty file"):
        spoil()
    (folder / "05.png").write_bytes(content)
    assert len(got) >= 2 and got + losses(config) == want


@pytest.mark.cpu_only
def test_a_killed_reader_of_images(tmp_path: Path) -> None:
    config = config_at(tmp_path / "run", workers=2, images=8 * 10**5)

    def kill_one() -> None:
        for state in warmdiff.train(config):
            if state.step == 5:
                os.kill(random.choice(multiprocessing.active_children()).pid, signal.SIGKILL)

    with pytest.raises(OSError, match=r"DataLoader worker \(pid.* (killed by signal|exited unexpectedly)"):
        kill_one()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a damaged checkpoint
        steps = newest(tmp_path / "run")[1]["step"]
    assert steps >= 4
    more = dataclasses.replace(config, images=8 * (steps + 2))
    assert len(losses(more)) == 2
    want = dataclasses.replace(more, out=str(tmp_path / "whole"), workers=0)
    losses(want)
    got, truth = newest(tmp_path / "run")[0], newest(tmp_path / "whole")[0]
    assert all(torch.equal(got[name], tensor) for name, tensor in truth.items())


# ---- memory ----


@pytest.mark.parametrize("kind", ["cpu", "cuda", "python"])
def test_sampling_says_which_batch_fits(
    kind: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import warmdiff.denoiser as module

    generate = module.generate
    fits = 2

    def short(denoiser: Any, shape: tuple[int, ...], **options: Any) -> torch.Tensor:
        if shape[0] > fits:
            if kind == "cpu":
                torch.empty(2**60, dtype=torch.uint8)  # what torch itself says
            raise MemoryError if kind == "python" else torch.OutOfMemoryError("CUDA out of memory")
        return generate(denoiser, shape, **options)

    monkeypatch.setattr(module, "generate", short)
    with pytest.warns(UserWarning, match="memory suffices for 2 images at once, not for 4: --batch 2"):
        images = sample_images(warmdiff.load(trained), 9, steps=2, batch=8)
    assert len(images) == 9
    fits = 0
    words = ["sample", str(trained), "--n", "3", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "a.png")]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "memory does not suffice for one image of [1, 8, 8]" in message and "Traceback" not in message
    assert not list(tmp_path.iterdir())

    def broken(*arguments: Any, **options: Any) -> torch.Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(module, "generate", broken)
    with pytest.raises(RuntimeError, match="something else"):
        sample_images(warmdiff.load(trained), 1)
