"""Deribit's messages as typed structures: what each frame must look like, and nothing it may mean.

Ranges that no sane venue leaves (a negative price, an unknown book action) are part of the type, so
that the decoder itself refuses them. Unknown fields are skipped: the venue adds some every month.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What decoding of hostile bytes can raise: wrong shape, broken UTF-8, absurd nesting or size."""

# Bounds far beyond any market, so that nothing converted to our integers leaves 64 bits.
Positive = Annotated[float, Meta(gt=0.0, le=1e15)]
NotNegative = Annotated[float, Meta(ge=0.0, le=1e15)]
Money = Annotated[float, Meta(ge=-9e10, le=9e10)]
Millis = Annotated[int, Meta(ge=0, le=2**43)]
Micros = Annotated[int, Meta(ge=0, le=2**53)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Action = Literal["new", "change", "delete"]
Direction = Literal["buy", "sell"]
Id = str | int


class BookBody(msgspec.Struct, gc=False):
    """`prev_change_id` is absent on a snapshot; recordings before 2022 have no `type`."""

    timestamp: Millis
    change_id: Count
    bids: list[tuple[Action, Positive, NotNegative]]
    asks: list[tuple[Action, Positive, NotNegative]]
    prev_change_id: Count | None = None
    type: str = ""


class GroupedBookBody(msgspec.Struct, gc=False):
    """Every message is the whole top of the book."""

    timestamp: Millis
    change_id: Count
    bids: list[tuple[Positive, NotNegative]]
    asks: list[tuple[Positive, NotNegative]]


class TickerBody(msgspec.Struct, gc=False):
    """Prices may be null, absent, or 0 for an empty side; `mark_iv` is in percent."""

    timestamp: Millis
    mark_price: NotNegative | None = None
    mark_iv: NotNegative | None = None
    underlying_price: NotNegative | None = None
    index_price: NotNegative | None = None
    best_bid_price: NotNegative | None = None
    best_ask_price: NotNegative | None = None
    min_price: NotNegative | None = None
    max_price: NotNegative | None = None
    funding_8h: Money | None = None
    open_interest: NotNegative | None = None


class PublicTradeBody(msgspec.Struct, gc=False):
    instrument_name: str
    timestamp: Millis
    price: Positive
    amount: Positive
    direction: Direction
    trade_seq: Count = 0
    block_trade_id: Id | None = None
    block_rfq_id: Id | None = None


class PriceIndexBody(msgspec.Struct, gc=False):
    timestamp: Millis
    price: Positive
    index_name: str


class VolatilityIndexBody(msgspec.Struct, gc=False):
    """`volatility` is in percent."""

    timestamp: Millis
    volatility: Positive
    index_name: str


class ExpirationPriceBody(msgspec.Struct, gc=False):
    price: Positive
    seconds: NotNegative = 0.0
    is_estimated: bool = False
    left_ticks: NotNegative = 0.0
    total_ticks: NotNegative = 0.0


class InstrumentStateBody(msgspec.Struct, gc=False):
    instrument_name: str
    state: str
    timestamp: Millis = 0


class PlatformBody(msgspec.Struct, gc=False):
    price_index: str | None = None
    locked: bool | None = None
    maintenance: bool | None = None


class OrderBody(msgspec.Struct, gc=False):
    """`price` is the word "market_price" on some trigger orders; amounts may be absent on them."""

    order_id: Id
    order_state: str
    instrument_name: str
    direction: Direction
    price: Money | str | None = None
    amount: Money | None = None
    filled_amount: Money | None = None
    label: str | None = None
    reduce_only: bool = False
    last_update_timestamp: Millis = 0
    creation_timestamp: Millis = 0
    quote: bool = False
    mmp_group: str | None = None
    quote_set_id: Id | None = None
    cancel_reason: str | None = None


class UserTradeBody(msgspec.Struct, gc=False):
    trade_id: Id
    order_id: Id
    instrument_name: str
    timestamp: Millis
    direction: Direction
    price: Money
    amount: Positive
    fee: Money = 0.0
    fee_currency: str = ""
    liquidity: str = ""
    label: str | None = None
    mark_price: Money = 0.0
    index_price: Money = 0.0
    quote_id: Id | None = None
    quote_set_id: Id | None = None
    trade_seq: Count = 0


class PositionBody(msgspec.Struct, gc=False):
    instrument_name: str
    size: Money
    direction: str = ""
    average_price: Money = 0.0
    mark_price: Money = 0.0
    realized_funding: Money | None = None


class UserChangesBody(msgspec.Struct, gc=False):
    trades: list[UserTradeBody] = []
    orders: list[OrderBody] = []
    positions: list[PositionBody] = []


class Rate(msgspec.Struct, gc=False):
    rate: NotNegative = 0.0
    burst: NotNegative = 0.0


class FeeRates(msgspec.Struct, gc=False):
    """`fixed` rates replace an instrument's own; `relative` ones scale them."""

    type: str = ""
    maker: Money = 0.0
    taker: Money = 0.0


class FeeValue(msgspec.Struct, gc=False):
    default: FeeRates | None = None


class AccountFee(msgspec.Struct, gc=False):
    """What this account pays on one index and kind, where it is not the instrument's commission."""

    index_name: str = ""
    kind: str = ""
    value: FeeValue | None = None


class AccountBody(msgspec.Struct, gc=False):
    currency: str
    equity: Money = 0.0
    balance: Money = 0.0
    margin_balance: Money = 0.0
    available_funds: Money = 0.0
    initial_margin: Money = 0.0
    maintenance_margin: Money = 0.0
    session_upl: Money = 0.0
    session_rpl: Money = 0.0
    options_value: Money = 0.0
    delta_total: Money = 0.0
    timestamp: Millis = 0
    portfolio_margining_enabled: bool | None = None
    margin_model: str = ""
    limits: msgspec.Raw = msgspec.Raw(b"null")
    fees: list[AccountFee] | None = None


class AccountsBody(msgspec.Struct, gc=False):
    summaries: list[AccountBody]


class MmpTriggerBody(msgspec.Struct, gc=False):
    """`frozen_until` in ms; 0 = until reset."""

    index_name: str
    frozen_until: Millis = 0
    mmp_group: str | None = None


class MmpConfigBody(msgspec.Struct, gc=False):
    index_name: str
    interval: int
    frozen_time: int
    mmp_group: str | None = None
    max_quote_quantity: float | None = None
    quantity_limit: float | None = None
    delta_limit: float | None = None
    vega_limit: float | None = None


class TickStepBody(msgspec.Struct, gc=False):
    above_price: NotNegative
    tick_size: Positive


class InstrumentName(msgspec.Struct, gc=False):
    """What is left of a row that cannot be read."""

    instrument_name: str


class InstrumentBody(msgspec.Struct, gc=False):
    """Both schemas: before 2023 there was no type, index, settlement currency or tick steps."""

    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    tick_size: Positive
    min_trade_amount: Positive
    contract_size: Positive
    expiration_timestamp: Count
    settlement_period: str = ""
    creation_timestamp: Millis = 0
    is_active: bool = True
    state: str = ""
    price_index: str = ""
    settlement_currency: str = ""
    instrument_type: str = ""
    future_type: str = ""
    tick_size_steps: list[TickStepBody] = []
    strike: NotNegative = 0.0
    option_type: str = ""
    maker_commission: Money = 0.0
    taker_commission: Money = 0.0


class AuthBody(msgspec.Struct, gc=False):
    """Tokens are placeholders by the time this is read."""

    expires_in: Annotated[int, Meta(ge=1, le=10**9)]
    scope: str = ""


class CancelOnDisconnectBody(msgspec.Struct, gc=False):
    enabled: bool
    scope: str = ""


class StatusBody(msgspec.Struct, gc=False):
    locked: str | bool = "false"
    locked_indices: list[str] | None = None


class PlacedBody(msgspec.Struct, gc=False):
    """Reply to buy, sell and edit."""

    order: OrderBody
    trades: list[UserTradeBody] = []


class ErrorBody(msgspec.Struct, gc=False):
    code: Annotated[int, Meta(ge=-(2**31), le=2**31)]
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class QuoteErrorBody(msgspec.Struct, gc=False):
    instrument_name: str
    side: Literal["bid", "ask"]
    error: ErrorBody


class MassQuotedBody(msgspec.Struct, gc=False):
    orders: list[OrderBody] = []
    trades: list[UserTradeBody] = []
    errors: list[QuoteErrorBody] = []


class TradesBody(msgspec.Struct, gc=False):
    trades: list[UserTradeBody]
    has_more: bool = False


class CancelReportBody(msgspec.Struct, gc=False):
    """One part of a detailed mass cancel: cancelled orders, or why that part failed."""

    result: list[OrderBody] = []
    error: ErrorBody | None = None
    instrument_name: str = ""
    currency: str = ""


class Envelope(msgspec.Struct, gc=False):
    """Any frame from the venue, before it is known what it is."""

    id: Id | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: ErrorBody | None = None
    us_in: Micros = msgspec.field(name="usIn", default=0)
    us_out: Micros = msgspec.field(name="usOut", default=0)


class ChannelPeek(msgspec.Struct, gc=False):
    channel: str


class HeartbeatPeek(msgspec.Struct, gc=False):
    type: str


class BookParams(msgspec.Struct, gc=False):
    channel: str
    data: BookBody


class BookFrame(msgspec.Struct, gc=False):
    params: BookParams


class TickerParams(msgspec.Struct, gc=False):
    data: TickerBody


class TickerFrame(msgspec.Struct, gc=False):
    params: TickerParams


class RawParams(msgspec.Struct, gc=False):
    data: msgspec.Raw


class RawFrame(msgspec.Struct, gc=False):
    """The rarer notifications: their data is decoded in a second step."""

    params: RawParams


class DeliveryBody(msgspec.Struct):
    """The one field of an ended instrument's ticker that a delivery needs."""

    delivery_price: float | None = None


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_channel = msgspec.json.Decoder(ChannelPeek).decode
decode_heartbeat = msgspec.json.Decoder(HeartbeatPeek).decode
decode_book = msgspec.json.Decoder(BookFrame).decode
decode_ticker = msgspec.json.Decoder(TickerFrame).decode
decode_raw = msgspec.json.Decoder(RawFrame).decode
