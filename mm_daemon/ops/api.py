"""The control API: views for anybody with a token, halts for many, resets for few, all audited.

Who calls is settled before any handler runs: the token or the kernel's word for a peer on the unix
socket, the role that the table of routes asks for, and that no browser acts for another site. Every
refusal has its code, its sentence, and a line on the audit log where it was an act.

Reading is in `ops.reading`, kills and knobs in `ops.acting`, resets in `ops.reset_desk`.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import replace
from typing import Final

from aiohttp import web

from mm_daemon.ops.acting import Acting
from mm_daemon.ops.answers import ACTOR, NOTE, Handler, Note, json_response
from mm_daemon.ops.auth import Actor, Role, TokenFault
from mm_daemon.ops.bodies import BODY_BYTES_MAX
from mm_daemon.ops.reading import Reading
from mm_daemon.ops.refusal import MEANINGS, RefusedError
from mm_daemon.ops.refusal_lines import THROTTLED, RefusalLines
from mm_daemon.ops.routes import BY_PLACE, ROUTES, Route
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.surroundings import Surroundings
from mm_daemon.ops.token_file import KILL_PATIENCE_S, PATIENCE_S
from mm_daemon.ops.trader_client import TraderAwayError

KILL_PATH: Final = "/v1/kill"
ANONYMOUS: Final = Actor("anonymous", Role.VIEW)
NOBODY: Final = Actor("unknown", Role.VIEW)
_CODES: Final = {404: "not_found", 405: "wrong_method", 413: "large_body"}
_NS_PER_S: Final = 1e9


class ControlApi:
    """Handlers over one daemon's surroundings."""

    def __init__(self, around: Surroundings, scribe: Scribe) -> None:
        self._around = around
        self._refusals = RefusalLines(scribe)
        self._acting = Acting(around, scribe)
        acting = self._acting
        self._reading = Reading(around, acting.resets.waiting, acting.adoptions.waiting)

    def application(self, more: dict[str, Handler]) -> web.Application:
        """`more`: handlers of the routes that are not this API's own, by name."""
        handlers = {**self._reading.handlers(), **self._acting.handlers(), **more}
        middlewares = [self._errors, self._authenticate]
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=middlewares)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, handlers[route.name])
        app.on_cleanup.append(self._close)
        return app

    async def _close(self, _: web.Application) -> None:
        await self._acting.close()
        await self._refusals.close()

    # -- refusals ------------------------------------------------------------------------------

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[ACTOR] = replace(NOBODY, peer=_where(request))
        request[NOTE] = Note()
        try:
            return await handler(request)
        except RefusedError as error:
            refused = error
        except TraderAwayError as error:
            refused = RefusedError("trader_away", str(error))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            refused = RefusedError(_CODES.get(error.status, "bad_request"), error.reason)
        if request.method == "POST":
            await self._note(request, refused)
        return json_response(refused.body(), refused.status)

    async def _note(self, request: web.Request, refused: RefusedError) -> None:
        if refused.code == THROTTLED:
            self._refusals.count(self._around.throttled_line_s)
            return
        route = _route(request)
        name = route.name if route is not None else "request"
        fields = request[NOTE].fields
        await self._refusals.note(name, request[ACTOR], request.path, refused, fields)

    # -- who calls -----------------------------------------------------------------------------

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_kill = request.path == KILL_PATH
        await self._around.tokens.refresh(KILL_PATIENCE_S if is_kill else PATIENCE_S)
        request[ACTOR] = actor = self._actor(request)
        route = _route(request)
        if route is not None and actor.role < route.role:
            raise RefusedError(
                "wrong_role",
                f"{actor.name} has role {actor.role.name.lower()}, {route.path} needs"
                f" {route.role.name.lower()}",
            )
        if request.method != "GET":
            _require_same_origin(request)
        return await handler(request)

    def _actor(self, request: web.Request) -> Actor:
        """Raises: RefusedError where nobody is known to call."""
        tokens, peer = self._around.tokens, _peer(request)
        header = request.headers.get("Authorization", "")
        found = tokens.find(header, self._around.wall_ns() / _NS_PER_S)
        if isinstance(found, Actor) and not (
            peer is not None and request.path == KILL_PATH and found.role < Role.HALT
        ):
            return replace(found, peer=_where(request))
        # On the unix socket the kernel's word is enough for a kill, whatever token came with it.
        if peer is not None and (found is TokenFault.MISSING or request.path == KILL_PATH):
            return peer
        is_reading = found is TokenFault.MISSING and request.method == "GET"
        if is_reading and self._around.is_open:
            return replace(ANONYMOUS, peer=_where(request))
        assert isinstance(found, TokenFault), found
        if peer is None and not is_reading:
            self._note_failure()
        raise RefusedError(found.value, MEANINGS[found.value][1])

    def _note_failure(self) -> None:
        """A valid token is never throttled, nor who has the kernel's word: this is asked only
        after a wrong token, or an act without one."""
        tokens, now_s = self._around.tokens, self._around.mono_ns() / _NS_PER_S
        is_throttled = tokens.is_throttled(now_s)
        tokens.note_failure(now_s)
        if is_throttled:
            raise RefusedError(THROTTLED, "too many without a good token: wait a minute")


def _route(request: web.Request) -> Route | None:
    resource = request.match_info.route.resource
    if resource is None:
        return None
    return BY_PLACE.get((request.method, resource.canonical))


def _credentials(request: web.Request) -> tuple[int, int] | None:
    """(user, process) at the other end of the unix socket, by the kernel's word."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", packed)
    return uid, pid


def _peer(request: web.Request) -> Actor | None:
    found = _credentials(request)
    if found is None or found[0] not in (0, os.getuid()):
        return None
    return Actor(f"uid{found[0]}", Role.ADMIN, peer=_where(request))


def _where(request: web.Request) -> str:
    found = _credentials(request)
    return f"unix uid={found[0]} pid={found[1]}" if found else str(request.remote or "")


def _require_same_origin(request: web.Request) -> None:
    """No browser may act for another site: cross-site fetches are refused by their own headers."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", "")
    if site not in ("none", "same-origin") or (origin and origin.split("//")[-1] != request.host):
        raise RefusedError("wrong_origin", f"cross-site request from {origin or site!r}")
