"""The same bits from any thread, on any number of threads, in any split of a batch, and in any process."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from _all_ops import bits, known_large, small_calls
from _cases import available
from torch.utils.data import DataLoader, Dataset

import warmops

pytestmark = pytest.mark.cpu_only
PATIENCE = 120.0
"""Seconds after which a process counts as hanging; it takes less than one."""


def test_eight_python_threads_at_once(backend: str) -> None:
    """Sixteen calls of each kind, eight at work at any time, one backend: the bits of a call alone."""
    torch.set_num_threads(2)
    calls = list(known_large().values()) if backend == "cpu" else [call for name, call in known_large().items() if "many" in name]
    alone = [bits(call(backend)) for call in calls]
    start = threading.Barrier(8)

    def work(rank: int) -> list[str]:
        start.wait()
        return [bits(calls[(i + rank) % len(calls)](backend)) for i in range(len(calls))]

    with ThreadPoolExecutor(8) as pool:
        for rank, got in enumerate(pool.map(work, range(8))):
            assert got == [alone[(i + rank) % len(calls)] for i in range(len(calls))]


def test_any_number_of_threads() -> None:
    available("cpu")
    torch.set_num_threads(1)
    want = {name: bits(call("cpu")) for name, call in known_large().items()}
    for threads in (2, 3, 4, 7):
        torch.set_num_threads(threads)
        assert {name: bits(call("cpu")) for name, call in known_large().items()} == want, threads


def test_any_split_of_a_batch() -> None:
    available("cpu")
    x, head = (torch.rand(9, 3, 20, 28, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    alpha, beta, seed = torch.linspace(0, 4, 9), torch.linspace(0, 2, 9), torch.arange(9) * 77
    calls = {
        "blur": lambda i: warmops.blur(x[i], alpha[i], backend="cpu"),
        "blur_noise": lambda i: warmops.blur_noise(x[i], alpha[i], beta[i], seed=seed[i], backend="cpu"),
        "normal": lambda i: warmops.normal(x[i].shape, seed[i], backend="cpu"),
        "sampler_step": lambda i: warmops.sampler_step(x[i], head[i], alpha[i] + 1, beta[i] + 1, alpha[i], beta[i], backend="cpu"),
        "dct2": lambda i: warmops.dct2(x[i], backend="cpu"),
        "dst": lambda i: warmops.dst(x[i], type=3, backend="cpu"),
    }
    for name, call in calls.items():
        whole = call(slice(None))
        for cut in (1, 4, 8):
            assert bits([torch.cat([call(slice(None, cut)), call(slice(cut, None))])]) == bits([whole]), (name, cut)


# ---- processes ----


def finishes(pid: int) -> int | None:
    """Exit status of a child, or None if it had to be killed."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork() -> None:
    """OpenMP's threads do not survive it: a forked process works alone, and its children too."""
    available("cpu")
    torch.set_num_threads(4)
    calls = {**known_large(), **{name: call for name, call in small_calls().items() if "float32" in name}}
    x = torch.linspace(-1, 1, 4 * 2 * 4099).reshape(4, 2, 4099)  # long enough for an FFT, in torch
    calls["dct, long"] = lambda b: (warmops.dct(x, backend=b),)
    calls["reference"] = lambda b: (warmops.dct(x[:1], backend="reference"), *known_large()["blur_noise many"]("reference"))
    want = {name: bits(call("cpu")) for name, call in calls.items()}  # the parent's pool of threads has been at work
    pid = os.fork()
    if pid == 0:  # no pytest beyond this line, and no parallel operation of torch's own, such as filling what is not written
        status = 2
        torch.utils.deterministic.fill_uninitialized_memory = False
        try:
            same = {name: bits(call("cpu")) for name, call in calls.items()} == want
            grandchild = os.fork()
            if grandchild == 0:
                same = same and bits(known_large()["blur_noise many"]("cpu")) == want["blur_noise many"]
                os._exit(int(not same))
            status = int(not same) or int(os.waitpid(grandchild, 0)[1] != 0)
        finally:
            os._exit(status)
    assert finishes(pid) == 0
    assert {name: bits(call("cpu")) for name, call in calls.items()} == want  # the parent goes on with its threads


class Noisy(Dataset[torch.Tensor]):
    """Noise by index: what a data loading worker would do."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        x = torch.linspace(-1, 1, 3 * 64 * 96).reshape(1, 3, 64, 96)
        noisy: torch.Tensor = warmops.blur_noise(x, 1.0 + index, 0.5, seed=index, backend="cpu")
        return torch.stack([noisy[0], warmops.dct2(noisy, norm="ortho", backend="cpu")[0]])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_data_loading_workers(method: str) -> None:
    available("cpu")
    torch.set_num_threads(4)
    want = torch.stack([Noisy()[i] for i in range(8)])
    workers = 2 if method == "fork" else 1
    loader = DataLoader(Noisy(), batch_size=4, num_workers=workers, multiprocessing_context=method, timeout=PATIENCE)
    assert bits([torch.cat(list(loader))]) == bits([want])
