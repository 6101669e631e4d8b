"""Simulations for tests: rows by name, runs forked at a step, and what a child came to."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mm_daemon.app_simulation import row_parts
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_journal import Journals
from mm_daemon.run.simulation_rows import ROWS, build

T = TypeVar("T")
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


def in_child(sim: Simulation, directory: Path, act: Callable[[Simulation], T]) -> T:
    """What `act` gives on a copy of the simulation as it is now, in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            sim.isolate(directory)
            answer: tuple[bool, object] = (True, act(sim))
        except BaseException:  # noqa: BLE001 - the parent raises it again
            answer = (False, traceback.format_exc())
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    is_good, value = pickle.loads(content)
    assert is_good, value
    return value  # type: ignore[no-any-return]
