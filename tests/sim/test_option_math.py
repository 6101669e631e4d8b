"""The world's own Black-76 in coin: limits, inversion, and the venue's greeks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.option_math import VOL_MAX, implied_vol, price_coin, published_greeks


@settings(max_examples=200)
@given(
    moneyness=st.floats(-2.5, 2.5),
    vol=st.floats(0.05, 3.0),
    days=st.floats(0.05, 400.0),
    is_call=st.booleans(),
)
def test_inversion_returns_the_volatility_that_priced(
    moneyness: float, vol: float, days: float, is_call: bool
) -> None:
    tte = days / 365.0
    sd = vol * math.sqrt(tte)
    strike = 50_000.0 * math.exp(moneyness * sd)
    price = price_coin(50_000.0, strike, tte, vol, is_call)
    intrinsic = max((50_000.0 - strike) if is_call else (strike - 50_000.0), 0.0) / 50_000.0
    if price - intrinsic < 1e-7:
        return
    assert implied_vol(price, 50_000.0, strike, tte, is_call) == pytest.approx(vol, abs=1e-6)


@given(strike=st.floats(20_000.0, 150_000.0), vol=st.floats(0.1, 2.0), days=st.floats(0.1, 300.0))
def test_call_less_put_is_the_forward_less_the_strike(
    strike: float, vol: float, days: float
) -> None:
    call = price_coin(60_000.0, strike, days / 365.0, vol, True)
    put = price_coin(60_000.0, strike, days / 365.0, vol, False)
    assert call - put == pytest.approx((60_000.0 - strike) / 60_000.0, abs=1e-12)


def test_prices_without_volatility_have_no_implied_one_and_huge_ones_are_capped() -> None:
    assert math.isnan(implied_vol(0.0, 100.0, 110.0, 0.1, True))
    assert math.isnan(implied_vol(0.05, 100.0, 90.0, 0.1, True))
    assert implied_vol(0.999, 100.0, 110.0, 0.1, True) == VOL_MAX


def test_published_greeks_are_finite_differences_of_the_price() -> None:
    forward, strike, tte, vol = 60_000.0, 62_000.0, 0.1, 0.55
    price = price_coin(forward, strike, tte, vol, True)
    delta, gamma, vega, theta, rho = published_greeks(forward, strike, tte, vol, True, price)

    def usd(f: float, v: float) -> float:
        return price_coin(f, strike, tte, v, True) * f

    step = 1.0
    up, mid, down = usd(forward + step, vol), usd(forward, vol), usd(forward - step, vol)
    assert delta == pytest.approx((up - down) / (2.0 * step), abs=1e-6)
    assert gamma == pytest.approx((up - 2.0 * mid + down) / step**2, rel=1e-3)
    assert vega == pytest.approx((usd(forward, vol + 1e-4) - mid) / 1e-2, rel=1e-3)
    day = 1.0 / 365.0
    next_day = price_coin(forward, strike, tte - day, vol, True) * forward
    assert theta == pytest.approx(next_day - mid, rel=0.02)
    assert rho > 0.0


def test_published_theta_never_exceeds_the_mark_or_the_day_that_is_left() -> None:
    price = price_coin(60_000.0, 66_000.0, 0.3 / 365.0, 0.6, True)
    theta = published_greeks(60_000.0, 66_000.0, 0.3 / 365.0, 0.6, True, price)[3]
    assert -theta <= price * 60_000.0
