"""What venue protocols tell the decision: the world, normalised. One venue frame becomes a few
events.

Times named `ts_venue_ns` are the venue's; the daemon's receive time is an argument beside the
event. Prices of books are
floats as the venue sent them (the book converts to ticks); money of ours is exact in 1e-8.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from mm_daemon.domain.instruments import Instrument, Lifecycle
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    PositionEvidence,
    RejectReason,
)
from mm_daemon.domain.units import Side

Level = tuple[str, float, float]
"""(action new|change|delete, price, amount): the amount is the new total of the level."""


class BookChanged(msgspec.Struct, frozen=True, gc=False):
    """A snapshot (replaces the book) or a change whose link to the last one the protocol has
    proved."""

    instrument_id: int
    is_snapshot: bool
    bids: list[Level]
    asks: list[Level]
    change_id: int
    ts_venue_ns: int


class BookLost(msgspec.Struct, frozen=True):
    """The book is unknown from now until the next snapshot: gap, garbage, unsubscribed,
    disconnected."""

    instrument_id: int
    reason: str


class TickerSeen(msgspec.Struct, frozen=True, gc=False):
    """The venue's own view of one instrument. NaN where the venue said null. Vols are decimals
    (0.65)."""

    instrument_id: int
    mark_price: float
    mark_vol: float
    underlying_price: float
    index_price: float
    best_bid: float
    best_ask: float
    price_min: float
    price_max: float
    funding_8h: float
    open_interest: float
    ts_venue_ns: int


class PublicTrade(msgspec.Struct, frozen=True, gc=False):
    """A print. `side` is the taker's."""

    instrument_id: int
    side: Side
    price: float
    amount: float
    ts_venue_ns: int
    trade_seq: int
    is_block: bool


class IndexSeen(msgspec.Struct, frozen=True, gc=False):
    index_name: str
    price: float
    ts_venue_ns: int


class VolIndexSeen(msgspec.Struct, frozen=True, gc=False):
    """The venue's volatility index, as a decimal."""

    index_name: str
    vol: float
    ts_venue_ns: int


class ExpirationEstimate(msgspec.Struct, frozen=True):
    """What one index is expected to deliver at: an estimate of the end in the last half hour before
    an expiry, the index itself before that.

    open_share: the part of the average's samples still to be taken, None where it was not stated.
    """

    index_name: str
    price: float
    seconds_left: float
    is_estimated: bool
    open_share: float | None = None


class InstrumentsRead(msgspec.Struct, frozen=True):
    """The catalogue as far as it is known: all instruments, old ids unchanged."""

    request_id: int
    instruments: tuple[Instrument, ...]


class InstrumentStateChanged(msgspec.Struct, frozen=True):
    instrument_id: int
    """−1 where the name is not in the catalogue yet (a new listing: read instruments)."""
    name: str
    lifecycle: Lifecycle
    ts_venue_ns: int


class PlatformChanged(msgspec.Struct, frozen=True):
    """Trading of an index is locked or free, or the whole venue is under maintenance (`index_name`
    empty)."""

    index_name: str
    is_locked: bool


class SessionPhase(Enum):
    DOWN = "down"
    CONNECTED = "connected"
    AUTHENTICATED = "authenticated"
    READY = "ready"
    """Subscribed as granted; for the trading session also cancel-on-disconnect and MMP armed and
    read back."""


class SessionChanged(msgspec.Struct, frozen=True):
    conn: int
    phase: SessionPhase
    reason: str


class AccountConfirmed(msgspec.Struct, frozen=True):
    """What was read back before quoting may start: desk.md 5 refuses to quote on anything less."""

    cancel_on_disconnect: bool
    mmp_groups: tuple[str, ...]
    portfolio_margin: bool
    fee_maker_option: float
    fee_taker_future: float


class CreditLimits(msgspec.Struct, frozen=True):
    """Rate limits of this account as the venue states them: (requests per second, burst) by
    class."""

    orders_per_s: float
    orders_burst: float
    quotes_per_s: float
    quotes_burst: float
    mass_quotes_per_s: float
    mass_quotes_burst: float
    cancel_all_per_s: float
    cancel_all_burst: float
    queries_per_s: float
    queries_burst: float


class RequestDone(msgspec.Struct, frozen=True):
    """The venue answered a request: `reason` None = accepted. Orders and trades in the reply
    arrive as their own events."""

    request_id: int
    reason: RejectReason | None
    code: int
    message: str
    ts_venue_ns: int


class QuoteSideFailed(msgspec.Struct, frozen=True):
    """One side of one entry of a mass quote was refused; the quote that rested there is gone."""

    request_id: int
    instrument_id: int
    side: Side
    reason: RejectReason
    code: int


class OpenOrdersRead(msgspec.Struct, frozen=True):
    """Every open order and quote of the account, of one complete successful read."""

    request_id: int
    orders: tuple[OrderEvidence, ...]
    ts_venue_ns: int


class OrderRead(msgspec.Struct, frozen=True):
    """One order, or None where the venue does not know it (which alone is no proof that it never
    lived)."""

    request_id: int
    order: OrderEvidence | None


class TradesRead(msgspec.Struct, frozen=True):
    """One page of own trades, oldest first."""

    request_id: int
    currency: str
    fills: tuple[FillEvidence, ...]
    has_more: bool


class FillUnplaced(msgspec.Struct, frozen=True):
    """A trade of ours in an instrument that the catalogue does not have yet: it cannot be booked,
    because its lots are not known, and it is not dropped."""

    trade_id: str
    order_id: str
    instrument: str
    ts_venue_ns: int
    source: str
    leg: str = ""


class PositionsRead(msgspec.Struct, frozen=True):
    """Every position of the account; what is absent is flat."""

    request_id: int
    positions: tuple[PositionEvidence, ...]


class AccountsRead(msgspec.Struct, frozen=True):
    request_id: int
    accounts: tuple[AccountEvidence, ...]


class DeliveryRead(msgspec.Struct, frozen=True):
    """The delivery price of an ended instrument in 1e-8 of the index; −1 while it is not known."""

    request_id: int
    instrument_id: int
    price_e8: int


class QueryFailed(msgspec.Struct, frozen=True):
    """A read did not succeed: nothing is known. Never an empty answer."""

    request_id: int
    code: int
    message: str


class MmpTriggered(msgspec.Struct, frozen=True):
    """The venue pulled a group. `frozen_until_ns` 0 = until reset."""

    index_name: str
    mmp_group: str
    frozen_until_ns: int


class FrameRefused(msgspec.Struct, frozen=True):
    """A frame that could not be understood: counted; whatever it may have carried is unknown."""

    conn: int
    reason: str


MarketEvent = (
    BookChanged
    | BookLost
    | TickerSeen
    | PublicTrade
    | IndexSeen
    | VolIndexSeen
    | ExpirationEstimate
    | InstrumentsRead
    | InstrumentStateChanged
    | PlatformChanged
)
AccountEvent = (
    OrderEvidence
    | FillEvidence
    | PositionEvidence
    | AccountEvidence
    | RequestDone
    | QuoteSideFailed
    | FillUnplaced
    | OpenOrdersRead
    | OrderRead
    | TradesRead
    | PositionsRead
    | AccountsRead
    | DeliveryRead
    | QueryFailed
    | MmpTriggered
    | AccountConfirmed
    | CreditLimits
)
Event = MarketEvent | AccountEvent | SessionChanged | FrameRefused
