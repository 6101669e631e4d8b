"""What handlers share: who calls, what is noted of a request, how an answer is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from mm_daemon.ops.auth import Actor

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)


@dataclass
class Note:
    """What a handler has understood of its request; goes onto the line of a refusal."""

    fields: dict[str, Any] = field(default_factory=dict)


NOTE: web.RequestKey[Note] = web.RequestKey("note", Note)


def json_response(value: Any, status: int = 200) -> web.Response:
    """A JSON answer; what is not a number (no theo, no market) becomes null."""
    return web.Response(
        body=msgspec.json.encode(value), content_type="application/json", status=status
    )


def who(actor: Actor) -> dict[str, Any]:
    """An actor on an audit line."""
    return {
        "actor": actor.name,
        "role": actor.role.name.lower(),
        "token": actor.fingerprint,
        "source": actor.peer,
    }
