"""Deribit's protocol object: three connections, frames in, events and frames out.

MARKET carries public data, TRADE orders and private data, KILL nothing but cancels and questions.
This module routes: each frame to the channel or the request it belongs to, each intent to its
connection. Books, orders and positions are the decision's; sockets, clock and secrets the shell's.
"""

from __future__ import annotations

import hashlib
from typing import cast

import msgspec

from mm_daemon.domain.events import (
    BookChanged,
    Event,
    FrameRefused,
    QueryFailed,
    SessionChanged,
    SessionPhase,
)
from mm_daemon.domain.frames import Conn, OutFrame
from mm_daemon.domain.intents import Intent
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from mm_daemon.venues.deribit.account import Account
from mm_daemon.venues.deribit.emergency import emergency_frames
from mm_daemon.venues.deribit.errors import (
    INVALID_PARAMS,
    LOCAL_DISCONNECT,
    LOCAL_TIMEOUT,
    TOO_MANY_REQUESTS,
)
from mm_daemon.venues.deribit.market import CatalogueRead, MarketFeed
from mm_daemon.venues.deribit.messages import (
    DECODE_ERRORS,
    Envelope,
    ErrorBody,
    decode_book,
    decode_channel,
    decode_envelope,
    decode_heartbeat,
)
from mm_daemon.venues.deribit.opening import Opening
from mm_daemon.venues.deribit.outcomes import READS, Outcomes
from mm_daemon.venues.deribit.private_feed import PrivateFeed
from mm_daemon.venues.deribit.requests import Requests
from mm_daemon.venues.deribit.routes import REASON_CHARS_MAX, Route
from mm_daemon.venues.deribit.session import KILL_ID_BASE, Ask, Pending, Session
from mm_daemon.venues.deribit.settings import DeribitSettings, check
from mm_daemon.venues.deribit.startup import Startup
from mm_daemon.venues.deribit.subscriptions import Batch, Subscriptions
from mm_daemon.venues.deribit.venue_clock import VenueClock
from mm_daemon.venues.pacing import Pacer

_HEAD = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_HEAD_BYTES = len(_HEAD)
_LETTER_B = ord("b")
_NS_PER_US = 1_000

PROBE_NS = 2 * NS_PER_S
"""A session that was silent for this long is asked whether it is there; where nothing comes within
the time-out of a request it is given up. The venue's own heartbeat, 10 s at best, tells a half-open
connection too late: its feed is quoted on for as long."""
SUBSCRIBE_INTERVAL_NS = NS_PER_S // 3
SUBSCRIBE_BURST = 9
"""A little under the venue's 3.3 calls a second and burst of 10, which 10028 would enforce."""

_SUBSCRIBE_FAULTS = (11052, INVALID_PARAMS)
"""Refusals of a subscription that one bad name may have caused; anything else is the session's."""

_INTENT_ASKS = (
    Ask.MASS_QUOTE,
    Ask.PLACE,
    Ask.AMEND,
    Ask.CANCEL,
    Ask.CANCEL_LABEL,
    Ask.CANCEL_WIDE,
    Ask.RESET_MMP,
    *READS,
)
_DOWN = SessionPhase.DOWN


class DeribitProtocol:
    """The pure half of all sessions with one Deribit account."""

    def __init__(self, settings: DeribitSettings) -> None:
        check(settings)
        self._settings = settings
        self._outbox: list[OutFrame] = []
        self._deferred: list[Event] = []
        self._disconnects: list[Conn] = []
        self.clock = VenueClock()
        self._rx_ns = [0 for _ in Conn]
        """When the last frame came, by connection."""
        self._book_rx_ns = 0
        """The same for linked book changes, which take a path of their own."""
        self._sessions = [Session(conn, self._outbox, settings.request_timeout_ns) for conn in Conn]
        market, trade = self._sessions[Conn.MARKET], self._sessions[Conn.TRADE]
        self._pacer = Pacer(interval_ns=SUBSCRIBE_INTERVAL_NS, burst=SUBSCRIBE_BURST)
        self._market = MarketFeed(settings, market, self._pacer, self.clock)
        self._linked_books = self._market.linked_books
        self.catalogue = self._market.catalogue
        names = tuple(one.name for one in settings.underlyings)
        self._account = Account(self._market.catalogue, names)
        self._private = PrivateFeed(settings, trade, self._pacer, self._account, self.clock)
        self._market.routes.update(self._private.routes)
        self._routes: dict[bytes, Route] = self._market.routes
        self._startups = [
            Startup(session, settings, self.clock, self._market.catalogue)
            for session in self._sessions
        ]
        self._opening = Opening(self._sessions, self._startups, self._market, self._private)
        self._outcomes = Outcomes(self._account)
        self._requests = Requests(
            settings, self._sessions, self._market, self.clock, self._deferred
        )
        self._deadline_ns: int | None = None
        self._is_stale = False

    # What the node calls

    def on_connection(self, conn: Conn, is_up: bool, now_ns: Ns) -> list[Event]:
        """The shell opened or lost a socket; losing one that was given up already is no news."""
        self._is_stale = True
        session = self._sessions[conn]
        events: list[Event] = []
        if session.is_open:
            events += self._down(conn, "connection lost")
        if is_up:
            session.open()
            self._rx_ns[conn] = now_ns
            events.append(SessionChanged(int(conn), SessionPhase.CONNECTED, ""))
            self._startups[conn].begin(now_ns)
        return self._with_deferred(events)

    def on_frame(self, conn: Conn, payload: bytes, now_ns: Ns) -> list[Event]:
        """One whole, redacted text frame. Never raises for what the venue said."""
        # Nine frames of ten are a linked change of one book: the shortest path, one decode.
        try:
            params = decode_book(payload).params if payload[_HEAD_BYTES] == _LETTER_B else None
        except (*DECODE_ERRORS, IndexError):
            params = None  # told below, by whatever the frame is
        if params is not None:
            book = self._linked_books.get(params.channel)
            body = params.data
            if (
                book is not None
                and body.prev_change_id == book.change_id
                and body.type != "snapshot"
            ):
                self._book_rx_ns = now_ns
                book.change_id = change_id = body.change_id
                return [
                    BookChanged(
                        book.instrument_id,
                        False,
                        body.bids,  # type: ignore[arg-type] # narrower action
                        body.asks,  # type: ignore[arg-type]
                        change_id,
                        body.timestamp * NS_PER_MS,
                    )
                ]
        session = self._sessions[conn]
        if session.phase is _DOWN:
            return []  # given up; the shell has not closed it yet
        self._rx_ns[conn] = now_ns
        if payload.startswith(_HEAD):
            route = self._routes.get(payload[_HEAD_BYTES : payload.find(b'"', _HEAD_BYTES)])
            if route is not None:
                return route.feed(payload, now_ns)
        return self._on_other(session, payload, now_ns)

    def on_timer(self, now_ns: Ns) -> list[Event]:
        """Heartbeats, refreshes, request time-outs, retries and resync pacing."""
        self._is_stale = True
        events: list[Event] = []
        for session in self._sessions:
            if session.is_open:
                events += self._session_timer(session, now_ns)
        events += self._market.on_timer(now_ns)
        events += self._opening.settle(now_ns)
        return self._with_deferred(events)

    def next_deadline_ns(self) -> Ns | None:
        """When `on_timer` has something to do; cheap while nothing changed."""
        if self._is_stale or self._market.has_changed:
            self._is_stale = self._market.has_changed = False
            self._deadline_ns = self._find_deadline()
        return None if self._deadline_ns is None else Ns(self._deadline_ns)

    def send(self, intent: Intent, now_ns: Ns, generation: int) -> None:
        """Encodes one intent. A request that no connection can carry ends at the next input."""
        self._is_stale = True
        self._requests.send(intent, now_ns, generation)

    def take_frames(self) -> list[OutFrame]:
        """Frames to write, in order; they are forgotten here."""
        frames = self._outbox[:]
        self._outbox.clear()
        return frames

    def take_disconnects(self) -> list[Conn]:
        """Connections that were given up and must be closed and opened again."""
        conns = self._disconnects
        self._disconnects = []
        return conns

    def kill_frames(self, now_ns: Ns, generation: int) -> list[OutFrame]:
        """The whole emergency set, on the kill session if it is up, else on the trading session.

        Changes nothing here, so it may be called outside a decision. Empty: no session can cancel.
        """
        for conn in (Conn.KILL, Conn.TRADE):
            if self._sessions[conn].is_authenticated:
                return emergency_frames(conn, self._settings, now_ns, generation)
        return []

    def digest(self) -> bytes:
        """16 bytes over all state, equal for equal histories."""
        state = (
            self._market.state(),
            self._private.subscriptions.state(),
            [session.state() for session in self._sessions],
            [startup.state() for startup in self._startups],
            self.clock.state(),
            self._pacer.state(),
            self._opening.state(),
            self._rx_ns,
            self._book_rx_ns,
            [frame.payload for frame in self._outbox],
            len(self._deferred),
            [int(conn) for conn in self._disconnects],
        )
        return hashlib.blake2b(msgspec.msgpack.encode(state), digest_size=16).digest()

    # Frames that are not of a known channel in the usual shape

    def _on_other(self, session: Session, payload: bytes, now_ns: Ns) -> list[Event]:
        try:
            envelope = decode_envelope(payload)
            if envelope.method == "subscription":
                return self._on_unusual(
                    session, decode_channel(envelope.params).channel, payload, now_ns
                )
            is_test = (
                envelope.method == "heartbeat"
                and decode_heartbeat(envelope.params).type == "test_request"
            )
        except DECODE_ERRORS as error:
            return [FrameRefused(int(session.conn), f"unreadable: {error}"[:REASON_CHARS_MAX])]
        self._is_stale = True
        if is_test:
            session.ask(Ask.TEST, "public/test", {}, now_ns)
            return []
        if envelope.method:
            if envelope.method == "heartbeat":
                return []
            reason = f"unknown method {envelope.method[:40]!r}"
            return [FrameRefused(int(session.conn), reason)]
        events = self._on_reply(session, envelope, now_ns)
        events += self._opening.settle(now_ns)
        return self._with_deferred(events)

    def _on_unusual(
        self, session: Session, channel: str, payload: bytes, now_ns: Ns
    ) -> list[Event]:
        """A notification with its fields in another order, or its channel in another case."""
        for name in (channel, channel.lower()):
            route = self._routes.get(name.encode())
            if route is not None:
                return route.feed(payload, now_ns)
        return [FrameRefused(int(session.conn), f"unknown channel {channel[:80]!r}")]

    # Replies

    def _on_reply(self, session: Session, envelope: Envelope, now_ns: Ns) -> list[Event]:
        pending, is_late = session.answer(envelope.id)
        conn = session.conn
        if pending is None:
            return self._on_stray(session, envelope)
        self.clock.observe(
            sent_ns=pending.sent_ns,
            received_ns=now_ns,
            us_in=envelope.us_in,
            us_out=envelope.us_out,
        )
        if is_late and pending.ask not in _INTENT_ASKS:
            return []
        error = envelope.error
        if error is not None and error.code == TOO_MANY_REQUESTS:
            events = self._failed(session, pending, error, envelope, now_ns)
            return events + self._drop(conn, "10028 too_many_requests: the venue ends the session")
        if pending.ask in _INTENT_ASKS:
            if is_late and pending.ask in READS:
                return []  # its failure was told; what it says is old
            ts_venue_ns = Ns(envelope.us_out * _NS_PER_US)
            if error is not None:
                return self._outcomes.error(pending, error, ts_venue_ns)
            return self._outcomes.result(pending, envelope.result, ts_venue_ns, conn)
        if error is not None:
            return self._failed(session, pending, error, envelope, now_ns)
        try:
            return self._answered(session, pending, envelope.result, now_ns)
        except DECODE_ERRORS as fault:
            reason = f"reply to {pending.ask.value}: {fault}"[:REASON_CHARS_MAX]
            refused: list[Event] = [FrameRefused(int(conn), reason)]
            return refused + self._drop(conn, reason)

    def _on_stray(self, session: Session, envelope: Envelope) -> list[Event]:
        """A second reply is harmless; a reply to nothing is not understood. Of the emergency set
        only refusals are told: what it achieved is proved by reading open orders.
        """
        error = envelope.error
        if isinstance(envelope.id, int) and envelope.id >= KILL_ID_BASE:
            if error is None:
                return []
            reason = f"emergency cancel refused: {error.code} {error.message[:80]}"
            return [FrameRefused(int(session.conn), reason)]
        if session.was_asked(envelope.id):
            return []
        what = f"error {error.code} {error.message[:80]!r}" if error else "reply"
        return [FrameRefused(int(session.conn), f"{what} to id {envelope.id!r}, never asked")]

    def _answered(
        self, session: Session, pending: Pending, raw: msgspec.Raw, now_ns: Ns
    ) -> list[Event]:
        conn, startup = session.conn, self._startups[session.conn]
        match pending.ask:
            case Ask.TEST:
                return []
            case Ask.AUTH | Ask.REFRESH:
                return self._authenticated(session, pending, raw, now_ns)
            case Ask.INSTRUMENTS:
                reading = cast(CatalogueRead, pending.context)
                return self._market.on_instruments(reading, raw, now_ns)
            case Ask.SUBSCRIBE:
                return self._subscribed(conn, cast(Batch, pending.context), raw, now_ns)
            case Ask.UNSUBSCRIBE:
                self._subscriptions(conn).on_unsubscribed(cast(Batch, pending.context))
                return []
            case _:
                reason, events = startup.check(pending, raw, now_ns)
                if reason is not None:
                    return [*events, *self._opening.not_ready(session, reason, now_ns)]
                if pending.ask is Ask.HEARTBEAT:
                    session.liveness_ns = now_ns + PROBE_NS
                startup.answered(pending, now_ns)
                return events

    def _authenticated(
        self, session: Session, pending: Pending, raw: msgspec.Raw, now_ns: Ns
    ) -> list[Event]:
        startup = self._startups[session.conn]
        reason = startup.check_auth(raw, now_ns)
        if reason is not None:
            if session.is_authenticated:
                return self._drop(session.conn, reason)
            return self._opening.not_ready(session, reason, now_ns)
        events: list[Event] = []
        if not session.is_authenticated:
            session.phase = SessionPhase.AUTHENTICATED
            events.append(SessionChanged(int(session.conn), session.phase, ""))
        startup.answered(pending, now_ns)
        return events

    def _subscribed(self, conn: Conn, batch: Batch, raw: msgspec.Raw, now_ns: Ns) -> list[Event]:
        granted = msgspec.json.decode(raw, type=list[str])
        here, missing = self._subscriptions(conn).on_subscribed(batch, granted)
        return self._granted(conn, here, missing, now_ns)

    def _granted(self, conn: Conn, here: list[str], missing: list[str], now_ns: Ns) -> list[Event]:
        if conn is Conn.MARKET:
            return self._market.on_subscribed(here, missing, now_ns)
        self._private.missing += missing
        return []

    def _subscriptions(self, conn: Conn) -> Subscriptions:
        return self._market.subscriptions if conn is Conn.MARKET else self._private.subscriptions

    def _failed(
        self,
        session: Session,
        pending: Pending,
        error: ErrorBody,
        envelope: Envelope,
        now_ns: Ns,
    ) -> list[Event]:
        """A refusal of one of the session's own requests, or of an intent before the end."""
        ask, conn = pending.ask, session.conn
        if ask in _INTENT_ASKS:
            return self._outcomes.error(pending, error, Ns(envelope.us_out * _NS_PER_US))
        reason = f"{ask.value} refused: {error.code} {error.message}"[:REASON_CHARS_MAX]
        match ask:
            case Ask.TEST:
                return []  # the answer itself was the point
            case Ask.REFRESH:
                self._startups[conn].authenticate(now_ns)
                return []
            case Ask.SUBSCRIBE if error.code in _SUBSCRIBE_FAULTS:
                batch = cast(Batch, pending.context)
                missing = self._subscriptions(conn).on_subscribe_refused(batch)
                return self._granted(conn, [], missing, now_ns)
            case Ask.INSTRUMENTS if session.is_ready:
                reading = cast(CatalogueRead, pending.context)
                ids = self._market.fail_catalogue(reading, now_ns)
                return [QueryFailed(rid, error.code, reason) for rid in ids if rid]
            case Ask.SUBSCRIBE | Ask.UNSUBSCRIBE | Ask.INSTRUMENTS:
                return self._drop(conn, reason)
            case Ask.AUTH if session.is_authenticated:
                return self._drop(conn, reason)
            case _:
                return self._opening.not_ready(session, reason, now_ns)

    # Time, and ends

    def _session_timer(self, session: Session, now_ns: Ns) -> list[Event]:
        conn, startup = session.conn, self._startups[session.conn]
        events: list[Event] = []
        silent = None
        for pending in session.expired(now_ns):
            if pending.ask in _INTENT_ASKS:
                error = ErrorBody(LOCAL_TIMEOUT, "no reply in time")
                events += self._outcomes.error(pending, error, Ns(0))
            elif pending.ask is not Ask.TEST or self._heard_ns(conn) <= pending.sent_ns:
                silent = f"no reply to {pending.ask.value} in time"
        if session.liveness_ns is not None and session.liveness_ns <= now_ns:
            session.liveness_ns = self._heard_ns(conn) + PROBE_NS
            if session.liveness_ns <= now_ns:
                session.liveness_ns = now_ns + PROBE_NS
                session.ask(Ask.TEST, "public/test", {}, now_ns)
        if silent is not None:
            return events + self._drop(conn, silent)
        if session.refresh_ns is not None and session.refresh_ns <= now_ns:
            session.refresh_ns = None
            startup.refresh(now_ns)
        if startup.retry_ns is not None and startup.retry_ns <= now_ns:
            startup.retry(now_ns)
        return events

    def _heard_ns(self, conn: Conn) -> int:
        """When the newest frame of a connection came."""
        if conn is Conn.MARKET:
            return max(self._rx_ns[conn], self._book_rx_ns)
        return self._rx_ns[conn]

    def _drop(self, conn: Conn, reason: str) -> list[Event]:
        """Gives a connection up; the shell closes it and opens another."""
        self._disconnects.append(conn)
        return self._down(conn, reason)

    def _down(self, conn: Conn, reason: str) -> list[Event]:
        self._is_stale = True
        self._opening.forget(conn)
        self._startups[conn].stop()
        orphans = self._sessions[conn].close()
        events: list[Event] = [SessionChanged(int(conn), SessionPhase.DOWN, reason)]
        if conn is Conn.MARKET:
            events += self._market.disconnect(reason, LOCAL_DISCONNECT)
        elif conn is Conn.TRADE:
            self._private.subscriptions.clear()
        error = ErrorBody(LOCAL_DISCONNECT, reason)
        for pending in orphans:
            if pending.ask in _INTENT_ASKS:
                events += self._outcomes.error(pending, error, Ns(0))
        return events

    def _with_deferred(self, events: list[Event]) -> list[Event]:
        if self._deferred:
            events = [*self._deferred, *events]
            self._deferred.clear()
        return events

    def _find_deadline(self) -> int | None:
        if self._deferred:
            return 0
        deadlines = [self._market.next_deadline_ns()]
        if self._sessions[Conn.TRADE].is_authenticated:
            deadlines.append(self._private.subscriptions.next_deadline_ns())
        deadlines += [session.next_deadline_ns() for session in self._sessions]
        deadlines += [startup.retry_ns for startup in self._startups]
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None
