"""What we believe of cash, positions and trades is what the venue's own ledgers say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mm_daemon.core.hedger import Escalation
from mm_daemon.domain.units import Ns
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import (
    book_violations,
    fill_violations,
    venue_trades,
    violations,
)
from mm_daemon.run.simulation_rows import EXPIRY_S, ROWS, settle
from mm_daemon.sim.exchange_records import CashKind
from tests.simulation.rig import IS_LONG, in_child, quoting, simulation


def test_quotes_rest_are_traded_and_never_meet_each_other(tmp_path: Path) -> None:
    sim = quoting(simulation("busy", tmp_path, seed=1))
    for _ in range(120):
        sim.run_for(0.1)
        assert sim.own_crossed() == []
    assert sim.open_orders() >= 10
    assert len(venue_trades(sim)) >= 5
    assert not sim.defects()


@pytest.mark.parametrize("seed", [1, 2, 3, 4] if IS_LONG else [1])
def test_an_expiry_settles_to_the_venues_cash(seed: int, tmp_path: Path) -> None:
    """Options and a future held to their end, delivered at the average of the last minute."""
    sim = simulation("expiry", tmp_path, seed=seed)
    sim.run_for(ROWS["expiry"].seconds)
    kinds = {move.kind for move in sim.exchange.cash_ledger() if move.account == sim.parts.account}
    assert CashKind.DELIVERY in kinds
    assert len(venue_trades(sim)) > 10
    settle(sim, 2.0)
    assert violations(sim) == []


def test_a_late_delivery_price_stops_no_hedge_and_leaves_equal_books(tmp_path: Path) -> None:
    """Half a minute in which options are held that have neither theo nor price, and a delta just
    beyond its band that is left of their last samples. C28 would latch after a third of it."""
    sim = simulation("late_delivery", tmp_path, seed=2)
    sim.run_for(EXPIRY_S)
    traded = len(venue_trades(sim))
    for _ in range(58):
        sim.run_for(0.5)
        now_ns = Ns(sim.scheduler.now_ns)
        state = sim.parts.state(sim.trader.node)
        assert state is not None
        over = [one.id for one in state.catalog.instruments if 0 < one.expiry_ns <= now_ns]
        assert any(state.portfolio.is_carried(one) for one in over)
        standing = state.hedger.state("BTC", now_ns)
        assert math.isfinite(standing.delta_coin)
        # The venue takes no order for two seconds around the session's end: three are refused.
        assert standing.escalation in (Escalation.NONE, Escalation.WIDEN)
        assert sim.latch.state().entries == ()
    assert standing.escalation is Escalation.NONE
    assert len(venue_trades(sim)) == traded + 1
    settle(sim, 15.0)
    assert violations(sim) == []


@pytest.mark.skipif(not IS_LONG, reason="the whole listed world takes a minute: MM_LONG=1")
def test_the_whole_world_settles_an_expiry(tmp_path: Path) -> None:
    sim = simulation("whole_expiry", tmp_path, seed=1)
    sim.run_for(ROWS["whole_expiry"].seconds)
    kinds = {move.kind for move in sim.exchange.cash_ledger() if move.account == sim.parts.account}
    assert CashKind.DELIVERY in kinds
    settle(sim, 5.0)
    assert violations(sim) == []


def test_books_agree_at_any_quiet_moment(tmp_path: Path) -> None:
    """Not only at the end: whenever nothing is on its way, cash and positions are equal."""
    sim = simulation("busy", tmp_path, seed=4)
    looks = 0
    for _ in range(60):
        sim.run_for(0.2)
        if sim.parts.books(sim.trader.node).cash_e8 and not _is_moving(sim):
            looks += 1
            assert book_violations(sim) == []
    assert looks >= 20
    settle(sim, 2.0)
    assert fill_violations(sim) == []


def _stopped(sim: Simulation) -> list[str]:
    step = sim.scheduler.steps
    settle(sim, 0.0)
    late = [write.step for write in sim.trader.risk_writes if write.step > step]
    return [*violations(sim), *(f"risk was written after the stop, at step {at}" for at in late)]


def test_a_stop_in_the_middle_of_hedging_misses_no_fill(tmp_path: Path) -> None:
    """Whatever was on its way when the stop was asked for is in the books at its end."""
    sim = quoting(simulation("busy", tmp_path / "run", seed=21))
    for _ in range(200 if IS_LONG else 12):
        fills = len(venue_trades(sim))
        sim.run_until_true(lambda: len(venue_trades(sim)) > fills, 5.0)  # noqa: B023
        assert in_child(sim, tmp_path / "child", _stopped) == [], f"step {sim.scheduler.steps}"


def _is_moving(sim: Simulation) -> bool:
    return any(pipe.in_flight for pipe in sim.network.pipes)
