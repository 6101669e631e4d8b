"""The reading half of the control API: views, status, audit lines, the stream of snapshots.

Nothing here changes anything, and no GET does anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from mm_daemon.domain.permission import permission_names, task_names
from mm_daemon.domain.views import VIEWS
from mm_daemon.ipc.page import GENERATION_SEEN, SWEPT_GENERATION, LeaseState
from mm_daemon.ops.answers import ACTOR, Handler, json_response
from mm_daemon.ops.audit import tail
from mm_daemon.ops.latch_watch import shown
from mm_daemon.ops.openapi import document
from mm_daemon.ops.surroundings import Surroundings
from mm_daemon.ops.trader_client import TraderAwayError

STREAM_INTERVAL_S: Final = 1.0
STREAM_VIEWS: Final = ("greeks", "pnl")
AUDIT_LINES: Final = 200


class Reading:
    """Handlers by route name."""

    def __init__(
        self,
        around: Surroundings,
        waiting_resets: Callable[[], list[dict[str, Any]]],
        waiting_adoptions: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self._around = around
        self._waiting_adoptions = waiting_adoptions
        self._waiting_resets = waiting_resets

    def handlers(self) -> Mapping[str, Handler]:
        return {
            **{name: self._view(name) for name in VIEWS},
            "status": self._status,
            "audit": self._audit,
            "stream": self._stream,
            "openapi": self._openapi,
        }

    def _view(self, name: str) -> Handler:
        async def handle(_: web.Request) -> web.Response:
            return json_response(await self._around.trader.view(name))

        return handle

    async def _status(self, _: web.Request) -> web.Response:
        """Answers also without a trader: the page knows the latch."""
        return json_response(await self._snapshot())

    async def _snapshot(self) -> dict[str, Any]:
        around = self._around
        page = around.page
        latch = around.latch.state()
        mask = latch.effective()
        answer: dict[str, Any] = {
            "trader": page.trader_state.name.lower(),
            "boot": page.boot_state.name.lower(),
            "generation": page.generation,
            "generation_seen": page.words[GENERATION_SEEN],
            "swept_generation": page.words[SWEPT_GENERATION],
            "permission": permission_names(mask.permission),
            "tasks": task_names(mask.tasks),
            "latched_by": {
                f"{one.source}@{one.scope}" if one.scope else one.source: one.reason
                for one in latch.entries
            },
            "latches": [shown(one) for one in latch.entries],
            "resets_waiting": self._waiting_resets(),
            "adoptions_waiting": self._waiting_adoptions(),
            "audit_problem": around.audit.problem,
            "tokens_problem": around.tokens.problem,
            "build": around.identity.build,
            "lease": around.lease(),
        }
        try:
            view = await around.trader.view("status")
        except TraderAwayError as error:
            answer["trader_error"] = str(error)
            if page.lease_state is LeaseState.STANDBY:
                answer["state"] = "standby"
            return answer
        return {**view, **answer}

    async def _audit(self, _: web.Request) -> web.Response:
        lines = await asyncio.to_thread(tail, self._around.audit.path, AUDIT_LINES)
        return json_response({"entries": lines})

    async def _openapi(self, _: web.Request) -> web.Response:
        return json_response(document(str(self._around.identity.build.get("version", ""))))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: one snapshot a second; a slow reader gets fewer, never a queue. It
        ends with the token that opened it."""
        tokens, actor = self._around.tokens, request[ACTOR]
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        sequence = 0
        while True:
            snapshot: dict[str, Any] = {"sequence": sequence, "status": await self._snapshot()}
            for name in STREAM_VIEWS:
                try:
                    snapshot[name] = await self._around.trader.view(name)
                except TraderAwayError:
                    snapshot[name] = None
            event = f"id: {sequence}\ndata: {msgspec.json.encode(snapshot).decode()}\n\n"
            try:
                await response.write(event.encode())
            except ConnectionError:
                return response
            sequence += 1
            await asyncio.sleep(STREAM_INTERVAL_S)
            await tokens.refresh()
            if not tokens.knows(actor):
                return response
