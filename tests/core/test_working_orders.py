"""No fill is lost and no worst case is under-counted, whatever happens to the evidence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mm_daemon.core.absence import GRACE_NS, conclude, note_open_orders, suspects
from mm_daemon.core.order_state import Verdict
from mm_daemon.core.portfolio import Booking, Portfolio
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.events import OpenOrdersRead, QuoteSideFailed, RequestDone
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    CancelQuotes,
    MassQuote,
    PlaceOrder,
    QuoteEntry,
)
from mm_daemon.domain.orders import (
    FillEvidence,
    OrderEvidence,
    Purpose,
    RejectReason,
    TimeInForce,
    VenueStatus,
)
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Lots, Ns, Side, Ticks
from tests.core.account_world import (
    CALL,
    GROUP,
    PUT,
    T0,
    fill_evidence,
    order_evidence,
    small_catalog,
)

OPEN, FILLED, CANCELLED = VenueStatus.OPEN, VenueStatus.FILLED, VenueStatus.CANCELLED
VALID_NS = NS_PER_S


def quote(request_id: int, bid: tuple[int, int] | None, ask: tuple[int, int] | None) -> MassQuote:
    """A one-instrument mass quote in the call; sides as (ticks, lots)."""
    entry = QuoteEntry(
        CALL,
        None if bid is None else Ticks(bid[0]),
        None if bid is None else Lots(bid[1]),
        None if ask is None else Ticks(ask[0]),
        None if ask is None else Lots(ask[1]),
    )
    return MassQuote(request_id, GROUP, str(request_id), (entry,), Ns(T0 + VALID_NS))


def place(request_id: int, client_id: str, lots: int) -> PlaceOrder:
    return PlaceOrder(
        request_id=request_id,
        client_id=client_id,
        instrument_id=CALL,
        side=Side.BUY,
        price_ticks=Ticks(50),
        lots=Lots(lots),
        time_in_force=TimeInForce.GTC,
        post_only=False,
        reduce_only=False,
        mmp=False,
        purpose=Purpose.HEDGE,
        valid_until_ns=Ns(T0 + VALID_NS),
    )


def done(request_id: int, reason: RejectReason | None = None, ts: int = 0) -> RequestDone:
    return RequestDone(request_id, reason, 0, "", Ns(T0 + ts))


def bid(status: VenueStatus, lots: int, *, ts: int, filled: int = 0, ticks: int = 50) -> Any:
    return order_evidence("q1", CALL, Side.BUY, status, ticks, lots, ts=ts, filled=filled)


@pytest.fixture
def working() -> WorkingOrders:
    return WorkingOrders(small_catalog())


def buy_worst(working: WorkingOrders) -> int:
    return int(working.worst_buy_lots[CALL])


def test_an_intent_counts_in_full_before_it_is_answered(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), (60, 7)), T0)
    assert (buy_worst(working), int(working.worst_sell_lots[CALL])) == (5, 7)
    assert (int(working.asked_bid_ticks[CALL]), int(working.live_bid_lots[CALL])) == (50, 0)
    assert int(working.inflight_bid[CALL]) == 1
    assert int(working.reach_ask_ticks[CALL]) == 60


def test_a_replacement_in_flight_adds_to_what_rests(working: WorkingOrders) -> None:
    """The resting quote may fill unreported and then its replacement too."""
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.on_request_done(done(1), T0)
    working.register(quote(2, (55, 3), None), T0)
    assert buy_worst(working) == 8
    assert int(working.reach_bid_ticks[CALL]) == 55
    working.on_order(bid(OPEN, 3, ts=9, ticks=55), T0)
    working.on_request_done(done(2), T0)
    assert buy_worst(working) == 3
    assert (int(working.live_bid_ticks[CALL]), int(working.live_bid_lots[CALL])) == (55, 3)


def test_notification_before_reply_is_not_counted_once_answered(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    assert buy_worst(working) == 10
    assert working.on_order(bid(OPEN, 5, ts=1), T0) is Verdict.REPEATED
    working.on_request_done(done(1), T0)
    assert buy_worst(working) == 5


def test_a_failed_side_means_the_resting_quote_is_gone(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.on_request_done(done(1), T0)
    working.register(quote(2, (60, 5), None), T0)
    working.on_side_failed(QuoteSideFailed(2, CALL, Side.BUY, RejectReason.POST_ONLY, 11054), T0)
    working.on_request_done(done(2), T0)
    assert int(working.live_bid_lots[CALL]) == 0
    assert buy_worst(working) == 5, "it may have filled before it was removed"
    working.on_order(bid(CANCELLED, 5, ts=5), T0)
    assert buy_worst(working) == 0


def test_a_failed_side_leaves_a_later_accepted_quote_alone(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.register(quote(2, (52, 4), None), T0)
    working.on_order(order_evidence("q2", CALL, Side.BUY, OPEN, 52, 4, ts=5), T0)
    working.on_request_done(done(2), T0)
    working.on_side_failed(QuoteSideFailed(1, CALL, Side.BUY, RejectReason.PRICE, 10043), T0)
    working.on_request_done(done(1), T0)
    assert (int(working.live_bid_ticks[CALL]), int(working.live_bid_lots[CALL])) == (52, 4)
    assert buy_worst(working) == 4


def test_unknown_is_not_rejected(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_request_done(done(1, RejectReason.UNKNOWN_OUTCOME), T0)
    assert buy_worst(working) == 5
    unknowns = working.unknowns()
    assert (unknowns.count, unknowns.lots, unknowns.oldest_since_ns) == (1, 5, T0)


def test_a_late_answer_still_resolves_an_unknown(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_request_done(done(1, RejectReason.UNKNOWN_OUTCOME), T0)
    working.on_request_done(done(1, RejectReason.EXPIRED), T0)
    assert (buy_worst(working), working.unknowns().count) == (0, 0)


def test_changed_terms_prove_one_unknown_request_and_only_one(working: WorkingOrders) -> None:
    for request_id in (1, 2, 3):
        working.register(quote(request_id, (50, 5), None), T0)
        working.on_request_done(done(request_id, RejectReason.UNKNOWN_OUTCOME), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    assert buy_worst(working) == 15


def test_an_accepted_side_without_any_evidence_stays_counted(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_request_done(done(1), T0)
    assert (buy_worst(working), working.unknowns().count) == (5, 1)


@pytest.mark.parametrize("reason", [RejectReason.EXPIRED, RejectReason.RATE_LIMIT])
def test_a_refused_message_leaves_what_rests(working: WorkingOrders, reason: RejectReason) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.on_request_done(done(1), T0)
    working.register(quote(2, (55, 9), None), T0)
    working.on_request_done(done(2, reason), T0)
    assert (buy_worst(working), int(working.live_bid_lots[CALL])) == (5, 5)


def test_the_amount_of_a_quote_is_what_remains(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.on_request_done(done(1), T0)
    working.on_order(bid(OPEN, 3, ts=2, filled=2), T0)
    assert (buy_worst(working), int(working.live_bid_lots[CALL])) == (5, 3)
    working.on_fill(fill_evidence("t", "q1", CALL, Side.BUY, 2), T0)
    assert (buy_worst(working), int(working.live_bid_lots[CALL])) == (3, 3)


def test_a_fill_is_booked_before_ack_and_after_terminal(working: WorkingOrders) -> None:
    working.register(place(1, "c1", 5), T0)
    fill = fill_evidence("t1", "o1", CALL, Side.BUY, 2, client_id="c1", is_quote=False)
    working.on_fill(fill, T0)
    assert buy_worst(working) == 3
    assert working.counters.fills_before_ack == 1
    working.on_order(
        order_evidence(
            "o1", CALL, Side.BUY, CANCELLED, 50, 5, ts=5, filled=4, client_id="c1", is_quote=False
        ),
        T0,
    )
    working.on_request_done(done(1), T0)
    assert buy_worst(working) == 2, "two more lots are known to be filled and not booked"
    working.on_fill(
        fill_evidence("t2", "o1", CALL, Side.BUY, 2, client_id="c1", is_quote=False), T0
    )
    assert buy_worst(working) == 0
    assert working.counters.fills_after_terminal == 1
    assert working.by_client_id["c1"].booked_lots == 4


@pytest.mark.parametrize("told_first", ["fill", "order"])
def test_an_order_of_an_earlier_life_counts_what_that_life_booked_of_it(told_first: str) -> None:
    """Three of five lots were booked before the crash; the other two are told now."""
    books = Portfolio(small_catalog())
    books.is_open = True
    books.book(fill_evidence("t1", "q1", CALL, Side.BUY, 3, ts=T0))
    again = Portfolio(small_catalog())
    again.restore(books.checkpoint())
    working = WorkingOrders(small_catalog(), again.keys)
    fill = fill_evidence("t2", "q1", CALL, Side.BUY, 2, ts=T0 + 1)
    ended = bid(CANCELLED, 0, ts=T0 + 2, filled=5)
    if told_first == "order":
        working.on_order(ended, Ns(T0))
        assert buy_worst(working) == 2
    assert again.book(fill) is Booking.APPLIED
    order = working.on_fill(fill, Ns(T0))
    if told_first == "fill":
        working.on_order(ended, Ns(T0))
    assert order.booked_lots == 5
    assert order.is_settled
    assert buy_worst(working) == 0


def test_older_evidence_never_overwrites_newer(working: WorkingOrders) -> None:
    working.on_order(bid(CANCELLED, 0, ts=9, filled=5), T0)
    assert working.on_order(bid(OPEN, 5, ts=3), T0) is Verdict.STALE
    assert working.on_order(bid(OPEN, 5, ts=9), T0) is Verdict.STALE
    assert int(working.live_bid_lots[CALL]) == 0
    assert buy_worst(working) == 5


def test_terms_of_one_venue_millisecond_keep_the_larger_worst_case(working: WorkingOrders) -> None:
    working.on_order(bid(OPEN, 9, ts=5), T0)
    working.on_order(bid(OPEN, 4, ts=5, ticks=55), T0)
    assert (buy_worst(working), int(working.live_bid_ticks[CALL])) == (9, 55)
    working.on_order(bid(OPEN, 4, ts=6, ticks=55), T0)
    assert buy_worst(working) == 4


def test_a_fill_counter_that_starts_anew_loses_no_unseen_fill(working: WorkingOrders) -> None:
    working.on_order(bid(OPEN, 0, ts=1, filled=5), T0)
    working.on_order(bid(OPEN, 3, ts=2, filled=0), T0)
    assert buy_worst(working) == 8
    working.on_fill(fill_evidence("t", "q1", CALL, Side.BUY, 5), T0)
    assert buy_worst(working) == 3


def test_an_amend_counts_with_its_larger_total_until_answered(working: WorkingOrders) -> None:
    working.register(place(1, "c1", 5), T0)
    evidence = order_evidence(
        "o1", CALL, Side.BUY, OPEN, 50, 5, ts=1, client_id="c1", is_quote=False
    )
    working.on_order(evidence, T0)
    working.on_request_done(done(1), T0)
    amend = AmendOrder(
        request_id=2,
        order_id="o1",
        client_id="c1",
        instrument_id=CALL,
        price_ticks=Ticks(51),
        total_lots=Lots(8),
        post_only=False,
        valid_until_ns=Ns(T0 + VALID_NS),
    )
    working.register(amend, T0)
    assert buy_worst(working) == 8
    working.on_request_done(done(2, RejectReason.UNKNOWN_OUTCOME), T0)
    assert buy_worst(working) == 8
    working.on_order(
        order_evidence("o1", CALL, Side.BUY, OPEN, 50, 5, ts=1, client_id="c1", is_quote=False),
        T0,
    )
    assert buy_worst(working) == 8, "a stream message does not answer an amend"
    read = OpenOrdersRead(9, (evidence,), T0)
    note_open_orders(working, read, Ns(T0 + 10 * NS_PER_S), Ns(T0 + 10 * NS_PER_S))
    assert buy_worst(working) == 5, "a read begun after valid_until does"


def test_a_cancel_that_found_nothing_makes_a_suspect_not_a_dead_order(
    working: WorkingOrders,
) -> None:
    working.register(place(1, "c1", 5), T0)
    working.on_order(
        order_evidence("o1", CALL, Side.BUY, OPEN, 50, 5, ts=1, client_id="c1", is_quote=False),
        T0,
    )
    working.on_request_done(done(1), T0)
    working.register(CancelOrder(2, "o1", "c1", "BTC"), T0)
    working.on_request_done(done(2, RejectReason.NOT_FOUND), T0)
    assert buy_worst(working) == 5
    assert [order.order_id for order in suspects(working, Ns(T0 + 5 * NS_PER_S))] == ["o1"]


def test_a_mass_cancel_ends_belief_at_once_and_exposure_on_evidence(
    working: WorkingOrders,
) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.on_request_done(done(1), T0)
    working.register(CancelQuotes(2, "BTC", -1, freeze=True), T0)
    working.on_request_done(done(2), T0)
    assert (int(working.live_bid_lots[CALL]), buy_worst(working)) == (0, 5)
    working.on_order(bid(CANCELLED, 5, ts=2), T0)
    assert buy_worst(working) == 0


def test_a_mass_cancel_of_another_currency_index_or_instrument_touches_nothing(
    working: WorkingOrders,
) -> None:
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.register(CancelQuotes(2, "USDC", -1, freeze=True), T0)
    working.register(CancelQuotes(3, "", PUT, freeze=True), T0)
    working.on_request_done(done(2), T0)
    working.on_request_done(done(3), T0)
    assert int(working.live_bid_lots[CALL]) == 5
    working.register(CancelQuotes(5, "", -1, freeze=True, price_index="btc_usdc"), T0)
    working.on_request_done(done(5), T0)
    assert int(working.live_bid_lots[CALL]) == 5
    working.register(CancelAll(4, "BTC", freeze=True), T0)
    working.on_request_done(done(4), T0)
    assert int(working.live_bid_lots[CALL]) == 0


def test_an_order_on_an_unknown_instrument_is_kept_until_it_is_listed(
    working: WorkingOrders,
) -> None:
    strange = order_evidence("x", -1, Side.BUY, OPEN, 50, 9, ts=1, client_id="who", is_quote=False)
    working.on_order(strange, T0)
    assert working.by_order_id["x"].exposure_lots == 9
    assert not working.worst_buy_lots.any()
    working.register(CancelAll(4, "BTC", freeze=True), T0)
    working.on_request_done(done(4), T0)


def test_what_never_left_counts_for_nothing(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), (60, 5)), T0)
    working.register(place(2, "c1", 5), T0)
    assert working.on_withheld(1, T0) is not None
    assert working.on_withheld(2, T0) is not None
    assert (buy_worst(working), int(working.inflight_bid[CALL])) == (0, 0)
    assert working.open_count() == 0
    assert list(working.open_orders()) == []
    assert working.by_client_id["c1"].is_settled, "whoever waits for its end has it"


def test_refuses_to_register_a_client_id_twice(working: WorkingOrders) -> None:
    working.register(place(1, "c1", 5), T0)
    with pytest.raises(InvariantError, match="c1"):
        working.register(place(2, "c1", 5), T0)


def test_a_foreign_order_counts_in_the_worst_case(working: WorkingOrders) -> None:
    working.on_order(
        order_evidence("x", CALL, Side.BUY, OPEN, 50, 9, ts=1, client_id="who", is_quote=False),
        T0,
    )
    assert (buy_worst(working), working.counters.foreign) == (9, 1)
    assert working.by_order_id["x"].is_foreign


def test_absence_alone_never_ends_an_order(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), T0)
    working.on_request_done(done(1), T0)
    first = Ns(T0 + 4 * NS_PER_S)
    note_open_orders(working, OpenOrdersRead(9, (), first), first, first)
    assert conclude(working, first, first) == 0
    assert buy_worst(working) == 5
    assert int(working.live_bid_lots[CALL]) == 0, "it is no longer believed to rest"
    second = Ns(first + GRACE_NS)
    note_open_orders(working, OpenOrdersRead(9, (), second), second, second)
    assert conclude(working, first, second) == 0, "trades were read before the second look"
    assert conclude(working, second, second) == 1
    assert buy_worst(working) == 0


def test_an_order_that_may_still_arrive_is_not_absent(working: WorkingOrders) -> None:
    late = msgspec.structs.replace(place(1, "c1", 5), valid_until_ns=Ns(T0 + 30 * NS_PER_S))
    working.register(late, T0)
    working.on_request_done(done(1, RejectReason.UNKNOWN_OUTCOME), T0)
    for seconds in (10, 20, 30):
        at = Ns(T0 + seconds * NS_PER_S)
        note_open_orders(working, OpenOrdersRead(9, (), at), at, at)
        assert conclude(working, at, at) == 0
    assert buy_worst(working) == 5
    for seconds in (40, 50):
        at = Ns(T0 + seconds * NS_PER_S)
        note_open_orders(working, OpenOrdersRead(9, (), at), at, at)
    assert conclude(working, at, at) == 1
    assert buy_worst(working) == 0


def test_a_read_begun_before_the_last_act_says_nothing(working: WorkingOrders) -> None:
    working.register(quote(1, (50, 5), None), T0)
    working.on_order(bid(OPEN, 5, ts=1), Ns(T0 + 3 * NS_PER_S))
    for at in (Ns(T0 + 2 * NS_PER_S), Ns(T0 + 4 * NS_PER_S)):
        note_open_orders(working, OpenOrdersRead(9, (), at), at, at)
    assert conclude(working, Ns(T0 + 60 * NS_PER_S), Ns(T0 + 60 * NS_PER_S)) == 0


def test_newer_evidence_overrides_a_conclusion(working: WorkingOrders) -> None:
    working.on_order(bid(OPEN, 5, ts=1), T0)
    for seconds in (4, 8):
        at = Ns(T0 + seconds * NS_PER_S)
        note_open_orders(working, OpenOrdersRead(9, (), at), at, at)
    assert conclude(working, Ns(T0 + 8 * NS_PER_S), Ns(T0 + 8 * NS_PER_S)) == 1
    working.on_order(bid(OPEN, 5, ts=2), Ns(T0 + 9 * NS_PER_S))
    assert (buy_worst(working), working.counters.reopened) == (5, 1)


class Resting:
    """One order at the model venue."""

    def __init__(self, order_id: str, client_id: str, ticks: int, remaining: int) -> None:
        self.order_id, self.client_id = order_id, client_id
        self.ticks, self.remaining, self.filled = ticks, remaining, 0


class LossyVenue(RuleBasedStateMachine):
    """A venue that is right, seen through a line that loses, repeats and reorders.

    The venue handles our requests in order; every notification and reply goes to a pool from which
    the line delivers any, repeats any and loses any but trades reads. The truth known here: what
    was really filled, what really rests, and what may still arrive.
    """

    @initialize()
    def start(self) -> None:
        self.working = WorkingOrders(small_catalog())
        self.now = int(T0)
        self.venue_ts = 0
        self.ids = 0
        self.wire: list[MassQuote | PlaceOrder | CancelOrder] = []
        self.line: list[list[Any]] = []
        self.quotes: dict[tuple[int, int], Resting] = {}
        self.orders: dict[str, Resting] = {}
        self.trades: list[FillEvidence] = []
        self.booked: dict[str, None] = {}
        self.bought = {CALL: 0, PUT: 0}
        self.sold = {CALL: 0, PUT: 0}
        self.clients: list[str] = []

    def fresh(self) -> int:
        self.ids += 1
        return self.ids

    @rule(
        ids=st.lists(st.sampled_from([CALL, PUT]), min_size=1, max_size=2, unique=True),
        ticks=st.integers(1, 4),
        lots=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    )
    def we_quote(self, ids: list[int], ticks: int, lots: tuple[int, int]) -> None:
        request = MassQuote(
            self.fresh(),
            GROUP,
            "",
            tuple(
                QuoteEntry(i, Ticks(ticks), Lots(lots[0]), Ticks(ticks + 5), Lots(lots[1]))
                for i in ids
            ),
            Ns(self.now + VALID_NS),
        )
        self.working.register(request, Ns(self.now))
        self.wire.append(request)

    @rule(lots=st.integers(1, 4))
    def we_place(self, lots: int) -> None:
        number = self.fresh()
        request = place(number, f"c{number}", lots)
        self.working.register(request, Ns(self.now))
        self.wire.append(request)
        self.clients.append(f"c{number}")

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def we_cancel(self, data: st.DataObject) -> None:
        client_id = data.draw(st.sampled_from(self.clients))
        order_id = self.working.by_client_id[client_id].order_id
        request = CancelOrder(self.fresh(), order_id, client_id, "BTC")
        self.working.register(request, Ns(self.now))
        self.wire.append(request)

    @rule(ms=st.integers(1, 300))
    def time_passes(self, ms: int) -> None:
        self.now += ms * NS_PER_MS

    @precondition(lambda self: self.wire)
    @rule(fate=st.sampled_from(["done", "done", "done", "refused", "lost", "timed_out"]))
    def venue_takes_a_request(self, fate: str) -> None:
        request = self.wire.pop(0)
        if fate in ("refused", "lost"):
            reason = RejectReason.RATE_LIMIT if fate == "refused" else RejectReason.UNKNOWN_OUTCOME
            self.line.append([done(request.request_id, reason)])
            return
        self.venue_ts += self.ids % 2  # Some things happen within one venue millisecond.
        reply: list[Any] = []
        if isinstance(request, MassQuote):
            self._venue_quotes(request, reply)
        elif isinstance(request, PlaceOrder):
            self._venue_places(request, reply)
        else:
            self._venue_cancels(request, reply)
        if fate == "timed_out":
            reply = [done(request.request_id, RejectReason.UNKNOWN_OUTCOME)]
        elif not any(isinstance(event, RequestDone) for event in reply):
            reply.append(done(request.request_id, ts=self.venue_ts))
        self.line.append(reply)

    def _venue_quotes(self, request: MassQuote, reply: list[Any]) -> None:
        for entry in request.entries:
            for sign, ticks, lots in (
                (1, entry.bid_ticks, entry.bid_lots),
                (-1, entry.ask_ticks, entry.ask_lots),
            ):
                key = (entry.instrument_id, sign)
                resting = self.quotes.get(key)
                assert ticks is not None
                assert lots is not None
                if lots and (ticks + self.ids) % 5 == 0:
                    reply.append(
                        QuoteSideFailed(
                            request.request_id,
                            entry.instrument_id,
                            Side(sign),
                            RejectReason.POST_ONLY,
                            11054,
                        )
                    )
                    lots = Lots(0)
                if lots == 0:
                    if resting is not None:
                        del self.quotes[key]
                        self._tell(key, resting, CANCELLED, reply)
                    continue
                if resting is None:
                    resting = Resting(f"q{self.fresh()}", "", ticks, lots)
                    self.quotes[key] = resting
                resting.ticks, resting.remaining = ticks, lots
                self._tell(key, resting, OPEN, reply)

    def _venue_places(self, request: PlaceOrder, reply: list[Any]) -> None:
        order = Resting(f"o{self.fresh()}", request.client_id, 50, request.lots)
        self.orders[request.client_id] = order
        self._tell((CALL, 1), order, OPEN, reply)

    def _venue_cancels(self, request: CancelOrder, reply: list[Any]) -> None:
        order = self.orders.pop(request.client_id, None)
        if order is None:
            reply.append(done(request.request_id, RejectReason.NOT_FOUND))
        else:
            self._tell((CALL, 1), order, CANCELLED, reply)

    def _evidence(self, key: tuple[int, int], order: Resting, status: VenueStatus) -> OrderEvidence:
        is_quote = not order.client_id
        lots = order.remaining if is_quote else order.remaining + order.filled
        return order_evidence(
            order.order_id,
            key[0],
            Side(key[1]),
            status,
            order.ticks,
            0 if is_quote and status is not OPEN else lots,
            ts=self.venue_ts,
            filled=order.filled,
            client_id=order.client_id,
            is_quote=is_quote,
        )

    def _tell(
        self, key: tuple[int, int], order: Resting, status: VenueStatus, reply: list[Any]
    ) -> None:
        evidence = self._evidence(key, order, status)
        reply.append(evidence)
        self.line.append([evidence])

    @precondition(lambda self: self.quotes or self.orders)
    @rule(data=st.data())
    def a_taker_trades(self, data: st.DataObject) -> None:
        book = [(key, order) for key, order in self.quotes.items()]
        book += [((CALL, 1), order) for order in self.orders.values()]
        key, order = data.draw(st.sampled_from(book))
        lots = data.draw(st.integers(1, order.remaining))
        order.remaining -= lots
        order.filled += lots
        self.venue_ts += 1
        (self.bought if key[1] > 0 else self.sold)[key[0]] += lots
        fill = fill_evidence(
            f"t{self.fresh()}",
            order.order_id,
            key[0],
            Side(key[1]),
            lots,
            ts=self.venue_ts,
            client_id=order.client_id,
            is_quote=not order.client_id,
        )
        self.trades.append(fill)
        self.line.append([fill])
        status = OPEN if order.remaining else FILLED
        self.line.append([self._evidence(key, order, status)])
        if not order.remaining:
            if order.client_id:
                del self.orders[order.client_id]
            else:
                del self.quotes[key]

    @precondition(lambda self: self.line)
    @rule(data=st.data(), is_repeated=st.booleans())
    def the_line_delivers(self, data: st.DataObject, is_repeated: bool) -> None:
        index = data.draw(st.integers(0, len(self.line) - 1))
        frame = self.line[index] if is_repeated else self.line.pop(index)
        self._deliver(frame)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def the_line_loses(self, data: st.DataObject) -> None:
        """Loses a frame; a reply that is lost ends as unknown, as the protocol's time-out does."""
        frame = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        for event in frame:
            if isinstance(event, RequestDone):
                self.line.append([done(event.request_id, RejectReason.UNKNOWN_OUTCOME)])

    def _deliver(self, frame: list[Any]) -> None:
        now = Ns(self.now)
        for event in frame:
            if isinstance(event, FillEvidence):
                if event.trade_id not in self.booked:
                    self.booked[event.trade_id] = None
                    self.working.on_fill(event, now)
            elif isinstance(event, OrderEvidence):
                self.working.on_order(event, now)
            elif isinstance(event, QuoteSideFailed):
                self.working.on_side_failed(event, now)
            else:
                self.working.on_request_done(event, now)

    @rule()
    def everything_is_read(self) -> None:
        """After every request has run out or been answered, reads restore the exact truth."""
        self.now += 10 * NS_PER_S
        for request in self.wire:
            self.line.append([done(request.request_id, RejectReason.UNKNOWN_OUTCOME)])
        self.wire.clear()
        for frame in self.line:
            for event in frame:
                if isinstance(event, RequestDone):
                    self.working.on_request_done(
                        done(event.request_id, RejectReason.UNKNOWN_OUTCOME), Ns(self.now)
                    )
        self.line.clear()
        for _ in range(3):
            self.now += 4 * NS_PER_S
            resting = [(key, order) for key, order in self.quotes.items()]
            resting += [((CALL, 1), order) for order in self.orders.values()]
            read = OpenOrdersRead(
                0, tuple(self._evidence(key, order, OPEN) for key, order in resting), Ns(0)
            )
            note_open_orders(self.working, read, Ns(self.now), Ns(self.now))
            self._deliver(list(self.trades))
            conclude(self.working, Ns(self.now), Ns(self.now))
        for id_ in (CALL, PUT):
            assert self._true_resting(id_, 1) == int(self.working.worst_buy_lots[id_])
            assert self._true_resting(id_, -1) == int(self.working.worst_sell_lots[id_])
        assert self.working.unknowns().count == 0

    def _true_resting(self, instrument_id: int, sign: int) -> int:
        quote = self.quotes.get((instrument_id, sign))
        lots = 0 if quote is None else quote.remaining
        if instrument_id == CALL and sign > 0:
            lots += sum(order.remaining for order in self.orders.values())
        return lots

    def _on_the_wire(self, instrument_id: int, sign: int) -> int:
        lots = 0
        for request in self.wire:
            if isinstance(request, MassQuote):
                for entry in request.entries:
                    if entry.instrument_id == instrument_id:
                        lots += (entry.bid_lots if sign > 0 else entry.ask_lots) or 0
            elif isinstance(request, PlaceOrder) and instrument_id == CALL and sign > 0:
                lots += request.lots
        return lots

    @invariant()
    def worst_case_is_never_under_counted(self) -> None:
        if not hasattr(self, "working"):
            return
        booked = {(CALL, 1): 0, (CALL, -1): 0, (PUT, 1): 0, (PUT, -1): 0}
        for trade in self.trades:
            if trade.trade_id in self.booked:
                booked[(trade.instrument_id, int(trade.side))] += trade.lots
        for id_ in (CALL, PUT):
            for sign, filled, worst in (
                (1, self.bought[id_], self.working.worst_buy_lots[id_]),
                (-1, self.sold[id_], self.working.worst_sell_lots[id_]),
            ):
                truth = filled + self._true_resting(id_, sign) + self._on_the_wire(id_, sign)
                assert truth <= booked[(id_, sign)] + int(worst)

    @invariant()
    def every_booked_fill_stays_on_its_order(self) -> None:
        if not hasattr(self, "working"):
            return
        filled = sum(t.lots for t in self.trades if t.trade_id in self.booked)
        kept = sum(order.booked_lots for order in self.working.by_order_id.values())
        assert filled == kept

    @invariant()
    def unknowns_are_those_of_a_search_through_everything(self) -> None:
        if not hasattr(self, "working"):
            return
        items = [
            item for state in self.working.sides() for item in (*state.requests, *state.orders)
        ]
        assert self.working.unknowns().count == sum(item.is_unknown for item in items)


TestLossyVenue = LossyVenue.TestCase
TestLossyVenue.settings = settings(max_examples=60, stateful_step_count=40)
