"""Where memory runs out inside a kernel: MemoryError, not the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _cases import available

pytestmark = [pytest.mark.cpu_only, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")]

# An odd factor is multiplied out: the tables of these lengths take hundreds of megabytes, the tensors themselves next to nothing.
PROGRAM = """
import resource, torch, warmops
torch.set_num_threads(4)
x, block = torch.ones(4, 1, 64, 64), torch.ones(8, 1200, 1201, dtype=torch.float16)
out = torch.empty_like(block)
warmops.dct(block[0])  # the threads and their stacks are there
want = warmops.blur(x, 1.0), warmops.dct(x), warmops.sampler_step(x, x, 2.0, 3.0, 1.0, 1.0), warmops.normal((4, 20000), 0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, resource.RLIM_INFINITY))
calls = (
    lambda: warmops.blur(torch.ones(2, 1, 16381, 2), 1.0),
    lambda: warmops.blur_noise(torch.ones(1, 1, 16381, 2, dtype=torch.float64), 1.0, 1.0, seed=0, return_blurred=True),
    lambda: warmops.sampler_step(torch.ones(2, 1, 16381, 2), torch.ones(2, 1, 16381, 2), 2.0, 3.0, 1.0, 1.0),
    lambda: warmops.dctn(block, dim=(0, 1, 2), out=out),
)
for threads in (1, 4):
    torch.set_num_threads(threads)
    for i, call in enumerate(calls):
        try:
            call()
        except MemoryError:
            print("MemoryError", threads, i)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = warmops.blur(x, 1.0), warmops.dct(x), warmops.sampler_step(x, x, 2.0, 3.0, 1.0, 1.0), warmops.normal((4, 20000), 0)
print(all(torch.equal(a, b) for a, b in zip(want, again)))
"""


def test_memory_error() -> None:
    available("cpu")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [*(f"MemoryError {t} {i}" for t in (1, 4) for i in range(4)), "True"], done.stdout
