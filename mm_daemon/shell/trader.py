"""The trader process: one loop, one pump, the venue's sockets, and nothing slow.

Frames become inputs in the read callback; one flush per loop turn decides over all of them. A 2 ms
poll looks at the latch
and the permit, so that a sleeping trader sees a kill at once even when its wake-up datagram is
lost. Whatever breaks inside
a step ends the process here: latch, cancel over the warm session, exit.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.inputs import (
    ConnectionChanged,
    Drain,
    Flush,
    FrameIn,
    HealthSample,
    InferenceAnswer,
    Input,
    LatchChanged,
    PermitChanged,
    Start,
    TimerFired,
)
from mm_daemon.domain.outputs import (
    AskFactors,
    AskFit,
    AskInference,
    Disconnect,
    Drained,
    LatchWanted,
    Log,
)
from mm_daemon.domain.permission import (
    CONTROL_PREFIX,
    CRASH,
    PERMISSION_NONE,
    SWEEP,
    Clearer,
    Mask,
)
from mm_daemon.domain.standing import Standing
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import (
    JOURNAL_SYNC_MONO_NS,
    LATCH,
    PERMIT_DEADLINE_MONO_NS,
    PROGRESS_LOOP,
    PROGRESS_MARKET_DATA,
    RECONCILED_INCARNATION,
    SCOPED_MASKS,
    SWEPT_GENERATION,
    TRADER_PID,
    Page,
    TraderState,
    latch_generation,
    latch_permission,
    latch_tasks,
)
from mm_daemon.ipc.wake import drain, open_wake_socket
from mm_daemon.kernel.clock import StampedClock
from mm_daemon.kernel.gate import Gate
from mm_daemon.kernel.pump import JOURNAL_DEAD_LAG_NS, Journal, Pump
from mm_daemon.kernel.pump import Node as KernelNode
from mm_daemon.shell.compute_pool import ComputeLink
from mm_daemon.shell.measures import Measures
from mm_daemon.shell.ops_link import OpsLink
from mm_daemon.shell.ws_session import WsSession, WsWire

POLL_S = 0.002
HEALTH_S = 0.25
PUBLISH_S = 0.1
METRICS_S = 0.5
"""Gauges of a thousand options take the better part of a millisecond; a scrape comes each few
seconds."""
GC_IDLE_S = 5.0
GC_THRESHOLDS = (200_000, 50, 1_000)
EXIT_CRASHED = 70


class TraderNode(KernelNode, Protocol):
    """What the trader needs of the node beyond stepping it."""

    def view(self, name: str) -> bytes: ...

    def metrics(self) -> Sequence[float]: ...

    def standing(self) -> Standing: ...


class VenueLanguage(Protocol):
    """The impure edge of a protocol: secrets in and out, and the kind of a frame."""

    def classify(self, payload: bytes) -> FrameKind: ...

    def redact(self, payload: bytes) -> tuple[bytes, dict[str, str]]:
        """The frame without secrets, and the secrets by name for the vault."""
        ...

    def fill(self, payload: bytes, secret: str, vault: dict[str, str]) -> bytes: ...

    def emergency_frames(self, conn: Conn, now_ns: Ns) -> list[OutFrame]:
        """Wide cancels that need no decision state."""
        ...


class Inference(Protocol):
    def run(self, ask: AskInference) -> InferenceAnswer: ...


class TraderPlaces(msgspec.Struct, frozen=True):
    """Where the trader finds its surroundings."""

    session: Path
    compute_socket: Path
    trader_socket: Path
    wake_socket: Path
    ws_url: str


class Trader:
    """Hands of one pump. Construct inside the running loop, then `await run()`."""

    def __init__(
        self,
        *,
        places: TraderPlaces,
        start: Start,
        node: TraderNode,
        language: VenueLanguage,
        secret: str,
        clock: StampedClock,
        page: Page,
        latch: LatchStore,
        tape: Journal,
        ledger: Journal,
        inference: Inference | None,
        incarnation: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._places = places
        self._start = start
        self._node = node
        self._language = language
        self._clock = clock
        self._page = page
        self._latch = latch
        self._inference = inference
        self._incarnation = incarnation
        self._vaults: dict[Conn, dict[str, str]] = {conn: {} for conn in Conn}
        self._wires: dict[Conn, WsWire] = {}
        self._gate = Gate(
            page=page,
            clock=clock,
            classify=language.classify,
            fill=lambda conn, payload: language.fill(payload, secret, self._vaults[conn]),
            wires=self._wires,
        )
        self._pump = Pump(
            node=node,
            clock=clock,
            tape=tape,
            ledger=ledger,
            gate=self._gate,
            page=page,
            hands=self,
        )
        self._sessions = {
            conn: WsSession(
                conn,
                places.ws_url,
                on_frame=self._on_frame,
                on_change=self._on_connection,
                jitter=random.Random(start.seed * 31 + conn),
            )
            for conn in Conn
        }
        self._compute = ComputeLink(places.compute_socket, self._pump.feed)
        self._ops = OpsLink(
            places.trader_socket,
            view=node.view,
            feed=self.feed,
            drain=self.begin_drain,
            look_again=self._forget_latch,
        )
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="latch")
        self._measures = Measures(page)
        self._is_draining = False
        self._flush_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._latch_words = (-1, -1)
        self._permit_mono_ns = -1
        self._health_due_s = 0.0
        self._poll_due_s = 0.0
        self._frames = 0
        self._drained: asyncio.Future[Drained] = self._loop.create_future()

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> Drained:
        """Trades until drained. Returns whether the venue confirmed that nothing is left."""
        self._page.words[TRADER_PID] = os.getpid()
        self.feed(self._start)
        self._poll_due_s = self._loop.time()
        self._poll()
        self._health_due_s = self._loop.time() + HEALTH_S
        self._loop.call_later(HEALTH_S, self._sample_health)
        self._loop.call_later(PUBLISH_S, self._publish)
        self._loop.call_later(METRICS_S, self._publish_metrics)
        self._loop.call_later(GC_IDLE_S, self._collect_garbage)
        wake_socket = open_wake_socket(self._places.wake_socket)
        self._loop.add_reader(wake_socket, self._on_wake, wake_socket)
        await self._ops.start()
        tasks = [self._loop.create_task(session.run()) for session in self._sessions.values()]
        tasks.append(self._loop.create_task(self._compute.run()))
        try:
            end = self._loop.create_task(self._until_drained())
            done, _ = await asyncio.wait([end, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                finished.result()
            return await self._drained
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._pump.seal()
            await self._ops.close()
            self._loop.remove_reader(wake_socket)
            wake_socket.close()
            self._disk.shutdown()

    async def _until_drained(self) -> None:
        await self._drained

    def begin_drain(self, reason: str) -> None:
        """Starts the graceful stop; `run` returns when it has ended."""
        self._is_draining = True
        self._page.trader_state = TraderState.STOPPING
        self.feed(Drain(reason=reason))
        self._want_flush()

    def feed(self, event: Input) -> None:
        """Feeds one input and keeps the timer at the node's next deadline."""
        self._pump.feed(event)
        self._arm_timer()

    # -- callbacks of the loop --------------------------------------------------------------------

    def _on_frame(self, conn: Conn, payload: bytes) -> None:
        if self._page.words[LATCH] != self._latch_words[0]:
            self._on_latch()  # ahead of a burst: one read of a socket may bring hundreds of frames
        self._measures.frame_received(conn)
        redacted, secrets = self._language.redact(payload)
        if secrets:
            self._vaults[conn].update(secrets)
        self._frames += 1
        self._page.words[PROGRESS_MARKET_DATA] = self._frames
        self._pump.feed(FrameIn(conn=conn, payload=redacted))
        self._want_flush()

    def _on_connection(self, conn: Conn, wire: WsWire | None, reason: str) -> None:
        if wire is None and self._wires.pop(conn, None) is None:
            self.log(self._clock.stamp(), _line("connect_failed", conn=conn.name, reason=reason))
            return
        if wire is not None:
            self._wires[conn] = wire
            self._measures.connects[conn] += 1
            for other in self._sessions.values():
                other.hurry()
        self._pump.feed(ConnectionChanged(conn=conn, is_up=wire is not None, reason=reason))
        self._want_flush()

    def _want_flush(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        self._observe()
        risk_before = self._gate.sent_by_kind[FrameKind.RISK]
        self.feed(Flush())
        self._measures.flushed(self._gate.sent_by_kind[FrameKind.RISK] > risk_before)

    def _poll(self) -> None:
        self._page.words[PROGRESS_LOOP] += 1
        self._measures.turned(max(0.0, self._loop.time() - self._poll_due_s))
        if self._observe():
            self._want_flush()
        self._poll_due_s = self._loop.time() + POLL_S
        self._loop.call_later(POLL_S, self._poll)

    def _on_wake(self, receiver: socket.socket) -> None:
        drain(receiver)
        self._on_latch()

    def _on_latch(self) -> None:
        if self._observe():
            self._flush()

    def _observe(self) -> bool:
        """Brings latch and permit from the page into the node. True where one changed."""
        changed = False
        permit_mono_ns = self._page.words[PERMIT_DEADLINE_MONO_NS]
        if permit_mono_ns != self._permit_mono_ns:
            self._permit_mono_ns = permit_mono_ns
            never = permit_mono_ns == 0
            deadline = Ns(0 if never else permit_mono_ns + self._clock.wall_offset_ns)
            self._pump.feed(PermitChanged(deadline_ns=deadline))
            changed = True
        word = self._gate.observe()
        scoped = self._page.words[SCOPED_MASKS]
        if (word, scoped) != self._latch_words:
            self._latch_words = (word, scoped)
            self._pump.feed(
                LatchChanged(
                    generation=latch_generation(word),
                    permission=latch_permission(word),
                    tasks=latch_tasks(word),
                    scoped=scoped,
                )
            )
            changed = True
        return changed

    def _forget_latch(self) -> None:
        """The next look at the page feeds the latch again, and what it asks for is done again."""
        self._latch_words = (-1, -1)

    def _arm_timer(self) -> None:
        deadline_ns = self._node.next_deadline_ns()
        if deadline_ns is None or deadline_ns == self._timer_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = deadline_ns
        delay_ns = deadline_ns - self._clock.wall_offset_ns - self._clock.mono_ns()
        self._timer = self._loop.call_later(max(0.0, delay_ns / NS_PER_S), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_ns = 0
        self.feed(TimerFired())
        self._want_flush()

    def _sample_health(self) -> None:
        lag_s = max(0.0, self._loop.time() - self._health_due_s)
        self._measures.loop_lag_s = lag_s
        wall_drift_ns = time.time_ns() - (self._clock.mono_ns() + self._clock.wall_offset_ns)
        synced_ns = self._page.words[JOURNAL_SYNC_MONO_NS]
        journal_lag_ns = max(0, self._clock.mono_ns() - synced_ns) if synced_ns else 0
        if not self._gate.journal_is_sound:
            journal_lag_ns = JOURNAL_DEAD_LAG_NS
        self.feed(
            HealthSample(
                loop_lag_ns=int(lag_s * NS_PER_S),
                clock_offset_ns=wall_drift_ns // NS_PER_MS * NS_PER_MS,
                journal_lag_ns=journal_lag_ns,
                loop_lag_p99_ns=self._measures.take_lag_p99_ns(),
            )
        )
        self._health_due_s = self._loop.time() + HEALTH_S
        self._loop.call_later(HEALTH_S, self._sample_health)

    def _publish(self) -> None:
        """What the guard waits for, into the page."""
        words = self._page.words
        standing = self._node.standing()
        words[SWEPT_GENERATION] = max(words[SWEPT_GENERATION], standing.swept_generation)
        if standing.is_reconciled:
            words[RECONCILED_INCARNATION] = self._incarnation
        if not self._is_draining:
            self._page.trader_state = TraderState[standing.stage.name]
        self._loop.call_later(PUBLISH_S, self._publish)

    def _publish_metrics(self) -> None:
        slots = self._page.slots
        for slot, value in enumerate(self._node.metrics()):
            slots[slot] = value
        self._measures.publish(slots, self._gate, self._ops, self._pump)
        self._loop.call_later(METRICS_S, self._publish_metrics)

    def _collect_garbage(self) -> None:
        """Freezes what start-up made; from then on collections are rare and small."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    # -- hands of the pump ------------------------------------------------------------------------

    def ask(self, ask: AskFit | AskFactors | AskInference) -> None:
        if not isinstance(ask, AskInference):
            self._compute.ask(ask)
        elif self._inference is not None:
            self._pump.feed(self._inference.run(ask))

    def disconnect(self, wanted: Disconnect) -> None:
        self._sessions[wanted.conn].disconnect(wanted.reason)

    def latch(self, wanted: LatchWanted) -> None:
        """A control's latch: the page at once, the disk from a thread, in the order asked."""
        source = CONTROL_PREFIX + wanted.source
        if wanted.clear:
            self._disk.submit(self._latch.clear, source, Clearer.CONTROL, wanted.scope)
            return
        mask = Mask(wanted.permission, wanted.tasks)
        self._latch.raise_page(
            source, mask, wanted.reason, ts_ns=time.time_ns(), scope=wanted.scope
        )
        self._disk.submit(self._latch.persist)
        if wanted.is_hard_stop:
            self._disk.submit(self._latch.block_start, f"{source}: {wanted.reason}")
        self._want_flush()

    def log(self, ts_ns: Ns, line: Log) -> None:
        self._measures.said(line)
        self._ops.log(ts_ns, line)

    def drained(self, result: Drained) -> None:
        if not self._drained.done():
            self._drained.set_result(result)

    def die(self, error: BaseException) -> None:
        """The pump met a defect. Nothing here may prevent the next line from running."""
        last_acts: tuple[Callable[[], object], ...] = (
            lambda: self._latch.raise_page(
                CRASH, Mask(PERMISSION_NONE, SWEEP), repr(error), ts_ns=time.time_ns()
            ),
            self._cancel_everything,
            self._latch.persist,
            lambda: _write_crash_report(self._places.session, error),
        )
        for act in last_acts:
            try:
                act()
            except Exception:  # noqa: BLE001 - the process is ending; the next act must still run
                traceback.print_exc()
        sys.stderr.flush()
        os._exit(EXIT_CRASHED)

    def _cancel_everything(self) -> None:
        for conn in (Conn.KILL, Conn.TRADE):
            if conn not in self._wires:
                continue
            now_ns = self._clock.stamp()
            for frame in self._language.emergency_frames(conn, now_ns):
                self._gate.send(frame, now_ns)


def _line(event: str, **fields: str | int | float | bool) -> Log:
    return Log(level="warning", event=event, fields=fields)


def _write_crash_report(session: Path, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    (session / "crash.txt").write_text(text)
    sys.stderr.write(text)  # last: a log that nobody reads holds it up until the guard kills
