"""Everything the exchange remembers, and the two ways in which it speaks: events and ledgers.

`ExchangeState` is plain state that the functions of the neighbouring modules work on. Changes of
books, prints and users are collected while a call runs and told once at its end by `flush`, so
that one call is one change event per book. Never read from outside the exchange.
"""

from collections import deque
from copy import copy

import msgspec

from mm_daemon.sim.accounts import Account
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_errors import invalid_params
from mm_daemon.sim.exchange_events import Event, TradesPrinted, UserChanged
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_records import CashKind, CashMove, FeeRow, PositionView
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelFilter,
    CancelQuotesRequest,
    EditRequest,
    MassQuoteRequest,
    MmpConfigRequest,
    Order,
    OrderRequest,
    PublicTrade,
    UserTrade,
)
from mm_daemon.sim.margin import MarginBook
from mm_daemon.sim.orders_pending import PendingQueue
from mm_daemon.sim.spec import InstrumentSpec, Kind

VENUE_ACCOUNT = "venue"


class CancelOne(msgspec.Struct, frozen=True):
    """The ledger's form of private/cancel."""

    order_id: str


class DeliveryAverage(msgspec.Struct, eq=False, kw_only=True):
    """The running average of one index towards one expiry."""

    index_name: str
    expiry_us: int
    next_sample_us: int
    samples: int = 0
    total_e8: int = 0


class Disconnected(msgspec.Struct, frozen=True):
    """The ledger's form of a lost connection."""

    graceful: bool


RequestBody = (
    OrderRequest
    | EditRequest
    | CancelOne
    | CancelFilter
    | MassQuoteRequest
    | CancelQuotesRequest
    | MmpConfigRequest
    | Disconnected
)


class ReceivedRequest(msgspec.Struct, frozen=True):
    """One request as the venue received it, before any check."""

    ts_us: int
    caller: Caller
    body: RequestBody


class UserDelta:
    """What the running call changed for one account in one instrument."""

    __slots__ = ("orders", "trades")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.trades: list[UserTrade] = []


class ExchangeState:
    """The whole memory of the venue."""

    def __init__(self, config: ExchangeConfig, now_us: int) -> None:
        self.config = config
        self.now_us = now_us
        self.listed: dict[str, Listed] = {}
        self.by_index: dict[str, dict[str, Listed]] = {}
        self.expired: dict[str, Listed] = {}
        self.accounts: dict[str, Account] = {}
        self.index_e8: dict[str, int] = {}
        self.marks_us: dict[str, int] = {}
        self.perpetuals: dict[str, dict[str, Listed]] = {}
        self.volatility_pct: dict[str, float] = {}
        self.locked_indices: dict[str, None] = {}
        self.maintenance = False
        self.events: list[Event] = []
        self.order_seq = 0
        self.change_seq = 0
        self.ticket_seq = 0
        self.trade_ids: dict[str, int] = {}
        self.received: deque[ReceivedRequest] = deque(maxlen=config.requests_kept)
        self.received_count = 0
        self.cash: deque[CashMove] = deque(maxlen=config.cash_moves_kept)
        self.cash_seq = 0
        self.settling_until_us = 0
        self.deliveries: dict[tuple[str, int], DeliveryAverage] = {}
        self.delivery_prices: dict[str, list[tuple[int, int]]] = {}
        self.fee_rows: dict[tuple[str, Kind], FeeRow] = {}
        self.margins = MarginBook(config.margin, self.listed, self.index_e8)
        self.pending = PendingQueue(config.pending_max)
        self._books: dict[str, Listed] = {}
        self._prints: dict[str, list[PublicTrade]] = {}
        self._users: dict[tuple[str, str], UserDelta] = {}

    # ------------------------------------------------------------ lookups

    def find(self, instrument: str) -> Listed:
        """The instrument, live or expired. Raises -32602 where there never was one."""
        found = self.listed.get(instrument) or self.expired.get(instrument)
        if found is None:
            raise invalid_params("instrument_name", "instrument not found")
        return found

    def account(self, caller: Caller) -> Account:
        return self.accounts[caller.account]

    def index_of(self, spec: InstrumentSpec) -> int:
        return self.index_e8.get(spec.price_index, 0)

    # ------------------------------------------------------------ ledgers

    def receive(self, caller: Caller, body: RequestBody, now_us: int) -> None:
        self.received_count += 1
        self.received.append(ReceivedRequest(now_us, caller, body))

    def move_cash(
        self,
        account: Account,
        currency: str,
        amount_e8: int,
        kind: CashKind,
        instrument: str = "",
        trade_id: str = "",
    ) -> None:
        """Moves cash into (positive) or out of one account and writes the ledger."""
        if amount_e8 == 0:
            return
        balance_e8 = account.balances.get(currency, 0) + amount_e8
        account.balances[currency] = balance_e8
        self.cash_seq += 1
        self.cash.append(
            CashMove(
                seq=self.cash_seq,
                ts_us=self.now_us,
                account=account.name,
                currency=currency,
                amount_e8=amount_e8,
                balance_e8=balance_e8,
                kind=kind,
                instrument=instrument,
                trade_id=trade_id,
            )
        )

    # ------------------------------------------------------------ events

    def publish(self, event: Event) -> None:
        self.events.append(event)
        limit = self.config.events_max
        assert len(self.events) <= limit, f"{limit} events undrained: the driver must drain"

    def touch_book(self, listed: Listed) -> None:
        self._books[listed.spec.name] = listed

    def touch_order(self, order: Order) -> None:
        """Notes that an order of a client changed; its state at `flush` is what is told."""
        self._user(order).orders[order.seq] = order

    def note_trade(self, order: Order, trade: UserTrade) -> None:
        self._user(order).trades.append(trade)

    def note_print(self, trade: PublicTrade) -> None:
        self._prints.setdefault(trade.instrument, []).append(trade)

    def _user(self, order: Order) -> UserDelta:
        key = (order.account, order.instrument)
        delta = self._users.get(key)
        if delta is None:
            delta = self._users[key] = UserDelta()
        return delta

    def flush_books(self, now_us: int) -> None:
        for listed in self._books.values():
            event = listed.book.take_event(self.change_seq + 1, now_us)
            if event is not None:
                self.change_seq += 1
                self.publish(event)
        self._books.clear()

    def flush_prints(self) -> None:
        for instrument, trades in self._prints.items():
            self.publish(TradesPrinted(instrument, tuple(trades)))
        self._prints.clear()

    def pending_users(self) -> dict[tuple[str, str], UserDelta]:
        """The collected user changes, handed over: the caller publishes them."""
        users = self._users
        self._users = {}
        return users

    def publish_user(
        self,
        key: tuple[str, str],
        delta: UserDelta,
        positions: tuple[PositionView, ...],
        now_us: int,
    ) -> None:
        self.publish(
            UserChanged(
                account=key[0],
                instrument=key[1],
                ts_us=now_us,
                orders=tuple(copy(order) for order in delta.orders.values()),
                trades=tuple(delta.trades),
                positions=positions,
            )
        )
