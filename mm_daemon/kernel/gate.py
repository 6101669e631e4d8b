"""The one place from which bytes reach a trading session: check and write in one synchronous
function.

Between the last look at the latch and the write there is no await, no callback and no allocation
worth the name, so a kill
cannot fall between them. A frame that increases risk needs the journal, the latch at the
generation it was decided under,
the permission it names, a permit, a future `valid_until` and an empty transport; a reducing frame
needs latch and
generation; a safe frame (cancel, query, auth) needs an open socket and nothing else, not even a
working journal.

The kind a frame claims is never trusted: the protocol's own method table classifies the bytes
again, and the stricter of
the two counts. This module never decides what to send and never retries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.permission import HEDGE, OPEN_SCOPES, QUOTE, REDUCE, scope_permission
from mm_daemon.domain.units import Ns
from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    LATCH,
    PERMIT_DEADLINE_MONO_NS,
    SCOPED_MASKS,
    Page,
    latch_generation,
    latch_permission,
)
from mm_daemon.kernel.clock import Clock

_ANY_PERMISSION = QUOTE | HEDGE | REDUCE

PLACEHOLDER = b'"{'
"""Opens a string that stands for a secret, filled at the last moment; nothing else starts so."""


class Wire(Protocol):
    """An open websocket that writes synchronously."""

    def write(self, payload: bytes) -> None: ...

    def unsent_bytes(self) -> int:
        """Bytes accepted by the transport that the kernel has not taken yet."""
        ...


class Gate:
    """Checks and writes frames. One per trader."""

    def __init__(
        self,
        *,
        page: Page,
        clock: Clock,
        classify: Callable[[bytes], FrameKind],
        fill: Callable[[Conn, bytes], bytes],
        wires: Mapping[Conn, Wire],
    ) -> None:
        self._words = page.words
        self._clock = clock
        self._classify = classify
        self._fill = fill
        self._wires = wires
        self.journal_is_sound = True
        self.sent_by_kind = [0, 0, 0]
        self.withheld = 0
        self.late_sends = 0
        """Written although a later latch generation had been published as seen: must stay 0. Judged
        at the write by itself, so that a fault in the checks above it shows."""
        self.last_risk_mono_ns = 0

    def observe(self) -> int:
        """Reads the latch word and publishes that its generation was seen. Returns the word."""
        word = self._words[LATCH]
        self._words[GENERATION_SEEN] = latch_generation(word)
        return word

    def send(self, frame: OutFrame, now_ns: Ns) -> str | None:
        """Writes the frame, or returns why nothing of it left."""
        refusal = self._refusal(frame, now_ns)
        if refusal is not None:
            self.withheld += 1
            return refusal
        payload = frame.payload
        if PLACEHOLDER in payload:
            payload = self._fill(frame.conn, payload)
        self._wires[frame.conn].write(payload)
        self.sent_by_kind[frame.kind] += 1
        if frame.kind is not FrameKind.SAFE:
            self.late_sends += frame.generation != self._words[GENERATION_SEEN]
            self.last_risk_mono_ns = self._clock.mono_ns()
        return None

    def _refusal(self, frame: OutFrame, now_ns: Ns) -> str | None:
        wire = self._wires.get(frame.conn)
        if wire is None:
            return "not connected"
        kind, claimed = self._classify(frame.payload), frame.kind
        if claimed is not kind:
            kind = min(kind, claimed)
        if kind is FrameKind.SAFE:
            return None
        word = self.observe()
        if frame.conn is not Conn.TRADE:
            return "only the trading session carries risk"
        needs = frame.needs
        if not needs & _ANY_PERMISSION:
            return "frame names no permission"
        if needs & ~latch_permission(word):
            return "latched"
        # After the latch word: who has seen a generation sees the scopes it narrowed.
        scoped = self._words[SCOPED_MASKS]
        if scoped != OPEN_SCOPES and needs & ~scope_permission(scoped, frame.scope):
            return "latched in its scope"
        if frame.generation != latch_generation(word):
            return "decided under another latch generation"
        if now_ns >= frame.valid_until_ns:
            return "expired before sending"
        if kind is FrameKind.REDUCE:
            return None
        if not self.journal_is_sound:
            return "no sound journal"
        if self._clock.mono_ns() >= self._words[PERMIT_DEADLINE_MONO_NS]:
            return "no permit"
        if wire.unsent_bytes():
            return "transport still holds unsent bytes"
        return None
