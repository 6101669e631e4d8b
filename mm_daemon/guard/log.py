"""The guard's own log: one JSON object a line on standard error, never a secret.

The guard cannot use the daemon's log, which is rendered in a process that it may have to restart.
"""

from __future__ import annotations

import json
import sys
import threading
import time

_LOCK = threading.Lock()


def log(event: str, **fields: str | float | bool | None) -> None:
    """Write one line. A reader that is gone must not stop the guard."""
    line = {"ts": round(time.time(), 6), "process": "guard", "event": event, **fields}
    text = json.dumps(line, default=str) + "\n"
    with _LOCK:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            return
