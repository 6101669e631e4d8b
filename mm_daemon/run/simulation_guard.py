"""The guard of a simulated daemon, as far as a trader's life depends on it.

A dead trader is latched under `crash` and the venue swept over REST with the guard's own key until
two whole reads were empty; then the next life starts, and `crash` is lifted when that one has
published a clean reconcile. What is said to the venue is the real sweep protocol; what the real
guard adds (processes, threads, signals, the watchdog) is tested with real processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mm_daemon.domain.permission import CRASH, OPERATOR, PRESETS, Clearer
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import (
    PROGRESS_LOOP,
    RECONCILED_INCARNATION,
    SWEPT_GENERATION,
    TRADER_INCARNATION,
    Page,
)
from mm_daemon.run.simulation_venue import VenueHost
from mm_daemon.run.simulation_watch import Watch
from mm_daemon.sim.scheduler import Event, Scheduler
from mm_daemon.venues.sweep import Call, CallFailed, OpenOrders, SweepProtocol, Token

CANCEL_ALL: Final = PRESETS["cancel_all"]
CALL_TIMEOUT_NS: Final = NS_PER_S
EMPTY_GAP_NS: Final = NS_PER_S
RETRY_NS: Final = 100 * NS_PER_MS
REAP_NS: Final = 10 * NS_PER_MS
RESTART_NS: Final = 250 * NS_PER_MS
MIND_NS: Final = 100 * NS_PER_MS
CRASH_WINDOW_NS: Final = 600 * NS_PER_S
STALL_NS: Final = 1_500 * NS_PER_MS
KILL_AFTER_NS: Final = 500 * NS_PER_MS


class Sweep:
    """One sweep: rounds of cancels and reads until two in a row found nothing. Then `done`."""

    def __init__(
        self,
        scheduler: Scheduler,
        venue: VenueHost,
        protocol: SweepProtocol,
        *,
        key: tuple[str, str],
        currencies: tuple[str, ...],
        done: Callable[[], None],
    ) -> None:
        self.rounds = 0
        self.is_over = False
        self._scheduler = scheduler
        self._venue = venue
        self._protocol = protocol
        self._key = key
        self._currencies = currencies
        self._done = done
        self._token: Token | None = None
        self._is_once_empty = False
        self._authorize()

    def call_off(self) -> None:
        self.is_over = True

    def _call(
        self, body: bytes, token: Token | None, answered: Callable[[bytes | None], None]
    ) -> None:
        """One call; `answered` gets the body once, or None when it took too long."""
        waiting = [answered]

        def settle(answer: bytes | None) -> None:
            timeout.cancel()
            if waiting and not self.is_over:
                waiting.pop()(answer)

        timeout: Event = self._scheduler.after(
            CALL_TIMEOUT_NS, lambda: settle(None), "guard.timeout"
        )
        self._venue.rest(body, token.value if token is not None else None, settle)

    def _authorize(self) -> None:
        def answered(body: bytes | None) -> None:
            token = None if body is None else self._protocol.read_token(body)
            if isinstance(token, Token):
                self._token = token
                self._begin_round()
            else:
                self._later(self._authorize, RETRY_NS)

        self._call(self._protocol.auth_call(*self._key).body, None, answered)

    def _begin_round(self) -> None:
        self.rounds += 1
        lanes = self._protocol.cancel_lanes(self._currencies)
        outcomes: list[int | None] = []

        def lane_done(cancelled: int | None) -> None:
            outcomes.append(cancelled)
            if len(outcomes) == len(lanes):
                total = None if None in outcomes else sum(one or 0 for one in outcomes)
                self._read(total)

        for lane in lanes:
            self._run_lane(list(lane), 0, lane_done)

    def _run_lane(
        self, calls: list[Call], cancelled: int, done: Callable[[int | None], None]
    ) -> None:
        if not calls:
            done(cancelled)
            return
        call = calls.pop(0)

        def answered(body: bytes | None) -> None:
            count = None if body is None else self._protocol.read_cancel(call, body)
            if isinstance(count, int):
                self._run_lane(calls, cancelled + count, done)
            else:
                done(None)

        self._call(call.body, self._token, answered)

    def _read(self, cancelled: int | None) -> None:
        calls = self._protocol.read_calls(self._currencies)
        found: list[OpenOrders | CallFailed | None] = []

        def answered(call: Call, body: bytes | None) -> None:
            found.append(None if body is None else self._protocol.read_open(call, body))
            if len(found) < len(calls):
                return
            is_empty = all(isinstance(one, OpenOrders) and one.count == 0 for one in found)
            self._judge(is_empty and cancelled is not None, cancelled)

        for call in calls:
            self._call(call.body, self._token, lambda body, call=call: answered(call, body))  # type: ignore[misc]

    def _judge(self, is_empty: bool, cancelled: int | None) -> None:
        if is_empty and self._is_once_empty and cancelled == 0:
            self.is_over = True
            self._done()
            return
        self._is_once_empty = is_empty
        self._later(self._begin_round, EMPTY_GAP_NS if is_empty else RETRY_NS)

    def _later(self, act: Callable[[], None], delay_ns: int) -> None:
        self._scheduler.after(delay_ns, lambda: None if self.is_over else act(), "guard.sweep")


class SimulatedGuard:
    """Keeps one trader alive. `start_trader` begins the next life with its incarnation."""

    def __init__(
        self,
        scheduler: Scheduler,
        page: Page,
        latch: LatchStore,
        *,
        make_sweep: Callable[[Callable[[], None]], Sweep],
        start_trader: Callable[[int], None],
        kill_trader: Callable[[], None],
        crash_count_max: int,
        watch: Watch,
    ) -> None:
        self.incarnation = 0
        self.crashes_ns: list[int] = []
        self.recoveries_ns: list[int] = []
        """From each crash to the lifting of its latch."""
        self._scheduler = scheduler
        self._page = page
        self._latch = latch
        self._make_sweep = make_sweep
        self._start_trader = start_trader
        self._kill_trader = kill_trader
        self._watch = watch
        self._crash_count_max = crash_count_max
        self._sweep: Sweep | None = None
        self._swept_for = 0
        self._crashed_ns = 0
        self._is_running = False
        self._progress = -1
        self._progress_ns = 0
        self._is_stalled = False

    def start(self) -> None:
        self._begin_life()
        self._scheduler.after(MIND_NS, self._mind, "guard.mind")

    def trader_ended(self, *, is_clean: bool) -> None:
        """Called as the process ends; the guard reaps it a moment later."""
        self._is_running = False
        if not is_clean:
            self._scheduler.after(REAP_NS, self._on_crash, "guard.reap")

    def _begin_life(self) -> None:
        self.incarnation += 1
        self._page.words[RECONCILED_INCARNATION] = 0
        self._page.words[TRADER_INCARNATION] = self.incarnation
        self._is_running, self._is_stalled = True, False
        self._progress_ns = self._scheduler.now_ns
        self._start_trader(self.incarnation)

    def _on_crash(self) -> None:
        now_ns = self._scheduler.now_ns
        self._crashed_ns = now_ns
        self._page.words[TRADER_INCARNATION] = 0
        self._latch.raise_page(CRASH, CANCEL_ALL, "trader died", ts_ns=now_ns)
        recent = [at for at in self.crashes_ns if now_ns - at < CRASH_WINDOW_NS]
        self.crashes_ns.append(now_ns)
        if len(recent) + 1 >= self._crash_count_max:
            self._latch.raise_page(OPERATOR, CANCEL_ALL, "too many crashes", ts_ns=now_ns)
        self._latch.persist()
        self._watch.on_latch()
        self._swept_for = self._page.generation
        if self._sweep is not None:
            self._sweep.call_off()
        self._sweep = self._make_sweep(self._swept)

    def _swept(self) -> None:
        words = self._page.words
        words[SWEPT_GENERATION] = max(words[SWEPT_GENERATION], self._swept_for)
        self._scheduler.after(RESTART_NS, self._begin_life, "guard.restart")

    def _mind(self) -> None:
        """Lifts `crash` once the life begun after it has reconciled, and looks for a stall."""
        self._look_for_stall()
        words = self._page.words
        # A trader that was latched for a stall is killed, whatever it had said of itself before.
        is_running = words[TRADER_INCARNATION] == self.incarnation and not self._is_stalled
        if is_running and self._crashed_ns and words[RECONCILED_INCARNATION] == self.incarnation:
            self._latch.clear(CRASH, Clearer.GUARD)
            self._watch.on_latch()
            self.recoveries_ns.append(self._scheduler.now_ns - self._crashed_ns)
            self._crashed_ns = 0
        self._scheduler.after(MIND_NS, self._mind, "guard.mind")

    def _look_for_stall(self) -> None:
        """A trader without progress is latched and swept at once, and killed half a second
        later."""
        now_ns, progress = self._scheduler.now_ns, self._page.words[PROGRESS_LOOP]
        if progress != self._progress or not self._is_running:
            self._progress, self._progress_ns = progress, now_ns
            return
        if self._is_stalled or now_ns - self._progress_ns < STALL_NS:
            return
        self._is_stalled = True
        self._crashed_ns = now_ns
        self._latch.raise_page(CRASH, CANCEL_ALL, "trader stalled", ts_ns=now_ns)
        self._latch.persist()
        self._watch.on_latch()
        if self._sweep is not None:
            self._sweep.call_off()
        self._sweep = self._make_sweep(lambda: None)
        self._scheduler.after(KILL_AFTER_NS, self._kill_stalled, "guard.kill")

    def _kill_stalled(self) -> None:
        if self._is_running and self._is_stalled:
            self._kill_trader()
