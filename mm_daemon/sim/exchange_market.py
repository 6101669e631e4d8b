"""The public side of the exchange: reads that change nothing and cost nothing here."""

from mm_daemon.sim.exchange_base import ExchangeBase
from mm_daemon.sim.exchange_records import BookView, Ticker
from mm_daemon.sim.exchange_types import PublicTrade
from mm_daemon.sim.exchange_views import ticker
from mm_daemon.sim.spec import InstrumentSpec, InstrumentState, Kind


class MarketSide(ExchangeBase):
    """What anybody may read. Unknown instruments raise -32602."""

    def instrument(self, name: str) -> InstrumentSpec:
        return self._state.find(name).spec

    def instruments(
        self, currency: str | None = None, kind: Kind | None = None, expired: bool = False
    ) -> list[InstrumentSpec]:
        """In order of listing; an unknown currency has an empty list."""
        source = self._state.expired if expired else self._state.listed
        return [
            listed.spec
            for listed in source.values()
            if currency in {None, listed.spec.currency} and kind in {None, listed.spec.kind}
        ]

    def instrument_state(self, name: str) -> InstrumentState:
        """As the venue lists it: the lock of an index shows here and is told for no instrument."""
        listed = self._state.find(name)
        is_locked = listed.spec.price_index in self._state.locked_indices
        if is_locked and listed.state is InstrumentState.OPEN:
            return InstrumentState.LOCKED
        return listed.state

    def book_view(self, name: str, depth: int, now_us: int) -> BookView:
        book = self._state.find(name).book
        return BookView(
            instrument=name,
            ts_us=now_us,
            change_id=book.change_id,
            bids=book.bids.depth(depth),
            asks=book.asks.depth(depth),
        )

    def best(self, name: str) -> tuple[int, int, int, int]:
        """(bid price, bid amount, ask price, ask amount), 0 where a side is empty."""
        book = self._state.find(name).book
        bids, asks = book.bids, book.asks
        return (
            bids.best_price_e8(),
            bids.best_amount_e8(),
            asks.best_price_e8(),
            asks.best_amount_e8(),
        )

    def ticker(self, name: str, now_us: int) -> Ticker:
        return ticker(self._state, self._state.find(name), now_us)

    def index_price_e8(self, index_name: str) -> int:
        """0 for an index that has no price yet."""
        return self._state.index_e8.get(index_name, 0)

    def index_names(self) -> list[str]:
        return sorted(self._state.index_e8)

    def volatility_index_pct(self, index_name: str) -> float | None:
        return self._state.volatility_pct.get(index_name)

    def public_trades(self, name: str) -> list[PublicTrade]:
        """The last prints of one instrument, oldest first, bounded by the configuration."""
        return list(self._state.find(name).prints)

    def delivery_prices(self, index_name: str) -> list[tuple[int, int]]:
        """(expiry_us, price_e8) of past deliveries, newest first."""
        return list(self._state.delivery_prices.get(index_name, ()))

    def platform_status(self) -> tuple[bool, list[str]]:
        """(in maintenance, locked price indices in name order)."""
        return self._state.maintenance, sorted(self._state.locked_indices)
