"""Cancels: one, many by every filter, quotes by type, a lost connection."""

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import UserChanged
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelFilter,
    CancelQuotesRequest,
    CancelQuotesType,
    CancelReason,
    CodScope,
    OrderState,
    OrderType,
)
from mm_daemon.sim.spec import BUY, SECOND_US, SELL, Kind, OptionType
from tests.sim.exchange_setup import (
    CALL,
    INDEX,
    MAKER,
    PERP,
    PUT,
    T0,
    TAKER,
    e8,
    future,
    mark,
    mass,
    of_type,
    option,
    order,
    placed,
    protect,
    quote,
    venue,
)


def busy() -> Exchange:
    """The maker has a labelled and a plain option bid, a perpetual bid, and three quotes."""
    exchange = venue(option(), option(PUT, option_type=OptionType.PUT, number=2), future())
    exchange.set_marks(INDEX, [mark(PUT, 0.02, delta=-0.5)], T0)
    protect(exchange)
    placed(exchange, MAKER, order(BUY, 1, 0.01, label="mine"), T0)
    placed(exchange, MAKER, order(BUY, 1, 0.011, instrument=PUT), T0)
    placed(exchange, MAKER, order(BUY, 10, 58_000, instrument=PERP), T0)
    entries = (
        quote(CALL, (0.018, 1), (0.022, 1), set_id="a"),
        quote(PUT, (0.018, 1), None, set_id="b"),
    )
    exchange.mass_quote(MAKER, mass(*entries), T0)
    return exchange


@pytest.mark.parametrize(
    ("which", "count"),
    [
        (CancelFilter(), 6),
        (CancelFilter(currency="BTC"), 6),
        (CancelFilter(currency="ETH"), 0),
        (CancelFilter(price_index=INDEX), 6),
        (CancelFilter(kind=Kind.FUTURE), 1),
        (CancelFilter(instrument=CALL), 3),
        (CancelFilter(label="mine"), 1),
        (CancelFilter(label=""), 2),
        (CancelFilter(order_type=OrderType.MARKET), 0),
        (CancelFilter(kind=Kind.OPTION, instrument=PUT), 2),
    ],
)
def test_a_mass_cancel_takes_what_every_sent_field_names(which: CancelFilter, count: int) -> None:
    exchange = busy()
    reply = exchange.cancel_matching(MAKER, which, T0)
    assert len(reply.orders) == count
    assert {order.state for order in reply.orders} <= {OrderState.CANCELLED}
    assert len(exchange.open_orders(MAKER, CancelFilter(), T0)) == 6 - count


@pytest.mark.parametrize(
    ("request_", "count"),
    [
        (CancelQuotesRequest(cancel_type=CancelQuotesType.ALL), 3),
        (
            CancelQuotesRequest(cancel_type=CancelQuotesType.DELTA, min_delta=-0.9, max_delta=-0.1),
            1,
        ),
        (CancelQuotesRequest(cancel_type=CancelQuotesType.QUOTE_SET_ID, quote_set_id="a"), 2),
        (CancelQuotesRequest(cancel_type=CancelQuotesType.INSTRUMENT, instrument=PUT), 1),
        (
            CancelQuotesRequest(
                cancel_type=CancelQuotesType.INSTRUMENT_KIND, kind=Kind.OPTION, currency="BTC"
            ),
            3,
        ),
        (CancelQuotesRequest(cancel_type=CancelQuotesType.CURRENCY, currency="ETH"), 0),
        (CancelQuotesRequest(cancel_type=CancelQuotesType.CURRENCY_PAIR, price_index=INDEX), 3),
    ],
)
def test_cancel_quotes_takes_quotes_only_by_its_type(
    request_: CancelQuotesRequest, count: int
) -> None:
    exchange = busy()
    reply = exchange.cancel_quotes(MAKER, request_, T0)
    assert len(reply.orders) == count
    assert all(order.is_quote for order in reply.orders)


def test_cancel_quotes_without_its_field_is_invalid_params() -> None:
    with pytest.raises(VenueError) as caught:
        busy().cancel_quotes(
            MAKER, CancelQuotesRequest(cancel_type=CancelQuotesType.INSTRUMENT), T0
        )
    assert caught.value.code is Code.INVALID_PARAMS


def test_freeze_quotes_refuses_new_quotes_for_one_second() -> None:
    exchange = busy()
    request = CancelQuotesRequest(cancel_type=CancelQuotesType.ALL, freeze_quotes=True)
    exchange.cancel_quotes(MAKER, request, T0)
    again = mass(quote(CALL, (0.018, 1), None), number=2)
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(MAKER, again, T0 + SECOND_US - 1)
    assert caught.value.code is Code.QUOTES_FROZEN
    assert exchange.mass_quote(MAKER, again, T0 + SECOND_US).orders


def test_a_cancel_answers_with_the_ended_order() -> None:
    exchange = venue()
    resting = placed(exchange, MAKER, order(BUY, 1, 0.02), T0).order
    placed(exchange, TAKER, order(SELL, 0.3, 0.02), T0)
    ended = exchange.cancel(MAKER, resting.order_id, T0)
    assert (ended.state, ended.filled_e8, ended.cancel_reason) == (
        OrderState.CANCELLED,
        e8(0.3),
        CancelReason.USER_REQUEST,
    )
    with pytest.raises(VenueError) as caught:
        exchange.cancel(MAKER, resting.order_id, T0)
    assert caught.value.code is Code.NOT_OPEN_ORDER


def test_a_cancel_is_told_on_the_user_feed() -> None:
    exchange = venue()
    resting = placed(exchange, MAKER, order(BUY, 1, 0.02), T0).order
    exchange.drain_events()
    exchange.cancel(MAKER, resting.order_id, T0)
    (change,) = of_type(exchange.drain_events(), UserChanged)
    assert [row.state for row in change.orders] == [OrderState.CANCELLED]


def test_buy_sell_edit_and_cancel_do_not_work_on_quotes() -> None:
    exchange = busy()
    quotes = [row for row in exchange.open_orders(MAKER, CancelFilter(), T0) if row.is_quote]
    with pytest.raises(VenueError) as caught:
        exchange.cancel(MAKER, quotes[0].order_id, T0)
    assert caught.value.code is Code.OTHER_REJECT


def test_disconnect_cancels_only_what_the_connection_made() -> None:
    exchange = venue()
    other = Caller("maker", 7)
    exchange.connect(other, T0)
    exchange.set_cancel_on_disconnect(MAKER, True, CodScope.CONNECTION, T0)
    placed(exchange, MAKER, order(BUY, 1, 0.02), T0)
    kept = placed(exchange, other, order(BUY, 1, 0.02), T0).order
    reply = exchange.disconnect(MAKER, False, T0)
    assert [row.cancel_reason for row in reply.orders] == [CancelReason.CANCEL_ON_DISCONNECT]
    left = exchange.open_orders(MAKER, CancelFilter(), T0)
    assert [row.order_id for row in left] == [kept.order_id]
    assert not exchange.disconnect(other, False, T0).orders


def test_a_graceful_logout_cancels_nothing() -> None:
    exchange = venue()
    exchange.set_cancel_on_disconnect(MAKER, True, CodScope.CONNECTION, T0)
    placed(exchange, MAKER, order(BUY, 1, 0.02), T0)
    assert not exchange.disconnect(MAKER, True, T0).orders
    assert len(exchange.open_orders(MAKER, CancelFilter(), T0)) == 1


def test_account_scope_is_the_default_of_later_connections() -> None:
    exchange = venue()
    exchange.set_cancel_on_disconnect(MAKER, True, CodScope.ACCOUNT, T0)
    later = Caller("maker", 9)
    exchange.connect(later, T0)
    assert exchange.cancel_on_disconnect(later, CodScope.CONNECTION)
    placed(exchange, later, order(BUY, 1, 0.02), T0)
    assert len(exchange.disconnect(later, False, T0).orders) == 1


def test_a_settling_book_still_cancels() -> None:
    exchange = venue()
    resting = placed(exchange, MAKER, order(BUY, 1, 0.02), T0).order
    eight = T0 + 20 * 3600 * SECOND_US
    exchange.advance(eight)
    with pytest.raises(VenueError) as caught:
        exchange.place(MAKER, order(BUY, 1, 0.02), eight)
    assert caught.value.code is Code.SETTLEMENT_IN_PROGRESS
    assert exchange.cancel(MAKER, resting.order_id, eight).state is OrderState.CANCELLED
