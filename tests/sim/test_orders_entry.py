"""New orders: every rule that refuses, moves or ends one."""

from collections.abc import Callable

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_types import (
    CancelFilter,
    CancelReason,
    MarginModel,
    OrderRequest,
    OrderState,
    OrderType,
    SelfTradeMode,
    TimeInForce,
)
from mm_daemon.sim.spec import BUY, DAY_US, E8, MS_US, SECOND_US, SELL, InstrumentState
from tests.sim.exchange_setup import (
    CALL,
    EXPIRY,
    INDEX,
    MAKER,
    PERP,
    T0,
    TAKER,
    account,
    e8,
    future,
    option,
    order,
    placed,
    venue,
)


def refused(act: Callable[[], object]) -> VenueError:
    with pytest.raises(VenueError) as caught:
        act()
    return caught.value


def refusal(request: OrderRequest, exchange: Exchange | None = None) -> VenueError:
    at = exchange or venue()
    return refused(lambda: at.place(MAKER, request, T0))


def test_an_unknown_instrument_is_invalid_params_not_found() -> None:
    error = refusal(order(BUY, 1, 0.02, instrument="BTC-1JAN20-1-C"))
    assert error.code == -32602
    assert error.data == {"param": "instrument_name", "reason": "instrument not found"}


@pytest.mark.parametrize(
    ("price", "legal"),
    [(0.0049, True), (0.005, True), (0.0051, False), (0.0055, True), (0.00015, False)],
)
def test_the_tick_grows_strictly_above_the_step(price: float, legal: bool) -> None:
    if legal:
        assert placed(venue(), MAKER, order(BUY, 1, price), T0).order.price_e8 == e8(price)
    else:
        assert refusal(order(BUY, 1, price)).code is Code.PRICE_WRONG_TICK


def test_an_amount_under_the_minimum_is_10002() -> None:
    assert refusal(order(BUY, 0.05, 0.02)).code is Code.QTY_TOO_LOW


def test_an_amount_off_the_step_is_10021() -> None:
    assert refusal(order(BUY, 0.25, 0.02)).code is Code.INVALID_AMOUNT


def test_contracts_mean_amount_over_contract_size() -> None:
    request = order(BUY, 1, 59_000, instrument=PERP, amount_e8=None, contracts_e8=3 * E8)
    assert placed(venue(), MAKER, request, T0).order.amount_e8 == 30 * E8


def test_contracts_that_differ_from_amount_are_refused() -> None:
    request = order(BUY, 20, 59_000, instrument=PERP, contracts_e8=3 * E8)
    assert refusal(request).code is Code.INVALID_PARAMS


def test_a_bid_above_the_band_is_10007_with_the_limit_in_the_message() -> None:
    error = refusal(order(BUY, 1, 0.06))
    assert (error.code, error.message) == (Code.PRICE_TOO_HIGH, "price_too_high 0.05")


def test_an_offer_below_the_band_is_10005_with_the_limit_in_the_message() -> None:
    error = refusal(order(SELL, 10, 50_000, instrument=PERP))
    assert (error.code, error.message) == (Code.PRICE_TOO_LOW, "price_too_low 57000.0")


def test_a_price_of_zero_is_10023() -> None:
    assert refusal(order(BUY, 1, 0.0)).code is Code.INVALID_PRICE


def test_a_label_has_at_most_64_characters() -> None:
    assert placed(venue(), MAKER, order(BUY, 1, 0.02, label="x" * 64), T0).order.label == "x" * 64
    assert refusal(order(BUY, 1, 0.02, label="x" * 65)).code is Code.INVALID_PARAMS


def test_a_request_after_its_valid_until_is_13888_and_not_placed() -> None:
    exchange = venue()
    now_ms = T0 // MS_US
    exchange.place(MAKER, order(BUY, 1, 0.02, valid_until_ms=now_ms), T0)
    late = order(BUY, 1, 0.02, valid_until_ms=now_ms - 1)
    assert refusal(late, exchange).code is Code.TIMED_OUT
    assert len(exchange.open_orders(MAKER, CancelFilter(), T0)) == 1


def test_post_only_goes_only_with_good_til_cancelled() -> None:
    request = order(BUY, 1, 0.02, post_only=True, time_in_force=TimeInForce.FILL_OR_KILL)
    assert refusal(request).code is Code.INVALID_PARAMS


def test_market_orders_take_no_time_in_force() -> None:
    request = order(
        BUY,
        1,
        None,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
    )
    assert refusal(request).code is Code.INVALID_PARAMS


def test_reject_post_only_that_would_trade_is_11054() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    crossing = order(BUY, 1, 0.0205, post_only=True, reject_post_only=True)
    assert refusal(crossing, exchange).code is Code.POST_ONLY_REJECT


def test_plain_post_only_slides_one_tick_inside() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    reply = placed(exchange, MAKER, order(BUY, 1, 0.025, post_only=True), T0)
    assert reply.order.price_e8 == e8(0.0195)
    assert not reply.trades


def test_a_slide_below_the_step_uses_the_finer_tick() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(BUY, 1, 0.005), T0)
    reply = placed(exchange, MAKER, order(SELL, 1, 0.004, post_only=True), T0)
    assert reply.order.price_e8 == e8(0.0055)
    placed(exchange, MAKER, order(SELL, 1, 0.0055), T0)
    slid = placed(exchange, TAKER, order(BUY, 1, 0.006, post_only=True), T0)
    assert slid.order.price_e8 == e8(0.005)


def test_a_post_only_bid_under_an_offer_at_the_lowest_tick_is_refused() -> None:
    exchange = venue(marked=False)
    placed(exchange, TAKER, order(SELL, 1, 0.0001), T0)
    assert refusal(order(BUY, 1, 0.0001, post_only=True), exchange).code is Code.POST_ONLY_REJECT


def test_immediate_or_cancel_never_rests() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    request = order(BUY, 1, 0.02, time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL)
    reply = placed(exchange, MAKER, request, T0)
    assert (reply.order.state, reply.order.filled_e8) == (OrderState.CANCELLED, e8(0.4))
    assert not exchange.open_orders(MAKER, CancelFilter(), T0)


def test_fill_or_kill_fills_whole_or_not_at_all() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    request = order(BUY, 0.5, 0.02, time_in_force=TimeInForce.FILL_OR_KILL)
    killed = placed(exchange, MAKER, request, T0)
    assert (killed.order.state, killed.order.filled_e8) == (OrderState.CANCELLED, 0)
    fits = order(BUY, 0.4, 0.02, time_in_force=TimeInForce.FILL_OR_KILL)
    assert placed(exchange, MAKER, fits, T0).order.state is OrderState.FILLED


def test_a_market_order_sweeps_to_the_band_and_drops_the_rest() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    exchange.maker_quote("house", CALL, 0, 0, e8(0.08), e8(5), T0)
    request = order(BUY, 2, None, order_type=OrderType.MARKET)
    reply = placed(exchange, MAKER, request, T0)
    assert (reply.order.state, reply.order.filled_e8) == (OrderState.CANCELLED, e8(1))
    assert reply.order.price_e8 is None


def test_a_market_limit_takes_the_best_level_and_rests_there() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    placed(exchange, TAKER, order(SELL, 1, 0.021), T0)
    request = order(BUY, 1.5, None, order_type=OrderType.MARKET_LIMIT)
    reply = placed(exchange, MAKER, request, T0)
    assert (reply.order.state, reply.order.price_e8) == (OrderState.OPEN, e8(0.02))
    assert exchange.best(CALL)[:2] == (e8(0.02), e8(0.5))


def test_a_market_limit_into_an_empty_book_ends_unfilled() -> None:
    request = order(BUY, 1, None, order_type=OrderType.MARKET_LIMIT)
    assert placed(venue(), MAKER, request, T0).order.state is OrderState.CANCELLED


def test_good_til_day_ends_at_eight_utc() -> None:
    exchange = venue()
    request = order(BUY, 1, 0.02, time_in_force=TimeInForce.GOOD_TIL_DAY)
    order_id = placed(exchange, MAKER, request, T0).order.order_id
    exchange.advance(T0 + 19 * 3600 * SECOND_US)
    assert exchange.order_state(MAKER, order_id).state is OrderState.OPEN
    exchange.advance(T0 + DAY_US)
    ended = exchange.order_state(MAKER, order_id)
    assert (ended.state, ended.cancel_reason) == (OrderState.CANCELLED, CancelReason.SETTLEMENT)


def test_reduce_only_needs_something_to_reduce_and_is_cut_to_it() -> None:
    exchange = venue()
    assert refusal(order(SELL, 1, 0.02, reduce_only=True), exchange).code is Code.OTHER_REJECT
    placed(exchange, TAKER, order(SELL, 0.5, 0.02), T0)
    placed(exchange, MAKER, order(BUY, 0.5, 0.02), T0)
    reply = placed(exchange, MAKER, order(SELL, 2, 0.03, reduce_only=True), T0)
    assert reply.order.amount_e8 == e8(0.5)


def test_a_resting_reduce_only_order_shrinks_with_its_position() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    placed(exchange, MAKER, order(BUY, 1, 0.02), T0)
    resting = placed(exchange, MAKER, order(SELL, 1, 0.03, reduce_only=True), T0).order
    placed(exchange, TAKER, order(BUY, 0.6, 0.02), T0)
    placed(exchange, MAKER, order(SELL, 0.6, 0.02), T0)
    assert exchange.order_state(MAKER, resting.order_id).amount_e8 == e8(0.4)
    placed(exchange, TAKER, order(BUY, 0.4, 0.02), T0)
    placed(exchange, MAKER, order(SELL, 0.4, 0.02), T0)
    ended = exchange.order_state(MAKER, resting.order_id)
    assert (ended.state, ended.cancel_reason) == (
        OrderState.CANCELLED,
        CancelReason.RISK_MITIGATION,
    )


def test_reject_taker_refuses_what_would_meet_an_own_order() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 0.3, 0.02), T0)
    placed(exchange, MAKER, order(SELL, 1, 0.0205), T0)
    reach = refusal(order(BUY, 0.4, 0.021), exchange)
    assert reach.code is Code.ORDER_OVERLAP
    assert not exchange.user_trades(MAKER).trades
    assert placed(exchange, MAKER, order(BUY, 0.3, 0.021), T0).order.state is OrderState.FILLED


def test_cancel_maker_removes_the_own_order_and_trades_on() -> None:
    exchange = venue()
    exchange.set_self_trading(MAKER, SelfTradeMode.CANCEL_MAKER)
    own = placed(exchange, MAKER, order(SELL, 1, 0.02), T0).order
    placed(exchange, TAKER, order(SELL, 1, 0.0205), T0)
    reply = placed(exchange, MAKER, order(BUY, 1, 0.021), T0)
    assert reply.order.average_price_e8 == e8(0.0205)
    assert exchange.order_state(MAKER, own.order_id).state is OrderState.CANCELLED


def test_an_order_beyond_the_funds_is_10009() -> None:
    exchange = venue()
    exchange.open_account(account("poor", 30, balances={"BTC": e8(0.1)}), T0)
    error = refused(lambda: exchange.place(type(MAKER)("poor", 0), order(SELL, 100, 0.02), T0))
    assert error.code is Code.NOT_ENOUGH_FUNDS


def test_closing_a_position_needs_no_funds() -> None:
    """A short that eats the whole account can still be bought back."""
    exchange = venue()
    poor = type(MAKER)("poor", 0)
    config = account("poor", 30, balances={"BTC": e8(1)}, margin_model=MarginModel.STANDARD)
    exchange.open_account(config, T0)
    exchange.maker_quote("house", CALL, e8(0.02), e8(5), e8(0.021), e8(5), T0)
    assert placed(exchange, poor, order(SELL, 5, 0.02), T0).order.state is OrderState.FILLED
    assert refused(lambda: exchange.place(poor, order(SELL, 5, 0.02), T0)).code == 10009
    assert placed(exchange, poor, order(BUY, 5, 0.021), T0).order.state is OrderState.FILLED


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (InstrumentState.HALTED, Code.BOOK_CLOSED),
        (InstrumentState.SETTLEMENT, Code.SETTLEMENT_IN_PROGRESS),
        (InstrumentState.INACTIVE, Code.INVALID_PARAMS),
    ],
)
def test_a_book_that_is_not_open_refuses_by_its_state(state: InstrumentState, code: Code) -> None:
    exchange = venue()
    exchange.set_instrument_state(CALL, state, T0)
    assert refusal(order(BUY, 1, 0.02), exchange).code is code


def test_a_locked_index_and_maintenance_refuse() -> None:
    exchange = venue()
    exchange.set_platform_lock(INDEX, True, T0)
    assert refusal(order(BUY, 1, 0.02), exchange).code is Code.LOCKED_BY_ADMIN
    exchange.set_platform_lock(INDEX, False, T0)
    exchange.set_maintenance(True, T0)
    assert refusal(order(BUY, 1, 0.02), exchange).code is Code.SYSTEM_MAINTENANCE


def test_order_ids_carry_the_currency_except_bitcoin() -> None:
    linear = option("BTC_USDC-13FEB26-60000-C", is_inverse=False)
    exchange = venue(option(), linear, future())
    assert placed(exchange, MAKER, order(BUY, 1, 0.02), T0).order.order_id == "1"
    request = order(BUY, 1, 1000.0, instrument=linear.name)
    assert placed(exchange, MAKER, request, T0).order.order_id == "USDC-2"


def test_open_orders_are_bounded() -> None:
    exchange = venue(config=ExchangeConfig(open_orders_max=2))
    for _ in range(2):
        placed(exchange, MAKER, order(BUY, 1, 0.02), T0)
    assert refusal(order(BUY, 1, 0.02), exchange).code is Code.OTHER_REJECT


def test_an_expired_instrument_is_not_active() -> None:
    exchange = venue()
    exchange.advance(EXPIRY)
    error = refused(lambda: exchange.place(MAKER, order(BUY, 1, 0.02), EXPIRY + 10 * SECOND_US))
    assert error.data == {"param": "instrument_name", "reason": "instrument is not active"}
