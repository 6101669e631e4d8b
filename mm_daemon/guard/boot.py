"""What the guard must hold before it may start anything: the page, the latch, and no rival.

Two rivals are possible. Another guard of the same directories holds the page's owner lock. A trader
whose guard was killed holds the trader's lock, which it inherited: it is on its way down (the
kernel told it that its parent died), so it is given its time to sweep, and then killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mm_daemon.domain.permission import LATCH_FILE
from mm_daemon.guard.log import log
from mm_daemon.guard.settings import Settings
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import Page, PageOwner

CLAIM_WAIT_S: Final = 0.3
KILL_WAIT_S: Final = 5.0
_POLL_S: Final = 0.05


class BootError(Exception):
    """The daemon cannot start here now; nothing was started."""


@dataclass(frozen=True, slots=True)
class House:
    """What a guard holds."""

    page: Page
    latch: LatchStore
    owner: PageOwner
    trader_lock_fd: int


def take_house(settings: Settings, layout: Layout) -> House:
    """Take everything, or nothing.

    Raises: BootError saying who or what stands in the way.
    """
    block = LatchStore(layout.latch, None).start_block()
    if block is not None:
        raise BootError(block)
    owner = _claim(layout)
    lock_fd = os.open(layout.trader_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _wait_for_orphan(lock_fd, settings.stop_budget_s)
    page = Page.create(layout.page, settings.metric_slots, settings.scopes)
    latch = LatchStore(layout.latch, page)
    if settings.env == "sim" and not layout.latch.exists():
        latch.init(ts_ns=time.time_ns())
    state = latch.publish()
    missing = state.entry(LATCH_FILE)
    if missing is not None:
        log("latched", source=LATCH_FILE, reason=missing.reason, generation=state.generation)
    return House(page, latch, owner, lock_fd)


def note_trader(lock_fd: int, pid: int) -> None:
    """Write into the trader's lock file who holds it, for a later guard."""
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{pid} {_start_ticks(pid)}\n".encode(), 0)


def read_crashes(path: Path) -> list[float]:
    """Wall times of recent crashes. An unreadable history is an empty one: it only counts."""
    try:
        times = json.loads(path.read_text())["times_s"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not isinstance(times, list):
        return []
    return [float(one) for one in times if isinstance(one, int | float)]


def _claim(layout: Layout) -> PageOwner:
    """A look at the lock by another process takes it for a moment, so one refusal is no answer."""
    deadline_s = time.monotonic() + CLAIM_WAIT_S
    while (owner := PageOwner.claim(layout.page)) is None:
        if time.monotonic() >= deadline_s:
            raise BootError(f"another guard runs on {layout.runtime_dir}: stop it first")
        time.sleep(_POLL_S)
    return owner


def _wait_for_orphan(lock_fd: int, patience_s: float) -> None:
    if _lock_within(lock_fd, 0.0):
        return
    log("orphan_trader", waiting_s=patience_s)
    if _lock_within(lock_fd, patience_s):
        return
    pid = _holder(lock_fd)
    if pid:
        log("orphan_killed", pid=pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not _lock_within(lock_fd, KILL_WAIT_S):
        raise BootError("a trader of an earlier guard still runs and cannot be found: stop it")


def _lock_within(lock_fd: int, seconds: float) -> bool:
    deadline_s = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def _holder(lock_fd: int) -> int:
    """The process noted in the lock file, 0 where that id now belongs to another process."""
    words = os.pread(lock_fd, 100, 0).decode(errors="replace").split()
    if len(words) != 2 or not words[0].isdigit():
        return 0
    pid = int(words[0])
    return pid if _start_ticks(pid) == words[1] else 0


def _start_ticks(pid: int) -> str:
    """When the process started, by the kernel's count; tells a reused id from the same process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
