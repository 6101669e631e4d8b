"""The control API: views for anybody with a token, halts for many, resets for few, all audited.

A kill is done before its body is even looked at for niceties: latch first, everything else after.
It answers when the trader's gate has published that it saw the new generation, or says that it has
not. Every refusal has a status, a sentence, and a line in the audit log where it was an act.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.permission import (
    HARD_STOP,
    LEVEL_DEFAULT,
    OPERATOR,
    PRESETS,
    LatchRefused,
    permission_names,
    task_names,
)
from mm_daemon.domain.views import VIEWS
from mm_daemon.ipc.latch import LatchError, LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import GENERATION_SEEN, SWEPT_GENERATION, LeaseState, Page
from mm_daemon.ipc.wake import wake
from mm_daemon.ops.audit import AuditLog
from mm_daemon.ops.auth import Actor, Role, TokenStore
from mm_daemon.ops.trader_client import TraderAwayError, TraderClient

BODY_BYTES_MAX = 64 * 1024
BODY_TIMEOUT_S = 2.0
SEEN_TIMEOUT_S = 2.0
SEEN_POLL_S = 0.001
RESET_REASON_CHARS_MIN = 10
STREAM_INTERVAL_S = 1.0
STREAM_VIEWS = ("status", "greeks", "pnl")
SCOPE_FIRM = "firm"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)


@dataclass
class Surroundings:
    """What the API acts on."""

    page: Page
    latch: LatchStore
    layout: Layout
    audit: AuditLog
    tokens: TokenStore
    trader: TraderClient
    build: dict[str, Any]
    is_open: bool
    """`sim`: reading needs no token from loopback, so that the console works out of the box."""
    lease: Callable[[], dict[str, Any]] = dict
    """How this instance stands with the right to trade its shard."""


class ControlApi:
    """Handlers over one daemon's surroundings."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=BODY_BYTES_MAX, middlewares=[self._errors, self._authenticate]
        )
        for name in VIEWS:
            if name != "status":
                app.router.add_get(f"/v1/{name}", self._view(name))
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/audit", self._audit)
        app.router.add_get("/v1/stream", self._stream)
        app.router.add_post("/v1/kill", self._kill)
        app.router.add_post("/v1/reset", self._reset)
        app.router.add_post("/v1/params", self._params)
        return app

    # -- middlewares ------------------------------------------------------------------------------

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _json({"error": error.text or error.reason}, status=error.status)
        except TraderAwayError as error:
            return _json({"error": str(error)}, status=503)

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        actor = self._peer(request) or self._around.tokens.find(
            request.headers.get("Authorization", "")
        )
        if actor is None and self._around.is_open and request.method == "GET":
            actor = Actor("anonymous", Role.VIEW)
        if actor is None:
            now_s = time.monotonic()
            throttled = self._around.tokens.is_throttled(now_s)
            self._around.tokens.note_failure(now_s)
            if throttled:
                raise web.HTTPTooManyRequests(text="too many wrong tokens: wait a minute")
            raise web.HTTPUnauthorized(text="a bearer token is needed")
        if request.method == "POST":
            _require_same_origin(request)
        request[ACTOR] = actor
        return await handler(request)

    def _peer(self, request: web.Request) -> Actor | None:
        """A caller on the unix socket is who the kernel says."""
        connection = request.transport.get_extra_info("socket") if request.transport else None
        if connection is None or connection.family != socket.AF_UNIX:
            return None
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", packed)
        if uid not in (0, os.getuid()):
            return None
        return Actor(f"uid{uid}/pid{pid}", Role.ADMIN)

    # -- reading ----------------------------------------------------------------------------------

    def _view(self, name: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            _require(request, Role.VIEW)
            return _json(await self._around.trader.view(name))

        return handle

    async def _status(self, request: web.Request) -> web.Response:
        """Answers also without a trader: the page knows the latch."""
        _require(request, Role.VIEW)
        return _json(await self.status())

    async def status(self) -> dict[str, Any]:
        page = self._around.page
        latch = self._around.latch.state()
        mask = latch.effective()
        answer: dict[str, Any] = {
            "trader": page.trader_state.name.lower(),
            "boot": page.boot_state.name.lower(),
            "generation": page.generation,
            "generation_seen": page.words[GENERATION_SEEN],
            "swept_generation": page.words[SWEPT_GENERATION],
            "permission": permission_names(mask.permission),
            "tasks": task_names(mask.tasks),
            "latched_by": {one.source: one.reason for one in latch.entries},
            "build": self._around.build,
            "lease": self._around.lease(),
        }
        try:
            view = await self._around.trader.view("status")
        except TraderAwayError as error:
            answer["trader_error"] = str(error)
            if page.lease_state is LeaseState.STANDBY:
                answer["state"] = "standby"
            return answer
        return {**view, **answer}

    async def _audit(self, request: web.Request) -> web.Response:
        _require(request, Role.VIEW)
        return _json({"entries": self._around.audit.tail(200)})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: one snapshot a second; a slow reader gets fewer, never a queue."""
        _require(request, Role.VIEW)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        sequence = 0
        while True:
            snapshot: dict[str, Any] = {"sequence": sequence, "status": await self.status()}
            for name in STREAM_VIEWS[1:]:
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

    # -- acting -----------------------------------------------------------------------------------

    async def _kill(self, request: web.Request) -> web.Response:
        actor = _require(request, Role.HALT)
        body = await _body(request, optional=True)
        level = str(body.get("level") or LEVEL_DEFAULT)
        reason = str(body.get("reason") or "no reason given")
        scope = str(body.get("scope") or SCOPE_FIRM)
        if level not in PRESETS or scope != SCOPE_FIRM:
            self._note(request, "kill_refused", level=level, scope=scope, reason=reason)
            raise web.HTTPBadRequest(
                text=f"expected level of {list(PRESETS)} and scope {SCOPE_FIRM!r};"
                f" found level {level!r}, scope {scope!r}"
            )
        started_s = time.monotonic()
        latch = self._around.latch
        generation = latch.raise_page(OPERATOR, PRESETS[level], reason, ts_ns=time.time_ns())
        wake(self._around.layout.wake)
        seen = asyncio.create_task(self._wait_seen(generation))
        problem = await asyncio.to_thread(self._persist)
        if level == HARD_STOP:
            problem = problem or await asyncio.to_thread(self._block_start, reason)
        is_seen = await seen
        self._note(request, "kill", level=level, scope=scope, reason=reason, generation=generation)
        return _json(
            {
                "generation": generation,
                "level": level,
                "by": actor.name,
                "state": "settling" if is_seen else "unseen",
                "durable": problem == "",
                "problem": problem,
                "elapsed_ms": (time.monotonic() - started_s) * 1e3,
            },
            status=200 if is_seen and not problem else 503,
        )

    async def _reset(self, request: web.Request) -> web.Response:
        actor = _require(request, Role.RISK)
        body = await _body(request)
        generation, reason = body.get("generation"), str(body.get("reason") or "")
        if not isinstance(generation, int) or len(reason) < RESET_REASON_CHARS_MIN:
            self._note(request, "reset_refused", reason=reason)
            raise web.HTTPBadRequest(
                text=f"reset needs `generation` (whole number, as seen in status) and `reason` of"
                f" {RESET_REASON_CHARS_MIN} characters or more"
            )
        status = await self._around.trader.view("status")
        if not status["is_reconciled"] or status["unknown_orders"]:
            self._note(request, "reset_refused", reason=reason, generation=generation)
            raise web.HTTPConflict(
                text=f"not clean: reconciled {status['is_reconciled']}, unknown orders"
                f" {status['unknown_orders']}: wait for a clean reconcile"
            )
        try:
            result = await asyncio.to_thread(self._around.latch.reset, generation)
        except LatchError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        if isinstance(result, LatchRefused):
            self._note(request, "reset_refused", reason=reason, generation=generation)
            raise web.HTTPConflict(text=f"{result.code.value}: {result.detail}")
        wake(self._around.layout.wake)
        await self._around.trader.notify_reset(result.generation)
        self._note(request, "reset", reason=reason, generation=result.generation)
        return _json(
            {
                "generation": result.generation,
                "by": actor.name,
                "state": ", ".join(permission_names(result.effective().permission)) or "latched",
            }
        )

    async def _params(self, request: web.Request) -> web.Response:
        actor = _require(request, Role.TRADER)
        body = await _body(request)
        try:
            knob = TraderKnob(
                name=str(body["name"]),
                underlying=str(body.get("underlying", "")),
                expiry_ns=int(body.get("expiry_ns", 0)),
                instrument=str(body.get("instrument", "")),
                value=float(body["value"]),
                actor=actor.name,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=f"expected name and value: {error!r}") from error
        await self._around.trader.knob(knob)
        self._note(request, "params", name=knob.name, value=knob.value, reason=knob.underlying)
        return _json({"accepted": True})

    def _persist(self) -> str:
        try:
            self._around.latch.persist()
        except LatchError as error:
            return str(error)
        return ""

    def _block_start(self, reason: str) -> str:
        """The guard sees the block, stops the daemon in order and starts none before it is gone."""
        try:
            self._around.latch.block_start(reason)
        except OSError as error:
            return str(error)
        return ""

    async def _wait_seen(self, generation: int) -> bool:
        """Until the gate published that it saw the generation, or the trader is gone."""
        words = self._around.page.words
        deadline_s = time.monotonic() + SEEN_TIMEOUT_S
        while words[GENERATION_SEEN] < generation:
            if time.monotonic() > deadline_s:
                return False
            await asyncio.sleep(SEEN_POLL_S)
        return True

    def _note(self, request: web.Request, act: str, **fields: Any) -> None:
        actor = request[ACTOR]
        self._around.audit.append(
            {
                "act": act,
                "actor": actor.name,
                "role": actor.role.name.lower(),
                "source": request.remote or "unix",
                "route": request.path,
                "ts_ns": time.time_ns(),
                "mono_ns": time.monotonic_ns(),
                "build": self._around.build,
                **fields,
            }
        )


def _json(value: Any, status: int = 200) -> web.Response:
    """A JSON answer; what is not a number (no theo, no market) becomes null."""
    return web.Response(
        body=msgspec.json.encode(value), content_type="application/json", status=status
    )


def _require(request: web.Request, role: Role) -> Actor:
    actor = request[ACTOR]
    if actor.role < role:
        raise web.HTTPForbidden(
            text=f"{actor.name} has role {actor.role.name.lower()}, {request.path} needs"
            f" {role.name.lower()}"
        )
    return actor


def _require_same_origin(request: web.Request) -> None:
    """No browser may act for another site: cross-site fetches are refused by their own headers."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", "")
    if site not in ("none", "same-origin") or (origin and origin.split("//")[-1] != request.host):
        raise web.HTTPForbidden(text=f"cross-site request from {origin or site!r}")


async def _body(request: web.Request, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object of a request, within the size and time bounds.

    `optional`: whatever is wrong with the body, the act goes on without it (a kill must).
    """
    try:
        return await _strict_body(request)
    except web.HTTPException:
        if optional:
            return {}
        raise


async def _strict_body(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected Content-Type: application/json")
    try:
        body = json.loads(await asyncio.wait_for(request.text(), BODY_TIMEOUT_S))
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the body did not arrive in time") from error
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="expected a JSON object")
    return body
