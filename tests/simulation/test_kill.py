"""Kill at every step: whatever was going on, nothing risky is written after it, and all is gone."""

from __future__ import annotations

from pathlib import Path

from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_rows import settle
from tests.simulation.rig import IS_LONG, in_child, quoting, simulation

STEPS = 2_000 if IS_LONG else 60
CONFIRM_S = 15.0


def _killed(sim: Simulation) -> list[str]:
    """What is wrong with a kill at this moment."""
    generation = sim.kill()
    found = []
    if not sim.run_until_true(lambda: sim.has_kill_returned(generation), 1.0):
        found.append("the gate did not publish the generation within a second")
    if not sim.run_until_true(lambda: sim.is_swept(generation), CONFIRM_S):
        found.append(f"not confirmed within {CONFIRM_S} s")
    if left := sim.open_orders():
        found.append(f"{left} orders rest after the confirmation")
    sim.run_for(1.0)
    if left := sim.open_orders():
        found.append(f"{left} orders came after the confirmation")
    if late := sim.late_risk_writes():
        found.append(f"written after the kill at step {sim.killed_at_step}: {late}")
    return [*found, *(repr(defect) for defect in sim.defects())]


def test_kill_at_every_step_of_a_busy_run(tmp_path: Path) -> None:
    sim = quoting(simulation("busy", tmp_path / "run", seed=1))
    written = len(sim.trader.risk_writes)
    for _ in range(STEPS):
        assert in_child(sim, tmp_path / "child", _killed) == [], f"step {sim.scheduler.steps}"
        sim.step()
    assert len(sim.trader.risk_writes) > written, "the swept window saw no risk written"


def test_a_planted_late_write_is_seen(tmp_path: Path) -> None:
    """The judge works: a gate that forgets the latch is caught by the same check."""
    sim = quoting(simulation("busy", tmp_path / "run", seed=1))
    sim.trader.gate._refusal = lambda frame, now_ns: None  # type: ignore[method-assign]
    sim.killed_at_step = sim.scheduler.steps
    sim.run_for(4.0)
    assert sim.late_risk_writes() != []


def test_killed_stays_killed_over_a_crash_until_the_reset(tmp_path: Path) -> None:
    sim = quoting(simulation("small", tmp_path, seed=1))
    sim.kill()
    sim.run_for(0.3)
    sim.crash()
    sim.run_for(10.0)
    assert len(sim.lives) == 2
    assert not sim.late_risk_writes()
    assert sim.open_orders() == 0
    sim.reset()
    quoting(sim)
    settle(sim, 1.0)
    assert sim.open_orders() == 0
