"""The judge judges: what it must see is planted and seen, and what fails is made smaller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mm_daemon.app_simulation import plan_parts, sweep_run
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.units import Ns
from mm_daemon.ipc.page import LATCH, SCOPED_MASKS, latch_word
from mm_daemon.kernel.gate import Gate
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_invariants import Violation
from mm_daemon.run.simulation_invariants_end import End
from mm_daemon.run.simulation_judge import Verdict, planned, run_until_found, shrunk
from mm_daemon.run.simulation_plan import Fault, Plan

BUSY = Plan(seed=1, seconds=4.0, takes_per_s=16.0, reconcile_s=0.5, band_delta_coin=0.02)


def found_by(
    directory: Path, plant: Callable[[Simulation], object], plan: Plan = BUSY
) -> list[str]:
    """The invariants that break when something is planted once quotes rest."""
    sim, judge = planned(plan, plan_parts(plan), directory)
    assert sim.run_until_true(lambda: sim.open_orders() > 0, 10.0)
    plant(sim)
    run_until_found(sim, judge, plan.seconds)
    if not judge.found:
        End(sim, judge).run(with_kill=True)
    return [one.invariant for one in judge.found]


def test_nothing_planted_nothing_found(tmp_path: Path) -> None:
    assert found_by(tmp_path, lambda sim: None) == []


def test_a_gate_that_forgets_the_latch_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "_refusal", lambda self, frame, now_ns: None)

    def latch(sim: Simulation) -> None:
        """Nobody but the gate could know."""
        words = sim.page.words
        words[LATCH] = latch_word(0, 0, sim.page.generation)
        sim.trader._latch_words = (words[LATCH], words[SCOPED_MASKS])

    assert "I1" in found_by(tmp_path, latch)


def test_a_gate_that_forgets_the_permit_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "_refusal", lambda self, frame, now_ns: None)

    def lose_permit(sim: Simulation) -> None:
        state = sim.parts.state(sim.trader.node)
        assert state is not None
        state.modes.permit_deadline_ns = Ns(1 << 62)
        sim.is_permit_renewed = False

    assert "I14" in found_by(tmp_path, lose_permit, msgspec.structs.replace(BUSY, seconds=7.0))


def test_a_position_that_no_fill_explains_is_seen(tmp_path: Path) -> None:
    def invent(sim: Simulation) -> None:
        state = sim.parts.state(sim.trader.node)
        assert state is not None
        state.portfolio.position_lots[2] += 1

    assert set(found_by(tmp_path, invent)) & {"I3", "I5"}


def test_orders_without_a_worst_case_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(sim: Simulation) -> None:
        state = sim.parts.state(sim.trader.node)
        assert state is not None
        state.working.worst_buy_lots[:] = 0
        state.working.worst_sell_lots[:] = 0
        monkeypatch.setattr(WorkingOrders, "register", lambda self, intent, now_ns: None)

    assert "I3" in found_by(tmp_path, blind)


def test_a_failing_plan_is_made_smaller_and_fails_alike() -> None:
    noise = tuple(Fault("late", 0.1 * number, 1.0, 0.01, "books") for number in range(5))
    cause = Fault("cut", 1.0, 0.0, 0.0, "TRADE")
    plan = Plan(seed=4, seconds=7.0, takes_per_s=16.0, faults=(*noise[:3], cause, *noise[3:]))

    def judge(one: Plan) -> Verdict:
        is_bad = cause in one.faults
        return verdict_of(one, ("I5",) if is_bad else ("I9",))

    small = shrunk(judge(plan), judge)
    assert small.plan.faults == (cause,)
    assert small.plan.seconds < 2.5
    assert small.plan.takes_per_s == Plan(seed=0).takes_per_s
    assert small.broken == "I5"


def verdict_of(plan: Plan, names: tuple[str, ...]) -> Verdict:
    return Verdict(
        plan=plan,
        violations=tuple(Violation(name, 1, 0.0, "", "") for name in names),
        steps=0,
        virtual_s=0.0,
        cpu_s=0.0,
        lives=1,
        trades=0,
        risk_frames=0,
        digest="",
    )


# The first quotes of run 5 come after its own two seconds are over.
@pytest.mark.parametrize("number", [0, 5])
def test_acts_at_every_step_leave_nothing_behind(number: int) -> None:
    swept = sweep_run(number, 6)
    assert swept.positions == 18
    assert swept.bad == ()
