"""The document of the control API says what is there: every route, every code, every body."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mm_daemon.ops.openapi import document
from mm_daemon.ops.refusal import MEANINGS
from mm_daemon.ops.routes import ROUTES
from tests.ops.rig import serving

DOCUMENT = document("1")


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


async def test_every_route_is_documented_and_every_documented_route_exists(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, door):
        served = {
            (route.method, route.resource.canonical)
            for route in door.client.server.app.router.routes()  # type: ignore[attr-defined]
            if route.resource is not None and route.method != "HEAD"
        }
    assert served == set(operations())


async def test_the_document_is_served_as_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, door):
        _, answer = await door.get("/v1/openapi.json")
        assert answer == document("0")


def test_every_code_of_every_route_stands_under_its_status() -> None:
    for route in ROUTES:
        responses = operations()[route.method, route.path]["responses"]
        for code in route.all_codes:
            assert code in responses[str(MEANINGS[code][0])]["x-codes"], (route.name, code)
        assert {str(status) for status in route.answers} <= set(responses)


def test_every_code_there_is_can_be_met_somewhere() -> None:
    """Those of paths that are no route, and of defects, are of all of them."""
    everywhere = {"not_found", "wrong_method", "bad_request", "internal"}
    used = {code for route in ROUTES for code in route.all_codes}
    assert set(MEANINGS) - used <= everywhere


def test_every_reference_leads_somewhere_and_every_act_has_its_body() -> None:
    components = DOCUMENT["components"]["schemas"]

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].rpartition("/")[2] in components
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(DOCUMENT)
    for (method, path), operation in operations().items():
        assert ("requestBody" in operation) == (method == "POST"), path
