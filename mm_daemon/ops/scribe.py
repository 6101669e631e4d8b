"""Writes audit lines: every line with both clocks, the build and the configuration it ran under.

What the loop has written goes through one thread that is the log's own, in the order of asking: a
disk takes its time, this loop also serves kills, and nobody else's work stands before their lines.
Who stops waiting for a line does not take it back: it is written as soon as the disk lets it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from mm_daemon.ops.audit import AuditError, AuditLog


class Scribe:
    """One log and what is the same on all of its lines."""

    def __init__(
        self,
        audit: AuditLog,
        *,
        build: dict[str, Any],
        config_sha256: str,
        wall_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.audit = audit
        self._build = build
        self._config_sha256 = config_sha256
        self._wall_ns = wall_ns
        self._mono_ns = mono_ns
        self._thread = ThreadPoolExecutor(1, "audit")

    def write(self, act: str, **fields: Any) -> None:
        """Raises: AuditError where the line could not be written; nothing of it stands then."""
        self.audit.append(self._entry(act, fields))

    def try_write(self, act: str, **fields: Any) -> str:
        """For lines that nothing may wait for: what went wrong, empty = nothing."""
        try:
            self.write(act, **fields)
        except AuditError as error:
            return str(error)
        return ""

    async def write_in_turn(self, act: str, **fields: Any) -> None:
        """`write` in the log's thread, with the time of this call. Raises: AuditError."""
        append = partial(self.audit.append, self._entry(act, fields))
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._thread, append))

    async def write_soon(self, act: str, **fields: Any) -> str:
        """The same for lines that nothing may wait for: what went wrong, empty = nothing."""
        try:
            await self.write_in_turn(act, **fields)
        except AuditError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Writes what was asked for, then closes the log."""
        self._thread.shutdown()
        self.audit.close()

    def _entry(self, act: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "act": act,
            "ts_ns": self._wall_ns(),
            "mono_ns": self._mono_ns(),
            "build": self._build,
            "config_sha256": self._config_sha256,
            **fields,
        }
