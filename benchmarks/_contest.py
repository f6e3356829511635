"""One batch, all contestants: build, check, choose each one's fastest variant, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _rivals import Contestant, Step
from _timing import Clock, Timing, fastest, interleave
from _verify import WrongAnswer, verify
from torch import Tensor


@dataclass
class Entry:
    """A contestant on this batch, with the variant that was fastest here."""

    contestant: Contestant
    variant: str
    step: Step
    error: float | None


@dataclass
class Contest:
    """What can be timed on a batch, and what cannot with the reason."""

    x: Tensor
    alpha: Tensor
    beta: Tensor
    entries: dict[str, Entry] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def call(self, name: str) -> Callable[[], Any]:
        step, x, alpha, beta = self.entries[name].step, self.x, self.alpha, self.beta
        return lambda: step(x, alpha, beta)

    def run(self, rounds: int, clock: Clock, tick: Callable[[], Any] | None = None, budget: float = float("inf")) -> dict[str, Timing]:
        return interleave({name: self.call(name) for name in self.entries}, rounds, clock, tick=tick, budget=budget)


def prepare(
    contestants: Iterable[Contestant],
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    clock: Clock,
    progress: Callable[[str], Any] = lambda text: None,
    selection_rounds: int = 5,
) -> Contest:
    """Build and check every variant of every contestant; a wrong answer of warmops stops the benchmark."""
    torch._dynamo.reset()  # one graph per shape: without this the recompile limit is reached after eight
    contest = Contest(x, alpha, beta)
    for contestant in contestants:
        progress(contestant.name)
        steps: dict[str, Step] = {}
        errors: dict[str, float | None] = {}
        for variant, build in contestant.variants.items():
            try:
                step = build(x)
                errors[variant] = verify(contestant, variant, step, x, alpha)
                steps[variant] = step
            except (WrongAnswer, RuntimeError, NotImplementedError) as error:
                if contestant.kind == "ours":
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                contest.absent.append(reason if isinstance(error, WrongAnswer) else f"{contestant.name} ({variant}): {reason}")
        if steps:
            calls = {variant: (lambda step=step: step(x, alpha, beta)) for variant, step in steps.items()}
            chosen = fastest(calls, clock, selection_rounds)
            contest.entries[contestant.name] = Entry(contestant, chosen, steps[chosen], errors[chosen])
    return contest


def moved_bytes(contestant: Contestant, x: Tensor) -> int:
    """The least that must be read and written: x once (unless only noise is drawn), the result once."""
    result = x.numel() * (4 if x.dtype == torch.uint8 else x.element_size())
    if contestant.blurs:
        return x.nbytes + result
    return result if contestant.draws else 2 * x.nbytes


def describe_images(folder: Path | None, count: int) -> str:
    if folder is None:
        return "crops of benchmarks/data/china.jpg (CC BY 2.0, by danielbuechele, see benchmarks/data/README.md)"
    return f"crops of {count} pictures of the user's own"
