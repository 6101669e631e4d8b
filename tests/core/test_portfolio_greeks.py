"""One lot's risk in the units of the limits, and the book's by expiry and in total."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.core.portfolio_greeks import (
    LOT_DELTA,
    LOT_DELTA_ADJUSTED,
    LOT_GAMMA_USD,
    LOT_NOTIONAL_USD,
    LOT_ROWS,
    LOT_THETA_USD,
    LOT_VALUE_USD,
    LOT_VEGA_USD,
    buckets_of,
    is_short_dated,
    lot_greeks,
    portfolio_greeks,
)
from mm_daemon.domain.units import NS_PER_S, Ns
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    EXPIRY_FAR,
    EXPIRY_NEAR,
    FUTURE,
    LINEAR_PERPETUAL,
    PERPETUAL,
    PUT,
    T0,
    small_catalog,
)

CATALOG = small_catalog()
SIZE = len(CATALOG)


def rows(now_ns: Ns = T0, *, without: int = -1) -> np.ndarray:
    """Lot greeks of a board where every option is alike, less the theo of one instrument."""
    board = np.zeros((8, SIZE))
    board[7] = 60_000.0
    for i in range(SIZE):
        if CATALOG.is_option[i]:
            board[:7, i] = 0.05, 3_000.0, 0.5, 0.45, 5e-5, 6_000.0, -36_500.0
        else:
            unit = 1.0 / 60_000.0 if CATALOG.is_inverse[i] else 1.0
            board[:4, i] = 60_000.0, 60_000.0, unit, unit
    if without >= 0:
        board[:, without] = math.nan
    out = np.full((LOT_ROWS, SIZE), np.nan)
    lot_greeks(CATALOG, board, now_ns, out)
    return out


def test_a_lot_of_an_option_is_a_tenth_of_a_coin() -> None:
    lot = rows()[:, CALL]
    assert lot[LOT_DELTA] == pytest.approx(0.05)
    assert lot[LOT_DELTA_ADJUSTED] == pytest.approx(0.045)
    # 5e-5 a USD times 600 USD is 0.03 coin of delta: 1,800 USD a coin, 180 a lot.
    assert lot[LOT_GAMMA_USD] == pytest.approx(180.0)
    assert lot[LOT_VEGA_USD] == pytest.approx(6.0)
    assert lot[LOT_THETA_USD] == pytest.approx(-10.0)
    assert lot[LOT_VALUE_USD] == pytest.approx(300.0)
    assert lot[LOT_NOTIONAL_USD] == pytest.approx(6_000.0)


def test_a_lot_of_a_future_is_its_own_amount() -> None:
    inverse, linear = rows()[:, PERPETUAL], rows()[:, LINEAR_PERPETUAL]
    assert inverse[LOT_DELTA] == pytest.approx(10.0 / 60_000.0)
    assert inverse[LOT_VALUE_USD] == inverse[LOT_NOTIONAL_USD] == 10.0
    assert linear[LOT_DELTA] == pytest.approx(0.01)
    assert linear[LOT_NOTIONAL_USD] == pytest.approx(600.0)
    assert inverse[LOT_GAMMA_USD] == inverse[LOT_VEGA_USD] == 0.0


def test_a_book_sums_by_expiry_with_its_dated_future_and_apart_the_perpetual() -> None:
    buckets = buckets_of(CATALOG, "BTC")
    assert buckets.expiries_ns == (EXPIRY_NEAR, EXPIRY_FAR)
    lots = np.zeros(SIZE, dtype=np.int64)
    lots[[CALL, PUT, CALL_FAR, FUTURE, PERPETUAL]] = 10, -4, 2, -600, 3_000
    totals = portfolio_greeks(buckets, rows(), lots)
    assert totals.delta_by_expiry.tolist() == pytest.approx([6 * 0.045, 2 * 0.045 - 0.1])
    assert totals.delta_perpetual == pytest.approx(0.5)
    assert totals.delta_adjusted == pytest.approx(8 * 0.045 - 0.1 + 0.5)
    assert totals.delta == pytest.approx(8 * 0.05 + 0.4)
    assert totals.vega_by_expiry.tolist() == pytest.approx([36.0, 12.0])
    assert totals.gamma_usd == pytest.approx(8 * 180.0)
    assert totals.theta_usd == pytest.approx(-80.0)


def test_what_is_held_without_greeks_makes_the_total_unknown_and_what_is_not_does_not() -> None:
    board = rows()
    board[:, PUT] = math.nan
    lots = np.zeros(SIZE, dtype=np.int64)
    lots[CALL] = 1
    buckets = buckets_of(CATALOG, "BTC")
    assert portfolio_greeks(buckets, board, lots).delta == pytest.approx(0.05)
    lots[PUT] = 1
    assert math.isnan(portfolio_greeks(buckets, board, lots).delta)


def test_what_has_ended_counts_nothing_though_nobody_has_said_its_delivery_price() -> None:
    """An option without any theo left, beside a live option, a dated future and a perpetual."""
    lots = np.zeros(SIZE, dtype=np.int64)
    lots[[PUT, FUTURE, CALL_FAR, PERPETUAL]] = 25, -600, 2, 3_000
    buckets = buckets_of(CATALOG, "BTC")
    before = portfolio_greeks(buckets, rows(Ns(EXPIRY_NEAR - 1), without=PUT), lots)
    assert math.isnan(before.delta_adjusted)
    totals = portfolio_greeks(buckets, rows(Ns(EXPIRY_NEAR), without=PUT), lots)
    assert totals.delta_adjusted == pytest.approx(2 * 0.045 - 0.1 + 0.5)
    assert totals.delta_by_expiry.tolist() == pytest.approx([0.0, 2 * 0.045 - 0.1])
    assert totals.gamma_usd == pytest.approx(2 * 180.0)
    assert math.isfinite(totals.delta + totals.vega_usd + totals.theta_usd)
    over = portfolio_greeks(buckets, rows(Ns(EXPIRY_FAR), without=PUT), lots)
    assert over.delta_adjusted == pytest.approx(0.5)


def test_a_live_instrument_without_greeks_is_unknown_beside_one_that_has_ended() -> None:
    lots = np.zeros(SIZE, dtype=np.int64)
    lots[[PUT, CALL_FAR]] = 1, 1
    totals = portfolio_greeks(
        buckets_of(CATALOG, "BTC"), rows(Ns(EXPIRY_NEAR), without=CALL_FAR), lots
    )
    assert math.isnan(totals.delta_adjusted)


def test_short_dated_is_within_a_day_of_expiry_and_not_after_it() -> None:
    day = 86_400 * NS_PER_S
    assert is_short_dated(T0 + day - 1, T0)
    assert not is_short_dated(T0 + day, T0)
    assert not is_short_dated(T0, T0)
