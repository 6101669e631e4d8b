"""One venue connection over picows: connect, reassemble, hand over whole text frames, reconnect
with jitter.

The session reports only two things, frames and up/down; what they mean is the protocol's affair.
Writes are synchronous:
after `write` returns the bytes are in the kernel or counted by `unsent_bytes`, which is what lets
the gate promise that
nothing waits in a buffer behind a kill.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from mm_daemon.domain.frames import Conn

FRAME_BYTES_MAX = 64 << 20
"""get_instruments of every currency is the largest reply; anything beyond this is not the venue
speaking."""
CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
WRITE_BUFFER_ABORT_BYTES = 1 << 20


@dataclass(frozen=True)
class Backoff:
    """Full-jitter reconnect delays: first try at once, then up to base * 2^n, capped."""

    base_s: float = 0.25
    cap_s: float = 30.0
    healthy_after_s: float = 60.0

    def delay_s(self, failures: int, jitter: float) -> float:
        """`jitter` in [0, 1); `failures` since the last healthy stretch."""
        if failures == 0:
            return 0.0
        return jitter * min(self.cap_s, self.base_s * 2.0 ** min(failures, 20))


class WsWire:
    """The gate's view of an open socket."""

    def __init__(self, transport: WSTransport) -> None:
        self._transport = transport

    def write(self, payload: bytes) -> None:
        self._transport.send(WSMsgType.TEXT, payload)

    def unsent_bytes(self) -> int:
        return int(self._transport.underlying_transport.get_write_buffer_size())


class _Listener(WSListener):
    """Joins fragments and answers pings; runs inside the loop's read callback."""

    def __init__(self, session: WsSession) -> None:
        self._session = session
        self._fragments: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY or kind is WSMsgType.CONTINUATION:
            if frame.fin and not self._fragments:
                self._session.deliver(frame.get_payload_as_bytes())
                return
            self._fragments.append(frame.get_payload_as_bytes())
            if sum(map(len, self._fragments)) > FRAME_BYTES_MAX:
                transport.disconnect()
            elif frame.fin:
                whole = b"".join(self._fragments)
                self._fragments.clear()
                self._session.deliver(whole)
        elif kind is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


class WsSession:
    """Keeps one connection open until cancelled."""

    def __init__(
        self,
        conn: Conn,
        url: str,
        *,
        on_frame: Callable[[Conn, bytes], None],
        on_change: Callable[[Conn, WsWire | None, str], None],
        jitter: random.Random,
        backoff: Backoff | None = None,
    ) -> None:
        self.conn = conn
        self._url = url
        self._on_frame = on_frame
        self._on_change = on_change
        self._jitter = jitter
        self._backoff = backoff or Backoff()
        self._transport: WSTransport | None = None
        self._hurry = asyncio.Event()
        self._reason = ""

    def deliver(self, payload: bytes) -> None:
        self._on_frame(self.conn, payload)

    def disconnect(self, reason: str) -> None:
        """Drops the connection now; the run loop opens it again."""
        self._reason = reason
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def hurry(self) -> None:
        """The venue answers another session: a wait for the next try ends now."""
        self._hurry.set()

    async def run(self) -> None:
        """Connects, waits for the end, backs off, for ever. Leaves only by cancellation."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            self._hurry.clear()
            delay_s = self._backoff.delay_s(failures, self._jitter.random())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay_s)
            try:
                transport, _ = await asyncio.wait_for(self._connect(), CONNECT_TIMEOUT_S)
            except (OSError, TimeoutError, picows.WSError) as error:
                failures += 1
                self._on_change(self.conn, None, f"{self._url}: {error!r}")
                continue
            opened_s = loop.time()
            self._transport = transport
            self._reason = "the venue closed the connection"
            self._on_change(self.conn, WsWire(transport), "connected")
            try:
                await transport.wait_disconnected()
            finally:
                self._transport = None
                transport.disconnect(graceful=False)
                self._on_change(self.conn, None, self._reason)
            failures = 0 if loop.time() - opened_s > self._backoff.healthy_after_s else failures + 1

    async def _connect(self) -> tuple[WSTransport, WSListener]:
        """Raises OSError too where the connection ends before the handshake is complete, which
        the library takes for a completed one."""
        made = await picows.ws_connect(
            lambda: _Listener(self),
            self._url,
            ssl_context=ssl.create_default_context() if self._url.startswith("wss:") else None,
            disconnect_on_exception=True,
            enable_auto_ping=False,
            enable_auto_pong=True,
            max_frame_size=FRAME_BYTES_MAX,
            logger_name=None,
        )
        if made[0].response is None:
            raise ConnectionResetError("the connection ended before its handshake was complete")
        return made
