"""What the venue remembers: pages of trades and orders, and its own ledgers of truth."""

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.exchange_state import CancelOne
from mm_daemon.sim.exchange_types import CancelFilter, OrderRequest, OrderState
from mm_daemon.sim.spec import BUY, E8, SELL, Kind
from tests.sim.exchange_setup import CALL, MAKER, PERP, T0, TAKER, e8, order, placed, venue


def traded(config: ExchangeConfig | None = None) -> Exchange:
    """Seven option fills and one of the perpetual for the taker, one microsecond apart."""
    exchange = venue(config=config)
    exchange.maker_quote("house", CALL, e8(0.018), 50 * E8, e8(0.022), 50 * E8, T0)
    exchange.maker_quote("house", PERP, 59_999 * E8, 10**12, 60_001 * E8, 10**12, T0)
    for step in range(7):
        placed(exchange, TAKER, order(BUY, 0.1 * (step + 1), 0.022, label=f"n{step}"), T0 + step)
    placed(exchange, TAKER, order(BUY, 10, 60_001, instrument=PERP), T0 + 7)
    return exchange


def sequences(exchange: Exchange, **query: object) -> tuple[list[int], bool]:
    page = exchange.user_trades(TAKER, **query)  # type: ignore[arg-type]
    return [trade.trade_seq for trade in page.trades], page.has_more


def test_trades_page_newest_first_with_has_more() -> None:
    exchange = traded()
    assert sequences(exchange, instrument=CALL, count=3) == ([7, 6, 5], True)
    assert sequences(exchange, instrument=CALL, count=7) == ([7, 6, 5, 4, 3, 2, 1], False)
    assert sequences(exchange, instrument=CALL, count=2, oldest_first=True) == ([1, 2], True)


def test_trades_narrow_by_time_sequence_kind_and_order() -> None:
    exchange = traded()
    assert sequences(exchange, instrument=CALL, start_us=T0 + 2, end_us=T0 + 4)[0] == [5, 4, 3]
    assert sequences(exchange, instrument=CALL, start_seq=6)[0] == [7, 6]
    assert sequences(exchange, currency="BTC", kind=Kind.FUTURE) == ([1], False)
    assert sequences(exchange, currency="BTC", start_seq=8) == ([1], False)
    assert sequences(exchange, currency="ETH") == ([], False)
    (one,) = exchange.user_trades(TAKER, order_id="5").trades
    assert one.order_id == "5"


def test_order_history_is_newest_first_and_hides_unfilled_unless_asked() -> None:
    exchange = traded()
    unfilled = placed(exchange, TAKER, order(BUY, 1, 0.01), T0 + 8).order
    exchange.cancel(TAKER, unfilled.order_id, T0 + 9)
    filled = exchange.order_history(TAKER, CancelFilter(instrument=CALL), 0, 2, False)
    assert [row.label for row in filled] == ["n6", "n5"]
    shifted = exchange.order_history(TAKER, CancelFilter(instrument=CALL), 2, 2, False)
    assert [row.label for row in shifted] == ["n4", "n3"]
    every = exchange.order_history(TAKER, CancelFilter(), 0, 100, True)
    assert every[0].order_id == unfilled.order_id
    assert len(every) == 9


def test_labels_find_open_and_ended_orders() -> None:
    exchange = traded()
    placed(exchange, TAKER, order(BUY, 1, 0.01, label="n3"), T0 + 8)
    states = [row.state for row in exchange.orders_by_label(TAKER, "BTC", "n3")]
    assert states == [OrderState.FILLED, OrderState.OPEN]


def test_histories_are_bounded() -> None:
    exchange = traded(ExchangeConfig(closed_orders_kept=2, fills_kept=3, cash_moves_kept=5))
    assert len(exchange.order_history(TAKER, CancelFilter(), 0, 100, True)) == 2
    assert len(exchange.user_trades(TAKER, count=100).trades) == 3
    assert len(exchange.cash_ledger()) == 5


def test_the_venue_records_every_request_even_refused_ones() -> None:
    exchange = venue()
    good = order(BUY, 1, 0.02)
    bad = order(BUY, 1, 0.02003)
    placed(exchange, MAKER, good, T0)
    with pytest.raises(VenueError):
        exchange.place(MAKER, bad, T0 + 1)
    exchange.cancel(MAKER, "1", T0 + 2)
    received = exchange.received()
    assert [(row.ts_us - T0, row.caller, row.body) for row in received] == [
        (0, MAKER, good),
        (1, MAKER, bad),
        (2, MAKER, CancelOne("1")),
    ]
    assert exchange.received_count() == 3
    assert isinstance(received[0].body, OrderRequest)


def test_copies_handed_out_do_not_change_later() -> None:
    exchange = venue()
    early = placed(exchange, MAKER, order(BUY, 1, 0.02), T0).order
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    assert early.filled_e8 == 0
    assert exchange.order_state(MAKER, early.order_id).filled_e8 == e8(0.4)
