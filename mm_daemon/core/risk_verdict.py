"""What the pre-trade gate says of an intent, and which control each refusal belongs to."""

from __future__ import annotations

import math

import msgspec

from mm_daemon.core.risk_kernel import Reason
from mm_daemon.domain.intents import RiskIntent
from mm_daemon.domain.units import Side


class Refused(msgspec.Struct, frozen=True):
    """Why one side may not leave: what was found against what is allowed, in the limit's unit."""

    control: str
    reason: Reason
    instrument_id: int
    side: Side
    found: float
    allowed: float


class Verdict(msgspec.Struct, frozen=True):
    """What may leave of an intent (None: nothing), and what was refused of it."""

    allowed: RiskIntent | None
    refused: tuple[Refused, ...]


class AccountState(msgspec.Struct, frozen=True):
    """What the gate needs to know of the account behind one underlying."""

    base_delta_coin: float
    """Coin equity where the collateral is hedged, else 0."""
    index_usd: float
    margin_use: float
    """Initial margin over margin balance; NaN where unknown."""
    margin_room_usd: float = math.inf
    """Initial margin that may be asked beyond the present one before the stop ratio is reached."""
    margin_scale: float = 1.0
    """Initial margin asked for each USD of stress loss."""


SIZE_REASONS = (Reason.SIZE_LOTS, Reason.SIZE_NOTIONAL, Reason.SIZE_VEGA)
"""An order that is too large by itself: never the book's doing."""

CONTROL_OF = {
    Reason.SIZE_LOTS: "C1",
    Reason.SIZE_NOTIONAL: "C1",
    Reason.SIZE_VEGA: "C1",
    Reason.HEDGE_SIZE: "C1",
    Reason.NO_THEO: "C2",
    Reason.COLLAR: "C2",
    Reason.FAR_FROM_MARKET: "C2",
    Reason.OFF_GRID: "C2",
    Reason.MARKET_ORDER: "C2",
    Reason.NOT_READY: "C4",
    Reason.UNKNOWN_INSTRUMENT: "C4",
    Reason.POSITION: "C4",
    Reason.DELTA: "C4",
    Reason.GAMMA: "C4",
    Reason.VEGA: "C4",
    Reason.THETA: "C4",
    Reason.VEGA_EXPIRY: "C4",
    Reason.NOT_REDUCING: "C4",
    Reason.OPEN_ORDERS: "C5",
    Reason.MARGIN: "C5",
    Reason.DUPLICATE: "C8",
    Reason.SELF_CROSS: "C9",
    Reason.STRESS: "C31",
    Reason.WING_SHORT: "C32",
    Reason.SHORT_DATED_GAMMA: "C33",
}
"""The control that each refusal belongs to."""
