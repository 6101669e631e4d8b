"""One valuation for both kinds of option: units, deltas by differences, settlement day, P&L."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.pricing import black76
from mm_daemon.pricing import valuation as val

STRIKES = np.array([60_000.0, 80_000.0, 100_000.0, 60_000.0, 80_000.0, 100_000.0])
CALLS = np.array([True, True, True, False, False, False])
WINDOW_YEARS = 30.0 / (365 * 24 * 60)


def value(
    *,
    forward: float = 80_000.0,
    tte_years: float = 0.1,
    vol: float = 0.6,
    inverse: bool = True,
    average: float = 0.0,
    fixed: float = 0.0,
) -> val.Valuation:
    n = STRIKES.size
    return val.value_options(
        forward=np.full(n, forward),
        strike=STRIKES,
        tte_years=np.full(n, tte_years),
        vol=np.full(n, vol),
        is_call=CALLS,
        is_inverse=np.full(n, inverse),
        average_usd=np.full(n, average),
        fixed_share=np.full(n, fixed),
    )


def test_an_inverse_premium_is_the_black_value_over_the_forward() -> None:
    black = black76.greeks(80_000.0, STRIKES, 0.1, 0.6, CALLS)
    inverse, linear = value(), value(inverse=False)
    assert inverse.premium == pytest.approx(black.price / 80_000.0, rel=1e-15)
    assert linear.premium.tolist() == black.price.tolist()
    assert inverse.value_usd.tolist() == linear.value_usd.tolist() == black.price.tolist()
    for name in ("delta", "gamma", "vega", "theta"):
        assert getattr(inverse, name).tolist() == getattr(black, name).tolist()


def test_adjusted_delta_is_the_sensitivity_of_the_coin_premium() -> None:
    """d(premium in coin) / d(ln F) = delta - premium, the coin to sell for a USD-neutral book."""
    h = 1e-5
    up, down = value(forward=80_000.0 * (1 + h)), value(forward=80_000.0 * (1 - h))
    assert value().delta_adjusted == pytest.approx(
        (up.premium - down.premium) / (2.0 * h), abs=1e-8
    )
    assert value(inverse=False).delta_adjusted.tolist() == value(inverse=False).delta.tolist()


def test_conventions_differ_by_the_premium() -> None:
    """About 0.077 for an at-the-money 50-day option at 52 vol, as desks know it."""
    found = value(tte_years=50.0 / 365.0, vol=0.52)
    gap = found.delta - found.delta_adjusted
    assert gap == pytest.approx(found.premium)
    assert gap[1] == pytest.approx(0.077, abs=0.001)


def test_inside_the_window_risk_shrinks_with_the_open_share() -> None:
    """60 % of the average is fixed at 79,000: the rest of it is all that moves."""
    tte = 0.4 * WINDOW_YEARS
    found = value(tte_years=tte, average=79_000.0, fixed=0.6)
    h = 1e-6
    bumped = [
        value(forward=80_000.0 * (1 + step), tte_years=tte, average=79_000.0, fixed=0.6)
        for step in (h, -h)
    ]
    slope = (bumped[0].value_usd - bumped[1].value_usd) / (2 * h * 80_000.0)
    assert found.delta == pytest.approx(slope, abs=1e-6)
    settled = 0.6 * 79_000.0 + 0.4 * 80_000.0
    expected = black76.greeks(settled, STRIKES, tte, 0.6, CALLS)
    assert found.value_usd == pytest.approx(expected.price)
    assert found.gamma == pytest.approx(0.16 * expected.gamma)


def test_a_fixed_average_is_the_payoff_with_no_risk() -> None:
    found = value(tte_years=0.0, average=90_000.0, fixed=1.0, forward=50_000.0)
    payoff = [
        val.settlement_payoff(90_000.0, float(k), bool(c), True)
        for k, c in zip(STRIKES, CALLS, strict=True)
    ]
    assert found.premium == pytest.approx(payoff, abs=1e-15)
    assert (found.delta == 0.0).all()
    assert (found.gamma == 0.0).all()


@pytest.mark.parametrize("fixed", [-0.1, 1.1, math.nan])
def test_an_impossible_share_has_no_value(fixed: float) -> None:
    assert np.isnan(value(fixed=fixed, average=80_000.0).premium).all()


def test_averaging_takes_twenty_minutes_and_is_continuous_at_the_window() -> None:
    minute = 1.0 / (365 * 24 * 60)
    assert val.averaging_variance_years(1440 * minute) == pytest.approx(1420 * minute)
    assert val.averaging_variance_years(30 * minute) == pytest.approx(10 * minute)
    assert val.averaging_variance_years(29.999999 * minute) == pytest.approx(10 * minute, rel=1e-6)
    assert val.averaging_variance_years(0.0) == 0.0
    assert val.averaging_variance_years(-1.0) == 0.0


@pytest.mark.parametrize(("hours", "points"), [(24.0, 0.4), (12.0, 0.85)])
def test_ignoring_the_average_costs_what_desks_say(hours: float, points: float) -> None:
    """A 60-vol spot shows as a lower vol on the venue's clock: .4 points at 24 h, .85 at 12 h."""
    t = hours / (365 * 24)
    shown = 60.0 * math.sqrt(val.averaging_variance_years(t) / t)
    assert 60.0 - shown == pytest.approx(points, abs=0.03)


def test_averaging_variance_equals_that_of_a_simulated_average() -> None:
    """300 samples six seconds apart, as the venue takes them, against T less twenty minutes."""
    step = 6.0 / (365 * 24 * 3600)
    start = 2 * 3600.0 / (365 * 24 * 3600)
    before = start - 300 * step
    # Var(mean of B at t_1..t_n), exactly: sum of min(t_i, t_j) / n^2.
    moments = before + step * np.arange(1, 301)
    exact = np.minimum.outer(moments, moments).mean()
    assert val.averaging_variance_years(start) == pytest.approx(exact, rel=1e-3)


@given(
    st.floats(1e-4, 0.5),
    st.floats(1e-4, 0.5),
    st.integers(-2_000, 2_000),
)
def test_option_pnl_equals_decimal_arithmetic_to_1e_8(
    entry: float, exit_: float, lots: int
) -> None:
    getcontext().prec = 40
    exact = (Decimal(exit_) - Decimal(entry)) * Decimal(lots) / 10
    found = val.option_pnl(entry_premium=entry, exit_premium=exit_, amount=lots / 10)
    assert found == pytest.approx(float(exact), abs=1e-10)


@given(st.floats(1_000.0, 2e5), st.floats(1_000.0, 2e5), st.integers(-100_000, 100_000))
def test_inverse_future_pnl_equals_decimal_arithmetic_to_1e_8(
    entry: float, exit_: float, contracts: int
) -> None:
    getcontext().prec = 40
    amount = Decimal(contracts) * 10
    exact = amount / Decimal(entry) - amount / Decimal(exit_)
    found = val.future_pnl_coin(entry_usd=entry, exit_usd=exit_, amount_usd=float(amount))
    assert found == pytest.approx(float(exact), abs=1e-8)


def test_linear_future_pnl_and_payoffs() -> None:
    assert val.future_pnl_usd(entry_usd=100.0, exit_usd=110.0, amount=-3.0) == -30.0
    assert val.settlement_payoff(80_000.0, 60_000.0, True, True) == 0.25
    assert val.settlement_payoff(80_000.0, 60_000.0, False, True) == 0.0
    assert val.settlement_payoff(40_000.0, 60_000.0, False, True) == 0.5
    assert val.settlement_payoff(80_000.0, 60_000.0, True, False) == 20_000.0
    with pytest.raises(AssertionError, match="delivery price"):
        val.settlement_payoff(0.0, 60_000.0, True, True)


def test_an_inverse_put_may_be_worth_more_than_a_coin() -> None:
    n = 1
    found = val.value_options(
        forward=np.full(n, 30_000.0),
        strike=np.full(n, 90_000.0),
        tte_years=np.full(n, 0.1),
        vol=np.full(n, 0.8),
        is_call=np.zeros(n, dtype=np.bool_),
        is_inverse=np.ones(n, dtype=np.bool_),
    )
    assert found.premium[0] == pytest.approx(2.0, abs=1e-3)


def test_minimum_variance_delta_is_the_total_derivative_along_the_slide() -> None:
    """Against the surface itself: move the forward, let the surface slide, reprice."""
    from mm_daemon.pricing import surface as sf
    from mm_daemon.pricing.variance_time import FLAT_CLOCK
    from tests.pricing.test_surface import FORWARD, NOW, STRIKES, SURFACE

    item = SURFACE.slices[2]
    n = STRIKES.size
    aligned = sf.align(SURFACE, (item.expiry_ns,), NOW, FLAT_CLOCK)
    tte = np.full(1, item.tte_years)
    ssr = np.full(1, 1.7)
    index = np.zeros(n, dtype=np.int64)

    def vols(forward: float) -> np.ndarray:
        return sf.chain_vols(
            aligned,
            forward=np.full(1, forward),
            tte_years=tte,
            ssr=ssr,
            bumps=sf.no_bumps(1),
            expiry_index=index,
            strike=STRIKES,
        )

    def price(forward: float) -> np.ndarray:
        return black76.price(forward, STRIKES, item.tte_years, vols(forward), True)

    state = {"forward": np.full(1, FORWARD), "tte_years": tte, "ssr": ssr}
    atm_vol, atm_skew = sf.at_the_money(aligned, **state)
    greeks = black76.greeks(FORWARD, STRIKES, item.tte_years, vols(FORWARD), True)
    found = val.minimum_variance_delta(
        delta=greeks.delta,
        vega=greeks.vega,
        forward=np.full(n, FORWARD),
        vol=vols(FORWARD),
        atm_vol=np.repeat(atm_vol, n),
        atm_skew=np.repeat(atm_skew, n),
        skew=sf.chain_skews(aligned, **state, expiry_index=index, strike=STRIKES),
        ssr=np.full(n, 1.7),
    )
    h = 1.0
    assert found == pytest.approx((price(FORWARD + h) - price(FORWARD - h)) / (2 * h), abs=1e-6)
