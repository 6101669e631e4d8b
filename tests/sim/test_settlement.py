"""Delivery by the average, its fees and states, and the daily session settlement."""

from fractions import Fraction

import msgspec
import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_events import (
    EstimatedDelivery,
    InstrumentStateChanged,
    RequestCompleted,
    SettlementDone,
)
from mm_daemon.sim.exchange_records import CashKind
from mm_daemon.sim.exchange_types import CancelFilter, CancelReason, OrderState, Pending
from mm_daemon.sim.spec import (
    BUY,
    E8,
    HOUR_US,
    MINUTE_US,
    MS_US,
    NOT_TAKEN,
    SECOND_US,
    SELL,
    InstrumentState,
    OptionType,
    div_half_even,
)
from tests.sim.exchange_setup import (
    CALL,
    EXPIRY,
    FUTURE,
    INDEX,
    MAKER,
    PERP,
    PUT,
    T0,
    TAKER,
    account,
    e8,
    future,
    mark,
    of_type,
    option,
    order,
    placed,
    venue,
)

EIGHT = T0 + 20 * HOUR_US


def held(*, call: float = 2.0) -> Exchange:
    """The maker is long calls from the taker; both have a dated future and its counterpart."""
    exchange = venue(option(), future(FUTURE, expiry_us=EXPIRY), future())
    placed(exchange, TAKER, order(SELL, call, 0.02), T0)
    placed(exchange, MAKER, order(BUY, call, 0.02), T0)
    placed(exchange, TAKER, order(SELL, 60_000, 60_000, instrument=FUTURE), T0)
    placed(exchange, MAKER, order(BUY, 60_000, 60_000, instrument=FUTURE), T0)
    exchange.drain_events()
    return exchange


def moves(exchange: Exchange, account: str, kind: CashKind, instrument: str) -> int:
    return sum(
        move.amount_e8
        for move in exchange.cash_moves(account, None)
        if move.kind is kind and move.instrument == instrument
    )


def test_delivery_is_the_average_of_three_hundred_samples() -> None:
    """The index rises by 1 USD per sample from the window's start: (1 + 300) / 2 above it."""
    exchange = held()
    start = EXPIRY - 30 * MINUTE_US
    for number in range(300):
        exchange.set_index(INDEX, (70_001 + number) * E8, start + number * 6 * SECOND_US + 1)
    exchange.advance(EXPIRY)
    estimates = of_type(exchange.drain_events(), EstimatedDelivery)
    assert len(estimates) == 300
    assert (estimates[0].left_ticks, estimates[0].total_ticks) == (299, 300)
    assert estimates[0].price_e8 == 70_001 * E8
    assert estimates[-1].left_ticks == 0
    assert exchange.delivery_prices(INDEX) == [(EXPIRY, e8(70_150.5))]


def test_in_the_window_the_estimate_weighs_what_is_known() -> None:
    exchange = held()
    exchange.advance(EXPIRY - 15 * MINUTE_US)
    exchange.set_index(INDEX, 80_000 * E8, EXPIRY - 15 * MINUTE_US)
    ticker = exchange.ticker(FUTURE, EXPIRY - 15 * MINUTE_US)
    assert ticker.estimated_delivery_price_e8 == 70_000 * E8
    assert exchange.ticker(PERP, EXPIRY).estimated_delivery_price_e8 == 80_000 * E8


def test_options_pay_intrinsic_less_a_capped_fee_and_vanish() -> None:
    exchange = held()
    exchange.set_index(INDEX, 80_000 * E8, EXPIRY - 31 * MINUTE_US)
    exchange.advance(EXPIRY)
    assert moves(exchange, "maker", CashKind.DELIVERY, CALL) == e8(0.5)
    assert moves(exchange, "taker", CashKind.DELIVERY, CALL) == -e8(0.5)
    for name in ("maker", "taker"):
        assert moves(exchange, name, CashKind.DELIVERY_FEE, CALL) == -e8(0.0003)
        assert exchange.position_e8(name, CALL) == 0
    assert exchange.ticker(CALL, EXPIRY).delivery_price_e8 == 80_000 * E8
    assert exchange.instrument_state(CALL) is InstrumentState.DELIVERED
    assert CALL not in {spec.name for spec in exchange.instruments()}
    assert CALL in {spec.name for spec in exchange.instruments(expired=True)}


def test_an_option_out_of_the_money_pays_nothing_and_no_fee() -> None:
    exchange = held()
    exchange.set_index(INDEX, 50_000 * E8, EXPIRY - 31 * MINUTE_US)
    exchange.advance(EXPIRY)
    for kind in (CashKind.DELIVERY, CashKind.DELIVERY_FEE):
        assert moves(exchange, "maker", kind, CALL) == 0


def test_a_dated_future_pays_in_sessions_and_at_delivery_its_whole_move() -> None:
    """60,000 USD from 60,000 to 80,000: 60,000 (1/60,000 - 1/80,000) = 0.25 BTC in total."""
    exchange = held()
    exchange.set_marks(INDEX, [mark(FUTURE, 70_000)], T0 + HOUR_US)
    exchange.advance(EIGHT)
    first = moves(exchange, "maker", CashKind.SESSION, FUTURE)
    assert first == div_half_even(E8, 7)
    exchange.set_index(INDEX, 80_000 * E8, EXPIRY - 31 * MINUTE_US)
    exchange.advance(EXPIRY)
    rest = moves(exchange, "maker", CashKind.DELIVERY, FUTURE)
    assert abs(first + rest - e8(0.25)) <= 1
    assert moves(exchange, "maker", CashKind.DELIVERY_FEE, FUTURE) == -round(
        Fraction(25, 100_000) * 60_000 * E8 / 80_000
    )


def test_a_future_closed_before_delivery_is_still_paid() -> None:
    exchange = held()
    after = EIGHT + 40 * HOUR_US
    placed(exchange, TAKER, order(BUY, 60_000, 61_000, instrument=FUTURE), after)
    placed(exchange, MAKER, order(SELL, 60_000, 61_000, instrument=FUTURE), after)
    assert exchange.position_e8("maker", FUTURE) == 0
    before = moves(exchange, "maker", CashKind.SESSION, FUTURE)
    exchange.advance(EXPIRY)
    paid = before + moves(exchange, "maker", CashKind.DELIVERY, FUTURE)
    assert (
        abs(paid - round(Fraction(60_000) * (Fraction(1, 60_000) - Fraction(1, 61_000)) * E8)) <= 2
    )


def test_states_go_from_open_over_settlement_to_delivered() -> None:
    exchange = held()
    exchange.advance(EXPIRY)
    states = [
        event.state
        for event in of_type(exchange.drain_events(), InstrumentStateChanged)
        if event.instrument == CALL
    ]
    assert states == [InstrumentState.SETTLEMENT, InstrumentState.DELIVERED]


def test_orders_end_with_reason_settlement() -> None:
    exchange = held()
    resting = placed(exchange, MAKER, order(BUY, 1, 0.01), EXPIRY - 1).order
    exchange.maker_quote("house", CALL, e8(0.005), E8, e8(0.05), E8, EXPIRY - 1)
    exchange.advance(EXPIRY)
    ended = exchange.order_state(MAKER, resting.order_id)
    assert (ended.state, ended.cancel_reason) == (OrderState.CANCELLED, CancelReason.SETTLEMENT)
    assert exchange.best(CALL) == (0, 0, 0, 0)
    assert not exchange.open_orders(MAKER, CancelFilter(), EXPIRY)


def test_an_aggressor_that_waits_over_the_expiry_is_answered() -> None:
    exchange = venue(option(speed_bump_us=5 * MS_US))
    placed(exchange, TAKER, order(SELL, 1, 0.02), T0)
    reply = exchange.place(MAKER, order(BUY, 1, 0.02), EXPIRY - 1)
    assert isinstance(reply, Pending)
    exchange.drain_events()
    exchange.advance(EXPIRY + SECOND_US)
    (done,) = of_type(exchange.drain_events(), RequestCompleted)
    assert done.error is not None
    assert exchange.position_e8("maker", CALL) == 0


def test_a_listing_inside_the_window_averages_what_is_left() -> None:
    config = ExchangeConfig(delivery_window_us=MINUTE_US, delivery_sample_us=SECOND_US)
    expiry = T0 + 30 * SECOND_US
    short = option(expiry_us=expiry)
    exchange = venue(short, config=config)
    exchange.set_index(INDEX, 62_000 * E8, T0 + 15 * SECOND_US + 1)
    exchange.advance(expiry)
    assert exchange.delivery_prices(INDEX) == [(expiry, 61_000 * E8)]


def test_the_average_is_rounded_to_the_cent() -> None:
    config = ExchangeConfig(delivery_window_us=3 * SECOND_US, delivery_sample_us=SECOND_US)
    exchange = venue(config=config)
    exchange.set_index(INDEX, e8(60_000.01), EXPIRY - 1)
    exchange.advance(EXPIRY)
    assert exchange.delivery_prices(INDEX) == [(EXPIRY, e8(60_000.0))]


def test_a_late_delivery_ends_books_at_the_expiry_and_pays_the_same_average_later() -> None:
    """The index moves on after the last sample, and a session ends in between."""
    late_us = 30 * SECOND_US
    exchange = venue(option(), future(), config=ExchangeConfig(delivery_delay_us=late_us))
    placed(exchange, TAKER, order(SELL, 2.0, 0.02), T0)
    placed(exchange, MAKER, order(BUY, 2.0, 0.02), T0)
    exchange.set_index(INDEX, 80_000 * E8, EXPIRY - 31 * MINUTE_US)
    placed(exchange, MAKER, order(BUY, 1, 0.01), EXPIRY - 1)
    exchange.advance(EXPIRY)
    assert exchange.instrument_state(CALL) is InstrumentState.SETTLEMENT
    assert not exchange.open_orders(MAKER, CancelFilter(), EXPIRY)
    exchange.set_index(INDEX, 90_000 * E8, EXPIRY + SECOND_US)
    exchange.advance(EXPIRY + late_us - 1)
    assert exchange.delivery_prices(INDEX) == []
    assert exchange.position_e8("maker", CALL) == e8(2.0)
    assert moves(exchange, "maker", CashKind.DELIVERY, CALL) == 0
    exchange.advance(EXPIRY + late_us)
    assert exchange.delivery_prices(INDEX) == [(EXPIRY, 80_000 * E8)]
    assert exchange.position_e8("maker", CALL) == 0
    assert moves(exchange, "maker", CashKind.DELIVERY, CALL) == e8(0.5)
    assert exchange.instrument_state(CALL) is InstrumentState.DELIVERED
    estimates = of_type(exchange.drain_events(), EstimatedDelivery)
    assert len(estimates) == 300


def test_a_future_delivered_late_is_paid_its_whole_move_once() -> None:
    """The session that ends at the same moment leaves it to the delivery."""
    late_us = 30 * SECOND_US
    paid = []
    for delay_us in (0, late_us):
        config = ExchangeConfig(delivery_delay_us=delay_us)
        exchange = venue(future(FUTURE, expiry_us=EXPIRY), future(), config=config)
        placed(exchange, TAKER, order(SELL, 60_000, 60_000, instrument=FUTURE), T0)
        placed(exchange, MAKER, order(BUY, 60_000, 60_000, instrument=FUTURE), T0)
        exchange.set_index(INDEX, 80_000 * E8, EXPIRY - 31 * MINUTE_US)
        exchange.advance(EXPIRY + late_us)
        kinds = (CashKind.SESSION, CashKind.DELIVERY, CashKind.DELIVERY_FEE)
        paid.append([moves(exchange, "maker", kind, FUTURE) for kind in kinds])
    assert paid[0] == paid[1]


def test_one_event_tells_a_delivery_with_all_its_holders() -> None:
    exchange = held()
    exchange.set_index(INDEX, 80_000 * E8, EXPIRY - 31 * MINUTE_US)
    exchange.advance(EXPIRY)
    done = {
        event.instrument: event
        for event in of_type(exchange.drain_events(), SettlementDone)
        if event.is_delivery
    }
    assert {row.account: row.profit_loss_e8 for row in done[CALL].settlements} == {
        "maker": e8(0.5),
        "taker": -e8(0.5),
    }
    assert exchange.settlements("maker")[0].is_delivery


def test_a_session_pays_futures_and_restarts_their_basis() -> None:
    exchange = held()
    exchange.set_marks(INDEX, [mark(FUTURE, 75_000)], T0)
    before = exchange.account_summary(MAKER, "BTC", T0)
    assert before.futures_session_upl_e8 == e8(0.2)
    exchange.advance(EIGHT)
    after = exchange.account_summary(MAKER, "BTC", EIGHT)
    assert (after.futures_session_upl_e8, after.futures_session_rpl_e8) == (0, 0)
    assert after.balance_e8 == before.balance_e8 + e8(0.2)
    assert after.equity_e8 == before.equity_e8
    view = exchange.position(MAKER, FUTURE, EIGHT)
    assert (view.settlement_price_e8, view.average_price_e8) == (75_000 * E8, 60_000 * E8)


def test_what_rounding_leaves_goes_to_the_venue() -> None:
    """One short of 30 USD against three longs of 10: thrice a rounded third is not the whole."""
    exchange = venue(future())
    exchange.open_account(account("third", 70, quiet=True), T0)
    placed(exchange, TAKER, order(SELL, 30, 60_000, instrument=PERP), T0)
    for name in ("house", "flow", "third"):
        exchange.taker_trade(name, PERP, BUY, 10 * E8, 60_000 * E8, T0)
    before = exchange.total_cash_e8("BTC")
    exchange.set_marks(INDEX, [mark(PERP, 60_013)], T0)
    exchange.advance(EIGHT)
    unit = Fraction(10) * (Fraction(1, 60_000) - Fraction(1, 60_013)) * E8
    assert 3 * round(unit) != round(3 * unit)
    residue = sum(
        move.amount_e8 for move in exchange.cash_ledger() if move.kind is CashKind.ROUNDING
    )
    assert residue == round(3 * unit) - 3 * round(unit)
    assert exchange.total_cash_e8("BTC") == before


def test_books_pause_after_the_session_and_resume() -> None:
    exchange = held()
    exchange.advance(EIGHT)
    resumed = EIGHT + ExchangeConfig().settlement_pause_us
    early = exchange.maker_quote("house", CALL, e8(0.01), E8, e8(0.03), E8, resumed - 1)
    assert early == NOT_TAKEN
    assert exchange.best(CALL)[0] == 0
    exchange.maker_quote("house", CALL, e8(0.01), E8, e8(0.03), E8, resumed)
    assert exchange.best(CALL)[0] == e8(0.01)


@pytest.mark.parametrize("option_type", list(OptionType))
def test_call_and_put_deliver_what_their_names_say(option_type: OptionType) -> None:
    name = CALL if option_type is OptionType.CALL else PUT
    exchange = venue(option(name, option_type=option_type), future())
    placed(exchange, TAKER, order(SELL, 1, 0.02, instrument=name), T0)
    placed(exchange, MAKER, order(BUY, 1, 0.02, instrument=name), T0)
    exchange.set_index(INDEX, 48_000 * E8, EXPIRY - 31 * MINUTE_US)
    exchange.advance(EXPIRY)
    paid = moves(exchange, "maker", CashKind.DELIVERY, name)
    assert paid == (0 if option_type is OptionType.CALL else e8(0.25))


def test_expired_instruments_are_kept_up_to_a_bound() -> None:
    config = ExchangeConfig(expired_kept=1)
    names = [f"BTC-13FEB26-{strike}-C" for strike in (50_000, 60_000)]
    specs = [option(name, number=i) for i, name in enumerate(names)]
    exchange = venue(*specs, config=config)
    exchange.advance(EXPIRY)
    assert [spec.name for spec in exchange.instruments(expired=True)] == names[1:]


def test_a_delivered_name_may_be_listed_again() -> None:
    exchange = venue()
    exchange.advance(EXPIRY)
    spec = msgspec.structs.replace(option(), expiry_us=EXPIRY + 24 * HOUR_US)
    exchange.list_instrument(spec, EXPIRY)
    assert exchange.instrument(CALL).expiry_us == spec.expiry_us
