"""The state of one websocket connection on the simulated venue, and of one call made over it.

A session is a record the venue's parts write to: messages leave by `outbox`, in order; the
shell drains it.  Everything about its life that depends on time (heartbeats, idleness, delayed
acknowledgements) is a deadline here and is acted on by the venue's pump.

It owns no socket and reads no clock.
"""

from collections import deque
from enum import Enum
from typing import Final

import msgspec

from mm_daemon.sim.deribit_wire_auth import Grant
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import heartbeat
from mm_daemon.sim.exchange_types import Caller

IDLE_US: Final = 600_000_000
"""Deribit closes a websocket after ten minutes without traffic, and cancel-on-disconnect fires.

Traffic either way counts: a client that only listens to a living stream is not idle, and one that
has stopped reading is found by what piles up unsent.
"""


class CloseReason(Enum):
    """Why the venue ends a session; the value is the text of the close frame."""

    LOGOUT = "logout"
    TOO_MANY_REQUESTS = "too_many_requests"
    HEARTBEAT_LOST = "heartbeat_lost"
    IDLE = "idle"
    TOO_SLOW = "connection_too_slow"
    OUTAGE = "outage"
    MAINTENANCE = "system_maintenance"


class Delayed(msgspec.Struct, frozen=True):
    """A reply that waits, by the scenario's will, until its time."""

    due_us: int
    payload: bytes


class Session:
    """One websocket connection, from handshake to close."""

    def __init__(self, *, connection: int, peer: str, now_us: int) -> None:
        assert connection > 0, f"session: connection number {connection}, expected > 0"
        self.connection = connection
        self.peer = peer
        self.grant: Grant | None = None
        self.caller: Caller | None = None
        self.outbox: list[bytes] = []
        self.after_reply: list[bytes] = []
        self.streams: dict[tuple[str | None, str], None] = {}
        self.closing: CloseReason | None = None
        self.client_name = ""
        self.last_active_us = now_us
        self.delayed: deque[Delayed] = deque()
        self._heartbeat_us = 0
        self._next_heartbeat_us = 0
        self._test_unanswered = False
        self._has_spoken = False

    def take_outbox(self) -> list[bytes]:
        """Everything to send, oldest first; the caller owns it now."""
        messages, self.outbox = self.outbox, []
        self._has_spoken = self._has_spoken or bool(messages)
        return messages

    def set_heartbeat(self, interval_us: int, now_us: int) -> None:
        """Start (or with 0 stop) the venue's heartbeats."""
        self._heartbeat_us = interval_us
        self._next_heartbeat_us = now_us + interval_us
        self._test_unanswered = False

    def test_received(self) -> None:
        """The client answered: its connection is alive in both directions."""
        self._test_unanswered = False

    def pump(self, now_us: int) -> None:
        """Act on every deadline of this session that has passed."""
        while self.delayed and self.delayed[0].due_us <= now_us:
            self.outbox.append(self.delayed.popleft().payload)
        if self._has_spoken:
            self._has_spoken = False
            self.last_active_us = now_us
        if now_us - self.last_active_us >= IDLE_US:
            self.closing = self.closing or CloseReason.IDLE
        if not self._heartbeat_us or now_us < self._next_heartbeat_us:
            return
        if self._test_unanswered:
            self.closing = self.closing or CloseReason.HEARTBEAT_LOST
            return
        self.outbox.append(heartbeat("heartbeat"))
        self.outbox.append(heartbeat("test_request"))
        self._test_unanswered = True
        self._next_heartbeat_us = now_us + self._heartbeat_us

    def reply(self, payload: bytes, *, due_us: int | None) -> None:
        """Send a reply, with what a subscription shows first right behind it.

        A reply never overtakes an earlier delayed one of the same connection.
        """
        behind, self.after_reply = self.after_reply, []
        if due_us is None and not self.delayed:
            self.outbox.append(payload)
            self.outbox.extend(behind)
            return
        due_us = due_us or 0
        if self.delayed:
            due_us = max(due_us, self.delayed[-1].due_us)
        for message in (payload, *behind):
            self.delayed.append(Delayed(due_us=due_us, payload=message))


class Call(msgspec.Struct, frozen=True):
    """One request on its way through a method: who asks, over what, with which parameters."""

    params: Params
    now_us: int
    session: Session | None
    grant: Grant | None
    caller: Caller | None
