"""Positions booked on a person's word, when the venue is right and nobody knows why.

An adjustment is no trade. It has an id that follows from what it corrects, so that one told twice
(by a replay, by two restarts) is booked once. It stands for trades that the venue has not shown:
when one of them comes after all, as much of the adjustment is taken back, and nothing counts twice.
Nothing here decides that an adjustment is wanted.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.outputs import AdjustRecord

KEPT_MAX = 1_000
"""Ids remembered; the oldest are forgotten, long after their ledger was read for the last time."""


class _Standing(msgspec.Struct):
    """What of one adjustment no trade has explained yet."""

    record: AdjustRecord
    lots: int


class _Saved(msgspec.Struct):
    known: list[str]
    standing: list[_Standing]


def adjustment_of(
    instrument: str, *, ours: int, venue: int, price_e8: int, ts_venue_ns: int
) -> AdjustRecord:
    """The adjustment that takes our position to the venue's, as of a picture of the venue."""
    return AdjustRecord(
        adjustment_id=f"ADJUST-{instrument}-{ts_venue_ns}-{ours}-{venue}",
        instrument=instrument,
        lots=venue - ours,
        price_e8=price_e8,
        ts_venue_ns=ts_venue_ns,
    )


class Adjustments:
    """All adjustments of one account."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._standing: list[_Standing] = []

    @property
    def lots_standing(self) -> int:
        """Lots that no trade has explained yet, whatever their sign."""
        return sum(abs(one.lots) for one in self._standing)

    def book(self, record: AdjustRecord, portfolio: Portfolio, catalog: Catalog) -> bool:
        """Books one, once; False where it is known already or its instrument is not."""
        instrument_id = catalog.id_of.get(record.instrument)
        if record.adjustment_id in self._known or instrument_id is None:
            return False
        self._known[record.adjustment_id] = None
        while len(self._known) > KEPT_MAX:
            del self._known[next(iter(self._known))]
        portfolio.adjust_position(instrument_id, record.lots, record.price_e8)
        self._standing.append(_Standing(record, record.lots))
        return True

    def on_fill(self, fill: FillEvidence, portfolio: Portfolio, catalog: Catalog) -> int:
        """A trade was booked: takes back what stood for it; returns the lots taken back."""
        name = catalog.instruments[fill.instrument_id].name
        left = int(fill.side) * fill.lots
        taken = 0
        for one in self._standing:
            is_explained = one.record.instrument == name and one.lots * left > 0
            if not is_explained or fill.ts_venue_ns > one.record.ts_venue_ns:
                continue
            lots = min(abs(left), abs(one.lots)) * int(fill.side)
            portfolio.adjust_position(fill.instrument_id, -lots, one.record.price_e8)
            one.lots -= lots
            left -= lots
            taken += lots
        if taken:
            self._standing = [one for one in self._standing if one.lots]
        return taken

    def checkpoint(self) -> bytes:
        return msgspec.msgpack.encode(_Saved([*self._known], self._standing))

    def restore(self, saved: bytes) -> None:
        """Takes up a checkpoint: the positions are in the portfolio's own."""
        state = msgspec.msgpack.decode(saved, type=_Saved)
        self._known = dict.fromkeys(state.known)
        self._standing = state.standing

    def digest(self) -> bytes:
        return self.checkpoint()
