"""The grid is a full revaluation, and the incremental form agrees with it."""

import math

import numpy as np
import pytest

from mm_daemon.pricing import black76
from mm_daemon.pricing import scenario as sc

STRIKE = np.array([70_000.0, 80_000.0, 90_000.0, 80_000.0])
CALL = np.array([False, True, True, False])
BASE = {
    "forward": np.full(4, 80_000.0),
    "strike": STRIKE,
    "tte_years": np.full(4, 0.1),
    "vol": np.full(4, 0.6),
    "is_call": CALL,
}


def book(quantity: list[float], linear_units: float = 0.0) -> sc.Book:
    return sc.Book(quantity=np.array(quantity), linear_units=linear_units, index=80_000.0, **BASE)


def test_every_cell_is_the_difference_of_two_black_values() -> None:
    quantity = np.array([5.0, -3.0, 10.0, -2.0])
    found = sc.scenario_grid(book(quantity.tolist(), linear_units=1.5))
    base = black76.price(80_000.0, STRIKE, 0.1, 0.6, CALL)
    for i, spot in enumerate(found.spot_shocks):
        for j, vol in enumerate(found.vol_shocks):
            shocked = black76.price(80_000.0 * (1 + spot), STRIKE, 0.1, 0.6 * (1 + vol), CALL)
            expected = float((quantity * (shocked - base)).sum()) + 1.5 * 80_000.0 * spot
            assert found.pnl_usd[i, j] == pytest.approx(expected, abs=1e-6)
    assert found.worst_usd == found.pnl_usd.min()


def test_no_shock_is_no_loss_and_the_worst_is_never_a_gain() -> None:
    found = sc.scenario_grid(book([1.0, 1.0, 1.0, 1.0]))
    assert found.pnl_usd[sc.SPOT_SHOCKS.index(0.0), sc.VOL_SHOCKS.index(0.0)] == 0.0
    assert found.worst_usd <= 0.0
    assert sc.scenario_grid(book([0.0] * 4)).worst_usd == 0.0


def test_the_grid_holds_every_shock_of_the_stress_rule() -> None:
    for size in (0.05, 0.10, 0.20, 0.30):
        assert size in sc.SPOT_SHOCKS
        assert -size in sc.SPOT_SHOCKS
    for size in (0.20, 0.50):
        assert size in sc.VOL_SHOCKS
        assert -size in sc.VOL_SHOCKS


def test_a_short_put_is_worst_in_a_crash_with_vol_up() -> None:
    found = sc.scenario_grid(book([-10.0, 0.0, 0.0, 0.0]))
    assert (found.worst_spot_shock, found.worst_vol_shock) == (-0.30, 0.50)
    assert found.worst_usd < -10.0 * 14_000.0


def test_a_perpetual_alone_is_linear() -> None:
    found = sc.scenario_grid(book([0.0] * 4, linear_units=2.0))
    assert found.worst_usd == pytest.approx(-0.3 * 160_000.0)


def test_a_trade_on_top_of_a_book_is_the_book_with_the_trade() -> None:
    units = sc.unit_pnl(**BASE)
    quantity = np.array([5.0, -3.0, 10.0, -2.0])
    columns = sc.shocks_by_column(sc.SPOT_SHOCKS, sc.VOL_SHOCKS)
    pnl = np.empty(units.shape[1])
    sc.book_pnl_into(units, quantity, 0.0, columns, pnl)
    after = quantity + np.array([0.0, -4.0, 0.0, 0.0])
    assert sc.worst_after_trade(pnl, units, 1, -4.0) == pytest.approx(
        sc.scenario_grid(book(after.tolist())).worst_usd
    )


def test_an_option_without_a_value_is_harmless_unheld_and_unknown_when_held() -> None:
    blind = {**BASE, "vol": np.array([0.6, math.nan, 0.6, 0.6])}
    for quantity, known in ((0.0, True), (1.0, False)):
        held = sc.Book(
            quantity=np.array([1.0, quantity, 0.0, 0.0]), linear_units=0.0, index=1.0, **blind
        )
        assert math.isfinite(sc.scenario_grid(held).worst_usd) is known
    units = sc.unit_pnl(**blind)
    assert math.isnan(sc.worst_after_trade(np.zeros(units.shape[1]), units, 1, 1.0))


def test_a_shock_below_minus_one_is_refused() -> None:
    with pytest.raises(AssertionError, match="spot shocks"):
        sc.unit_pnl(**BASE, spot_shocks=(-1.0,))
