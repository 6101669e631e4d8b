"""The OpenAPI document of the control API, made from the table of routes and the view structs."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mm_daemon.domain.permission import PRESETS
from mm_daemon.domain.views import VIEWS
from mm_daemon.ops.bodies import WHOLE_NAMES
from mm_daemon.ops.refusal import MEANINGS
from mm_daemon.ops.routes import ROUTES, Route

_PLACEHOLDER = re.compile(r"{(\w+)}")
_COMPONENTS = "#/components/schemas/{name}"
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    "description": "the same key and body get the same answer for a day, carried out once",
}


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    bodies = [route.body for route in ROUTES if route.body is not None]
    kinds = [*VIEWS.values(), *bodies]
    made, components = msgspec.json.schema_components(kinds, ref_template=_COMPONENTS)
    schemas = dict(zip(kinds, made, strict=True))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    _name_choices(components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mm-daemon control API", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**components, "Refusal": _refusal()},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    schema = schemas.get(VIEWS.get(route.name), {"type": "object"})
    responses: dict[str, Any] = {
        str(status): _response(text, schema) for status, text in route.answers.items()
    }
    for status, codes in _by_status(route).items():
        text = "; ".join(f"`{code}`: {MEANINGS[code][1]}" for code in codes)
        if str(status) in responses:
            responses[str(status)]["description"] += f"; {text}"
        else:
            responses[str(status)] = _response(text, {"$ref": "#/components/schemas/Refusal"})
        responses[str(status)]["x-codes"] = codes
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": f"{route.summary} (role {route.role.name.lower()})",
        "responses": responses,
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACEHOLDER.findall(route.path)
    ]
    if route.is_keyed:
        parameters.append(_KEY)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": schemas[route.body]}}
        operation["requestBody"] = {"content": content, "required": route.name != "kill"}
    return operation


def _by_status(route: Route) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code in route.all_codes:
        found.setdefault(MEANINGS[code][0], []).append(code)
    return found


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _refusal() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error", "code"],
        "properties": {
            "error": {"type": "string", "description": "a sentence for a person"},
            "code": {"type": "string", "enum": list(MEANINGS)},
        },
    }


def _name_choices(components: dict[str, Any]) -> None:
    """The levels and the scopes that every daemon has; an underlying's name is a scope too."""
    properties = components["KillBody"]["properties"]
    properties["level"] |= {"enum": list(PRESETS)}
    properties["scope"] |= {"examples": list(WHOLE_NAMES)}
