"""What a trade of ours is known by, however often and by whatever way it is told."""

from __future__ import annotations

from collections.abc import Iterable

from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.orders import FillEvidence

FillKey = tuple[str, str, str, str]
"""(settlement currency, trade id, order id, leg). Venue and account are the books' own."""


def key_of(instrument: Instrument, fill: FillEvidence) -> FillKey:
    """The key under which a trade is booked once."""
    return instrument.settle_currency, fill.trade_id, fill.order_id, fill.leg


class FillKeys:
    """The trades that are in our books, of the last day, and what they make of each order."""

    def __init__(self) -> None:
        self.from_ns = 0
        """Venue time from which the keys are whole: an older trade may have been booked."""
        self._trades: dict[FillKey, tuple[int, int]] = {}
        self._lots_by_order: dict[str, int] = {}

    def __contains__(self, key: FillKey) -> bool:
        return key in self._trades

    def has(self, fill: FillUnplaced) -> bool:
        """Whether it was booked, as far as can be said without its instrument."""
        return any(key[1:] == (fill.trade_id, fill.order_id, fill.leg) for key in self._trades)

    def lots_of(self, order_id: str) -> int:
        """What is booked of an order, by whichever life of ours."""
        return self._lots_by_order.get(order_id, 0)

    def add(self, key: FillKey, ts_venue_ns: int, lots: int) -> None:
        self._trades[key] = (ts_venue_ns, lots)
        self._lots_by_order[key[2]] = self._lots_by_order.get(key[2], 0) + lots

    def forget(self, horizon_ns: int) -> None:
        """Drops what is older; such a trade can no longer be told from a duplicate."""
        if horizon_ns <= self.from_ns:
            return
        kept = [(key, *trade) for key, trade in self._trades.items() if trade[0] >= horizon_ns]
        self.restore(kept, horizon_ns)

    def saved(self) -> list[tuple[FillKey, int, int]]:
        """(key, venue time, lots) of each."""
        return [(key, *trade) for key, trade in self._trades.items()]

    def restore(self, saved: Iterable[tuple[FillKey, int, int]], from_ns: int) -> None:
        """Takes up what was saved, in place of what is here."""
        self.from_ns = from_ns
        self._trades.clear()
        self._lots_by_order.clear()
        for key, ts_venue_ns, lots in saved:
            self.add(key, ts_venue_ns, lots)


def is_same(one: FillEvidence | FillUnplaced, other: FillEvidence | FillUnplaced) -> bool:
    """Whether two tellings are of one trade, as far as can be said without its instrument."""
    return (one.trade_id, one.order_id, one.leg) == (other.trade_id, other.order_id, other.leg)
