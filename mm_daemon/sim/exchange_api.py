"""The seam of the simulated venue: what the world and the wire may ask of the exchange.

`mm_daemon.sim.exchange.Exchange` is the one implementation. Both callers pass `now_us`, which
must never fall; every call first does what fell due until then (speed bumps, averaging samples,
settlements). Refusals are raised as `VenueError`. After any call, `drain_events` returns what it
published, in order.
"""

from collections.abc import Sequence
from typing import Protocol

from mm_daemon.sim.exchange_config import AccountConfig
from mm_daemon.sim.exchange_events import Event
from mm_daemon.sim.exchange_records import (
    AccountSummary,
    BookView,
    CashMove,
    Mark,
    MmpConfig,
    MmpStatus,
    PositionView,
    Settlement,
    Ticker,
)
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelFilter,
    CancelQuotesRequest,
    CancelReply,
    CodScope,
    CreditClass,
    EditRequest,
    MassQuoteReply,
    MassQuoteRequest,
    MmpConfigRequest,
    Order,
    OrderReply,
    OrderRequest,
    Pending,
    PublicTrade,
    SelfTradeMode,
    TradePage,
)
from mm_daemon.sim.spec import InstrumentSpec, InstrumentState, Kind


class WorldApi(Protocol):
    """What the world does to the venue: time, listing, marks, and trading by quiet accounts."""

    def advance(self, now_us: int) -> None: ...

    def next_due_us(self) -> int:
        """When `advance` next has something to do of itself."""
        ...

    def drain_events(self) -> list[Event]: ...

    def open_account(self, config: AccountConfig, now_us: int) -> None: ...

    def list_instrument(self, spec: InstrumentSpec, now_us: int) -> None: ...

    def set_instrument_state(self, name: str, state: InstrumentState, now_us: int) -> None:
        """Halts, locks, closes or reopens a book; resting orders stay unless it is inactive."""
        ...

    def set_tick_size(self, name: str, tick_size_e8: int, now_us: int) -> None:
        """As in a maintenance: nothing is told, and what rests stays."""
        ...

    def set_index(self, index_name: str, price_e8: int, now_us: int) -> None: ...

    def set_volatility_index(self, index_name: str, percent: float, now_us: int) -> None: ...

    def set_marks(self, index_name: str, marks: Sequence[Mark], now_us: int) -> None:
        """Publishes marks of one index, then the portfolios valued at exactly them."""
        ...

    def set_platform_lock(self, price_index: str, locked: bool, now_us: int) -> None: ...

    def set_maintenance(self, on: bool, now_us: int) -> None: ...

    def maker_quote(
        self,
        account: str,
        instrument: str,
        bid_price_e8: int,
        bid_amount_e8: int,
        ask_price_e8: int,
        ask_amount_e8: int,
        now_us: int,
    ) -> int:
        """Replaces both resting orders of a quiet account in one book; amount 0 removes a side.

        The cheap path: an unchanged side keeps its place, a side that crosses trades first and
        rests with what is left. Ticks and bands are the caller's duty; price-time priority is
        kept. Returns the amount traded, 0 nearly always; NOT_TAKEN where the book is not open.
        """
        ...

    def taker_trade(
        self,
        account: str,
        instrument: str,
        sign: int,
        amount_e8: int,
        limit_price_e8: int,
        now_us: int,
    ) -> int:
        """An immediate-or-cancel order of a quiet account, without speed bump; amount filled."""
        ...


class MarketDataApi(Protocol):
    """Public reads; none of them changes anything or costs credits by itself."""

    def instrument(self, name: str) -> InstrumentSpec: ...

    def instruments(
        self, currency: str | None = None, kind: Kind | None = None, expired: bool = False
    ) -> list[InstrumentSpec]: ...

    def instrument_state(self, name: str) -> InstrumentState: ...

    def book_view(self, name: str, depth: int, now_us: int) -> BookView: ...

    def best(self, name: str) -> tuple[int, int, int, int]:
        """(bid price, bid amount, ask price, ask amount), 0 where a side is empty."""
        ...

    def ticker(self, name: str, now_us: int) -> Ticker: ...

    def index_price_e8(self, index_name: str) -> int: ...

    def index_names(self) -> list[str]: ...

    def volatility_index_pct(self, index_name: str) -> float | None: ...

    def public_trades(self, name: str) -> list[PublicTrade]:
        """The last prints of one instrument, oldest first, bounded by the configuration."""
        ...

    def delivery_prices(self, index_name: str) -> list[tuple[int, int]]:
        """(expiry_us, price_e8) of past deliveries, newest first."""
        ...

    def platform_status(self) -> tuple[bool, list[str]]:
        """(in maintenance, locked price indices in name order)."""
        ...


class ClientApi(Protocol):
    """What an authenticated client asks; errors are `VenueError`.

    The exchange charges matching, quote and cancel credits itself; the wire charges the
    non-matching pools through `charge`.
    """

    def connect(self, caller: Caller, now_us: int) -> None:
        """One open connection; cancel-on-disconnect starts as the account's default."""
        ...

    def disconnect(self, caller: Caller, graceful: bool, now_us: int) -> CancelReply:
        """Fires cancel-on-disconnect unless graceful (private/logout)."""
        ...

    def set_cancel_on_disconnect(
        self, caller: Caller, enabled: bool, scope: CodScope, now_us: int
    ) -> None: ...

    def cancel_on_disconnect(self, caller: Caller, scope: CodScope) -> bool: ...

    def charge(self, caller: Caller, credit_class: CreditClass, now_us: int) -> None:
        """Takes one request from a pool; 10028 with `terminates_session` when it is dry."""
        ...

    def place(self, caller: Caller, request: OrderRequest, now_us: int) -> OrderReply | Pending: ...

    def edit(self, caller: Caller, request: EditRequest, now_us: int) -> OrderReply | Pending: ...

    def cancel(self, caller: Caller, order_id: str, now_us: int) -> Order: ...

    def cancel_matching(self, caller: Caller, which: CancelFilter, now_us: int) -> CancelReply: ...

    def mass_quote(
        self, caller: Caller, request: MassQuoteRequest, now_us: int
    ) -> MassQuoteReply | Pending: ...

    def cancel_quotes(
        self, caller: Caller, request: CancelQuotesRequest, now_us: int
    ) -> CancelReply: ...

    def set_mmp_config(
        self, caller: Caller, request: MmpConfigRequest, now_us: int
    ) -> MmpConfig | None:
        """The configuration as stored; None when interval 0 deleted it."""
        ...

    def mmp_configs(
        self, caller: Caller, index_name: str | None, mmp_group: str | None
    ) -> list[MmpConfig]: ...

    def mmp_status(
        self, caller: Caller, index_name: str | None, mmp_group: str | None, now_us: int
    ) -> list[MmpStatus]: ...

    def reset_mmp(
        self, caller: Caller, index_name: str, mmp_group: str | None, now_us: int
    ) -> None: ...

    def set_self_trading(self, caller: Caller, mode: SelfTradeMode) -> None: ...

    def open_orders(self, caller: Caller, which: CancelFilter, now_us: int) -> list[Order]:
        """Resting orders and quotes by order number; pending ones as speed_bumped."""
        ...

    def order_state(self, caller: Caller, order_id: str) -> Order: ...

    def orders_by_label(self, caller: Caller, currency: str, label: str) -> list[Order]: ...

    def order_history(
        self,
        caller: Caller,
        which: CancelFilter,
        offset: int,
        count: int,
        include_unfilled: bool,
    ) -> list[Order]:
        """Closed orders newest first; unfilled cancelled ones where asked, not kept for long."""
        ...

    def user_trades(
        self,
        caller: Caller,
        *,
        instrument: str | None = None,
        currency: str | None = None,
        kind: Kind | None = None,
        order_id: str | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
        start_seq: int | None = None,
        end_seq: int | None = None,
        count: int = 10,
        oldest_first: bool = False,
    ) -> TradePage:
        """Bounds inclusive; start_seq and end_seq are trade_seq (or trade id numbers, by
        currency)."""
        ...

    def positions(
        self, caller: Caller, currency: str | None, kind: Kind | None, now_us: int
    ) -> list[PositionView]:
        """Non-zero positions by instrument name."""
        ...

    def position(self, caller: Caller, instrument: str, now_us: int) -> PositionView: ...

    def account_summary(self, caller: Caller, currency: str, now_us: int) -> AccountSummary: ...

    def currencies(self, account: str) -> list[str]: ...

    def cash_moves(self, account: str, currency: str | None) -> list[CashMove]:
        """The account's own rows of the cash ledger, oldest first."""
        ...

    def settlements(self, account: str) -> list[Settlement]:
        """Newest first."""
        ...
