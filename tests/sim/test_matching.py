"""The book against a slow reference that keeps one list per side and sorts it each time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.exchange_events import BookChanged
from mm_daemon.sim.exchange_types import Caller, CancelFilter, OrderReply, OrderState
from mm_daemon.sim.spec import BUY, SELL
from tests.sim.exchange_setup import CALL, MAKER, T0, TAKER, e8, of_type, order, placed, venue

TICK = e8(0.0005)


class SlowBook:
    """Price-time priority by sorting: (price, arrival, order id, left) per side."""

    def __init__(self) -> None:
        self.resting: dict[int, list[list[int]]] = {BUY: [], SELL: []}
        self.arrivals = 0

    def enter(self, sign: int, price: int, amount: int) -> list[tuple[int, int, int]]:
        """Fills as (resting arrival, price, amount), then rests what is left."""
        self.arrivals += 1
        fills = []
        opposite = self.resting[-sign]
        while amount and opposite:
            opposite.sort(key=lambda row: (sign * row[0], row[1]))
            best = opposite[0]
            if sign * (price - best[0]) < 0:
                break
            part = min(amount, best[2])
            fills.append((best[1], best[0], part))
            best[2] -= part
            amount -= part
            if not best[2]:
                opposite.pop(0)
        if amount:
            self.resting[sign].append([price, self.arrivals, amount])
        return fills

    def cancel(self, arrival: int) -> bool:
        for rows in self.resting.values():
            for row in rows:
                if row[1] == arrival:
                    rows.remove(row)
                    return True
        return False

    def depth(self, sign: int) -> tuple[tuple[int, int], ...]:
        totals: dict[int, int] = {}
        for price, _, amount in self.resting[sign]:
            totals[price] = totals.get(price, 0) + amount
        return tuple(sorted(totals.items(), reverse=sign > 0))


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("enter"),
            st.sampled_from((BUY, SELL)),
            st.integers(36, 44),
            st.integers(1, 9),
        ),
        st.tuples(st.just("cancel"), st.integers(1, 40), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(ACTIONS)
def test_fills_and_depth_equal_a_slow_reference(actions: list[tuple[str, int, int, int]]) -> None:
    """The maker only buys and the taker only sells, so that no order meets its own account."""
    exchange, slow = venue(), SlowBook()
    ids: dict[int, tuple[Caller, str]] = {}
    now = T0
    for action, first, ticks, lots in actions:
        now += 1_000_000
        if action == "cancel":
            known = ids.get(first)
            if known is not None and slow.cancel(first):
                caller, order_id = known
                exchange.cancel(caller, order_id, now)
            continue
        caller = MAKER if first > 0 else TAKER
        price, amount = ticks * TICK, lots * e8(0.1)
        reply = placed(exchange, caller, order(first, lots / 10, ticks * 0.0005), now)
        fills = slow.enter(first, price, amount)
        ids[slow.arrivals] = (caller, reply.order.order_id)
        assert [(t.price_e8, t.amount_e8) for t in reply.trades] == [f[1:] for f in fills]
        view = exchange.book_view(CALL, 100, now)
        assert (view.bids, view.asks) == (slow.depth(BUY), slow.depth(SELL))
        assert not view.bids or not view.asks or view.bids[0][0] < view.asks[0][0]


@settings(max_examples=60)
@given(ACTIONS)
def test_change_events_rebuild_the_book(actions: list[tuple[str, int, int, int]]) -> None:
    """A client that applies every change in order holds the venue's book, and the ids link."""
    exchange = venue()
    copy: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}
    last_id, now = 0, T0
    for action, first, ticks, lots in actions:
        now += 1_000_000
        if action == "cancel":
            exchange.cancel_matching(MAKER, CancelFilter(instrument=CALL), now)
        else:
            placed(
                exchange,
                MAKER if first > 0 else TAKER,
                order(first, lots / 10, ticks * 0.0005),
                now,
            )
        for event in of_type(exchange.drain_events(), BookChanged):
            assert event.prev_change_id == last_id
            last_id = event.change_id
            for side, changes in (("bids", event.bids), ("asks", event.asks)):
                for kind, price, amount in changes:
                    assert (kind == "new") == (price not in copy[side])
                    assert (kind == "delete") == (amount == 0)
                    copy[side][price] = amount
                    if not amount:
                        del copy[side][price]
    view = exchange.book_view(CALL, 100, now)
    assert dict(view.bids) == copy["bids"]
    assert dict(view.asks) == copy["asks"]


def test_equal_prices_fill_in_order_of_arrival() -> None:
    exchange = venue()
    first = placed(exchange, MAKER, order(BUY, 0.3, 0.02, label="first"), T0)
    placed(exchange, MAKER, order(BUY, 0.3, 0.02, label="second"), T0)
    reply = placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    assert [t.amount_e8 for t in reply.trades] == [e8(0.3), e8(0.1)]
    assert exchange.order_state(MAKER, first.order.order_id).state is OrderState.FILLED


def test_a_taker_pays_the_resting_price() -> None:
    exchange = venue()
    placed(exchange, MAKER, order(SELL, 1, 0.02), T0)
    reply = placed(exchange, TAKER, order(BUY, 1, 0.03), T0)
    assert isinstance(reply, OrderReply)
    assert reply.order.average_price_e8 == e8(0.02)


def test_one_call_tells_one_net_change() -> None:
    """Filling a level and resting at its price from the other side nets to both levels once."""
    exchange = venue()
    placed(exchange, MAKER, order(SELL, 1, 0.02), T0)
    exchange.drain_events()
    placed(exchange, TAKER, order(BUY, 1.5, 0.02), T0)
    (event,) = of_type(exchange.drain_events(), BookChanged)
    assert event.asks == (("delete", e8(0.02), 0),)
    assert event.bids == (("new", e8(0.02), e8(0.5)),)
