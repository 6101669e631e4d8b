"""Public notifications to market events: one route for each subscribed channel.

A frame finds its route by the channel's bytes, is decoded once into its own type, and becomes one
event or a few. Nothing here sends; what must be asked of the venue is left with the feed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from mm_daemon.domain.events import (
    BookChanged,
    Event,
    ExpirationEstimate,
    FrameRefused,
    IndexSeen,
    Level,
    PlatformChanged,
    PublicTrade,
    TickerSeen,
    VolIndexSeen,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.units import NS_PER_MS, Ns, Side
from mm_daemon.venues.book_sync import NOT_LIVE, BookChain
from mm_daemon.venues.deribit.instruments import Catalogue
from mm_daemon.venues.deribit.messages import (
    DECODE_ERRORS,
    ExpirationPriceBody,
    GroupedBookBody,
    InstrumentStateBody,
    PlatformBody,
    PriceIndexBody,
    PublicTradeBody,
    VolatilityIndexBody,
    decode_book,
    decode_raw,
    decode_ticker,
)

REASON_CHARS_MAX = 200
_NAN = float("nan")
_PERCENT = 100.0

_decode_grouped = msgspec.json.Decoder(GroupedBookBody).decode
_decode_trades = msgspec.json.Decoder(list[PublicTradeBody]).decode
_decode_index = msgspec.json.Decoder(PriceIndexBody).decode
_decode_vol_index = msgspec.json.Decoder(VolatilityIndexBody).decode
_decode_expiration = msgspec.json.Decoder(ExpirationPriceBody).decode
_decode_state = msgspec.json.Decoder(InstrumentStateBody).decode
_decode_platform = msgspec.json.Decoder(PlatformBody).decode


class Route(Protocol):
    """Where frames of one channel go."""

    def feed(self, payload: bytes, now_ns: Ns) -> list[Event]:
        """The events of one frame. Never raises for what the frame holds."""
        ...


class Loss(Protocol):
    """Told that a book is unknown; returns the events of that."""

    def __call__(self, instrument_id: int, reason: str, now_ns: Ns) -> list[Event]: ...


def refused(conn: Conn, channel: str, error: Exception) -> list[Event]:
    """A frame of a known channel that could not be understood."""
    return [FrameRefused(int(conn), f"{channel}: {error}"[:REASON_CHARS_MAX])]


class BookRoute(BookChain):
    """`book.<instrument>.<interval>`: proves each change's link before it is an event.

    The protocol handles a linked change itself, in its own frame; everything else comes here.
    """

    __slots__ = ("_lose", "_settle", "channel", "instrument_id")

    def __init__(
        self, channel: str, instrument_id: int, lose: Loss, settle: Callable[[int], None]
    ) -> None:
        super().__init__()
        self.channel = channel
        self.instrument_id = instrument_id
        self._lose = lose
        self._settle = settle

    def feed(self, payload: bytes, now_ns: Ns) -> list[Event]:
        try:
            body = decode_book(payload).params.data
        except DECODE_ERRORS as error:
            reason = f"unreadable: {error}"[:REASON_CHARS_MAX]
            return self._lose(self.instrument_id, reason, now_ns)
        previous = body.prev_change_id
        is_snapshot = body.type == "snapshot" or previous is None
        if not is_snapshot and previous != self.change_id:
            if self.change_id == NOT_LIVE or body.change_id == self.change_id:
                return []  # before the snapshot, or a repetition of what is applied
            reason = f"gap: change follows {previous}, book is at {self.change_id}"
            return self._lose(self.instrument_id, reason, now_ns)
        if is_snapshot:
            self._settle(self.instrument_id)
        self.change_id = body.change_id
        return [
            BookChanged(
                self.instrument_id,
                is_snapshot,
                body.bids,  # type: ignore[arg-type] # the action is narrower than its event's
                body.asks,  # type: ignore[arg-type]
                body.change_id,
                body.timestamp * NS_PER_MS,
            )
        ]


class GroupedBookRoute(BookChain):
    """`book.<instrument>.<group>.<depth>.<interval>`: each message replaces the book."""

    __slots__ = ("_lose", "_settle", "channel", "instrument_id")

    def __init__(
        self, channel: str, instrument_id: int, lose: Loss, settle: Callable[[int], None]
    ) -> None:
        super().__init__()
        self.channel = channel
        self.instrument_id = instrument_id
        self._lose = lose
        self._settle = settle

    def feed(self, payload: bytes, now_ns: Ns) -> list[Event]:
        try:
            body = _decode_grouped(decode_raw(payload).params.data)
        except DECODE_ERRORS as error:
            reason = f"unreadable: {error}"[:REASON_CHARS_MAX]
            return self._lose(self.instrument_id, reason, now_ns)
        if not self.is_live:
            self._settle(self.instrument_id)
        self.change_id = body.change_id
        bids: list[Level] = [("new", price, amount) for price, amount in body.bids]
        asks: list[Level] = [("new", price, amount) for price, amount in body.asks]
        return [
            BookChanged(
                self.instrument_id, True, bids, asks, body.change_id, body.timestamp * NS_PER_MS
            )
        ]


class TickerRoute:
    """`ticker.<instrument>.<interval>`."""

    __slots__ = ("channel", "instrument_id")

    def __init__(self, channel: str, instrument_id: int) -> None:
        self.channel = channel
        self.instrument_id = instrument_id

    def feed(self, payload: bytes, now_ns: Ns) -> list[Event]:
        try:
            body = decode_ticker(payload).params.data
        except DECODE_ERRORS as error:
            return refused(Conn.MARKET, self.channel, error)
        mark_iv = body.mark_iv
        return [
            TickerSeen(
                self.instrument_id,
                _NAN if body.mark_price is None else body.mark_price,
                _NAN if mark_iv is None else mark_iv / _PERCENT,
                _NAN if body.underlying_price is None else body.underlying_price,
                _NAN if body.index_price is None else body.index_price,
                body.best_bid_price or _NAN,  # an empty side is null or 0
                body.best_ask_price or _NAN,
                _NAN if body.min_price is None else body.min_price,
                _NAN if body.max_price is None else body.max_price,
                _NAN if body.funding_8h is None else body.funding_8h,
                _NAN if body.open_interest is None else body.open_interest,
                body.timestamp * NS_PER_MS,
            )
        ]


class RawRoute:
    """Any other public channel: its data is cut out first and read by the channel's own reader."""

    __slots__ = ("_read", "channel")

    def __init__(self, channel: str, read: Callable[[msgspec.Raw, Ns], list[Event]]) -> None:
        self.channel = channel
        self._read = read

    def feed(self, payload: bytes, now_ns: Ns) -> list[Event]:
        try:
            return self._read(decode_raw(payload).params.data, now_ns)
        except DECODE_ERRORS as error:
            return refused(Conn.MARKET, self.channel, error)


def trades_reader(catalogue: Catalogue) -> Callable[[msgspec.Raw, Ns], list[Event]]:
    """Reads a whole currency's prints; those of instruments we do not follow are left out."""

    def read(raw: msgspec.Raw, _now_ns: Ns) -> list[Event]:
        events: list[Event] = []
        for body in _decode_trades(raw):
            instrument_id = catalogue.ids.get(body.instrument_name)
            if instrument_id is None:
                continue
            events.append(
                PublicTrade(
                    instrument_id,
                    Side.BUY if body.direction == "buy" else Side.SELL,
                    body.price,
                    body.amount,
                    body.timestamp * NS_PER_MS,
                    body.trade_seq,
                    body.block_trade_id is not None or body.block_rfq_id is not None,
                )
            )
        return events

    return read


def read_index(raw: msgspec.Raw, _now_ns: Ns) -> list[Event]:
    body = _decode_index(raw)
    return [IndexSeen(body.index_name, body.price, body.timestamp * NS_PER_MS)]


def read_vol_index(raw: msgspec.Raw, _now_ns: Ns) -> list[Event]:
    body = _decode_vol_index(raw)
    return [VolIndexSeen(body.index_name, body.volatility / _PERCENT, body.timestamp * NS_PER_MS)]


def expiration_reader(index_name: str) -> Callable[[msgspec.Raw, Ns], list[Event]]:
    """The body does not name its index; the channel does."""

    def read(raw: msgspec.Raw, _now_ns: Ns) -> list[Event]:
        body = _decode_expiration(raw)
        # Both counts come only with an estimate.
        share = body.left_ticks / body.total_ticks if body.total_ticks else None
        return [ExpirationEstimate(index_name, body.price, body.seconds, body.is_estimated, share)]

    return read


def read_platform(raw: msgspec.Raw, _now_ns: Ns) -> list[PlatformChanged]:
    body = _decode_platform(raw)
    if body.maintenance is not None:
        return [PlatformChanged("", body.maintenance)]
    if body.price_index is not None and body.locked is not None:
        return [PlatformChanged(body.price_index, body.locked)]
    return []


def decode_instrument_state(raw: msgspec.Raw) -> InstrumentStateBody:
    """The lifecycle message of one instrument."""
    return _decode_state(raw)
