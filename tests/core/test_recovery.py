"""A restart after an expiry: what was held of options the venue lists no more is found again."""

from __future__ import annotations

import msgspec

from mm_daemon.core import warm_up
from mm_daemon.core.absent_listings import ASK_AGAIN_NS, AbsentListings
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.outbox import Outbox
from mm_daemon.core.recovery import book_known, checkpoint, restore
from mm_daemon.core.state import EngineState
from mm_daemon.domain.intents import ReadInstruments
from mm_daemon.domain.orders import Lots, Side
from mm_daemon.domain.outputs import FillRecord
from mm_daemon.domain.units import NS_PER_S, Ns
from tests.core.control_bench import state_of
from tests.node.engine_world import Bench


def record_of(bench: Bench, instrument_id: int, trade_id: str, lots: int) -> FillRecord:
    fill = msgspec.structs.replace(
        warm_up._fill(bench.instruments, Ns(bench.now)),
        trade_id=trade_id,
        instrument_id=instrument_id,
        side=Side.BUY,
        lots=Lots(lots),
    )
    name = bench.instruments[instrument_id].name
    return FillRecord(instrument=name, fill=fill, theo_at_decision=0.05, theo_at_fill=0.05)


def reborn(bench: Bench, listed: int, tail: list[FillRecord]) -> EngineState:
    """The next life over the first `listed` instruments, with these fills on the ledger."""
    state = state_of(bench)
    start = msgspec.structs.replace(
        bench.start,
        checkpoint=checkpoint(state).state,
        ledger_tail=msgspec.msgpack.encode(tail),
    )
    catalog = Catalog(bench.instruments[:listed], state.catalog.underlyings)
    again = EngineState(start, catalog, state.modes, Outbox(1))
    restore(again, start)
    return again


def test_position_and_fills_of_an_ended_option_wait_for_its_terms_and_are_booked_once() -> None:
    bench = Bench().quoting()
    listed = len(bench.instruments) - 2
    held = record_of(bench, listed, "t1", 3)
    state_of(bench).portfolio.book(held.fill)
    tail = [record_of(bench, listed + 1, "t2", 2), record_of(bench, 0, "t3", 1), held]
    again = reborn(bench, listed, tail)
    portfolio = again.portfolio
    assert portfolio.position_lots[0] == 1
    assert [fill.trade_id for fill in portfolio.parked] == ["t2"]
    question = again.absent.poll(again.outbox, Ns(bench.now))
    assert isinstance(question, ReadInstruments)
    assert set(question.ended) == {one.name for one in bench.instruments[listed:]}
    assert portfolio.read_from_ns(held.fill.fee_currency) == held.fill.ts_venue_ns
    again.grow(Catalog(bench.instruments, again.catalog.underlyings))
    book_known(again)
    book_known(again)
    assert portfolio.position_lots[listed:].tolist() == [3, 2]
    assert portfolio.parked == []
    assert portfolio.orphans == {}
    assert again.absent.poll(again.outbox, Ns(bench.now + ASK_AGAIN_NS)) is None


def test_names_are_asked_for_at_once_and_then_at_a_pace() -> None:
    absent, outbox = AbsentListings(), Outbox(1)
    assert absent.poll(outbox, Ns(5 * NS_PER_S)) is None
    absent.want("BTC-1JAN26-50000-C")
    assert absent.poll(outbox, Ns(5 * NS_PER_S)) is not None
    assert absent.poll(outbox, Ns(6 * NS_PER_S)) is None
    absent.want("BTC-1JAN26-50000-C")
    assert absent.poll(outbox, Ns(7 * NS_PER_S)) is None
    absent.want("BTC-1JAN26-60000-C")
    again = absent.poll(outbox, Ns(8 * NS_PER_S))
    assert again is not None
    assert len(again.ended) == 2
    assert absent.poll(outbox, Ns(8 * NS_PER_S + ASK_AGAIN_NS)) is not None


def test_books_without_a_fill_are_read_from_their_opening() -> None:
    bench = Bench().quoting()
    portfolio = state_of(bench).portfolio
    assert portfolio.newest_fill_ns == {}
    opened_ns = portfolio.read_from_ns("BTC")
    assert opened_ns is not None
    assert 0 < opened_ns <= bench.now
