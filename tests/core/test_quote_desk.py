"""Quoting as a whole: what is sent rests on the market as it is, whatever happened meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from mm_daemon.core import warm_up
from mm_daemon.core.state import EngineState
from mm_daemon.domain.events import BookLost, InstrumentsRead
from mm_daemon.domain.inputs import LatchChanged, PermitChanged
from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Ns
from tests.core.control_bench import NAME, state_of
from tests.node.engine_world import Bench


def test_a_start_waits_for_evidence_and_not_for_paces() -> None:
    """The first forward, surface, leans and controls follow each other within half a second."""
    bench = Bench()
    bench.feed(bench.start)
    bench.feed(LatchChanged(generation=1, permission=PERMISSION_ALL, tasks=0))
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    bench.see(InstrumentsRead(0, bench.instruments), *warm_up._account())
    bench.engine.decide(Ns(bench.now))  # finds no market yet
    bench.run(5)
    assert bench.quotes()


def test_a_book_lost_while_its_underlying_was_held_is_not_quoted_when_it_is_released() -> None:
    bench = Bench().quoting()
    state, quotes = state_of(bench), bench.engine.quotes
    lost = next(id_ for id_, _ in bench.resting if bench.instruments[id_].underlying == NAME)
    state.modes.halted[NAME] = "C19"
    bench.see(BookLost(lost, "gap"))
    # The pass that looks at the lost book sends nothing, and no later one has a reason to look.
    quotes.quote(quotes.revalue(Ns(bench.now)), Ns(bench.now))
    bench.collect()
    assert {bench.instruments[id_].underlying for id_, _ in bench.resting} == {"ETH"}
    del state.modes.halted[NAME]
    mark = len(bench.intents)
    bench.now += NS_PER_S // 100
    quotes.quote({}, Ns(bench.now))
    bench.collect()
    released = [intent for intent in bench.quotes() if intent in bench.since(mark)]
    quoted = {entry.instrument_id for intent in released for entry in intent.entries}
    assert quoted
    assert lost not in quoted


def with_hedged_collateral(state: EngineState, is_hedged: bool) -> None:
    params = state.underlyings[NAME]
    hedge = msgspec.structs.replace(params.hedge, collateral_hedged=is_hedged)
    state.underlyings[NAME] = msgspec.structs.replace(params, hedge=hedge)


def test_collateral_counts_where_the_setting_says_so_and_only_in_the_coin_itself() -> None:
    state = state_of(Bench().quoting())
    found = []
    for is_hedged in (False, True):
        with_hedged_collateral(state, is_hedged)
        found.append(state.collateral_coin(NAME))
    assert found == [0.0, state.equity_coin[state.settle_currency[NAME]]]
    state.catalog.is_inverse[:] = False
    assert state.collateral_coin(NAME) == 0.0


def test_the_lean_counts_the_collateral_that_the_hedger_counts() -> None:
    bench = Bench().quoting()
    state, quotes = state_of(bench), bench.engine.quotes
    found = []
    for is_hedged in (False, True):
        with_hedged_collateral(state, is_hedged)
        quotes.relean(NAME)
        found.append(state.skew.net_exposures(NAME)["return"])
    equity_coin = state.equity_coin[state.settle_currency[NAME]]
    price = float(state.theo.price[state.catalog.perpetual[NAME]])
    assert equity_coin > 0.0
    assert found[1] - found[0] == pytest.approx(equity_coin * price)
