"""What a venue's protocol is to the node: bytes in, events and bytes out. No socket, no clock, no
secret.

One protocol object serves all connections to one venue. It keeps what the language needs (request
ids, session phases,
book chains, heartbeats), never what the decision needs (books, orders, positions).
"""

from __future__ import annotations

from typing import Protocol

from mm_daemon.domain.events import Event
from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.intents import Intent
from mm_daemon.domain.units import Ns


class VenueProtocol(Protocol):
    """The pure half of a venue session.

    Every method that may want to send appends to an internal list, drained by `take_frames`, so
    that the caller decides
    when bytes leave. Times are the daemon's clock; the protocol converts to venue time by the
    offset it measures.
    """

    def on_connection(self, conn: Conn, is_up: bool, now_ns: Ns) -> list[Event]:
        """The shell opened or lost a socket. Losing one makes its books lost and its requests'
        outcomes unknown."""
        ...

    def on_frame(self, conn: Conn, payload: bytes, now_ns: Ns) -> list[Event]:
        """One whole, redacted text frame. Never raises for what the venue said: `FrameRefused`
        instead."""
        ...

    def on_timer(self, now_ns: Ns) -> list[Event]:
        """Heartbeats, refreshes, request time-outs (their outcome is unknown), resync pacing."""
        ...

    def next_deadline_ns(self) -> Ns | None: ...

    def send(self, intent: Intent, now_ns: Ns, generation: int) -> None:
        """Encodes one intent. Raises `LocalProtocolError` for what the venue's language cannot
        say."""
        ...

    def take_frames(self) -> list[OutFrame]: ...

    def take_disconnects(self) -> list[Conn]:
        """Connections found dead (silent, refused, half-open) since the last call."""
        ...

    def digest(self) -> bytes:
        """16 bytes over all state, equal for equal histories."""
        ...


class FrameClassifier(Protocol):
    """The protocol's own method table: the kind of act that encoded bytes are, recomputed at the
    gate."""

    def __call__(self, payload: bytes) -> FrameKind: ...
