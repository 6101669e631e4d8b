"""Risk of one lot of everything, and of what we hold: by expiry, by underlying, in total.

The theo board speaks per unit of amount (a coin; a USD for inverse futures); limits and hedges
speak of lots, of USD delta for a 1 % move, of vega per vol point and of theta per day. This module
is the one place that converts, so that the risk gate and the hedger never differ by a factor.

Delta comes in two conventions. Black delta ignores that an inverse premium is itself coin; the
premium-adjusted delta does not. USD delta = equity in coin + sum of adjusted deltas = coin cash +
sum of Black deltas: which of them is hedged is the `collateral_hedged` setting, and every fill
moves both by the adjusted delta.

From its expiry on an instrument risks nothing, whether or not anyone has said yet what it is
delivered at: its payoff is an average that is complete. It counts 0 and not unknown, or the book
would go unhedged for as long as the venue takes to say.
"""

from __future__ import annotations

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.domain.units import NS_PER_DAY, Ns
from mm_daemon.pricing.arrays import kernel

(
    LOT_DELTA,
    LOT_DELTA_ADJUSTED,
    LOT_GAMMA_USD,
    LOT_VEGA_USD,
    LOT_THETA_USD,
    LOT_VALUE_USD,
    LOT_NOTIONAL_USD,
) = range(7)
LOT_ROWS = 7
DAYS_PER_YEAR = 365.0
NO_EXPIRY = -1


class Buckets(msgspec.Struct, frozen=True):
    """Which instruments belong to one underlying, and the expiry of each as an index.

    `expiry_of[j]` indexes `expiries_ns` for the instrument `ids[j]`, −1 for a perpetual.
    """

    underlying: str
    ids: Ints
    expiry_of: Ints
    expiries_ns: tuple[int, ...]


class GreekTotals(msgspec.Struct, frozen=True):
    """What a book of one underlying risks. Deltas in coin, the rest in USD.

    gamma_usd: change of USD delta for a 1 % move. vega_usd: per vol point. theta_usd: per day.
    Arrays are by expiry of `Buckets`; `delta_perpetual` is what no expiry holds.
    """

    delta: float
    delta_adjusted: float
    gamma_usd: float
    vega_usd: float
    theta_usd: float
    delta_perpetual: float
    delta_by_expiry: Floats
    """Premium-adjusted, dated futures included."""
    gamma_by_expiry: Floats
    vega_by_expiry: Floats


def buckets_of(catalog: Catalog, underlying: str) -> Buckets:
    """Groups all instruments of an underlying, futures that no option shares an expiry with too."""
    members = [i for i in catalog.instruments if i.underlying == underlying]
    expiries = tuple(sorted({i.expiry_ns: None for i in members if i.expiry_ns}))
    index = {expiry_ns: position for position, expiry_ns in enumerate(expiries)}
    return Buckets(
        underlying=underlying,
        ids=np.array([i.id for i in members], dtype=np.int64),
        expiry_of=np.array([index.get(i.expiry_ns, NO_EXPIRY) for i in members], dtype=np.int64),
        expiries_ns=expiries,
    )


def lot_greeks(catalog: Catalog, board: Floats, now_ns: Ns, out: Floats) -> None:
    """Writes the risk of one lot of every instrument into out (LOT_ROWS, n).

    board: the theo board's columns in its row order from `price` on: price, price_usd, delta,
    delta_adjusted, gamma, vega, theta, forward; NaN where there is no theo stays NaN, but for what
    has ended by `now_ns`: that is 0.
    """
    lot_greeks_into(
        board,
        catalog.lot,
        catalog.is_option,
        catalog.is_inverse,
        catalog.expiry_ns,
        now_ns,
        out,
    )


def portfolio_greeks(buckets: Buckets, lot_greeks_rows: Floats, position_lots: Ints) -> GreekTotals:
    """Risk of the positions; NaN where something held has no greeks and has not ended."""
    expiries = len(buckets.expiries_ns)
    totals = np.zeros(LOT_ROWS)
    by_expiry = np.zeros((3, expiries + 1))
    _sum_into(buckets.ids, buckets.expiry_of, lot_greeks_rows, position_lots, totals, by_expiry)
    return GreekTotals(
        delta=float(totals[LOT_DELTA]),
        delta_adjusted=float(totals[LOT_DELTA_ADJUSTED]),
        gamma_usd=float(totals[LOT_GAMMA_USD]),
        vega_usd=float(totals[LOT_VEGA_USD]),
        theta_usd=float(totals[LOT_THETA_USD]),
        delta_perpetual=float(by_expiry[0, expiries]),
        delta_by_expiry=by_expiry[0, :expiries],
        gamma_by_expiry=by_expiry[1, :expiries],
        vega_by_expiry=by_expiry[2, :expiries],
    )


def is_short_dated(expiry_ns: int, now_ns: int) -> bool:
    """Within 24 hours of expiry, where gamma has a limit of its own."""
    return 0 < expiry_ns - now_ns < NS_PER_DAY


@kernel
def has_ended(expiry_ns: int, now_ns: int) -> bool:
    """Whether the time of an instrument is over; never that of a perpetual, whose expiry is 0."""
    return 0 < expiry_ns <= now_ns


@kernel
def lot_greeks_into(
    board: Floats,
    lot: Floats,
    is_option: Bools,
    is_inverse: Bools,
    expiry_ns: Ints,
    now_ns: int,
    out: Floats,
) -> None:
    """Rows of `board`: price, price_usd, delta, delta_adjusted, gamma, vega, theta, forward."""
    for i in range(lot.size):
        if has_ended(expiry_ns[i], now_ns):
            out[:, i] = 0.0
            continue
        size = lot[i]
        forward = board[7, i]
        out[0, i] = board[2, i] * size
        out[1, i] = board[3, i] * size
        out[2, i] = board[4, i] * forward * forward * 0.01 * size
        out[3, i] = board[5, i] * 0.01 * size
        out[4, i] = board[6, i] / 365.0 * size
        # An inverse future is denominated in USD: a lot is worth its own amount.
        if is_inverse[i] and not is_option[i]:
            out[5, i] = out[6, i] = size
        else:
            out[5, i] = board[1, i] * size
            out[6, i] = forward * size


@kernel
def _sum_into(
    ids: Ints,
    expiry_of: Ints,
    lot_rows: Floats,
    lots: Ints,
    totals: Floats,
    by_expiry: Floats,
) -> None:
    last = by_expiry.shape[1] - 1
    for j in range(ids.size):
        i = ids[j]
        held = lots[i]
        if held == 0:
            continue
        for row in range(totals.size):
            totals[row] += held * lot_rows[row, i]
        bucket = last if expiry_of[j] < 0 else expiry_of[j]
        by_expiry[0, bucket] += held * lot_rows[1, i]
        by_expiry[1, bucket] += held * lot_rows[2, i]
        by_expiry[2, bucket] += held * lot_rows[3, i]
