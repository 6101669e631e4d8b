"""The frame of every call into the exchange: time first, then the act, then what it published.

`_enter` does everything that fell due before the call, in order of time; `_flush` turns what the
call touched into events. The public sides of the exchange build on this and hold no state of
their own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mm_daemon.sim.accounts import Account
from mm_daemon.sim.exchange_config import AccountConfig, ExchangeConfig
from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.exchange_events import ConnectionTerminated, Event, PortfolioChanged
from mm_daemon.sim.exchange_records import PositionView
from mm_daemon.sim.exchange_state import VENUE_ACCOUNT, ExchangeState, RequestBody
from mm_daemon.sim.exchange_types import Caller, CreditClass
from mm_daemon.sim.exchange_views import account_summary, position_view
from mm_daemon.sim.option_math import implied_vol, price_coin
from mm_daemon.sim.orders import check_platform
from mm_daemon.sim.orders_execute import release
from mm_daemon.sim.settlement import sample, settle_session
from mm_daemon.sim.spec import next_settlement_us

NEVER_US = 2**62


class ExchangeBase:
    """Time, events and the account of the venue itself."""

    def __init__(self, config: ExchangeConfig, now_us: int) -> None:
        self._state = ExchangeState(config, now_us)
        self._session_us = next_settlement_us(now_us)
        self._portfolio_us = NEVER_US
        self._due_us = self._session_us
        # The option kernels compile on first use: at birth, not in the middle of the first fill.
        price = price_coin(60_000.0, 60_000.0, 0.1, 0.6, True)
        implied_vol(price, 60_000.0, 60_000.0, 0.1, True)
        venue = AccountConfig(name=VENUE_ACCOUNT, user_id=0, quiet=True)
        self._state.accounts[VENUE_ACCOUNT] = Account(venue, config, now_us)

    # ------------------------------------------------------------ time

    def next_due_us(self) -> int:
        """When `advance` next has something to do of itself."""
        waiting_us = self._state.pending.next_due_us()
        deliveries = self._state.deliveries.values()
        return min(
            self._session_us,
            self._portfolio_us,
            NEVER_US if waiting_us is None else waiting_us,
            min((average.next_sample_us for average in deliveries), default=NEVER_US),
        )

    def advance(self, now_us: int) -> None:
        """Does everything due up to `now_us`, each at its own moment, in order of time."""
        state = self._state
        assert now_us >= state.now_us, f"time fell from {state.now_us} to {now_us}"
        while (due_us := self.next_due_us()) <= now_us:
            state.now_us = max(state.now_us, due_us)
            self._do_due(state.now_us)
            self._flush(state.now_us)
        state.now_us = now_us
        self._due_us = due_us

    def _do_due(self, now_us: int) -> None:
        """One step: aggressors first, then averages and deliveries, then the session."""
        state = self._state
        waiting = state.pending.pop_due(now_us)
        if waiting is not None:
            release(state, waiting, now_us)
            return
        for average in list(state.deliveries.values()):
            if average.next_sample_us <= now_us:
                sample(state, average, now_us)
                return
        if self._session_us <= now_us:
            self._session_us = next_settlement_us(now_us)
            settle_session(state, now_us)
        if self._portfolio_us <= now_us:
            self._publish_dirty(now_us)

    def _enter(self, now_us: int) -> None:
        if now_us >= self._due_us:
            self.advance(now_us)
        else:
            assert now_us >= self._state.now_us, f"time fell to {now_us}"
            self._state.now_us = now_us

    # ------------------------------------------------------------ events

    def drain_events(self) -> list[Event]:
        """What was published since last drained, in order."""
        events = self._state.events
        self._state.events = []
        return events

    def _flush(self, now_us: int) -> None:
        """Publishes books, prints and user changes that the call touched, in that order."""
        state = self._state
        state.flush_books(now_us)
        state.flush_prints()
        for key, delta in state.pending_users().items():
            account = state.accounts[key[0]]
            positions: tuple[PositionView, ...] = ()
            if delta.trades:
                positions = (position_view(state, account, state.find(key[1]), now_us),)
            state.publish_user(key, delta, positions, now_us)
            if delta.trades and self._portfolio_us == NEVER_US:
                self._portfolio_us = now_us + state.config.portfolio_interval_us
        self._due_us = self.next_due_us()

    def _publish_dirty(self, now_us: int) -> None:
        self._portfolio_us = NEVER_US
        for account in self._state.accounts.values():
            if not account.quiet:
                for currency in account.dirty_currencies:
                    self._publish_portfolio(account, currency, now_us)
            account.dirty_currencies.clear()

    def _publish_portfolio(self, account: Account, currency: str, now_us: int) -> None:
        summary = account_summary(self._state, account, currency, now_us)
        self._state.publish(PortfolioChanged(summary))

    # ------------------------------------------------------------ client calls

    @contextmanager
    def _call(
        self,
        caller: Caller,
        now_us: int,
        body: RequestBody | None = None,
        credit: CreditClass | None = None,
    ) -> Iterator[ExchangeState]:
        """One client request: recorded, paid for, and followed by its events even if refused."""
        self._enter(now_us)
        state = self._state
        if body is not None:
            state.receive(caller, body, now_us)
        try:
            check_platform(state)
            account = state.account(caller)
            if credit is not None and not account.quiet:
                account.credits.charge(credit, now_us)
            yield state
        except VenueError as refusal:
            if refusal.terminates_session:
                state.publish(
                    ConnectionTerminated(
                        account=caller.account, connection=caller.connection, ts_us=now_us
                    )
                )
            raise
        finally:
            self._flush(now_us)
