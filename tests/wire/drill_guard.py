"""The trader blocked, stopped and dead in turn: the guard empties the venue with its own key.

Blocked: its main thread alone is held, as by a call that never returns, while its other threads
live on; `ptrace` does that from outside, so the daemon needs no hook for it. Stopped: SIGSTOP.
Dead: SIGKILL; the venue then cancels by itself when the connections break, so what counts there is
the guard's own confirmed sweep.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable

from mm_daemon.ipc.page import TRADER_PID
from tests.wire.drill_report import Goal, Report
from tests.wire.harness import Daemon, Venue, busy_factor, house, wait_for

QUOTED_MIN = 100
SWEPT_S = 4.0
BACK_S = 60.0
POLL_S = 0.05
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WAIT_ALL_THREADS = 0x40000000


def block_main_thread(pid: int) -> None:
    """Holds the thread that runs the loop, and no other, until the process is killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, pid, None, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"ptrace {request:#x} of {pid}: {os.strerror(number)}")
    # The kernel tells its parent of its end only when whoever holds it has been told.
    threading.Thread(target=_wait_for_end, args=(pid,), daemon=True).start()


def _wait_for_end(pid: int) -> None:
    while True:
        _, status = os.waitpid(pid, WAIT_ALL_THREADS)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return


WAYS: dict[str, Callable[[int], None]] = {
    "blocked": block_main_thread,
    "stopped": lambda pid: os.kill(pid, signal.SIGSTOP),
    "dead": lambda pid: os.kill(pid, signal.SIGKILL),
}


def run(count: int, seed: int) -> Report:
    goals = {f"{way} to empty venue": Goal(100, SWEPT_S) for way in WAYS}
    goals |= {f"{way} to sweep confirmed": Goal(100, SWEPT_S) for way in WAYS}
    report = Report("guard", seed, goals)
    rng = random.Random(seed)
    with house(crash_count_max=1_000_000) as (venue, daemon):
        venue.start()
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        for number in range(count):
            report.iterations += 1
            time.sleep(rng.uniform(0.0, 1.0))
            _hang_once(venue, daemon, report, tuple(WAYS)[number % len(WAYS)])
            daemon.wait_quoting(QUOTED_MIN, BACK_S)
        if daemon.stop() != 0:
            report.violate("the stop was not confirmed")
    return report


def _hang_once(venue: Venue, daemon: Daemon, report: Report, way: str) -> None:
    former = daemon.word(TRADER_PID)
    log_size = (daemon.directory / f"daemon-{daemon.runs}.log").stat().st_size
    began_s, began_mono_s = time.time(), time.monotonic()
    WAYS[way](former)
    wait_for("an empty venue", lambda: not venue.open_orders(), BACK_S, POLL_S)
    report.add(f"{way} to empty venue", time.monotonic() - began_mono_s)
    swept_s = wait_for("the guard's sweep", lambda: _swept_s(daemon, log_size), BACK_S, POLL_S)
    report.add(f"{way} to sweep confirmed", swept_s - began_s)
    sent = {one["method"] for one in venue.received(int(began_s * 1e6))}
    if "private/cancel_all" not in sent:
        report.violate(f"{way}: the guard's cancels are not in the venue's record")
    limit_s = SWEPT_S * busy_factor()
    for name in (f"{way} to empty venue", f"{way} to sweep confirmed"):
        if report.seconds[name][-1] > limit_s:
            took_s = report.seconds[name][-1]
            report.violate(f"{name} took {took_s:.2f} s, at most {limit_s:.2f} s")
    wait_for("its end", lambda: daemon.word(TRADER_PID) not in (0, former), BACK_S, POLL_S)


def _swept_s(daemon: Daemon, log_size: int) -> float:
    """Wall time of the first confirmed sweep in the log behind that place, 0 before it."""
    with (daemon.directory / f"daemon-{daemon.runs}.log").open("rb") as log:
        log.seek(log_size)
        for line in log.read().splitlines():
            if line.startswith(b"{") and b'"sweep"' in line:
                entry = json.loads(line)
                if entry.get("event") == "sweep" and entry["confirmed"]:
                    return float(entry["ts"])
    return 0.0
