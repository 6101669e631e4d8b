"""Edits: priority, amounts, refusals, and the edit that cancels."""

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_types import (
    CancelReason,
    EditRequest,
    Order,
    OrderReply,
    OrderState,
)
from mm_daemon.sim.spec import BUY, SELL
from tests.sim.exchange_setup import CALL, MAKER, T0, TAKER, e8, order, placed, protect, venue


def edited(exchange: Exchange, request: EditRequest) -> Order:
    reply = exchange.edit(MAKER, request, T0)
    assert isinstance(reply, OrderReply)
    return reply.order


def first_filled(exchange: Exchange) -> str:
    """Label of the order that a small sale at the best bid meets first."""
    order_id = placed(exchange, TAKER, order(SELL, 0.1, 0.02), T0).trades[0].trade_id
    trades = exchange.user_trades(MAKER, count=1).trades
    assert trades[0].trade_id == order_id
    return trades[0].label


def two_bids() -> tuple[Exchange, Order]:
    exchange = venue()
    ahead = placed(exchange, MAKER, order(BUY, 1, 0.02, label="ahead"), T0).order
    placed(exchange, MAKER, order(BUY, 1, 0.02, label="behind"), T0)
    return exchange, ahead


@pytest.mark.parametrize(
    ("amount", "first"), [(0.5, "ahead"), (1.0, "behind"), (2.0, "behind"), (None, "behind")]
)
def test_only_a_smaller_amount_at_the_same_price_keeps_priority(
    amount: float | None, first: str
) -> None:
    exchange, ahead = two_bids()
    request = EditRequest(
        order_id=ahead.order_id,
        price_e8=e8(0.02),
        amount_e8=None if amount is None else e8(amount),
    )
    assert edited(exchange, request).replaced
    assert first_filled(exchange) == first


def test_a_price_away_and_back_loses_priority() -> None:
    exchange, ahead = two_bids()
    for price in (0.0195, 0.02):
        edited(exchange, EditRequest(order_id=ahead.order_id, price_e8=e8(price)))
    assert first_filled(exchange) == "behind"


def test_amount_of_an_edit_is_the_total_with_what_is_filled() -> None:
    exchange, ahead = two_bids()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    after = edited(exchange, EditRequest(order_id=ahead.order_id, amount_e8=e8(1.5)))
    assert (after.amount_e8, after.filled_e8, after.remaining_e8) == (e8(1.5), e8(0.4), e8(1.1))
    assert exchange.best(CALL)[1] == e8(2.1)


def test_an_amount_not_above_what_is_filled_is_refused() -> None:
    exchange, ahead = two_bids()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    with pytest.raises(VenueError) as caught:
        edited(exchange, EditRequest(order_id=ahead.order_id, amount_e8=e8(0.4)))
    assert caught.value.code is Code.INVALID_AMOUNT


def test_a_crossing_edit_trades_at_once() -> None:
    exchange, ahead = two_bids()
    placed(exchange, TAKER, order(SELL, 0.6, 0.0205), T0)
    reply = exchange.edit(MAKER, EditRequest(order_id=ahead.order_id, price_e8=e8(0.021)), T0)
    assert isinstance(reply, OrderReply)
    assert [trade.amount_e8 for trade in reply.trades] == [e8(0.6)]
    assert exchange.best(CALL)[:2] == (e8(0.021), e8(0.4))


def test_a_rejected_post_only_edit_cancels_the_order() -> None:
    exchange, ahead = two_bids()
    placed(exchange, TAKER, order(SELL, 0.6, 0.0205), T0)
    request = EditRequest(
        order_id=ahead.order_id, price_e8=e8(0.021), post_only=True, reject_post_only=True
    )
    with pytest.raises(VenueError) as caught:
        exchange.edit(MAKER, request, T0)
    assert caught.value.code is Code.POST_ONLY_REJECT
    ended = exchange.order_state(MAKER, ahead.order_id)
    assert ended.state is OrderState.CANCELLED
    assert ended.cancel_reason is CancelReason.EDIT_POST_ONLY_REJECT


def test_an_edit_refused_for_its_price_leaves_the_order_alone() -> None:
    exchange, ahead = two_bids()
    with pytest.raises(VenueError) as caught:
        edited(exchange, EditRequest(order_id=ahead.order_id, price_e8=e8(0.0202)))
    assert caught.value.code is Code.PRICE_WRONG_TICK
    assert first_filled(exchange) == "ahead"


def test_an_edit_by_label_needs_exactly_one_match() -> None:
    exchange = venue()
    placed(exchange, MAKER, order(BUY, 1, 0.02, label="one"), T0)
    request = EditRequest(label="one", instrument=CALL, price_e8=e8(0.0195))
    assert edited(exchange, request).price_e8 == e8(0.0195)
    placed(exchange, MAKER, order(BUY, 1, 0.02, label="one"), T0)
    for label, code in (("one", Code.LABEL_NOT_UNIQUE), ("none", Code.ORDER_NOT_FOUND)):
        with pytest.raises(VenueError) as caught:
            exchange.edit(MAKER, EditRequest(label=label, instrument=CALL), T0)
        assert caught.value.code is code


def test_an_ended_order_is_not_open_and_an_unknown_one_not_found() -> None:
    exchange, ahead = two_bids()
    exchange.cancel(MAKER, ahead.order_id, T0)
    for order_id, code in ((ahead.order_id, Code.NOT_OPEN_ORDER), ("999", Code.ORDER_NOT_FOUND)):
        with pytest.raises(VenueError) as caught:
            edited(exchange, EditRequest(order_id=order_id))
        assert caught.value.code is code


def test_another_account_can_not_edit() -> None:
    exchange, ahead = two_bids()
    with pytest.raises(VenueError) as caught:
        exchange.edit(TAKER, EditRequest(order_id=ahead.order_id, amount_e8=e8(0.5)), T0)
    assert caught.value.code is Code.ORDER_NOT_FOUND


def test_an_omitted_mmp_keeps_its_flag() -> None:
    exchange = venue()
    protect(exchange, mmp_group="")
    kept = placed(exchange, MAKER, order(BUY, 1, 0.02, mmp=True), T0).order
    assert edited(exchange, EditRequest(order_id=kept.order_id, price_e8=e8(0.0195))).mmp
    request = EditRequest(order_id=kept.order_id, price_e8=e8(0.02), mmp=False)
    assert not edited(exchange, request).mmp
