"""Refused acts on the audit log: a line each while strangers are few, one with a count while many.

Whoever reaches the port could else fill the disk that the journal needs, and push a kill's own line
out of what people look at.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mm_daemon.ops.answers import who
from mm_daemon.ops.auth import Actor
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.scribe import Scribe

TEXT_CHARS_MAX: Final = 200
"""Of what a stranger has written: a path or a sentence that quotes it."""
THROTTLED: Final = "throttled"


class RefusalLines:
    """The lines of one control API."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe
        self._count = 0
        self._counting: asyncio.Task[None] | None = None

    async def note(
        self, name: str, actor: Actor, path: str, refused: RefusedError, fields: dict[str, Any]
    ) -> None:
        """One refusal; returns when its line is written."""
        body = refused.body()
        body["error"] = body["error"][:TEXT_CHARS_MAX]
        await self._scribe.write_soon(
            f"{name}_refused",
            **who(actor),
            route=path[:TEXT_CHARS_MAX],
            **{**fields, **body, "status": refused.status},
        )

    def count(self, line_s: float) -> None:
        """One that was throttled; the line comes `line_s` after the first of them."""
        self._count += 1
        if self._counting is None:
            self._counting = asyncio.create_task(self._tell_after(line_s))

    async def close(self) -> None:
        """Tells of those that are not told of yet."""
        if self._counting is not None:
            self._counting.cancel()
            await self._tell()

    async def _tell_after(self, line_s: float) -> None:
        await asyncio.sleep(line_s)
        await self._tell()

    async def _tell(self) -> None:
        self._counting, count, self._count = None, self._count, 0
        await self._scribe.write_soon(THROTTLED, count=count, code=THROTTLED)
