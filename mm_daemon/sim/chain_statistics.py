"""Statistics of one option chain as the calibration tables define them, and of the moves of implied
volatility.

Works on plain arrays, so that the simulated venue's chain and a recorded one are measured by the
same code. Out of the money is judged on the option's own forward, moneyness by the Black delta at
the mark's volatility, spreads in vol points by inverting bid and ask. It fits nothing and smooths
nothing.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.sim.calibration import DELTA_BUCKETS, TENOR_EDGES_DAYS
from mm_daemon.sim.option_math import BoolArray, FloatArray, chain_implied_vols, chain_prices

DAYS_PER_YEAR: Final = 365.0
PRICE_EPSILON: Final = 1e-9
FINE_TICK: Final = 0.0001
COARSE_TICK: Final = 0.0005
COARSE_ABOVE: Final = 0.005
MAD_TO_SD: Final = 1.4826
OTM_COUNT_MIN: Final = 6
"""A smile with fewer out-of-the-money options gives no risk reversal."""

IntArray = npt.NDArray[np.int64]


class Chain(msgspec.Struct, frozen=True):
    """One underlying's options at one instant; prices in coin, 0.0 where a side is empty;
    volatility decimal.
    """

    tte_years: FloatArray
    is_call: BoolArray
    strike: FloatArray
    forward: FloatArray
    bid: FloatArray
    ask: FloatArray
    mark: FloatArray
    mark_vol: FloatArray


class BucketStatistics(msgspec.Struct, frozen=True):
    """Medians (NaN where nothing is quoted) by (tenor bucket, delta bucket); `two_sided` is a share
    of the options.
    """

    count: IntArray
    spread_vp: FloatArray
    spread_ticks: FloatArray
    two_sided: FloatArray


class SmileStatistics(msgspec.Struct, frozen=True):
    """One row an expiry: tenor and smile numbers in vol points."""

    tte_years: FloatArray
    atm_vp: FloatArray
    rr25_vp: FloatArray
    bf25_vp: FloatArray
    rr10_vp: FloatArray


def tenor_bucket(tte_years: FloatArray) -> IntArray:
    return np.digitize(tte_years * DAYS_PER_YEAR, np.array(TENOR_EDGES_DAYS)) - 1


def black_delta(chain: Chain) -> FloatArray:
    price = np.empty(chain.strike.size)
    delta = np.empty(chain.strike.size)
    vega = np.empty(chain.strike.size)
    chain_prices(
        chain.forward,
        chain.strike,
        chain.tte_years,
        chain.mark_vol,
        chain.is_call,
        price,
        delta,
        vega,
    )
    return delta


def out_of_the_money(chain: Chain) -> BoolArray:
    return np.where(chain.is_call, chain.strike >= chain.forward, chain.strike < chain.forward)


def is_two_sided(chain: Chain) -> BoolArray:
    return (chain.bid > 0.0) & (chain.ask > chain.bid)


def bucket_statistics(chain: Chain) -> BucketStatistics:
    """Spreads and two-sidedness of the out-of-the-money options by tenor and delta."""
    shape = (len(TENOR_EDGES_DAYS) - 1, len(DELTA_BUCKETS))
    count = np.zeros(shape, dtype=np.int64)
    spread_vp, spread_ticks, two_sided = (np.full(shape, math.nan) for _ in range(3))
    both = is_two_sided(chain)
    args = (chain.forward, chain.strike, chain.tte_years, chain.is_call)
    vp = 100.0 * (chain_implied_vols(chain.ask, *args) - chain_implied_vols(chain.bid, *args))
    tick = np.where(chain.ask > COARSE_ABOVE + PRICE_EPSILON, COARSE_TICK, FINE_TICK)
    ticks = (chain.ask - chain.bid) / tick
    tenor = tenor_bucket(chain.tte_years)
    moneyness = np.abs(black_delta(chain))
    otm = out_of_the_money(chain)
    for j, (low, high) in enumerate(DELTA_BUCKETS):
        in_delta = otm & (moneyness >= low) & (moneyness < high)
        for i in range(shape[0]):
            chosen = in_delta & (tenor == i)
            count[i, j] = np.count_nonzero(chosen)
            if not count[i, j]:
                continue
            two_sided[i, j] = float(np.mean(both[chosen]))
            spread_vp[i, j] = _median(vp[chosen & both])
            spread_ticks[i, j] = _median(ticks[chosen & both])
    return BucketStatistics(count, spread_vp, spread_ticks, two_sided)


def smile_statistics(chain: Chain) -> SmileStatistics:
    """At-the-money volatility, risk reversals and butterfly of every expiry, interpolated in delta
    on the marks.
    """
    delta = black_delta(chain)
    call_delta = np.where(chain.is_call, delta, 1.0 + delta)
    otm = out_of_the_money(chain)
    rows = []
    for tte in np.unique(chain.tte_years):
        chosen = np.flatnonzero(otm & (chain.tte_years == tte))
        if chosen.size < OTM_COUNT_MIN:
            continue
        chosen = chosen[np.argsort(chain.strike[chosen], kind="stable")]
        moneyness = chain.strike[chosen] / chain.forward[chosen]
        vol = 100.0 * chain.mark_vol[chosen]
        falling = -call_delta[chosen]
        put10, put25, call25, call10 = np.interp([-0.9, -0.75, -0.25, -0.1], falling, vol)
        atm = float(np.interp(1.0, moneyness, vol))
        rows.append((tte, atm, call25 - put25, 0.5 * (call25 + put25) - atm, call10 - put10))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return SmileStatistics(*columns)


def mark_inside_share(chain: Chain) -> float:
    """Share of two-sided options whose mark lies within bid and ask, inclusive."""
    both = is_two_sided(chain)
    inside = (chain.mark >= chain.bid - PRICE_EPSILON) & (chain.mark <= chain.ask + PRICE_EPSILON)
    return float(np.mean(inside[both]))


def ask_only_share(chain: Chain) -> float:
    """Share of out-of-the-money options with an ask and no bid."""
    only = (chain.ask > 0.0) & (chain.bid <= 0.0)
    return float(np.mean(only[out_of_the_money(chain)]))


def bid_only_share(chain: Chain) -> float:
    """Share of out-of-the-money options with a bid and no ask."""
    only = (chain.bid > 0.0) & (chain.ask <= 0.0)
    return float(np.mean(only[out_of_the_money(chain)]))


def robust_sd(values: FloatArray) -> float:
    """Median absolute deviation, scaled to equal the standard deviation of a normal sample."""
    return MAD_TO_SD * float(np.median(np.abs(values - np.median(values))))


def first_component_share(moves: FloatArray) -> float:
    """Share of the total variance of the standardised columns of `moves` that the first principal
    component carries.
    """
    scaled = (moves - moves.mean(axis=0)) / moves.std(axis=0)
    spectrum = np.linalg.eigvalsh(np.cov(scaled, rowvar=False))
    return float(spectrum[-1] / spectrum.sum())


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if values.size else math.nan
