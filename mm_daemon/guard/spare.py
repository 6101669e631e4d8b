"""A second trader process that has everything loaded, compiled and warmed, and waits to be the
next.

It takes the seconds of a start out of a recovery. It waits with nothing in its hands: no page, no
session, no key to the venue's door opened; the guard gives it all of that as one line of JSON on
its standard input, and from that moment it is the trader. Where there is none, or it has died, a
trader is started from nothing as ever: a spare is never needed, and its end is no crash.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from mm_daemon.guard.child import launch
from mm_daemon.guard.log import log
from mm_daemon.guard.settings import ChildSettings

SPARE_VARIABLE: Final = "MM_SPARE"
RETRY_S: Final = 30.0
"""A spare that ended by itself is not replaced sooner: whatever ended it may still be so."""


class SpareTrader:
    """One spare or none. Times are monotonic seconds, given by the caller."""

    def __init__(
        self,
        settings: ChildSettings,
        environment: Mapping[str, str],
        fd: int,
        delay_s: float | None,
    ) -> None:
        """`fd` is inherited by it as by every trader; `delay_s` None: never keep one."""
        self._settings = settings
        self._environment = {**environment, SPARE_VARIABLE: "1"}
        self._fd = fd
        self._delay_s = delay_s
        self._process: subprocess.Popen[bytes] | None = None
        self._due_s: float | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 where there is none."""
        return 0 if self._process is None else self._process.pid

    def mind(self, now_s: float, *, is_wanted: bool) -> None:
        """Keeps one while it is wanted, from a while after it began to be. Call from the main
        thread: the kernel ties the process to the thread that starts it."""
        self._reap(now_s)
        if self._delay_s is None or self._process is not None:
            return
        if not is_wanted:
            self._due_s = None
        elif self._due_s is None:
            self._due_s = now_s + self._delay_s
        elif now_s >= self._due_s:
            self._process = launch(
                self._settings, self._environment, (self._fd,), stdin=subprocess.PIPE
            )
            log("spare_started", pid=self._process.pid)

    def take(self, order: Mapping[str, object]) -> subprocess.Popen[bytes] | None:
        """Makes the spare the trader and lets it go; None where there is none that listens."""
        process, self._process = self._process, None
        self._due_s = None
        if process is None:
            return None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.close()
        except OSError:
            with suppress(OSError):
                process.stdin.close()
        else:
            return process
        log("spare_unusable", pid=process.pid)
        _end(process)
        return None

    def drop(self) -> None:
        """End it; it holds nothing that would have to be put down in order."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _reap(self, now_s: float) -> None:
        process = self._process
        if process is None or (code := process.poll()) is None:
            return
        log("spare_ended", code=code)
        self._process = None
        self._due_s = now_s + RETRY_S
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
