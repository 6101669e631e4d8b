"""What the simulated venue states about markets and accounts: tickers, positions, ledgers.

Plain structs, no behaviour; the same units as exchange_types. They are values at a moment, never
references into the exchange.
"""

from enum import StrEnum

import msgspec

from mm_daemon.sim.exchange_types import MarginModel
from mm_daemon.sim.spec import InstrumentState, Kind


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the world says of one instrument: the published, rounded mark and its greeks.

    `mark_price_e8` is already rounded to 1e-8. Greeks are per contract by the venue's
    convention (delta Black, vega USD per vol point, theta USD per day); 0 for futures except
    `delta` 1. `underlying_price_e8` and `underlying_index` only for options; iv in percent.
    """

    instrument: str
    mark_price_e8: int
    mark_iv_pct: float = 0.0
    underlying_price_e8: int | None = None
    underlying_index: str = ""
    interest_rate: float = 0.0
    delta: float = 0.0
    gamma: float = 0.0
    vega: float = 0.0
    theta: float = 0.0
    rho: float = 0.0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Rolling 24 h; None where nothing traded. volume in base coin, volume_usd in USD."""

    volume_e8: int
    volume_usd_e8: int
    low_e8: int | None
    high_e8: int | None
    price_change_pct: float | None


class Ticker(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument at one moment; `mark` is None before the world's first mark.

    Funding fields only for perpetuals, as decimal rates per 8 h. Bests are 0 on an empty side.
    """

    instrument: str
    ts_us: int
    state: InstrumentState
    best_bid_price_e8: int
    best_bid_amount_e8: int
    best_ask_price_e8: int
    best_ask_amount_e8: int
    last_price_e8: int | None
    mark: Mark | None
    index_price_e8: int
    min_price_e8: int
    max_price_e8: int
    settlement_price_e8: int | None
    estimated_delivery_price_e8: int
    delivery_price_e8: int | None
    open_interest_e8: int
    stats: Stats
    current_funding: float | None = None
    funding_8h: float | None = None
    interest_value: float | None = None


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides best first as (price_e8, amount_e8), with the change id they belong to."""

    instrument: str
    ts_us: int
    change_id: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """One position: size signed (USD for inverse futures, else base coin).

    Money in the settlement currency. `delta` is Black delta times size for options and the coin
    size for futures; gamma, vega, theta only for options. `average_price_e8` is harmonic for
    inverse futures; floating P&L is against the average price.
    """

    instrument: str
    kind: Kind
    size_e8: int
    size_currency_e8: int | None
    average_price_e8: int
    mark_price_e8: int
    index_price_e8: int
    settlement_price_e8: int | None
    delta: float
    gamma: float | None
    vega: float | None
    theta: float | None
    floating_profit_loss_e8: int
    realized_profit_loss_e8: int
    total_profit_loss_e8: int
    realized_funding_e8: int | None
    initial_margin_e8: int
    maintenance_margin_e8: int
    open_orders_margin_e8: int
    leverage: int | None


class RateLimit(msgspec.Struct, frozen=True):
    """Sustained requests per second, and how many may come at once."""

    rate: int
    burst: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`limits` of the account summary."""

    non_matching_engine: RateLimit
    matching_engine: RateLimit
    maximum_quotes: RateLimit
    maximum_mass_quotes: RateLimit
    guaranteed_mass_quotes: RateLimit
    cancel_all: RateLimit


class FeeRow(msgspec.Struct, frozen=True, kw_only=True):
    """`fees` of the account summary: commissions of one kind on one index."""

    index_name: str
    kind: Kind
    maker_e8: int
    taker_e8: int


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One account in one currency at `ts_us`, valued at the marks published at `marks_ts_us`.

    equity = balance + futures session P&L (realised, unrealised, funding) + options value.
    """

    account: str
    user_id: int
    currency: str
    ts_us: int
    marks_ts_us: int
    balance_e8: int
    equity_e8: int
    margin_balance_e8: int
    available_funds_e8: int
    initial_margin_e8: int
    maintenance_margin_e8: int
    projected_initial_margin_e8: int
    projected_maintenance_margin_e8: int
    options_value_e8: int
    options_session_rpl_e8: int
    options_session_upl_e8: int
    futures_session_rpl_e8: int
    futures_session_upl_e8: int
    session_rpl_e8: int
    session_upl_e8: int
    session_funding_e8: int
    options_pl_e8: int
    futures_pl_e8: int
    total_pl_e8: int
    delta_total: float
    projected_delta_total: float
    options_delta: float
    options_gamma: float
    options_vega: float
    options_theta: float
    options_delta_by_index: dict[str, float]
    options_gamma_by_index: dict[str, float]
    options_vega_by_index: dict[str, float]
    options_theta_by_index: dict[str, float]
    delta_total_by_index: dict[str, float]
    margin_model: MarginModel
    mmp_enabled: bool
    limits: Limits
    fees: tuple[FeeRow, ...]
    index_price_e8: int


class MmpConfig(msgspec.Struct, frozen=True, kw_only=True):
    index_name: str
    mmp_group: str
    interval_s: int
    frozen_time_s: int
    max_quote_quantity_e8: int
    quantity_limit_e8: int | None
    delta_limit_e8: int | None
    vega_limit_e8: int | None


class MmpStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A triggered group; frozen_until_ms 0 means until reset_mmp."""

    index_name: str
    mmp_group: str
    frozen_until_ms: int


class CashKind(StrEnum):
    DEPOSIT = "deposit"
    PREMIUM = "premium"
    FEE = "fee"
    SESSION = "session_settlement"
    DELIVERY = "delivery"
    DELIVERY_FEE = "delivery_fee"
    ROUNDING = "rounding"


class CashMove(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of cash in the venue's own ledger; `seq` rises by one per movement."""

    seq: int
    ts_us: int
    account: str
    currency: str
    amount_e8: int
    balance_e8: int
    kind: CashKind
    instrument: str
    trade_id: str


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """One settlement or delivery of one account's position; money in settlement currency."""

    ts_us: int
    account: str
    instrument: str
    is_delivery: bool
    position_e8: int
    price_e8: int
    index_price_e8: int
    profit_loss_e8: int
    funding_e8: int
    fee_e8: int
