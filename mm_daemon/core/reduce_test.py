"""What counts as reducing when hedging itself is not permitted.

A venue's reduce-only flag is of one instrument, while hedging a short option opens a future: so the
test is ours. An order in a perpetual or future reduces delta if it is no larger than the delta it
answers, of the other sign, and the worst |delta| over every subset of what else is outstanding
falls when it fills. What cannot be computed does not reduce. Amends never count as reducing: none
is ever sent for a hedge.
"""

from __future__ import annotations

import math

from mm_daemon.core.working_orders import WorkingOrders

SLACK = 1e-9
"""Relative allowance for the sums of floats that are compared."""


def reduces_delta(
    *, delta_coin: float, change_coin: float, worst_coin: tuple[float, float]
) -> bool:
    """Whether an order that would move delta by `change_coin` may leave.

    `worst_coin`: lowest and highest delta that all outstanding orders can make, this one not among
    them.
    """
    if not (math.isfinite(delta_coin) and math.isfinite(change_coin)):
        return False
    if delta_coin * change_coin >= 0.0 or abs(change_coin) > abs(delta_coin) * (1.0 + SLACK):
        return False
    lowest, highest = worst_coin
    before = max(abs(lowest), abs(highest))
    after = max(abs(lowest + change_coin), abs(highest + change_coin))
    return after < before


def has_live_order(working: WorkingOrders, instrument_ids: tuple[int, ...]) -> bool:
    """Whether an order in one of these instruments may still trade or is not accounted for."""
    return any(
        working.worst_buy_lots[id_]
        or working.worst_sell_lots[id_]
        or working.inflight_bid[id_]
        or working.inflight_ask[id_]
        for id_ in instrument_ids
    )
