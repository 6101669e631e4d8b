"""The simulated exchange on a port: Deribit's websocket and REST, a world that moves, a timer.

One event loop carries everything: the wire venue (and the world behind it) is pumped to the wall
clock, then the outboxes are written.  Arriving frames are served as they come, between two pumps,
and their answers are written before the next frame is read.

The server decides nothing about markets or protocol; it owns sockets, the clock and the limits of
the process (connections per address, lifetime of HTTP connections).
"""

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mm_daemon.shell.venue_connection import UNSENT_BYTES_MAX, VenueConnection
from mm_daemon.shell.venue_http import HttpRequest
from mm_daemon.shell.venue_witness import WITNESS_PATH, witness_page
from mm_daemon.sim.deribit_wire import HttpAnswer, WireVenue
from mm_daemon.sim.deribit_wire_session import CloseReason, Session

CONNECTIONS_PER_ADDRESS_MAX: Final = 32
HTTP_LIFE_S: Final = 900.0
PUMP_S_MIN: Final = 0.001
PUMP_S_MAX: Final = 0.010
API_PATH: Final = "/api/v2"
CLOSE_CODES: Final = {
    CloseReason.LOGOUT: 1000,
    CloseReason.TOO_MANY_REQUESTS: 1008,
    CloseReason.HEARTBEAT_LOST: 1001,
    CloseReason.IDLE: 1001,
    CloseReason.TOO_SLOW: 1008,
    CloseReason.OUTAGE: 1012,
    CloseReason.MAINTENANCE: 1012,
}


class VenueStartError(Exception):
    """The port could not be opened; the message is one line for the operator."""


def wall_clock_us() -> int:
    """Microseconds since 1970 by the machine's clock."""
    return time.time_ns() // 1_000


class RisingClock:
    """A clock that never falls: it follows the wall and stands still while the wall steps back."""

    def __init__(self, read_us: Callable[[], int] = wall_clock_us) -> None:
        self._read_us = read_us
        self._last_us = 0

    def now_us(self) -> int:
        """The time, no earlier than any before."""
        self._last_us = max(self._last_us, self._read_us())
        return self._last_us


class VenueServer:
    """Serves one wire venue on one port; embeddable, several may run in a process."""

    def __init__(
        self,
        venue: WireVenue,
        *,
        clock: RisingClock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        connections_per_address_max: int = CONNECTIONS_PER_ADDRESS_MAX,
        unsent_bytes_max: int = UNSENT_BYTES_MAX,
    ) -> None:
        self.venue = venue
        self._clock = clock if clock is not None else RisingClock()
        self._host = host
        self._asked_port = port
        self._connections_max = connections_per_address_max
        self._unsent_bytes_max = unsent_bytes_max
        self._server: asyncio.Server | None = None
        self._pump_timer: asyncio.TimerHandle | None = None
        self._sessions: dict[VenueConnection, Session] = {}
        self._http: dict[VenueConnection, asyncio.TimerHandle] = {}
        self._by_address: Counter[str] = Counter()
        self._admitted: dict[VenueConnection, str] = {}
        self._http_waiting: dict[int, VenueConnection] = {}
        self.failure: asyncio.Future[None] | None = None
        self.pump_lag_us_max = 0

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        assert self._server is not None, "venue server: not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def ws_url(self) -> str:
        """Where websocket clients connect."""
        return f"ws://{self._host}:{self.port}/ws/api/v2"

    @property
    def rest_url(self) -> str:
        """The base of REST calls, without /api/v2."""
        return f"http://{self._host}:{self.port}"

    async def start(self) -> None:
        """Open the port and start the timer."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: VenueConnection(self, unsent_bytes_max=self._unsent_bytes_max),
                self._host,
                self._asked_port,
            )
        except OSError as error:
            where = f"{self._host}:{self._asked_port}"
            if error.errno == errno.EADDRINUSE:
                raise VenueStartError(
                    f"venue: {where} is in use; stop the other process or choose --listen"
                ) from None
            raise VenueStartError(f"venue: cannot listen on {where}: {error.strerror}") from None
        self.failure = loop.create_future()
        self._pump()

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._pump_timer is not None:
            self._pump_timer.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._admitted):
            connection.abort()
        for timer in self._http.values():
            timer.cancel()
        await asyncio.sleep(0)
        if self.failure is not None:
            self.failure.cancel()

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """Hand a failure to whoever serves: loop callbacks would swallow it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the venue is not sound
            if self.failure is not None and not self.failure.done():
                self.failure.set_exception(error)

    # Time

    def _pump(self) -> None:
        """Advance the world and the venue to now, write what follows, sleep until the next due."""
        loop = asyncio.get_running_loop()
        now_us = self._clock.now_us()
        with self._fatal():
            self.venue.pump(now_us)
            self._answer_http(now_us)
            self._flush()
        if self.failure is not None and self.failure.done():
            return
        after_us = self._clock.now_us()
        due_us = self.venue.next_due_us(now_us)
        self.pump_lag_us_max = max(self.pump_lag_us_max, after_us - now_us)
        delay_s = min(max((due_us - after_us) / 1e6, PUMP_S_MIN), PUMP_S_MAX)
        self._pump_timer = loop.call_later(delay_s, self._pump)

    def _flush(self) -> None:
        """Write every outbox; close what asked to be closed; drop readers too far behind."""
        closing: list[tuple[VenueConnection, CloseReason]] = []
        for connection, session in self._sessions.items():
            if session.outbox and not connection.send_messages(session.take_outbox()):
                session.closing = session.closing or CloseReason.TOO_SLOW
            if session.closing is not None:
                closing.append((connection, session.closing))
        for connection, reason in closing:
            session = self._sessions.pop(connection)
            self.venue.close_session(session, self._clock.now_us())
            if reason is CloseReason.TOO_SLOW:
                connection.abort()
            else:
                connection.close_websocket(CLOSE_CODES[reason], reason.value)
        if closing:
            self._flush()

    def _answer_http(self, now_us: int) -> None:
        for number, answer in self.venue.take_http_answers(now_us):
            connection = self._http_waiting.pop(number, None)
            if connection is not None:
                connection.respond(answer.status, answer.body)
                connection.http_answered()

    # What connections report

    def admit(self, connection: VenueConnection) -> str | None:
        """Refuse during an outage and beyond the address's allowance."""
        if self.venue.faults.in_outage(self._clock.now_us()):
            return "outage"
        address = connection.peer_address
        if self._by_address[address] >= self._connections_max:
            return "too_many_connections"
        self._by_address[address] += 1
        self._admitted[connection] = address
        loop = asyncio.get_running_loop()
        self._http[connection] = loop.call_later(HTTP_LIFE_S, connection.end_after_response)
        return None

    def websocket_opened(self, connection: VenueConnection) -> None:
        """The HTTP lifetime no longer applies; a session begins."""
        self._http.pop(connection).cancel()
        self._sessions[connection] = self.venue.open_session(
            peer=connection.peer_address, now_us=self._clock.now_us()
        )

    def websocket_message(self, connection: VenueConnection, message: bytes) -> None:
        """Serve one frame and write whatever it caused, on every connection."""
        session = self._sessions.get(connection)
        if session is None:
            return
        with self._fatal():
            self.venue.receive(session, message, self._clock.now_us())
            self._flush()

    def http_request(self, connection: VenueConnection, request: HttpRequest) -> None:
        """Serve one REST call, or answer plainly what is none."""
        if request.method == "OPTIONS":
            connection.respond(204, b"")
            return
        path = request.path
        if path.startswith(f"{WITNESS_PATH}/") and request.method == "GET":
            status, body = witness_page(
                self.venue, path, request.query(), lag_us_max=self.pump_lag_us_max
            )
            connection.respond(status, body)
            return
        if path != API_PATH and not path.startswith(f"{API_PATH}/"):
            connection.respond(404, b'{"error":"not found; the API is under /api/v2"}')
            return
        if request.method not in ("GET", "HEAD", "POST"):
            connection.respond(405, b'{"error":"use GET or POST"}')
            return
        with self._fatal():
            self._serve_http(connection, request, path)

    def _serve_http(self, connection: VenueConnection, request: HttpRequest, path: str) -> None:
        now_us = self._clock.now_us()
        answer = self.venue.http(
            http_method=request.method,
            uri=request.target,
            rpc_method=path.removeprefix(API_PATH).strip("/") or None,
            query=request.query(),
            authorization=request.headers.get("authorization"),
            body=request.body,
            peer=connection.peer_address,
            now_us=now_us,
        )
        if isinstance(answer, HttpAnswer):
            connection.respond(answer.status, answer.body)
        else:
            self._http_waiting[answer.number] = connection
        self._flush()

    def closed(self, connection: VenueConnection) -> None:
        """A transport is gone: its session ends, and cancel-on-disconnect fires if armed."""
        address = self._admitted.pop(connection, None)
        if address is not None:
            self._by_address[address] -= 1
        timer = self._http.pop(connection, None)
        if timer is not None:
            timer.cancel()
        session = self._sessions.pop(connection, None)
        if session is not None:
            with self._fatal():
                self.venue.close_session(session, self._clock.now_us())
                self._flush()
