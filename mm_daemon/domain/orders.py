"""Orders and quotes as ids, requests and venue evidence.

An order has three independent parts: venue status (last evidence, ordered by venue time), pending
requests, and filled
quantity (fed by trades alone). So a fill in any state is legal, and unknown is never rejected.
"""

from __future__ import annotations

from enum import Enum, IntEnum

import msgspec

from mm_daemon.domain.units import CoinE8, Lots, Ns, Side, Ticks


class VenueStatus(IntEnum):
    """What the venue last said of an order. The value is the rank that breaks ties of equal venue
    time."""

    UNSEEN = 0
    OPEN = 1
    FILLED = 2
    CANCELLED = 3
    REJECTED = 4

    @property
    def is_terminal(self) -> bool:
        return self >= VenueStatus.FILLED


class TimeInForce(Enum):
    GTC = "good_til_cancelled"
    IOC = "immediate_or_cancel"
    FOK = "fill_or_kill"


class Purpose(Enum):
    """Why an order exists; part of its audit trail and of its kind at the gate."""

    QUOTE = "quote"
    HEDGE = "hedge"
    FLATTEN = "flatten"


class RejectReason(Enum):
    """Typed outcomes of a request, from the venue's error codes. UNKNOWN_OUTCOME is not a
    rejection."""

    POST_ONLY = "post_only"
    PRICE = "price"
    """Off the tick grid or outside the venue's band."""
    AMOUNT = "amount"
    FUNDS = "funds"
    SELF_TRADE = "self_trade"
    RATE_LIMIT = "rate_limit"
    MMP = "mmp"
    QUOTES_FROZEN = "quotes_frozen"
    NOT_FOUND = "not_found"
    NOT_OPEN = "not_open"
    EXPIRED = "expired"
    """`valid_until` had passed at the venue: the order was not placed."""
    REPLACED = "replaced"
    PURGED = "purged"
    """Removed from the venue's queue by a mass cancel: not placed."""
    INSTRUMENT = "instrument"
    """Closed, halted or unknown instrument, or settlement in progress."""
    MAINTENANCE = "maintenance"
    AUTH = "auth"
    CONFIG = "config"
    """MMP group, cancel-on-disconnect or account setting that the request needs is absent."""
    INVALID = "invalid"
    OTHER = "other"
    UNKNOWN_OUTCOME = "unknown_outcome"


class OrderEvidence(msgspec.Struct, frozen=True, tag="order"):
    """What the venue says of one order or quote at `ts_venue_ns`.

    `amount_lots` is the total including what is filled for orders, the REMAINING amount for quotes
    (`is_quote`).
    """

    order_id: str
    client_id: str
    """Our label; empty for quotes and for foreign orders without one."""
    instrument_id: int
    side: Side
    status: VenueStatus
    price_ticks: Ticks
    amount_lots: Lots
    filled_lots: Lots
    ts_venue_ns: Ns
    is_quote: bool
    mmp_group: str
    quote_set_id: str
    cancel_reason: str
    reduce_only: bool = False


class FillEvidence(msgspec.Struct, frozen=True, tag="fill"):
    """One trade of ours, keyed by (instrument family, trade id, order id, leg); applied exactly
    once.

    `price_e8` and `fee_e8` are exact; `fee_e8` in the fee currency, negative = rebate. `lots` > 0,
    direction in `side`.
    """

    trade_id: str
    order_id: str
    client_id: str
    instrument_id: int
    side: Side
    price_e8: int
    lots: Lots
    fee_e8: CoinE8
    fee_currency: str
    is_maker: bool
    ts_venue_ns: Ns
    mark_price_e8: int
    index_price_e8: int
    is_quote: bool
    source: str
    """stream, reply, recon or start: where the evidence came from."""
    leg: str = ""
    """Tells rows of one trade and order apart where a venue sends several."""


class PositionEvidence(msgspec.Struct, frozen=True, tag="position"):
    """The venue's position in one instrument: signed lots; average price in 1e-8 of the price
    unit."""

    instrument_id: int
    lots: Lots
    average_price_e8: int
    mark_price_e8: int
    realized_funding_e8: CoinE8
    """Of a perpetual, in the venue's present session: it restarts at each daily settlement."""
    ts_venue_ns: Ns


class AccountEvidence(msgspec.Struct, frozen=True, tag="account"):
    """The venue's account summary for one currency, in 1e-8 of it."""

    currency: str
    equity_e8: CoinE8
    balance_e8: CoinE8
    margin_balance_e8: CoinE8
    available_e8: CoinE8
    initial_margin_e8: CoinE8
    maintenance_margin_e8: CoinE8
    session_upl_e8: CoinE8
    session_rpl_e8: CoinE8
    options_value_e8: CoinE8
    delta_total: float
    portfolio_margin: bool
    ts_venue_ns: Ns
