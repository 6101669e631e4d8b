"""The market-data side of the venue: catalogue, routes, books and their resynchronisation.

Keeps which channels should flow and whether each book's chain holds; never the books themselves.
A lost book is told at once, and that book alone is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mm_daemon.domain.events import (
    BookLost,
    Event,
    FrameRefused,
    InstrumentsRead,
    InstrumentStateChanged,
    QueryFailed,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.instruments import Lifecycle
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from mm_daemon.venues.book_sync import ResyncPlan
from mm_daemon.venues.deribit.instruments import (
    GONE,
    Catalogue,
    currency_of,
    lifecycle_in,
    lifecycle_of,
    read_rows,
)
from mm_daemon.venues.deribit.messages import InstrumentBody
from mm_daemon.venues.deribit.routes import (
    REASON_CHARS_MAX,
    BookRoute,
    GroupedBookRoute,
    RawRoute,
    Route,
    TickerRoute,
    decode_instrument_state,
    expiration_reader,
    read_index,
    read_platform,
    read_vol_index,
    trades_reader,
)
from mm_daemon.venues.deribit.session import Ask, Session
from mm_daemon.venues.deribit.settings import DeribitSettings
from mm_daemon.venues.deribit.subscriptions import Subscriptions
from mm_daemon.venues.deribit.venue_clock import VenueClock
from mm_daemon.venues.pacing import Pacer

RESYNC_BATCH_MAX = 100
"""Books asked for again in one call: the cap over all books, at the pace of subscription calls."""

READ_AGAIN_NS_MIN = 30 * NS_PER_S
READ_AGAIN_NS_MAX = 900 * NS_PER_S
"""Pace of reading all instruments again while a reading is owed or one of them stands closed, twice
as long each time: the venue sends nothing when it locks or unlocks a currency, and what changes
between a reading and the subscription after it is not told either."""


class CatalogueRead(msgspec.Struct):
    """One reading of all instruments: a request for each currency, answered in any order."""

    request_ids: list[int]
    left: list[tuple[str, bool]]
    """(currency, whether those that have ended) not asked yet."""
    open_count: int = 0
    bodies: list[InstrumentBody] = []
    unread: list[str] = []
    """Names in rows that cannot be read; empty where not even the name can."""
    heard: dict[str, Lifecycle] = {}
    """What the stream said meanwhile: it is newer."""


class MarketFeed:
    """What flows on the MARKET connection."""

    def __init__(
        self, settings: DeribitSettings, session: Session, pacer: Pacer, clock: VenueClock
    ) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self.catalogue = Catalogue(settings.underlyings)
        self.subscriptions = Subscriptions(session, pacer, "public", reserve=1)
        self.routes: dict[bytes, Route] = {}
        self.linked_books: dict[str, BookRoute] = {}
        """Books with chains by channel, for the protocol's shortest path; empty while down."""
        self._books: dict[int, BookRoute | GroupedBookRoute] = {}
        self._tickers: dict[int, str] = {}
        self._closed: dict[int, Lifecycle] = {}
        """What was told last of instruments that are not open."""
        self._returning: list[int] = []
        """Instruments that came back and want their channels again."""
        self._resyncs = ResyncPlan()
        # The changelog's stricter figure: the rate page allows one call a second.
        self._catalogue_pacer = Pacer(interval_ns=10 * NS_PER_S, burst=5)
        self._reading: CatalogueRead | None = None
        self._read_wanted: list[int] | None = None
        self._again_ns: int | None = None
        """When to read all instruments again without being asked."""
        self._again_spacing_ns = READ_AGAIN_NS_MIN
        self._ended_wanted: dict[str, None] = {}
        """Instruments that are wanted although they are over."""
        self.has_catalogue = False
        self.is_current = False
        """Whether the catalogue was read on this connection."""
        self.has_changed = False
        """Set when a deadline may have moved; cleared by whoever caches deadlines."""

    # Books

    def lose_book(self, instrument_id: int, reason: str, now_ns: Ns) -> list[Event]:
        """The book is unknown: tells it once, and asks for it again as soon as its pace allows."""
        events = self._lose(instrument_id, reason, now_ns)
        self.pump(now_ns)
        return events

    def _lose(self, instrument_id: int, reason: str, now_ns: Ns) -> list[Event]:
        self.has_changed = True
        if not self._is_gone(instrument_id):
            self._resyncs.want(instrument_id, now_ns)
        if not self._books[instrument_id].lose():
            return []
        return [BookLost(instrument_id, reason)]

    def resync(self, instrument_id: int, now_ns: Ns) -> list[Event]:
        """The decision wants a fresh snapshot."""
        if instrument_id not in self._books:
            return [BookLost(instrument_id, "not subscribed")]
        return self.lose_book(instrument_id, "resync asked", now_ns)

    def disconnect(self, reason: str, code: int) -> list[Event]:
        """Every live book is unknown from now, and so is what a reading would have told."""
        self._resyncs.clear()
        self.subscriptions.clear()
        self.linked_books.clear()
        self._returning = []
        wanted = [*(self._reading.request_ids if self._reading else ()), *(self._read_wanted or ())]
        self._reading = self._read_wanted = self._again_ns = None
        self.is_current = False
        events: list[Event] = [
            BookLost(instrument_id, reason)
            for instrument_id, book in self._books.items()
            if book.lose()
        ]
        events += [QueryFailed(request_id, code, reason) for request_id in wanted if request_id]
        return events

    def on_timer(self, now_ns: Ns) -> list[Event]:
        """Snapshots that did not come, books that are due, calls that the pace now allows."""
        events: list[Event] = []
        for instrument_id in self._resyncs.overdue(now_ns):
            events += self._lose(instrument_id, "no snapshot", now_ns)
        if self._again_ns is not None and self._again_ns <= now_ns:
            self._again_ns = None
            self._want_listing()
        return events

    def pump(self, now_ns: Ns) -> None:
        """Sends what is wanted and the paces allow."""
        if not self._session.is_authenticated:
            return
        self._pump_catalogue(now_ns)
        if self._returning and self._session.is_ready:
            self._subscribe_instruments(self._returning)
            self._returning = []
        if self.subscriptions.is_idle:
            due = [self._books[book_id] for book_id in self._resyncs.due(now_ns, RESYNC_BATCH_MAX)]
            self.subscriptions.renew([book.channel for book in due if not book.is_live])
        self.subscriptions.pump(now_ns)

    def next_deadline_ns(self) -> int | None:
        """When `on_timer` or `pump` next has something to do."""
        if not self._session.is_authenticated:
            return None
        if self._returning and self._session.is_ready:
            return 0
        deadlines = [
            self._resyncs.next_deadline_ns(may_ask=self.subscriptions.is_idle),
            self.subscriptions.next_deadline_ns(),
            self._again_ns,
        ]
        is_unasked = self._reading.left if self._reading is not None else self._read_wanted
        if is_unasked:
            deadlines.append(self._catalogue_pacer.ready_ns())
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    # Subscriptions

    def begin(self) -> None:
        """Subscribes all of the catalogue and the venue-wide channels, hedges first."""
        self.subscriptions.want(self._general_channels())
        self._subscribe_instruments(range(len(self.catalogue)))
        self._returning = []

    def on_subscribed(self, granted: list[str], missing: list[str], now_ns: Ns) -> list[Event]:
        """Books granted must bring a snapshot; books refused stay unknown."""
        for channel in granted:
            route = self.routes.get(channel.encode())
            if not isinstance(route, BookRoute | GroupedBookRoute) or route.is_live:
                continue
            if not self._is_gone(route.instrument_id):
                self._resyncs.expect(route.instrument_id, now_ns)
        events: list[Event] = []
        for channel in missing:
            reason = f"subscription not granted: {channel}"
            events.append(FrameRefused(int(Conn.MARKET), reason))
            route = self.routes.get(channel.encode())
            if isinstance(route, BookRoute | GroupedBookRoute):
                route.lose()
                self._resyncs.settle(route.instrument_id)
                events.append(BookLost(route.instrument_id, reason))
        return events

    def _general_channels(self) -> list[str]:
        settings = self._settings
        channels: list[str] = []
        for underlying in settings.underlyings:
            index = underlying.price_index
            name = f"deribit_price_index.{index}"
            self._add(channels, name, RawRoute(name, read_index))
            if index in settings.volatility_indices:
                name = f"deribit_volatility_index.{index}"
                self._add(channels, name, RawRoute(name, read_vol_index))
            name = f"estimated_expiration_price.{index}"
            self._add(channels, name, RawRoute(name, expiration_reader(index)))
        for currency in settings.currencies:
            for kind in ("future", "option"):
                name = f"trades.{kind}.{currency}.{settings.trades}"
                self._add(channels, name, RawRoute(name, trades_reader(self.catalogue)))
                name = f"instrument.state.{kind}.{currency}"
                self._add(channels, name, RawRoute(name, self._read_state))
        self._add(channels, "platform_state", RawRoute("platform_state", self._read_platform))
        return channels

    def _subscribe_instruments(self, instrument_ids: Iterable[int]) -> None:
        """All channels of these, but for those that are gone."""
        settings = self._settings
        channels: list[str] = []
        for instrument_id in instrument_ids:
            if self._is_gone(instrument_id):
                continue
            terms = self.catalogue[instrument_id]
            suffix = settings.option_book if terms.is_option else settings.hedge_book
            channel = f"book.{terms.name}.{suffix}"
            book = self._books.get(instrument_id)
            if book is None:
                kind = GroupedBookRoute if "." in suffix else BookRoute
                book = kind(channel, instrument_id, self.lose_book, self._resyncs.settle)
                self._books[instrument_id] = book
            if isinstance(book, BookRoute):
                self.linked_books[channel] = book
            self._add(channels, channel, book)
            suffix = settings.option_ticker if terms.is_option else settings.hedge_ticker
            channel = f"ticker.{terms.name}.{suffix}"
            self._tickers[instrument_id] = channel
            self._add(channels, channel, TickerRoute(channel, instrument_id))
        self.subscriptions.want(channels)

    def _add(self, channels: list[str], channel: str, route: Route) -> None:
        channels.append(channel)
        self.routes[channel.encode()] = route

    # Instruments

    def read_catalogue(self, request_id: int, ended: tuple[str, ...] = ()) -> None:
        """Wants a reading of all instruments, and those of `ended` that are over; wishes during a
        reading join the next one."""
        if self._read_wanted is None:
            self._read_wanted = []
        self._read_wanted.append(request_id)
        self._ended_wanted.update(dict.fromkeys(ended))

    @property
    def is_reading(self) -> bool:
        """Whether a reading is wanted or under way."""
        return self._reading is not None or self._read_wanted is not None

    def on_instruments(self, reading: CatalogueRead, raw: msgspec.Raw, now_ns: Ns) -> list[Event]:
        """One currency was answered; the last one completes the reading. One row that cannot be
        read costs that row alone. Raises DECODE_ERRORS for what is no list."""
        bodies, unread, reason = read_rows(raw)
        if reading is not self._reading:
            return []
        refused = FrameRefused(int(Conn.MARKET), reason[:REASON_CHARS_MAX])
        events: list[Event] = [refused] if unread else []
        reading.bodies += bodies
        reading.unread += unread
        reading.open_count -= 1
        if reading.left or reading.open_count:
            return events
        self._reading = None
        return events + self._complete(reading, now_ns)

    def fail_catalogue(self, reading: CatalogueRead, now_ns: Ns) -> list[int]:
        """A part failed, so nothing is known; returns the requests that wanted it."""
        if reading is not self._reading:
            return []
        self._reading = None
        self._plan_again(now_ns, is_owed=True)
        return reading.request_ids

    def _complete(self, reading: CatalogueRead, now_ns: Ns) -> list[Event]:
        fresh, refused = self.catalogue.merge(reading.bodies, self._ended_wanted)
        if self._read_wanted is None:
            self._ended_wanted.clear()  # each wish names its own; those of the next one stay
        unknown = [body for body in reading.bodies if body.state and not lifecycle_of(body.state)]
        if unknown:
            first = f"{unknown[0].instrument_name} is {unknown[0].state[:40]!r}"
            refused.append(f"{len(unknown)} instruments in an unknown state, first {first}")
        events: list[Event] = [FrameRefused(int(Conn.MARKET), reason) for reason in refused]
        is_first = not self.is_current
        self.has_catalogue = self.is_current = True
        instruments = tuple(self.catalogue.instruments)
        for request_id in reading.request_ids:
            events.append(InstrumentsRead(request_id, instruments))
        events += self._lifecycles(reading, now_ns)
        self._plan_again(now_ns, is_owed=bool(reading.unread))
        if not is_first:
            self._subscribe_instruments(fresh)
        return events

    def _lifecycles(self, reading: CatalogueRead, now_ns: Ns) -> list[Event]:
        """What a whole reading says of each known instrument, where that is not what was told last;
        one that is absent has ended, unless a row that cannot be read may be its own."""
        seen = {body.instrument_name: lifecycle_in(body) for body in reading.bodies}
        seen.update(reading.heard)
        unread = dict.fromkeys(reading.unread)
        ts_venue_ns = self._clock.venue_ns(now_ns)
        events: list[Event] = []
        for terms in self.catalogue.instruments:
            told = self._closed.get(terms.id, Lifecycle.OPEN)
            is_known = told in GONE or terms.name in unread or "" in unread
            lifecycle = seen.get(terms.name, told if is_known else Lifecycle.INACTIVE)
            if lifecycle is not told:
                events.append(InstrumentStateChanged(terms.id, terms.name, lifecycle, ts_venue_ns))
                events += self._follow(terms.id, lifecycle)
        return events

    def _plan_again(self, now_ns: Ns, *, is_owed: bool) -> None:
        """Another reading later, where one is owed or an instrument may open without a word."""
        self._again_ns = None
        if is_owed or any(lifecycle not in GONE for lifecycle in self._closed.values()):
            self._again_ns = now_ns + self._again_spacing_ns
            self._again_spacing_ns = min(2 * self._again_spacing_ns, READ_AGAIN_NS_MAX)
        else:
            self._again_spacing_ns = READ_AGAIN_NS_MIN

    def _is_gone(self, instrument_id: int) -> bool:
        """Whether it needs no channels any more."""
        return self._closed.get(instrument_id) in GONE

    def _follow(self, instrument_id: int, lifecycle: Lifecycle) -> list[Event]:
        """Channels end with an instrument, and begin again where it comes back."""
        was_gone = self._is_gone(instrument_id)
        self._closed.pop(instrument_id, None)
        if lifecycle is not Lifecycle.OPEN:
            self._closed[instrument_id] = lifecycle
        is_gone = lifecycle in GONE
        if is_gone and not was_gone:
            return self._retire(instrument_id, lifecycle)
        if was_gone and not is_gone:
            self._returning.append(instrument_id)
        return []

    def _pump_catalogue(self, now_ns: Ns) -> None:
        if self._reading is None and self._read_wanted is not None:
            listed = [(currency, False) for currency in self._settings.currencies]
            ended = dict.fromkeys(
                (currency_of(name), True)
                for name in self._ended_wanted
                if name not in self.catalogue.ids
            )
            self._reading = CatalogueRead(self._read_wanted, [*listed, *ended])
            self._read_wanted = None
        reading = self._reading
        if reading is None:
            return
        while reading.left and self._catalogue_pacer.take(now_ns):
            currency, is_over = reading.left.pop(0)
            reading.open_count += 1
            self._session.ask(
                Ask.INSTRUMENTS,
                "public/get_instruments",
                {"currency": currency, "expired": is_over},
                now_ns,
                context=reading,
            )

    def _read_state(self, raw: msgspec.Raw, now_ns: Ns) -> list[Event]:
        self.has_changed = True
        body = decode_instrument_state(raw)
        lifecycle = lifecycle_of(body.state)
        events: list[Event] = []
        if lifecycle is None:
            reason = f"instrument.state: {body.instrument_name} is {body.state[:40]!r}"
            events.append(FrameRefused(int(Conn.MARKET), reason))
            lifecycle = Lifecycle.HALTED  # an unknown state is not a state to quote in
        if self._reading is not None:
            self._reading.heard[body.instrument_name] = lifecycle
        instrument_id = self.catalogue.ids.get(body.instrument_name, -1)
        ts_venue_ns = body.timestamp * NS_PER_MS
        events.append(
            InstrumentStateChanged(instrument_id, body.instrument_name, lifecycle, ts_venue_ns)
        )
        if instrument_id >= 0:
            events += self._follow(instrument_id, lifecycle)
            if self._again_ns is None:
                self._plan_again(now_ns, is_owed=False)
            return events
        if lifecycle not in GONE and self.has_catalogue:
            self._want_listing()
        return events

    def _read_platform(self, raw: msgspec.Raw, now_ns: Ns) -> list[Event]:
        """A lock that ends is followed by a reading: no instrument's own state is sent with it."""
        events = read_platform(raw, now_ns)
        if self.has_catalogue and any(not event.is_locked for event in events):
            self.has_changed = True
            self._want_listing()
        return [*events]

    def _want_listing(self) -> None:
        if self._read_wanted is None:
            self._read_wanted = [0]

    def _retire(self, instrument_id: int, lifecycle: Lifecycle) -> list[Event]:
        self._resyncs.forget(instrument_id)
        book = self._books.get(instrument_id)
        if book is None:
            return []  # never subscribed
        self.subscriptions.drop([book.channel, self._tickers[instrument_id]])
        if not book.lose():
            return []
        return [BookLost(instrument_id, f"instrument is {lifecycle.value}")]

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        reading = self._reading
        return (
            self.catalogue.state(),
            self.subscriptions.state(),
            [(book_id, book.change_id) for book_id, book in self._books.items()],
            self._resyncs.state(),
            self._catalogue_pacer.state(),
            None
            if reading is None
            else (
                reading.request_ids,
                reading.left,
                reading.open_count,
                reading.unread,
                [(name, lifecycle.value) for name, lifecycle in reading.heard.items()],
            ),
            self._read_wanted,
            list(self._ended_wanted),
            self._returning,
            [(each, lifecycle.value) for each, lifecycle in self._closed.items()],
            (self._again_ns, self._again_spacing_ns),
        )
