"""Timing: all contestants take turns, so that whatever disturbs the machine disturbs all of them alike.

A turn is one untimed call (it takes the previous contestant's caches and spinning threads off the books) and one timed
call; the order is shuffled anew in each round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, one value per round, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def quantile(self, q: float) -> float:
        """Linear interpolation between order statistics."""
        ordered = sorted(self.seconds)
        position = q * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (position - low) * (ordered[high] - ordered[low])

    @property
    def p20(self) -> float:
        return self.quantile(0.2)

    @property
    def p80(self) -> float:
        return self.quantile(0.8)


class CpuClock:
    """Wall clock around calls that have finished when they return."""

    def seconds(self, call: Call, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    def settle(self) -> None:
        pass


class CudaClock:
    """CUDA events on the current stream. The tensors are far larger than L2, so no call finds its input there."""

    def __init__(self) -> None:
        self.start = torch.cuda.Event(enable_timing=True)
        self.stop = torch.cuda.Event(enable_timing=True)

    def seconds(self, call: Call, calls: int) -> float:
        self.start.record()
        for _ in range(calls):
            call()
        self.stop.record()
        self.stop.synchronize()
        return self.start.elapsed_time(self.stop) / 1e3 / calls

    def settle(self) -> None:
        torch.cuda.synchronize()


Clock = CpuClock | CudaClock


def clock(device: str) -> Clock:
    return CudaClock() if device == "cuda" else CpuClock()


def interleave(
    calls: Mapping[str, Call],
    rounds: int,
    clock: Clock,
    *,
    inner: int = 1,
    warmup: int = 2,
    tick: Call | None = None,
    budget: float = float("inf"),
) -> dict[str, Timing]:
    """Time every call ``rounds`` times (the mean of ``inner`` calls each), in turns; ``tick`` is called after each round.

    After ``budget`` seconds no further round begins, beyond the first three.
    """
    for call in calls.values():
        for _ in range(warmup):
            call()
    clock.settle()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffler = random.Random(0)
    deadline = time.monotonic() + budget
    for done in range(rounds):
        if done >= 3 and time.monotonic() > deadline:
            break
        shuffler.shuffle(order)
        for name in order:
            calls[name]()
            clock.settle()
            seconds[name].append(clock.seconds(calls[name], inner))
        if tick is not None:
            tick()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(other: Timing, one: Timing) -> float:
    """How many times faster ``one`` is than ``other``: the median over rounds of the ratio within the round."""
    return statistics.median(b / a for a, b in zip(one.seconds, other.seconds, strict=True))


def fastest(calls: Mapping[str, Call], clock: Clock, rounds: int = 5) -> str:
    """The name of the fastest of a few variants."""
    if len(calls) == 1:
        return next(iter(calls))
    timings = interleave(calls, rounds, clock, warmup=1)
    return min(timings, key=lambda name: timings[name].median)
