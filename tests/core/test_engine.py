"""The decision as a whole: what makes it quote, what makes it stop, and that nothing waits."""

from __future__ import annotations

import msgspec
import pytest

from mm_daemon.core import warm_up
from mm_daemon.core.engine import Engine
from mm_daemon.domain.errors import GridChangedError
from mm_daemon.domain.events import (
    BookLost,
    DeliveryRead,
    FrameRefused,
    InstrumentsRead,
    MmpTriggered,
    SessionChanged,
    SessionPhase,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import (
    Drain,
    HealthSample,
    LatchChanged,
    OperatorReset,
    PermitChanged,
    TraderKnob,
    Withheld,
)
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.intents import (
    CancelAll,
    CancelQuotes,
    MassQuote,
    PlaceOrder,
    ReadOpenOrders,
    ReadPositions,
    ReadTrades,
)
from mm_daemon.domain.orders import FillEvidence, Purpose, Side, TimeInForce
from mm_daemon.domain.outputs import CheckpointRecord, Drained, FillRecord, QuoteRecord
from mm_daemon.domain.permission import PERMISSION_ALL, SWEEP
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, CoinE8, Lots, Ns
from tests.node.engine_world import Bench

OPTIONS_PER_UNDERLYING = 28


@pytest.fixture(scope="module")
def quiet() -> Bench:
    """A bench at rest, for tests that only look."""
    return Bench().quoting()


def fill_of(bench: Bench, side: Side, trade_id: str = "T1") -> FillEvidence:
    (instrument_id, _), resting = next(
        (key, order) for key, order in bench.resting.items() if key[1] is side
    )
    price = bench.instruments[instrument_id].grid.price(resting.price_ticks)
    return FillEvidence(
        trade_id=trade_id,
        order_id=resting.order_id,
        client_id="",
        instrument_id=instrument_id,
        side=side,
        price_e8=round(price * 1e8),
        lots=Lots(1),
        fee_e8=CoinE8(0),
        fee_currency=bench.instruments[instrument_id].settle_currency,
        is_maker=True,
        ts_venue_ns=Ns(bench.now),
        mark_price_e8=0,
        index_price_e8=10_000_000_000_000,
        is_quote=True,
        source="stream",
    )


def test_every_quote_was_on_the_ledger_before_it_was_sent(quiet: Bench) -> None:
    recorded = [one.request_id for one in quiet.outputs if isinstance(one, QuoteRecord)]
    assert recorded == [intent.request_id for intent in quiet.quotes()]


def test_own_quotes_never_cross_each_other(quiet: Bench) -> None:
    for (instrument_id, side), order in quiet.resting.items():
        other = quiet.resting.get((instrument_id, side.opposite))
        if side is Side.BUY and other is not None:
            assert order.price_ticks < other.price_ticks


def test_most_of_the_chain_is_quoted_two_sided(quiet: Bench) -> None:
    two_sided = {i for i, side in quiet.resting if (i, side.opposite) in quiet.resting}
    assert len(two_sided) >= OPTIONS_PER_UNDERLYING


def test_market_at_rest_needs_no_more_messages(quiet: Bench) -> None:
    bench = Bench().quoting()
    mark = len(bench.intents)
    bench.run(20)
    assert not [one for one in bench.since(mark) if isinstance(one, MassQuote)]


def test_equal_histories_give_equal_digests_and_intents() -> None:
    first, second = Bench().quoting(), Bench().quoting()
    assert first.intents == second.intents
    assert first.engine.digest() == second.engine.digest()


def test_latch_pulls_by_cancel_in_the_same_step() -> None:
    bench = Bench().quoting()
    mark = len(bench.intents)
    bench.feed(LatchChanged(generation=2, permission=0, tasks=0))
    assert [type(one) for one in bench.since(mark)] == [CancelQuotes]
    mark = len(bench.intents)
    bench.run(5)
    assert not [one for one in bench.since(mark) if isinstance(one, MassQuote)]


def test_kill_sweeps_and_is_confirmed_by_two_empty_reads() -> None:
    bench = Bench().quoting()
    bench.feed(LatchChanged(generation=2, permission=0, tasks=SWEEP))
    bench.run(60)
    reads = [one for one in bench.intents if isinstance(one, ReadOpenOrders)]
    assert any(isinstance(one, CancelAll) for one in bench.intents)
    assert len(reads) >= 2
    assert bench.engine.standing().swept_generation == 2
    assert bench.resting == {}


def test_sweep_is_not_confirmed_while_the_venue_does_not_answer() -> None:
    bench = Bench().quoting()
    bench.venue_answers = False
    bench.feed(LatchChanged(generation=2, permission=0, tasks=SWEEP))
    bench.run(60)
    assert bench.engine.standing().swept_generation == 0


def test_reset_quotes_again_at_reduced_size() -> None:
    bench = Bench().quoting()
    full = max(order.amount_lots for order in bench.resting.values())
    bench.feed(LatchChanged(generation=2, permission=0, tasks=SWEEP))
    bench.run(60)
    bench.feed(LatchChanged(generation=3, permission=PERMISSION_ALL, tasks=0))
    bench.feed(OperatorReset(generation=3))
    bench.run(10)
    assert bench.resting
    assert max(order.amount_lots for order in bench.resting.values()) < full


def test_permit_that_runs_out_pulls_by_time_alone() -> None:
    bench = Bench().quoting()
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + 150_000_000)))
    mark = len(bench.intents)
    bench.run(4)
    assert CancelQuotes in [type(one) for one in bench.since(mark)]
    assert bench.engine.modes.quoting_reasons == ("no permit",)
    assert bench.resting == {}


@pytest.mark.parametrize("conn", [Conn.MARKET, Conn.TRADE])
def test_lost_session_pulls_in_the_same_step(conn: Conn) -> None:
    bench = Bench().quoting()
    mark = len(bench.intents)
    bench.see(SessionChanged(int(conn), SessionPhase.DOWN, "gone"))
    assert CancelQuotes in [type(one) for one in bench.since(mark)]


def test_trading_session_that_returns_reconciles_before_quoting() -> None:
    bench = Bench().quoting()
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "gone"))
    mark = len(bench.intents)
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.READY, ""))
    bench.run(30)
    kinds = [type(one) for one in bench.since(mark)]
    assert kinds.index(ReadTrades) < kinds.index(ReadOpenOrders) < kinds.index(MassQuote)


def test_trading_session_that_returns_to_books_that_differ_does_not_quote() -> None:
    bench = Bench().quoting()
    bench.see(fill_of(bench, Side.SELL))
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "gone"))
    mark = len(bench.intents)
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.READY, ""))
    bench.run(30)
    kinds = {type(one) for one in bench.since(mark)}
    assert ReadPositions in kinds, "the venue was asked, and says that nothing is held"
    assert MassQuote not in kinds
    assert not bench.engine.standing().is_reconciled


def test_fill_that_comes_while_the_first_picture_is_taken_is_booked_after_it() -> None:
    lender = Bench().quoting()
    fill = fill_of(lender, Side.BUY)
    bench = Bench()
    bench.feed(bench.start)
    bench.feed(LatchChanged(generation=1, permission=PERMISSION_ALL, tasks=0))
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    bench.venue_answers = False
    bench.see(InstrumentsRead(0, bench.instruments), *warm_up._account())
    bench.run(2)
    bench.see(fill)
    state = bench.engine.state
    assert state is not None
    assert not state.portfolio.position_lots.any()
    bench.venue_answers = True
    bench.now += 30 * NS_PER_S
    bench.run(20)
    assert state.portfolio.position_lots[fill.instrument_id] == 1
    records = [one for one in bench.outputs if isinstance(one, FillRecord)]
    assert [one.fill.trade_id for one in records] == [fill.trade_id]


def test_delivery_whose_price_is_not_known_yet_ends_no_position() -> None:
    bench = Bench().quoting()
    fill = fill_of(bench, Side.BUY)
    bench.see(fill)
    state = bench.engine.state
    assert state is not None
    bench.see(DeliveryRead(0, fill.instrument_id, -1))
    assert state.portfolio.position_lots[fill.instrument_id] == 1
    bench.see(DeliveryRead(0, fill.instrument_id, 10_000_000_000_000))
    assert state.portfolio.position_lots[fill.instrument_id] == 0


def test_quotes_without_an_answer_are_not_sent_again() -> None:
    bench = Bench().quoting()
    bench.venue_answers = False
    bench.feed(TraderKnob("width", "", 0, "", 1.5, "trader"))
    mark = len(bench.intents)
    bench.run(5)
    sent = [
        (entry.instrument_id, side)
        for one in bench.since(mark)
        if isinstance(one, MassQuote)
        for entry in one.entries
        for side, lots in ((Side.BUY, entry.bid_lots), (Side.SELL, entry.ask_lots))
        if lots is not None
    ]
    assert sent
    assert len(sent) == len(set(sent))


def test_lost_trading_session_ends_what_was_reconciled_at_once() -> None:
    """The guard lifts a crash by this word: it must not outlive the session it was about."""
    bench = Bench().quoting()
    assert bench.engine.standing().is_reconciled
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "test"))
    assert not bench.engine.standing().is_reconciled


def test_trading_session_that_returns_first_cancels_what_outlived_the_one_before() -> None:
    """Cancel on disconnect covers what was sent on the present connection alone."""
    bench = Bench().quoting()
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "gone"))
    bench.run(1)  # pulled a moment ago, so the next pull is not due yet
    mark = len(bench.intents)
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.READY, ""))
    cancels = [one for one in bench.since(mark) if isinstance(one, CancelQuotes)]
    assert [(one.currency, one.instrument_id) for one in cancels] == [("BTC", -1), ("ETH", -1)]


def test_lost_book_pulls_that_option_alone() -> None:
    bench = Bench().quoting()
    instrument_id = next(iter(bench.resting))[0]
    before = {key[0] for key in bench.resting}
    bench.see(BookLost(instrument_id, "gap"))
    bench.now += 1
    bench.engine.decide(Ns(bench.now))
    bench.collect()
    assert {key[0] for key in bench.resting} == before - {instrument_id}


def test_halted_underlying_loses_its_quotes_and_the_other_keeps_its_own() -> None:
    bench = Bench().quoting()
    name = bench.start.params.underlyings[0].name
    bench.engine.modes.halted[name] = "C12"
    mark = len(bench.intents)
    bench.now += 1
    bench.engine.decide(Ns(bench.now))
    pulls = [one for one in bench.engine.take_intents() if isinstance(one, CancelQuotes)]
    assert [one.currency for one in pulls] == [name]
    assert not bench.since(mark)


def test_dead_journal_pulls_and_latches() -> None:
    bench = Bench().quoting()
    bench.feed(HealthSample(loop_lag_ns=0, clock_offset_ns=0, journal_lag_ns=1 << 62))
    assert bench.engine.modes.quoting_reasons == ("no sound journal",)
    assert bench.resting == {}


def test_drain_ends_with_a_confirmed_empty_venue() -> None:
    bench = Bench().quoting()
    bench.feed(Drain(reason="test"))
    bench.run(60)
    ends = [one for one in bench.outputs if isinstance(one, Drained)]
    assert ends == [Drained(is_confirmed=True, open_orders=0)]


def test_fill_moves_position_ledger_and_lean_in_its_own_step() -> None:
    bench = Bench().quoting()
    fill = fill_of(bench, Side.SELL)
    state = bench.engine.state
    assert state is not None
    before = state.skew.columns.copy()
    bench.see(fill)
    assert state.portfolio.position_lots[fill.instrument_id] == -1
    records = [one for one in bench.outputs if isinstance(one, FillRecord)]
    assert [one.fill.trade_id for one in records] == ["T1"]
    assert (state.skew.columns != before).any()


def test_fill_seen_twice_is_booked_once() -> None:
    bench = Bench().quoting()
    fill = fill_of(bench, Side.BUY)
    bench.see(fill, msgspec.structs.replace(fill, source="reply"))
    state = bench.engine.state
    assert state is not None
    assert state.portfolio.position_lots[fill.instrument_id] == 1
    assert len([one for one in bench.outputs if isinstance(one, FillRecord)]) == 1


def test_restart_has_the_positions_of_the_checkpoint_and_of_the_fills_since() -> None:
    first = Bench().quoting()
    saved = next(one for one in first.outputs if isinstance(one, CheckpointRecord))
    first.see(fill_of(first, Side.SELL))
    since = [one for one in first.outputs if isinstance(one, FillRecord)]
    second = Bench()
    second.start = msgspec.structs.replace(
        second.start, checkpoint=saved.state, ledger_tail=msgspec.msgpack.encode(since)
    )
    second.engine = Engine(second.start)
    second.see(InstrumentsRead(0, second.instruments))
    assert first.engine.state is not None
    assert second.engine.state is not None
    held = second.engine.state.portfolio.position_lots
    assert held.tolist() == first.engine.state.portfolio.position_lots.tolist()
    assert held.any()


def listed(bench: Bench) -> tuple[Instrument, ...]:
    """What the bench knows and one new strike."""
    last = bench.instruments[-1]
    new = msgspec.structs.replace(
        last, id=len(bench.instruments), name=f"{last.name}-NEW", strike=last.strike + 5_000.0
    )
    return (*bench.instruments, new)


def test_position_of_an_untouched_instrument_is_judged_after_a_listing() -> None:
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    perpetual = state.catalog.perpetual["BTC"]
    bought = msgspec.structs.replace(
        fill_of(bench, Side.BUY), instrument_id=perpetual, lots=Lots(5)
    )
    state.portfolio.book(bought)
    close = PlaceOrder(
        request_id=1,
        client_id="close",
        instrument_id=perpetual,
        side=Side.SELL,
        price_ticks=None,
        lots=Lots(5),
        time_in_force=TimeInForce.IOC,
        post_only=False,
        reduce_only=True,
        mmp=False,
        purpose=Purpose.FLATTEN,
        valid_until_ns=Ns(bench.now + NS_PER_S),
    )
    bench.see(InstrumentsRead(0, listed(bench)))
    assert state.risk.check(close, state.working, Ns(bench.now)).refused == ()


def spread_ticks(bench: Bench, instrument_id: int) -> int:
    bid, ask = (bench.resting[instrument_id, side].price_ticks for side in (Side.BUY, Side.SELL))
    return ask - bid


def test_fees_that_are_known_after_the_catalogue_are_in_the_quotes() -> None:
    bench = Bench().quoting()
    two_sided = [i for i, side in bench.resting if (i, Side(-side)) in bench.resting]
    before = {i: spread_ticks(bench, i) for i in two_sided}
    dear = tuple(
        msgspec.structs.replace(one, fees=msgspec.structs.replace(one.fees, maker=0.002))
        for one in bench.instruments
    )
    bench.see(InstrumentsRead(0, dear))
    bench.run(40)
    left = [
        i for i in two_sided if (i, Side.BUY) in bench.resting and (i, Side.SELL) in bench.resting
    ]
    assert left
    assert all(spread_ticks(bench, i) > before[i] for i in left)


def test_changed_price_grid_of_a_known_instrument_ends_the_life() -> None:
    bench = Bench().quoting()
    first = next(one for one in bench.instruments if one.is_option)
    coarser = msgspec.structs.replace(first.grid, tick_e9=5 * first.grid.tick_e9)
    changed = tuple(
        msgspec.structs.replace(one, grid=coarser) if one is first else one
        for one in bench.instruments
    )
    mark = len(bench.intents)
    with pytest.raises(GridChangedError, match=first.name):
        bench.see(InstrumentsRead(0, changed))
    assert bench.since(mark) == []


def test_checkpoint_says_where_ids_go_on() -> None:
    bench = Bench().quoting()
    used = 0
    for one in bench.outputs:
        if isinstance(one, QuoteRecord):
            used = one.request_id
        elif isinstance(one, CheckpointRecord):
            assert one.next_sequence > used
    assert used > 0


def test_withheld_quote_is_not_believed_to_rest_and_is_sent_again() -> None:
    bench = Bench()
    bench.venue_answers = True
    bench.quoting()
    bench.venue_answers = False
    bench.feed(TraderKnob("width", "", 0, "", 1.5, "trader"))
    mark = len(bench.intents)
    bench.run(3)
    sent = [one for one in bench.since(mark) if isinstance(one, MassQuote)]
    assert sent
    for one in sent:
        bench.feed(Withheld(request_id=one.request_id, reason="transport"))
    mark = len(bench.intents)
    bench.run(10)
    assert [one for one in bench.since(mark) if isinstance(one, MassQuote)]


def test_venue_protection_that_trips_is_followed_by_a_whole_reconcile() -> None:
    bench = Bench().quoting()
    mark = len(bench.intents)
    bench.see(MmpTriggered("btc_usd", bench.start.params.underlyings[0].mmp.group, 0))
    bench.run(5)
    assert ReadTrades in [type(one) for one in bench.since(mark)]


def test_unreadable_frame_of_the_trading_session_is_followed_by_a_reconcile() -> None:
    bench = Bench().quoting()
    mark = len(bench.intents)
    bench.see(FrameRefused(int(Conn.TRADE), "not JSON"))
    bench.run(5)
    assert ReadTrades in [type(one) for one in bench.since(mark)]


@pytest.mark.parametrize("name", ["status", "positions", "greeks", "quotes", "orders", "surface",
                                  "pnl", "hedges", "models"])  # fmt: skip
def test_every_view_is_built_and_changes_nothing(quiet: Bench, name: str) -> None:
    before = quiet.engine.digest()
    assert quiet.engine.view(name, Ns(quiet.now))
    assert quiet.engine.digest() == before


def test_looking_at_metrics_changes_nothing(quiet: Bench) -> None:
    before = quiet.engine.digest()
    assert any(quiet.engine.metrics())
    assert quiet.engine.digest() == before
