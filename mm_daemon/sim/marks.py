"""The venue's own view of every instrument: marks, implied vols and greeks, rounded as it publishes
them.

Each mark is computed from the forward and the volatility as published, so a reader who inverts a
ticker finds the numbers beside it. Marks follow the smooth surface; the market's view of single
strikes differs, which is why not every mark lies inside its bid and ask. Options are published an
expiry at a time, together, about once in three seconds, oftener when the market moves.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from mm_daemon.sim.chain import OptionChain, Slices
from mm_daemon.sim.exchange_records import Mark
from mm_daemon.sim.option_math import FloatArray, chain_prices, published_greeks
from mm_daemon.sim.spec import E8
from mm_daemon.sim.vol_surface import chain_vols

PRICE_DECIMALS: Final = 2
"""Of index, forward and futures marks, USD."""
VOL_POINT_DECIMALS: Final = 2
GREEK_DECIMALS: Final = 5
VOL_CAP_POINTS: Final = 500.0
MARK_MIN_E8: Final = 0

VOLATILITY_INDEX_YEARS: Final = 30.0 / 365.0
VARIANCE_NODES: Final = 81
VARIANCE_SPAN_SD: Final = 6.0


def option_marks(
    chain: OptionChain, slices: Slices, published: list[int], underlying_index: list[str]
) -> list[Mark]:
    """Marks of the options of the `published` slices; `underlying_index` names each slice's
    underlying.
    """
    forward = np.array([round(f, PRICE_DECIMALS) for f in slices.forward.tolist()])
    rows = np.flatnonzero(np.isin(chain.expiry, np.array(published, dtype=np.int64)))
    expiry = chain.expiry[rows]
    strike, is_call = chain.strike[rows], chain.is_call[rows]
    vol = np.empty(rows.size)
    chain_vols(
        expiry, strike, forward, slices.tte_years,
        slices.atm, slices.tilt, slices.curl, slices.bend, vol,
    )  # fmt: skip
    points = [min(round(100.0 * v, VOL_POINT_DECIMALS), VOL_CAP_POINTS) for v in vol.tolist()]
    vol = np.array(points) / 100.0
    tte = slices.tte_years[expiry]
    price, delta, vega = np.empty(rows.size), np.empty(rows.size), np.empty(rows.size)
    chain_prices(forward[expiry], strike, tte, vol, is_call, price, delta, vega)
    greeks = _chain_greeks(forward[expiry], strike, tte, vol, is_call, price)
    forwards_e8 = [round(f * E8) for f in forward.tolist()]
    digits = GREEK_DECIMALS
    return [
        Mark(
            instrument=chain.names[row],
            mark_price_e8=max(round(premium * E8), MARK_MIN_E8),
            mark_iv_pct=iv,
            underlying_price_e8=forwards_e8[e],
            underlying_index=underlying_index[e],
            delta=round(g[0], digits),
            gamma=round(g[1], digits),
            vega=round(g[2], digits),
            theta=round(g[3], digits),
            rho=round(g[4], digits),
        )
        for row, e, iv, premium, g in zip(
            rows.tolist(), expiry.tolist(), points, price.tolist(), greeks.tolist(), strict=True
        )
    ]


def future_mark(name: str, price: float) -> Mark:
    return Mark(instrument=name, mark_price_e8=price_e8(price), delta=1.0)


def price_e8(price: float) -> int:
    """A USD price as the venue prints it, in 1e-8."""
    return round(round(price, PRICE_DECIMALS) * E8)


def volatility_index_points(slices: Slices) -> float:
    """The 30-day model-free volatility of the surface, percent: interpolated in total variance
    between expiries.
    """
    tte = slices.tte_years
    if tte.size == 0:
        return math.nan
    total = np.array([
        _variance_swap(float(a), float(t), float(c), float(b), float(y)) * float(y)
        for a, t, c, b, y in zip(
            slices.atm, slices.tilt, slices.curl, slices.bend, tte, strict=True
        )
    ])  # fmt: skip
    variance = float(np.interp(VOLATILITY_INDEX_YEARS, tte, total)) / VOLATILITY_INDEX_YEARS
    return round(100.0 * math.sqrt(variance), VOL_POINT_DECIMALS)


@njit(cache=True, nogil=True)
def _chain_greeks(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: np.ndarray,
    price: FloatArray,
) -> np.ndarray:
    out = np.empty((forward.size, 5))
    for i in range(forward.size):
        delta, gamma, vega, theta, rho = published_greeks(
            forward[i], strike[i], tte_years[i], vol[i], is_call[i], price[i]
        )
        out[i, 0] = delta
        out[i, 1] = gamma
        out[i, 2] = vega
        out[i, 3] = theta
        out[i, 4] = rho
    return out


@njit(cache=True, nogil=True)
def _variance_swap(atm: float, tilt: float, curl: float, bend: float, tte_years: float) -> float:
    """Annual variance of the log contract, from the out-of-the-money strip of one smile."""
    sd = atm * math.sqrt(tte_years)
    step = 2.0 * VARIANCE_SPAN_SD / (VARIANCE_NODES - 1)
    total = 0.0
    for j in range(VARIANCE_NODES):
        x = -VARIANCE_SPAN_SD + step * j
        strike = math.exp(x * sd)
        variance = 1.0 + tilt * x + curl * (math.sqrt(x * x + bend * bend) - bend)
        own = sd * math.sqrt(variance)
        d1 = -math.log(strike) / own + 0.5 * own
        d2 = d1 - own
        if x >= 0.0:
            premium = 0.5 * math.erfc(-d1 / math.sqrt(2.0)) - strike * 0.5 * math.erfc(
                -d2 / math.sqrt(2.0)
            )
        else:
            premium = strike * 0.5 * math.erfc(d2 / math.sqrt(2.0)) - 0.5 * math.erfc(
                d1 / math.sqrt(2.0)
            )
        total += 2.0 * premium / strike * sd * step
    return total / tte_years
