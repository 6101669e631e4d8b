"""The speed bump: aggressors wait, cancels turn them into IOC, newer edits replace them."""

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import RequestCompleted
from mm_daemon.sim.exchange_types import (
    CancelFilter,
    CancelReason,
    EditRequest,
    MassQuoteReply,
    OrderReply,
    OrderState,
    Pending,
)
from mm_daemon.sim.spec import BUY, MS_US, SELL, InstrumentState
from tests.sim.exchange_setup import (
    CALL,
    MAKER,
    T0,
    TAKER,
    e8,
    future,
    mass,
    of_type,
    option,
    order,
    placed,
    protect,
    quote,
    venue,
)

BUMP_US = 5 * MS_US


def bumped(config: ExchangeConfig | None = None) -> Exchange:
    """A book with 1 offered at 0.02 and a five-millisecond bump."""
    exchange = venue(option(speed_bump_us=BUMP_US), future(), config=config)
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    exchange.drain_events()
    return exchange


def waiting(exchange: Exchange, price: float = 0.02, amount: float = 0.4) -> Pending:
    reply = exchange.place(MAKER, order(BUY, amount, price, label="aggressor"), T0)
    assert isinstance(reply, Pending)
    return reply


def completed(exchange: Exchange, now_us: int) -> list[RequestCompleted]:
    exchange.advance(now_us)
    return of_type(exchange.drain_events(), RequestCompleted)


def test_an_aggressor_trades_only_when_its_bump_is_over() -> None:
    exchange = bumped()
    ticket = waiting(exchange).ticket
    assert exchange.next_due_us() == T0 + BUMP_US
    assert not completed(exchange, T0 + BUMP_US - 1)
    (done,) = completed(exchange, T0 + BUMP_US)
    assert (done.ticket, done.error) == (ticket, None)
    assert isinstance(done.reply, OrderReply)
    assert done.reply.order.state is OrderState.FILLED
    assert done.reply.trades[0].ts_us == T0 + BUMP_US


def test_a_passive_order_and_a_post_only_are_never_bumped() -> None:
    exchange = bumped()
    assert placed(exchange, MAKER, order(BUY, 1, 0.0195), T0).order.state is OrderState.OPEN
    slid = placed(exchange, MAKER, order(BUY, 1, 0.021, post_only=True), T0)
    assert slid.order.price_e8 == e8(0.0195)


def test_an_offer_that_leaves_in_time_is_not_hit() -> None:
    exchange = bumped()
    waiting(exchange)
    exchange.cancel_matching(TAKER, CancelFilter(), T0 + BUMP_US - 1)
    (done,) = completed(exchange, T0 + BUMP_US)
    assert isinstance(done.reply, OrderReply)
    assert done.reply.order.state is OrderState.OPEN
    assert exchange.best(CALL)[:2] == (e8(0.02), e8(0.4))


def test_a_cancel_in_the_bump_makes_it_immediate_or_cancel() -> None:
    """The aggressor still fills after the cancel, but nothing of it rests."""
    exchange = bumped()
    waiting(exchange, amount=3)
    assert len(exchange.cancel_matching(MAKER, CancelFilter(), T0 + 1).orders) == 1
    (done,) = completed(exchange, T0 + BUMP_US)
    assert isinstance(done.reply, OrderReply)
    after = done.reply.order
    assert (after.state, after.filled_e8) == (OrderState.CANCELLED, e8(1))
    assert after.cancel_reason is CancelReason.USER_REQUEST
    assert exchange.best(CALL) == (0, 0, 0, 0)


def test_a_waiting_order_shows_as_speed_bumped_in_open_orders() -> None:
    exchange = bumped()
    waiting(exchange)
    (shown,) = exchange.open_orders(MAKER, CancelFilter(), T0)
    assert shown.state is OrderState.SPEED_BUMPED


def test_an_older_waiting_edit_is_answered_replaced() -> None:
    exchange = bumped()
    resting = placed(exchange, MAKER, order(BUY, 0.4, 0.019), T0).order
    old = exchange.edit(MAKER, EditRequest(order_id=resting.order_id, price_e8=e8(0.02)), T0)
    assert isinstance(old, Pending)
    request = EditRequest(order_id=resting.order_id, price_e8=e8(0.0195))
    assert isinstance(exchange.edit(MAKER, request, T0 + 1), OrderReply)
    (done,) = completed(exchange, T0 + BUMP_US)
    assert done.ticket == old.ticket
    assert done.error is not None
    assert done.error.code is Code.REPLACED
    assert exchange.best(CALL)[:2] == (e8(0.0195), e8(0.4))


def test_an_order_rests_where_it_was_while_its_edit_waits() -> None:
    exchange = bumped()
    resting = placed(exchange, MAKER, order(BUY, 0.4, 0.019), T0).order
    exchange.edit(MAKER, EditRequest(order_id=resting.order_id, price_e8=e8(0.02)), T0)
    assert exchange.best(CALL)[0] == e8(0.019)
    (done,) = completed(exchange, T0 + BUMP_US)
    assert isinstance(done.reply, OrderReply)
    assert done.reply.order.state is OrderState.FILLED


def test_cancelling_an_order_whose_edit_waits_leaves_only_the_aggressor() -> None:
    exchange = bumped()
    resting = placed(exchange, MAKER, order(BUY, 2, 0.019), T0).order
    exchange.edit(MAKER, EditRequest(order_id=resting.order_id, price_e8=e8(0.02)), T0)
    exchange.cancel(MAKER, resting.order_id, T0 + 1)
    assert exchange.best(CALL)[0] == 0
    (done,) = completed(exchange, T0 + BUMP_US)
    assert isinstance(done.reply, OrderReply)
    assert (done.reply.order.state, done.reply.order.filled_e8) == (OrderState.CANCELLED, e8(1))
    assert exchange.best(CALL) == (0, 0, 0, 0)


def test_an_edit_that_waits_keeps_its_total_after_a_fill() -> None:
    exchange = bumped()
    resting = placed(exchange, MAKER, order(BUY, 1, 0.019), T0).order
    request = EditRequest(order_id=resting.order_id, price_e8=e8(0.02), amount_e8=e8(1.2))
    exchange.edit(MAKER, request, T0)
    assert exchange.taker_trade("flow", CALL, SELL, e8(0.5), e8(0.019), T0 + 1) == e8(0.5)
    (done,) = completed(exchange, T0 + BUMP_US)
    assert isinstance(done.reply, OrderReply)
    after = done.reply.order
    assert (after.amount_e8, after.filled_e8, after.state) == (e8(1.2), e8(1.2), OrderState.FILLED)


def test_a_book_that_halts_refuses_what_waits() -> None:
    exchange = bumped()
    waiting(exchange)
    exchange.set_instrument_state(CALL, InstrumentState.HALTED, T0 + 1)
    (done,) = completed(exchange, T0 + BUMP_US)
    assert done.error is not None
    assert done.error.code is Code.BOOK_CLOSED


def test_the_queue_is_bounded() -> None:
    exchange = bumped(ExchangeConfig(pending_max=1))
    waiting(exchange)
    with pytest.raises(VenueError) as caught:
        waiting(exchange)
    assert caught.value.code is Code.MATCHING_ENGINE_QUEUE_FULL


@pytest.mark.parametrize("wait", [True, False])
def test_a_mass_quote_waits_for_its_bumped_sides_only_if_asked(wait: bool) -> None:
    exchange = bumped()
    protect(exchange)
    request = mass(quote(CALL, (0.02, 1.5), (0.03, 1)), wait_for_response=wait)
    reply = exchange.mass_quote(MAKER, request, T0)
    done = completed(exchange, T0 + BUMP_US)
    if wait:
        assert isinstance(reply, Pending)
        answer = done[0].reply
        assert isinstance(answer, MassQuoteReply)
        assert (len(answer.orders), len(answer.trades), answer.pending_requests) == (2, 1, 0)
    else:
        assert isinstance(reply, MassQuoteReply)
        assert (len(reply.orders), reply.pending_requests, done) == (1, 1, [])
    assert exchange.best(CALL)[:2] == (e8(0.02), e8(0.5))


def test_a_triggered_group_can_exceed_its_limit_by_what_waited() -> None:
    """The trigger makes the waiting bid IOC; it fills although its group is frozen."""
    exchange = bumped()
    protect(exchange, quantity_limit_e8=e8(2))
    exchange.mass_quote(MAKER, mass(quote(CALL, None, (0.03, 1.9))), T0)
    assert exchange.taker_trade("flow", CALL, BUY, e8(1.5), e8(0.03), T0) == e8(1.5)
    exchange.maker_quote("house", CALL, 0, 0, e8(0.021), e8(1), T0)
    bid = mass(quote(CALL, (0.021, 1.9), (0.03, 1.9)), number=2)
    assert isinstance(exchange.mass_quote(MAKER, bid, T0), Pending)
    assert exchange.taker_trade("flow", CALL, BUY, e8(3), e8(0.03), T0 + 1) == e8(2.9)
    assert exchange.mmp_status(MAKER, None, None, T0 + 1)
    exchange.maker_quote("house", CALL, 0, 0, e8(0.021), e8(1), T0 + 2)
    completed(exchange, T0 + BUMP_US)
    assert exchange.position_e8("maker", CALL) == e8(-0.5 - 1.9 + 1)
    assert not exchange.open_orders(MAKER, CancelFilter(), T0 + BUMP_US)
