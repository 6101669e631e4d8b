"""What others' books lost, doubled or invented after a failure, as truths that hold here.

One test for each way in which order and fill keeping is known to go wrong: restarts, outages, lost
and repeated messages, renumbered trades. Those that other modules prove are not repeated: trades
seen again after a restart (test_portfolio), unknown that is not rejected, absence that is not
cancelled, a read older than the last act (test_working_orders), the cut that is taken anew
(test_reconcile), the fence in client ids (test_client_ids).
"""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from mm_daemon.core import absence
from mm_daemon.core.absence import GRACE_NS, suspects
from mm_daemon.core.client_ids import ClientIds
from mm_daemon.core.order_state import Verdict
from mm_daemon.core.portfolio import Booking, Portfolio
from mm_daemon.core.reconcile import Task
from mm_daemon.core.reconcile_verdict import Break, targeted_reads
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.events import (
    FillUnplaced,
    InstrumentsRead,
    OpenOrdersRead,
    OrderRead,
    QueryFailed,
    RequestDone,
    SessionChanged,
    SessionPhase,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import OperatorReset
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelOrder,
    PlaceOrder,
    ReadInstruments,
    ReadTrades,
)
from mm_daemon.domain.orders import Purpose, RejectReason, TimeInForce, VenueStatus
from mm_daemon.domain.outputs import FillRecord, Log
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Lots, Ns, Side, Ticks
from tests.core.account_world import CALL, T0, fill_evidence, order_evidence, small_catalog
from tests.core.test_engine import fill_of
from tests.core.test_reconcile import Desk
from tests.node.engine_world import Bench

CATALOG = small_catalog()
OPEN, FILLED, CANCELLED = VenueStatus.OPEN, VenueStatus.FILLED, VenueStatus.CANCELLED
UNKNOWN = RejectReason.UNKNOWN_OUTCOME
VALID_NS = NS_PER_S


def place(request_id: int, client_id: str, lots: int = 5, at: int = T0) -> PlaceOrder:
    return PlaceOrder(
        request_id=request_id,
        client_id=client_id,
        instrument_id=CALL,
        side=Side.BUY,
        price_ticks=Ticks(500),
        lots=Lots(lots),
        time_in_force=TimeInForce.GTC,
        post_only=False,
        reduce_only=False,
        mmp=False,
        purpose=Purpose.HEDGE,
        valid_until_ns=Ns(at + VALID_NS),
    )


def report(status: VenueStatus, *, ts: int, filled: int = 0, lots: int = 5) -> Any:
    return order_evidence(
        "o1", CALL, Side.BUY, status, 500, lots,
        ts=ts, filled=filled, client_id="c1", is_quote=False,
    )  # fmt: skip


def trade(trade_id: str, lots: int, *, ts: int = 0, leg: str = "") -> Any:
    fill = fill_evidence(
        trade_id, "o1", CALL, Side.BUY, lots, ts=ts, client_id="c1", is_quote=False
    )
    return msgspec.structs.replace(fill, leg=leg)


def done(request_id: int, reason: RejectReason | None = None) -> RequestDone:
    return RequestDone(request_id, reason, 0, "", Ns(0))


def at(seconds: float) -> Ns:
    return Ns(T0 + round(seconds * NS_PER_S))


def worst(working: WorkingOrders) -> int:
    return int(working.worst_buy_lots[CALL])


@pytest.fixture
def working() -> WorkingOrders:
    return WorkingOrders(CATALOG)


@pytest.fixture
def live(working: WorkingOrders) -> WorkingOrders:
    """One acknowledged order that rests."""
    working.register(place(1, "c1"), T0)
    working.on_order(report(OPEN, ts=1), T0)
    working.on_request_done(done(1), T0)
    return working


@pytest.fixture
def books() -> Portfolio:
    portfolio = Portfolio(CATALOG)
    portfolio.is_open = True
    return portfolio


@pytest.fixture
def desk() -> Desk:
    opened = Desk()
    assert opened.run(Task.START).is_clean
    return opened


# -- fills -----------------------------------------------------------------------------------------


def test_two_rows_of_one_trade_and_order_are_two_fills_by_their_leg(books: Portfolio) -> None:
    """A position that flips may be told as a close and an open under one trade id."""
    assert books.book(trade("7", 3, leg="close")) is Booking.APPLIED
    assert books.book(trade("7", 2, leg="open")) is Booking.APPLIED
    assert books.book(trade("7", 2, leg="open")) is Booking.DUPLICATE
    assert int(books.position_lots[CALL]) == 5


def test_keys_saved_before_legs_were_told_apart_still_refuse_their_trades(
    books: Portfolio,
) -> None:
    books.book(trade("7", 3))
    saved = msgspec.msgpack.decode(books.checkpoint())
    saved["keys"] = [[key[:3], ts] for key, ts in saved["keys"]]
    del saved["key_lots"]
    again = Portfolio(CATALOG)
    again.restore(msgspec.msgpack.encode(saved))
    assert again.book(trade("7", 3)) is Booking.DUPLICATE


def test_trade_ids_need_not_rise(books: Portfolio) -> None:
    for trade_id in ("900", "12", "450"):
        assert books.book(trade(trade_id, 1)) is Booking.APPLIED
    assert int(books.position_lots[CALL]) == 3


def test_a_trade_told_again_under_a_new_id_shows_as_overfill_and_as_a_break(desk: Desk) -> None:
    """What a venue renumbers cannot be told apart, so it must be seen: never silently doubled."""
    desk.working.register(place(1, "c1", at=desk.now), Ns(desk.now))
    desk.stream(trade("old", 5, ts=2_000 * NS_PER_S))
    desk.venue.lots[CALL] = 5
    desk.stream(trade("new", 5, ts=2_000 * NS_PER_S))
    assert desk.working.counters.overfilled == 1
    assert Break("position", "BTC-N-C", 10, 5) in desk.run(Task.POSITIONS).breaks


def test_a_fill_hours_after_the_end_of_its_order_still_finds_it(live: WorkingOrders) -> None:
    live.on_order(report(CANCELLED, ts=2), at(1))
    assert worst(live) == 0
    live.on_fill(trade("t1", 2), at(20 * 3_600))
    assert live.by_client_id["c1"].booked_lots == 2
    assert live.counters.fills_after_terminal == 1
    assert live.counters.fills_unowned == 0


def test_an_order_taken_for_gone_whose_fill_comes_late_is_booked(live: WorkingOrders) -> None:
    """Six dead buys that filled after network errors: nothing of it is lost, nothing assumed."""
    for looked in (at(4), Ns(at(4) + GRACE_NS)):
        absence.note_open_orders(live, OpenOrdersRead(9, (), looked), looked, looked)
    assert absence.conclude(live, at(60), at(60)) == 1
    live.on_order(report(OPEN, ts=3, filled=0), at(61))
    assert worst(live) == 5, "newer evidence overrides the one inference"
    live.on_fill(trade("t1", 5), at(62))
    assert (worst(live), live.by_client_id["c1"].booked_lots) == (0, 5)


def test_a_fill_while_an_amend_is_in_flight_is_booked_and_bounded(live: WorkingOrders) -> None:
    amend = AmendOrder(2, "o1", "c1", CALL, Ticks(501), Lots(8), False, Ns(T0 + VALID_NS))
    live.register(amend, T0)
    live.on_fill(trade("t1", 3), T0)
    assert worst(live) == 5, "of eight asked, three are booked"
    live.on_request_done(done(2, RejectReason.NOT_OPEN), T0)
    live.on_order(report(FILLED, ts=9, filled=5), T0)
    assert worst(live) == 2, "the rest of the fill is still to come"


def test_fills_of_an_outage_are_read_back_before_anything_is_compared(desk: Desk) -> None:
    """A fill that fell between the end of one session and the first picture of the next."""
    desk.stream(desk.venue.trade("t1", Side.BUY, 2, 2_000 * NS_PER_S))
    desk.venue.trade("lost", Side.BUY, 3, 2_060 * NS_PER_S)
    desk.stream(desk.venue.trade("t3", Side.SELL, 1, 2_061 * NS_PER_S))
    conclusion = desk.run(Task.FULL)
    assert conclusion.is_clean
    assert [fill.trade_id for fill in conclusion.fills_applied] == ["lost"]
    assert int(desk.portfolio.position_lots[CALL]) == 4


def test_a_parked_trade_keeps_the_reading_of_trades_going_back_to_it(desk: Desk) -> None:
    """Newer trades do not push what could not be booked out of the window that is read."""
    parked_ns = 1_000 * NS_PER_S
    unplaced = FillUnplaced("u1", "o9", "BTC-NEW-C", T0 + parked_ns, "stream")
    assert desk.portfolio.park_unplaced(unplaced)
    assert not desk.portfolio.park_unplaced(unplaced), "seen twice, parked once"
    desk.stream(desk.venue.trade("t1", Side.BUY, 2, 90_000 * NS_PER_S))
    conclusion = desk.run(Task.FULL)
    first = next(one for one in reversed(desk.venue.asked) if isinstance(one, ReadTrades))
    asked = [one for one in desk.venue.asked if isinstance(one, ReadTrades)]
    assert any(one.since_venue_ns == T0 + parked_ns - 300 * NS_PER_S for one in asked), first
    assert Break("fill", "u1", 0, 1) in conclusion.breaks, "and it blocks readiness"
    listed = fill_evidence("u1", "o9", CALL, Side.BUY, 1, ts=parked_ns)
    assert desk.portfolio.book(listed) is Booking.APPLIED
    assert desk.portfolio.parked == []


def test_a_trade_in_a_new_listing_is_parked_in_sight_and_booked_when_it_is_listed() -> None:
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    known, new = bench.instruments, len(bench.instruments)
    listed = msgspec.structs.replace(known[0], id=new, name="BTC-NEW-C")
    mark = len(bench.intents)
    bench.see(FillUnplaced("u1", "o9", listed.name, bench.now, "stream"))
    assert [type(one) for one in bench.since(mark)] == [ReadInstruments]
    bench.engine.metrics()
    assert state.metrics.published()[state.metrics._index["mm_fills_parked"]] == 1.0
    mark = len(bench.intents)
    bench.instruments = (*known, listed)
    bench.see(InstrumentsRead(0, bench.instruments))
    bench.run(1)
    assert ReadTrades in [type(one) for one in bench.since(mark)], "asked for at once"
    bench.see(msgspec.structs.replace(fill_of(bench, Side.BUY, "u1"), order_id="o9", lots=Lots(1)))
    assert state.portfolio.parked == []


def test_a_strangers_trade_moves_the_position_and_calls_a_person() -> None:
    """It is ours whoever made it; that somebody else trades here must not go unseen (C30)."""
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    fill = msgspec.structs.replace(
        fill_of(bench, Side.BUY, "x1"), order_id="by-hand", is_quote=False, client_id="someone"
    )
    before = int(state.portfolio.position_lots[fill.instrument_id])
    bench.see(fill)
    assert int(state.portfolio.position_lots[fill.instrument_id]) == before + 1
    bench.run(5)
    tripped = [
        one.fields["control"]
        for one in bench.outputs
        if isinstance(one, Log) and one.event == "control_tripped"
    ]
    assert "C30" in tripped
    bench.feed(OperatorReset(generation=1))
    assert state.foreign_fills == 0


def test_a_fill_of_our_own_earlier_life_is_no_strangers() -> None:
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    older = ClientIds(state.client_ids.prefix, 0, 5).issue()
    bench.see(
        msgspec.structs.replace(
            fill_of(bench, Side.BUY, "x1"), order_id="old", is_quote=False, client_id=older
        )
    )
    assert state.foreign_fills == 0


def test_a_fill_told_by_stream_reply_and_read_moves_the_ledger_once() -> None:
    bench = Bench().quoting()
    fill = fill_of(bench, Side.BUY)
    for source in ("stream", "reply", "recon"):
        bench.see(msgspec.structs.replace(fill, source=source))
    assert sum(isinstance(one, FillRecord) for one in bench.outputs) == 1


# -- evidence --------------------------------------------------------------------------------------


def test_reports_in_any_order_and_twice_end_in_the_newest() -> None:
    """A replay that comes reordered may not bring an order back to life."""
    reports = [
        report(OPEN, ts=1),
        report(OPEN, ts=2, filled=2),
        report(OPEN, ts=2, filled=3),
        report(CANCELLED, ts=4, filled=3),
    ]
    for order in itertools.permutations([*reports, reports[0]]):
        working = WorkingOrders(CATALOG)
        working.register(place(1, "c1"), T0)
        for evidence in order:
            working.on_order(evidence, T0)
        found = working.by_client_id["c1"]
        assert (found.status, found.venue_filled_lots, found.rests) == (CANCELLED, 3, False)


def test_a_replayed_new_report_after_the_fill_is_stale(live: WorkingOrders) -> None:
    live.on_fill(trade("t1", 5), T0)
    live.on_order(report(FILLED, ts=5, filled=5), T0)
    assert live.on_order(report(OPEN, ts=1), T0) is Verdict.STALE
    assert (worst(live), live.open_count()) == (0, 0)


def test_a_repeated_report_is_not_filtered_but_confirms(live: WorkingOrders) -> None:
    order = live.by_client_id["c1"]
    order.rests = False
    assert live.on_order(report(OPEN, ts=1), at(3)) is Verdict.REPEATED
    assert order.rests
    assert order.active_ns == at(3)


# -- requests without an answer --------------------------------------------------------------------


def test_an_unanswered_order_is_looked_up_by_label_only_after_its_valid_until(
    working: WorkingOrders,
) -> None:
    """Not found right after it was made says nothing; it may still arrive."""
    working.register(place(1, "c1"), T0)
    working.on_request_done(done(1, UNKNOWN), T0)
    assert list(suspects(working, at(1.5))) == []
    assert [one.client_id for one in suspects(working, at(2.5))] == ["c1"]


def test_not_found_by_a_lookup_is_one_look_and_ends_nothing(working: WorkingOrders) -> None:
    working.register(place(1, "c1"), T0)
    working.on_request_done(done(1, UNKNOWN), T0)
    order = working.by_client_id["c1"]
    for seconds in (0.5, 3.0):
        absence.note_order(working, order, OrderRead(2, None), at(seconds), at(seconds))
    assert order.absent_reads == 1, "the first was begun while it could still arrive"
    assert absence.conclude(working, at(60), at(60)) == 0
    assert worst(working) == 5


def test_queries_that_fail_never_count_as_absence(desk: Desk) -> None:
    """An hour of errors looks like no answer, not like an empty venue."""
    desk.working.register(place(1, "c1", at=desk.now), Ns(desk.now))
    desk.working.on_request_done(done(1, UNKNOWN), Ns(desk.now))
    desk.reconciler.request(Task.FULL, Ns(desk.now))
    for _ in range(500):
        desk.now += 7 * NS_PER_S
        cut = desk.step(lambda intent, answer: QueryFailed(intent.request_id, -1, "no route"))
        assert cut is None
    order = desk.working.by_client_id["c1"]
    assert (order.absent_reads, order.is_unknown) == (0, True)
    assert int(desk.working.worst_buy_lots[CALL]) == 5


def test_an_outage_resolves_no_order_by_itself() -> None:
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    before = state.working.worst_buy_lots.copy(), state.working.worst_sell_lots.copy()
    bench.venue_answers = False
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "gone"))
    bench.run(300)
    assert (state.working.worst_buy_lots >= before[0]).all()
    assert (state.working.worst_sell_lots >= before[1]).all()


def test_nothing_of_before_an_outage_is_sent_again_after_it() -> None:
    """A retry after an ambiguous result is not a resend: every order has an id of its own."""
    bench = Bench().quoting()
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "gone"))
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.READY, ""))
    bench.run(40)
    quote_ids = [one.quote_id for one in bench.quotes()]
    request_ids = [one.request_id for one in bench.intents]
    assert len(set(quote_ids)) == len(quote_ids)
    assert request_ids == sorted(set(request_ids))


def test_a_lost_cancel_answer_heals_by_reads(live: WorkingOrders) -> None:
    """The venue cancelled, the answer was lost, and open orders alone can never say so."""
    live.register(CancelOrder(2, "o1", "c1", "BTC"), T0)
    live.on_request_done(done(2, UNKNOWN), at(1))
    assert worst(live) == 5
    ((read, order),) = targeted_reads(_books(live), lambda: 9, at(4))
    assert read.order_id == "o1"
    absence.note_order(live, order, OrderRead(9, report(CANCELLED, ts=2)), at(4), at(4))
    assert worst(live) == 0


def test_a_cancel_that_stays_pending_for_hours_keeps_the_order_counted(
    live: WorkingOrders,
) -> None:
    live.register(CancelOrder(2, "o1", "c1", "BTC"), T0)
    live.on_request_done(done(2), at(1))
    order = live.by_client_id["c1"]
    for hour in range(1, 6):
        seconds = 3_600.0 * hour
        read = OpenOrdersRead(9, (report(OPEN, ts=1),), at(seconds))
        absence.note_open_orders(live, read, at(seconds), at(seconds))
        assert (worst(live), order.rests) == (5, True)


def test_a_second_cancel_stands_for_itself_after_the_first_was_lost(live: WorkingOrders) -> None:
    live.register(CancelOrder(2, "o1", "c1", "BTC"), T0)
    live.on_request_done(done(2, UNKNOWN), at(1))
    live.register(CancelOrder(3, "o1", "c1", "BTC"), at(2))
    live.on_request_done(done(3), at(2))
    live.on_order(report(CANCELLED, ts=9), at(2))
    live.on_request_done(done(2, RejectReason.NOT_OPEN), at(3))
    assert (worst(live), live.by_client_id["c1"].pending) == (0, 0)


def test_a_cancel_answered_already_filled_waits_for_the_fill(live: WorkingOrders) -> None:
    live.register(CancelOrder(2, "o1", "c1", "BTC"), T0)
    live.on_request_done(done(2, RejectReason.NOT_OPEN), T0)
    assert worst(live) == 5
    live.on_order(report(FILLED, ts=3, filled=5), T0)
    assert worst(live) == 5, "the order is over, its trades are not all here"
    live.on_fill(trade("t1", 5), T0)
    assert worst(live) == 0


def test_equal_pictures_give_equal_verdicts() -> None:
    """Two restarts on one truth book and cancel the same, id for id."""
    outcomes = []
    for _ in range(2):
        desk = Desk()
        assert desk.run(Task.START).is_clean
        desk.venue.orders.append(report(OPEN, ts=1))
        for k in range(5):
            desk.venue.trade(f"t{k}", Side.BUY, 1, 2_000 * NS_PER_S + k * NS_PER_MS)
        outcomes.append((desk.run(Task.FULL), desk.working.digest(), desk.portfolio.digest()))
    assert outcomes[0] == outcomes[1]


def _books(working: WorkingOrders) -> Any:
    return msgspec.structs.replace(Desk().books, working=working)
