"""Death between any two acts, with any tail of the ledger lost: no fill lost, none doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.domain.units import NS_PER_S
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import venue_trades, violations
from mm_daemon.run.simulation_rows import settle
from tests.simulation.rig import IS_LONG, in_child, quoting, simulation

PLACES = 400 if IS_LONG else 10
STRIDE = 197
BYTES_LOST = (0, 1, 40, 700, 5_000)
"""Of the ledger's tail: nothing, a byte of the last record, records, many records."""


def _dies(places_on: int, bytes_lost: int):  # type: ignore[no-untyped-def]
    def run(sim: Simulation) -> tuple[int, list[str]]:
        failpoints = sim.trader.failpoints
        failpoints.die_at = failpoints.count + places_on
        sim.ledger_bytes_lost = bytes_lost
        assert sim.run_until_true(lambda: len(sim.lives) == 2, 40.0), "no second life began"
        sim.run_for(3.0)
        settle(sim, 1.0)
        return len(venue_trades(sim)), violations(sim)

    return run


def test_death_at_places_between_record_and_write(tmp_path: Path) -> None:
    """A place is a record appended or a frame written; the next life knows what the venue knows."""
    sim = quoting(simulation("busy", tmp_path / "run", seed=2))
    sim.run_for(2.0)
    traded = 0
    for number in range(PLACES):
        places_on = 1 + number * STRIDE
        act = _dies(places_on, BYTES_LOST[number % len(BYTES_LOST)])
        trades, found = in_child(sim, tmp_path / "child", act)
        assert found == [], f"{places_on} places on, {BYTES_LOST[number % 5]} bytes lost"
        traded += trades
    assert traded > PLACES


@pytest.mark.parametrize("quiet_s", [310.0, 420.0] if IS_LONG else [310.0])
def test_a_life_without_any_ledger_at_an_account_that_traded_minutes_ago(
    quiet_s: float, tmp_path: Path
) -> None:
    """Its first picture goes back five minutes; the trades are from just before that."""
    sim = quoting(simulation("busy", tmp_path / "run", seed=5))
    sim.run_for(15.0)
    assert len(venue_trades(sim)) > 3
    sim.kill()
    sim.run_for(2.0)
    sim.skip_to(sim.scheduler.now_ns + round(quiet_s * NS_PER_S))
    sim.ledger_bytes_lost = 10**9
    sim.crash(is_host_crash=True)
    assert sim.run_until_true(lambda: len(sim.lives) == 2, 40.0), "no second life began"
    sim.run_for(40.0)
    state = sim.parts.state(sim.trader.node)
    assert state is not None
    assert (sim.adopted_at_ns > 0, state.portfolio.parked) == (True, [])
    sim.reset_if_latched()
    sim.run_for(5.0)
    assert sim.open_orders() > 0, "it trades again"
    settle(sim, 2.0)
    assert violations(sim) == []


@pytest.mark.parametrize("is_host_crash", [False, True])
def test_death_soon_after_death(is_host_crash: bool, tmp_path: Path) -> None:
    """The second life dies before and after it has reconciled; the third knows everything."""
    for delay_s in (0.001, 0.006, 0.02, 1.5):
        directory = tmp_path / f"{delay_s}"
        sim = quoting(simulation("busy", directory, seed=3))
        sim.run_for(2.0)
        sim.crash(is_host_crash=is_host_crash)
        assert sim.run_until_true(lambda sim=sim: len(sim.lives) == 2, 40.0)  # type: ignore[misc]
        sim.run_for(delay_s)
        sim.crash(is_host_crash=is_host_crash)
        sim.run_for(4.0)
        settle(sim, 2.0)
        assert len(sim.lives) == 3
        assert violations(sim) == [], delay_s
