"""The whole venue under random clients: invariants, and equal calls give equal events."""

from collections.abc import Callable
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import Event, RequestCompleted
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelFilter,
    CancelQuotesRequest,
    CancelQuotesType,
    CodScope,
    EditRequest,
    OrderState,
    OrderType,
    Pending,
    SelfTradeMode,
    TimeInForce,
)
from mm_daemon.sim.spec import BUY, E8, MS_US, SECOND_US, SELL
from tests.sim.exchange_setup import (
    CALL,
    MAKER,
    PERP,
    T0,
    TAKER,
    e8,
    future,
    mass,
    option,
    order,
    protect,
    quote,
    venue,
)

NAMES = (CALL, PERP)
BASE = {CALL: (0.02, 0.0005, 0.1), PERP: (60_000.0, 0.5, 10.0)}


class RandomClients:
    """Two clients and two quiet accounts that do anything at all, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.exchange = venue(
            option(speed_bump_us=3 * MS_US), future(), config=ExchangeConfig(open_orders_max=30)
        )
        protect(self.exchange, quantity_limit_e8=6 * E8, frozen_time_s=1)
        protect(self.exchange, quantity_limit_e8=6 * E8, frozen_time_s=1, mmp_group="")
        self.exchange.set_self_trading(TAKER, SelfTradeMode.CANCEL_MAKER)
        self.now_us = T0
        self.events: list[Event] = []
        self.promised: list[int] = []
        self.refusals: dict[Code, int] = {}
        self.acts: tuple[Callable[[], object], ...] = (
            self.enter,
            self.enter,
            self.enter,
            self.change,
            self.change,
            self.end_one,
            self.end_many,
            self.quote_many,
            self.quote_many,
            self.make,
            self.take,
            self.lose_connection,
        )

    def price(self, name: str) -> float:
        base, tick, _ = BASE[name]
        return base + self.random.randint(-4, 4) * tick

    def amount(self, name: str) -> float:
        return round(self.random.randint(1, 30) * BASE[name][2], 8)

    def caller(self) -> Caller:
        return self.random.choice((MAKER, TAKER))

    def enter(self) -> object:
        name, pick = self.random.choice(NAMES), self.random.random
        kind = self.random.choice((OrderType.LIMIT,) * 6 + tuple(OrderType))
        passive = pick() < 0.3
        lives = (TimeInForce.GOOD_TIL_CANCELLED,) * 3 + tuple(TimeInForce)
        return self.exchange.place(
            self.caller(),
            order(
                self.random.choice((BUY, SELL)),
                self.amount(name),
                self.price(name),
                instrument=name,
                order_type=kind,
                time_in_force=TimeInForce.GOOD_TIL_CANCELLED
                if passive or kind is not OrderType.LIMIT
                else self.random.choice(lives),
                post_only=passive and kind is OrderType.LIMIT,
                reject_post_only=pick() < 0.5,
                reduce_only=pick() < 0.15,
                mmp=pick() < 0.2 and kind is OrderType.LIMIT,
            ),
            self.now_us,
        )

    def some_order(self, caller: Caller) -> tuple[str, str]:
        open_now = self.exchange.open_orders(caller, CancelFilter(), self.now_us)
        if not open_now:
            return "1", CALL
        chosen = self.random.choice(open_now)
        return chosen.order_id, chosen.instrument

    def change(self) -> object:
        caller = self.caller()
        order_id, name = self.some_order(caller)
        request = EditRequest(
            order_id=order_id,
            price_e8=e8(self.price(name)) if self.random.random() < 0.7 else None,
            amount_e8=e8(self.amount(name)) if self.random.random() < 0.7 else None,
            post_only=self.random.random() < 0.3,
            reject_post_only=self.random.random() < 0.5,
        )
        return self.exchange.edit(caller, request, self.now_us)

    def end_one(self) -> object:
        caller = self.caller()
        return self.exchange.cancel(caller, self.some_order(caller)[0], self.now_us)

    def end_many(self) -> object:
        if self.random.random() < 0.5:
            request = CancelQuotesRequest(cancel_type=CancelQuotesType.ALL)
            return self.exchange.cancel_quotes(MAKER, request, self.now_us)
        which = CancelFilter(instrument=self.random.choice(NAMES))
        return self.exchange.cancel_matching(self.caller(), which, self.now_us)

    def quote_many(self) -> object:
        entries = []
        for name in NAMES:
            middle, tick = self.price(name), BASE[name][1]
            bid = (middle - tick, self.amount(name)) if self.random.random() < 0.8 else None
            ask = (middle + tick, self.amount(name)) if self.random.random() < 0.8 else None
            entries.append(quote(name, bid, ask, set_id=str(self.random.randint(0, 1))))
        request = mass(*entries, wait_for_response=self.random.random() < 0.5)
        return self.exchange.mass_quote(MAKER, request, self.now_us)

    def make(self) -> object:
        name = self.random.choice(NAMES)
        middle, tick, amount = self.price(name), BASE[name][1], e8(self.amount(name))
        return self.exchange.maker_quote(
            "house", name, e8(middle - tick), amount, e8(middle + tick), amount, self.now_us
        )

    def take(self) -> object:
        name = self.random.choice(NAMES)
        return self.exchange.taker_trade(
            "flow",
            name,
            self.random.choice((BUY, SELL)),
            e8(self.amount(name)),
            e8(self.price(name)),
            self.now_us,
        )

    def lose_connection(self) -> object:
        if self.random.random() < 0.8:
            return None
        self.exchange.disconnect(MAKER, False, self.now_us)
        self.exchange.connect(MAKER, self.now_us)
        return self.exchange.set_cancel_on_disconnect(MAKER, True, CodScope.CONNECTION, self.now_us)

    def step(self) -> None:
        self.now_us += self.random.choice((1, MS_US, 4 * MS_US, SECOND_US // 5))
        self.exchange.advance(self.now_us)
        try:
            reply = self.random.choice(self.acts)()
        except VenueError as refusal:
            self.refusals[refusal.code] = self.refusals.get(refusal.code, 0) + 1
        else:
            if isinstance(reply, Pending):
                self.promised.append(reply.ticket)
        self.events += self.exchange.drain_events()

    def finish(self) -> None:
        self.now_us += SECOND_US
        self.exchange.advance(self.now_us)
        self.events += self.exchange.drain_events()


def check_books(clients: RandomClients) -> None:
    """Uncrossed; and the levels are exactly what clients have open and quiet makers left."""
    exchange = clients.exchange
    for name in NAMES:
        view = exchange.book_view(name, 1000, clients.now_us)
        if view.bids and view.asks:
            assert view.bids[0][0] < view.asks[0][0]
        resting = sorted(exchange.resting(name), key=lambda row: row.seq)
        totals: dict[tuple[int, int], int] = {}
        for row in resting:
            assert row.state is OrderState.OPEN
            assert row.price_e8 is not None
            assert row.remaining_e8 > 0
            key = (row.sign, row.price_e8)
            totals[key] = totals.get(key, 0) + row.remaining_e8
        shown = {(BUY, price): amount for price, amount in view.bids}
        shown |= {(SELL, price): amount for price, amount in view.asks}
        assert shown == totals
        listed = [
            row.seq
            for caller in (MAKER, TAKER)
            for row in exchange.open_orders(caller, CancelFilter(instrument=name), clients.now_us)
            if row.state is OrderState.OPEN
        ]
        assert sorted(listed) == [row.seq for row in resting if row.account != "house"]


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_invariants_hold_under_random_clients(seed: int) -> None:
    clients = RandomClients(seed)
    for _ in range(120):
        clients.step()
        check_books(clients)
    clients.finish()
    exchange = clients.exchange
    total = sum(exchange.position_e8(name, CALL) for name in ("maker", "taker", "house", "flow"))
    assert total == 0
    assert exchange.total_cash_e8("BTC") == 800 * E8
    answered = [event.ticket for event in clients.events if isinstance(event, RequestCompleted)]
    assert sorted(answered) == clients.promised


def test_the_same_calls_give_the_same_events() -> None:
    def told(seed: int) -> bytes:
        clients = RandomClients(seed)
        for _ in range(300):
            clients.step()
        clients.finish()
        return msgspec.json.encode([repr(event) for event in clients.events])

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_random_clients_meet_the_rules_they_should() -> None:
    """Guards the property above: the walk reaches fills, bumps, triggers and refusals."""
    kinds: set[str] = set()
    refusals: set[Code] = set()
    for seed in range(12):
        clients = RandomClients(seed)
        for _ in range(120):
            clients.step()
        kinds |= {type(event).__name__ for event in clients.events}
        refusals |= set(clients.refusals)
    assert kinds >= {"BookChanged", "TradesPrinted", "RequestCompleted", "MmpTriggered"}
    assert refusals >= {
        Code.POST_ONLY_REJECT,
        Code.ORDER_OVERLAP,
        Code.MMP_TRIGGER,
        Code.INVALID_AMOUNT,
        Code.NOT_OPEN_ORDER,
    }
