"""Mass quotes: what refuses the whole, what a side does, and what keeps its place."""

import msgspec
import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_types import (
    CancelFilter,
    CodScope,
    MarginModel,
    MassQuoteReply,
    MassQuoteRequest,
    MmpConfigRequest,
    OrderState,
    QuoteEntry,
    QuoteSide,
)
from mm_daemon.sim.spec import BUY, MS_US, SELL
from tests.sim.exchange_setup import (
    CALL,
    GROUP,
    INDEX_E8,
    MAKER,
    PERP,
    T0,
    TAKER,
    account,
    e8,
    future,
    mark,
    mass,
    option,
    order,
    placed,
    protect,
    quote,
    venue,
)


def quoting(**changes: object) -> Exchange:
    exchange = venue()
    protect(exchange, **changes)
    return exchange


def sent(exchange: Exchange, request: MassQuoteRequest, now_us: int = T0) -> MassQuoteReply:
    reply = exchange.mass_quote(MAKER, request, now_us)
    assert isinstance(reply, MassQuoteReply)
    return reply


def refused(exchange: Exchange, request: MassQuoteRequest) -> Code:
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(MAKER, request, T0)
    assert not exchange.open_orders(MAKER, CancelFilter(), T0)
    return caught.value.code


TWO_SIDED = mass(quote(CALL, (0.018, 1), (0.022, 2)))


def test_a_group_must_exist() -> None:
    exchange = quoting()
    request = msgspec.structs.replace(TWO_SIDED, mmp_group="other")
    assert refused(exchange, request) is Code.MMP_REQUIRED


def test_cancel_on_disconnect_must_be_armed() -> None:
    exchange = quoting()
    exchange.set_cancel_on_disconnect(MAKER, False, CodScope.CONNECTION, T0)
    assert refused(exchange, TWO_SIDED) is Code.COD_NOT_ENABLED


def test_an_account_must_be_enabled() -> None:
    exchange = quoting()
    exchange.open_account(account("plain", 40, mass_quotes_enabled=False), T0)
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(type(MAKER)("plain", 3), TWO_SIDED, T0)
    assert caught.value.code is Code.MASS_QUOTES_NOT_ENABLED


def test_at_most_a_hundred_entries() -> None:
    exchange = quoting()
    entry = quote(CALL, (0.018, 1), None)
    assert refused(exchange, mass(*[entry] * 101)) is Code.INVALID_PARAMS
    assert refused(exchange, mass()) is Code.INVALID_PARAMS


def test_all_instruments_share_the_index() -> None:
    linear = option("BTC_USDC-13FEB26-60000-C", is_inverse=False)
    exchange = venue(option(), linear)
    protect(exchange)
    request = mass(quote(CALL, (0.018, 1), None), quote(linear.name, (1000, 1), None))
    assert refused(exchange, request) is Code.INVALID_PARAMS


def test_a_late_request_is_13888() -> None:
    request = msgspec.structs.replace(TWO_SIDED, valid_until_ms=T0 // MS_US - 1)
    assert refused(quoting(), request) is Code.TIMED_OUT


def test_both_sides_rest_as_protected_quotes() -> None:
    exchange = quoting()
    reply = sent(exchange, TWO_SIDED)
    assert [(o.sign, o.is_quote, o.mmp, o.mmp_group) for o in reply.orders] == [
        (BUY, True, True, GROUP),
        (SELL, True, True, GROUP),
    ]
    assert exchange.best(CALL) == (e8(0.018), e8(1), e8(0.022), e8(2))


def test_a_new_quote_replaces_the_old_one_of_its_side() -> None:
    exchange = quoting()
    first = sent(exchange, TWO_SIDED).orders[0].order_id
    reply = sent(exchange, mass(quote(CALL, (0.0185, 3), None)))
    assert reply.orders[0].order_id == first
    assert exchange.best(CALL) == (e8(0.0185), e8(3), e8(0.022), e8(2))


def test_amount_of_a_quote_is_what_remains() -> None:
    exchange = quoting()
    sent(exchange, TWO_SIDED)
    placed(exchange, TAKER, order(SELL, 0.4, 0.018), T0)
    bid = exchange.open_orders(MAKER, CancelFilter(), T0)[0]
    assert (bid.amount_e8, bid.filled_e8) == (e8(0.6), e8(0.4))
    sent(exchange, mass(quote(CALL, (0.018, 1), None)))
    assert exchange.best(CALL)[1] == e8(1)


def test_amount_zero_cancels_a_side() -> None:
    exchange = quoting()
    sent(exchange, TWO_SIDED)
    reply = sent(exchange, mass(quote(CALL, (0.018, 0), None)))
    assert [row.state for row in reply.orders] == [OrderState.CANCELLED]
    assert exchange.best(CALL)[:2] == (0, 0)


def test_a_missing_price_or_amount_amends_only_the_other() -> None:
    exchange = quoting()
    sent(exchange, TWO_SIDED)
    entry = QuoteEntry(
        instrument=CALL,
        bid=QuoteSide(price_e8=e8(0.0175)),
        ask=QuoteSide(amount_e8=e8(1.5)),
    )
    sent(exchange, mass(entry))
    assert exchange.best(CALL) == (e8(0.0175), e8(1), e8(0.022), e8(1.5))


def test_amending_a_quote_that_is_not_there_is_an_entry_error() -> None:
    entry = QuoteEntry(instrument=CALL, bid=QuoteSide(price_e8=e8(0.0175)))
    (error,) = sent(quoting(), mass(entry)).errors
    assert (error.instrument, error.sign, error.code) == (CALL, BUY, Code.ORDER_NOT_FOUND)


def test_a_refused_amend_cancels_the_resting_side_and_only_it() -> None:
    exchange = quoting()
    sent(exchange, TWO_SIDED)
    reply = sent(exchange, mass(quote(CALL, (0.01803, 1), (0.023, 2))))
    assert [(error.sign, error.code) for error in reply.errors] == [(BUY, Code.PRICE_WRONG_TICK)]
    assert exchange.best(CALL) == (0, 0, e8(0.023), e8(2))


def test_an_unknown_instrument_is_an_entry_error() -> None:
    exchange = quoting()
    reply = sent(exchange, mass(quote("BTC-1JAN20-1-C", (0.01, 1), None), TWO_SIDED.quotes[0]))
    assert [error.code for error in reply.errors] == [Code.INVALID_PARAMS]
    assert len(reply.orders) == 2


@pytest.mark.parametrize("shift", [0.005, -0.005])
def test_both_sides_move_past_each_other_without_meeting(shift: float) -> None:
    exchange = quoting()
    sent(exchange, TWO_SIDED)
    reply = sent(exchange, mass(quote(CALL, (0.018 + shift, 1), (0.022 + shift, 2))))
    assert not reply.errors
    assert not reply.trades


@pytest.mark.parametrize(
    ("amount", "set_id", "keeps"),
    [(1.0, "", False), (0.5, "", True), (1.0, "next", True), (1.5, "next", False)],
)
def test_only_a_smaller_amount_or_another_set_id_keeps_priority(
    amount: float, set_id: str, keeps: bool
) -> None:
    exchange = quoting()
    sent(exchange, mass(quote(CALL, (0.018, 1), None)))
    exchange.maker_quote("house", CALL, e8(0.018), e8(1), 0, 0, T0)
    sent(exchange, mass(quote(CALL, (0.018, amount), None, set_id=set_id)))
    placed(exchange, TAKER, order(SELL, 0.1, 0.018), T0)
    assert bool(exchange.user_trades(MAKER).trades) is keeps


def test_a_crossing_quote_trades_and_lists_its_trades() -> None:
    exchange = quoting()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    reply = sent(exchange, mass(quote(CALL, (0.02, 1), None)))
    assert [(t.amount_e8, t.is_maker, t.quote_id) for t in reply.trades] == [(e8(0.4), False, "1")]
    assert exchange.best(CALL)[:2] == (e8(0.02), e8(0.6))


def test_reject_post_only_refuses_a_crossing_side() -> None:
    exchange = quoting()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    side = QuoteSide(price_e8=e8(0.02), amount_e8=e8(1), post_only=True, reject_post_only=True)
    reply = sent(exchange, mass(QuoteEntry(instrument=CALL, bid=side)))
    assert [error.code for error in reply.errors] == [Code.POST_ONLY_REJECT]


def test_a_bid_at_the_own_ask_is_order_overlap() -> None:
    reply = sent(quoting(), mass(quote(CALL, (0.02, 1), (0.02, 1))))
    assert [(error.sign, error.code) for error in reply.errors] == [(SELL, Code.ORDER_OVERLAP)]


def test_a_quote_is_smaller_than_the_quantity_limit() -> None:
    exchange = quoting(quantity_limit_e8=e8(2), max_quote_quantity_e8=e8(10))
    reply = sent(exchange, mass(quote(CALL, (0.018, 2), (0.022, 1.9))))
    assert [(error.sign, error.code) for error in reply.errors] == [(BUY, Code.INVALID_AMOUNT)]


def test_max_quote_quantity_caps_the_open_size_of_a_side() -> None:
    exchange = quoting(quantity_limit_e8=None, max_quote_quantity_e8=e8(3))
    reply = sent(exchange, mass(quote(CALL, (0.018, 3), (0.022, 3.1))))
    assert [(error.sign, error.code) for error in reply.errors] == [(SELL, Code.INVALID_AMOUNT)]
    assert not sent(exchange, mass(quote(CALL, (0.0185, 3), None))).errors


def test_layers_are_groups() -> None:
    exchange = quoting()
    protect(exchange, mmp_group="layer2")
    sent(exchange, TWO_SIDED)
    sent(exchange, mass(quote(CALL, (0.017, 5), (0.023, 5)), mmp_group="layer2"))
    assert len(exchange.open_orders(MAKER, CancelFilter(), T0)) == 4


def test_options_are_not_quoted_on_standard_margin() -> None:
    exchange = venue()
    config = account("maker2", 41, margin_model=MarginModel.STANDARD)
    exchange.open_account(config, T0)
    caller = type(MAKER)("maker2", 5)
    exchange.connect(caller, T0)
    exchange.set_cancel_on_disconnect(caller, True, CodScope.CONNECTION, T0)
    exchange.set_mmp_config(
        caller,
        MmpConfigRequest(
            index_name="btc_usd",
            interval_s=1,
            frozen_time_s=1,
            max_quote_quantity_e8=e8(10),
            mmp_group=GROUP,
        ),
        T0,
    )
    reply = exchange.mass_quote(
        caller, mass(quote(CALL, (0.018, 1), None), quote(PERP, (59_000, 10), None)), T0
    )
    assert isinstance(reply, MassQuoteReply)
    assert [(e.instrument, e.code) for e in reply.errors] == [(CALL, Code.FORBIDDEN)]
    assert [o.instrument for o in reply.orders] == [PERP]


def test_a_thousand_two_sided_options_fit_the_top_tier_within_seconds() -> None:
    """At the stated limits a whole chain is quoted by pacing alone: nothing is refused."""
    names = [f"BTC-13FEB26-{strike}-C" for strike in range(40_000, 50_000, 10)]
    exchange = venue(
        *(option(name, strike=40_000 + 10 * i, number=i) for i, name in enumerate(names)),
        future(),
        marked=False,
    )
    exchange.set_index("btc_usd", INDEX_E8, T0)
    exchange.set_marks("btc_usd", [mark(name, 0.02) for name in names], T0)
    protect(exchange)
    limits = exchange.account_summary(MAKER, "BTC", T0).limits
    now_us = T0
    for start in range(0, 1000, 100):
        now_us += 200 * 1_000_000 // limits.maximum_quotes.rate
        entries = [quote(name, (0.018, 1), (0.022, 1)) for name in names[start : start + 100]]
        assert not sent(exchange, mass(*entries), now_us).errors
    assert now_us - T0 < 10_000_000
    assert len(exchange.open_orders(MAKER, CancelFilter(), now_us)) == 2000
