"""The guard: parent of every process of the daemon, and the last to let go.

It makes the shared page and the latch, starts the children, and from then on turns a small loop:
reap, restart, keep the latch whole, tell the service manager. A trader that dies latches `crash`,
the venue is swept with the guard's own key until it is empty twice, and only then a new trader is
started; `crash` is lifted when that one has published a clean reconcile. Too many crashes become a
latch of their own, which only a reset lifts.

What may block has its own thread: the watchdog (never blocks), the sweeper (HTTP), the journal's
syncing (disk). The loop itself blocks on nothing but the latch file.

`mm_daemon.guard.settings` documents the configuration and what a child may count on.
"""

from __future__ import annotations

import importlib
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final

from mm_daemon.domain.permission import CRASH, CRASHES, OPERATOR, PRESETS, Clearer
from mm_daemon.guard.boot import House, note_trader, read_crashes
from mm_daemon.guard.child import Child
from mm_daemon.guard.journal_sync import JournalSyncer
from mm_daemon.guard.kill_file import KillFile
from mm_daemon.guard.lease_desk import LeaseDesk
from mm_daemon.guard.log import log
from mm_daemon.guard.notify import Notifier
from mm_daemon.guard.settings import TRADER, Settings
from mm_daemon.guard.spare import SpareTrader
from mm_daemon.guard.sweep_client import SweepReport
from mm_daemon.guard.sweep_desk import SweepDesk
from mm_daemon.guard.sweeper import Sweeper
from mm_daemon.guard.watchdog import Act, WatchdogThread, describe_stall
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import (
    CRASH_COUNT,
    GENERATION_SEEN,
    GUARD_ALIVE_MONO_NS,
    GUARD_PID,
    PID_WORDS,
    PROGRESS_LOOP,
    PROGRESS_WORDS,
    RECONCILED_INCARNATION,
    TRADER_INCARNATION,
    TRADER_TENURE,
    BootState,
    TraderState,
)
from mm_daemon.ipc.session import create_session, drop_unbegun, write_json

EXIT_DONE: Final = 0
EXIT_UNUSABLE: Final = 2
EXIT_UNCONFIRMED: Final = 3

TICK_S: Final = 0.02
SLOW_TICK_S: Final = 0.1
WATCH_INTERVAL_S: Final = 0.05
OTHERS_BUDGET_S: Final = 3.0
HASTE_S: Final = 2.0
SESSION_RETRY_S: Final = 1.0
CANCEL_ALL: Final = PRESETS["cancel_all"]


class Stage(Enum):
    """Where the guard is on its way out."""

    RUNNING = "running"
    STOP_TRADER = "stop_trader"
    STOP_SWEEP = "stop_sweep"
    STOP_OTHERS = "stop_others"
    DONE = "done"


class Supervisor:
    """The guard's loop. `run` returns the exit code."""

    def __init__(self, settings: Settings, layout: Layout, house: House) -> None:
        self._settings = settings
        self._layout = layout
        self._page = page = house.page
        self._latch = house.latch
        self._lock_fd = house.trader_lock_fd
        self._kill_file = KillFile(layout.kill_file)
        self._notifier = Notifier.from_environment()
        self._children = {one.name: Child(one) for one in settings.children}
        self._trader = self._children[TRADER]
        self._others = [child for name, child in self._children.items() if name != TRADER]
        self._lease = LeaseDesk(settings, page, self._trader)
        self._spare = SpareTrader(
            self._trader.settings,
            self._environment(0, None),
            self._lock_fd,
            settings.spare_delay_s,
        )
        wait_s = settings.sweep.wait_s if settings.sweep is not None else 0.0
        self._sweeps = SweepDesk(self._make_sweeper(), page, self._lease, wait_s)
        self._watchdog = WatchdogThread(page, settings.limits, WATCH_INTERVAL_S, self._on_watchdog)
        self._syncer = JournalSyncer(
            page,
            settings.sync_ms / 1000,
            tape_bytes_max=settings.tape_bytes_max,
            ledger_bytes_max=settings.ledger_bytes_max,
        )
        self._signals: list[int] = []
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._stage = Stage.RUNNING
        self._deadline_s = 0.0
        self._incarnation = 0
        self._session: Path | None = None
        self._trader_code: int | None = None
        self._exit_code: int | None = None
        self._may_have_orders = False
        self._crash_times = read_crashes(layout.crashes)
        self._is_ready = False
        self._slow_at_s = 0.0
        self._ping_at_s = 0.0
        self._ends_s: float | None = None
        self._needs_persist = False
        self._stopping: Child | None = None

    # -- life ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Run the daemon until it is stopped; returns the exit code."""
        self._install_signals()
        self._page.words[GUARD_PID] = os.getpid()
        self._page.boot_state = BootState.STARTING
        if self._settings.run_for_s is not None:
            self._ends_s = time.monotonic() + self._settings.run_for_s
        self._sweeps.start()
        self._watchdog.start()
        self._syncer.start()
        if self._ended_uncleanly():
            self._on_crash("the last run did not end cleanly")
        self._layout.running_mark.touch(mode=0o600)
        try:
            while self._stage is not Stage.DONE:
                select.select([self._wake_reader], [], [], TICK_S)
                with suppress(BlockingIOError):
                    self._wake_reader.recv(64)
                self._tick(time.monotonic())
        finally:
            self._finish()
        return EXIT_DONE if self._exit_code is None else self._exit_code

    def _tick(self, now_s: float) -> None:
        self._page.words[GUARD_ALIVE_MONO_NS] = time.monotonic_ns()
        self._take_signals(now_s)
        self._reap(now_s)
        if self._needs_persist:
            self._needs_persist = False
            self._guarded(self._latch.persist)
        if self._stage is Stage.RUNNING:
            self._lease.mind(now_s)
            self._start_children(now_s)
            self._lift_crash()
            self._spare.mind(now_s, is_wanted=self._has_reconciled())
            if self._ends_s is not None and now_s >= self._ends_s:
                self._begin_stop(now_s, "the time asked for is over")
        elif self._stage is Stage.STOP_TRADER:
            self._lease.mind(now_s, is_stopping=True)
            self._stop_trader(now_s)
        elif self._stage is Stage.STOP_SWEEP:
            self._stop_sweep(now_s)
        else:
            self._stop_others(now_s)
        if now_s >= self._slow_at_s:
            self._slow_at_s = now_s + SLOW_TICK_S
            self._slow_tick(now_s)

    def _slow_tick(self, now_s: float) -> None:
        self._guarded(self._latch.reassert)
        self._look_for_kill_file()
        self._sweeps.mind(
            is_trader_running=self._trader.is_running,
            is_stopping=self._stage is not Stage.RUNNING,
        )
        if self._stage is Stage.RUNNING and (block := self._latch.start_block()) is not None:
            self._begin_stop(now_s, block)
        self._tell_manager(now_s)

    def _finish(self) -> None:
        self._watchdog.stop()
        self._syncer.stop()
        self._sweeps.stop()
        self._spare.drop()
        for child in self._children.values():
            child.send(signal.SIGKILL)
        if self._exit_code in (EXIT_DONE, EXIT_UNUSABLE):
            self._layout.running_mark.unlink(missing_ok=True)
        self._page.boot_state = BootState.DOWN
        log("stopped", code=self._exit_code)

    def _install_signals(self) -> None:
        """Signals are noted and wake the loop; nothing is done inside a handler."""
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda seen, _frame: self._signals.append(seen))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _take_signals(self, now_s: float) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGUSR1:
                self._raise(OPERATOR, "signal SIGUSR1")
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._begin_stop(now_s, signal.Signals(number).name)

    # -- children ------------------------------------------------------------------------------

    def _start_children(self, now_s: float) -> None:
        for child in self._children.values():
            if child.is_running or (child.starts and not child.settings.restart):
                continue
            if child is self._trader:
                if self._sweeps.may_start_trader(now_s) and child.may_start(now_s):
                    self._start_trader(now_s)
            elif child.may_start(now_s):
                child.start(now_s, self._environment(0, None))
                self._note_start(child)

    def _start_trader(self, now_s: float) -> None:
        if self._session is not None:
            drop_unbegun(self._session)
        try:
            session = create_session(self._settings.data_dir, time.time_ns())
        except OSError as error:
            # A full disk: the guard stays and tries again, latched and swept as everything is.
            log("no_session", detail=str(error))
            self._trader.not_before_s = now_s + SESSION_RETRY_S
            return
        self._session = session
        self._incarnation += 1
        words = self._page.words
        for word in PROGRESS_WORDS.values():
            words[word] = 0
        words[GENERATION_SEEN] = 0
        words[RECONCILED_INCARNATION] = 0
        words[TRADER_TENURE] = 0
        self._page.trader_state = TraderState.STARTING
        words[TRADER_INCARNATION] = self._incarnation
        environment = self._environment(self._incarnation, session)
        order = {"incarnation": self._incarnation, "session": str(session), "env": {}}
        spare = self._spare.take(order)
        if spare is not None:
            self._trader.take_over(spare, now_s)
        else:
            self._trader.start(now_s, environment, (self._lock_fd,))
        note_trader(self._lock_fd, self._trader.pid)
        self._guarded(lambda: self._layout.session_file.write_text(f"{session}\n"))
        self._syncer.follow(session)
        self._note_start(self._trader)
        self._page.boot_state = BootState.RUNNING

    def _note_start(self, child: Child) -> None:
        name = child.settings.name
        if name in PID_WORDS:
            self._page.words[PID_WORDS[name]] = child.pid
        log("started", child=name, pid=child.pid, start=child.starts)

    def _environment(self, incarnation: int, session: Path | None) -> dict[str, str]:
        env = {
            **os.environ,
            "MM_PAGE": str(self._layout.page),
            "MM_RUNTIME_DIR": str(self._layout.runtime_dir),
            "MM_STATE_DIR": str(self._layout.state_dir),
            "MM_DATA_DIR": str(self._settings.data_dir),
            "MM_INCARNATION": str(incarnation),
        }
        return env if session is None else {**env, "MM_SESSION_DIR": str(session)}

    def _reap(self, now_s: float) -> None:
        for name, child in self._children.items():
            code = child.reap(now_s)
            if code is None:
                continue
            log("ended", child=name, code=code)
            if name in PID_WORDS:
                self._page.words[PID_WORDS[name]] = 0
            if child is self._trader:
                self._on_trader_end(now_s, code)

    def _on_trader_end(self, now_s: float, code: int) -> None:
        was_lease = self._lease.take_end()
        if self._lease.may_have_traded:
            self._may_have_orders |= bool(self._page.words[PROGRESS_LOOP])
            self._trader_code = code
        self._page.words[TRADER_INCARNATION] = 0
        self._page.trader_state = TraderState.DOWN
        if self._stage is not Stage.RUNNING:
            if not was_lease and code not in (EXIT_DONE, EXIT_UNUSABLE, EXIT_UNCONFIRMED):
                self._raise(CRASH, f"trader ended with {code} while stopping")
        elif was_lease:
            self._sweeps.begin(check_first=code == EXIT_DONE)
        elif code == EXIT_UNUSABLE:
            self._exit_code = EXIT_UNUSABLE
            self._begin_stop(now_s, "the trader cannot use its configuration")
        elif code in (EXIT_DONE, EXIT_UNCONFIRMED):
            self._begin_stop(now_s, "the trader has stopped")
        else:
            if code == -signal.SIGUSR1:  # before its life had a handler for it
                self._raise(OPERATOR, "signal SIGUSR1 to the trader")
            self._on_crash(f"trader ended with {code}")

    # -- crash and recovery --------------------------------------------------------------------

    def _on_crash(self, reason: str) -> None:
        """Latch, sweep, count; the restart follows when the venue is empty."""
        self._may_have_orders = True
        self._raise(CRASH, reason)
        self._sweeps.begin()
        now = time.time()
        recent = [at for at in self._crash_times if now - at < self._settings.crash_window_s]
        self._crash_times = [*recent, now]
        count = len(self._crash_times)
        self._page.words[CRASH_COUNT] = count
        log("crash", reason=reason, count=count)
        if count >= self._settings.crash_count_max:
            why = f"{count} crashes within {self._settings.crash_window_s:.0f} s: {reason}"
            self._raise(CRASHES, why)
            self._sweeps.begin_for(self._page.generation)
        self._guarded(self._latch.persist)
        self._guarded(lambda: write_json(self._layout.crashes, {"times_s": self._crash_times}))

    def _raise(self, source: str, reason: str) -> None:
        """Narrow the page now; the latch file follows in this turn of the loop."""
        self._latch.raise_page(source, CANCEL_ALL, reason, ts_ns=time.time_ns())
        self._needs_persist = True
        log("latched", source=source, reason=reason, generation=self._page.generation)

    def _lift_crash(self) -> None:
        """Lift `crash` once the present trader has published a clean reconcile."""
        if not self._has_reconciled():
            return
        self._trader.note_healthy()
        if not self._sweeps.is_open:
            return
        self._sweeps.close()
        if self._latch.state().entry(CRASH) is not None:
            self._guarded(lambda: self._latch.clear(CRASH, Clearer.GUARD))
            log("crash_cleared", incarnation=self._incarnation, generation=self._page.generation)

    def _has_reconciled(self) -> bool:
        reconciled = self._page.words[RECONCILED_INCARNATION]
        return self._trader.is_running and reconciled == self._incarnation

    def _on_watchdog(self, act: Act) -> None:
        """Called in the watchdog's thread: pages and signals only, no disk."""
        reason = describe_stall(self._page)
        if act is Act.KILL:
            self._trader.send(signal.SIGKILL)
        else:
            if act is Act.LATCH_AND_SWEEP:
                self._latch.raise_page(CRASH, CANCEL_ALL, reason, ts_ns=time.time_ns())
                self._needs_persist = True
            self._sweeps.begin_at_once()
        log("watchdog", act=act.value, detail=reason)

    def _look_for_kill_file(self) -> None:
        """Whoever may write to the runtime directory may stop the trading by touching a file."""
        reason = self._kill_file.look(lambda: self._latch.state().entry(OPERATOR) is not None)
        if reason is None:
            return
        self._raise(OPERATOR, f"kill file: {reason}")
        self._guarded(self._latch.persist)
        self._guarded(self._kill_file.take_away)

    def _ended_uncleanly(self) -> bool:
        is_latched = self._latch.state().entry(CRASH) is not None
        return is_latched or self._layout.running_mark.exists()

    # -- stopping ------------------------------------------------------------------------------

    def _begin_stop(self, now_s: float, reason: str) -> None:
        """First call: stop in order. Second call: in haste."""
        log("stopping", reason=reason, stage=self._stage.value)
        if self._stage is not Stage.RUNNING:
            self._deadline_s = min(self._deadline_s, now_s + HASTE_S)
            if self._stage is Stage.STOP_TRADER:
                self._trader.send(signal.SIGKILL)
            return
        self._stage = Stage.STOP_TRADER
        self._page.boot_state = BootState.STOPPING
        self._notifier.send("STOPPING=1")
        self._deadline_s = now_s + self._settings.stop_budget_s
        self._trader.send(signal.SIGTERM)

    def _stop_trader(self, now_s: float) -> None:
        if self._trader.is_running:
            if now_s >= self._deadline_s:
                self._trader.send(signal.SIGKILL)
            return
        self._stage = Stage.STOP_SWEEP
        self._deadline_s = now_s + self._settings.sweep_budget_s
        if self._may_have_orders:
            self._sweeps.begin(check_first=self._trader_code == EXIT_DONE)

    def _stop_sweep(self, now_s: float) -> None:
        """The exit code is the venue's word: the trader's own, confirmed by the guard's key."""
        if not self._may_have_orders or self._lease.is_anothers:
            is_confirmed = True
        elif not self._sweeps.can_sweep or not self._lease.may_sweep:
            is_confirmed = self._trader_code == EXIT_DONE
        elif self._sweeps.is_confirmed():
            is_confirmed = True
        elif now_s < self._deadline_s:
            return
        else:
            is_confirmed = False
        if self._exit_code is None or not is_confirmed:
            self._exit_code = EXIT_DONE if is_confirmed else EXIT_UNCONFIRMED
        log("venue", confirmed=is_confirmed)
        self._stage = Stage.STOP_OTHERS

    def _stop_others(self, now_s: float) -> None:
        """One after the other, the last started first; each has its time."""
        for child in reversed(self._others):
            if not child.is_running:
                continue
            if child is not self._stopping:
                self._stopping = child
                self._deadline_s = now_s + OTHERS_BUDGET_S
                child.send(signal.SIGTERM)
            elif now_s >= self._deadline_s:
                child.send(signal.SIGKILL)
            return
        self._stage = Stage.DONE

    # -- the rest ------------------------------------------------------------------------------

    def _tell_manager(self, now_s: float) -> None:
        words = self._page.words
        if not self._is_ready and self._trader.is_running and words[PROGRESS_LOOP]:
            self._is_ready = True
            self._notifier.send("READY=1")
        interval_s = self._notifier.ping_interval_s
        watched_ns = time.monotonic_ns() - self._watchdog.sampled_mono_ns
        is_watching = watched_ns < 20 * WATCH_INTERVAL_S * 1e9
        if interval_s is not None and is_watching and now_s >= self._ping_at_s:
            self._ping_at_s = now_s + interval_s
            self._notifier.send(f"WATCHDOG=1\nSTATUS={self._page.trader_state.name.lower()}")

    def _make_sweeper(self) -> Sweeper | None:
        sweep = self._settings.sweep
        if sweep is None:
            return None
        protocol = importlib.import_module(sweep.protocol)
        rng = random.Random(os.getpid())
        return Sweeper(sweep.client, protocol, rng, self._on_sweep_report)

    def _on_sweep_report(self, _report: SweepReport) -> None:
        with suppress(OSError):
            self._wake_writer.send(b"\0")

    def _guarded(self, act: Callable[[], object]) -> None:
        """Do what a disk may refuse. The guard goes on: the page is what stops the trading."""
        try:
            act()
        except OSError as error:
            log("refused", detail=str(error))
