"""The theo board against the pricing room, and when it revalues."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from mm_daemon.core.theo import ALIGN_INTERVAL_NS, FORWARD_MOVE_MIN, TheoBoard
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_YEAR, Ns
from mm_daemon.pricing.surface import Bumps, align, chain_vols
from mm_daemon.pricing.valuation import Averaging, value_options
from tests.core.chain_world import FORWARD, NOW, board, calibration, catalog

WORLD = catalog(days=(1.0, 30.0), strikes=9)
IDS = WORLD.option_ids("BTC")
STILL = np.full(2, FORWARD)
EXPIRIES = [expiry.expiry_ns for expiry in WORLD.expiries["BTC"]]


def test_equals_the_pricing_room_option_by_option() -> None:
    forwards = np.array([70_010.0, 70_450.0])
    theo = TheoBoard(WORLD)
    fitted = calibration(WORLD)
    theo.refresh("BTC", forwards, fitted, NOW)
    expiries = tuple(expiry.expiry_ns for expiry in WORLD.expiries["BTC"])
    index = np.searchsorted(np.array(expiries), WORLD.expiry_ns[IDS])
    years = np.array([(ns - NOW) / NS_PER_YEAR for ns in expiries])
    vols = chain_vols(
        align(fitted.surface, expiries, NOW, fitted.clock),
        forward=forwards,
        tte_years=years,
        ssr=fitted.ssr,
        bumps=fitted.bumps,
        expiry_index=index,
        strike=WORLD.strike[IDS],
    )
    expected = value_options(
        forward=forwards[index],
        strike=WORLD.strike[IDS],
        tte_years=years[index],
        vol=vols,
        is_call=WORLD.is_call[IDS],
        is_inverse=WORLD.is_inverse[IDS],
    )
    assert np.array_equal(theo.vol[IDS], vols)
    assert np.array_equal(theo.price[IDS], expected.premium)
    assert np.array_equal(theo.price_usd[IDS], expected.value_usd)
    assert np.array_equal(theo.delta[IDS], expected.delta)
    assert np.array_equal(theo.delta_adjusted[IDS], expected.delta_adjusted)
    assert np.array_equal(theo.gamma[IDS], expected.gamma)
    assert np.array_equal(theo.vega[IDS], expected.vega)
    assert np.array_equal(theo.theta[IDS], expected.theta)


def test_reports_every_option_first_and_none_when_nothing_moved() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    assert sorted(theo.refresh("BTC", STILL, fitted, NOW)) == sorted(IDS)
    assert theo.refresh("BTC", STILL, fitted, Ns(NOW + 1)).size == 0


def test_only_the_expiry_whose_forward_moved_is_revalued() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    before = theo.price.copy()
    moved = theo.refresh("BTC", np.array([FORWARD, FORWARD * 1.001]), fitted, NOW)
    near, far = (expiry.ids for expiry in WORLD.expiries["BTC"])
    assert np.array_equal(theo.price[near], before[near])
    assert not np.array_equal(theo.price[far], before[far])
    assert set(moved.tolist()) <= set(far.tolist())
    assert moved.size > 0


def test_forward_move_below_the_threshold_changes_nothing() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    digest = theo.price.tobytes()
    theo.refresh("BTC", STILL * (1.0 + 0.5 * FORWARD_MOVE_MIN), fitted, NOW)
    assert theo.price.tobytes() == digest


def test_slow_drift_cannot_hide_below_the_threshold() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    reported: set[int] = set()
    forward = FORWARD
    for _ in range(200):
        forward *= 1.0 + 0.5 * FORWARD_MOVE_MIN
        reported |= set(theo.refresh("BTC", np.full(2, forward), fitted, NOW).tolist())
    assert abs(theo.forward[IDS[0]] / forward - 1.0) <= FORWARD_MOVE_MIN
    assert len(reported) >= IDS.size // 2


def test_lost_forward_makes_values_nan_and_reports_them_once() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    lost = np.array([np.nan, FORWARD])
    near = WORLD.expiries["BTC"][0].ids
    assert sorted(theo.refresh("BTC", lost, fitted, NOW)) == sorted(near)
    assert np.isnan(theo.price[near]).all()
    assert theo.refresh("BTC", lost, fitted, NOW).size == 0
    assert sorted(theo.refresh("BTC", STILL, fitted, NOW)) == sorted(near)


def test_time_alone_decays_value_after_the_alignment_interval() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    before = theo.price_usd[IDS].copy()
    theo.refresh("BTC", STILL, fitted, Ns(NOW + ALIGN_INTERVAL_NS - 1))
    assert np.array_equal(theo.price_usd[IDS], before)
    theo.refresh("BTC", STILL, fitted, Ns(NOW + ALIGN_INTERVAL_NS))
    assert (theo.price_usd[IDS] <= before).all()
    assert (theo.price_usd[IDS] < before).any()


def test_new_calibration_with_a_vol_offset_raises_every_value() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    before = theo.vol[IDS].copy()
    offset = Bumps(np.array([0.02, 0.02]), np.zeros(2), np.zeros(2))
    bumped = msgspec.structs.replace(fitted, version=2, bumps=offset)
    theo.refresh("BTC", STILL, bumped, NOW)
    assert np.allclose(theo.vol[IDS] - before, 0.02, atol=1e-12)


def test_half_fixed_average_halves_delta_and_quarters_gamma_of_the_expiring_options() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    near, far = (expiry.ids for expiry in WORLD.expiries["BTC"])
    delta, gamma, other = theo.delta[near].copy(), theo.gamma[near].copy(), theo.delta[far].copy()
    theo.refresh("BTC", STILL, fitted, NOW, Averaging(FORWARD, 0.5, EXPIRIES[0]))
    assert np.allclose(theo.delta[near], 0.5 * delta, rtol=1e-12)
    assert np.allclose(theo.gamma[near], 0.25 * gamma, rtol=1e-12)
    assert np.array_equal(theo.delta[far], other)


def test_an_average_touches_the_expiry_it_settles_and_no_other() -> None:
    """The last word on today's average arrives after 08:00 UTC, when tomorrow is the nearest."""
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW)
    before = theo.columns.tobytes()
    over = Averaging(FORWARD, 1.0, EXPIRIES[0] - NS_PER_DAY)
    theo.refresh("BTC", STILL, fitted, NOW, over)
    assert theo.columns.tobytes() == before
    theo.refresh("BTC", STILL, fitted, NOW, Averaging(FORWARD, 0.5, EXPIRIES[0]))
    assert theo.columns.tobytes() != before
    theo.refresh("BTC", STILL, fitted, NOW, over)
    assert theo.columns.tobytes() == before


def test_a_listing_does_not_move_an_average_to_another_expiry() -> None:
    theo, fitted = TheoBoard(WORLD), calibration(WORLD)
    average = Averaging(FORWARD, 0.5, EXPIRIES[0])
    theo.refresh("BTC", STILL, fitted, NOW, average)
    before = theo.delta.tobytes()
    theo.resize(WORLD)
    theo.refresh("BTC", STILL, fitted, NOW, average)
    assert theo.delta.tobytes() == before


def test_inverse_future_has_a_delta_of_one_coin_per_price_in_usd() -> None:
    theo = board(WORLD)
    assert theo.delta[0] == pytest.approx(1.0 / FORWARD, rel=1e-15)
    assert theo.gamma[0] == theo.vega[0] == 0.0


def test_without_calibration_there_is_no_theo() -> None:
    theo = TheoBoard(WORLD)
    assert theo.refresh("BTC", STILL, None, NOW).size == 0
    assert np.isnan(theo.price[IDS]).all()


def test_equal_histories_have_equal_digests() -> None:
    assert board(WORLD).digest() == board(WORLD).digest()
    assert board(WORLD).digest() != board(WORLD, forward=FORWARD * 1.01).digest()
