"""Connections cut at steps, and faults of the venue: every order accounted for, quoting returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.domain.frames import Conn
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import violations
from mm_daemon.run.simulation_rows import settle
from mm_daemon.sim.spec import InstrumentState
from tests.simulation.rig import IS_LONG, in_child, quoting, simulation

CUTS = 600 if IS_LONG else 18
STRIDE = 3 if IS_LONG else 7
BACK_S = 15.0


def _cut(conn: Conn, *, is_half_open: bool):  # type: ignore[no-untyped-def]
    def run(sim: Simulation) -> list[str]:
        before = len(sim.trader.risk_writes)
        sim.disconnect(conn, is_half_open=is_half_open)
        sim.run_for(2.0)
        back_s = 40.0 if is_half_open else BACK_S
        is_back = sim.run_until_true(
            lambda: len(sim.trader.risk_writes) > before and sim.open_orders() > 0, back_s
        )
        found = [] if is_back else [f"no quote within {back_s} s of losing {conn.name}"]
        settle(sim, 1.0)
        return [*found, *violations(sim)]

    return run


def test_a_connection_cut_at_any_step_loses_no_order(tmp_path: Path) -> None:
    """Market, trading and kill session in turn, noticed at once."""
    sim = quoting(simulation("busy", tmp_path / "run", seed=5))
    for number in range(CUTS):
        conn = Conn(number % len(Conn))
        act = _cut(conn, is_half_open=False)
        step = sim.scheduler.steps
        assert in_child(sim, tmp_path / "child", act) == [], f"{conn.name} at step {step}"
        for _ in range(STRIDE):
            sim.step()


@pytest.mark.parametrize("conn", list(Conn))
def test_a_connection_that_falls_silent_is_found_and_replaced(conn: Conn, tmp_path: Path) -> None:
    sim = quoting(simulation("busy", tmp_path / "run", seed=6))
    sim.run_for(1.0)
    assert in_child(sim, tmp_path / "child", _cut(conn, is_half_open=True)) == []


@pytest.mark.parametrize("state", [InstrumentState.HALTED, InstrumentState.INACTIVE])
def test_an_option_that_reopens_while_the_market_session_is_away_is_quoted_again(
    state: InstrumentState, tmp_path: Path
) -> None:
    """A state is told only to those who listen; the reading of the new session says it is open."""
    sim = quoting(simulation("busy", tmp_path / "run", seed=7))
    name = next(spec.name for spec in sim.exchange.instruments() if _quotes(sim, spec.name))

    def turn(state: InstrumentState) -> None:
        sim.venue.act(lambda now_us: sim.exchange.set_instrument_state(name, state, now_us))

    turn(state)
    assert sim.run_until_true(lambda: not _quotes(sim, name), 5.0)
    assert sim.disconnect(Conn.MARKET)
    turn(InstrumentState.OPEN)
    assert sim.run_until_true(lambda: _quotes(sim, name) > 0, BACK_S)
    settle(sim, 1.0)
    assert violations(sim) == []


def test_a_tick_size_changed_in_maintenance_ends_the_life_and_the_next_one_quotes_on_it(
    tmp_path: Path,
) -> None:
    sim = quoting(simulation("busy", tmp_path / "run", seed=8))
    spec = next(spec for spec in sim.exchange.instruments() if _quotes(sim, spec.name))
    fine_e8 = spec.tick_size_e8 // 2
    sim.venue.act(lambda now_us: sim.exchange.set_maintenance(True, now_us))
    sim.run_for(0.5)
    sim.venue.act(lambda now_us: sim.exchange.set_tick_size(spec.name, fine_e8, now_us))
    sim.venue.act(lambda now_us: sim.exchange.set_maintenance(False, now_us))
    assert sim.run_until_true(lambda: len(sim.lives) == 2, 60.0)
    assert sim.run_until_true(lambda: _quotes(sim, spec.name) > 0, 60.0)
    instruments = sim.trader.node.protocol.catalogue.instruments
    assert next(one.grid.tick_e9 for one in instruments if one.name == spec.name) == 10 * fine_e8
    settle(sim, 1.0)
    assert violations(sim) == []


def _quotes(sim: Simulation, name: str) -> int:
    is_ours = [order.account == sim.parts.account for order in sim.exchange.resting(name)]
    return sum(is_ours)


@pytest.mark.parametrize("name", ["outage", "gap", "pause", "permit"])
def test_quoting_returns_by_itself(name: str, tmp_path: Path) -> None:
    """Quotes rest again at the end of the row, without a person."""
    sim = quoting(simulation(name, tmp_path, seed=2))
    sim.run_for(25.0)
    assert sim.open_orders() > 0
    assert not sim.defects()
