"""Writes audit lines: every line with both clocks, the build and the configuration it ran under."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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

    def write(self, act: str, **fields: Any) -> None:
        """Raises: AuditError where the line could not be written; nothing of it stands then."""
        self.audit.append(
            {
                "act": act,
                "ts_ns": self._wall_ns(),
                "mono_ns": self._mono_ns(),
                "build": self._build,
                "config_sha256": self._config_sha256,
                **fields,
            }
        )

    def try_write(self, act: str, **fields: Any) -> str:
        """For lines that nothing may wait for: what went wrong, empty = nothing."""
        try:
            self.write(act, **fields)
        except AuditError as error:
            return str(error)
        return ""

    async def write_soon(self, act: str, **fields: Any) -> str:
        """The same in a thread: a disk takes its time, and this loop also serves kills."""
        return await asyncio.to_thread(self.try_write, act, **fields)
