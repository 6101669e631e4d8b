"""One life of the trader on virtual time: what `shell.trader` does with a loop, without one.

The node, the pump, the gate, the page and the latch are the real ones; this module is only their
hands. Whatever the process would do at a later moment is an event of the scheduler, and an event of
a dead life does nothing. A paused life (SIGSTOP, a blocked host) lets its events pile up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from mm_daemon.domain.errors import GridChangedError, InvariantError
from mm_daemon.domain.frames import Conn, FrameKind
from mm_daemon.domain.inputs import (
    ConnectionChanged,
    Drain,
    FactorsAnswer,
    FitAnswer,
    Flush,
    FrameIn,
    HealthSample,
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
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from mm_daemon.ipc.page import (
    PERMIT_DEADLINE_MONO_NS,
    PROGRESS_LOOP,
    RECONCILED_INCARNATION,
    SCOPED_MASKS,
    SWEPT_GENERATION,
    TraderState,
    latch_generation,
    latch_permission,
    latch_tasks,
)
from mm_daemon.ipc.segments import JournalError
from mm_daemon.kernel.clock import StampedClock
from mm_daemon.kernel.gate import Gate
from mm_daemon.kernel.pump import Journal, Pump
from mm_daemon.run.simulation_journal import Failpoints, SimulatedDeathError, WatchedJournal
from mm_daemon.run.simulation_tools import RiskWrite, SimulatedWire, TraderTools
from mm_daemon.run.simulation_venue import Socket
from mm_daemon.run.simulation_watch import LEDGER, TAPE
from mm_daemon.shell.trader import TraderNode
from mm_daemon.shell.ws_session import Backoff
from mm_daemon.sim.scheduler import Event

LOOP_TURN_NS: Final = 30_000
"""From the first frame of a burst to the flush that decides on all of it."""
SPINS_MAX: Final = 10_000
"""Arming the timer for a deadline already past, this often in a row, is a loop without an end."""
POLL_NS: Final = 2 * NS_PER_MS
HEALTH_NS: Final = 250 * NS_PER_MS
PUBLISH_NS: Final = 100 * NS_PER_MS
PERSIST_NS: Final = 2 * NS_PER_MS
FIT_NS: Final = 60 * NS_PER_MS
FACTORS_NS: Final = 5 * NS_PER_MS
INFERENCE_NS: Final = 40_000


class SimulatedTrader:
    """Construct, then `start`; it lives until drained, killed or broken."""

    def __init__(
        self,
        tools: TraderTools,
        *,
        node: TraderNode,
        start: Start,
        clock: StampedClock,
        tape: Journal,
        ledger: Journal,
        incarnation: int,
        on_end: Callable[[SimulatedTrader], None],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.failpoints = Failpoints()
        self.is_alive = True
        self.wall_error_ns = tools.wall.error_ns
        """How wrong the wall clock was by which this life began to stamp."""
        self.defect: BaseException | None = None
        """The exception that ended this life, where it was a defect of ours."""
        self.result: Drained | None = None
        self.risk_writes: list[RiskWrite] = []
        self.logs: list[tuple[int, Log]] = []
        self.sockets: dict[Conn, Socket] = {}
        self._tools = tools
        self._start = start
        self._clock = clock
        self._on_end = on_end
        self._wires: dict[Conn, SimulatedWire] = {}
        self._vaults: dict[Conn, dict[str, str]] = {conn: {} for conn in Conn}
        self._backoff = Backoff()
        self._failures: dict[Conn, int] = dict.fromkeys(Conn, 0)
        self._waits: dict[Conn, int] = dict.fromkeys(Conn, 0)
        """The number of the wait for the next try to connect, 0 where none is under way."""
        self._tries = 0
        self._up_since_ns: dict[Conn, int] = dict.fromkeys(Conn, 0)
        self._jitter = random.Random(start.seed)
        self.gate = Gate(
            page=tools.page,
            clock=clock,
            classify=tools.language.classify,
            fill=self._fill,
            wires=self._wires,
        )
        self.pump = Pump(
            node=node,
            clock=clock,
            tape=self._watched(tape, TAPE),
            ledger=self._watched(ledger, LEDGER),
            gate=self.gate,
            page=tools.page,
            hands=self,
        )
        self._flush_is_due = False
        self._is_draining = False
        self._timer: Event | None = None
        self._spins = 0
        self._latch_words = (-1, -1)
        self._permit_mono_ns = -1
        self._paused_until_ns = 0
        self._health_due_ns = 0

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """The first input, the first look at the page, and every connection."""
        self._feed(self._start)
        self._poll()
        self._health_due_ns = self._tools.scheduler.now_ns + HEALTH_NS
        self._after(HEALTH_NS, self._sample_health, "trader.health")
        self._after(PUBLISH_NS, self._publish, "trader.publish")
        for conn in Conn:
            self._connect(conn)

    def begin_drain(self, reason: str) -> None:
        """SIGTERM."""
        self._is_draining = True
        self._tools.page.trader_state = TraderState.STOPPING
        self._feed(Drain(reason=reason))
        self._want_flush()

    def feed(self, event: Input) -> None:
        """An input from outside the loop: a command of ops."""
        self._feed(event)
        self._want_flush()

    def wake(self) -> None:
        """The datagram that says: look at the page now."""
        if self._observe():
            self._flush()

    def look_soon(self) -> None:
        """The page changed without a datagram: the next poll sees it."""
        self._after(POLL_NS, self._poll, "trader.poll")

    def end(self, *, is_host_crash: bool = False) -> None:
        """SIGKILL: the kernel closes the sockets, unless the whole host is gone."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.pump.is_dead = True
        for socket in self.sockets.values():
            if is_host_crash:
                self._tools.venue.sever(socket, is_noticed_by_client=False)
            else:
                self._tools.venue.hang_up(socket)
        self._on_end(self)

    @property
    def is_paused(self) -> bool:
        return self._tools.scheduler.now_ns < self._paused_until_ns

    def pause(self, duration_ns: int) -> None:
        """Nothing of this process runs for a while; its sockets stay open."""
        self._paused_until_ns = self._tools.scheduler.now_ns + duration_ns

    def note_write(self, socket: Socket, payload: bytes) -> None:
        """The gate is writing; kept where it may add risk."""
        self._tools.watch.on_write(self, socket.conn, payload)
        if self._tools.language.classify(payload) is FrameKind.RISK:
            scheduler = self._tools.scheduler
            self.risk_writes.append(
                RiskWrite(scheduler.steps, scheduler.now_ns, self._tools.page.generation, payload)
            )

    # -- the loop -------------------------------------------------------------------------------

    def _watched(self, inner: Journal, name: str) -> WatchedJournal:
        watch = self._tools.watch
        return WatchedJournal(
            inner,
            self.failpoints,
            self._tools.disk,
            noted=lambda kind, ts_ns, payload: watch.on_record(self, name, kind, ts_ns, payload),
            refused=lambda: watch.on_journal_failed(self),
        )

    def _after(self, delay_ns: int, act: Callable[[], None], label: str) -> Event:
        def run() -> None:
            if not self.is_alive:
                return
            if self.is_paused:
                self._tools.scheduler.at(self._paused_until_ns, run, label)
            else:
                act()

        return self._tools.scheduler.after(delay_ns, run, label)

    def _feed(self, event: Input) -> None:
        if self.is_alive:
            self.pump.feed(event)
            self._arm_timer()

    def _fill(self, conn: Conn, payload: bytes) -> bytes:
        return self._tools.language.fill(payload, self._tools.secret, self._vaults[conn])

    def _want_flush(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._after(LOOP_TURN_NS, self._flush, "trader.flush")

    def _flush(self) -> None:
        self._flush_is_due = False
        self._observe()
        self._feed(Flush())

    def _poll(self) -> None:
        self._tools.page.words[PROGRESS_LOOP] += 1
        if self._observe():
            self._want_flush()

    def _observe(self) -> bool:
        """Brings latch and permit from the page into the node. True where one changed."""
        words = self._tools.page.words
        changed = False
        permit_mono_ns = words[PERMIT_DEADLINE_MONO_NS]
        if permit_mono_ns != self._permit_mono_ns:
            self._permit_mono_ns = permit_mono_ns
            deadline_ns = Ns(permit_mono_ns + self._clock.wall_offset_ns)
            self._feed(PermitChanged(deadline_ns=deadline_ns))
            changed = True
        word = self.gate.observe()
        scoped = words[SCOPED_MASKS]
        if (word, scoped) != self._latch_words:
            self._latch_words = (word, scoped)
            self._feed(
                LatchChanged(
                    generation=latch_generation(word),
                    permission=latch_permission(word),
                    tasks=latch_tasks(word),
                    scoped=scoped,
                )
            )
            changed = True
        return changed

    def _arm_timer(self) -> None:
        if not self.is_alive:
            return
        deadline_ns = self.node.next_deadline_ns()
        if deadline_ns is None:
            return
        due_ns = deadline_ns - self._clock.wall_offset_ns - self._clock.mono_ns()
        self._spins = self._spins + 1 if due_ns <= 0 else 0
        if self._spins > SPINS_MAX:
            raise InvariantError(f"the deadline {deadline_ns} is past and no step moves it on")
        delay_ns = max(LOOP_TURN_NS, due_ns)
        at_ns = self._tools.scheduler.now_ns + delay_ns
        if self._timer is not None:
            if self._timer.at_ns == at_ns and self._timer.act is not None:
                return
            self._timer.cancel()
        self._timer = self._after(delay_ns, self._on_timer, "trader.timer")

    def _on_timer(self) -> None:
        self._timer = None
        self._feed(TimerFired())
        self._want_flush()

    def _sample_health(self) -> None:
        now_ns = self._tools.scheduler.now_ns
        self._tools.page.words[PROGRESS_LOOP] += 1
        wall_ns = now_ns + self._tools.wall.error_ns
        drift_ns = wall_ns - (self._clock.mono_ns() + self._clock.wall_offset_ns)
        self._feed(
            HealthSample(
                loop_lag_ns=max(0, now_ns - self._health_due_ns),
                clock_offset_ns=drift_ns // NS_PER_MS * NS_PER_MS,
                journal_lag_ns=0 if self.gate.journal_is_sound else 1 << 62,
            )
        )
        self._health_due_ns = now_ns + HEALTH_NS
        self._after(HEALTH_NS, self._sample_health, "trader.health")

    def _publish(self) -> None:
        words = self._tools.page.words
        standing = self.node.standing()
        words[SWEPT_GENERATION] = max(words[SWEPT_GENERATION], standing.swept_generation)
        if standing.is_reconciled:
            words[RECONCILED_INCARNATION] = self.incarnation
        if not self._is_draining:
            self._tools.page.trader_state = TraderState[standing.stage.name]
        self._after(PUBLISH_NS, self._publish, "trader.publish")

    # -- sockets --------------------------------------------------------------------------------

    def _connect(self, conn: Conn) -> None:
        self._waits[conn] = 0
        socket = Socket(conn, lambda payload: self._receive(conn, socket, payload))
        socket.on_closed = lambda reason: self._closed(conn, socket, reason)
        self.sockets[conn] = socket
        self._tools.venue.connect(socket, lambda is_open: self._opened(conn, socket, is_open))

    def _opened(self, conn: Conn, socket: Socket, is_open: bool) -> None:
        if not self.is_alive:
            self._tools.venue.hang_up(socket)
            return
        if not is_open:
            self._retry(conn)
            return
        self._up_since_ns[conn] = self._tools.scheduler.now_ns
        self._wires[conn] = SimulatedWire(self, socket)
        for other in Conn:
            if self._waits[other]:
                self._connect_after(other, 0)
        self._after(0, lambda: self._connection(conn, is_up=True, reason=""), "trader.up")

    def _receive(self, conn: Conn, socket: Socket, payload: bytes) -> None:
        if not self.is_alive or self.sockets.get(conn) is not socket:
            return
        if self.is_paused:
            delay_ns = self._paused_until_ns - self._tools.scheduler.now_ns
            self._after(delay_ns, lambda: self._receive(conn, socket, payload), "trader.frame")
            return
        self._tools.watch.on_frame(self, conn)
        redacted, secrets = self._tools.language.redact(payload)
        self._vaults[conn].update(secrets)
        self._feed(FrameIn(conn=conn, payload=redacted))
        self._want_flush()

    def _closed(self, conn: Conn, socket: Socket, reason: str) -> None:
        if not self.is_alive or self.sockets.get(conn) is not socket:
            return
        del self.sockets[conn]
        self._after(0, lambda: self._down(conn, reason), "trader.down")

    def _down(self, conn: Conn, reason: str) -> None:
        if self._wires.pop(conn, None) is not None:
            self._connection(conn, is_up=False, reason=reason)
        healthy_ns = int(self._backoff.healthy_after_s * NS_PER_S)
        if self._tools.scheduler.now_ns - self._up_since_ns[conn] >= healthy_ns:
            self._failures[conn] = 0
        self._retry(conn)

    def _retry(self, conn: Conn) -> None:
        delay_s = self._backoff.delay_s(self._failures[conn], self._jitter.random())
        self._failures[conn] += 1
        self._connect_after(conn, int(delay_s * NS_PER_S))

    def _connect_after(self, conn: Conn, delay_ns: int) -> None:
        """In place of any wait under way."""
        self._tries += 1
        self._waits[conn] = number = self._tries

        def connect() -> None:
            if self._waits[conn] == number:
                self._connect(conn)

        self._after(delay_ns, connect, "trader.connect")

    def _connection(self, conn: Conn, *, is_up: bool, reason: str) -> None:
        self._feed(ConnectionChanged(conn=conn, is_up=is_up, reason=reason))
        self._want_flush()

    # -- hands of the pump ------------------------------------------------------------------------

    def ask(self, ask: AskFit | AskFactors | AskInference) -> None:
        if isinstance(ask, AskInference):
            if self._tools.inference is not None:
                self.pump.feed(self._tools.inference.run(ask))
            return
        is_fit = isinstance(ask, AskFit)
        delay_ns = FIT_NS if is_fit else FACTORS_NS
        kind = FitAnswer if is_fit else FactorsAnswer

        def answer() -> None:
            result, error = b"", ""
            try:
                result = self._tools.compute[type(ask)](ask.request)
            except Exception as problem:  # noqa: BLE001 - whatever a fit raises is its answer
                error = f"{type(problem).__name__}: {problem}"
            self._feed(
                kind(
                    ask_id=ask.ask_id,
                    underlying=ask.underlying,
                    result=result,
                    error=error,
                    duration_ns=delay_ns,
                )
            )
            self._want_flush()

        self._after(delay_ns, answer, "trader.answer")

    def disconnect(self, wanted: Disconnect) -> None:
        socket = self.sockets.pop(wanted.conn, None)
        if socket is not None and wanted.conn in self._wires:
            self._tools.venue.hang_up(socket)
            self._after(0, lambda: self._down(wanted.conn, wanted.reason), "trader.down")

    def latch(self, wanted: LatchWanted) -> None:
        source = CONTROL_PREFIX + wanted.source
        latch, now_ns = self._tools.latch, self._tools.scheduler.now_ns
        if wanted.clear:
            self._after(PERSIST_NS, lambda: self._clear(source, wanted.scope), "trader.unlatch")
            return
        mask = Mask(wanted.permission, wanted.tasks)
        latch.raise_page(source, mask, wanted.reason, ts_ns=now_ns, scope=wanted.scope)
        self._tools.watch.on_latch()
        self._after(PERSIST_NS, latch.persist, "trader.persist")
        self._want_flush()

    def _clear(self, source: str, scope: str) -> None:
        self._tools.latch.clear(source, Clearer.CONTROL, scope)
        self._tools.watch.on_latch()
        self.look_soon()

    def log(self, ts_ns: Ns, line: Log) -> None:
        self.logs.append((ts_ns, line))

    def drained(self, result: Drained) -> None:
        if self.result is None:
            self.result = result
            self._after(0, self.end, "trader.end")

    def die(self, error: BaseException) -> None:
        """A planted death ends the process as it stands; a defect, and a life that the world ends,
        does its last acts first."""
        self.failpoints.die_at = 0
        if not isinstance(error, SimulatedDeathError):
            if not isinstance(error, JournalError | GridChangedError):
                self.defect = error
            self._tools.latch.raise_page(
                CRASH,
                Mask(PERMISSION_NONE, SWEEP),
                repr(error),
                ts_ns=self._tools.scheduler.now_ns,
            )
            for conn in (Conn.KILL, Conn.TRADE):
                if conn in self._wires:
                    now_ns = self._clock.stamp()
                    for frame in self._tools.language.emergency_frames(conn, now_ns):
                        self.gate.send(frame, now_ns)
            self._tools.latch.persist()
        self.end()
