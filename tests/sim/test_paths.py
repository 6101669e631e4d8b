"""Paths are decided by the seed alone, and years of them show the calibrated dynamics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.sim.calibration import (
    ATM_RETURN_CORRELATION,
    DYNAMICS,
    FIRST_COMPONENT_SHARE,
)
from mm_daemon.sim.chain_statistics import first_component_share, robust_sd
from mm_daemon.sim.option_math import FloatArray
from mm_daemon.sim.paths import (
    FACTORS,
    LEVEL,
    LOG_SPOT,
    SKEW,
    SLOPE,
    PathGenerator,
    Regime,
    Shock,
)
from mm_daemon.sim.vol_surface import LEVEL_LOADING_VP, QUARTILE_D1, SmileTermStructure

DAYS = 200
SEEDS = 6
STEPS_PER_DAY = 24
SAMPLE_EVERY = 6
"""Moves are measured over six hours, as the recordings were."""
TOLERANCE = 0.25
"""The calibration's own tolerance on every cell."""


def generator(seed: int, *, step_days: float = 1.0 / STEPS_PER_DAY) -> PathGenerator:
    return PathGenerator(seed=seed, params=FACTORS, step_days=step_days)


@pytest.fixture(scope="module")
def years() -> dict[str, list[FloatArray]]:
    """Per underlying, hourly paths of 200 days from several seeds."""
    found: dict[str, list[FloatArray]] = {name: [] for name in FACTORS}
    for seed in range(SEEDS):
        for name, path in generator(seed).extend(DAYS * STEPS_PER_DAY).items():
            found[name].append(path)
    return found


def implied_vols(name: str, path: FloatArray) -> FloatArray:
    """At-the-money, 25-delta put and call volatility, vp, of the dynamics' tenors along a path."""
    surface = SmileTermStructure(name, level_scale=LEVEL_LOADING_VP[name])
    tte = np.array(DYNAMICS[name].tenors_days) / 365.0
    rows = []
    for state in path:
        atm, tilt, curl, turn = surface.smiles(tte, state[LEVEL], state[SLOPE], state[SKEW])
        bend = (QUARTILE_D1**2 + turn**2) ** 0.5 - turn
        put = atm * (1.0 - tilt * QUARTILE_D1 + curl * bend) ** 0.5
        call = atm * (1.0 + tilt * QUARTILE_D1 + curl * bend) ** 0.5
        rows.append(np.concatenate([atm, put, call]))
    return 100.0 * np.array(rows)


def six_hour_moves(name: str, paths: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """(vol moves by column, returns), scaled to a square root of a day."""
    moves, returns = [], []
    scale = math.sqrt(STEPS_PER_DAY / SAMPLE_EVERY)
    for path in paths:
        sampled = path[::SAMPLE_EVERY]
        moves.append(np.diff(implied_vols(name, sampled), axis=0) * scale)
        returns.append(np.diff(sampled[:, LOG_SPOT]) * scale)
    return np.concatenate(moves), np.concatenate(returns)


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_atm_vol_moves_as_calibrated_robustly_and_in_the_tails(
    name: str, years: dict[str, list[FloatArray]]
) -> None:
    moves, _ = six_hour_moves(name, years[name])
    for column, (robust, sd) in enumerate(
        zip(DYNAMICS[name].robust_vp, DYNAMICS[name].sd_vp, strict=True)
    ):
        assert robust_sd(moves[:, column]) == pytest.approx(robust, rel=TOLERANCE)
        assert moves[:, column].std() == pytest.approx(sd, rel=TOLERANCE)


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_vol_rises_when_spot_falls_at_every_tenor(
    name: str, years: dict[str, list[FloatArray]]
) -> None:
    moves, returns = six_hour_moves(name, years[name])
    low, high = ATM_RETURN_CORRELATION
    for column in range(len(DYNAMICS[name].tenors_days)):
        assert low <= np.corrcoef(moves[:, column], returns)[0, 1] <= high


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_first_component_carries_most_of_the_surface(
    name: str, years: dict[str, list[FloatArray]]
) -> None:
    moves, _ = six_hour_moves(name, years[name])
    low, high = FIRST_COMPONENT_SHARE
    assert low <= first_component_share(moves) <= high


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_realised_volatility_is_the_calibrated_one(
    name: str, years: dict[str, list[FloatArray]]
) -> None:
    daily = [np.diff(path[::STEPS_PER_DAY, LOG_SPOT]) for path in years[name]]
    realised = math.sqrt(float(np.mean(np.concatenate(daily) ** 2)) * 365.0)
    assert realised == pytest.approx(DYNAMICS[name].realised_vol, rel=TOLERANCE)


def test_underlyings_move_together(years: dict[str, list[FloatArray]]) -> None:
    btc = np.concatenate([np.diff(path[:, LOG_SPOT]) for path in years["BTC"]])
    eth = np.concatenate([np.diff(path[:, LOG_SPOT]) for path in years["ETH"]])
    assert 0.75 <= np.corrcoef(btc, eth)[0, 1] <= 0.95


def test_equal_seeds_give_equal_paths_however_they_are_cut() -> None:
    whole = generator(7).extend(60)
    parts = generator(7)
    first, second = parts.extend(20), parts.extend(40)
    other = generator(8).extend(60)
    for name in FACTORS:
        assert np.array_equal(np.concatenate([first[name], second[name]]), whole[name])
        assert not np.array_equal(other[name], whole[name])


def test_a_path_does_not_depend_on_the_sampling_of_another_underlying() -> None:
    """Streams are keyed by name: dropping ETH leaves BTC's path as it was."""
    alone = PathGenerator(seed=3, params={"BTC": FACTORS["BTC"]}, step_days=0.01).extend(50)
    both = PathGenerator(seed=3, params=FACTORS, step_days=0.01).extend(50)
    assert np.array_equal(alone["BTC"], both["BTC"])


def test_a_scripted_fall_lifts_volatility_at_that_step_only() -> None:
    plain = generator(1).extend(20)
    shocked = generator(1).extend(20, shocks={"BTC": [Shock(5, log_return=-0.03)]})
    assert np.array_equal(plain["BTC"][:5], shocked["BTC"][:5])
    fall = shocked["BTC"][5, LOG_SPOT] - plain["BTC"][5, LOG_SPOT]
    assert fall == pytest.approx(-0.03)
    assert shocked["BTC"][5, LEVEL] > plain["BTC"][5, LEVEL]
    assert np.array_equal(plain["ETH"], shocked["ETH"])


def test_a_wild_regime_multiplies_returns() -> None:
    calm = generator(2, step_days=1e-4).extend(400)["BTC"][:, LOG_SPOT]
    wild = generator(2, step_days=1e-4).extend(400, regime=Regime(vol_multiple=3.0))
    ratio = np.diff(wild["BTC"][:, LOG_SPOT]).std() / np.diff(calm).std()
    assert ratio == pytest.approx(3.0, rel=0.02)
