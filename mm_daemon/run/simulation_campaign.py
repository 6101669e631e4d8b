"""Many seeds or many swept runs, over the machine's cores, summed up.

Results come in the order of their numbers, whatever finishes first, so that two campaigns of one
build print the same. Every fiftieth seed runs twice: a run is a function of its plan.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final, TypeVar

import msgspec

from mm_daemon.run.simulation_judge import Verdict

TWICE_EVERY: Final = 50
BATCH: Final = 4
KEPT_MAX: Final = 100
"""Failing verdicts kept whole; the others are only counted."""

R = TypeVar("R")


class Campaign(msgspec.Struct):
    """The sum of many verdicts."""

    seeds: int = 0
    failed: int = 0
    twice: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    lives: int = 0
    trades: int = 0
    risk_frames: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    """How many of each kind were planted."""
    failures: list[Verdict] = []

    def add(self, verdict: Verdict, *, was_twice: bool) -> None:
        self.seeds += 1
        self.twice += was_twice
        self.steps += verdict.steps
        self.virtual_s += verdict.virtual_s
        self.cpu_s += verdict.cpu_s
        self.lives += verdict.lives
        self.trades += verdict.trades
        self.risk_frames += verdict.risk_frames
        self.faults.update(fault.kind for fault in verdict.plan.faults)
        if verdict.violations:
            self.failed += 1
            if len(self.failures) < KEPT_MAX:
                self.failures.append(verdict)


def runs_twice(seed: int) -> bool:
    return seed % TWICE_EVERY == 0


def over_cores(work: Callable[[int], R], numbers: Iterable[int], jobs: int) -> Iterator[R]:
    """`work` of each number, in order. With one job nothing is forked; else the first number is
    worked on here, so that the others inherit compiled kernels."""
    left = iter(numbers)
    yield from map(work, left if jobs <= 1 else [next(left)])
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max(1, jobs), mp_context=context) as pool:
        yield from pool.map(work, left, chunksize=BATCH)
