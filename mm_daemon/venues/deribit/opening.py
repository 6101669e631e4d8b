"""From an answered dialogue to a ready session: catalogue, subscriptions, and what must be granted.

MARKET reads the catalogue and subscribes all of it. TRADE waits for the catalogue, because without
it no order could be named, and is ready only with every private channel. KILL needs neither.
"""

from __future__ import annotations

from mm_daemon.domain.events import Event, SessionChanged, SessionPhase
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.units import Ns
from mm_daemon.venues.deribit.market import MarketFeed
from mm_daemon.venues.deribit.private_feed import PrivateFeed
from mm_daemon.venues.deribit.routes import REASON_CHARS_MAX
from mm_daemon.venues.deribit.session import Session
from mm_daemon.venues.deribit.startup import Startup


class Opening:
    """Which connections are on their way to ready, and how far."""

    def __init__(
        self,
        sessions: list[Session],
        startups: list[Startup],
        market: MarketFeed,
        private: PrivateFeed,
    ) -> None:
        self._sessions = sessions
        self._startups = startups
        self._market = market
        self._private = private
        self._is_subscribing = [False for _ in Conn]

    def forget(self, conn: Conn) -> None:
        """The connection is gone or new."""
        self._is_subscribing[conn] = False

    def settle(self, now_ns: Ns) -> list[Event]:
        """Moves each opening connection on as far as it can go, and sends what paces allow."""
        self._open_market()
        if self._is_opening(Conn.TRADE) and self._market.has_catalogue:
            self._private.begin()
            self._is_subscribing[Conn.TRADE] = True
        self._market.pump(now_ns)
        if self._sessions[Conn.TRADE].is_authenticated:
            self._private.subscriptions.pump(now_ns)
        return self._ready_events(now_ns)

    def not_ready(self, session: Session, reason: str, now_ns: Ns) -> list[Event]:
        """Something is not as it must be: said, and asked again later."""
        self._startups[session.conn].fail(now_ns)
        return [SessionChanged(int(session.conn), session.phase, reason)]

    def _open_market(self) -> None:
        if not self._is_opening(Conn.MARKET):
            return
        market = self._market
        if market.is_current:
            market.begin()
            self._is_subscribing[Conn.MARKET] = True
        elif not market.is_reading:
            market.read_catalogue(0)

    def _is_opening(self, conn: Conn) -> bool:
        return (
            self._sessions[conn].phase is SessionPhase.AUTHENTICATED
            and self._startups[conn].is_over
            and self._startups[conn].retry_ns is None
            and not self._is_subscribing[conn]
        )

    def _ready_events(self, now_ns: Ns) -> list[Event]:
        events: list[Event] = []
        if self._is_subscribing[Conn.MARKET] and self._market.subscriptions.is_idle:
            events += self._ready(Conn.MARKET)
        if self._is_subscribing[Conn.TRADE] and self._private.subscriptions.is_idle:
            missing = self._private.missing
            if missing:
                self.forget(Conn.TRADE)
                reason = f"private channels not granted: {', '.join(missing)}"[:REASON_CHARS_MAX]
                events += self.not_ready(self._sessions[Conn.TRADE], reason, now_ns)
            else:
                events.append(self._startups[Conn.TRADE].confirmed())
                events += self._ready(Conn.TRADE)
        if self._is_opening(Conn.KILL):
            events += self._ready(Conn.KILL)
        return events

    def _ready(self, conn: Conn) -> list[Event]:
        session = self._sessions[conn]
        session.phase = SessionPhase.READY
        self.forget(conn)
        self._startups[conn].succeed()
        return [SessionChanged(int(conn), session.phase, "")]

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        return (self._is_subscribing, self._private.missing)
