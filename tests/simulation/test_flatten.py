"""A flatten ends flat by the venue's own books, or says that it cannot; hedge_only only reduces."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.app import make_node
from mm_daemon.core.engine import Engine
from mm_daemon.core.flatten import FlattenState
from mm_daemon.core.hedger import HedgeState
from mm_daemon.domain.outputs import Log
from mm_daemon.domain.permission import FLATTEN
from mm_daemon.node.node import Node
from mm_daemon.node.replay import replay
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import violations
from mm_daemon.run.simulation_rows import settle
from mm_daemon.run.simulation_venue import Refusing
from tests.simulation.rig import quoting, simulation

INVALID_PARAMS = -32602


def holding(tmp_path: Path, seed: int = 1) -> Simulation:
    """A simulation with positions in several options and in the perpetual."""
    sim = quoting(simulation("busy", tmp_path, seed=seed))

    def is_holding() -> bool:
        held = sim.venue_books().positions_e8
        return "BTC-PERPETUAL" in held and len(held) >= 4

    assert sim.run_until_true(is_holding, 60.0)
    return sim


def engine_of(sim: Simulation) -> Engine:
    node = sim.trader.node
    assert isinstance(node, Node)
    assert isinstance(node.engine, Engine)
    return node.engine


def state_of(sim: Simulation) -> FlattenState:
    state = engine_of(sim).state
    assert state is not None
    return state.flattener.progress("BTC").state


def said(sim: Simulation, event: str) -> list[Log]:
    return [line for _, line in sim.trader.logs if line.event == event]


def has_resting(sim: Simulation) -> bool:
    """Whether an order of the flatten rests at the venue."""
    return any(line.fields["is_resting"] for line in said(sim, "flatten_order")) and bool(
        sim.open_orders()
    )


def arrived_since(sim: Simulation, step: int) -> list[bytes]:
    return [one.payload for one in sim.venue.arrivals if one.step > step]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_flatten_ends_flat_at_the_venue(seed: int, tmp_path: Path) -> None:
    sim = holding(tmp_path, seed)
    generation = sim.kill("flatten")
    assert sim.run_until_true(lambda: sim.is_swept(generation), 15.0)
    assert sim.venue_books().positions_e8, "the sweep comes before the first order"
    step = sim.scheduler.steps
    assert sim.run_until_true(lambda: not sim.venue_books().positions_e8, 60.0)
    assert sim.run_until_true(lambda: state_of(sim) is FlattenState.FLAT, 5.0)
    assert sim.open_orders() == 0
    assert b"mass_quote" not in b"".join(arrived_since(sim, step)), "quotes stay gone"
    sim.run_for(5.0)
    assert sim.venue_books().positions_e8 == {}
    settle(sim, 1.0)
    assert violations(sim) == []


def test_where_the_venue_refuses_immediate_orders_resting_ones_close(tmp_path: Path) -> None:
    sim = holding(tmp_path)
    sim.venue.refusing.append(
        Refusing((b'"immediate_or_cancel"',), INVALID_PARAMS, "not permitted now", 10_000)
    )
    sim.kill("flatten")
    assert sim.run_until_true(lambda: not sim.venue_books().positions_e8, 240.0)
    assert sim.run_until_true(lambda: state_of(sim) is FlattenState.FLAT, 10.0)
    ways = [str(line.fields["way"]) for line in said(sim, "flatten_order")]
    assert ways.count("rest") > 4
    settle(sim, 1.0)
    assert violations(sim) == []


def test_where_every_reducing_order_is_refused_a_person_is_called_and_nothing_assumed(
    tmp_path: Path,
) -> None:
    sim = holding(tmp_path)
    held = {k: v for k, v in sim.venue_books().positions_e8.items() if k != "BTC-PERPETUAL"}
    sim.venue.refusing.append(
        Refusing((b'"reduce_only":true',), INVALID_PARAMS, "not permitted now", 10_000)
    )
    sim.kill("flatten")
    assert sim.run_until_true(lambda: state_of(sim) is FlattenState.STUCK, 30.0)
    calls = said(sim, "flatten_needs_a_person")
    assert {str(line.fields["instrument"]) for line in calls} == {*held}
    left = {k: v for k, v in sim.venue_books().positions_e8.items() if k != "BTC-PERPETUAL"}
    assert left == held
    # The venue comes round: what was given up is tried again by itself.
    sim.venue.refusing.clear()
    assert sim.run_until_true(lambda: not sim.venue_books().positions_e8, 90.0)


def test_a_stronger_kill_sweeps_the_flattens_own_orders_and_ends_it(tmp_path: Path) -> None:
    sim = holding(tmp_path)
    sim.venue.refusing.append(
        Refusing((b'"immediate_or_cancel"',), INVALID_PARAMS, "not permitted now", 10_000)
    )
    sim.kill("flatten")
    assert sim.run_until_true(lambda: has_resting(sim), 30.0)
    generation = sim.kill("cancel_all")
    assert sim.run_until_true(lambda: sim.is_swept(generation), 15.0)
    step, held = sim.scheduler.steps, sim.venue_books().positions_e8
    assert held
    sim.run_for(20.0)
    assert sim.open_orders() == 0
    assert arrived_since(sim, step) == []
    assert sim.venue_books().positions_e8 == held


def test_another_latch_that_changes_nothing_here_does_not_sweep_the_flatten(
    tmp_path: Path,
) -> None:
    sim = holding(tmp_path)
    sim.venue.refusing.append(
        Refusing((b'"immediate_or_cancel"',), INVALID_PARAMS, "not permitted now", 10_000)
    )
    sim.kill("flatten")
    assert sim.run_until_true(lambda: has_resting(sim), 30.0)
    sweeps = len(said(sim, "sweep"))
    generation = sim.kill("halt_quoting")
    assert sim.run_until_true(lambda: sim.is_swept(generation), 1.0), "carried over"
    assert sim.open_orders() > 0
    assert len(said(sim, "sweep")) == sweeps


def test_a_flatten_goes_on_after_a_crash(tmp_path: Path) -> None:
    sim = holding(tmp_path)
    sim.kill("flatten")
    assert sim.run_until_true(lambda: bool(said(sim, "flatten_order")), 15.0)
    sim.crash()
    assert sim.run_until_true(
        lambda: sim.trader.is_alive and not sim.venue_books().positions_e8, 90.0
    )
    assert len(sim.lives) == 2
    settle(sim, 2.0)
    assert violations(sim) == []


def test_a_lifted_flatten_takes_its_orders_back_and_quotes_again(tmp_path: Path) -> None:
    sim = holding(tmp_path)
    sim.venue.refusing.append(
        Refusing((b'"immediate_or_cancel"',), INVALID_PARAMS, "not permitted now", 10_000)
    )
    sim.kill("flatten")
    assert sim.run_until_true(lambda: has_resting(sim), 30.0)
    sim.venue.refusing.clear()
    sim.reset()
    sim.run_for(3.0)
    assert said(sim, "flatten_ended")
    state = engine_of(sim).state
    assert state is not None
    assert not engine_of(sim).modes.tasks & FLATTEN
    resting = [order for order in state.working.open_orders() if not order.is_quote]
    assert resting == []
    quoting(sim)


def test_hedge_only_sends_hedges_that_reduce_and_nothing_else(tmp_path: Path) -> None:
    sim = quoting(simulation("busy", tmp_path, seed=1))
    # Nothing can be hedged until the kill, so that a delta is left to be hedged after it.
    sim.venue.refusing.append(
        Refusing((b'"immediate_or_cancel"',), INVALID_PARAMS, "not permitted now", 10_000)
    )
    state = engine_of(sim).state
    assert state is not None

    def hedge() -> HedgeState:
        return state.hedger.state("BTC", engine_of(sim)._now_ns)

    assert sim.run_until_true(lambda: abs(hedge().delta_coin) > hedge().band_coin + 0.01, 60.0)
    sim.kill("hedge_only")
    sim.run_for(0.5)
    step, before = sim.scheduler.steps, sim.venue_books().positions_e8
    sim.venue.refusing.clear()
    sim.run_for(10.0)
    orders = arrived_since(sim, step)
    assert orders
    assert all(b'"BTC-PERPETUAL"' in one and b"mass_quote" not in one for one in orders)
    after = sim.venue_books().positions_e8
    assert after.pop("BTC-PERPETUAL", 0) != before.pop("BTC-PERPETUAL", 0)
    assert after == before
    assert abs(hedge().delta_coin) <= hedge().band_coin
    assert not said(sim, "frame_withheld")


def test_a_flatten_replays_without_a_differing_byte(tmp_path: Path) -> None:
    sim = holding(tmp_path)
    sim.venue.refusing.append(
        Refusing((b'"immediate_or_cancel"',), INVALID_PARAMS, "not permitted now", 4)
    )
    sim.kill("flatten")
    assert sim.run_until_true(lambda: not sim.venue_books().positions_e8, 240.0)
    settle(sim, 1.0)
    for _, records in sim.journals.tapes():
        assert replay(make_node(), records, verify=True).difference is None
