"""The guard's own log: one JSON object a line on standard error, never a secret.

The guard cannot use the daemon's log, which is rendered in a process that it may have to restart.
Whoever logs here never waits: a reader of the log that hangs must not keep the guard from its acts.
"""

from __future__ import annotations

import functools
import json
import time

from mm_daemon.ipc.line_pipe import STDERR, LinePipe


def log(event: str, **fields: str | float | bool | None) -> None:
    """Hand over one line."""
    line = {"ts": round(time.time(), 6), "process": "guard", "event": event, **fields}
    _pipe().put(json.dumps(line, default=str))


@functools.cache
def _pipe() -> LinePipe:
    return LinePipe(STDERR, "guard")
