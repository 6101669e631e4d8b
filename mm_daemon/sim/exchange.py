"""The simulated venue: one deterministic object behind the seam of exchange_api.

Orders, quotes, protection, margins, fees, funding and settlement by Deribit's published rules, in
integers, with time as an argument. It holds no clock, no randomness and no socket: the world
drives its prices and quiet traders, the wire its clients, and both read what it publishes. Its
ledgers (`received`, `cash_ledger`) are the venue's own truth about what it was asked and paid.
"""

from copy import copy

from mm_daemon.sim.exchange_clients import ClientSide
from mm_daemon.sim.exchange_market import MarketSide
from mm_daemon.sim.exchange_records import CashMove
from mm_daemon.sim.exchange_state import ReceivedRequest
from mm_daemon.sim.exchange_types import Order, UserTrade
from mm_daemon.sim.exchange_world import WorldSide


class Exchange(WorldSide, MarketSide, ClientSide):
    """All sides of the venue over one state."""

    def received(self) -> list[ReceivedRequest]:
        """The requests that changed or tried to change something, oldest first, bounded."""
        return list(self._state.received)

    def received_count(self) -> int:
        """How many such requests there ever were, kept or not."""
        return self._state.received_count

    def cash_ledger(self) -> list[CashMove]:
        """Every movement of cash of every account, oldest first, bounded."""
        return list(self._state.cash)

    def set_initial_over_maintenance(self, multiple: float) -> None:
        """The venue asks for more or less initial margin from now on."""
        self._state.margins.set_initial_over_maintenance(multiple)

    def balance_e8(self, account: str, currency: str) -> int:
        return self._state.accounts[account].balances.get(currency, 0)

    def total_cash_e8(self, currency: str) -> int:
        """The sum over all accounts and the venue: changes only by deposits."""
        accounts = self._state.accounts.values()
        return sum(account.balances.get(currency, 0) for account in accounts)

    def resting(self, instrument: str) -> list[Order]:
        """Copies of every order in one book, of whoever it is, best and first first."""
        book = self._state.find(instrument).book
        return [
            copy(order)
            for side in (book.bids, book.asks)
            for key in reversed(side.keys)
            for order in side.levels[key].orders.values()
        ]

    def open_of(self, account: str) -> list[Order]:
        """Every order and quote of one account that rests or waits, oldest first; not copies."""
        return list(self._state.accounts[account].open.values())

    def trades_of(self, account: str) -> list[UserTrade]:
        """The newest trades of one account, as many as are kept, oldest first."""
        return list(self._state.accounts[account].trades)

    def position_e8(self, account: str, instrument: str) -> int:
        return self._state.accounts[account].position_e8(instrument)
