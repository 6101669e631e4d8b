"""One instrument's order book: levels by price, best prices in constant time, valid or invalid.

Levels are a dict of amounts beside a sorted list of keys, because a change touches one level and a
read wants only the best. Keys are signed (a bid's is its tick, an ask's the negated tick), so that
one code serves both sides and the best is always the last key.

A book is never half right: whatever cannot be true of a venue's book (a price that is not a finite
tick, an amount that is not positive, a level deleted that was never there, bid at or above ask)
makes it invalid until the next snapshot, and an invalid book has no prices. It keeps no time and
knows nothing of our orders unless told.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import blake2b

from mm_daemon.domain.events import Level
from mm_daemon.domain.grid import E9, TickGrid
from mm_daemon.domain.units import Side

AMOUNT_EPSILON = 1e-9
"""Amounts closer than this are equal: venue amounts carry at most eight decimals."""
_OFF_GRID_TICKS = 1e-4
"""A price may differ from its tick by float rounding only (relative 1e-16 of at most 1e11)."""
_TICKS_MAX = 1e11
_NOT_ON_GRID = -1
_PRICES_REMEMBERED_MAX = 4096
"""Converting a price costs more than looking it up; beyond this many the memory starts afresh."""
_AMOUNT_MAX = 1e15


class Validity(Enum):
    """Why a book may be read, or may not."""

    OK = "ok"
    NO_SNAPSHOT = "no snapshot"
    LOST = "lost"
    CROSSED = "crossed"
    GARBAGE = "price or amount is not a positive finite number"
    OFF_GRID = "price off the tick grid"
    ABSENT_LEVEL = "delete of a level that is not there"
    CONTRADICTED = "the venue's ticker shows another touch"


_OK = Validity.OK


class Book:
    """Levels of one instrument. `best_*` and `second_*` are 0 where there is no such level."""

    __slots__ = (
        "_amounts",
        "_is_top_moved",
        "_keys",
        "_ticks_of_price",
        "_ticks_per_unit",
        "best_ask_amount",
        "best_ask_ticks",
        "best_bid_amount",
        "best_bid_ticks",
        "second_ask_ticks",
        "second_bid_ticks",
        "validity",
    )

    def __init__(self, grid: TickGrid) -> None:
        self._ticks_per_unit = E9 / grid.tick_e9
        self._ticks_of_price: dict[float, int] = {}
        self._amounts: tuple[dict[int, float], dict[int, float]] = ({}, {})
        self._keys: tuple[list[int], list[int]] = ([], [])
        self.validity = Validity.NO_SNAPSHOT
        self._is_top_moved = False
        """Whether one of the two best prices of a side came or went in the present change."""
        self._clear_best()

    def apply(self, is_snapshot: bool, bids: Sequence[Level], asks: Sequence[Level]) -> Validity:
        """Replace the book or change it; a change to an invalid book changes nothing."""
        if is_snapshot:
            for amounts, keys in zip(self._amounts, self._keys, strict=True):
                amounts.clear()
                keys.clear()
        elif self.validity is not _OK:
            return self.validity
        self._is_top_moved = is_snapshot
        bid_amounts, ask_amounts = self._amounts
        if bids:
            fault = self._apply_side(bid_amounts, self._keys[0], 1, bids)
            if fault is not _OK:
                return self.invalidate(fault)
        if asks:
            fault = self._apply_side(ask_amounts, self._keys[1], -1, asks)
            if fault is not _OK:
                return self.invalidate(fault)
        if self._is_top_moved:
            return self._publish_best()
        # Most changes are of amounts, or deep in the book: the best prices are as they were.
        if bids and self.best_bid_ticks:
            self.best_bid_amount = bid_amounts[self.best_bid_ticks]
        if asks and self.best_ask_ticks:
            self.best_ask_amount = ask_amounts[-self.best_ask_ticks]
        return _OK

    def invalidate(self, reason: Validity) -> Validity:
        """Forget every level; only a snapshot makes the book readable again."""
        for side in (0, 1):
            self._amounts[side].clear()
            self._keys[side].clear()
        self._clear_best()
        self.validity = reason
        return reason

    def depth(self, side: Side, levels_max: int) -> list[tuple[int, float]]:
        """Up to `levels_max` levels (ticks, amount) from the best outwards."""
        row = 0 if side is Side.BUY else 1
        amounts = self._amounts[row]
        keys = self._keys[row][: -levels_max - 1 : -1]
        return [(key * side, amounts[key]) for key in keys]

    def amount_at(self, side: Side, ticks: int) -> float:
        """Resting amount at a price, 0.0 where there is none."""
        return self._amounts[0 if side is Side.BUY else 1].get(ticks * side, 0.0)

    def best_excluding(self, side: Side, own: Mapping[int, float]) -> tuple[int, float]:
        """Best (ticks, amount) of others, given own resting amounts by tick; (0, 0.0) if none."""
        row = 0 if side is Side.BUY else 1
        amounts = self._amounts[row]
        for key in reversed(self._keys[row]):
            left = amounts[key] - own.get(key * side, 0.0)
            if left > AMOUNT_EPSILON:
                return key * side, left
        return 0, 0.0

    def digest(self) -> bytes:
        """16 bytes over validity and all levels, equal for equal books."""
        state = blake2b(digest_size=16)
        self.digest_into(state)
        return state.digest()

    def digest_into(self, state: blake2b) -> None:
        """Add this book to a digest over many."""
        state.update(self.validity.value.encode())
        for amounts, keys in zip(self._amounts, self._keys, strict=True):
            state.update(array("q", [len(keys), *keys]))
            state.update(array("d", map(amounts.__getitem__, keys)))

    def _apply_side(
        self, amounts: dict[int, float], keys: list[int], sign: int, levels: Sequence[Level]
    ) -> Validity:
        known = self._ticks_of_price
        for action, price, amount in levels:
            ticks = known.get(price)
            if ticks is None:
                ticks = self._ticks(price)
                if ticks <= 0:
                    return Validity.OFF_GRID if ticks == _NOT_ON_GRID else Validity.GARBAGE
            key = ticks * sign
            if action == "delete":
                if key not in amounts:
                    return Validity.ABSENT_LEVEL
                del amounts[key]
                at = bisect_left(keys, key)
                del keys[at]
                if at >= len(keys) - 1:
                    self._is_top_moved = True
            elif 0.0 < amount <= _AMOUNT_MAX:
                if key not in amounts:
                    at = bisect_left(keys, key)
                    keys.insert(at, key)
                    if at >= len(keys) - 2:
                        self._is_top_moved = True
                amounts[key] = amount
            else:
                return Validity.GARBAGE
        return _OK

    def has_touch(self, bid: float, ask: float) -> bool:
        """Whether these are the best prices here; NaN says nothing."""
        return (bid != bid or self._ticks(bid) == self.best_bid_ticks) and (
            ask != ask or self._ticks(ask) == self.best_ask_ticks
        )

    def _ticks(self, price: float) -> int:
        """The tick of a price, remembered; 0 where it is no price, `_NOT_ON_GRID` off the grid."""
        scaled = price * self._ticks_per_unit
        # Written so that NaN fails.
        if not 0.5 <= scaled <= _TICKS_MAX:
            return 0
        ticks = round(scaled)
        if not -_OFF_GRID_TICKS < scaled - ticks < _OFF_GRID_TICKS:
            return _NOT_ON_GRID
        if len(self._ticks_of_price) >= _PRICES_REMEMBERED_MAX:
            self._ticks_of_price.clear()
        self._ticks_of_price[price] = ticks
        return ticks

    def _publish_best(self) -> Validity:
        bids, asks = self._keys
        bid = bids[-1] if bids else 0
        ask = -asks[-1] if asks else 0
        if bid >= ask and bid and ask:
            return self.invalidate(Validity.CROSSED)
        self.best_bid_ticks = bid
        self.best_ask_ticks = ask
        self.best_bid_amount = self._amounts[0][bid] if bid else 0.0
        self.best_ask_amount = self._amounts[1][-ask] if ask else 0.0
        self.second_bid_ticks = bids[-2] if len(bids) > 1 else 0
        self.second_ask_ticks = -asks[-2] if len(asks) > 1 else 0
        self.validity = _OK
        return _OK

    def _clear_best(self) -> None:
        self.best_bid_ticks = self.best_ask_ticks = 0
        self.second_bid_ticks = self.second_ask_ticks = 0
        self.best_bid_amount = self.best_ask_amount = 0.0
