"""Evaluation between fits: exact at the fit, sliding, aging, interpolating and bumping after it."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.pricing import surface as sf
from mm_daemon.pricing.arbitrage import check_surface
from mm_daemon.pricing.svi import SviSlice, total_variance
from mm_daemon.pricing.variance_time import (
    DAY_NS,
    FLAT_CLOCK,
    VarianceClock,
    VarianceEvent,
    calendar_years,
    variance_years,
)

NOW = 20_485 * DAY_NS
FORWARD = 80_000.0


def slice_at(days: float) -> sf.SurfaceSlice:
    t = days / 365.0
    root = math.sqrt(t)
    svi = SviSlice(a=0.1 * t, b=0.12 * root, rho=-0.4, m=0.02 * root, sigma=0.3 * root)
    return sf.SurfaceSlice(
        expiry_ns=NOW + int(days * DAY_NS),
        forward=FORWARD,
        tte_years=t,
        svi=svi,
        quoted_low=-1.0,
        quoted_high=1.0,
        quotes=30,
        core_quotes=20,
        rms_vol_points=0.2,
        inside_share=1.0,
    )


SURFACE = sf.Surface("BTC", NOW, tuple(slice_at(days) for days in (2.0, 9.0, 30.0, 90.0)))
STRIKES = np.linspace(50_000.0, 120_000.0, 15)


def vols_of(
    expiry_ns: int,
    *,
    now_ns: int = NOW,
    forward: float = FORWARD,
    ssr: float = 1.0,
    bumps: sf.Bumps | None = None,
    clock: VarianceClock = FLAT_CLOCK,
    surface: sf.Surface = SURFACE,
    strikes: np.ndarray = STRIKES,
) -> np.ndarray:
    return sf.chain_vols(
        sf.align(surface, (expiry_ns,), now_ns, clock),
        forward=np.array([forward]),
        tte_years=np.array([calendar_years(now_ns, expiry_ns)]),
        ssr=np.array([ssr]),
        bumps=bumps or sf.no_bumps(1),
        expiry_index=np.zeros(strikes.size, dtype=np.int64),
        strike=strikes,
    )


@pytest.mark.parametrize("item", SURFACE.slices, ids=lambda item: f"{item.tte_years * 365:.0f}d")
def test_at_the_fit_the_vol_is_the_slice(item: sf.SurfaceSlice) -> None:
    w = total_variance(np.log(STRIKES / FORWARD), item.svi)
    assert vols_of(item.expiry_ns) == pytest.approx(np.sqrt(w / item.tte_years), rel=1e-14)


def test_the_surface_survives_the_wire() -> None:
    encoded = msgspec.msgpack.encode(SURFACE)
    assert msgspec.msgpack.decode(encoded, type=sf.Surface) == SURFACE


def test_one_call_serves_expiries_in_any_order() -> None:
    expiries = (SURFACE.slices[2].expiry_ns, SURFACE.slices[0].expiry_ns)
    found = sf.chain_vols(
        sf.align(SURFACE, expiries, NOW, FLAT_CLOCK),
        forward=np.array([FORWARD, FORWARD]),
        tte_years=np.array([30.0, 2.0]) / 365.0,
        ssr=np.ones(2),
        bumps=sf.no_bumps(2),
        expiry_index=np.array([1, 0, 1]),
        strike=np.full(3, 90_000.0),
    )
    near = vols_of(expiries[1], strikes=np.array([90_000.0]))[0]
    assert found.tolist() == [near, vols_of(expiries[0], strikes=np.array([90_000.0]))[0], near]


@pytest.mark.parametrize("ssr", [0.0, 1.0, 2.5])
def test_atm_vol_moves_by_ssr_times_skew_times_the_forward_move(ssr: float) -> None:
    item = SURFACE.slices[1]
    moved = FORWARD * 1.01
    found = vols_of(item.expiry_ns, forward=moved, ssr=ssr, strikes=np.array([moved]))[0]
    expected = item.atm_vol() + ssr * item.atm_skew() * math.log(1.01)
    assert found == pytest.approx(expected, rel=1e-12)


def test_ssr_of_one_holds_vol_in_strike_near_the_money() -> None:
    """Sticky strike to first order: after 0.1 % the vol of the old money is within 0.005 vp."""
    item = SURFACE.slices[2]
    before = vols_of(item.expiry_ns, strikes=np.array([FORWARD]))[0]
    after = vols_of(item.expiry_ns, forward=FORWARD * 1.001, strikes=np.array([FORWARD]))[0]
    unslid = vols_of(item.expiry_ns, forward=FORWARD * 1.001, ssr=0.0, strikes=np.array([FORWARD]))
    assert abs(after - before) < 5e-5
    assert abs(after - before) < 0.1 * abs(unslid[0] - before)


def test_slide_and_ratio_are_bounded() -> None:
    item = SURFACE.slices[0]
    crash = vols_of(item.expiry_ns, forward=FORWARD * 0.5, ssr=4.0, strikes=np.array([40_000.0]))[0]
    assert crash == pytest.approx(item.atm_vol() * (1.0 + sf.SLIDE_MAX))
    moved = FORWARD * 1.001
    assert vols_of(item.expiry_ns, forward=moved, ssr=99.0).tolist() == (
        vols_of(item.expiry_ns, forward=moved, ssr=sf.SSR_MAX).tolist()
    )


def test_passing_time_keeps_vol_per_unit_of_variance_time() -> None:
    clock = VarianceClock(weekend_weight=0.6)
    item = SURFACE.slices[1]
    later = NOW + 3 * DAY_NS
    found = vols_of(item.expiry_ns, now_ns=later, clock=clock)
    share = variance_years(clock, later, item.expiry_ns) / variance_years(
        clock, NOW, item.expiry_ns
    )
    w = total_variance(np.log(STRIKES / FORWARD), item.svi) * share
    assert found == pytest.approx(np.sqrt(w / (6.0 / 365.0)), rel=1e-12)


def test_a_passed_event_takes_its_variance_with_it() -> None:
    event = VarianceEvent(NOW + DAY_NS, extra_days=3.0)
    clock = VarianceClock(events=(event,))
    expiry = SURFACE.slices[1].expiry_ns
    before = vols_of(expiry, now_ns=event.ts_ns - 1, clock=clock)
    after = vols_of(expiry, now_ns=event.ts_ns, clock=clock)
    left = 8.0 - 20.0 / 1440.0
    assert after / before == pytest.approx(np.full(15, math.sqrt(left / (left + 3.0))), rel=1e-6)


def test_an_expiry_between_two_slices_has_variance_linear_in_variance_time() -> None:
    near, far = SURFACE.slices[1], SURFACE.slices[2]
    middle_ns = NOW + 16 * DAY_NS
    held = [
        variance_years(FLAT_CLOCK, NOW, ns) for ns in (near.expiry_ns, middle_ns, far.expiry_ns)
    ]
    share = (held[1] - held[0]) / (held[2] - held[0])
    k = np.log(STRIKES / FORWARD)
    w = (1.0 - share) * total_variance(k, near.svi) + share * total_variance(k, far.svi)
    assert vols_of(middle_ns) == pytest.approx(np.sqrt(w / (16.0 / 365.0)), rel=1e-12)


def test_expiries_outside_the_slices_take_the_nearest_shape() -> None:
    nearest = SURFACE.slices[-1]
    beyond = NOW + 200 * DAY_NS
    at_money = vols_of(beyond, strikes=np.array([FORWARD]))[0]
    assert at_money == pytest.approx(nearest.atm_vol(), rel=2e-4)


@given(st.floats(2.1, 89.0))
def test_interpolated_expiries_add_no_calendar_arbitrage(days: float) -> None:
    expiry = NOW + int(days * DAY_NS)
    middle = vols_of(expiry) ** 2 * (calendar_years(NOW, expiry))
    k = np.log(STRIKES / FORWARD)
    for item in SURFACE.slices:
        gap = middle - total_variance(k, item.svi)
        if item.expiry_ns <= expiry:
            assert (gap >= -1e-15).all()
        if item.expiry_ns >= expiry:
            assert (gap <= 1e-15).all()


def test_bumps_move_what_they_name() -> None:
    item = SURFACE.slices[1]
    plain = vols_of(item.expiry_ns)
    assert vols_of(item.expiry_ns, bumps=sf.parallel_bump(1, 0.01)) - plain == pytest.approx(
        np.full(15, 0.01), abs=1e-15
    )
    sd = item.atm_vol() * math.sqrt(item.tte_years)
    distance = np.clip(np.log(STRIKES / FORWARD) / sd, -3.0, 3.0)
    skewed = sf.Bumps(np.zeros(1), np.full(1, 0.02), np.zeros(1))
    assert vols_of(item.expiry_ns, bumps=skewed) - plain == pytest.approx(
        0.02 * distance, abs=1e-14
    )
    winged = sf.Bumps(np.zeros(1), np.zeros(1), np.full(1, 0.02))
    expected = 0.02 * np.maximum(np.abs(distance) - 1.0, 0.0)
    assert vols_of(item.expiry_ns, bumps=winged) - plain == pytest.approx(expected, abs=1e-14)


def test_no_volatility_is_nan_and_never_a_number() -> None:
    item = SURFACE.slices[0]
    assert np.isnan(vols_of(item.expiry_ns, now_ns=item.expiry_ns)).all()
    assert np.isnan(vols_of(item.expiry_ns, forward=math.nan)).all()
    assert np.isnan(vols_of(item.expiry_ns, ssr=math.nan)).all()
    assert np.isnan(vols_of(item.expiry_ns, bumps=sf.parallel_bump(1, -5.0))).all()
    assert np.isnan(vols_of(item.expiry_ns, bumps=sf.parallel_bump(1, math.nan))).all()
    empty = sf.Surface("BTC", NOW, ())
    assert np.isnan(vols_of(item.expiry_ns, surface=empty)).all()
    assert np.isnan(vols_of(item.expiry_ns, strikes=np.array([0.0, -1.0]))).all()


def test_at_the_money_and_skews_agree_with_differences_of_vols() -> None:
    expiries = tuple(item.expiry_ns for item in SURFACE.slices)
    aligned = sf.align(SURFACE, expiries, NOW, FLAT_CLOCK)
    n = len(expiries)
    state = {
        "forward": np.full(n, FORWARD * 1.01),
        "tte_years": np.array([item.tte_years for item in SURFACE.slices]),
        "ssr": np.full(n, 1.5),
    }
    vol, skew = sf.at_the_money(aligned, **state)
    index = np.arange(n)

    def at(k: float) -> np.ndarray:
        strikes = np.full(n, FORWARD * 1.01 * math.exp(k))
        return sf.chain_vols(
            aligned, **state, bumps=sf.no_bumps(n), expiry_index=index, strike=strikes
        )

    assert vol == pytest.approx(at(0.0), rel=1e-12)
    assert skew == pytest.approx((at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-6)
    found = sf.chain_skews(
        aligned, **state, expiry_index=index, strike=np.full(n, FORWARD * 1.01 * math.exp(0.1))
    )
    assert found == pytest.approx((at(0.1 + 1e-5) - at(0.1 - 1e-5)) / 2e-5, rel=1e-6)


def test_the_fixture_itself_is_free_of_arbitrage() -> None:
    n = len(SURFACE.slices)
    assert check_surface(SURFACE.parameters(), np.full(n, -1.0), np.full(n, 1.0)).violations == 0
