"""Sides of a message as the pre-trade gate handles them: taken apart, judged, put together."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from mm_daemon.core import risk_kernel as rk
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.portfolio_greeks import Buckets
from mm_daemon.core.risk_kernel import Reason
from mm_daemon.core.risk_verdict import AccountState
from mm_daemon.domain.intents import MassQuote, QuoteEntry
from mm_daemon.domain.params import RiskLimits, UnderlyingParams
from mm_daemon.domain.units import Lots, Ticks

NOTHING = (None, None)
GateSide = tuple[int, int, int, int, int]
"""(id, sign, ticks, lots, ticks of the other side of its entry)."""

BPS = 1e-4


class GateBook:
    """One underlying: its row in the gate's matrices, its parameters, its account."""

    def __init__(self, row: int, params: UnderlyingParams, buckets: Buckets) -> None:
        self.row = row
        self.params = params
        self.buckets = buckets
        self.account = AccountState(math.nan, math.nan, math.nan)
        self.is_fresh = False
        self.is_margin_tight = False
        """The room for margin, and not the limit itself, bounds the stress loss."""


class Seen(msgspec.Struct, frozen=True):
    """What the venue shows of every instrument, in its price unit; 0 or NaN where it shows none."""

    mark: Floats
    bid: Floats
    ask: Floats


def is_far(theo: Floats, seen: Seen, ints: Ints, floats: Floats, limits: RiskLimits) -> Bools:
    """Where theo lies beyond the collar around mark, above an ask's or below a bid's."""
    tick, step = floats[rk.F_TICK], ints[rk.I_STEP]

    def band(price: Floats) -> Floats:
        fine = np.where(price > ints[rk.I_ABOVE] * tick, step, 1)
        width: Floats = limits.collar_theo_ratio * price + limits.collar_ticks * tick * fine
        return width

    mark, bid, ask = (
        np.where(np.isfinite(price), price, 0.0) for price in (seen.mark, seen.bid, seen.ask)
    )
    far: Bools = (mark > 0.0) & (abs(theo - mark) > band(mark))
    far |= (ask > 0.0) & (theo - ask > band(ask))
    far |= (bid > 0.0) & (bid - theo > band(bid))
    return far


def gate_columns(catalog: Catalog, books: list[GateBook]) -> tuple[Ints, Floats, int]:
    """Columns in which grid, place and collar are known and nothing else, and the number of
    expiries that they count."""
    ints, floats = rk.empty_columns(len(catalog))
    ints[rk.I_ABOVE], ints[rk.I_STEP] = catalog.tick_above, catalog.tick_step
    floats[rk.F_TICK], floats[rk.F_WING], floats[rk.F_COLLAR_RATIO] = catalog.tick, 0.0, -1.0
    expiries = 0
    for book in books:
        ids, expiry_of = book.buckets.ids, book.buckets.expiry_of
        ints[rk.I_UNDERLYING, ids] = book.row
        ints[rk.I_EXPIRY, ids] = np.where(expiry_of < 0, -1, expiry_of + expiries)
        expiries += len(book.buckets.expiries_ns)
        # A hedge may not pay more than its slippage bound away from the reference.
        ratio = book.params.hedge.slippage_bps_max * BPS
        floats[rk.F_COLLAR_RATIO, ids[~catalog.is_option[ids]]] = ratio
    return ints, floats, expiries


def clipped(intent: MassQuote, sides: list[GateSide]) -> MassQuote:
    """The message with the sizes of these sides, which are all of its sides in their order."""
    lots = iter(side[3] for side in sides)
    entries = []
    for entry in intent.entries:
        bid_lots, ask_lots = entry.bid_lots, entry.ask_lots
        if (entry.bid_ticks, entry.bid_lots) != NOTHING:
            bid_lots = Lots(next(lots))
        if (entry.ask_ticks, entry.ask_lots) != NOTHING:
            ask_lots = Lots(next(lots))
        entries.append(
            QuoteEntry(entry.instrument_id, entry.bid_ticks, bid_lots, entry.ask_ticks, ask_lots)
        )
    return msgspec.structs.replace(intent, entries=tuple(entries))


def nearer_zero(delta: float, change: float) -> bool:
    """Whether a change takes a delta nearer to zero; never where either is NaN."""
    return delta * change < 0.0 and abs(delta + change) <= abs(delta)


def partner(terms: tuple[int, int] | None) -> int:
    """The price that the other side of an entry will have."""
    if terms is None:
        return rk.ALONE
    return terms[0] if terms[1] > 0 else 0


def judged(
    reason: int, terms: tuple[Ticks | None, Lots | None], live_ticks: int
) -> tuple[Ticks | None, Lots | None]:
    """A side as it may leave: unchanged, a pull of what rests, or nothing."""
    if reason == Reason.ACCEPTED:
        return terms
    if reason == Reason.DUPLICATE or live_ticks == 0:
        return None, None
    return Ticks(live_ticks), Lots(0)


def limit_vector(limits: RiskLimits) -> Floats:
    return np.array(
        [
            limits.order_lots_max,
            limits.order_notional_usd_max,
            limits.order_vega_usd_max,
            limits.collar_theo_ratio,
            limits.collar_ticks,
            limits.position_lots_max,
            limits.delta_coin_max,
            limits.gamma_usd_max,
            limits.vega_usd_max,
            limits.theta_usd_day_max,
            limits.short_dated_gamma_usd_max,
            limits.vega_expiry_usd_max,
            limits.stress_loss_usd_max,
            limits.wing_short_lots_max,
        ],
        dtype=np.float64,
    )
