"""What a trade of ours is known by, however often and by whatever way it is told.

Keys outlast the process: all of them are on the ledger now and then, what is new with every
checkpoint, so that neither grows with the trades of a day.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.outputs import SavedTrade

FillKey = tuple[str, str, str, str]
"""(settlement currency, trade id, order id, leg). Venue and account are the books' own."""
FRESH_MAX = 1_000
"""Trades that one checkpoint tells of; after more of them all keys are due."""
WAIVED = ""
"""In place of the currency: a trade that is in the books otherwise than by its own booking."""


def key_of(instrument: Instrument, fill: FillEvidence) -> FillKey:
    """The key under which a trade is booked once."""
    return instrument.settle_currency, fill.trade_id, fill.order_id, fill.leg


class FillKeys:
    """The trades that are in our books, of the last day, and what they make of each order."""

    def __init__(self) -> None:
        self.from_ns = 0
        """Venue time from which the keys are whole: an older trade may have been booked."""
        self._trades: dict[FillKey, SavedTrade] = {}
        self._lots_by_order: dict[str, int] = {}
        self.fresh: list[SavedTrade] = []
        """Added since it was last emptied; one more than `FRESH_MAX` stands for any number."""

    def __contains__(self, key: FillKey) -> bool:
        return key in self._trades or (WAIVED, *key[1:]) in self._trades

    def has(self, fill: FillUnplaced) -> bool:
        """Whether it was booked, as far as can be said without its instrument."""
        return any(key[1:] == (fill.trade_id, fill.order_id, fill.leg) for key in self._trades)

    def lots_of(self, order_id: str) -> int:
        """What is booked of an order, by whichever life of ours."""
        return self._lots_by_order.get(order_id, 0)

    def add(self, key: FillKey, ts_venue_ns: int, lots: int) -> None:
        trade = self._trades[key] = key, ts_venue_ns, lots
        self._lots_by_order[key[2]] = self._lots_by_order.get(key[2], 0) + lots
        if len(self.fresh) <= FRESH_MAX:
            self.fresh.append(trade)

    def waive(self, fill: FillEvidence | FillUnplaced) -> None:
        """It is never to be booked: the venue's picture that was taken over has it already."""
        self.add((WAIVED, fill.trade_id, fill.order_id, fill.leg), fill.ts_venue_ns, 0)

    def forget(self, horizon_ns: int) -> None:
        """Drops what is older; such a trade can no longer be told from a duplicate.

        A late one, told after younger trades, goes when they go: a walk over all keys would take
        milliseconds out of the loop.
        """
        self.from_ns = max(self.from_ns, horizon_ns)
        old = list(itertools.takewhile(lambda one: one[1] < horizon_ns, self._trades.values()))
        for key, _, lots in old:
            del self._trades[key]
            left = self._lots_by_order.pop(key[2], 0) - lots
            if left:
                self._lots_by_order[key[2]] = left

    def saved(self) -> list[SavedTrade]:
        """Each of them, in the order in which they came."""
        return list(self._trades.values())

    def restore(self, saved: Iterable[SavedTrade], from_ns: int) -> None:
        """Takes up what was saved, in place of what is here."""
        self.from_ns = from_ns
        self._trades.clear()
        self._lots_by_order.clear()
        self.take_up(saved)

    def take_up(self, saved: Iterable[SavedTrade]) -> None:
        """Adds what was saved and is not here."""
        for key, ts_venue_ns, lots in saved:
            if key not in self._trades:
                self.add(key, ts_venue_ns, lots)


def unplaced_of(fill: FillEvidence, instrument: str) -> FillUnplaced:
    """A fill as it is known without its terms: by the name of its instrument."""
    return FillUnplaced(
        trade_id=fill.trade_id,
        order_id=fill.order_id,
        instrument=instrument,
        ts_venue_ns=fill.ts_venue_ns,
        source=fill.source,
        leg=fill.leg,
    )


def is_same(one: FillEvidence | FillUnplaced, other: FillEvidence | FillUnplaced) -> bool:
    """Whether two tellings are of one trade, as far as can be said without its instrument."""
    return (one.trade_id, one.order_id, one.leg) == (other.trade_id, other.order_id, other.leg)
