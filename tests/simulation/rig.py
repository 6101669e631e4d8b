"""Simulations for tests: rows by name, runs forked at a step, and what a child came to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from mm_daemon.app_simulation import row_parts
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_journal import Journals
from mm_daemon.run.simulation_rows import ROWS, build
from mm_daemon.run.simulation_sweep import in_child as in_child  # noqa: PLC0414 - for the tests

IS_LONG = os.environ.get("MM_LONG") == "1"


def simulation(
    name: str,
    directory: Path,
    *,
    seed: int = 1,
    journals: Journals | None = None,
    **changed: Any,
) -> Simulation:
    """A started simulation of one row, with fields of the row changed."""
    row = msgspec.structs.replace(ROWS[name], **changed)
    directory.mkdir(parents=True, exist_ok=True)
    sim = build(row, row_parts(row), seed=seed, directory=directory, journals=journals)
    sim.start()
    return sim


def quoting(sim: Simulation, timeout_s: float = 10.0) -> Simulation:
    """The same simulation, run until quotes rest at the venue."""
    assert sim.run_until_true(
        lambda: sim.scheduler.steps % 16 == 0 and sim.open_orders() > 0, timeout_s
    )
    return sim
