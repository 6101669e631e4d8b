"""File locks between processes that give up after a while instead of hanging.

A lock dies with its holder, but a holder can also be stopped by a signal or a debugger, and a kill
must not wait for it. So every taker names how long it waits and learns whether it got the lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.0002


@contextmanager
def file_lock(path: Path, timeout_s: float, *, must_open: bool = True) -> Iterator[bool]:
    """Hold the lock at `path` for the block; gives False where it could not be had in time.

    `must_open`: raise OSError where the lock file cannot be opened, rather than give False.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        if must_open:
            raise
        yield False
        return
    try:
        yield _acquire(fd, timeout_s)
    finally:
        os.close(fd)


def _acquire(fd: int, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_POLL_S)
        else:
            return True
