"""Margin: the scenario grid, the standard rules, reserves, and incremental upkeep."""

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import MarginConfig
from mm_daemon.sim.exchange_types import Caller, CancelFilter, MarginModel
from mm_daemon.sim.spec import BUY, E8, SECOND_US, SELL
from tests.sim.exchange_setup import (
    CALL,
    INDEX,
    MAKER,
    PERP,
    T0,
    TAKER,
    account,
    e8,
    mark,
    order,
    placed,
    protect,
    venue,
)

STANDARD = Caller("standard", 6)
REFRESH_US = MarginConfig().refresh_us


def with_standard() -> Exchange:
    exchange = venue()
    exchange.open_account(account("standard", 50, margin_model=MarginModel.STANDARD), T0)
    exchange.maker_quote("house", CALL, e8(0.02), e8(100), e8(0.021), e8(100), T0)
    exchange.maker_quote(
        "house", PERP, 59_999 * E8, 10_000_000 * E8, 60_001 * E8, 10_000_000 * E8, T0
    )
    return exchange


def initial(exchange: Exchange, caller: Caller, now_us: int = T0) -> float:
    return exchange.account_summary(caller, "BTC", now_us).initial_margin_e8 / E8


def test_a_standard_short_call_at_the_money_needs_fifteen_percent_and_its_mark() -> None:
    exchange = with_standard()
    placed(exchange, STANDARD, order(SELL, 2, 0.02), T0)
    assert initial(exchange, STANDARD) == pytest.approx(2 * (0.15 + 0.02), abs=1e-8)
    summary = exchange.account_summary(STANDARD, "BTC", T0)
    assert summary.maintenance_margin_e8 == e8(2 * (0.075 + 0.02))


def test_a_standard_future_needs_two_percent() -> None:
    exchange = with_standard()
    placed(exchange, STANDARD, order(SELL, 60_000, 59_999, instrument=PERP), T0)
    assert initial(exchange, STANDARD) == pytest.approx(0.02, abs=1e-8)


def test_bought_options_are_no_collateral_under_standard_margin() -> None:
    exchange = with_standard()
    placed(exchange, STANDARD, order(BUY, 10, 0.021), T0)
    summary = exchange.account_summary(STANDARD, "BTC", T0)
    assert summary.initial_margin_e8 == 0
    assert summary.margin_balance_e8 == summary.balance_e8
    assert summary.equity_e8 == summary.balance_e8 + e8(0.2)


def test_portfolio_margin_is_the_worst_shock_times_a_factor() -> None:
    """Long 600,000 USD: the worst shock is -15 %: 10 coins (1/0.85 - 1) = 1.7647 coins."""
    exchange = with_standard()
    placed(exchange, MAKER, order(BUY, 600_000, 60_001, instrument=PERP), T0)
    loss = 10 * (1 / 0.85 - 1)
    summary = exchange.account_summary(MAKER, "BTC", T0)
    assert summary.maintenance_margin_e8 / E8 == pytest.approx(loss, rel=1e-7)
    assert summary.initial_margin_e8 / E8 == pytest.approx(1.2 * loss, rel=1e-7)


def test_a_hedge_lowers_portfolio_margin() -> None:
    exchange = with_standard()
    placed(exchange, MAKER, order(SELL, 20, 0.02), T0)
    naked = initial(exchange, MAKER)
    placed(exchange, MAKER, order(BUY, 600_000, 60_001, instrument=PERP), T0)
    assert initial(exchange, MAKER) < 0.8 * naked


def test_incremental_scenarios_equal_a_full_recalculation() -> None:
    """What fills added one by one is what a refresh at the same marks computes anew."""
    exchange = with_standard()
    initial(exchange, MAKER)
    for sign, amount in ((SELL, 3.0), (SELL, 4.0), (BUY, 9.0), (SELL, 5.0)):
        placed(exchange, MAKER, order(sign, amount, 0.021 if sign > 0 else 0.02), T0)
    placed(exchange, MAKER, order(BUY, 120_000, 60_001, instrument=PERP), T0)
    upkept = exchange.account_summary(MAKER, "BTC", T0)
    fresh = exchange.account_summary(MAKER, "BTC", T0 + REFRESH_US)
    assert upkept.maintenance_margin_e8 / E8 == pytest.approx(
        fresh.maintenance_margin_e8 / E8, rel=1e-4
    )


def test_orders_outside_groups_hold_margin_until_they_end() -> None:
    exchange = with_standard()
    placed(exchange, STANDARD, order(SELL, 1, 0.03), T0)
    assert initial(exchange, STANDARD) == pytest.approx(0.17, abs=1e-8)
    exchange.cancel_matching(STANDARD, CancelFilter(), T0)
    assert initial(exchange, STANDARD) == 0.0


def test_a_group_reserves_three_percent_of_max_quote_quantity() -> None:
    exchange = with_standard()
    protect(exchange, max_quote_quantity_e8=200 * E8)
    assert initial(exchange, MAKER) == pytest.approx(6.0, abs=1e-8)
    placed_quotes = exchange.open_orders(MAKER, CancelFilter(), T0)
    assert placed_quotes == []


def test_the_grid_follows_the_marks_at_its_pace() -> None:
    exchange = with_standard()
    placed(exchange, MAKER, order(SELL, 20, 0.02), T0)
    before = initial(exchange, MAKER)
    exchange.set_marks(INDEX, [mark(CALL, 0.02, iv_pct=200.0)], T0 + SECOND_US)
    assert initial(exchange, MAKER, T0 + SECOND_US) == before
    assert initial(exchange, MAKER, T0 + REFRESH_US) > 1.1 * before


def test_available_is_margin_balance_less_initial() -> None:
    exchange = with_standard()
    placed(exchange, TAKER, order(SELL, 5, 0.02), T0)
    summary = exchange.account_summary(TAKER, "BTC", T0)
    assert summary.available_funds_e8 == summary.margin_balance_e8 - summary.initial_margin_e8
