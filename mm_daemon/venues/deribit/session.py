"""One connection's requests: wire ids, what is pending, what answers whom, and since when.

Ids are integers that rise over the whole run, so a reply can never be taken for another's. A reply
routes by id to what was asked, in any order; one that comes after its time-out is still told apart
from one that answers nothing.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from mm_daemon.domain.events import SessionPhase
from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.units import Ns
from mm_daemon.venues.deribit.methods import request

LATE_MAX = 512
"""Timed-out requests remembered, so that a late reply is still evidence."""

NO_DEADLINE = Ns(0)
"""`valid_until` of SAFE frames, which never expire."""

KILL_ID_BASE = 1 << 44
"""Wire ids from here on belong to emergency frames, which are built outside the session's count."""


class Ask(Enum):
    """What a request wanted; decides how its reply is read."""

    AUTH = "auth"
    REFRESH = "refresh"
    HEARTBEAT = "heartbeat"
    TEST = "test"
    STATUS = "status"
    INSTRUMENTS = "instruments"
    ARM_COD = "arm_cod"
    READ_COD = "read_cod"
    SELF_TRADING = "self_trading"
    SET_MMP = "set_mmp"
    READ_MMP = "read_mmp"
    MMP_STATUS = "mmp_status"
    START_ACCOUNTS = "start_accounts"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    MASS_QUOTE = "mass_quote"
    PLACE = "place"
    AMEND = "amend"
    CANCEL = "cancel"
    CANCEL_LABEL = "cancel_label"
    CANCEL_WIDE = "cancel_wide"
    OPEN_ORDERS = "open_orders"
    ORDER = "order"
    ORDER_LABEL = "order_label"
    TRADES = "trades"
    POSITIONS = "positions"
    ACCOUNTS = "accounts"
    DELIVERY = "delivery"
    RESET_MMP = "reset_mmp"


class Pending(msgspec.Struct):
    """One request without its reply. `context` is what the reader of the reply needs to know."""

    ask: Ask
    request_id: int
    sent_ns: Ns
    deadline_ns: Ns
    context: object = None


class Session:
    """The request side of one connection, and its phase."""

    def __init__(self, conn: Conn, outbox: list[OutFrame], timeout_ns: Ns) -> None:
        self.conn = conn
        self.phase = SessionPhase.DOWN
        self.scope = ""
        """As granted by the last auth."""
        self.liveness_ns: int | None = None
        """When to look next whether frames still come; None before heartbeats run."""
        self.refresh_ns: int | None = None
        self.pending: dict[int, Pending] = {}
        self._late: dict[int, Pending] = {}
        self._next_id = 1
        self._outbox = outbox
        self._timeout_ns = timeout_ns

    @property
    def is_open(self) -> bool:
        return self.phase is not SessionPhase.DOWN

    @property
    def is_authenticated(self) -> bool:
        return self.phase in (SessionPhase.AUTHENTICATED, SessionPhase.READY)

    @property
    def is_ready(self) -> bool:
        return self.phase is SessionPhase.READY

    def open(self) -> None:
        """The socket is up; nothing is known of the other side yet."""
        self.phase = SessionPhase.CONNECTED

    def close(self) -> list[Pending]:
        """The socket is gone; returns the requests whose outcome is now unknown, oldest first."""
        orphans = list(self.pending.values())
        self.pending.clear()
        self._late.clear()
        self.phase = SessionPhase.DOWN
        self.scope = ""
        self.liveness_ns = None
        self.refresh_ns = None
        return orphans

    def next_id(self) -> int:
        """The wire id that the next post will get."""
        return self._next_id

    def ask(
        self,
        ask: Ask,
        method: str,
        params: dict[str, object],
        now_ns: Ns,
        *,
        request_id: int = 0,
        context: object = None,
    ) -> None:
        """Sends a SAFE request and remembers what its reply will be."""
        payload = request(self._next_id, method, params)
        self.post(ask, payload, now_ns, request_id=request_id, context=context)

    def post(
        self,
        ask: Ask,
        payload: bytes,
        now_ns: Ns,
        *,
        request_id: int = 0,
        context: object = None,
        kind: FrameKind = FrameKind.SAFE,
        needs: int = 0,
        generation: int = 0,
        valid_until_ns: Ns = NO_DEADLINE,
        scope: int = -1,
    ) -> None:
        """Sends bytes already encoded under `next_id()`."""
        self.pending[self._next_id] = Pending(
            ask, request_id, now_ns, Ns(now_ns + self._timeout_ns), context
        )
        self._next_id += 1
        self._outbox.append(
            OutFrame(
                conn=self.conn,
                kind=kind,
                payload=payload,
                request_id=request_id,
                needs=needs,
                generation=generation,
                valid_until_ns=valid_until_ns,
                scope=scope,
            )
        )

    def answer(self, wire_id: object) -> tuple[Pending | None, bool]:
        """What a reply answers, and whether it had already timed out. None: nothing we know of."""
        if not isinstance(wire_id, int):
            return None, False
        pending = self.pending.pop(wire_id, None)
        if pending is not None:
            return pending, False
        return self._late.pop(wire_id, None), True

    def was_asked(self, wire_id: object) -> bool:
        """Whether this id was ever given out: a second reply to it is a harmless duplicate."""
        return isinstance(wire_id, int) and 0 < wire_id < self._next_id

    def expired(self, now_ns: Ns) -> list[Pending]:
        """Requests whose time is up, oldest first; remembered for a late reply."""
        late = []
        for wire_id, pending in self.pending.items():
            if pending.deadline_ns > now_ns:
                break  # one time-out for all, so the table is in order of deadlines
            late.append(wire_id)
        found = []
        for wire_id in late:
            pending = self.pending.pop(wire_id)
            self._late[wire_id] = pending
            found.append(pending)
        while len(self._late) > LATE_MAX:
            del self._late[next(iter(self._late))]
        return found

    def next_deadline_ns(self) -> int | None:
        """The earliest of reply, liveness and refresh."""
        deadlines = [self.liveness_ns, self.refresh_ns]
        for pending in self.pending.values():
            deadlines.append(pending.deadline_ns)
            break
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        return (
            self.phase.value,
            self.scope,
            self.liveness_ns,
            self.refresh_ns,
            self._next_id,
            [_summary(wire_id, pending) for wire_id, pending in self.pending.items()],
            [_summary(wire_id, pending) for wire_id, pending in self._late.items()],
        )


def _summary(wire_id: int, pending: Pending) -> tuple[object, ...]:
    return (wire_id, pending.ask.value, pending.request_id, pending.sent_ns)
