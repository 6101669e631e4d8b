"""What comes in: bodies within their bounds, and the words of a request as values.

A body is one JSON object of at most `BODY_BYTES_MAX`, whole within its time, of the stated type,
without unknown fields and without NaN. A kill alone is not held to that: see `kill_order`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web

from mm_daemon.domain.permission import HARD_STOP, LEVEL_DEFAULT, PRESETS, WHOLE
from mm_daemon.ops.refusal import RefusedError

BODY_BYTES_MAX: Final = 64 * 1024
KILL_BODY_S: Final = 0.1
"""A kill waits no longer for its own body: the reason may be told later, the cancel may not."""
RESET_REASON_CHARS_MIN: Final = 10
WHOLE_NAMES: Final = ("firm", "venue", "account")
"""One daemon serves one account of one venue, so these three are the same: all of it."""
NO_REASON: Final = "no reason given"

Reason = Annotated[str, msgspec.Meta(min_length=RESET_REASON_CHARS_MIN, max_length=1000)]
Remark = Annotated[str, msgspec.Meta(max_length=1000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class KillBody(msgspec.Struct, frozen=True):
    """As documented; what a kill makes of a body that is not like this, see `kill_order`."""

    level: str = LEVEL_DEFAULT
    scope: str = WHOLE_NAMES[0]
    reason: str = NO_REASON


class ResetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without a scope everything is lifted that a reset may lift; the whole daemon's scopes lift
    only what holds for all of it."""

    generation: Annotated[int, msgspec.Meta(ge=0)]
    reason: Reason
    scope: Annotated[str, msgspec.Meta(max_length=64)] = ""


class AdoptBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latch's generation and the difference (`adoption` in status) that were seen."""

    generation: Annotated[int, msgspec.Meta(ge=0)]
    difference_id: Name
    reason: Reason


class ApproveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    request_id: Name
    reason: Remark = ""


class ParamsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    value: float
    unit: Name
    """The knob's own, so that nobody types a number that means something else."""
    underlying: Annotated[str, msgspec.Meta(max_length=64)] = ""
    expiry_ns: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    instrument: Annotated[str, msgspec.Meta(max_length=64)] = ""
    reason: Remark = ""


@dataclass(frozen=True)
class KillOrder:
    """A kill as it will be carried out."""

    level: str
    scope: str
    """`WHOLE` or an underlying's name."""
    scope_name: str
    """As the caller said it."""
    reason: str
    fault: str
    """What was wrong with the body, for the answer and the audit line; empty = nothing."""


T = TypeVar("T", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[T], timeout_s: float) -> tuple[T, bytes]:
    """The body as a value, and its bytes. Raises RefusedError."""
    raw = await _raw(request, timeout_s)
    try:
        return msgspec.json.decode(raw, type=kind), raw
    except msgspec.ValidationError as error:
        raise RefusedError("bad_body", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_json", f"not JSON: {error}") from error


async def kill_order(request: web.Request, scopes: tuple[str, ...]) -> KillOrder:
    """What is to be killed. Whatever is wrong with the body, the kill goes on at the default level
    for everything; a level or a scope that is not known is refused, because it might be a smaller
    one that was meant."""
    fields, fault = await _kill_fields(request)
    level = str(fields.get("level") or LEVEL_DEFAULT)
    name = str(fields.get("scope") or WHOLE_NAMES[0])
    reason = str(fields.get("reason") or NO_REASON)
    if level not in PRESETS:
        raise RefusedError("bad_level", f"expected a level of {list(PRESETS)}, found {level!r}")
    scope = scope_of(name, scopes)
    if level == HARD_STOP and scope != WHOLE:
        raise RefusedError(
            "bad_scope", f"{HARD_STOP} ends the daemon: it takes no scope but the whole"
        )
    return KillOrder(level, scope, name, reason, fault)


def scope_of(name: str, scopes: tuple[str, ...]) -> str:
    """The latch's scope of a name. Raises RefusedError naming those there are."""
    if name in WHOLE_NAMES:
        return WHOLE
    if name in scopes:
        return name
    raise RefusedError(
        "bad_scope", f"expected a scope of {[*WHOLE_NAMES, *scopes]}, found {name!r}"
    )


async def _kill_fields(request: web.Request) -> tuple[dict[str, Any], str]:
    if not request.body_exists:
        return {}, ""
    try:
        fields = msgspec.json.decode(await _raw(request, KILL_BODY_S))
    except (RefusedError, msgspec.DecodeError, UnicodeDecodeError, web.HTTPException) as error:
        return {}, f"body not used: {error}"
    if not isinstance(fields, dict):
        return {}, "body not used: not a JSON object"
    return fields, ""


async def _raw(request: web.Request, timeout_s: float) -> bytes:
    if request.content_type != "application/json":
        raise RefusedError("not_json_type", "expected Content-Type: application/json")
    try:
        return await asyncio.wait_for(request.read(), timeout_s)
    except TimeoutError as error:
        raise RefusedError("slow_body", f"the body was not there within {timeout_s:g} s") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise RefusedError("large_body", f"a body has at most {BODY_BYTES_MAX} bytes") from error
