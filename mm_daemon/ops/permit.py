"""The permit without Redis: whoever holds the lock file renews a deadline in the shared page.

The deadline is monotonic, so a clock step cannot extend it, and it is renewed four times as often
as it runs out. When this process dies, hangs or loses the lock, it simply runs out.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from mm_daemon.ipc.page import PERMIT_DEADLINE_MONO_NS, Page

RENEWALS_PER_PERMIT = 4


class LocalPermit:
    """One holder on this host, by an exclusive lock."""

    def __init__(
        self, lock_path: Path, page: Page, permit_s: float, mono_ns: Callable[[], int]
    ) -> None:
        self._lock_path = lock_path
        self._page = page
        self._permit_s = permit_s
        self._mono_ns = mono_ns
        self._fd = -1

    @property
    def is_held(self) -> bool:
        return self._fd >= 0

    async def run(self) -> None:
        """Takes the lock, waiting for a holder before us to end, then renews until cancelled."""
        try:
            while True:
                if self.is_held or self._take():
                    self.renew()
                await asyncio.sleep(self._permit_s / RENEWALS_PER_PERMIT)
        finally:
            self._release()

    def renew(self) -> None:
        """Moves the deadline to one permit from now."""
        deadline_ns = self._mono_ns() + int(self._permit_s * 1e9)
        self._page.words[PERMIT_DEADLINE_MONO_NS] = deadline_ns

    def _take(self) -> bool:
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def _release(self) -> None:
        if self._fd >= 0:
            self._page.words[PERMIT_DEADLINE_MONO_NS] = 0
            os.close(self._fd)
            self._fd = -1
