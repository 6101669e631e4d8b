"""Who hears what: public subscriptions of the simulated venue, from events to messages.

Raw streams speak at once; conflating ones on a beat of 100 ms (agg2: 1 s), each instrument on its
own phase of the beat, so that a chain of 1,600 options is spread over the interval instead of
arriving as one burst.  A beat sends at most `MESSAGES_PER_STEP_MAX` messages; what is over stays
conflated and goes in the next step, which bounds the load a repriced chain can put on two cores.

A feed gap swallows a number of one book's messages on every stream of it while the book moves on:
the break in the chain of change ids is then exactly the one a client of the real venue meets.
"""

from typing import Final

import orjson

from mm_daemon.sim.deribit_wire_channels import Channel, Family
from mm_daemon.sim.deribit_wire_encode import public_trade_row
from mm_daemon.sim.deribit_wire_quotes import TickerDesk
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.deribit_wire_streams import (
    ConflatedBook,
    Gathering,
    GroupedBook,
    IncrementalTicker,
    Stream,
    book_snapshot,
    raw_change,
)
from mm_daemon.sim.exchange_api import MarketDataApi
from mm_daemon.sim.exchange_events import BookChanged, FundingChanged, MarksChanged, TradesPrinted
from mm_daemon.sim.spec import E8

STEP_US: Final = 10_000
PHASES: Final = 10
AGG2_STEPS: Final = 100
MESSAGES_PER_STEP_MAX: Final = 400
BOOK_DEPTH_MAX: Final = 10_000


class _Route:
    """Every stream fed by one instrument, by what feeds it."""

    def __init__(self, phase: int) -> None:
        self.phase = phase
        self.raw_books: list[Stream] = []
        self.slow_books: list[ConflatedBook] = []
        self.grouped_books: list[GroupedBook] = []
        self.raw_tickers: list[Stream] = []
        self.slow_tickers: list[Stream] = []
        self.quotes: list[Stream] = []
        self.touch: tuple[int, int, int, int] | None = None


class MarketHub:
    """Public channels of instruments: books, tickers, quotes, trades, funding."""

    def __init__(self, market: MarketDataApi, tickers: TickerDesk) -> None:
        self._market = market
        self._tickers = tickers
        self._routes: dict[str, _Route] = {}
        self._dirty: list[dict[Stream, None]] = [{} for _ in range(PHASES)]
        self._dirty_agg2: list[dict[Stream, None]] = [{} for _ in range(AGG2_STEPS)]
        self._trades: dict[str, Stream] = {}
        self._perpetuals: dict[str, Stream] = {}
        self._carry: dict[Stream, None] = {}
        self._step = 0
        self.messages_per_step_max = MESSAGES_PER_STEP_MAX
        self.lost_messages = 0

    # Subscribing

    def create(self, channel: Channel) -> Stream:
        """The stream of a channel whose instrument, if it names one, is known to exist."""
        family = channel.family
        stream: Stream
        if family in (Family.TRADES, Family.PERPETUAL):
            slow = channel.interval != "raw"
            stream = Gathering(channel) if slow else Stream(channel)
            table = self._trades if family is Family.TRADES else self._perpetuals
            table[channel.name] = stream
            return stream
        assert channel.instrument is not None
        route = self._route(channel.instrument)
        if family is Family.BOOK and channel.interval != "raw":
            stream = ConflatedBook(channel)
            route.slow_books.append(stream)
        elif family is Family.BOOK_GROUPED:
            stream = GroupedBook(channel)
            route.grouped_books.append(stream)
        elif family is Family.INCREMENTAL_TICKER:
            stream = IncrementalTicker(channel)
            route.slow_tickers.append(stream)
        else:
            stream = Stream(channel)
            raw = channel.interval == "raw"
            lists = {
                Family.BOOK: route.raw_books,
                Family.QUOTE: route.quotes,
                Family.TICKER: route.raw_tickers if raw else route.slow_tickers,
            }
            lists[family].append(stream)
        return stream

    def remove(self, stream: Stream) -> None:
        """Forget a stream nobody listens to."""
        name, instrument = stream.channel.name, stream.channel.instrument
        self._trades.pop(name, None)
        self._perpetuals.pop(name, None)
        for dirty in (*self._dirty, *self._dirty_agg2, self._carry):
            dirty.pop(stream, None)
        route = self._routes.get(instrument) if instrument is not None else None
        if route is None or instrument is None:
            return
        lists: tuple[list[Stream], ...] = (
            route.raw_books,
            route.slow_books,  # type: ignore[assignment]
            route.grouped_books,
            route.raw_tickers,
            route.slow_tickers,
            route.quotes,
        )
        for held in lists:
            if stream in held:
                held.remove(stream)
        if not any(lists):
            del self._routes[instrument]

    def _route(self, instrument: str) -> _Route:
        route = self._routes.get(instrument)
        if route is None:
            phase = self._tickers.spec(instrument).instrument_id % PHASES
            route = self._routes[instrument] = _Route(phase)
        return route

    def before_joining(self, stream: Stream, now_us: int) -> None:
        """Bring the present subscribers up to now, so that the newcomer's snapshot fits them."""
        if stream.subscribers and isinstance(stream, ConflatedBook | IncrementalTicker):
            self._speak(stream, now_us)

    def greet(self, stream: Stream, session: Session, now_us: int) -> None:
        """What a new subscriber of this stream is shown first."""
        channel = stream.channel
        name = channel.instrument
        if name is None:
            return
        if isinstance(stream, IncrementalTicker):
            stream.greet(session, stream.snapshot(self._tickers.row(name, now_us)))
        elif isinstance(stream, GroupedBook):
            view = self._market.book_view(name, stream.view_depth, now_us)
            content = stream.content(view, only_if_new=False)
            assert content is not None
            stream.greet(session, content)
        elif channel.family is Family.BOOK:
            view = self._market.book_view(name, BOOK_DEPTH_MAX, now_us)
            change_id = view.change_id
            if isinstance(stream, ConflatedBook):
                if len(stream.subscribers) == 1:
                    stream.begin(view)
                change_id = stream.change_id
            stream.greet(session, book_snapshot(view, change_id))
        elif channel.family is Family.TICKER:
            stream.greet(session, self._tickers.content(name, now_us))
        elif channel.family is Family.QUOTE:
            stream.greet(session, orjson.dumps(self._tickers.quote_row(name, now_us)))

    # Events

    def book_changed(self, event: BookChanged) -> None:
        """One book moved: raw streams now, the others on their beat."""
        route = self._routes.get(event.instrument)
        if route is None:
            return
        if route.raw_books:
            content = raw_change(event)
            for stream in route.raw_books:
                self._send_book(stream, content)
        for book in route.slow_books:
            book.collect(event)
            self._soil(book, route)
        for grouped in route.grouped_books:
            self._soil(grouped, route)
        if route.quotes or route.raw_tickers or route.slow_tickers:
            self._touch_moved(event.instrument, route, event.ts_us)

    def _touch_moved(self, instrument: str, route: _Route, now_us: int) -> None:
        touch = self._market.best(instrument)
        if touch == route.touch:
            return
        route.touch = touch
        if route.quotes:
            content = orjson.dumps(self._tickers.quote_row(instrument, now_us))
            for stream in route.quotes:
                stream.send(content)
        self._ticker_moved(instrument, route, now_us)

    def _ticker_moved(self, instrument: str, route: _Route, now_us: int) -> None:
        if route.raw_tickers:
            content = self._tickers.content(instrument, now_us)
            for stream in route.raw_tickers:
                stream.send(content)
        for stream in route.slow_tickers:
            self._soil(stream, route)

    def marks_changed(self, event: MarksChanged) -> None:
        """New marks: every ticker of the named instruments has news."""
        for instrument in event.instruments:
            route = self._routes.get(instrument)
            if route is not None:
                self._ticker_moved(instrument, route, event.ts_us)

    def trades_printed(self, event: TradesPrinted) -> None:
        """Prints, to the instrument's own channels and to those of its kind and currency."""
        if self._trades:
            rows = [public_trade_row(trade) for trade in event.trades]
            spec = self._tickers.spec(event.instrument)
            content: bytes | None = None
            for stream in self._trades.values():
                channel = stream.channel
                if channel.instrument is not None:
                    if channel.instrument != event.instrument:
                        continue
                elif not matches_kind(channel, spec.kind.value, spec.currency):
                    continue
                if isinstance(stream, Gathering):
                    stream.gather(rows)
                    self._soil(stream, None)
                    continue
                if content is None:
                    content = orjson.dumps(rows)
                stream.send(content)
        route = self._routes.get(event.instrument)
        if route is not None:
            self._ticker_moved(event.instrument, route, event.trades[-1].ts_us)

    def funding_changed(self, event: FundingChanged) -> None:
        """perpetual.{instrument}.{interval}."""
        row: dict[str, object] = {
            "timestamp": event.ts_us // 1_000,
            "interest": event.interest,
            "index_price": event.index_price_e8 / E8,
        }
        for stream in self._perpetuals.values():
            if stream.channel.instrument != event.instrument:
                continue
            if isinstance(stream, Gathering):
                stream.gather([row])
                self._soil(stream, None)
            else:
                stream.send(orjson.dumps(row))

    # The beat

    def _soil(self, stream: Stream, route: _Route | None) -> None:
        if stream.is_dirty:
            return
        stream.is_dirty = True
        phase = route.phase if route is not None else 0
        if stream.channel.interval == "agg2":
            self._dirty_agg2[phase][stream] = None
        else:
            self._dirty[phase][stream] = None

    def step(self, now_us: int) -> None:
        """One beat of 10 ms: speak for the phase at hand, first for what was left over."""
        self._step += 1
        due = self._carry
        for table, size in ((self._dirty, PHASES), (self._dirty_agg2, AGG2_STEPS)):
            phase = self._step % size
            due.update(table[phase])
            table[phase] = {}
        self._carry = {}
        for spoken, stream in enumerate(due):
            if spoken < self.messages_per_step_max:
                self._speak(stream, now_us)
            else:
                self._carry[stream] = None

    def _speak(self, stream: Stream, now_us: int) -> None:
        stream.is_dirty = False
        name = stream.channel.instrument
        if isinstance(stream, ConflatedBook):
            content = stream.take_change()
            if content is not None:
                self._send_book(stream, content)
            return
        if isinstance(stream, GroupedBook):
            assert name is not None
            view = self._market.book_view(name, stream.view_depth, now_us)
            content = stream.content(view, only_if_new=True)
        elif isinstance(stream, IncrementalTicker):
            assert name is not None
            content = stream.change(self._tickers.row(name, now_us))
        elif isinstance(stream, Gathering):
            is_trades = stream.channel.family is Family.TRADES
            for message in stream.take(_whole_list if is_trades else _last_row):
                stream.send(message)
            return
        else:
            assert name is not None
            content = self._tickers.content(name, now_us)
        if content is not None:
            stream.send(content)

    # Faults

    def lose_book_messages(self, instrument: str, messages: int) -> None:
        """Every stream of this book that is open now loses its next messages."""
        route = self._routes.get(instrument)
        if route is not None:
            for stream in (*route.raw_books, *route.slow_books):
                stream.to_lose += messages

    def _send_book(self, stream: Stream, content: bytes) -> None:
        if stream.to_lose > 0:
            stream.to_lose -= 1
            self.lost_messages += 1
        else:
            stream.send(content)


def _whole_list(rows: list[dict[str, object]]) -> list[bytes]:
    return [orjson.dumps(rows)]


def _last_row(rows: list[dict[str, object]]) -> list[bytes]:
    return [orjson.dumps(rows[-1])]


def matches_kind(channel: Channel, kind: str, currency: str) -> bool:
    """Whether a {kind}.{currency} channel covers an instrument."""
    return channel.kind in ("any", kind) and channel.currency in ("any", currency)
