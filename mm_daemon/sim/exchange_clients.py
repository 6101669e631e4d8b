"""The clients' side of the exchange: every private request, recorded and paid for in credits."""

from mm_daemon.sim import orders_cancel
from mm_daemon.sim.exchange_base import ExchangeBase
from mm_daemon.sim.exchange_history import TradeQuery, order_history, user_trades
from mm_daemon.sim.exchange_protection import (
    mmp_configs,
    mmp_status,
    reset_mmp,
    set_mmp_config,
)
from mm_daemon.sim.exchange_records import (
    AccountSummary,
    CashMove,
    MmpConfig,
    MmpStatus,
    PositionView,
    Settlement,
)
from mm_daemon.sim.exchange_state import CancelOne, Disconnected
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
    SelfTradeMode,
    TradePage,
)
from mm_daemon.sim.exchange_views import account_summary, position_view
from mm_daemon.sim.orders_edit import edit
from mm_daemon.sim.orders_entry import place
from mm_daemon.sim.orders_quotes import mass_quote
from mm_daemon.sim.spec import Kind


class ClientSide(ExchangeBase):
    """What an authenticated client asks; refusals are `VenueError`."""

    # ------------------------------------------------------------ connections

    def connect(self, caller: Caller, now_us: int) -> None:
        """Opens a connection; cancel-on-disconnect starts as the account's default."""
        self._enter(now_us)
        account = self._state.account(caller)
        account.cod_connections.setdefault(caller.connection, account.cod_account)

    def disconnect(self, caller: Caller, graceful: bool, now_us: int) -> CancelReply:
        """Closes a connection; also during maintenance, and never charged."""
        self._enter(now_us)
        self._state.receive(caller, Disconnected(graceful), now_us)
        reply = orders_cancel.on_disconnect(self._state, caller, graceful, now_us)
        self._flush(now_us)
        return reply

    def set_cancel_on_disconnect(
        self, caller: Caller, enabled: bool, scope: CodScope, now_us: int
    ) -> None:
        """Arms or disarms; scope account also sets the default of later connections."""
        with self._call(caller, now_us) as state:
            account = state.account(caller)
            if scope is CodScope.ACCOUNT:
                account.cod_account = enabled
            if caller.connection in account.cod_connections:
                account.cod_connections[caller.connection] = enabled

    def cancel_on_disconnect(self, caller: Caller, scope: CodScope) -> bool:
        account = self._state.account(caller)
        if scope is CodScope.ACCOUNT:
            return account.cod_account
        return account.cod_connections.get(caller.connection, account.cod_account)

    def charge(self, caller: Caller, credit_class: CreditClass, now_us: int) -> None:
        """Takes one request from a pool; 10028 with `terminates_session` when it is dry."""
        with self._call(caller, now_us, credit=credit_class):
            pass

    # ------------------------------------------------------------ orders

    def place(self, caller: Caller, request: OrderRequest, now_us: int) -> OrderReply | Pending:
        with self._call(caller, now_us, request, CreditClass.MATCHING) as state:
            return place(state, caller, request, now_us)

    def edit(self, caller: Caller, request: EditRequest, now_us: int) -> OrderReply | Pending:
        with self._call(caller, now_us, request, CreditClass.MATCHING) as state:
            return edit(state, caller, request, now_us)

    def cancel(self, caller: Caller, order_id: str, now_us: int) -> Order:
        body = CancelOne(order_id)
        with self._call(caller, now_us, body, CreditClass.MATCHING) as state:
            return orders_cancel.cancel_one(state, caller, order_id, now_us)

    def cancel_matching(self, caller: Caller, which: CancelFilter, now_us: int) -> CancelReply:
        """All cancel_* forms; they draw on the cancel_all pool, apart from order entry."""
        with self._call(caller, now_us, which, CreditClass.CANCEL_ALL) as state:
            return orders_cancel.cancel_matching(state, caller, which, now_us)

    def mass_quote(
        self, caller: Caller, request: MassQuoteRequest, now_us: int
    ) -> MassQuoteReply | Pending:
        with self._call(caller, now_us, request) as state:
            return mass_quote(state, caller, request, now_us)

    def cancel_quotes(
        self, caller: Caller, request: CancelQuotesRequest, now_us: int
    ) -> CancelReply:
        with self._call(caller, now_us, request, CreditClass.CANCEL_ALL) as state:
            return orders_cancel.cancel_quotes(state, caller, request, now_us)

    def set_self_trading(self, caller: Caller, mode: SelfTradeMode) -> None:
        self._state.account(caller).self_trade_mode = mode

    # ------------------------------------------------------------ protection

    def set_mmp_config(
        self, caller: Caller, request: MmpConfigRequest, now_us: int
    ) -> MmpConfig | None:
        """The configuration as stored; None when interval 0 deleted it."""
        with self._call(caller, now_us, request) as state:
            return set_mmp_config(state, caller, request, now_us)

    def mmp_configs(
        self, caller: Caller, index_name: str | None, mmp_group: str | None
    ) -> list[MmpConfig]:
        return mmp_configs(self._state, caller, index_name, mmp_group)

    def mmp_status(
        self, caller: Caller, index_name: str | None, mmp_group: str | None, now_us: int
    ) -> list[MmpStatus]:
        return mmp_status(self._state, caller, index_name, mmp_group, now_us)

    def reset_mmp(
        self, caller: Caller, index_name: str, mmp_group: str | None, now_us: int
    ) -> None:
        with self._call(caller, now_us) as state:
            reset_mmp(state, caller, index_name, mmp_group)

    # ------------------------------------------------------------ reads

    def open_orders(self, caller: Caller, which: CancelFilter, now_us: int) -> list[Order]:
        """Resting orders and quotes by order number; pending ones as speed_bumped."""
        self._enter(now_us)
        return orders_cancel.open_orders(self._state, caller, which)

    def order_state(self, caller: Caller, order_id: str) -> Order:
        return orders_cancel.order_state(self._state, caller, order_id)

    def orders_by_label(self, caller: Caller, currency: str, label: str) -> list[Order]:
        """Open and remembered orders with that label, by order number."""
        account = self._state.account(caller)
        every = [
            *account.open.values(),
            *account.closed_filled.values(),
            *account.closed_unfilled.values(),
        ]
        which = CancelFilter(currency=currency, label=label)
        return sorted(
            (
                order
                for order in every
                if orders_cancel.filter_matches(which, order, self._state.find(order.instrument))
            ),
            key=lambda order: order.seq,
        )

    def order_history(
        self,
        caller: Caller,
        which: CancelFilter,
        offset: int,
        count: int,
        include_unfilled: bool,
    ) -> list[Order]:
        """Closed orders newest first; unfilled cancelled ones where asked, not kept for long."""
        return order_history(self._state, caller, which, offset, count, include_unfilled)

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
        """Bounds inclusive; start_seq and end_seq are trade_seq, or trade id numbers by
        currency."""
        query = TradeQuery(
            instrument=instrument,
            currency=currency,
            kind=kind,
            order_id=order_id,
            start_us=start_us,
            end_us=end_us,
            start_seq=start_seq,
            end_seq=end_seq,
            count=count,
            oldest_first=oldest_first,
        )
        return user_trades(self._state, caller, query)

    def positions(
        self, caller: Caller, currency: str | None, kind: Kind | None, now_us: int
    ) -> list[PositionView]:
        """Non-zero positions by instrument name."""
        self._enter(now_us)
        account = self._state.account(caller)
        views: list[PositionView] = []
        for name in sorted(account.positions):
            listed = self._state.listed.get(name)
            if listed is None or not account.position_e8(name):
                continue
            if currency in {None, listed.spec.currency} and kind in {None, listed.spec.kind}:
                views.append(position_view(self._state, account, listed, now_us))
        return views

    def position(self, caller: Caller, instrument: str, now_us: int) -> PositionView:
        self._enter(now_us)
        account = self._state.account(caller)
        return position_view(self._state, account, self._state.find(instrument), now_us)

    def account_summary(self, caller: Caller, currency: str, now_us: int) -> AccountSummary:
        self._enter(now_us)
        return account_summary(self._state, self._state.account(caller), currency, now_us)

    def currencies(self, account: str) -> list[str]:
        return sorted(self._state.accounts[account].balances)

    def cash_moves(self, account: str, currency: str | None) -> list[CashMove]:
        """The account's own rows of the cash ledger, oldest first."""
        return [
            move
            for move in self._state.cash
            if move.account == account and currency in {None, move.currency}
        ]

    def settlements(self, account: str) -> list[Settlement]:
        """Newest first."""
        return list(self._state.accounts[account].settlements)
