"""What expires, and at which price: told by the last sample of the venue's delivery average.

The venue publishes the average as it forms; its value when no second is left, rounded to a cent, is
the delivery price of everything that expires on that index at that moment. Missing that one
message means that nothing is delivered here: the positions then differ from the venue's at the next
reconcile, and a person decides. Cash is the portfolio's business.
"""

from __future__ import annotations

import math

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.domain.events import ExpirationEstimate
from mm_daemon.domain.units import NS_PER_S, Ns

AROUND_EXPIRY_NS = 60 * NS_PER_S
"""The last sample is taken at the expiry; it may reach us this much later."""
CENT_E8 = 10**6


def delivery_price_e8(price: float) -> int:
    """A published average as the price that is settled at: whole cents."""
    return round(price * 100.0) * CENT_E8


def expired(
    estimate: ExpirationEstimate, catalog: Catalog, portfolio: Portfolio, now_ns: Ns
) -> list[tuple[int, int]]:
    """(instrument id, delivery price in 1e-8) of what is to be delivered now; empty before the
    average is complete."""
    is_final = estimate.is_estimated and estimate.seconds_left <= 0.0
    if not is_final or not 0.0 < estimate.price < math.inf:
        return []
    price_e8 = delivery_price_e8(estimate.price)
    return [
        (instrument.id, price_e8)
        for instrument in catalog.instruments
        if instrument.price_index == estimate.index_name
        and instrument.expiry_ns
        and 0 <= now_ns - instrument.expiry_ns + NS_PER_S <= AROUND_EXPIRY_NS
        and portfolio.is_carried(instrument.id)
    ]
