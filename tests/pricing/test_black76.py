"""Black-76 against closed forms, limits, parity, finite differences and the venue's own greeks."""

import datetime as dt
import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mm_daemon.pricing import black76

FORWARDS = st.floats(1.0, 200_000.0)
RATIOS = st.floats(0.3, 3.0)
TIMES = st.floats(1e-4, 2.0)
VOLS = st.floats(0.05, 3.0)


def reference_price(f: float, k: float, t: float, v: float, is_call: bool) -> float:
    sd = v * math.sqrt(t)
    d1 = math.log(f / k) / sd + 0.5 * sd
    if is_call:
        return float(f * norm.cdf(d1) - k * norm.cdf(d1 - sd))
    return float(k * norm.cdf(sd - d1) - f * norm.cdf(-d1))


@given(FORWARDS, RATIOS, TIMES, VOLS, st.booleans())
def test_price_equals_the_closed_form(
    f: float, ratio: float, t: float, v: float, is_call: bool
) -> None:
    found = float(black76.price(f, f * ratio, t, v, is_call))
    # Twenty ulp of the forward: the closed form itself cancels two terms of that size.
    assert found == pytest.approx(reference_price(f, f * ratio, t, v, is_call), abs=4e-15 * f * 3)


@given(FORWARDS, RATIOS, TIMES, VOLS)
def test_call_less_put_is_forward_less_strike(f: float, ratio: float, t: float, v: float) -> None:
    k = f * ratio
    call, put = black76.price(f, k, t, v, [True, False])
    assert call - put == pytest.approx(f - k, abs=1e-15 * (f + k) * 4)


@given(FORWARDS, RATIOS, TIMES, VOLS, st.booleans())
def test_price_stays_between_intrinsic_and_ceiling_and_rises_with_vol_and_time(
    f: float, ratio: float, t: float, v: float, is_call: bool
) -> None:
    k = f * ratio
    low, high = black76.price(f, k, t, [v, v * 1.1], is_call)
    later = float(black76.price(f, k, t * 1.1, v, is_call))
    intrinsic = max(f - k if is_call else k - f, 0.0)
    slack = 1e-14 * f
    assert intrinsic - slack <= low <= (f if is_call else k) + slack
    assert high >= low - slack
    assert later >= low - slack


@given(RATIOS, st.floats(0.005, 2.0), st.floats(0.1, 2.0), st.booleans())
def test_greeks_equal_finite_differences_of_the_price(
    ratio: float, t: float, v: float, is_call: bool
) -> None:
    f, k = 100.0, 100.0 * ratio
    found = black76.greeks(f, k, t, v, is_call)

    def price(f: float, t: float, v: float) -> float:
        return float(black76.price(f, k, t, v, is_call))

    h = 1e-3
    delta = (price(f + h, t, v) - price(f - h, t, v)) / (2 * h)
    gamma = (price(f + 0.05, t, v) - 2 * price(f, t, v) + price(f - 0.05, t, v)) / 0.0025
    vega = (price(f, t, v + 1e-5) - price(f, t, v - 1e-5)) / 2e-5
    theta = -(price(f, t * 1.00001, v) - price(f, t * 0.99999, v)) / (2e-5 * t)
    assert float(found.delta) == pytest.approx(delta, abs=1e-6)
    assert float(found.gamma) == pytest.approx(gamma, rel=2e-3, abs=1e-6)
    assert float(found.vega) == pytest.approx(vega, rel=1e-6, abs=1e-6)
    assert float(found.theta) == pytest.approx(theta, rel=1e-5, abs=1e-5)


@given(RATIOS, st.floats(0.005, 2.0), st.floats(0.1, 2.0))
def test_second_order_greeks_equal_finite_differences_of_the_first(
    ratio: float, t: float, v: float
) -> None:
    f, k = 100.0, 100.0 * ratio
    found = black76.second_order(f, k, t, v)
    h = 1e-5 * v
    up, down = black76.greeks(f, k, t, v + h, True), black76.greeks(f, k, t, v - h, True)
    after = black76.greeks(f, k, t * (1 - 1e-5), v, True)
    before = black76.greeks(f, k, t * (1 + 1e-5), v, True)
    vanna = float(up.delta - down.delta) / (2.0 * h)
    volga = float(up.vega - down.vega) / (2.0 * h)
    charm = float(after.delta - before.delta) / (2e-5 * t)
    assert float(found.vanna) == pytest.approx(vanna, rel=1e-5, abs=1e-6)
    assert float(found.volga) == pytest.approx(volga, rel=1e-5, abs=1e-5)
    assert float(found.charm) == pytest.approx(charm, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("t", "v"), [(0.0, 0.6), (0.5, 0.0), (0.0, 0.0)])
def test_without_time_or_vol_an_option_is_its_intrinsic_value(t: float, v: float) -> None:
    found = black76.greeks(100.0, [90.0, 100.0, 110.0], t, v, True)
    assert found.price.tolist() == [10.0, 0.0, 0.0]
    assert found.delta.tolist() == [1.0, 0.5, 0.0]
    for column in (found.gamma, found.vega, found.theta):
        assert column.tolist() == [0.0, 0.0, 0.0]
    put = black76.greeks(100.0, [90.0, 110.0], t, v, False)
    assert put.price.tolist() == [0.0, 10.0]
    assert put.delta.tolist() == [0.0, -1.0]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_an_input_that_is_no_market_gives_nan_and_no_exception(place: int, bad: float) -> None:
    arguments = [100.0, 100.0, 0.5, 0.6]
    arguments[place] = bad
    found = black76.greeks(*arguments, True)
    for column in (found.price, found.delta, found.gamma, found.vega, found.theta):
        assert math.isnan(float(column))
    assert math.isnan(float(black76.price(*arguments, True)))
    assert math.isnan(float(black76.second_order(*arguments).vanna))


def test_extremes_are_finite() -> None:
    found = black76.greeks(80_000.0, [1e-3, 1.0, 1e9], 1e-9, [0.01, 5.0, 5.0], [True, False, True])
    for column in (found.price, found.delta, found.gamma, found.vega, found.theta):
        assert np.isfinite(column).all()
    assert float(black76.price(100.0, 120.0, 1.0, 80.0, True)) == pytest.approx(100.0)


def test_deep_wings_keep_relative_accuracy() -> None:
    """Sixteen standard deviations out: the value is about 1e-63, and still right to 1e-9."""
    f, k, t, v = 100.0, 100.0 * math.exp(0.8), 1.0, 0.05
    sd = v * math.sqrt(t)
    d1 = math.log(f / k) / sd + 0.5 * sd
    expected = f * norm.cdf(d1) * (1.0 - math.exp(norm.logcdf(d1 - sd) - norm.logcdf(d1)) * k / f)
    assert float(black76.price(f, k, t, v, True)) == pytest.approx(expected, rel=1e-9, abs=0.0)


def test_arguments_broadcast_and_results_agree_with_the_hot_kernel() -> None:
    strikes = np.linspace(60.0, 140.0, 9)
    wide = black76.greeks(100.0, strikes[None, :], np.array([[0.1], [0.5]]), 0.6, strikes >= 100.0)
    assert wide.price.shape == (2, 9)
    out = np.empty((5, 9))
    black76.greeks_into(
        np.full(9, 100.0), strikes, np.full(9, 0.5), np.full(9, 0.6), strikes >= 100.0, out
    )
    for row, column in zip(
        out, (wide.price, wide.delta, wide.gamma, wide.vega, wide.theta), strict=True
    ):
        assert row.tolist() == column[1].tolist()
    assert black76.price(100.0, strikes, 0.5, 0.6, strikes >= 100.0).tolist() == out[0].tolist()


def reference_root() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("MM_REFERENCE_DATA", default))


def recorded_tickers() -> list[dict[str, Any]]:
    path = reference_root() / "deribit-ws" / "DERIBIT.ws.1.0.gz"
    if not path.exists():
        pytest.skip(f"reference data absent: {path} (set MM_REFERENCE_DATA)")
    tickers = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            _, _, body = line.partition(": ")
            if '"ticker.' in body and '"greeks"' in body:
                tickers.append(json.loads(body)["params"]["data"])
    return tickers


def test_recorded_venue_greeks_are_reproduced() -> None:
    """Delta to 1e-4; vega per point and theta per day by the venue's rule, to its rounding of vol.

    The venue rounds the mark vol to 0.01 point, which moves vega and theta by up to 1e-3 relative.
    Its theta shrinks under one day left and never exceeds the option's value.
    """
    tickers = recorded_tickers()
    assert len(tickers) == 89
    for ticker in tickers:
        _, expiry, strike, kind = ticker["instrument_name"].split("-")
        moment = dt.datetime.strptime(expiry, "%d%b%y").replace(hour=8, tzinfo=dt.UTC)
        days = (moment.timestamp() * 1000.0 - ticker["timestamp"]) / 86_400_000.0
        found = black76.greeks(
            ticker["underlying_price"],
            float(strike),
            days / 365.0,
            ticker["mark_iv"] / 100.0,
            kind == "C",
        )
        value_usd = ticker["mark_price"] * ticker["underlying_price"]
        theta = max(float(found.theta) / 365.0 * min(1.0, days), -value_usd)
        seen = ticker["greeks"]
        assert float(found.delta) == pytest.approx(seen["delta"], abs=1e-4)
        assert float(found.vega) / 100.0 == pytest.approx(seen["vega"], rel=1e-3, abs=1e-4)
        assert theta == pytest.approx(seen["theta"], rel=1e-3, abs=2e-3)
