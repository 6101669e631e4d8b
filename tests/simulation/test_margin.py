"""A thin account on the simulated venue: adding stops, what is held is reduced, quoting returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mm_daemon.core.engine import Engine
from mm_daemon.core.state import EngineState
from mm_daemon.domain.permission import PERMISSION_ALL, PRESETS
from mm_daemon.node.node import Node
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import violations
from mm_daemon.run.simulation_rows import settle
from tests.simulation.rig import simulation

NAME = "BTC"
STOP, REDUCE = 0.70, 0.85


def state_of(sim: Simulation) -> EngineState:
    node = sim.trader.node
    assert isinstance(node, Node)
    assert isinstance(node.engine, Engine)
    assert node.engine.state is not None
    return node.engine.state


def adding_sides(state: EngineState) -> int:
    """Resting quotes that do not close a position."""
    held, working = state.portfolio.position_lots, state.working
    adds = (working.live_bid_lots > 0) & (held >= 0)
    return int(np.count_nonzero(adds) + np.count_nonzero((working.live_ask_lots > 0) & (held <= 0)))


def test_c05_stops_adding_at_seventy_percent_and_reduces_at_eighty_five(tmp_path: Path) -> None:
    sim = simulation("margin", tmp_path, seed=7)
    seen: dict[str, list[float]] = {"filling": [], "stopped": [], "reduced": []}
    closed_lots = stopped = 0
    for _ in range(160):
        sim.run_for(0.5)
        if sim.elapsed_s < 4.0:
            continue
        state = state_of(sim)
        counts, terms = state.breaker.counts, state.margin_terms(NAME)
        active = [row for row, _, _ in state.breaker.active()]
        # Margin hovers at the limit: each stop is held against what was held when it began.
        stopped = stopped + 1 if "C5.stop" in active else 0
        if "C5" in active:
            seen["reduced"].append(terms.read)
            if len(seen["reduced"]) > 4:
                assert sim.page.permission == PRESETS["hedge_only"].permission
                assert sim.open_orders() == 0
        elif "C5.stop" in active:
            seen["stopped"].append(terms.read)
            if stopped == 3:
                closed_lots = int(np.abs(state.portfolio.position_lots).sum())
            if stopped > 4 and not counts["C5"]:
                assert adding_sides(state) == 0
                assert sim.open_orders() > 0
                assert int(np.abs(state.portfolio.position_lots).sum()) <= closed_lots
        elif sim.elapsed_s < 40.0:
            seen["filling"].append(terms.read)
            assert terms.estimated <= STOP + 0.05, "what rests is re-judged at its next move"
    assert max(seen["filling"]) > 0.55, "the account must have filled up by itself"
    assert max(seen["filling"]) <= STOP
    assert max(seen["stopped"]) > STOP
    assert max(seen["reduced"]) > REDUCE
    assert state_of(sim).breaker.active() == ()
    assert sim.page.permission == PERMISSION_ALL
    assert sim.open_orders() > 10, "eased, it quotes both sides again"
    settle(sim)
    assert violations(sim) == []
