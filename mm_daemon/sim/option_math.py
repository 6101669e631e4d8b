"""The world's own option arithmetic: Black-76 in coin, its inversion, and greeks in the venue's
published convention.

Written apart from the daemon's pricing on purpose, so that client and venue cannot share a mistake.
Everything is a numba kernel over flat arrays: the world prices a whole chain in one call. Nothing
here knows an instrument, a book or a clock.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

YEAR_US = 365 * 86_400 * 1_000_000
"""The venue counts a year as 365 days to 08:00 UTC."""

SQRT_HALF = math.sqrt(0.5)
INV_SQRT_TAU = 1.0 / math.sqrt(2.0 * math.pi)
VOL_MIN = 0.01
VOL_MAX = 5.0
"""The venue caps a published implied volatility at 500 %."""
DAYS_PER_YEAR = 365.0
INVERSION_STEPS = 60


@njit(cache=True, nogil=True)
def normal_cdf(x: float) -> float:
    """Standard normal distribution function, accurate in both tails."""
    return 0.5 * math.erfc(-x * SQRT_HALF)


@njit(cache=True, nogil=True)
def normal_density(x: float) -> float:
    return INV_SQRT_TAU * math.exp(-0.5 * x * x)


@njit(cache=True, nogil=True)
def price_coin(forward: float, strike: float, tte_years: float, vol: float, is_call: bool) -> float:
    """Premium in coin of one inverse option, the smaller of the parity pair computed directly so
    that wings keep digits.
    """
    sd = vol * math.sqrt(tte_years)
    if sd <= 0.0:
        payoff = forward - strike if is_call else strike - forward
        return max(payoff, 0.0) / forward
    d1 = math.log(forward / strike) / sd + 0.5 * sd
    d2 = d1 - sd
    if is_call:
        return normal_cdf(d1) - strike / forward * normal_cdf(d2)
    return strike / forward * normal_cdf(-d2) - normal_cdf(-d1)


@njit(cache=True, nogil=True)
def implied_vol(
    price: float, forward: float, strike: float, tte_years: float, is_call: bool
) -> float:
    """Volatility that reproduces a coin premium, capped at VOL_MAX; NaN at or below intrinsic
    value.
    """
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0.0) / forward
    if not price > intrinsic or tte_years <= 0.0:
        return math.nan
    low, high = VOL_MIN, VOL_MAX
    if price <= price_coin(forward, strike, tte_years, low, is_call):
        return math.nan
    if price >= price_coin(forward, strike, tte_years, high, is_call):
        return VOL_MAX
    vol = 0.6
    root_t = math.sqrt(tte_years)
    for _ in range(INVERSION_STEPS):
        error = price_coin(forward, strike, tte_years, vol, is_call) - price
        if error > 0.0:
            high = vol
        else:
            low = vol
        sd = vol * root_t
        vega = root_t * normal_density(math.log(forward / strike) / sd + 0.5 * sd)
        step = vol - error / vega if vega > 1e-14 else -1.0
        trial = step if low < step < high else 0.5 * (low + high)
        if abs(trial - vol) < 1e-12:
            return trial
        vol = trial
    return vol


@njit(cache=True, nogil=True)
def chain_prices(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    out_price: FloatArray,
    out_delta: FloatArray,
    out_vega: FloatArray,
) -> None:
    """Fills premium (coin), Black delta (undiscounted, not premium-adjusted) and vega (coin per
    1.00 of vol) of a chain.
    """
    for i in range(forward.size):
        sd = vol[i] * math.sqrt(tte_years[i])
        out_price[i] = price_coin(forward[i], strike[i], tte_years[i], vol[i], is_call[i])
        if sd <= 0.0:
            itm = forward[i] > strike[i]
            out_delta[i] = (1.0 if itm else 0.0) if is_call[i] else (0.0 if itm else -1.0)
            out_vega[i] = 0.0
            continue
        d1 = math.log(forward[i] / strike[i]) / sd + 0.5 * sd
        out_delta[i] = normal_cdf(d1) if is_call[i] else -normal_cdf(-d1)
        out_vega[i] = math.sqrt(tte_years[i]) * normal_density(d1)


@njit(cache=True, nogil=True)
def chain_implied_vols(
    price: FloatArray,
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    is_call: BoolArray,
) -> FloatArray:
    """Element-wise `implied_vol` of coin premia."""
    out = np.empty(price.size)
    for i in range(price.size):
        out[i] = implied_vol(price[i], forward[i], strike[i], tte_years[i], is_call[i])
    return out


@njit(cache=True, nogil=True)
def published_greeks(
    forward: float,
    strike: float,
    tte_years: float,
    vol: float,
    is_call: bool,
    mark_price: float,
) -> tuple[float, float, float, float, float]:
    """(delta, gamma, vega, theta, rho) in the venue's convention, unrounded.

    USD for one contract of one coin, also for inverse options: gamma per USD, vega and rho per
    point, theta per day, of which no more than the days left, and never more than the mark's own
    value. Delta is not premium-adjusted.
    """
    sd = vol * math.sqrt(tte_years)
    if sd <= 0.0:
        itm = forward > strike
        delta = (1.0 if itm else 0.0) if is_call else (0.0 if itm else -1.0)
        return delta, 0.0, 0.0, 0.0, 0.0
    d1 = math.log(forward / strike) / sd + 0.5 * sd
    d2 = d1 - sd
    density = normal_density(d1)
    delta = normal_cdf(d1) if is_call else -normal_cdf(-d1)
    gamma = density / (forward * sd)
    vega = forward * density * math.sqrt(tte_years) / 100.0
    decay = forward * density * vol / (2.0 * math.sqrt(tte_years)) / DAYS_PER_YEAR
    theta = -min(decay * min(1.0, tte_years * DAYS_PER_YEAR), mark_price * forward)
    sign = 1.0 if is_call else -1.0
    rho = sign * strike * tte_years * normal_cdf(sign * d2) / 100.0
    return delta, gamma, vega, theta, rho
