"""Perpetual funding: the rate's dead zone, continuous accrual, payment with the session."""

from fractions import Fraction

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_events import FundingChanged
from mm_daemon.sim.exchange_records import CashKind
from mm_daemon.sim.settlement_funding import funding_rate_e18
from mm_daemon.sim.spec import BUY, E8, HOUR_US, SELL
from tests.sim.exchange_setup import (
    INDEX,
    LINEAR_PERP,
    MAKER,
    PERP,
    T0,
    TAKER,
    e8,
    future,
    mark,
    of_type,
    order,
    placed,
    venue,
)


@pytest.mark.parametrize(
    ("premium_bps", "rate_bps"),
    [(0.0, 0.0), (2.5, 0.0), (-2.5, 0.0), (10.0, 7.5), (-10.0, -7.5)],
)
def test_the_rate_has_a_dead_zone_of_two_and_a_half_bps(
    premium_bps: float, rate_bps: float
) -> None:
    mark_e8 = round(10_000 * E8 * (1 + premium_bps / 10_000))
    assert funding_rate_e18(mark_e8, 10_000 * E8) == round(rate_bps * 1e14)


def long_perpetual(mark_price: float) -> Exchange:
    """The maker is long and the taker short 600,000 USD at 60,000; index 60,000."""
    exchange = venue(future(), future(LINEAR_PERP, is_inverse=False))
    placed(exchange, TAKER, order(SELL, 600_000, 60_000, instrument=PERP), T0)
    placed(exchange, MAKER, order(BUY, 600_000, 60_000, instrument=PERP), T0)
    exchange.set_marks(INDEX, [mark(PERP, mark_price)], T0)
    return exchange


def test_a_long_pays_the_premium_per_eight_hours_pro_rata() -> None:
    """Premium 10 bp, rate 7.5 bp per 8 h on 10 BTC: 0.0075 BTC in 8 h, half of it in four."""
    exchange = long_perpetual(60_060)
    for hours, paid in ((4, 0.00375), (8, 0.0075)):
        now = T0 + hours * HOUR_US
        assert exchange.account_summary(MAKER, "BTC", now).session_funding_e8 == -e8(paid)
        assert exchange.account_summary(TAKER, "BTC", now).session_funding_e8 == e8(paid)


def test_funding_accrues_at_the_rate_of_its_time() -> None:
    exchange = long_perpetual(60_060)
    exchange.set_marks(INDEX, [mark(PERP, 59_940)], T0 + 2 * HOUR_US)
    summary = exchange.account_summary(MAKER, "BTC", T0 + 3 * HOUR_US)
    assert summary.session_funding_e8 == -e8(0.0075 / 8)


def test_the_index_of_each_moment_converts_to_coin() -> None:
    exchange = long_perpetual(60_060)
    exchange.set_index(INDEX, 30_000 * E8, T0 + HOUR_US)
    exchange.set_marks(INDEX, [mark(PERP, 30_030)], T0 + HOUR_US)
    rate = Fraction(75, 100_000) / 8
    expected = rate * 600_000 / 60_000 + rate * 600_000 / 30_000
    summary = exchange.account_summary(MAKER, "BTC", T0 + 2 * HOUR_US)
    assert summary.session_funding_e8 == -round(expected * E8)


def test_a_position_pays_only_while_it_is_held() -> None:
    exchange = long_perpetual(60_060)
    placed(exchange, TAKER, order(BUY, 600_000, 60_000, instrument=PERP), T0 + 4 * HOUR_US)
    placed(exchange, MAKER, order(SELL, 600_000, 60_000, instrument=PERP), T0 + 4 * HOUR_US)
    summary = exchange.account_summary(MAKER, "BTC", T0 + 8 * HOUR_US)
    assert summary.session_funding_e8 == -e8(0.00375)


def test_funding_is_paid_with_the_session() -> None:
    exchange = long_perpetual(60_060)
    exchange.set_index(INDEX, 60_000 * E8, T0 + 8 * HOUR_US)
    exchange.set_marks(INDEX, [mark(PERP, 60_000)], T0 + 8 * HOUR_US)
    exchange.advance(T0 + 20 * HOUR_US)
    paid = [m.amount_e8 for m in exchange.cash_moves("maker", "BTC") if m.kind is CashKind.SESSION]
    assert paid == [-e8(0.0075)]
    assert exchange.settlements("maker")[0].funding_e8 == -e8(0.0075)


def test_a_position_states_the_funding_of_its_session_which_restarts_at_eight() -> None:
    exchange = long_perpetual(60_060)
    at_ten = T0 + 22 * HOUR_US
    assert exchange.position(MAKER, PERP, T0 + 8 * HOUR_US).realized_funding_e8 == -e8(0.0075)
    view = exchange.position(MAKER, PERP, at_ten)
    assert view.realized_funding_e8 == -e8(0.001875), "two hours of 0.0075 in eight"
    summary = exchange.account_summary(MAKER, "BTC", at_ten)
    assert view.realized_funding_e8 == summary.session_funding_e8


def test_a_linear_perpetual_pays_dollars() -> None:
    exchange = long_perpetual(60_000)
    placed(exchange, TAKER, order(SELL, 2, 60_000, instrument=LINEAR_PERP), T0)
    placed(exchange, MAKER, order(BUY, 2, 60_000, instrument=LINEAR_PERP), T0)
    exchange.set_marks("btc_usdc", [mark(LINEAR_PERP, 60_060)], T0)
    summary = exchange.account_summary(MAKER, "USDC", T0 + 8 * HOUR_US)
    assert summary.session_funding_e8 == -90 * E8


def test_the_ticker_and_the_feed_tell_the_rate() -> None:
    exchange = long_perpetual(60_060)
    (change,) = of_type(exchange.drain_events(), FundingChanged)
    assert change.interest == pytest.approx(0.00075, rel=1e-12)
    exchange.set_index(INDEX, 60_000 * E8, T0 + 4 * HOUR_US)
    ticker = exchange.ticker(PERP, T0 + 4 * HOUR_US)
    assert ticker.current_funding == pytest.approx(0.00075, rel=1e-12)
    assert ticker.funding_8h == pytest.approx(0.000375, rel=1e-9)
