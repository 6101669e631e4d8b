"""The simulated venue's protocol machine: frames in, frames out, for every connection at once.

`WireVenue` is what a server holds: it opens and closes sessions, takes their frames and HTTP
requests, and acts on deadlines when pumped.  It owns no socket, reads no clock and starts nothing
by itself; two runs fed the same bytes at the same times answer the same bytes.

Every received order-entry frame is kept with its arrival time: the venue's own witness of what a
client sent and when, for tests that ask what came after a stop was promised.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final

import msgspec

from mm_daemon.sim.deribit_wire_auth import AuthDesk, Grant, unauthorized
from mm_daemon.sim.deribit_wire_control import bind_account
from mm_daemon.sim.deribit_wire_desk import Deferred, Desk, Render
from mm_daemon.sim.deribit_wire_faults import FaultDesk
from mm_daemon.sim.deribit_wire_hub import STEP_US
from mm_daemon.sim.deribit_wire_methods import METHODS, Method
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_pools import AddressPools
from mm_daemon.sim.deribit_wire_rpc import (
    BadFrameError,
    Request,
    RequestId,
    WireError,
    decode_request,
    encode_error,
    encode_result,
)
from mm_daemon.sim.deribit_wire_session import Call, CloseReason, Session
from mm_daemon.sim.deribit_wire_world import ExchangeApi, MovingWorld, StillWorld
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import RequestCompleted
from mm_daemon.sim.exchange_types import Caller

FRAMES_KEPT: Final = 200_000
INTERNAL_ERRORS_KEPT: Final = 1_000
STEPS_BEHIND_MAX: Final = 20
_STATUS_BY_CODE: Final = {13009: 401, 13004: 401, 10028: 429, 13021: 403, -32601: 404}


class InternalError(msgspec.Struct, frozen=True):
    """A fault of the wire itself, met while serving one request."""

    ts_us: int
    method: str
    what: str


class ReceivedFrame(msgspec.Struct, frozen=True):
    """One order-entry request as it arrived; connection 0 is REST."""

    ts_us: int
    connection: int
    account: str
    method: str
    frame: bytes


class HttpAnswer(msgspec.Struct, frozen=True):
    """A finished REST answer."""

    status: int
    body: bytes


class HttpLater(msgspec.Struct, frozen=True):
    """A REST answer that will be among `take_http_answers` under this number."""

    number: int


class _Waiting(msgspec.Struct, frozen=True):
    """Whom a late reply belongs to: a session's request, or an HTTP exchange by number."""

    session: Session | None
    http_number: int
    request_id: RequestId
    in_us: int
    render: Render


class WireVenue:
    """One simulated venue behind any number of connections."""

    def __init__(
        self,
        exchange: ExchangeApi,
        world: MovingWorld | None = None,
        auth: AuthDesk | None = None,
    ) -> None:
        self._world = world if world is not None else StillWorld(exchange)
        self.desk = Desk(exchange, self._world, auth if auth is not None else AuthDesk())
        self.faults = FaultDesk()
        self.received: deque[ReceivedFrame] = deque(maxlen=FRAMES_KEPT)
        self.internal_errors: deque[InternalError] = deque(maxlen=INTERNAL_ERRORS_KEPT)
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._connections = 0
        self._waiting: dict[int, _Waiting] = {}
        self._http_numbers = 0
        self._http_answers: list[tuple[int, int, HttpAnswer]] = []
        self._pools = AddressPools()
        self._next_step_us = 0

    # Sessions

    def open_session(self, *, peer: str, now_us: int) -> Session:
        """A websocket is open: nameless until it authenticates."""
        self._connections += 1
        session = Session(connection=self._connections, peer=peer, now_us=now_us)
        self._sessions[session.connection] = session
        return session

    def close_session(self, session: Session, now_us: int) -> None:
        """The connection is gone: subscriptions end and cancel-on-disconnect fires if armed."""
        if self._sessions.pop(session.connection, None) is None:
            return
        self._world.advance(now_us)
        self.desk.subscriptions.unsubscribe_all(session, private=True)
        self.desk.auth.connection_closed(session.connection)
        for ticket in [t for t, held in self._waiting.items() if held.session is session]:
            del self._waiting[ticket]
        if session.caller is not None:
            # The venue's own outage is no client's disconnect: resting orders survive it.
            is_ours = session.closing in (CloseReason.OUTAGE, CloseReason.MAINTENANCE)
            self.desk.exchange.disconnect(session.caller, is_ours, now_us)
            session.caller = None
        self._settle(now_us)

    def sessions(self) -> list[Session]:
        """Every open session, oldest first."""
        return list(self._sessions.values())

    # Frames

    def receive(self, session: Session, raw: bytes, now_us: int) -> None:
        """One frame came; whatever it leads to waits in the outboxes."""
        session.last_active_us = now_us
        if session.closing is not None:
            return
        try:
            request = decode_request(raw)
        except BadFrameError as bad:
            session.reply(
                encode_error(bad.request_id, bad, in_us=now_us, out_us=now_us), due_us=None
            )
            return
        self._log(request, raw, session, session.grant, now_us)
        try:
            result = self._serve(request, session, None, now_us)
        except (WireError, VenueError) as refusal:
            self._settle(now_us)
            error = _as_wire_error(refusal)
            payload = encode_error(request.request_id, error, in_us=now_us, out_us=now_us)
            session.reply(payload, due_us=self._due_us(request, now_us))
            if error.code == int(Code.TOO_MANY_REQUESTS):
                session.closing = session.closing or CloseReason.TOO_MANY_REQUESTS
            return
        if isinstance(result, Deferred):
            self._waiting[result.ticket] = _Waiting(
                session=session,
                http_number=0,
                request_id=request.request_id,
                in_us=now_us,
                render=result.render,
            )
            self._settle(now_us)
            return
        self._settle(now_us)
        payload = encode_result(request.request_id, result, in_us=now_us, out_us=now_us)
        session.reply(payload, due_us=self._due_us(request, now_us))

    def _due_us(self, request: Request, now_us: int) -> int | None:
        method = METHODS.get(request.method)
        if method is None or not method.is_order_entry:
            return None
        delay_us = self.faults.ack_delay_us(now_us)
        return now_us + delay_us if delay_us else None

    def _log(
        self,
        request: Request,
        raw: bytes,
        session: Session | None,
        grant: Grant | None,
        now_us: int,
    ) -> None:
        method = METHODS.get(request.method)
        if method is None or not method.is_order_entry:
            return
        self.received.append(
            ReceivedFrame(
                ts_us=now_us,
                connection=session.connection if session is not None else 0,
                account=grant.account if grant is not None else "",
                method=request.method,
                frame=raw,
            )
        )

    def _serve(
        self, request: Request, session: Session | None, http_grant: Grant | None, now_us: int
    ) -> object:
        """Check the right to call, take the credits, call."""
        self._world.advance(now_us)
        method = METHODS.get(request.method)
        if method is None:
            raise WireError(-32601, "Method not found")
        params = Params(request)
        grant = self._grant(params, session, http_grant, now_us)
        caller: Caller | None = None
        if grant is not None:
            caller = Caller(account=grant.account, connection=0)
            if session is not None:
                caller = bind_account(self.desk, session, grant.account, now_us)
        if request.method.startswith("private/"):
            if grant is None:
                raise unauthorized("not authenticated")
            if method.area and not grant.allows(method.area, method.level):
                needed = f"{method.area}:{method.level}"
                raise WireError(13021, "forbidden", {"reason": f"scope {needed} needed"})
        self._charge(method, caller, session, now_us)
        call = Call(params=params, now_us=now_us, session=session, grant=grant, caller=caller)
        try:
            return method.handler(self.desk, call)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
            # One client's odd request must not end everybody's venue; a broken invariant of the
            # exchange (an assertion) must, and is not caught.
            self.internal_errors.append(
                InternalError(ts_us=now_us, method=request.method, what=repr(fault))
            )
            raise WireError(11094, "internal_server_error") from fault

    def _grant(
        self, params: Params, session: Session | None, http_grant: Grant | None, now_us: int
    ) -> Grant | None:
        """The identity of a request: its own token, else its connection's, else none."""
        token = params.text_or("access_token")
        connection = session.connection if session is not None else None
        if token is not None:
            grant = self.desk.auth.by_token(token, now_us=now_us, connection=connection)
            if session is not None and grant.session_name is not None:
                session.grant = grant
            return grant
        if session is None:
            return http_grant
        if session.grant is not None and session.grant.expires_us <= now_us:
            session.grant = None
        return session.grant

    def _charge(
        self, method: Method, caller: Caller | None, session: Session | None, now_us: int
    ) -> None:
        if method.pool is None:
            return
        if caller is not None:
            self.desk.exchange.charge(caller, method.pool, now_us)
        elif session is not None:
            self._pools.charge(session.peer, method.pool, now_us)

    # HTTP

    def http(
        self,
        *,
        http_method: str,
        uri: str,
        rpc_method: str | None,
        query: Mapping[str, object],
        authorization: str | None,
        body: bytes,
        peer: str,
        now_us: int,
    ) -> HttpAnswer | HttpLater:
        """One REST call: GET with a method in the path, or POST of a JSON-RPC object.

        A POST to a method's own path may carry the parameters alone.
        """
        try:
            request = _http_request(http_method, rpc_method, query, body)
            grant = None
            if authorization is not None:
                grant = self.desk.auth.http_grant(
                    authorization,
                    http_method=http_method,
                    uri=uri,
                    body=body.decode("utf-8", "replace"),
                    now_us=now_us,
                )
            self._log(request, body or uri.encode(), None, grant, now_us)
            if grant is None and not Params(request).has("access_token"):
                method = METHODS.get(request.method)
                if method is not None and method.pool is not None:
                    self._pools.charge(peer, method.pool, now_us)
            result = self._serve(request, None, grant, now_us)
        except (WireError, VenueError) as refusal:
            self._settle(now_us)
            error = _as_wire_error(refusal)
            request_id = refusal.request_id if isinstance(refusal, BadFrameError) else None
            return HttpAnswer(
                status=_STATUS_BY_CODE.get(error.code, 400),
                body=encode_error(request_id, error, in_us=now_us, out_us=now_us),
            )
        if isinstance(result, Deferred):
            self._http_numbers += 1
            self._waiting[result.ticket] = _Waiting(
                session=None,
                http_number=self._http_numbers,
                request_id=request.request_id,
                in_us=now_us,
                render=result.render,
            )
            later = HttpLater(number=self._http_numbers)
            self._settle(now_us)
            return later
        self._settle(now_us)
        answer = HttpAnswer(
            status=200,
            body=encode_result(request.request_id, result, in_us=now_us, out_us=now_us),
        )
        due_us = self._due_us(request, now_us)
        if due_us is None:
            return answer
        self._http_numbers += 1
        self._http_answers.append((due_us, self._http_numbers, answer))
        return HttpLater(number=self._http_numbers)

    def take_http_answers(self, now_us: int) -> list[tuple[int, HttpAnswer]]:
        """REST answers that were promised and are now due, by number."""
        due = [(number, answer) for at_us, number, answer in self._http_answers if at_us <= now_us]
        self._http_answers = [held for held in self._http_answers if held[0] > now_us]
        return due

    # Time

    def pump(self, now_us: int) -> None:
        """Do everything that fell due: exchange, beats, heartbeats, delayed replies."""
        self._world.advance(now_us)
        self._settle(now_us)
        if now_us - self._next_step_us > STEPS_BEHIND_MAX * STEP_US:
            self._next_step_us = now_us
        while self._next_step_us <= now_us:
            self.desk.step(now_us)
            self._next_step_us += STEP_US
        for session in self._sessions.values():
            session.pump(now_us)
        for fault in self._world.drain_faults():
            self.faults.add(fault)
        if self.desk.exchange.platform_status()[0]:
            self._end_all(CloseReason.MAINTENANCE)
        for gap in self.faults.take_gaps(now_us):
            self.desk.market_hub.lose_book_messages(gap.instrument, gap.messages)
        if self.faults.in_outage(now_us):
            self._end_all(CloseReason.OUTAGE)

    def _end_all(self, reason: CloseReason) -> None:
        for session in self._sessions.values():
            session.closing = session.closing or reason

    def next_due_us(self, now_us: int) -> int:
        """When to pump again at the latest."""
        return min(max(self._world.next_event_us(), now_us), self._next_step_us)

    def _settle(self, now_us: int) -> None:
        """Publish what happened, answer what completed, end what was terminated."""
        desk = self.desk
        desk.publish()
        completed, desk.completed = desk.completed, []
        for event in completed:
            self._complete(event, now_us)
        terminated, desk.terminated = desk.terminated, []
        for ended in terminated:
            session = self._sessions.get(ended.connection)
            if session is not None:
                session.closing = session.closing or CloseReason.TOO_MANY_REQUESTS

    def _complete(self, event: RequestCompleted, now_us: int) -> None:
        waiting = self._waiting.pop(event.ticket, None)
        if waiting is None:
            return
        if event.error is not None:
            error = _as_wire_error(event.error)
            payload = encode_error(waiting.request_id, error, in_us=waiting.in_us, out_us=now_us)
            status = _STATUS_BY_CODE.get(error.code, 400)
        else:
            assert event.reply is not None
            payload = encode_result(
                waiting.request_id,
                waiting.render(event.reply),
                in_us=waiting.in_us,
                out_us=now_us,
            )
            status = 200
        delay_us = self.faults.ack_delay_us(now_us)
        if waiting.session is not None:
            waiting.session.reply(payload, due_us=now_us + delay_us if delay_us else None)
        else:
            answer = HttpAnswer(status=status, body=payload)
            self._http_answers.append((now_us + delay_us, waiting.http_number, answer))


def _as_wire_error(refusal: WireError | VenueError) -> WireError:
    if isinstance(refusal, WireError):
        return refusal
    return WireError(int(refusal.code), refusal.message, refusal.data)


def _http_request(
    http_method: str, rpc_method: str | None, query: Mapping[str, object], body: bytes
) -> Request:
    if http_method in ("GET", "HEAD"):
        if rpc_method is None:
            raise WireError(-32601, "Method not found")
        return Request(request_id=None, method=rpc_method, params=dict(query), from_query=True)
    if not body and rpc_method is not None:
        return Request(request_id=None, method=rpc_method, params=dict(query), from_query=True)
    return decode_request(body, default_method=rpc_method)
