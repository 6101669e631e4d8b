"""What the venue shows, as columns indexed by instrument id, each with the time it was received.

Books live here as objects; their best two levels are copied into columns so that kernels read a
whole chain without touching Python. Two levels are enough to see the touch without our own quotes,
because we rest at most one quote a side on an instrument.

A book that is invalid for any reason has zeros in its columns: nobody downstream can quote on it by
forgetting to ask. A book whose stream went silent while its ticker goes on is found by what the
ticker says of the touch. The market counts what it refused and lists which books must be
resynchronised; it judges nothing else, and it never knows what we want.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence
from hashlib import blake2b
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from mm_daemon.core.book import Book, Validity
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.quote_terms import TouchMatrices
from mm_daemon.domain.events import (
    BookChanged,
    BookLost,
    ExpirationEstimate,
    IndexSeen,
    InstrumentsRead,
    InstrumentStateChanged,
    MarketEvent,
    PlatformChanged,
    PublicTrade,
    TickerSeen,
    VolIndexSeen,
)
from mm_daemon.domain.instruments import Lifecycle
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.pricing.valuation import NOT_AVERAGING, Averaging, averaging_of_estimate
from mm_daemon.pricing.variance_time import AVERAGING_NS

FLOW_HALF_LIFE_S = 60.0
"""Signed trade flow is an exponentially fading sum: a minute is the span of a burst."""
CONTRADICTED_NS = NS_PER_S
"""A book that says nothing for this long while its ticker shows another touch is lost. Each comes
every 100 ms where something moved, in either order."""
AVERAGING_AGE_NS_MAX = 60 * NS_PER_S
"""The venue reports its estimate every few seconds; an old one is over."""
EXPIRY_SLACK_NS = 60 * NS_PER_S
"""An estimate ends no further than this from an expiry that is listed: it names none."""
_FLOW_RATE_PER_NS = math.log(2.0) / (FLOW_HALF_LIFE_S * NS_PER_S)

_Scalar = TypeVar("_Scalar", bound=np.generic)

_TOUCH_TICKS = ("bid_ticks", "ask_ticks", "second_bid_ticks", "second_ask_ticks")
_TOUCH_MONEY = ("bid_amount", "ask_amount", "price_min", "price_max")
_TOUCH_FLAGS = ("book_valid", "is_open")
"""Rows of the three matrices that kernels read the touch from."""
_INT_COLUMNS = (
    "book_ts_recv_ns",
    "book_ts_venue_ns",
    "ticker_ts_recv_ns",
    "flow_ts_ns",
)
_ZERO_COLUMNS = ("flow_amount",)
_NAN_COLUMNS = (
    "mark",
    "mark_vol",
    "underlying_price",
    "funding_8h",
    "open_interest",
)


class Market:
    """Columns, books and platform state of one venue."""

    bid_ticks: Ints
    """Best bid, 0 = none or book not valid. Likewise the other touch columns."""
    ask_ticks: Ints
    second_bid_ticks: Ints
    second_ask_ticks: Ints
    bid_amount: Floats
    ask_amount: Floats
    book_ts_recv_ns: Ints
    """When the last snapshot or change arrived; 0 = never."""
    book_ts_venue_ns: Ints
    ticker_ts_recv_ns: Ints
    mark: Floats
    mark_vol: Floats
    underlying_price: Floats
    """The venue's own forward of the instrument's expiry, NaN where it gave none."""
    price_min: Floats
    price_max: Floats
    funding_8h: Floats
    open_interest: Floats
    flow_amount: Floats
    """Fading sum of signed trade amounts (buyers positive) as of `flow_ts_ns`."""
    flow_ts_ns: Ints
    book_valid: Bools
    is_open: Bools
    """Lifecycle OPEN; only such may be quoted."""

    def __init__(self, catalog: Catalog) -> None:
        self._books: list[Book] = []
        self._lifecycles: list[Lifecycle] = []
        for name in _INT_COLUMNS:
            setattr(self, name, np.empty(0, dtype=np.int64))
        for name in (*_ZERO_COLUMNS, *_NAN_COLUMNS):
            setattr(self, name, np.empty(0, dtype=np.float64))
        self.touch = TouchMatrices(
            np.zeros((4, 0), dtype=np.int64), np.zeros((4, 0)), np.zeros((2, 0), dtype=np.bool_)
        )
        self.index_price: dict[str, float] = {}
        self.index_ts_recv_ns: dict[str, int] = {}
        self.vol_index: dict[str, float] = {}
        self._averaging: dict[str, Averaging] = {}
        self._averaging_ts_ns: dict[str, int] = {}
        self.locked: dict[str, bool] = {}
        """By index name; the empty name is the whole venue."""
        self.last_event_ns = 0
        self.refused: dict[str, int] = {reason.value: 0 for reason in Validity}
        self.refused["ticker"] = self.refused["index"] = self.refused["trade"] = 0
        self._dirty: list[int] = []
        self._is_dirty = bytearray()
        self._dirty_underlyings: list[str] = []
        self._to_resync: list[int] = []
        self._contradicted_ns: dict[int, int] = {}
        """Since when the ticker shows another touch; void once the book has spoken again."""
        self.resize(catalog)
        self._apply: dict[type, Callable[[Any, int], None]] = {
            BookChanged: self._on_book,
            BookLost: self._on_lost,
            TickerSeen: self._on_ticker,
            PublicTrade: self._on_trade,
            IndexSeen: self._on_index,
            VolIndexSeen: self._on_vol_index,
            ExpirationEstimate: self._on_expiration,
            InstrumentsRead: self._on_instruments,
            InstrumentStateChanged: self._on_state,
            PlatformChanged: self._on_platform,
        }

    def resize(self, catalog: Catalog) -> None:
        """Grow every column to a catalogue that has more instruments; old rows stay."""
        old = len(self._books)
        assert len(catalog) >= old, f"catalogue shrank from {old} to {len(catalog)}"
        for name in _INT_COLUMNS:
            setattr(self, name, _grown(getattr(self, name), len(catalog), 0))
        for name in _ZERO_COLUMNS:
            setattr(self, name, _grown(getattr(self, name), len(catalog), 0.0))
        for name in _NAN_COLUMNS:
            setattr(self, name, _grown(getattr(self, name), len(catalog), math.nan))
        self._grow_touch(old, len(catalog))
        added = catalog.instruments[old:]
        self._books.extend(Book(instrument.grid) for instrument in added)
        self._lifecycles.extend(Lifecycle.OPEN for _ in added)
        self._is_dirty.extend(bytes(len(added)))
        self._is_option = catalog.is_option.tolist()
        self._underlying_of = [instrument.underlying for instrument in catalog.instruments]
        self._underlyings_of_index: dict[str, list[str]] = {}
        self._expiries_of_index: dict[str, dict[int, None]] = {}
        for instrument in catalog.instruments:
            if instrument.expiry_ns:
                listed = self._expiries_of_index.setdefault(instrument.price_index, {})
                listed[instrument.expiry_ns] = None
            served = self._underlyings_of_index.setdefault(instrument.price_index, [])
            if instrument.underlying not in served:
                served.append(instrument.underlying)
        self._bind_views()

    def on_event(self, event: MarketEvent, now_ns: Ns) -> None:
        """Take in one event; never raises for what the venue said."""
        self.last_event_ns = now_ns
        self._apply[type(event)](event, now_ns)

    def book(self, instrument_id: int) -> Book:
        return self._books[instrument_id]

    def lifecycle(self, instrument_id: int) -> Lifecycle:
        return self._lifecycles[instrument_id]

    def is_locked(self, index_name: str) -> bool:
        """Whether the venue as a whole, or this index, is locked or under maintenance."""
        return self.locked.get("", False) or self.locked.get(index_name, False)

    def averaging(self, index_name: str, now_ns: Ns) -> Averaging:
        """The settlement average of an index now: what is fixed of it, while it is being taken."""
        found = self._averaging.get(index_name)
        if found is None or now_ns - self._averaging_ts_ns[index_name] > AVERAGING_AGE_NS_MAX:
            return NOT_AVERAGING
        return found

    def index_age_ns(self, index_name: str, now_ns: Ns) -> int:
        """Age of the index price; the age of the epoch where none was ever seen."""
        return now_ns - self.index_ts_recv_ns.get(index_name, 0)

    def flow(self, instrument_id: int, now_ns: Ns) -> float:
        """Signed trade amount of the recent past, faded to now."""
        age_ns = now_ns - int(self.flow_ts_ns[instrument_id])
        return float(self.flow_amount[instrument_id]) * math.exp(-age_ns * _FLOW_RATE_PER_NS)

    def take_dirty(self) -> Ints:
        """Options whose book, limits or state changed since the last call, in order of change."""
        ids = np.array(self._dirty, dtype=np.int64)
        for instrument_id in self._dirty:
            self._is_dirty[instrument_id] = 0
        self._dirty.clear()
        return ids

    def take_dirty_underlyings(self) -> list[str]:
        """Underlyings whose futures, perpetual or index moved since the last call."""
        taken, self._dirty_underlyings = self._dirty_underlyings, []
        return taken

    def take_resyncs(self) -> list[int]:
        """Books found impossible since the last call: each needs a fresh snapshot."""
        taken, self._to_resync = self._to_resync, []
        return taken

    def digest(self) -> bytes:
        """16 bytes over all state, equal for equal histories."""
        state = blake2b(digest_size=16)
        for name in (*_INT_COLUMNS, *_ZERO_COLUMNS, *_NAN_COLUMNS):
            state.update(getattr(self, name).tobytes())
        for matrix in self.touch:
            state.update(matrix.tobytes())
        for book in self._books:
            book.digest_into(state)
        words = (
            self._lifecycles,
            self.index_price,
            self.index_ts_recv_ns,
            self.vol_index,
            self._averaging,
            self._averaging_ts_ns,
            self.locked,
            self.last_event_ns,
            self.refused,
            self._dirty,
            self._dirty_underlyings,
            self._to_resync,
            self._contradicted_ns,
        )
        state.update(repr(words).encode())
        return state.digest()

    def _on_book(self, event: BookChanged, now_ns: int) -> None:
        i = event.instrument_id
        book = self._books[i]
        was_valid = book.validity is Validity.OK
        validity = book.apply(event.is_snapshot, event.bids, event.asks)
        self._book_ts_recv_ns[i] = now_ns
        self._book_ts_venue_ns[i] = event.ts_venue_ns
        if validity is Validity.OK:
            self._bid_ticks[i] = book.best_bid_ticks
            self._ask_ticks[i] = book.best_ask_ticks
            self._second_bid_ticks[i] = book.second_bid_ticks
            self._second_ask_ticks[i] = book.second_ask_ticks
            self._bid_amount[i] = book.best_bid_amount
            self._ask_amount[i] = book.best_ask_amount
            if not was_valid:
                self.book_valid[i] = True
        else:
            self._lose(i)
            self.refused[validity.value] += 1
            if was_valid or event.is_snapshot:
                self._to_resync.append(i)
        self._touch(i)

    def _on_lost(self, event: BookLost, now_ns: int) -> None:
        i = event.instrument_id
        self._books[i].invalidate(Validity.LOST)
        self.refused[Validity.LOST.value] += 1
        self._lose(i)
        self._touch(i)

    def _on_ticker(self, event: TickerSeen, now_ns: int) -> None:
        i = event.instrument_id
        if event.mark_price < 0.0 or event.mark_vol < 0.0 or event.underlying_price <= 0.0:
            self.refused["ticker"] += 1
            return
        self._ticker_ts_recv_ns[i] = now_ns
        self._mark[i] = event.mark_price
        self._mark_vol[i] = event.mark_vol
        self._underlying_price[i] = event.underlying_price
        self._open_interest[i] = event.open_interest
        if now_ns - self._book_ts_recv_ns[i] >= CONTRADICTED_NS:
            self._hold_against_book(event, now_ns)
        # A price band moves rarely, and for an option only a moved band can change a quote.
        has_moved = event.price_max != self._price_max[i] or event.price_min != self._price_min[i]
        self._price_min[i] = event.price_min
        self._price_max[i] = event.price_max
        if not self._is_option[i]:
            self._funding_8h[i] = event.funding_8h
            self._touch(i)
        elif has_moved and not math.isnan(event.price_max):
            self._touch(i)

    def _hold_against_book(self, event: TickerSeen, now_ns: int) -> None:
        """Compares the ticker's touch, as far as it states one, with a quiet book's."""
        i, book = event.instrument_id, self._books[event.instrument_id]
        if book.validity is not Validity.OK:
            return
        if book.has_touch(event.best_bid, event.best_ask):
            self._contradicted_ns.pop(i, None)
            return
        since_ns = self._contradicted_ns.get(i, 0)
        if since_ns <= self._book_ts_recv_ns[i]:
            self._contradicted_ns[i] = now_ns
        elif now_ns - since_ns >= CONTRADICTED_NS:
            del self._contradicted_ns[i]
            book.invalidate(Validity.CONTRADICTED)
            self.refused[Validity.CONTRADICTED.value] += 1
            self._lose(i)
            self._touch(i)
            self._to_resync.append(i)

    def _on_trade(self, event: PublicTrade, now_ns: int) -> None:
        i = event.instrument_id
        if not 0.0 < event.amount < math.inf:
            self.refused["trade"] += 1
            return
        if event.is_block:
            return
        self.flow_amount[i] = self.flow(i, Ns(now_ns)) + event.side * event.amount
        self.flow_ts_ns[i] = now_ns

    def _on_index(self, event: IndexSeen, now_ns: int) -> None:
        if not 0.0 < event.price < math.inf:
            self.refused["index"] += 1
            return
        self.index_price[event.index_name] = event.price
        self.index_ts_recv_ns[event.index_name] = now_ns
        for underlying in self._underlyings_of_index.get(event.index_name, ()):
            self._touch_underlying(underlying)

    def _on_vol_index(self, event: VolIndexSeen, now_ns: int) -> None:
        if not 0.0 < event.vol < math.inf:
            self.refused["index"] += 1
            return
        self.vol_index[event.index_name] = event.vol

    def _on_expiration(self, event: ExpirationEstimate, now_ns: int) -> None:
        if not (0.0 < event.price < math.inf and event.seconds_left >= 0.0):
            self.refused["index"] += 1
            return
        self._averaging[event.index_name] = self._averaging_of(event, now_ns)
        self._averaging_ts_ns[event.index_name] = now_ns
        for underlying in self._underlyings_of_index.get(event.index_name, ()):
            self._touch_underlying(underlying)

    def _averaging_of(self, event: ExpirationEstimate, now_ns: int) -> Averaging:
        """What an estimate says is fixed of the expiry it is of: the listed one nearest to when it
        says it ends, because its seconds are whole and its way here takes time."""
        ends_ns = now_ns + round(event.seconds_left * NS_PER_S)
        listed = self._expiries_of_index.get(event.index_name, ())
        expiry_ns = min(listed, key=lambda listed_ns: abs(listed_ns - ends_ns), default=0)
        open_share = event.open_share
        if open_share is None:
            open_share = event.seconds_left * NS_PER_S / AVERAGING_NS
        index = self.index_price.get(event.index_name, math.nan)
        is_running = event.is_estimated and 0.0 <= open_share < 1.0 and index > 0.0
        if not is_running or abs(expiry_ns - ends_ns) > EXPIRY_SLACK_NS:
            return NOT_AVERAGING
        return averaging_of_estimate(
            estimate_usd=event.price,
            index_usd=index,
            fixed_share=1.0 - open_share,
            expiry_ns=expiry_ns,
        )

    def _on_instruments(self, event: InstrumentsRead, now_ns: int) -> None:
        """The engine builds the larger catalogue and calls `resize`; nothing else changes."""

    def _on_state(self, event: InstrumentStateChanged, now_ns: int) -> None:
        i = event.instrument_id
        if i < 0:
            return
        self._lifecycles[i] = event.lifecycle
        self.is_open[i] = event.lifecycle is Lifecycle.OPEN
        self._touch(i)

    def _on_platform(self, event: PlatformChanged, now_ns: int) -> None:
        self.locked[event.index_name] = event.is_locked

    def _lose(self, i: int) -> None:
        for column in self._touch_views:
            column[i] = 0
        self.book_valid[i] = False

    def _touch(self, i: int) -> None:
        if self._is_option[i]:
            if not self._is_dirty[i]:
                self._is_dirty[i] = 1
                self._dirty.append(i)
        else:
            self._touch_underlying(self._underlying_of[i])

    def _touch_underlying(self, underlying: str) -> None:
        if underlying not in self._dirty_underlyings:
            self._dirty_underlyings.append(underlying)

    def _grow_touch(self, old: int, new: int) -> None:
        ticks, money, flags = self.touch
        self.touch = TouchMatrices(
            np.zeros((4, new), dtype=np.int64), np.zeros((4, new)), np.zeros((2, new), np.bool_)
        )
        self.touch.money[2:] = np.nan
        self.touch.flags[1] = True
        for grown, kept in zip(self.touch, (ticks, money, flags), strict=True):
            grown[:, :old] = kept
        rows = (_TOUCH_TICKS, _TOUCH_MONEY, _TOUCH_FLAGS)
        for matrix, names in zip(self.touch, rows, strict=True):
            for row, name in enumerate(names):
                setattr(self, name, matrix[row])

    def _bind_views(self) -> None:
        """Writing through a memoryview costs two thirds of writing through the array."""
        self._bid_ticks = _view(self.bid_ticks)
        self._ask_ticks = _view(self.ask_ticks)
        self._second_bid_ticks = _view(self.second_bid_ticks)
        self._second_ask_ticks = _view(self.second_ask_ticks)
        self._bid_amount = _view(self.bid_amount)
        self._ask_amount = _view(self.ask_amount)
        self._book_ts_recv_ns = _view(self.book_ts_recv_ns)
        self._book_ts_venue_ns = _view(self.book_ts_venue_ns)
        self._ticker_ts_recv_ns = _view(self.ticker_ts_recv_ns)
        self._mark = _view(self.mark)
        self._mark_vol = _view(self.mark_vol)
        self._underlying_price = _view(self.underlying_price)
        self._price_min = _view(self.price_min)
        self._price_max = _view(self.price_max)
        self._funding_8h = _view(self.funding_8h)
        self._open_interest = _view(self.open_interest)
        self._touch_views = (
            self._bid_ticks,
            self._ask_ticks,
            self._second_bid_ticks,
            self._second_ask_ticks,
            self._bid_amount,
            self._ask_amount,
        )


def _grown(column: npt.NDArray[_Scalar], length: int, fill: float | bool) -> npt.NDArray[_Scalar]:
    grown = np.full(length, fill, dtype=column.dtype)
    grown[: column.size] = column
    return grown


def _view(column: npt.NDArray[Any]) -> MutableSequence[Any]:
    return cast("MutableSequence[Any]", column.data)
