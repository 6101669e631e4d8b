"""What is said to the simulated venue and what it answers: requests, orders, trades, replies.

Plain structs, no behaviour. Integers in 1e-8 units (`_e8`), microseconds (`_us`); floats only
for what the venue itself estimates (greeks, implied vols in percent, margin ratios).
An optional field that is None was not sent, or does not apply. Mutable structs (`Order`) are
handed out as copies: a receiver may keep them.
"""

from enum import StrEnum

import msgspec

from mm_daemon.sim.spec import Kind


class OrderType(StrEnum):
    LIMIT = "limit"
    MARKET = "market"
    MARKET_LIMIT = "market_limit"


class TimeInForce(StrEnum):
    GOOD_TIL_CANCELLED = "good_til_cancelled"
    GOOD_TIL_DAY = "good_til_day"
    FILL_OR_KILL = "fill_or_kill"
    IMMEDIATE_OR_CANCEL = "immediate_or_cancel"


class OrderState(StrEnum):
    OPEN = "open"
    FILLED = "filled"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    SPEED_BUMPED = "speed_bumped"


class CancelReason(StrEnum):
    """`cancel_reason` of an order; NONE while it has none."""

    NONE = ""
    USER_REQUEST = "user_request"
    CANCEL_ON_DISCONNECT = "cancel_on_disconnect"
    RISK_MITIGATION = "risk_mitigation"
    MMP_TRIGGER = "mmp_trigger"
    MMP_CONFIG_CURTAILMENT = "mmp_config_curtailment"
    EDIT_POST_ONLY_REJECT = "edit_post_only_reject"
    SETTLEMENT = "settlement"


class MarginModel(StrEnum):
    STANDARD = "segregated_sm"
    PORTFOLIO = "segregated_pm"


class SelfTradeMode(StrEnum):
    REJECT_TAKER = "reject_taker"
    CANCEL_MAKER = "cancel_maker"


class CodScope(StrEnum):
    CONNECTION = "connection"
    ACCOUNT = "account"


class CreditClass(StrEnum):
    """The venue's rate-limit pools."""

    NON_MATCHING = "non_matching_engine"
    GET_INSTRUMENTS = "get_instruments"
    SUBSCRIBE = "subscribe"
    TRANSACTION_LOG = "get_transaction_log"
    MATCHING = "matching_engine"
    CANCEL_ALL = "cancel_all"
    MAXIMUM_QUOTES = "maximum_quotes"
    MAXIMUM_MASS_QUOTES = "maximum_mass_quotes"
    GUARANTEED_MASS_QUOTES = "guaranteed_mass_quotes"


class Caller(msgspec.Struct, frozen=True):
    """Who asks: an account, over one open connection; connection 0 is REST or in-process."""

    account: str
    connection: int = 0


# ---------------------------------------------------------------- requests


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """private/buy (sign +1) or private/sell (sign -1); amount or contracts or both."""

    instrument: str
    sign: int
    amount_e8: int | None = None
    contracts_e8: int | None = None
    order_type: OrderType = OrderType.LIMIT
    price_e8: int | None = None
    label: str = ""
    time_in_force: TimeInForce = TimeInForce.GOOD_TIL_CANCELLED
    post_only: bool = False
    reject_post_only: bool = False
    reduce_only: bool = False
    mmp: bool = False
    valid_until_ms: int | None = None
    via_api: bool = True


class EditRequest(msgspec.Struct, frozen=True, kw_only=True):
    """private/edit by order_id, or private/edit_by_label by (label, instrument).

    `amount_e8` is the total including what is filled; None keeps the value of the order, except
    that post_only and reduce_only are cleared when not sent again, as the venue does.
    """

    order_id: str | None = None
    label: str | None = None
    instrument: str | None = None
    amount_e8: int | None = None
    contracts_e8: int | None = None
    price_e8: int | None = None
    post_only: bool = False
    reject_post_only: bool = False
    reduce_only: bool = False
    mmp: bool | None = None
    valid_until_ms: int | None = None


class CancelFilter(msgspec.Struct, frozen=True, kw_only=True):
    """One mass cancel; every field that is set narrows it, none set means everything.

    cancel_all: nothing; _by_currency: currency; _by_currency_pair: price_index;
    _by_instrument: instrument; _by_kind_or_type: kind, order_type; cancel_by_label: label
    (which never matches quotes, they carry no label).
    """

    currency: str | None = None
    price_index: str | None = None
    kind: Kind | None = None
    instrument: str | None = None
    label: str | None = None
    order_type: OrderType | None = None
    freeze_quotes: bool = False


class QuoteSide(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a quote; a missing price or amount amends only the other, amount 0 cancels."""

    price_e8: int | None = None
    amount_e8: int | None = None
    post_only: bool = False
    reject_post_only: bool = False


class QuoteEntry(msgspec.Struct, frozen=True, kw_only=True):
    instrument: str
    quote_set_id: str = ""
    bid: QuoteSide | None = None
    ask: QuoteSide | None = None


class MassQuoteRequest(msgspec.Struct, frozen=True, kw_only=True):
    mmp_group: str
    quote_id: str
    quotes: tuple[QuoteEntry, ...]
    wait_for_response: bool = True
    valid_until_ms: int | None = None


class CancelQuotesType(StrEnum):
    DELTA = "delta"
    QUOTE_SET_ID = "quote_set_id"
    INSTRUMENT = "instrument"
    INSTRUMENT_KIND = "instrument_kind"
    CURRENCY = "currency"
    CURRENCY_PAIR = "currency_pair"
    ALL = "all"


class CancelQuotesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """private/cancel_quotes; the fields its `cancel_type` names must be set (-32602 if not)."""

    cancel_type: CancelQuotesType
    min_delta: float | None = None
    max_delta: float | None = None
    quote_set_id: str | None = None
    instrument: str | None = None
    kind: Kind | None = None
    currency: str | None = None
    price_index: str | None = None
    freeze_quotes: bool = False


class MmpConfigRequest(msgspec.Struct, frozen=True, kw_only=True):
    """private/set_mmp_config; group "" is the default group of buy/sell with mmp.

    interval_s 0 deletes the group; frozen_time_s 0 stays frozen until reset. An unsent limit is
    cleared. Quantities and deltas in base coin, vega in USD per vol point.
    """

    index_name: str
    interval_s: int
    frozen_time_s: int
    max_quote_quantity_e8: int | None
    quantity_limit_e8: int | None = None
    delta_limit_e8: int | None = None
    vega_limit_e8: int | None = None
    mmp_group: str = ""


# ---------------------------------------------------------------- records


class Order(msgspec.Struct, kw_only=True, eq=False):
    """One order or quote as the venue knows it; `amount_e8` of a quote is what remains.

    `seq` is the number behind `order_id`. `price_e8` is None for a market order.
    `average_price_e8` is 0 until something is filled.
    """

    seq: int
    order_id: str
    account: str
    connection: int
    instrument: str
    sign: int
    order_type: OrderType
    time_in_force: TimeInForce
    price_e8: int | None
    amount_e8: int
    contracts_e8: int
    filled_e8: int = 0
    filled_value_e18: int = 0
    average_price_e8: int = 0
    state: OrderState = OrderState.OPEN
    label: str = ""
    post_only: bool = False
    reject_post_only: bool = False
    reduce_only: bool = False
    mmp: bool = False
    mmp_group: str = ""
    mmp_cancelled: bool = False
    is_quote: bool = False
    quote_id: str = ""
    quote_set_id: str = ""
    replaced: bool = False
    risk_reducing: bool = False
    via_api: bool = True
    cancel_reason: CancelReason = CancelReason.NONE
    user_id: int = 0
    created_us: int = 0
    updated_us: int = 0

    @property
    def remaining_e8(self) -> int:
        return self.amount_e8 if self.is_quote else self.amount_e8 - self.filled_e8

    @property
    def direction(self) -> str:
        return "buy" if self.sign > 0 else "sell"


class UserTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One fill seen by its owner; `fee_e8` negative is a rebate, in `fee_currency`.

    `order_state` is the order's state after this fill; `profit_loss_e8` what it realised.
    """

    trade_id: str
    trade_seq: int
    order_id: str
    account: str
    ts_us: int
    instrument: str
    sign: int
    price_e8: int
    amount_e8: int
    contracts_e8: int
    fee_e8: int
    fee_currency: str
    is_maker: bool
    order_state: OrderState
    order_type: OrderType
    label: str
    mark_price_e8: int
    index_price_e8: int
    underlying_price_e8: int | None
    iv_pct: float | None
    tick_direction: int
    profit_loss_e8: int
    mmp: bool
    post_only: bool
    reduce_only: bool
    via_api: bool
    user_id: int
    is_quote: bool
    quote_id: str
    quote_set_id: str
    mmp_group: str


class PublicTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One print; `sign` is the taker's.

    tick_direction: 0 plus, 1 zero plus, 2 minus, 3 zero minus.
    """

    trade_id: str
    trade_seq: int
    ts_us: int
    instrument: str
    sign: int
    price_e8: int
    amount_e8: int
    contracts_e8: int
    tick_direction: int
    mark_price_e8: int
    index_price_e8: int
    iv_pct: float | None


# ---------------------------------------------------------------- replies


class OrderReply(msgspec.Struct, frozen=True):
    order: Order
    trades: tuple[UserTrade, ...]


class CancelReply(msgspec.Struct, frozen=True):
    """Count is len(orders); `detailed` on the wire prints the orders themselves."""

    orders: tuple[Order, ...]


class QuoteError(msgspec.Struct, frozen=True, kw_only=True):
    instrument: str
    sign: int
    code: int
    message: str


class MassQuoteReply(msgspec.Struct, frozen=True, kw_only=True):
    """`pending_requests` counts sides still in the speed bump when the reply was made."""

    orders: tuple[Order, ...]
    trades: tuple[UserTrade, ...]
    errors: tuple[QuoteError, ...]
    pending_requests: int = 0


class Pending(msgspec.Struct, frozen=True):
    """No reply yet: it will come as a `RequestCompleted` event with this ticket."""

    ticket: int


class TradePage(msgspec.Struct, frozen=True):
    """Newest or oldest first as asked; has_more where the page was cut at `count`."""

    trades: tuple[UserTrade, ...]
    has_more: bool
