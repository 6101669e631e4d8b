"""The control API as a table: every path, who may call it, what it takes, how it may refuse.

The application is built from it and so is the OpenAPI document; the role of a caller is checked
against it before a handler runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from mm_daemon.domain.views import VIEWS
from mm_daemon.ops.auth import Role
from mm_daemon.ops.bodies import AdoptBody, ApproveBody, KillBody, ParamsBody, ResetBody
from mm_daemon.ops.refusal import (
    ADOPTION_CODES,
    BODY_CODES,
    IDENTITY_CODES,
    KEY_CODES,
    TERMS_CODES,
)


@dataclass(frozen=True)
class Route:
    """One method of one path."""

    name: str
    method: str
    path: str
    role: Role
    summary: str
    codes: tuple[str, ...] = ()
    """Refusals besides those of identity."""
    body: type[msgspec.Struct] | None = None
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "ok"})
    is_keyed: bool = False
    """Takes an Idempotency-Key."""

    @property
    def all_codes(self) -> tuple[str, ...]:
        origin = ("wrong_origin",) if self.method == "POST" else ()
        return (*IDENTITY_CODES, *origin, *self.codes)


def _views() -> tuple[Route, ...]:
    return tuple(
        Route(name, "GET", f"/v1/{name}", Role.VIEW, f"The {name} view", ("trader_away",))
        for name in VIEWS
        if name != "status"
    )


ROUTES: Final = (
    Route("status", "GET", "/v1/status", Role.VIEW, "What the daemon is doing"),
    *_views(),
    Route("audit", "GET", "/v1/audit", Role.VIEW, "The last lines of the audit log"),
    Route("stream", "GET", "/v1/stream", Role.VIEW, "Server-sent events, a snapshot a second"),
    Route("openapi", "GET", "/v1/openapi.json", Role.VIEW, "This document"),
    Route("index", "GET", "/", Role.VIEW, "The console"),
    Route("console", "GET", "/console/{name}", Role.VIEW, "Its files", ("not_found",)),
    Route(
        "kill",
        "POST",
        "/v1/kill",
        Role.HALT,
        "Narrow the latch; returns once the gate saw it. The same person's same kill, while nothing"
        " else has changed the latch, is the same kill: same generation, swept again",
        ("bad_level", "bad_scope"),
        KillBody,
        {
            200: "in force: nothing that adds risk is sent any more",
            503: "latched, but not yet seen by the gate, or refused by the disk; see `problem`",
        },
    ),
    Route(
        "reset",
        "POST",
        "/v1/reset",
        Role.RISK,
        "Lift the latch at a generation you have seen, or ask a second person to",
        (*BODY_CODES, *KEY_CODES, "bad_scope", "many_resets", *TERMS_CODES),
        ResetBody,
        {200: "lifted", 202: "waits for a second person, see `request_id` and `expires_in_s`"},
        is_keyed=True,
    ),
    Route(
        "reset_approve",
        "POST",
        "/v1/reset/approve",
        Role.RISK,
        "Be the second person of a reset",
        (
            *BODY_CODES,
            *KEY_CODES,
            "many_resets",
            "same_person",
            "unknown_reset",
            "expired_reset",
            *TERMS_CODES,
        ),
        ApproveBody,
        {200: "lifted"},
        is_keyed=True,
    ),
    Route(
        "adopt",
        "POST",
        "/v1/adopt",
        Role.RISK,
        "The last resort: take the venue's positions where ours differ and stay so (`adoption` in"
        " status shows the difference and its id), or ask a second person to",
        (*BODY_CODES, *KEY_CODES, *ADOPTION_CODES),
        AdoptBody,
        {
            200: "carried out: `state` says what the decision made of it",
            202: "waits for a second person, see `request_id` and `expires_in_s`",
        },
        is_keyed=True,
    ),
    Route(
        "adopt_approve",
        "POST",
        "/v1/adopt/approve",
        Role.RISK,
        "Be the second person of an adoption",
        (
            *BODY_CODES,
            *KEY_CODES,
            "same_person",
            "unknown_adoption",
            "expired_adoption",
            *ADOPTION_CODES,
        ),
        ApproveBody,
        {200: "carried out: `state` says what the decision made of it"},
        is_keyed=True,
    ),
    Route(
        "params",
        "POST",
        "/v1/params",
        Role.TRADER,
        "Turn one bounded knob",
        (*BODY_CODES, *KEY_CODES, "bad_knob", "trader_away", "audit_unwritable"),
        ParamsBody,
        is_keyed=True,
    ),
)
BY_PLACE: Final[Mapping[tuple[str, str], Route]] = {(one.method, one.path): one for one in ROUTES}
