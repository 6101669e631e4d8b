"""Implied volatility inverts the price, and says NaN where nothing can be inverted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.pricing import black76
from mm_daemon.pricing.implied_vol import implied_vol


@given(
    st.floats(0.01, 200_000.0),
    st.floats(0.1, 10.0),
    st.floats(1e-4, 3.0),
    st.floats(0.02, 5.0),
    st.booleans(),
)
def test_round_trip_as_far_as_the_price_determines_the_vol(
    f: float, ratio: float, t: float, v: float, is_call: bool
) -> None:
    k = f * ratio
    greeks = black76.greeks(f, k, t, v, is_call)
    price, vega = float(greeks.price), float(greeks.vega)
    time_value = price - max(f - k if is_call else k - f, 0.0)
    if not (time_value > 1e-290 and price < (f if is_call else k)):
        return
    # One ulp of the price, over vega, is what the price does not know about the vol.
    unknown = 8.0 * (np.spacing(price) + np.spacing(f) * (time_value < price)) / vega
    if unknown > 0.5 * v:
        return
    assert float(implied_vol(price, f, k, t, is_call)) == pytest.approx(v, abs=1e-9 + unknown)


def test_round_trip_over_a_chain_is_1e_9() -> None:
    strike = np.linspace(20_000.0, 250_000.0, 400)
    is_call = strike >= 80_000.0
    for t in (1.0 / 365.0, 7.0 / 365.0, 0.25, 1.0):
        for vol in (0.3, 0.6, 1.5):
            price = black76.price(80_000.0, strike, t, vol, is_call)
            seen = price > 1e-200
            found = implied_vol(price, 80_000.0, strike, t, is_call)
            assert np.abs(found[seen] - vol).max() < 1e-9


@pytest.mark.parametrize(
    ("price", "is_call"),
    [
        (0.0, True),
        (-1.0, True),
        (math.nan, True),
        (math.inf, True),
        (20.0, True),
        (19.99, True),
        (120.0, True),
        (121.0, True),
        (100.0, False),
    ],
)
def test_nan_at_or_outside_the_no_arbitrage_bounds(price: float, is_call: bool) -> None:
    """Forward 120, strike 100: a call is worth between 20 and 120, a put between 0 and 100."""
    assert math.isnan(float(implied_vol(price, 120.0, 100.0, 0.5, is_call)))


@pytest.mark.parametrize(
    ("f", "k", "t"),
    [(0.0, 100.0, 1.0), (100.0, -1.0, 1.0), (100.0, 100.0, 0.0), (math.nan, 1.0, 1.0)],
)
def test_nan_on_inputs_that_are_no_market(f: float, k: float, t: float) -> None:
    assert math.isnan(float(implied_vol(5.0, f, k, t, True)))


def test_at_the_money_and_near_the_ceiling() -> None:
    assert float(implied_vol(black76.price(100, 100, 1, 0.5, True), 100, 100, 1, True)) == (
        pytest.approx(0.5, abs=1e-14)
    )
    # Four parts in a million below the ceiling, vol of 9.2: vega is small and the root still exact.
    price = black76.price(100, 130, 1, 9.2, True)
    assert float(implied_vol(price, 100, 130, 1, True)) == pytest.approx(9.2, abs=1e-8)


@given(st.floats(0.3, 3.0), st.floats(0.05, 3.0), st.floats(1.0001, 1.5))
def test_vol_rises_with_price(ratio: float, v: float, factor: float) -> None:
    price = float(black76.price(100.0, 100.0 * ratio, 0.3, v, ratio >= 1.0))
    ceiling = 100.0 * min(ratio, 1.0)
    if price < 1e-200 or price * factor >= ceiling * 0.999:
        return
    low, high = implied_vol([price, price * factor], 100.0, 100.0 * ratio, 0.3, ratio >= 1.0)
    assert high > low


def test_arguments_broadcast() -> None:
    found = implied_vol(5.0, 100.0, [[95.0], [105.0]], [0.1, 0.2, 0.3], [[False], [True]])
    assert found.shape == (2, 3)
    assert np.isfinite(found).all()
