"""The compiled half of the pre-trade gate: worst-case sums, and one pass over the sides of a
message.

For each measure the gate keeps the highest and the lowest value that any subset of fills could
reach: position plus, by instrument, whichever of its outstanding buys and sells moves the measure
up, or down. Sums are linear in lots, so one more side costs a few additions, and a whole resum is
one pass. Every comparison is written so that NaN refuses.

A side is refused for a limit only if it moves the measure further beyond it: what reduces is never
held up by what is already over. Accepted sides are counted at once, so the sides of one message
and the messages of one flush see each other.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.pricing.arrays import kernel


class Reason(IntEnum):
    """Why a side was refused; the value is what the kernel writes. 0 is accepted."""

    ACCEPTED = 0
    NOT_READY = 1
    SIZE_LOTS = 2
    SIZE_NOTIONAL = 3
    SIZE_VEGA = 4
    NO_THEO = 5
    COLLAR = 6
    OFF_GRID = 7
    POSITION = 8
    DELTA = 9
    GAMMA = 10
    VEGA = 11
    THETA = 12
    SHORT_DATED_GAMMA = 13
    VEGA_EXPIRY = 14
    STRESS = 15
    WING_SHORT = 16
    SELF_CROSS = 17
    DUPLICATE = 18
    OPEN_ORDERS = 19
    MARGIN = 20
    HEDGE_SIZE = 21
    NOT_REDUCING = 22
    MARKET_ORDER = 23
    UNKNOWN_INSTRUMENT = 24
    FAR_FROM_MARKET = 25


# Measures with one limit per underlying, in the order of their rows in `lots_f` and `sums`.
DELTA, GAMMA, VEGA, THETA, SHORT_GAMMA = range(5)
MEASURES = 5
MEASURE_REASONS = (
    Reason.DELTA,
    Reason.GAMMA,
    Reason.VEGA,
    Reason.THETA,
    Reason.SHORT_DATED_GAMMA,
)

# Float rows by instrument, per lot where it makes sense.
F_NOTIONAL, F_THEO, F_TICK, F_WING, F_COLLAR_RATIO = range(MEASURES, MEASURES + 5)
F_ROWS = MEASURES + 5

# Integer rows by instrument: positions, outstanding, reach, last asked terms, grid.
(
    I_POSITION,
    I_BUY,
    I_SELL,
    I_REACH_BID,
    I_REACH_ASK,
    I_ASKED_BID_TICKS,
    I_ASKED_ASK_TICKS,
    I_ASKED_BID_LOTS,
    I_ASKED_ASK_LOTS,
    I_ORDER_REACH_BID,
    I_ORDER_REACH_ASK,
    I_ABOVE,
    I_STEP,
    I_EXPIRY,
    I_UNDERLYING,
) = range(15)
I_ROWS = 15
WORKING_ROWS = 10
"""The rows from `I_BUY` on are those that working orders keep, in their order."""
ALONE = -1
"""Partner of a side that its message does not quote on the other side."""

# Limits of one underlying.
(
    L_ORDER_LOTS,
    L_ORDER_NOTIONAL,
    L_ORDER_VEGA,
    L_COLLAR_RATIO,
    L_COLLAR_TICKS,
    L_POSITION,
    L_DELTA,
    L_GAMMA,
    L_VEGA,
    L_THETA,
    L_SHORT_GAMMA,
    L_VEGA_EXPIRY,
    L_STRESS,
    L_WING_SHORT,
) = range(14)
LIMITS = 14

_R_ACCEPTED = int(Reason.ACCEPTED)
_R_SIZE_LOTS = int(Reason.SIZE_LOTS)
_R_SIZE_NOTIONAL = int(Reason.SIZE_NOTIONAL)
_R_SIZE_VEGA = int(Reason.SIZE_VEGA)
_R_NO_THEO = int(Reason.NO_THEO)
_R_COLLAR = int(Reason.COLLAR)
_R_OFF_GRID = int(Reason.OFF_GRID)
_R_POSITION = int(Reason.POSITION)
_R_DELTA = int(Reason.DELTA)
_R_VEGA_EXPIRY = int(Reason.VEGA_EXPIRY)
_R_STRESS = int(Reason.STRESS)
_R_WING_SHORT = int(Reason.WING_SHORT)
_R_SELF_CROSS = int(Reason.SELF_CROSS)
_R_DUPLICATE = int(Reason.DUPLICATE)
_R_UNKNOWN = int(Reason.UNKNOWN_INSTRUMENT)


@kernel
def sum_measures(
    ids: Ints, ints: Ints, floats: Floats, base_delta: float, sums: Floats, vega_sums: Floats
) -> None:
    """Writes (lowest, highest) of each measure of one underlying into sums (MEASURES, 2), and of
    vega into the rows of vega_sums (expiries, 2) of its expiries."""
    sums[:, :] = 0.0
    sums[DELTA, 0] = base_delta
    sums[DELTA, 1] = base_delta
    for j in range(ids.size):
        expiry = ints[I_EXPIRY, ids[j]]
        if expiry >= 0:
            vega_sums[expiry, :] = 0.0
    for j in range(ids.size):
        i = ids[j]
        add_measures(
            i, ints[I_POSITION, i], ints[I_BUY, i], ints[I_SELL, i], ints, floats, sums, vega_sums
        )


@kernel
def add_measures(
    i: int,
    held: int,
    buy: int,
    sell: int,
    ints: Ints,
    floats: Floats,
    sums: Floats,
    vega_sums: Floats,
) -> None:
    """Adds one instrument's position and outstanding lots; all negated takes them off again."""
    if held == 0 and buy == 0 and sell == 0:
        return
    for m in range(MEASURES):
        unit = floats[m, i]
        base = held * unit
        if unit > 0.0:
            sums[m, 0] += base - sell * unit
            sums[m, 1] += base + buy * unit
        else:
            sums[m, 0] += base + buy * unit
            sums[m, 1] += base - sell * unit
    expiry = ints[I_EXPIRY, i]
    if expiry >= 0:
        unit = floats[VEGA, i]
        vega_sums[expiry, 0] += (held - sell) * unit
        vega_sums[expiry, 1] += (held + buy) * unit


@kernel
def take_greeks(
    ids: Ints,
    expiry_of: Ints,
    lot_rows: Floats,
    is_short_dated: Floats,
    price: Floats,
    black_delta: Floats,
    notional: Floats,
    is_option: Bools,
    wing_delta: float,
    floats: Floats,
) -> None:
    """Writes per-lot measures, theo and size of the instruments. lot_rows: those of
    `portfolio_greeks`. is_short_dated (expiries + 1,): 1 or 0 by expiry, the last for none.

    What has no finite greeks keeps its last ones: they still serve what is held, while the missing
    theo refuses anything new.
    """
    for j in range(ids.size):
        i = ids[j]
        floats[F_THEO, i] = price[i]
        delta, gamma, vega, theta = (
            lot_rows[1, i],
            lot_rows[2, i],
            lot_rows[3, i],
            lot_rows[4, i],
        )
        if not math.isfinite(delta + gamma + vega + theta + notional[i]):
            floats[F_THEO, i] = math.nan
            continue
        floats[DELTA, i] = delta
        floats[GAMMA, i] = gamma
        floats[VEGA, i] = vega
        floats[THETA, i] = theta
        floats[SHORT_GAMMA, i] = gamma * is_short_dated[expiry_of[j]]
        floats[F_NOTIONAL, i] = notional[i]
        is_wing = is_option[i] and abs(black_delta[i]) < wing_delta
        floats[F_WING, i] = 1.0 if is_wing else 0.0


@kernel
def sync_counts(
    changed: Ints,
    position: Ints,
    working: Ints,
    ints: Ints,
    floats: Floats,
    sums: Floats,
    vega_sums: Floats,
    units: Floats,
    stress: Floats,
) -> None:
    """Brings the changed instruments' counts to their present values, and every sum with them.

    working (WORKING_ROWS, n): outstanding buys and sells, reaches, asked terms, order reaches.
    """
    for j in range(changed.size):
        i = changed[j]
        u = ints[I_UNDERLYING, i]
        if u < 0:
            continue
        held, buy, sell = ints[I_POSITION, i], ints[I_BUY, i], ints[I_SELL, i]
        add_measures(i, -held, -buy, -sell, ints, floats, sums[u], vega_sums)
        add_stress(units, stress[u], i, -held, -buy, -sell)
        ints[I_POSITION, i] = position[i]
        for row in range(WORKING_ROWS):
            ints[I_BUY + row, i] = working[row, i]
        held, buy, sell = ints[I_POSITION, i], ints[I_BUY, i], ints[I_SELL, i]
        add_measures(i, held, buy, sell, ints, floats, sums[u], vega_sums)
        add_stress(units, stress[u], i, held, buy, sell)


@kernel
def sum_stress(ids: Ints, ints: Ints, units: Floats, base: Floats, stress: Floats) -> None:
    """Worst P&L by scenario anew: base (scenarios,) plus every instrument's worst subset."""
    stress[:] = base
    for j in range(ids.size):
        i = ids[j]
        add_stress(units, stress, i, ints[I_POSITION, i], ints[I_BUY, i], ints[I_SELL, i])


@kernel
def add_stress(units: Floats, stress: Floats, i: int, position: int, buy: int, sell: int) -> None:
    if position == 0 and buy == 0 and sell == 0:
        return
    for s in range(stress.size):
        unit = units[i, s]
        worst = position * unit
        worst += buy * unit if unit < 0.0 else -sell * unit
        stress[s] += worst


@kernel
def check_sides(
    sides: Ints,
    is_reducing: bool,
    ints: Ints,
    floats: Floats,
    limits: Floats,
    sums: Floats,
    vega_sums: Floats,
    units: Floats,
    stress: Floats,
    reasons: Ints,
    numbers: Floats,
) -> None:
    """Judges each side in turn and counts the accepted ones.

    sides (5, n): id, sign, ticks, lots, and the other side's ticks in the same entry (0: it is
    pulled there; `ALONE`: the entry leaves it as it is).

    reasons (n,) gets a `Reason`; numbers (n, 2) what was found and what is allowed. Sides with 0
    lots are cancels: always accepted, never counted. `is_reducing` orders have proved elsewhere
    that they reduce delta or position, so the state limits do not apply to them.
    """
    ids, signs, ticks, lots = sides[0], sides[1], sides[2], sides[3]
    for k in range(ids.size):
        reasons[k] = _R_ACCEPTED
        if lots[k] == 0:
            continue
        i, sign = ids[k], signs[k]
        u = ints[I_UNDERLYING, i]
        if u < 0:
            reasons[k] = _R_UNKNOWN
            continue
        reason = _check_order(
            i, sign, ticks[k], lots[k], sides[4, k], ints, floats, limits[u], numbers[k]
        )
        if reason == 0 and not is_reducing:
            reason = _check_state(
                i, sign, lots[k], ints, floats, limits[u], sums[u], vega_sums, units, stress[u],
                numbers[k],
            )  # fmt: skip
        reasons[k] = reason
        if reason == 0:
            _count(i, sign, ticks[k], lots[k], ints, floats, sums[u], vega_sums, units, stress[u])


@kernel
def _check_order(
    i: int,
    sign: int,
    ticks: int,
    lots: int,
    partner_ticks: int,
    ints: Ints,
    floats: Floats,
    limits: Floats,
    numbers: Floats,
) -> int:
    """Limits of the order by itself: size, price, own other side.

    An entry that quotes both sides replaces both in one act at the venue, so there only its own two
    prices must not cross, and those of plain orders.
    """
    numbers[0], numbers[1] = lots, limits[L_ORDER_LOTS]
    # A lot of a future is a few dollars: its size is limited by its notional, below.
    is_future = floats[F_COLLAR_RATIO, i] >= 0.0
    if lots <= 0 or (lots > limits[L_ORDER_LOTS] and not is_future):
        return _R_SIZE_LOTS
    numbers[0], numbers[1] = lots * floats[F_NOTIONAL, i], limits[L_ORDER_NOTIONAL]
    if not abs(numbers[0]) <= numbers[1]:
        return _R_SIZE_NOTIONAL
    numbers[0], numbers[1] = lots * floats[VEGA, i], limits[L_ORDER_VEGA]
    if not abs(numbers[0]) <= numbers[1]:
        return _R_SIZE_VEGA
    above, step = ints[I_ABOVE, i], ints[I_STEP, i]
    numbers[0], numbers[1] = ticks, step
    if ticks <= 0 or (ticks > above and ticks % step != 0):
        return _R_OFF_GRID
    theo = floats[F_THEO, i]
    numbers[0], numbers[1] = theo, 0.0
    if not 0.0 < theo < math.inf:
        return _R_NO_THEO
    tick = floats[F_TICK, i]
    fine = step if ticks > above else 1
    band = limits[L_COLLAR_RATIO] * theo + limits[L_COLLAR_TICKS] * tick * fine
    if floats[F_COLLAR_RATIO, i] >= 0.0:
        band = floats[F_COLLAR_RATIO, i] * theo
    # Only the side that costs money: a bid above the band, an ask below it.
    numbers[0], numbers[1] = ticks * tick, theo + sign * band
    if not sign * (numbers[0] - theo) <= band:
        return _R_COLLAR
    if partner_ticks == ALONE:
        reach = ints[I_REACH_ASK, i] if sign > 0 else ints[I_REACH_BID, i]
    else:
        reach = ints[I_ORDER_REACH_ASK, i] if sign > 0 else ints[I_ORDER_REACH_BID, i]
        if partner_ticks > 0 and (reach == 0 or sign * (reach - partner_ticks) > 0):
            reach = partner_ticks
    numbers[0], numbers[1] = ticks, reach
    if reach > 0 and sign * (ticks - reach) >= 0:
        return _R_SELF_CROSS
    asked_ticks = ints[I_ASKED_BID_TICKS, i] if sign > 0 else ints[I_ASKED_ASK_TICKS, i]
    asked_lots = ints[I_ASKED_BID_LOTS, i] if sign > 0 else ints[I_ASKED_ASK_LOTS, i]
    if asked_ticks == ticks and asked_lots == lots:
        return _R_DUPLICATE
    return 0


@kernel
def _check_state(
    i: int,
    sign: int,
    lots: int,
    ints: Ints,
    floats: Floats,
    limits: Floats,
    sums: Floats,
    vega_sums: Floats,
    units: Floats,
    stress: Floats,
    numbers: Floats,
) -> int:
    """Limits of the book with this side filled on top of the worst case."""
    if sign > 0:
        worst = ints[I_POSITION, i] + ints[I_BUY, i] + lots
    else:
        worst = ints[I_SELL, i] + lots - ints[I_POSITION, i]
    numbers[0], numbers[1] = sign * worst, limits[L_POSITION]
    if not worst <= limits[L_POSITION]:
        return _R_POSITION
    numbers[1] = -limits[L_WING_SHORT]
    if sign < 0 and floats[F_WING, i] != 0.0 and not worst <= limits[L_WING_SHORT]:
        return _R_WING_SHORT
    for m in range(MEASURES):
        if _is_beyond(sign * lots * floats[m, i], sums[m], limits[L_DELTA + m], numbers):
            return _R_DELTA + m
    expiry = ints[I_EXPIRY, i]
    if expiry >= 0 and _is_beyond(
        sign * lots * floats[VEGA, i], vega_sums[expiry], limits[L_VEGA_EXPIRY], numbers
    ):
        return _R_VEGA_EXPIRY
    for s in range(stress.size):
        added = sign * lots * units[i, s]
        after = stress[s] + min(added, 0.0)
        numbers[0], numbers[1] = after, -limits[L_STRESS]
        is_within = added >= 0.0 or (added < 0.0 and after >= -limits[L_STRESS])
        if not is_within or math.isnan(stress[s]):
            return _R_STRESS
    return 0


@kernel
def _is_beyond(added: float, known: Floats, limit: float, numbers: Floats) -> bool:
    """Whether a change moves the measure's worst case beyond its limit; NaN anywhere does."""
    if math.isnan(known[0]) or math.isnan(known[1]):
        numbers[0], numbers[1] = math.nan, limit
        return True
    after = known[1] + added if added > 0.0 else known[0] + added
    numbers[0], numbers[1] = after, limit
    return not (added == 0.0 or abs(after) <= limit or after * added < 0.0)


@kernel
def _count(
    i: int,
    sign: int,
    ticks: int,
    lots: int,
    ints: Ints,
    floats: Floats,
    sums: Floats,
    vega_sums: Floats,
    units: Floats,
    stress: Floats,
) -> None:
    """Adds an accepted side to every worst case, as registering it will."""
    if sign > 0:
        ints[I_BUY, i] += lots
        ints[I_ASKED_BID_TICKS, i] = ticks
        ints[I_ASKED_BID_LOTS, i] = lots
        reach = ints[I_REACH_BID, i]
        ints[I_REACH_BID, i] = max(reach, ticks)
    else:
        ints[I_SELL, i] += lots
        ints[I_ASKED_ASK_TICKS, i] = ticks
        ints[I_ASKED_ASK_LOTS, i] = lots
        reach = ints[I_REACH_ASK, i]
        ints[I_REACH_ASK, i] = ticks if reach == 0 else min(reach, ticks)
    for m in range(MEASURES):
        added = sign * lots * floats[m, i]
        sums[m, 1 if added > 0.0 else 0] += added
    expiry = ints[I_EXPIRY, i]
    if expiry >= 0:
        added = sign * lots * floats[VEGA, i]
        vega_sums[expiry, 1 if added > 0.0 else 0] += added
    for s in range(stress.size):
        stress[s] += min(sign * lots * units[i, s], 0.0)


@kernel
def hedged_delta(
    ids: Ints, ints: Ints, floats: Floats, is_option: Bools, base_delta: float, expiry: int
) -> float:
    """Delta of positions and of outstanding orders in futures, which are hedges under way; of one
    expiry, or of everything where `expiry` is negative."""
    total = base_delta
    for j in range(ids.size):
        i = ids[j]
        if 0 <= expiry != ints[I_EXPIRY, i]:
            continue
        lots = ints[I_POSITION, i]
        if not is_option[i]:
            lots += ints[I_BUY, i] - ints[I_SELL, i]
        if lots != 0:
            total += lots * floats[DELTA, i]
    return total


def empty_columns(size: int) -> tuple[Ints, Floats]:
    """Columns of `size` instruments that nothing is known of: NaN refuses."""
    ints = np.zeros((I_ROWS, size), dtype=np.int64)
    ints[I_EXPIRY] = ints[I_UNDERLYING] = -1
    return ints, np.full((F_ROWS, size), np.nan)
