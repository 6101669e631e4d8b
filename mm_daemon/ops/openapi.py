"""The OpenAPI document of the control API, made from the view structs and the table of acts."""

from __future__ import annotations

from typing import Any

import msgspec

from mm_daemon.domain.permission import PRESETS
from mm_daemon.domain.views import VIEWS

_ACTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "kill": (
        "halt",
        "Narrow the latch; returns once the gate saw it",
        {
            "level": {"type": "string", "enum": list(PRESETS), "default": "cancel_all"},
            "scope": {"type": "string", "enum": ["firm"], "default": "firm"},
            "reason": {"type": "string"},
        },
    ),
    "reset": (
        "risk",
        "Lift the operator's latch at a generation you have seen",
        {"generation": {"type": "integer"}, "reason": {"type": "string", "minLength": 10}},
    ),
    "params": (
        "trader",
        "Turn one bounded knob",
        {
            "name": {"type": "string"},
            "value": {"type": "number"},
            "underlying": {"type": "string"},
            "expiry_ns": {"type": "integer"},
            "instrument": {"type": "string"},
        },
    ),
}


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas, components = msgspec.json.schema_components(
        VIEWS.values(), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for name, schema in zip(VIEWS, schemas, strict=True):
        paths[f"/v1/{name}"] = {"get": _operation(f"The {name} view", "view", schema)}
    paths["/v1/audit"] = {"get": _operation("The last audit entries", "view", {"type": "object"})}
    paths["/v1/stream"] = {"get": _operation("Server-sent events", "view", {"type": "string"})}
    for name, (role, summary, properties) in _ACTS.items():
        operation = _operation(summary, role, {"type": "object"})
        body = {"type": "object", "properties": properties}
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
        paths[f"/v1/{name}"] = {"post": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mm-daemon control API", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(summary: str, role: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": f"{summary} (role {role})",
        "responses": {
            "200": {"description": "ok", "content": {"application/json": {"schema": schema}}},
            "401": {"description": "no or wrong token"},
            "403": {"description": "the token's role does not reach"},
            "503": {"description": "the trader does not answer"},
        },
    }
