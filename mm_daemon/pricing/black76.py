"""Black-76 prices and greeks of European options on a forward, in USD, with zero interest.

Each option is valued on its out-of-the-money side and the intrinsic value is added afterwards, so
that put-call parity holds to the last bits and far wings keep their relative accuracy. The normal
distribution comes from `math.erfc`, whose tail is exact where a polynomial's is not.

A market price never raises here: without time or volatility an option is worth its intrinsic value,
and an input that is not a finite positive number (or a negative time or volatility) gives NaN.
Units: vol per square root of year, vega per 1.00 of vol, theta and charm per year of 365 days.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.pricing.arrays import BoolArray, FloatArray, kernel

_SQRT_HALF = 0.7071067811865476
_INV_SQRT_TWO_PI = 0.3989422804014327


class Greeks(msgspec.Struct, frozen=True):
    """Price and first-order greeks of a chain, USD per unit of the underlying.

    theta is the change of value per year that passes (negative for a long option).
    """

    price: FloatArray
    delta: FloatArray
    gamma: FloatArray
    vega: FloatArray
    theta: FloatArray


class SecondOrderGreeks(msgspec.Struct, frozen=True):
    """vanna = d(delta)/d(vol), volga = d(vega)/d(vol), charm = d(delta)/d(calendar year)."""

    vanna: FloatArray
    volga: FloatArray
    charm: FloatArray


def greeks(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tte_years: npt.ArrayLike,
    vol: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> Greeks:
    """Price, delta, gamma, vega and theta, broadcast over all arguments.

    At zero time or volatility: intrinsic value, a step delta (one half exactly at the money), and
    gamma, vega and theta zero.
    """
    columns, shape = _columns(forward, strike, tte_years, vol, is_call)
    out = np.empty((5, columns[0].size))
    greeks_into(*columns, out)
    return Greeks(*(row.reshape(shape) for row in out))


def price(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tte_years: npt.ArrayLike,
    vol: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> FloatArray:
    """Undiscounted Black-76 value in USD, broadcast over all arguments."""
    columns, shape = _columns(forward, strike, tte_years, vol, is_call)
    out = np.empty(columns[0].size)
    price_into(*columns, out)
    return out.reshape(shape)


def second_order(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tte_years: npt.ArrayLike,
    vol: npt.ArrayLike,
) -> SecondOrderGreeks:
    """Vanna, volga and charm, equal for call and put; zero without time or volatility."""
    columns, shape = _columns(forward, strike, tte_years, vol, True)
    out = np.empty((3, columns[0].size))
    second_order_into(*columns[:4], out)
    return SecondOrderGreeks(*(row.reshape(shape) for row in out))


def _columns(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    tte_years: npt.ArrayLike,
    vol: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> tuple[tuple[FloatArray, FloatArray, FloatArray, FloatArray, BoolArray], tuple[int, ...]]:
    """Contiguous flat float64 columns of one broadcast shape."""
    wide = np.broadcast_arrays(
        np.asarray(forward, dtype=np.float64),
        np.asarray(strike, dtype=np.float64),
        np.asarray(tte_years, dtype=np.float64),
        np.asarray(vol, dtype=np.float64),
        np.asarray(is_call, dtype=np.bool_),
    )
    flat = [np.ascontiguousarray(column).reshape(-1) for column in wide]
    return (flat[0], flat[1], flat[2], flat[3], flat[4]), wide[0].shape


@kernel
def normal_cdf(x: float) -> float:
    """Standard normal distribution function, relatively accurate in the lower tail."""
    return 0.5 * math.erfc(-x * _SQRT_HALF)


@kernel
def normal_pdf(x: float) -> float:
    """Standard normal density."""
    return _INV_SQRT_TWO_PI * math.exp(-0.5 * x * x)


@kernel
def inputs_are_valid(forward: float, strike: float, tte_years: float, vol: float) -> bool:
    """True when a Black-76 value exists; every comparison is false for NaN."""
    return (
        0.0 < forward < math.inf
        and 0.0 < strike < math.inf
        and 0.0 <= tte_years < math.inf
        and 0.0 <= vol < math.inf
    )


@kernel
def price_one(forward: float, strike: float, tte_years: float, vol: float, is_call: bool) -> float:
    """Black-76 value of one option; the scalar all larger kernels are made of."""
    if not inputs_are_valid(forward, strike, tte_years, vol):
        return math.nan
    sd = vol * math.sqrt(tte_years)
    above = forward > strike
    value = 0.0
    if sd > 0.0:
        d1 = math.log(forward / strike) / sd + 0.5 * sd
        sign = -1.0 if above else 1.0
        value = sign * (forward * normal_cdf(sign * d1) - strike * normal_cdf(sign * (d1 - sd)))
        # Rounding of two nearly equal tails can leave a value a few ulp below zero.
        value = max(value, 0.0)
    if above == is_call:
        value += abs(forward - strike)
    return value


@kernel
def price_into(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    out: FloatArray,
) -> None:
    """Write the values of n options into out (n,)."""
    for i in range(forward.size):
        out[i] = price_one(forward[i], strike[i], tte_years[i], vol[i], is_call[i])


@kernel
def greeks_into(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    out: FloatArray,
) -> None:
    """Write price, delta, gamma, vega, theta of n options into the rows of out (5, n).

    The hot form: no allocation, no broadcast; all arguments are arrays of length n.
    """
    n = forward.size
    assert out.shape[0] == 5
    assert out.shape[1] == n
    assert strike.size == n
    assert tte_years.size == n
    assert vol.size == n
    assert is_call.size == n
    for i in range(n):
        f = forward[i]
        k = strike[i]
        t = tte_years[i]
        v = vol[i]
        if not inputs_are_valid(f, k, t, v):
            for row in range(5):
                out[row, i] = math.nan
            continue
        root_t = math.sqrt(t)
        sd = v * root_t
        above = f > k
        intrinsic = abs(f - k) if above == is_call[i] else 0.0
        if sd <= 0.0:
            out[0, i] = intrinsic
            call_delta = 1.0 if above else (0.0 if f < k else 0.5)
            out[1, i] = call_delta if is_call[i] else call_delta - 1.0
            out[2, i] = 0.0
            out[3, i] = 0.0
            out[4, i] = 0.0
            continue
        d1 = math.log(f / k) / sd + 0.5 * sd
        sign = -1.0 if above else 1.0
        tail = normal_cdf(sign * d1)
        value = sign * (f * tail - k * normal_cdf(sign * (d1 - sd)))
        f_density = f * normal_pdf(d1)
        out[0, i] = max(value, 0.0) + intrinsic
        # `tail` is the out-of-the-money side's |delta|; the other side is its complement.
        out[1, i] = sign * tail if above != is_call[i] else -sign * (1.0 - tail)
        out[2, i] = f_density / (f * f * sd)
        out[3, i] = f_density * root_t
        out[4, i] = -0.5 * f_density * v / root_t


@kernel
def second_order_into(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    out: FloatArray,
) -> None:
    """Write vanna, volga, charm of n options into the rows of out (3, n)."""
    for i in range(forward.size):
        if not inputs_are_valid(forward[i], strike[i], tte_years[i], vol[i]):
            for row in range(3):
                out[row, i] = math.nan
            continue
        root_t = math.sqrt(tte_years[i])
        sd = vol[i] * root_t
        if sd <= 0.0:
            for row in range(3):
                out[row, i] = 0.0
            continue
        d1 = math.log(forward[i] / strike[i]) / sd + 0.5 * sd
        d2 = d1 - sd
        density = normal_pdf(d1)
        out[0, i] = -density * d2 / vol[i]
        out[1, i] = forward[i] * root_t * density * d1 * d2 / vol[i]
        out[2, i] = density * d2 / (2.0 * tte_years[i])
