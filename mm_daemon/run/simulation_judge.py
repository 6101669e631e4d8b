"""One plan, run and judged from its start to a clean stop; and smaller plans that fail alike.

A verdict says all that a campaign counts. A failing plan is made smaller by leaving things out for
as long as the same invariant still breaks, so that what is read is short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from mm_daemon.domain.units import NS_PER_S
from mm_daemon.run.simulate import DaemonParts, Simulation
from mm_daemon.run.simulation_checks import venue_trades
from mm_daemon.run.simulation_faults import build_plan
from mm_daemon.run.simulation_invariants import Invariants, Violation
from mm_daemon.run.simulation_invariants_account import AccountInvariants
from mm_daemon.run.simulation_invariants_end import End
from mm_daemon.run.simulation_plan import Plan

SIMPLIFIED: Final = (
    "lists_at_s",
    "vol_multiple",
    "takes_per_s",
    "tier",
    "band_delta_coin",
    "position_lots_max",
    "delta_coin_max",
    "request_timeout_ms",
    "reconcile_s",
    "crash_count_max",
)
"""Settings that mean something by themselves; the times of a delivery do not."""
KILL_EVERY: Final = 4
"""One plan in so many ends with a kill before its stop."""
SHRINK_RUNS_MAX: Final = 80


class Verdict(msgspec.Struct, frozen=True):
    """How one plan went. Good where `violations` is empty."""

    plan: Plan
    violations: tuple[Violation, ...]
    steps: int
    virtual_s: float
    cpu_s: float
    lives: int
    trades: int
    risk_frames: int
    digest: str

    @property
    def broken(self) -> str:
        """The first broken invariant; empty for a good run."""
        return self.violations[0].invariant if self.violations else ""


def planned(plan: Plan, parts: DaemonParts, directory: Path) -> tuple[Simulation, Invariants]:
    """A started simulation of the plan and its judge."""
    judge = Invariants()
    AccountInvariants(judge)
    sim = build_plan(plan, parts, directory=directory, watch=judge)
    judge.bind(sim)
    sim.start()
    return sim, judge


def run_until_found(sim: Simulation, judge: Invariants, seconds: float) -> None:
    """Steps through so much virtual time, or to the first violation."""
    end_ns = sim.scheduler.now_ns + round(seconds * NS_PER_S)
    while (due_ns := sim.scheduler.next_ns()) is not None and due_ns <= end_ns:
        sim.step()
        if judge.found:
            return
    sim.scheduler.now_ns = max(sim.scheduler.now_ns, end_ns)


def judged(plan: Plan, parts: DaemonParts) -> Verdict:
    """Runs a plan: its part with faults, then to rest and to a stop."""
    began_s = time.process_time()
    with TemporaryDirectory(prefix="mm-simulate-") as directory:
        sim, judge = planned(plan, parts, Path(directory))
        run_until_found(sim, judge, plan.seconds)
        if not judge.found:
            End(sim, judge).run(
                with_kill=plan.seed % KILL_EVERY == 0, with_quotes=plan.sleeps is None
            )
        return Verdict(
            plan=plan,
            violations=tuple(judge.found),
            steps=sim.scheduler.steps,
            virtual_s=round(sim.elapsed_s, 3),
            cpu_s=round(time.process_time() - began_s, 3),
            lives=len(sim.lives),
            trades=len(venue_trades(sim)),
            risk_frames=sum(len(life.risk_writes) for life in sim.lives),
            digest=sim.digest(),
        )


def shrunk(verdict: Verdict, judge: Callable[[Plan], Verdict]) -> Verdict:
    """The smallest verdict found that breaks the same invariant first."""
    best, runs = verdict, 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for plan in _smaller(best.plan):
            runs += 1
            if runs > SHRINK_RUNS_MAX:
                return best
            found = judge(plan)
            if found.broken == best.broken:
                best, is_smaller = found, True
                break
    return best


def _smaller(plan: Plan) -> Iterator[Plan]:
    """One thing less each: a fault, time behind the last fault, a setting that is not usual."""
    replace = msgspec.structs.replace
    for number in range(len(plan.faults)):
        yield replace(plan, faults=plan.faults[:number] + plan.faults[number + 1 :])
    last_s = max((fault.at_s for fault in plan.faults), default=0.0)
    if plan.seconds - last_s > 1.0 and plan.sleeps is None:
        yield replace(plan, seconds=round((plan.seconds + last_s) / 2, 3))
    usual = Plan(seed=plan.seed)
    for name in SIMPLIFIED:
        if getattr(plan, name) != getattr(usual, name):
            yield replace(plan, **{name: getattr(usual, name)})
