"""Full revaluation of one book from one market state to the next, one cause at a time.

The order is time, forward, level of vol, skew, wings; each step starts where the last one ended, so
the steps add up to the whole change of value. Level is the change of vol of the option nearest the
money of its expiry, skew the least-squares slope of what is left in log-moneyness, wings the rest.
"""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.pricing.arrays import kernel
from mm_daemon.pricing.black76 import price_one

THETA, DELTA, GAMMA, VEGA, SKEW, WINGS, LINEAR = range(7)
ROWS = 7


@kernel
def revalue(
    ids: Ints,
    expiry_of: Ints,
    expiries: int,
    lots: Ints,
    lot: Floats,
    strike: Floats,
    is_call: Bools,
    is_option: Bools,
    is_inverse: Bools,
    years_from: Floats,
    years_to: Floats,
    forward_from: Floats,
    forward_to: Floats,
    vol_from: Floats,
    vol_to: Floats,
    theo_from: Floats,
    theo_to: Floats,
    delta_adjusted: Floats,
    out: Floats,
) -> None:
    """Adds the change of value of all positions to out (ROWS,), in the settlement currency; LINEAR
    is that of futures.

    expiry_of (ids,): index of each instrument's expiry in [0, expiries), −1 for none. What cannot
    be revalued (NaN) is left out: it stays in the caller's residual.
    """
    moves = np.zeros((2, expiries))
    _vol_moves(ids, expiry_of, is_option, strike, forward_to, vol_from, vol_to, moves)
    for j in range(ids.size):
        i = ids[j]
        if lots[i] == 0:
            continue
        amount = lots[i] * lot[i]
        if not is_option[i]:
            before, after = theo_from[i], theo_to[i]
            if before > 0.0 and after > 0.0:
                change = 1.0 / before - 1.0 / after if is_inverse[i] else after - before
                out[LINEAR] += amount * change
            continue
        _revalue_option(
            amount,
            strike[i],
            is_call[i],
            is_inverse[i],
            years_from[i],
            years_to[i],
            forward_from[i],
            forward_to[i],
            vol_from[i],
            vol_to[i],
            moves[0, expiry_of[j]],
            moves[1, expiry_of[j]],
            delta_adjusted[i],
            out,
        )


@kernel
def _vol_moves(
    ids: Ints,
    expiry_of: Ints,
    is_option: Bools,
    strike: Floats,
    forward: Floats,
    vol_from: Floats,
    vol_to: Floats,
    moves: Floats,
) -> None:
    """Writes the change of vol at the money and its slope in log-moneyness, by expiry."""
    expiries = moves.shape[1]
    nearest = np.full(expiries, math.inf)
    moneyness = np.full(ids.size, math.nan)
    for j in range(ids.size):
        i = ids[j]
        if not (is_option[i] and forward[i] > 0.0 and math.isfinite(vol_to[i] - vol_from[i])):
            continue
        moneyness[j] = math.log(strike[i] / forward[i])
        e = expiry_of[j]
        if abs(moneyness[j]) < nearest[e]:
            nearest[e] = abs(moneyness[j])
            moves[0, e] = vol_to[i] - vol_from[i]
    products = np.zeros(expiries)
    squares = np.zeros(expiries)
    for j in range(ids.size):
        if not math.isnan(moneyness[j]):
            i, e = ids[j], expiry_of[j]
            products[e] += moneyness[j] * (vol_to[i] - vol_from[i] - moves[0, e])
            squares[e] += moneyness[j] * moneyness[j]
    for e in range(expiries):
        if squares[e] > 0.0:
            moves[1, e] = products[e] / squares[e]


@kernel
def _revalue_option(
    amount: float,
    strike: float,
    is_call: bool,
    is_inverse: bool,
    years_from: float,
    years_to: float,
    forward_from: float,
    forward_to: float,
    vol_from: float,
    vol_to: float,
    level: float,
    slope: float,
    delta_adjusted: float,
    out: Floats,
) -> None:
    moneyness = math.log(strike / forward_to) if forward_to > 0.0 else math.nan
    vol_level = max(vol_from + level, 0.0)
    vol_skew = max(vol_level + slope * moneyness, 0.0)
    values = np.empty(6)
    values[0] = _value(forward_from, strike, years_from, vol_from, is_call, is_inverse)
    values[1] = _value(forward_from, strike, years_to, vol_from, is_call, is_inverse)
    values[2] = _value(forward_to, strike, years_to, vol_from, is_call, is_inverse)
    values[3] = _value(forward_to, strike, years_to, vol_level, is_call, is_inverse)
    values[4] = _value(forward_to, strike, years_to, vol_skew, is_call, is_inverse)
    values[5] = _value(forward_to, strike, years_to, vol_to, is_call, is_inverse)
    total = values[5] - values[0]
    if not math.isfinite(total + values.sum() + delta_adjusted):
        return
    first = delta_adjusted * (forward_to - forward_from)
    if is_inverse:
        first /= forward_from
    out[THETA] += amount * (values[1] - values[0])
    out[DELTA] += amount * first
    out[GAMMA] += amount * (values[2] - values[1] - first)
    out[VEGA] += amount * (values[3] - values[2])
    out[SKEW] += amount * (values[4] - values[3])
    out[WINGS] += amount * (values[5] - values[4])


@kernel
def _value(
    forward: float, strike: float, years: float, vol: float, is_call: bool, is_inverse: bool
) -> float:
    value = price_one(forward, strike, years, vol, is_call)
    return value / forward if is_inverse else value
