"""What the decision wants done at a venue, before any protocol's words. One intent becomes one
frame or a few."""

from __future__ import annotations

import msgspec

from mm_daemon.domain.orders import Purpose, TimeInForce
from mm_daemon.domain.units import Lots, Ns, Side, Ticks


class QuoteEntry(msgspec.Struct, frozen=True):
    """Both sides of one instrument in a mass quote. None leaves a side as it is; 0 lots cancels
    it."""

    instrument_id: int
    bid_ticks: Ticks | None
    bid_lots: Lots | None
    ask_ticks: Ticks | None
    ask_lots: Lots | None


class MassQuote(msgspec.Struct, frozen=True, tag="mass_quote"):
    """RISK. At most `QUOTES_PER_MESSAGE_MAX` entries, all on one index and in one MMP group;
    post-only with reject."""

    request_id: int
    mmp_group: str
    quote_id: str
    entries: tuple[QuoteEntry, ...]
    valid_until_ns: Ns


class PlaceOrder(msgspec.Struct, frozen=True, tag="place"):
    """RISK or REDUCE (a hedge with `reduce_only`, or a flatten). `price_ticks` None = market."""

    request_id: int
    client_id: str
    instrument_id: int
    side: Side
    price_ticks: Ticks | None
    lots: Lots
    time_in_force: TimeInForce
    post_only: bool
    reduce_only: bool
    mmp: bool
    purpose: Purpose
    valid_until_ns: Ns
    is_reducing: bool = False
    """It passed the decision's own test of reducing, and leaves under that permission."""


class AmendOrder(msgspec.Struct, frozen=True, tag="amend"):
    """RISK. `total_lots` includes what is filled, as the venue counts."""

    request_id: int
    order_id: str
    client_id: str
    instrument_id: int
    price_ticks: Ticks
    total_lots: Lots
    post_only: bool
    valid_until_ns: Ns


class CancelOrder(msgspec.Struct, frozen=True, tag="cancel"):
    """SAFE. By venue order id where known, else by label and currency."""

    request_id: int
    order_id: str
    client_id: str
    currency: str


class CancelQuotes(msgspec.Struct, frozen=True, tag="cancel_quotes"):
    """SAFE. Empty `currency` and `instrument_id` −1 = every quote of the account. `freeze` refuses
    new quotes for 1 s."""

    request_id: int
    currency: str
    instrument_id: int
    freeze: bool
    price_index: str = ""
    """Of this index alone, where a currency holds several underlyings."""


class CancelAll(msgspec.Struct, frozen=True, tag="cancel_all"):
    """SAFE. All orders (and triggers) of the account, or of one currency or index."""

    request_id: int
    currency: str
    freeze: bool
    price_index: str = ""


class ReadOpenOrders(msgspec.Struct, frozen=True, tag="read_open_orders"):
    """SAFE query of the account, or of one currency; answered by `OpenOrdersRead`."""

    request_id: int
    currency: str = ""


class ReadOrder(msgspec.Struct, frozen=True, tag="read_order"):
    """SAFE query of one order by venue id, or by label where the id is unknown; answered by
    `OrderRead`."""

    request_id: int
    order_id: str
    client_id: str
    currency: str


class ReadTrades(msgspec.Struct, frozen=True, tag="read_trades"):
    """SAFE query of own trades of one currency since a venue time, oldest first; answered by
    `TradesRead`."""

    request_id: int
    currency: str
    since_venue_ns: Ns
    count_max: int


class ReadPositions(msgspec.Struct, frozen=True, tag="read_positions"):
    """SAFE query; answered by `PositionsRead`."""

    request_id: int


class ReadAccounts(msgspec.Struct, frozen=True, tag="read_accounts"):
    """SAFE query; answered by `AccountsRead`."""

    request_id: int


class ReadDelivery(msgspec.Struct, frozen=True, tag="read_delivery"):
    """SAFE query of the price at which an ended instrument was delivered; `DeliveryRead`."""

    request_id: int
    instrument_id: int


class ReadInstruments(msgspec.Struct, frozen=True, tag="read_instruments"):
    """SAFE query; answered by `InstrumentsRead`, which may add instruments and never renumbers.
    `ended` names instruments that are wanted although they are over."""

    request_id: int
    ended: tuple[str, ...] = ()


class Resync(msgspec.Struct, frozen=True, tag="resync"):
    """SAFE. Drops and resubscribes one book; answered by a fresh snapshot in `BookChanged`."""

    request_id: int
    instrument_id: int


class ResetMmp(msgspec.Struct, frozen=True, tag="reset_mmp"):
    """RISK: re-arms a group that the venue froze."""

    request_id: int
    mmp_group: str


QUOTES_PER_MESSAGE_MAX = 100

RiskIntent = MassQuote | PlaceOrder | AmendOrder
SafeIntent = (
    CancelOrder
    | CancelQuotes
    | CancelAll
    | ReadOpenOrders
    | ReadOrder
    | ReadTrades
    | ReadPositions
    | ReadAccounts
    | ReadDelivery
    | ReadInstruments
    | Resync
)
Intent = RiskIntent | ResetMmp | SafeIntent
