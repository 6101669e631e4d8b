"""Lines for a reader that may stop reading: whoever writes them never waits.

A log's reader (a service manager, a container's log driver, `tee`) that hangs fills the pipe, and a
write into a full pipe waits for ever. So lines go through a bounded queue to a thread that may. A
line that finds the queue full is dropped, the newest first: what began the trouble is worth more
than its repeats. How many were dropped is said in their place once the reader reads again.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections import deque
from typing import Final

STDERR: Final = 2
LINES_MAX: Final = 2000
CLOSE_S: Final = 1.0


class LinePipe:
    """Writes lines to one file descriptor. For any number of threads, not for signal handlers."""

    def __init__(self, fd: int, process: str, lines_max: int = LINES_MAX) -> None:
        self._fd = fd
        self._process = process
        self._lines_max = lines_max
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._is_closing = False
        self._changed = threading.Condition()
        # A daemon: one that waits for a reader keeps no process from ending.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def waiting(self) -> int:
        """How many lines the reader has not taken yet."""
        return len(self._lines)

    def put(self, line: str) -> None:
        """Hand over one line, without its end."""
        with self._changed:
            if len(self._lines) >= self._lines_max:
                self._dropped += 1
                return
            if self._dropped:
                self._lines.append(self._gap())
                self._dropped = 0
            self._lines.append(f"{line}\n".encode(errors="replace"))
            self._changed.notify()

    def close(self, patience_s: float = CLOSE_S) -> None:
        """Write what is left, as far as the reader takes it in this time."""
        with self._changed:
            if self._dropped:
                self._lines.append(self._gap())
                self._dropped = 0
            self._is_closing = True
            self._changed.notify()
        self._thread.join(patience_s)

    def _gap(self) -> bytes:
        gap = {
            "ts_ns": time.time_ns(),
            "process": self._process,
            "event": "log_lines_dropped",
            "level": "warning",
            "count": self._dropped,
        }
        return f"{json.dumps(gap)}\n".encode()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._is_closing)
                if not self._lines:
                    return
                line = self._lines.popleft()
            try:
                self._write(line)
            except OSError:
                continue  # a reader that is gone must not stop what is logged

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._fd, line) :]
