"""One child process of the guard: started, watched for its end, started again after a pause.

Children run in sessions of their own, so Ctrl-C reaches the guard alone and the order of stopping
is the guard's. `mm_daemon.guard.exec_child` makes each die with the guard.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mm_daemon.guard.settings import ChildSettings

# The first restart is at once: one crash is an accident. A child that keeps failing before it was
# of any use is given room.
BACKOFF_S: Final = (0.0, 0.25, 1.0, 3.0, 10.0)
HEALTHY_AFTER_S: Final = 30.0
PROBE_TIMEOUT_S: Final = 0.05
_LAUNCHER: Final = Path(__file__).with_name("exec_child.py")


class Child:
    """A child and its restarts. Times are monotonic seconds, given by the caller."""

    def __init__(self, settings: ChildSettings) -> None:
        self.settings = settings
        self.starts = 0
        self.not_before_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._failures = 0
        self._waiting_since_s: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether a process runs that has not been reaped."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Its process id, 0 where none runs."""
        return 0 if self._process is None else self._process.pid

    def may_start(self, now_s: float) -> bool:
        """Whether its pause is over and what it waits for listens (or has been waited for)."""
        if self.is_running or now_s < self.not_before_s:
            return False
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if now_s - self._waiting_since_s >= self.settings.wait_s:
            return True
        return all(_listens(host, port) for host, port in self.settings.wait_tcp)

    def start(self, now_s: float, env: Mapping[str, str], fds: tuple[int, ...] = ()) -> None:
        """Start the process. Call from the main thread: the kernel ties it to the thread."""
        self.take_over(launch(self.settings, env, fds), now_s)

    def take_over(self, process: subprocess.Popen[bytes], now_s: float) -> None:
        """Begin a life with a process that was launched before."""
        assert self._process is None, self.settings.name
        self._process = process
        self.starts += 1
        self._started_s = now_s
        self._waiting_since_s = None

    def reap(self, now_s: float) -> int | None:
        """The exit code (negative: the signal) once the process has ended, and only once."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        if now_s - self._started_s >= HEALTHY_AFTER_S:
            self._failures = 0
        pause_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self.not_before_s = now_s + pause_s
        return code

    def note_healthy(self) -> None:
        """It has done its work in this life: its next end is a first one again."""
        self._failures = 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)


def launch(
    settings: ChildSettings,
    env: Mapping[str, str],
    fds: tuple[int, ...] = (),
    *,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child's program. Call from the main thread: the kernel ties it to the thread."""
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(settings.nice)]
    return subprocess.Popen(  # noqa: S603 - the program is the configuration's
        [*launcher, *settings.argv],
        env={**env, **settings.env},
        stdin=stdin,
        pass_fds=fds,
        start_new_session=True,
    )


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False
