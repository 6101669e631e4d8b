"""The world's own chains, as traded, show the calibrated market: every cell that has a number.

Twenty chains over five seeds are read from the exchange's tickers. Spreads and smiles are
medians over chains, shares are pooled over all options of a cell, as in the recordings.
Tolerance: the largest of 25 %, one tick, five points of a share.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib import resources

import numpy as np
import pytest

from mm_daemon.sim.calibration import (
    ASK_ONLY_SHARE,
    CHAIN,
    DELTA_BUCKETS,
    MARK_INSIDE,
    TENOR_EDGES_DAYS,
    Row,
)
from mm_daemon.sim.chain_statistics import (
    Chain,
    ask_only_share,
    bid_only_share,
    bucket_statistics,
    mark_inside_share,
    smile_statistics,
    tenor_bucket,
)
from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.observation import observed_chain
from mm_daemon.sim.scenario import parse_scenario
from mm_daemon.sim.spec import SECOND_US
from mm_daemon.sim.world import World, WorldConfig, exchange_config

STARTS = (
    datetime(2026, 2, 2, 4, 54, tzinfo=UTC),
    datetime(2026, 2, 3, 21, 35, tzinfo=UTC),
    datetime(2026, 2, 5, 15, 33, tzinfo=UTC),
    datetime(2026, 2, 9, 9, 35, tzinfo=UTC),
    datetime(2026, 2, 13, 20, 1, tzinfo=UTC),
)
"""Different hours and weekdays, so that every tenor bucket is met."""
READ_AFTER_S = (5, 10, 15, 20)
RELATIVE = 0.25
SHARE_POINTS = 5.0
BUCKETS = len(TENOR_EDGES_DAYS) - 1
ATM, D10_25, D5_10, D1_5, D0_1 = 0, 2, 3, 4, 5


@pytest.fixture(scope="module")
def chains() -> dict[str, list[Chain]]:
    text = resources.files("mm_daemon.sim").joinpath("scenarios/calm.toml").read_text()
    scenario = parse_scenario(text, source="calm")
    found: dict[str, list[Chain]] = {name: [] for name in CHAIN}
    for seed, start in enumerate(STARTS):
        start_us = int(start.timestamp()) * SECOND_US
        exchange = Exchange(exchange_config(scenario), start_us)
        world = World(WorldConfig(seed=seed, start_us=start_us, scenario=scenario), exchange)
        world.start()
        for after in READ_AFTER_S:
            now_us = start_us + after * SECOND_US
            world.advance(now_us)
            world.drain_events()
            for name in CHAIN:
                found[name].append(observed_chain(exchange, name, now_us))
    return found


def misses(label: str, found: np.ndarray, target: Row, slack: np.ndarray) -> list[str]:
    """Cells of one row outside the larger of 25 % and `slack`."""
    out = []
    for i, wanted in enumerate(target):
        if math.isnan(wanted):
            continue
        allowed = max(RELATIVE * abs(wanted), float(slack[i]))
        if not abs(found[i] - wanted) <= allowed + 1e-9:
            days = f"{TENOR_EDGES_DAYS[i]:g}-{TENOR_EDGES_DAYS[i + 1]:g} d"
            out.append(f"{label} {days}: {found[i]:.2f}, target {wanted:g} +- {allowed:.2f}")
    return out


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_spreads_are_the_recorded_ones_by_tenor_and_moneyness(
    name: str, chains: dict[str, list[Chain]]
) -> None:
    stats = [bucket_statistics(chain) for chain in chains[name]]
    vp = np.nanmedian([s.spread_vp[:, :D0_1] for s in stats], axis=0)
    ticks = np.nanmedian([s.spread_ticks[:, :D0_1] for s in stats], axis=0)
    tick_vp = vp / ticks
    one = np.ones(BUCKETS)
    target = CHAIN[name]
    assert [
        *misses("ATM spread vp", vp[:, ATM], target.spread_atm_vp, tick_vp[:, ATM]),
        *misses("10-25 spread vp", vp[:, D10_25], target.spread_d10_25_vp, tick_vp[:, D10_25]),
        *misses("5-10 spread vp", vp[:, D5_10], target.spread_d5_10_vp, tick_vp[:, D5_10]),
        *misses("1-5 spread vp", vp[:, D1_5], target.spread_d1_5_vp, tick_vp[:, D1_5]),
        *misses("ATM ticks", ticks[:, ATM], target.ticks_atm, one),
        *misses("10-25 ticks", ticks[:, D10_25], target.ticks_d10_25, one),
    ] == []


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_wings_are_bid_for_as_often_as_recorded(name: str, chains: dict[str, list[Chain]]) -> None:
    stats = [bucket_statistics(chain) for chain in chains[name]]
    count = np.sum([s.count for s in stats], axis=0)
    both = np.sum([np.nan_to_num(s.two_sided) * s.count for s in stats], axis=0)
    share = 100.0 * both / np.maximum(count, 1)
    points = np.full(BUCKETS, SHARE_POINTS)
    target = CHAIN[name]
    assert [
        *misses("two-sided 1-5", share[:, D1_5], target.two_sided_d1_5_pct, points),
        *misses("two-sided <1", share[:, D0_1], target.two_sided_d0_1_pct, points),
    ] == []
    near = slice(0, DELTA_BUCKETS.index((0.05, 0.10)) + 1)
    assert both[:, near].sum() / count[:, near].sum() >= 0.97


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_smiles_are_the_recorded_ones_by_tenor(name: str, chains: dict[str, list[Chain]]) -> None:
    rows = []
    for chain in chains[name]:
        smile = smile_statistics(chain)
        bucket = tenor_bucket(smile.tte_years)
        columns = np.array([smile.atm_vp, smile.rr25_vp, smile.bf25_vp, smile.rr10_vp])
        rows.append(
            [
                np.median(columns[:, bucket == i], axis=1)
                if (bucket == i).any()
                else np.full(4, math.nan)
                for i in range(BUCKETS)
            ]
        )
    atm, rr25, bf25, rr10 = np.nanmedian(rows, axis=0).T
    none = np.zeros(BUCKETS)
    target = CHAIN[name]
    assert [
        *misses("ATM vol", atm, target.atm_vp, none),
        *misses("RR25", rr25, target.rr25_vp, none),
        *misses("BF25", bf25, target.bf25_vp, none),
    ] == []
    assert np.median(rr10 / rr25) == pytest.approx(2.0, rel=RELATIVE)


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_marks_lie_inside_most_quotes_but_not_all(
    name: str, chains: dict[str, list[Chain]]
) -> None:
    low, high = MARK_INSIDE
    inside = [mark_inside_share(chain) for chain in chains[name]]
    assert low <= np.median(inside) <= high


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_far_wings_are_offered_and_not_bid(name: str, chains: dict[str, list[Chain]]) -> None:
    low, high = ASK_ONLY_SHARE
    share = np.median([ask_only_share(chain) for chain in chains[name]])
    assert (1.0 - RELATIVE) * low <= share <= (1.0 + RELATIVE) * high
    assert np.median([bid_only_share(chain) for chain in chains[name]]) <= 0.005


def test_both_chains_together_list_enough_options(chains: dict[str, list[Chain]]) -> None:
    sizes = zip(chains["BTC"], chains["ETH"], strict=True)
    assert min(btc.strike.size + eth.strike.size for btc, eth in sizes) >= 1_500
