"""Two pieces of work timed turn by turn, so that what the machine does meanwhile hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """Medians over rounds, ns a unit of work, and the median of the ratios of each round."""

    subject_ns: float
    reference_ns: float
    ratio: float


def paired(
    subject: Work,
    reference: Work,
    *,
    rounds: int,
    units: int,
    prepare: Work = lambda: None,
) -> Pair:
    """Times both in every round, first the one, then the other, and next time the other way.

    units: how many units of work one call does. prepare: called before each round, untimed.
    """
    subject_ns: list[float] = []
    reference_ns: list[float] = []
    for turn in range(rounds):
        prepare()
        order = (subject, reference) if turn % 2 else (reference, subject)
        for work in order:
            spent = _spent_ns(work) / units
            (subject_ns if work is subject else reference_ns).append(spent)
    ratios = [a / b for a, b in zip(subject_ns, reference_ns, strict=True)]
    return Pair(
        statistics.median(subject_ns), statistics.median(reference_ns), statistics.median(ratios)
    )


def alone_ns(work: Work, *, rounds: int, units: int) -> float:
    """Median ns a unit of work."""
    return statistics.median(_spent_ns(work) / units for _ in range(rounds))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; NaN of nothing."""
    if not values:
        return float("nan")
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def _spent_ns(work: Work) -> int:
    started_ns = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started_ns
