"""`python -m tests.bench`: every timing of the daemon in one run, as a table or as JSON."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from functools import partial

from tests.bench import (
    decoding,
    kernel_cost,
    models_cost,
    pricing_cost,
    replaying,
    starting,
    wire,
)
from tests.bench.figures import Figure, as_json, table
from tests.bench.peer import Plan

ROUNDS, ROUNDS_QUICK = 200, 40
TUNING_TICKS = 300
LOAD_MAX = 0.2
"""Running processes a core beside the bench; above it, timings are those of the crowd."""

Section = Callable[[], list[Figure]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, wider errors")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", default="", help="comma-separated sections: " + ", ".join(NAMES))
    chosen = parser.parse_args()
    wanted = chosen.only.split(",") if chosen.only else list(NAMES)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; known: {', '.join(NAMES)}")
    sections = _sections(is_quick=chosen.quick)
    figures = [_machine()]
    for name in wanted:
        sys.stderr.write(f"bench: {name}\n")
        figures += sections[name]()
    sys.stdout.write(as_json(figures).decode() if chosen.json else table(figures))
    sys.stdout.write("\n")
    return 0


def _machine() -> Figure:
    """How busy the machine was before the bench began: on a busy one nothing below is true."""
    cores = os.cpu_count() or 1
    return Figure(
        section="Machine",
        name="load a core before the start",
        value=os.getloadavg()[0] / cores,
        unit="",
        goal=LOAD_MAX,
        note=f"{cores} cores, {platform.machine()}, Python {platform.python_version()}",
    )


def _wire_and_replay(*, is_quick: bool) -> list[Figure]:
    """One expiry: every phase over the wire, then the recorded session again without it."""
    seconds = 3.0 if is_quick else 8.0
    plan = Plan(
        expiries=1,
        strikes=30,
        tuning_ticks=TUNING_TICKS,
        closed_ticks=400 if is_quick else 2_000,
        paced=[(1_000, seconds), (300, seconds), (80, seconds)],
    )
    with wire.recorded(plan) as (result, session):
        return [*wire.measure(result, session), *replaying.measure(result, session)]


def _wire_large(*, is_quick: bool) -> list[Figure]:
    """Ten expiries, a thousand options, closed loop."""
    closed_ticks = 300 if is_quick else 1_500
    plan = Plan(
        expiries=10, strikes=50, tuning_ticks=TUNING_TICKS, closed_ticks=closed_ticks, paced=[]
    )
    with wire.recorded(plan) as (result, session):
        return wire.measure(result, session)


NAMES = ("decode", "pricing", "models", "kernel", "wire", "wire1000", "start")


def _sections(*, is_quick: bool) -> dict[str, Section]:
    rounds = ROUNDS_QUICK if is_quick else ROUNDS
    return {
        "decode": partial(decoding.measure, rounds=rounds),
        "pricing": partial(pricing_cost.measure, rounds=rounds),
        "models": partial(models_cost.measure, rounds=rounds),
        "kernel": partial(kernel_cost.measure, rounds=rounds),
        "wire": partial(_wire_and_replay, is_quick=is_quick),
        "wire1000": partial(_wire_large, is_quick=is_quick),
        "start": starting.measure,
    }


if __name__ == "__main__":
    sys.exit(main())
