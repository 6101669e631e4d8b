"""A kill, a crash and a broken connection at every step of short runs.

A run is copied by fork at each step; the copy meets the act and is judged to a clean stop, the
original goes one step on. So nothing has to happen twice to be looked at, and no step is left out.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from mm_daemon.domain.frames import Conn
from mm_daemon.run.simulate import DaemonParts, Simulation
from mm_daemon.run.simulation_faults import end_faults
from mm_daemon.run.simulation_invariants import Invariants
from mm_daemon.run.simulation_invariants_end import End
from mm_daemon.run.simulation_judge import planned, run_until_found
from mm_daemon.run.simulation_plan import Plan

ACTS: Final = ("kill", "crash", "disconnect")
QUOTING_S: Final = 10.0
LATE_S: Final = 1.0
KILL_CONFIRM_S: Final = 15.0


class Position(msgspec.Struct, frozen=True):
    """One act at one step of one run, and what was wrong with it."""

    seed: int
    act: str
    step: int
    found: tuple[str, ...]


class Swept(msgspec.Struct, frozen=True):
    """One run's positions: how many, and those that were not good."""

    plan: Plan
    positions: int
    bad: tuple[Position, ...]


def in_child(sim: Simulation, directory: Path, act: Callable[[Simulation], object]) -> Any:
    """What `act` gives on a copy of the simulation as it is now, in a forked process: plain values,
    tuples as lists.

    Raises RuntimeError with the child's traceback.
    """
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
            pipe.write(msgspec.msgpack.encode(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    if not content:
        raise RuntimeError("the forked copy ended without an answer")
    is_good, value = msgspec.msgpack.decode(content)
    if not is_good:
        raise RuntimeError(value)
    return value


def swept(plan: Plan, parts: DaemonParts, steps: int, *, from_start: bool) -> Swept:
    """Each act at each of so many steps, from the first step on or from the first quotes on."""
    bad: list[Position] = []
    with TemporaryDirectory(prefix="mm-sweep-") as root:
        directory = Path(root)
        sim, judge = planned(plan, parts, directory / "run")
        if not from_start:
            sim.run_until_true(
                lambda: sim.scheduler.steps % 16 == 0 and sim.open_orders() > 0, QUOTING_S
            )
        for _ in range(steps):
            for act in ACTS:
                found = in_child(sim, directory / "child", _aftermath(act, plan, judge))
                if found:
                    bad.append(Position(plan.seed, act, sim.scheduler.steps, tuple(found)))
            sim.step()
    return Swept(plan, steps * len(ACTS), tuple(bad))


def _aftermath(act: str, plan: Plan, judge: Invariants) -> Callable[[Simulation], tuple[str, ...]]:
    """The act, the rest of the plan's faults, then rest and a stop."""

    def run(sim: Simulation) -> tuple[str, ...]:
        generation = 0
        if act == "kill":
            generation = sim.kill()
        elif act == "crash" and sim.trader.is_alive:
            sim.crash()
        elif act == "disconnect":
            steps = sim.scheduler.steps
            sim.disconnect(Conn(steps % len(Conn)), is_half_open=steps % 2 == 0)
        run_until_found(sim, judge, plan.seconds - sim.elapsed_s)
        found = _killed(sim, generation) if generation and not judge.found else []
        if not (found or judge.found):
            End(sim, judge).run(with_kill=False)
        return (*found, *map(str, judge.found))

    return run


def _killed(sim: Simulation, generation: int) -> list[str]:
    """What is wrong with a kill that nobody lifted, once the faults are over."""
    found = []
    end_faults(sim)
    if not sim.run_until_true(lambda: sim.is_swept(generation), KILL_CONFIRM_S):
        found.append(f"the kill was not confirmed within {KILL_CONFIRM_S} s")
    sim.run_for(LATE_S)
    if left := sim.open_orders():
        found.append(f"{left} orders rest after the confirmation")
    if late := sim.late_risk_writes():
        found.append(f"risk written after the kill at step {sim.killed_at_step}: {late}")
    return found
