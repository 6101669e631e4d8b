"""One TCP connection of the simulated venue: HTTP until it asks to become a websocket.

The front reads the request head; a websocket upgrade is handed, bytes and all, to the
`websockets` library's sans-I/O server, so that the venue's websocket is a second implementation
beside the client's; anything else is answered as REST.  Both then run on this one transport.

It moves bytes and keeps the connection's own limits (slow reader, lifetime of an HTTP
connection).  What the bytes mean is decided by the wire venue it is given.
"""

import asyncio
import contextlib
import logging
from typing import Final, Protocol, cast

from websockets.exceptions import ConnectionClosed, InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as UpgradeRequest
from websockets.protocol import State
from websockets.server import ServerProtocol

from mm_daemon.shell.venue_http import HttpReader, HttpRefusalError, HttpRequest, render_response

WS_PATHS: Final = ("/ws/api/v2", "/ws/api/v2/")
MESSAGE_BYTES_MAX: Final = 1_048_576
UNSENT_BYTES_MAX: Final = 16 * 1_048_576
"""A reader this far behind is dropped, as Deribit drops it (connection_too_slow)."""

_LOG = logging.getLogger("websockets.server")


class Owner(Protocol):
    """What a connection needs from its server."""

    def admit(self, connection: "VenueConnection") -> str | None:
        """None, or why the connection is refused (too many, outage)."""

    def websocket_opened(self, connection: "VenueConnection") -> None:
        """The handshake is done: a session begins."""

    def websocket_message(self, connection: "VenueConnection", message: bytes) -> None:
        """One whole text or binary message came."""

    def http_request(self, connection: "VenueConnection", request: HttpRequest) -> None:
        """One whole REST request came; its answer goes to `connection.respond`, in order."""

    def closed(self, connection: "VenueConnection") -> None:
        """The transport is gone."""


class VenueConnection(asyncio.Protocol):
    """One accepted connection; becomes a websocket or stays HTTP."""

    def __init__(self, owner: Owner, *, unsent_bytes_max: int = UNSENT_BYTES_MAX) -> None:
        self._owner = owner
        self._unsent_bytes_max = unsent_bytes_max
        self._transport: asyncio.Transport | None = None
        self._reader = HttpReader()
        self._websocket: ServerProtocol | None = None
        self._fragments: list[bytes] = []
        self._opened = False
        self._pending_http: HttpRequest | None = None
        self._last_response = False
        self._peer_text = "?"

    @property
    def peer_address(self) -> str:
        """The client's address without its port."""
        return self._peer_text

    @property
    def is_websocket(self) -> bool:
        """Whether the websocket handshake has been completed."""
        return self._opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted: ask the owner, refuse in HTTP if it says so."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        peer = transport.get_extra_info("peername")
        self._peer_text = str(peer[0]) if isinstance(peer, tuple) and peer else "local"
        refusal = self._owner.admit(self)
        if refusal is not None:
            status = 429 if refusal == "too_many_connections" else 503
            body = b'{"error":"' + refusal.encode() + b'"}'
            self._transport.write(render_response(status, body, keep_alive=False))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone, however it went."""
        if self._websocket is not None:
            with contextlib.suppress(ConnectionClosed, InvalidState):
                self._websocket.receive_eof()
        self._transport = None
        self._owner.closed(self)

    def eof_received(self) -> bool:
        """The client sent its last byte; the transport closes itself."""
        return False

    def data_received(self, data: bytes) -> None:
        """Bytes came; a connection already closing reads no more."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._websocket is not None:
            self._feed_websocket(data)
            return
        self._reader.feed(data)
        try:
            if self._reader.wants_websocket():
                self._become_websocket()
            else:
                self._serve_http()
        except HttpRefusalError as refusal:
            body = b'{"error":"' + refusal.why.replace('"', "'").encode() + b'"}'
            self._transport.write(render_response(refusal.status, body, keep_alive=False))
            self._transport.close()

    # HTTP

    def _serve_http(self) -> None:
        """Serve requests one after another: the next waits for the answer of the one before."""
        while self._pending_http is None and self._transport is not None:
            request = self._reader.next_request()
            if request is None:
                if self._reader.continue_due():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._pending_http = request
            self._owner.http_request(self, request)

    def respond(self, status: int, body: bytes) -> None:
        """Answer the request at hand, at once or later."""
        request = self._pending_http
        assert request is not None, "respond: no request is waiting on this connection"
        self._pending_http = None
        if self._transport is None or self._transport.is_closing():
            return
        keep_alive = request.keep_alive and not self._last_response
        self._transport.write(
            render_response(status, body, keep_alive=keep_alive, head_only=request.method == "HEAD")
        )
        if not keep_alive:
            self._transport.close()

    def http_answered(self) -> None:
        """A late answer went out: serve what was pipelined behind it."""
        try:
            self._serve_http()
        except HttpRefusalError:
            self.abort()

    def end_after_response(self) -> None:
        """Its lifetime is over: close now when idle, else after the answer."""
        self._last_response = True
        if self._pending_http is None and self._transport is not None:
            self._transport.close()

    # Websocket

    def _become_websocket(self) -> None:
        # No compression is offered: Deribit's frames are small and two cores carry everything.
        self._websocket = ServerProtocol(max_size=MESSAGE_BYTES_MAX, logger=_LOG)
        self._feed_websocket(self._reader.unread())

    def _feed_websocket(self, data: bytes) -> None:
        websocket = self._websocket
        assert websocket is not None
        websocket.receive_data(data)
        for event in websocket.events_received():
            if isinstance(event, UpgradeRequest):
                self._shake_hands(websocket, event)
            elif isinstance(event, Frame):
                self._take_frame(event)
        self._flush_protocol()

    def _shake_hands(self, websocket: ServerProtocol, request: UpgradeRequest) -> None:
        if request.path.partition("?")[0] not in WS_PATHS:
            websocket.send_response(
                websocket.reject(404, f"no websocket at {request.path}; use {WS_PATHS[0]}\n")
            )
            return
        websocket.send_response(websocket.accept(request))
        if websocket.state is State.OPEN:
            self._flush_protocol()
            self._opened = True
            self._owner.websocket_opened(self)

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.fin and not self._fragments:
                self._owner.websocket_message(self, bytes(frame.data))
                return
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                message = b"".join(self._fragments)
                self._fragments.clear()
                self._owner.websocket_message(self, message)

    def _flush_protocol(self) -> None:
        if self._websocket is None or self._transport is None:
            return
        for chunk in self._websocket.data_to_send():
            if chunk:
                self._transport.write(chunk)
            else:
                self._transport.close()

    def send_messages(self, messages: list[bytes]) -> bool:
        """Write text messages in one transport call; False when the reader is too slow.

        The frames of a server without extensions depend on nothing but the payload, so they are
        rendered by the library's `Frame` and bypass the per-connection queue of its protocol.
        """
        websocket, transport = self._websocket, self._transport
        if websocket is None or transport is None or transport.is_closing():
            return True
        if websocket.state is not State.OPEN:
            return True
        if transport.get_write_buffer_size() > self._unsent_bytes_max:
            return False
        self._flush_protocol()
        transport.write(b"".join([framed(message) for message in messages]))
        return True

    def close_websocket(self, code: int, reason: str) -> None:
        """Send a close frame and let the transport go once it is written."""
        websocket, transport = self._websocket, self._transport
        if websocket is None or transport is None:
            return
        if websocket.state is State.OPEN:
            websocket.send_close(code, reason)
        self._flush_protocol()
        transport.close()

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes and all."""
        if self._transport is not None:
            self._transport.abort()


def framed(message: bytes) -> bytes:
    """The bytes of one unmasked text frame."""
    return Frame(Opcode.TEXT, message).serialize(mask=False)
