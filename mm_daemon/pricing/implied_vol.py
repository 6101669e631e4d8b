"""Black-76 implied volatility by a bracketed Halley iteration on a transformed price.

The price is reduced to the out-of-the-money side and normalised by sqrt(forward * strike). Below
the inflection of price in total volatility the reciprocal of log price is nearly a parabola; above
it price itself is nearly a line, and close to the ceiling the log of the remaining distance is.
Solving for those instead of the price makes three to five steps enough everywhere.

NaN where no positive volatility reproduces the price: at or below intrinsic value, at or above the
ceiling (forward for a call, strike for a put), without time, or on inputs that are not finite.
"""

import math

import numpy as np
import numpy.typing as npt

from mm_daemon.pricing.arrays import BoolArray, FloatArray, kernel
from mm_daemon.pricing.black76 import normal_cdf, normal_pdf

_STEPS_MAX = 64
_RELATIVE_STEP_MIN = 1e-14
"""A Halley step below this share of the root cannot change it beyond rounding."""


def implied_vol(
    price: npt.ArrayLike,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tte_years: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> FloatArray:
    """Volatility whose Black-76 value is `price` (USD), broadcast over all arguments."""
    wide = np.broadcast_arrays(
        np.asarray(price, dtype=np.float64),
        np.asarray(forward, dtype=np.float64),
        np.asarray(strike, dtype=np.float64),
        np.asarray(tte_years, dtype=np.float64),
        np.asarray(is_call, dtype=np.bool_),
    )
    flat = [np.ascontiguousarray(column).reshape(-1) for column in wide]
    out = np.empty(flat[0].size)
    implied_vol_into(flat[0], flat[1], flat[2], flat[3], flat[4], out)
    return out.reshape(wide[0].shape)


@kernel
def implied_vol_into(
    price: FloatArray,
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    is_call: BoolArray,
    out: FloatArray,
) -> None:
    """Write the implied volatilities of n options into out (n,)."""
    for i in range(price.size):
        out[i] = implied_vol_one(price[i], forward[i], strike[i], tte_years[i], is_call[i])


@kernel
def implied_vol_one(
    price: float, forward: float, strike: float, tte_years: float, is_call: bool
) -> float:
    """Implied volatility of one option, NaN where none exists."""
    if not (
        0.0 < forward < math.inf
        and 0.0 < strike < math.inf
        and 0.0 < tte_years < math.inf
        and 0.0 < price < math.inf
    ):
        return math.nan
    in_the_money = (forward > strike) == is_call
    value = price - abs(forward - strike) if in_the_money else price
    if not 0.0 < value < min(forward, strike):
        return math.nan
    target = value / (math.sqrt(forward) * math.sqrt(strike))
    x = -abs(math.log(forward / strike))
    # Scaling may round a value one ulp below the ceiling up to it.
    if not 0.0 < target < math.exp(0.5 * x):
        return math.nan
    return _total_vol(target, x) / math.sqrt(tte_years)


@kernel
def _normalised_price(x: float, s: float) -> float:
    """Out-of-the-money Black value over sqrt(forward * strike) at total volatility s; x <= 0."""
    half = math.exp(0.5 * x)
    return half * normal_cdf(x / s + 0.5 * s) - normal_cdf(x / s - 0.5 * s) / half


@kernel
def _start(target: float, x: float) -> tuple[float, float, float, int]:
    """First guess, bracket, and branch: 0 reciprocal log, 1 linear, 2 log of the room left."""
    inflection = math.sqrt(-2.0 * x)
    if inflection == 0.0:
        guess = target / 0.3989422804014327
        return guess, 0.0, math.inf, (2 if target > 0.7 else 1)
    at_inflection = _normalised_price(x, inflection)
    if target < at_inflection:
        guess = inflection * math.sqrt(math.log(at_inflection) / math.log(target))
        return guess, 0.0, inflection, 0
    slope = math.exp(0.5 * x) * normal_pdf(x / inflection + 0.5 * inflection)
    guess = inflection + (target - at_inflection) / slope
    ceiling = math.exp(0.5 * x)
    branch = 2 if target > at_inflection + 0.5 * (ceiling - at_inflection) else 1
    return guess, inflection, math.inf, branch


@kernel
def _total_vol(target: float, x: float) -> float:
    """Root s of normalised price = target, by Halley steps kept inside a shrinking bracket."""
    s, low, high, branch = _start(target, x)
    ceiling = math.exp(0.5 * x)
    log_target = math.log(target)
    for _ in range(_STEPS_MAX):
        value = _normalised_price(x, s)
        slope = ceiling * normal_pdf(x / s + 0.5 * s)
        if value > target:
            high = min(high, s)
        else:
            low = max(low, s)
        # Logarithmic derivative of the slope: price'' / price'.
        bend = x * x / (s * s * s) - 0.25 * s
        step = math.nan
        if branch == 0 and value > 0.0:
            log_value = math.log(value)
            ratio = slope / value
            newton = (log_target - log_value) * log_value / (ratio * log_target)
            curve = bend - ratio - 2.0 * ratio / log_value
            step = newton / (1.0 + 0.5 * newton * curve)
        elif branch == 2 and value < ceiling:
            room = ceiling - value
            newton = math.log(room / (ceiling - target)) * room / slope
            step = newton / (1.0 + 0.5 * newton * (bend + slope / room))
        elif branch == 1:
            newton = (target - value) / slope
            step = newton / (1.0 + 0.5 * newton * bend)
        following = s + step
        if not low < following < high:
            if abs(following - s) <= _RELATIVE_STEP_MIN * s:
                return s
            following = 0.5 * (low + high) if high < math.inf else 2.0 * s
        if abs(following - s) <= _RELATIVE_STEP_MIN * s:
            return following
        s = following
    return s
