"""One batch, all contestants: build, check, choose each one's fastest variant, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _timing import Clock, Timing, fastest, interleave
from torch import Tensor

Step = Callable[..., Any]
Build = Callable[[Tensor], Step]


@dataclass(frozen=True)
class Contestant:
    """One row of the table, in one or more variants, of which the fastest on the machine counts.

    A variant is built for one batch (`build(x)`: tables that depend on the shape only, output buffers) and then called
    as `step(*arguments)`.

    kind: "ours"; "rival"; "bound" (is given what a user does not have); "floor" (does only part of the work).
    """

    name: str
    kind: str
    variants: dict[str, Build]
    blurs: bool = True
    draws: bool = True


class WrongAnswer(AssertionError):
    """A contestant does not compute what it should."""


# verify(contestant, variant, step, *arguments) -> relative error (None where nothing is computed), or raises WrongAnswer
Verify = Callable[..., float | None]


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

    arguments: tuple[Tensor, ...]
    entries: dict[str, Entry] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def call(self, name: str) -> Callable[[], Any]:
        step, arguments = self.entries[name].step, self.arguments
        return lambda: step(*arguments)

    def run(
        self, rounds: int, clock: Clock, tick: Callable[[], Any] | None = None, budget: float = float("inf"), inner: int = 1
    ) -> dict[str, Timing]:
        return interleave({name: self.call(name) for name in self.entries}, rounds, clock, inner=inner, tick=tick, budget=budget)


def prepare(
    contestants: Iterable[Contestant],
    arguments: tuple[Tensor, ...],
    verify: Verify,
    clock: Clock,
    progress: Callable[[str], Any] = lambda text: None,
    selection_rounds: int = 5,
) -> Contest:
    """Build and check every variant of every contestant; a wrong answer of warmops stops the benchmark."""
    torch._dynamo.reset()  # one graph per shape: without this the recompile limit is reached after eight
    contest = Contest(arguments)
    for contestant in contestants:
        progress(contestant.name)
        steps: dict[str, Step] = {}
        errors: dict[str, float | None] = {}
        for variant, build in contestant.variants.items():
            try:
                step = build(arguments[0])
                errors[variant] = verify(contestant, variant, step, *arguments)
                steps[variant] = step
            except (WrongAnswer, RuntimeError, NotImplementedError) as error:
                if contestant.kind == "ours":
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                contest.absent.append(reason if isinstance(error, WrongAnswer) else f"{contestant.name} ({variant}): {reason}")
        if steps:
            calls = {variant: (lambda step=step: step(*arguments)) for variant, step in steps.items()}
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
