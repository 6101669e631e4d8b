"""The simulated venue inside a simulation: sessions, REST and time, without a socket.

It does for the wire venue what the venue's server does on a port: opens and closes sessions,
carries frames, pumps when something falls due. What arrived, and what of it increases risk, is kept
as the venue's own witness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mm_daemon.domain.frames import Conn, FrameKind
from mm_daemon.run.simulation_net import Network, Pipe
from mm_daemon.run.simulation_watch import Watch
from mm_daemon.sim.deribit_wire import HttpAnswer, WireVenue
from mm_daemon.sim.deribit_wire_rpc import WireError, encode_error
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.scheduler import Event, Scheduler

REST_URI: Final = "/api/v2"
US_NS: Final = 1_000


class Refusing(msgspec.Struct):
    """Requests that the venue's front refuses before anybody looks at them."""

    texts: tuple[bytes, ...]
    """A request that contains one of these."""
    code: int
    message: str
    count: int
    """How many are refused."""
    ends_session: bool = False


class _Id(msgspec.Struct):
    id: int | str | None = None


_ids = msgspec.json.Decoder(_Id)


class RiskArrival(msgspec.Struct, frozen=True):
    """One frame that may add risk, as it reached the venue."""

    step: int
    at_ns: int
    payload: bytes


class Socket:
    """One websocket: the daemon's end writes up, the venue's end writes down."""

    def __init__(self, conn: Conn, on_frame: Callable[[bytes], None]) -> None:
        self.conn = conn
        self.on_frame = on_frame
        self.on_closed: Callable[[str], None] = lambda reason: None
        self.session: Session | None = None
        self.up: Pipe
        self.down: Pipe
        self.unsent_bytes = 0
        """What the daemon's transport holds back; planted by tests of backpressure."""


class VenueHost:
    """Serves one wire venue to in-memory sockets."""

    def __init__(
        self,
        scheduler: Scheduler,
        venue: WireVenue,
        network: Network,
        classify: Callable[[bytes], FrameKind],
        watch: Watch,
    ) -> None:
        self.venue = venue
        self.refusing: list[Refusing] = []
        self._watch = watch
        self.arrivals: list[RiskArrival] = []
        self._scheduler = scheduler
        self._network = network
        self._classify = classify
        self._sockets: dict[int, Socket] = {}
        self._rest_waiting: dict[int, Callable[[bytes], None]] = {}
        self._pump_event: Event | None = None
        self._pump()

    @property
    def now_us(self) -> int:
        return self._scheduler.now_ns // US_NS

    def sockets(self) -> list[Socket]:
        """Every open socket as the venue sees it, oldest first."""
        return list(self._sockets.values())

    # -- websocket ------------------------------------------------------------------------------

    def connect(self, socket: Socket, opened: Callable[[bool], None]) -> None:
        """A client asks for a websocket; `opened` learns, a round trip later, whether it got it."""
        socket.up = self._network.pipe("up", lambda payload: self._on_frame(socket, payload))
        socket.down = self._network.pipe("down", socket.on_frame)

        def accept() -> None:
            is_open = not self.venue.faults.in_outage(self.now_us)
            if is_open:
                peer = "10.0.0.1"
                socket.session = self.venue.open_session(peer=peer, now_us=self.now_us)
                self._sockets[socket.session.connection] = socket
            socket.down.end(lambda: opened(is_open))

        socket.up.end(accept)

    def hang_up(self, socket: Socket) -> None:
        """The client's end is closed: the venue learns it behind the bytes already written."""
        socket.up.end(lambda: self._client_gone(socket))

    def sever(self, socket: Socket, *, is_noticed_by_client: bool) -> None:
        """The connection breaks in the middle; each end may learn it at once or by silence."""
        socket.up.cut()
        socket.down.cut()
        if is_noticed_by_client:
            socket.on_closed("connection reset")
            self._client_gone(socket)

    def _on_frame(self, socket: Socket, payload: bytes) -> None:
        session = socket.session
        if session is None or session.connection not in self._sockets:
            return
        if self._classify(payload) is FrameKind.RISK:
            self.arrivals.append(
                RiskArrival(self._scheduler.steps, self._scheduler.now_ns, payload)
            )
        if self.refusing and self._is_refused(socket, payload):
            return
        self.venue.receive(session, payload, self.now_us)
        self._settle()

    def _is_refused(self, socket: Socket, payload: bytes) -> bool:
        """Answers a request by the first refusal that fits."""
        for refusing in self.refusing:
            if refusing.count <= 0 or not any(text in payload for text in refusing.texts):
                continue
            refusing.count -= 1
            error = WireError(refusing.code, refusing.message)
            now_us = self.now_us
            socket.down.send(
                encode_error(_ids.decode(payload).id, error, in_us=now_us, out_us=now_us)
            )
            if refusing.ends_session and socket.session is not None:
                del self._sockets[socket.session.connection]
                self.venue.close_session(socket.session, now_us)
                self._end_down(socket, refusing.message)
                self._settle()
            return True
        return False

    @staticmethod
    def _end_down(socket: Socket, reason: str) -> None:
        socket.down.end(lambda: socket.on_closed(reason))

    def _client_gone(self, socket: Socket) -> None:
        session = socket.session
        if session is not None and self._sockets.pop(session.connection, None) is not None:
            self.venue.close_session(session, self.now_us)
            self._settle()

    def act(self, do: Callable[[int], object]) -> None:
        """Something happens at the venue by itself, at this moment; `do` gets it in us."""
        self.venue.pump(self.now_us)
        do(self.now_us)
        self._settle()

    # -- REST -----------------------------------------------------------------------------------

    def rest(self, body: bytes, token: str | None, answered: Callable[[bytes], None]) -> None:
        """One JSON-RPC POST from outside the trader; `answered` gets the body of the answer."""
        back = self._network.pipe("rest.down", answered)
        ask = self._network.pipe("rest.up", lambda payload: self._serve(payload, token, back))
        ask.send(body)

    def _serve(self, body: bytes, token: str | None, back: Pipe) -> None:
        if self.venue.faults.in_outage(self.now_us):
            back.send(b'{"error":"outage"}')
            return
        answer = self.venue.http(
            http_method="POST",
            uri=REST_URI,
            rpc_method=None,
            query={},
            authorization=f"Bearer {token}" if token is not None else None,
            body=body,
            peer="10.0.0.2",
            now_us=self.now_us,
        )
        if isinstance(answer, HttpAnswer):
            back.send(answer.body)
        else:
            self._rest_waiting[answer.number] = back.send
        self._settle()

    # -- time -----------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_event = None
        self.venue.pump(self.now_us)
        self._settle()

    def _settle(self) -> None:
        """Writes every outbox, ends what asked to be ended, and sets the next pump."""
        for number, answer in self.venue.take_http_answers(self.now_us):
            self._rest_waiting.pop(number)(answer.body)
        closing: list[Socket] = []
        for socket in self._sockets.values():
            session = socket.session
            assert session is not None
            for message in session.take_outbox():
                self._watch.on_venue_message(message)
                socket.down.send(message)
            if session.closing is not None:
                closing.append(socket)
        for socket in closing:
            self._close(socket)
        if closing:
            self._settle()
            return
        self._arm()

    def _close(self, socket: Socket) -> None:
        session = socket.session
        assert session is not None
        assert session.closing is not None
        reason = session.closing.value
        del self._sockets[session.connection]
        self.venue.close_session(session, self.now_us)
        self._end_down(socket, reason)

    def _arm(self) -> None:
        due_ns = (max(self.venue.next_due_us(self.now_us), self.now_us) + 1) * US_NS
        if self._pump_event is not None:
            if self._pump_event.at_ns <= due_ns:
                return
            self._pump_event.cancel()
        self._pump_event = self._scheduler.at(due_ns, self._pump, "venue.pump")
