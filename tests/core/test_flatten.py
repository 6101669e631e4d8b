"""The flattener: every order closes something, in bounded pieces at a bounded cost, and what finds
no way is said."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.flatten import (
    Flattener,
    FlattenInputs,
    FlattenOrder,
    FlattenState,
    Rung,
)
from mm_daemon.core.theo import PRICE, VEGA
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.events import RequestDone
from mm_daemon.domain.intents import CancelOrder, PlaceOrder
from mm_daemon.domain.orders import Purpose, RejectReason, TimeInForce, VenueStatus
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns, Side
from tests.core.account_params import FLATTEN, params
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    FUTURE,
    PERPETUAL,
    PUT,
    T0,
    fill_evidence,
    order_evidence,
    small_catalog,
)

CATALOG = small_catalog()
N = len(CATALOG)
THEO = 0.05
BID, ASK = 490, 510  # ticks of 0.0001 around theo 0.05
SPOT = 60_000.0


class Desk:
    """A flattener over a market of options at 0.05 and futures at 60,000."""

    def __init__(self, held: dict[int, int], **changed: Any) -> None:
        one = msgspec.structs.replace(
            params().underlyings[0], flatten=msgspec.structs.replace(FLATTEN, **changed)
        )
        self.flattener = Flattener(CATALOG, (one,))
        self.working = WorkingOrders(CATALOG)
        self.held = np.zeros(N, dtype=np.int64)
        for id_, lots in held.items():
            self.held[id_] = lots
        self.bid = np.full(N, BID, dtype=np.int64)
        self.ask = np.full(N, ASK, dtype=np.int64)
        self.amount = np.full(N, 100.0)
        self.is_open = np.ones(N, dtype=np.bool_)
        self.columns = np.full((10, N), np.nan)
        self.columns[PRICE], self.columns[VEGA] = THEO, 10.0
        for id_ in (PERPETUAL, FUTURE):
            self.bid[id_], self.ask[id_] = 119_996, 120_004
            self.columns[PRICE, id_], self.columns[VEGA, id_] = SPOT, 0.0
            self.amount[id_] = 1e6
        self.now = int(T0)
        self.count = 0

    def plan(self, after_ms: int = 1_000) -> list[FlattenOrder]:
        self.now += after_ms * NS_PER_MS
        self.flattener.collect("BTC", self.working, Ns(self.now))
        inputs = FlattenInputs(
            position_lots=self.held,
            bid_ticks=self.bid,
            ask_ticks=self.ask,
            bid_amount=self.amount,
            ask_amount=self.amount,
            is_open=self.is_open,
            columns=self.columns,
        )
        return self.flattener.plan("BTC", inputs, Ns(self.now))

    def send(self, order: FlattenOrder) -> PlaceOrder:
        self.count += 1
        intent = PlaceOrder(
            request_id=self.count,
            client_id=f"c{self.count}",
            instrument_id=order.instrument_id,
            side=order.side,
            price_ticks=order.price_ticks,
            lots=order.lots,
            time_in_force=order.time_in_force,
            post_only=False,
            reduce_only=True,
            mmp=False,
            purpose=Purpose.FLATTEN,
            valid_until_ns=Ns(self.now + NS_PER_S),
        )
        self.working.register(intent, Ns(self.now))
        self.flattener.on_sent(order, intent.client_id, Ns(self.now))
        return intent

    def end(self, intent: PlaceOrder, filled: int) -> None:
        """The venue's whole answer: what of the order traded, and its end."""
        id_ = intent.instrument_id
        if filled:
            self.held[id_] += int(intent.side) * filled
            fill = fill_evidence(
                f"t{self.count}", f"o{self.count}", id_, intent.side, filled,
                client_id=intent.client_id, is_quote=False,
            )  # fmt: skip
            self.working.on_fill(fill, Ns(self.now))
        status = VenueStatus.FILLED if filled == intent.lots else VenueStatus.CANCELLED
        self.working.on_order(
            order_evidence(
                f"o{self.count}", id_, intent.side, status, 500, intent.lots,
                ts=self.now - int(T0), filled=filled, client_id=intent.client_id, is_quote=False,
            ),
            Ns(self.now),
        )  # fmt: skip
        self.working.on_request_done(
            RequestDone(intent.request_id, None, 0, "", Ns(self.now)), Ns(self.now)
        )

    def refuse(self, intent: PlaceOrder, reason: RejectReason) -> None:
        self.working.on_request_done(
            RequestDone(intent.request_id, reason, 1, "", Ns(self.now)), Ns(self.now)
        )
        self.flattener.on_refused(intent.instrument_id, reason, Ns(self.now))

    def next(self) -> FlattenOrder:
        """The next order, over as many looks as it takes."""
        for _ in range(50):
            orders = self.plan()
            if orders:
                return orders[0]
        raise AssertionError("no order came")

    @property
    def state(self) -> FlattenState:
        return self.flattener.progress("BTC").state


def test_short_options_go_first_then_by_vega_and_futures_last() -> None:
    desk = Desk({CALL: 1, PUT: -1, CALL_FAR: -1, PERPETUAL: 10}, orders_live_max=9)
    desk.columns[VEGA, CALL_FAR] = 30.0
    sent = []
    for _ in range(4):
        order = desk.next()
        sent.append((order.instrument_id, order.side))
        desk.end(desk.send(order), order.lots)
    assert sent == [
        (CALL_FAR, Side.BUY),
        (PUT, Side.BUY),
        (CALL, Side.SELL),
        (PERPETUAL, Side.SELL),
    ]
    assert desk.plan() == []
    assert desk.state is FlattenState.FLAT


def test_futures_wait_for_an_option_order_without_an_end() -> None:
    desk = Desk({CALL: 1, PERPETUAL: 10})
    intent = desk.send(desk.next())
    desk.held[CALL] = 0  # the fill was booked, the order's end is not known
    assert desk.plan() == []
    assert desk.flattener.is_hedge_needed("BTC", desk.held)
    desk.held[CALL] = 1
    desk.end(intent, 1)
    assert desk.next().instrument_id == PERPETUAL
    assert not desk.flattener.is_hedge_needed("BTC", desk.held)


@pytest.mark.parametrize(
    ("held", "shown", "lots"),
    [
        (100, 100.0, 5),  # the clip
        (3, 100.0, 3),  # what is held
        (100, 0.6, 3),  # half of six lots shown
        (100, 0.1, 1),  # a lot at least
    ],
)
def test_a_piece_is_bounded_by_clip_depth_and_what_is_held(
    held: int, shown: float, lots: int
) -> None:
    desk = Desk({CALL: held})
    desk.amount[:] = shown
    assert desk.next().lots == lots


def test_a_future_is_closed_in_pieces_of_usd() -> None:
    assert Desk({PERPETUAL: -100_000}).next().lots == 3_000


def test_one_order_a_pace_and_so_many_at_a_time() -> None:
    desk = Desk({CALL: 9, PUT: 9, CALL_FAR: 9}, orders_live_max=2)
    desk.send(desk.next())
    assert desk.plan(after_ms=100) == []
    desk.send(desk.next())
    assert desk.plan() == [], "two are out"


def test_the_ladder_goes_from_the_touch_through_wider_and_resting_to_a_person() -> None:
    desk = Desk({CALL: 9})
    ways = []
    while desk.state is not FlattenState.STUCK:
        for order in desk.plan():
            ways.append((order.rung, order.time_in_force, int(order.price_ticks)))
            desk.end(desk.send(order), 0)
    ioc, gtc = TimeInForce.IOC, TimeInForce.GTC
    # Theo 500 ticks: a sale at 5 % and 2 ticks below at the touch, 20 % and 5 ticks when wide.
    assert ways == [
        (Rung.TOUCH, ioc, BID),
        (Rung.TOUCH, ioc, BID),
        (Rung.WIDE, ioc, 395),
        (Rung.WIDE, ioc, 395),
        (Rung.REST, gtc, ASK),
        (Rung.REST, gtc, BID),
    ]
    assert desk.flattener.progress("BTC").called_for == (CALL,)


def test_a_touch_beyond_the_bound_is_not_hit_but_counts_as_a_try() -> None:
    desk = Desk({CALL: 9})
    desk.bid[CALL] = 460  # beyond 473, within 395
    assert desk.next().rung is Rung.WIDE
    desk = Desk({CALL: 9})
    desk.bid[CALL] = 300
    order = desk.next()
    assert (order.rung, int(order.price_ticks)) == (Rung.REST, ASK)


@pytest.mark.parametrize("fault", ["no_theo", "closed"])
def test_what_cannot_be_priced_calls_a_person_and_is_never_sent(fault: str) -> None:
    desk = Desk({CALL: 9})
    if fault == "no_theo":
        desk.columns[PRICE, CALL] = np.nan
    else:
        desk.is_open[CALL] = False
    for _ in range(10):
        assert desk.plan() == []
    assert desk.state is FlattenState.STUCK


def test_a_person_is_called_once_and_everything_is_tried_again_after_a_while() -> None:
    desk = Desk({CALL: 9}, person_wait_s=20.0)
    desk.is_open[CALL] = False
    for _ in range(10):
        desk.plan()
    desk.is_open[CALL] = True
    assert desk.plan() == []
    order = desk.plan(after_ms=20_000)[0]
    assert order.rung is Rung.TOUCH
    desk.end(desk.send(order), order.lots)
    desk.plan()
    assert desk.flattener.progress("BTC").called_for == ()
    assert desk.state is FlattenState.RUNNING


def test_a_refused_kind_of_order_gives_way_at_once_and_is_not_tried_again() -> None:
    desk = Desk({CALL: 9})
    for rung in (Rung.TOUCH, Rung.WIDE):
        order = desk.next()
        assert order.rung is rung
        desk.refuse(desk.send(order), RejectReason.INVALID)
    order = desk.next()
    assert order.rung is Rung.REST
    desk.end(desk.send(order), order.lots)
    assert desk.next().rung is Rung.REST


def test_a_refused_last_way_calls_a_person() -> None:
    desk = Desk({CALL: 9})
    for _ in range(3):
        desk.refuse(desk.send(desk.next()), RejectReason.INVALID)
    desk.plan()
    assert desk.state is FlattenState.STUCK


def test_a_refusal_that_says_nothing_of_the_order_keeps_the_way() -> None:
    desk = Desk({CALL: 9}, tries_max=3)
    desk.refuse(desk.send(desk.next()), RejectReason.RATE_LIMIT)
    assert desk.next().rung is Rung.TOUCH


def test_an_order_without_an_answer_blocks_its_instrument_until_evidence_ends_it() -> None:
    desk = Desk({CALL: 9})
    intent = desk.send(desk.next())
    done = RequestDone(intent.request_id, RejectReason.UNKNOWN_OUTCOME, 0, "", Ns(0))
    desk.working.on_request_done(done, Ns(desk.now))
    for _ in range(60):
        assert desk.plan() == []
    assert desk.state is FlattenState.RUNNING
    desk.end(intent, 2)
    assert desk.next().lots == 5


def test_a_resting_order_goes_when_it_is_old_and_all_of_them_when_it_is_over() -> None:
    desk = Desk({CALL: 9}, rest_s=3.0)
    desk.bid[CALL] = 0
    order = desk.next()
    intent = desk.send(order)
    assert order.time_in_force is TimeInForce.GTC
    to_cancel = desk.flattener.to_cancel
    assert to_cancel("BTC", Ns(desk.now + 2 * NS_PER_S), is_over=False) == []
    assert to_cancel("BTC", Ns(desk.now + 3 * NS_PER_S), is_over=False) == ["c1"]
    assert to_cancel("BTC", Ns(desk.now), is_over=True) == ["c1"]
    desk.working.register(CancelOrder(77, "", "c1", "BTC"), Ns(desk.now))
    desk.end(intent, 0)
    assert desk.plan() == [], "its cancel has no answer yet"


def test_a_fill_returns_to_the_cheapest_way() -> None:
    desk = Desk({CALL: 9})
    for _ in range(2):
        desk.end(desk.send(desk.next()), 0)
    order = desk.next()
    assert order.rung is Rung.WIDE
    desk.end(desk.send(order), 1)
    assert desk.next().rung is Rung.TOUCH


def test_an_order_that_our_own_gates_refuse_is_tried_again_and_then_said() -> None:
    desk = Desk({CALL: 9})
    for _ in range(6):
        order = desk.next()
        desk.flattener.on_withheld(order.instrument_id, Ns(desk.now))
    desk.plan()
    assert desk.state is FlattenState.STUCK


def test_forgotten_it_begins_anew_and_keeps_what_has_no_end() -> None:
    desk = Desk({CALL: 9})
    for _ in range(2):
        desk.end(desk.send(desk.next()), 0)
    intent = desk.send(desk.next())
    desk.flattener.forget("BTC")
    assert desk.state is FlattenState.IDLE
    assert desk.plan() == []
    desk.end(intent, 0)
    assert desk.next().rung is Rung.TOUCH


def test_equal_histories_have_equal_digests() -> None:
    first, second = Desk({CALL: 9}), Desk({CALL: 9})
    for desk in (first, second):
        desk.send(desk.next())
    assert first.flattener.digest() == second.flattener.digest()
    second.plan(after_ms=5_000)
    second.flattener.on_refused(CALL, RejectReason.INVALID, Ns(second.now))
    assert first.flattener.digest() != second.flattener.digest()


@given(
    held=st.dictionaries(
        st.sampled_from([CALL, PUT, CALL_FAR, PERPETUAL, FUTURE]), st.integers(-40, 40)
    ),
    answers=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["fill", "none", "refuse", "busy"])),
        min_size=60,
        max_size=60,
    ),
    bids=st.lists(st.integers(300, 500), min_size=N, max_size=N),
)
def test_whatever_happens_every_order_reduces_within_its_bound(
    held: dict[int, int], answers: list[tuple[int, str]], bids: list[int]
) -> None:
    desk = Desk(held)
    for id_ in (CALL, PUT, CALL_FAR):
        desk.bid[id_] = bids[id_]
    gross = int(np.abs(desk.held).sum())
    for lots, what in answers:
        for order in desk.plan(after_ms=4_000):
            position = int(desk.held[order.instrument_id])
            assert position * int(order.side) < 0
            assert 0 < order.lots <= abs(position)
            price = CATALOG.instruments[order.instrument_id].grid.price(order.price_ticks)
            theo = float(desk.columns[PRICE, order.instrument_id])
            is_option = CATALOG.is_option[order.instrument_id]
            most = 0.2 * theo + 5 * 0.0001 if is_option else 10e-4 * theo
            assert int(order.side) * (price - theo) <= most + 1e-12
            intent = desk.send(order)
            if what == "refuse":
                desk.refuse(intent, RejectReason.INVALID)
            elif what == "busy":
                desk.refuse(intent, RejectReason.RATE_LIMIT)
            else:
                desk.end(intent, min(lots, order.lots) if what == "fill" else 0)
        left = int(np.abs(desk.held).sum())
        assert left <= gross
        gross = left
        if desk.state is FlattenState.FLAT:
            assert not desk.held.any()
