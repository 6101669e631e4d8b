"""`Node.step`: the only way in and out of the decision.

The node joins a venue protocol (bytes to events, intents to bytes) and the engine (events to
intents). Both are made by the
factories it is given when the first input, `Start`, arrives, so a replay needs the tape alone.
Nothing here knows the time,
a socket or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol

from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.events import Event
from mm_daemon.domain.inputs import (
    ConnectionChanged,
    Flush,
    FrameIn,
    Input,
    LatchChanged,
    Start,
    TimerFired,
)
from mm_daemon.domain.intents import Intent
from mm_daemon.domain.outputs import Disconnect, Output
from mm_daemon.domain.standing import Standing
from mm_daemon.domain.units import Ns
from mm_daemon.venues.protocol import VenueProtocol


class Engine(Protocol):
    """The decision behind the node; see `core.engine`."""

    def on_events(self, events: Sequence[Event], now_ns: Ns) -> None: ...

    def on_input(self, event: Input, now_ns: Ns) -> None:
        """Answers, commands, latch, permit, health: everything that is not a frame."""
        ...

    def decide(self, now_ns: Ns) -> None: ...

    def on_timer(self, now_ns: Ns) -> None: ...

    def next_deadline_ns(self) -> Ns | None: ...

    def take_outputs(self) -> list[Output]: ...

    def take_intents(self) -> list[Intent]: ...

    def view(self, name: str, now_ns: Ns) -> bytes: ...

    def metrics(self) -> Sequence[float]: ...

    def standing(self) -> Standing: ...

    def digest(self) -> bytes: ...


class Node:
    """One trader's mind. Same inputs, same outputs and same digest, byte for byte."""

    def __init__(
        self,
        make_protocol: Callable[[Start], VenueProtocol],
        make_engine: Callable[[Start], Engine],
    ) -> None:
        self._make_protocol = make_protocol
        self._make_engine = make_engine
        self._protocol: VenueProtocol | None = None
        self._engine: Engine | None = None
        self._generation = 0
        self._last_ns = 0

    @property
    def protocol(self) -> VenueProtocol:
        if self._protocol is None:
            raise InvariantError("the first input of a session must be Start")
        return self._protocol

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise InvariantError("the first input of a session must be Start")
        return self._engine

    def step(self, ts_ns: Ns, event: Input) -> list[Output]:
        """Takes one input at `ts_ns` (strictly rising) and returns what is to be done, in order."""
        assert ts_ns > self._last_ns, (ts_ns, self._last_ns)
        self._last_ns = ts_ns
        kind = type(event)
        if kind is FrameIn:
            assert isinstance(event, FrameIn)
            events = self.protocol.on_frame(event.conn, event.payload, ts_ns)
            if events:
                self.engine.on_events(events, ts_ns)
        elif kind is Flush:
            self.engine.decide(ts_ns)
        elif kind is TimerFired:
            self.engine.on_events(self.protocol.on_timer(ts_ns), ts_ns)
            self.engine.on_timer(ts_ns)
        elif isinstance(event, ConnectionChanged):
            events = self.protocol.on_connection(event.conn, event.is_up, ts_ns)
            self.engine.on_events(events, ts_ns)
        elif isinstance(event, Start):
            self._start(event)
            self.engine.on_input(event, ts_ns)
        else:
            if isinstance(event, LatchChanged):
                self._generation = event.generation
            self.engine.on_input(event, ts_ns)
        return self._collect(ts_ns)

    def next_deadline_ns(self) -> Ns | None:
        """When the next TimerFired is wanted."""
        if self._engine is None:
            return None
        deadlines = [self.engine.next_deadline_ns(), self.protocol.next_deadline_ns()]
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    def view(self, name: str) -> bytes:
        """A picture for people, as of the last step. Changes nothing."""
        return self.engine.view(name, Ns(self._last_ns))

    def metrics(self) -> Sequence[float]:
        """Values of `domain.metrics.node_families`, in order; nothing before the first input."""
        return self._engine.metrics() if self._engine is not None else ()

    def standing(self) -> Standing:
        """What the guard and the operator may know, as of the last step."""
        return self.engine.standing()

    def digest(self) -> bytes:
        """16 bytes over all state."""
        hasher = blake2b(digest_size=16)
        hasher.update(self._last_ns.to_bytes(8, "little"))
        hasher.update(self._generation.to_bytes(8, "little"))
        hasher.update(self.protocol.digest())
        hasher.update(self.engine.digest())
        return hasher.digest()

    def _start(self, event: Start) -> None:
        if self._engine is not None:
            raise InvariantError("Start arrived twice in one session")
        self._generation = event.latch_generation
        self._protocol = self._make_protocol(event)
        self._engine = self._make_engine(event)

    def _collect(self, ts_ns: Ns) -> list[Output]:
        protocol = self.protocol
        outputs = self.engine.take_outputs()
        for intent in self.engine.take_intents():
            protocol.send(intent, ts_ns, self._generation)
        outputs += protocol.take_frames()
        for conn in protocol.take_disconnects():
            outputs.append(Disconnect(conn=conn, reason="the session is silent"))
        return outputs
