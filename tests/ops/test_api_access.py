"""Who may call what, from where and with what body: every role on every route by every method, and
every refusal by its exact code. Kills are never held up by any of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector
from aiohttp.test_utils import TestClient
from aiohttp.web import AppRunner, UnixSite

from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.ops.auth import FAILURES_MAX, Role
from mm_daemon.ops.bodies import BODY_BYTES_MAX
from mm_daemon.ops.routes import ROUTES, Route
from mm_daemon.ops.service import console_handlers
from tests.ops.rig import GOOD_REASON, ROLES, Door, Rig, serving, with_token

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATHS = sorted({route.path.replace("{name}", "console.js") for route in ROUTES})
POSTS = [route.path for route in ROUTES if route.method == "POST"]
STRICT_POSTS = [path for path in POSTS if path != "/v1/kill"]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/kill": {},
    "/v1/reset": {"generation": 1, "reason": GOOD_REASON},
    "/v1/reset/approve": {"request_id": "none"},
    "/v1/adopt": {"generation": 1, "difference_id": "d", "reason": GOOD_REASON},
    "/v1/adopt/approve": {"request_id": "none"},
    "/v1/params": {"name": "width", "value": 1.5, "unit": "ratio"},
}


def route_of(method: str, path: str) -> Route | None:
    for route in ROUTES:
        if (route.method, route.path.replace("{name}", "console.js")) == (method, path):
            return route
    return None


async def status_of(client: TestClient[Any, Any], method: str, path: str, **more: Any) -> int:
    """The status alone: a stream of events never ends its body."""
    response = await client.request(method, path, **more)
    response.close()
    return response.status


def snapshot(rig: Rig) -> tuple[object, ...]:
    files = sorted(one.name for one in rig.layout.state_dir.iterdir())
    return (rig.page.generation, rig.page.permission, tuple(rig.fed), files, len(rig.lines()))


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_reaches_exactly_its_routes_by_exactly_their_methods(
    tmp_path: Path, role: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        for path in PATHS:
            for method in METHODS:
                body = BODIES.get(path) if method == "POST" else None
                more: dict[str, Any] = {"json": body} if body is not None else {}
                status = await status_of(
                    door.client, method, path, headers=rig.header(role), **more
                )
                route = route_of(method, path)
                if route is None:
                    assert status == 405, (method, path, status)
                elif Role[role.upper()] < route.role:
                    assert status == 403, (method, path, status)
                else:
                    assert status not in (401, 403, 405), (method, path, status)


async def test_no_get_changes_anything(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await door.kill()
        await rig.api._acting.close()
        before = snapshot(rig)
        for path in PATHS:
            query = "?level=hard_stop&generation=2&reason=books+checked+by+hand"
            await status_of(door.client, "GET", path + query, headers=rig.header("admin"))
        assert snapshot(rig) == before


@pytest.mark.parametrize("path", PATHS)
async def test_missing_wrong_and_expired_tokens_have_their_codes(tmp_path: Path, path: str) -> None:
    method = "POST" if path in POSTS else "GET"
    async with serving(tmp_path) as (rig, door):
        old = with_token(rig, "alice", "admin", expires="2001-01-01T00:00:00Z")
        for header, code in ((None, "no_token"), ("wrong", "wrong_token"), (old, "expired_token")):
            headers = {"Authorization": f"Bearer {header}"} if header else {}
            status, answer = await door.ask(method, path, headers=headers)
            assert (status, answer["code"]) == (401, code)
        assert rig.page.permission == PERMISSION_ALL
        refused = [line for line in rig.lines() if line["act"].endswith("_refused")]
        assert [line["code"] for line in refused] == (
            ["no_token", "wrong_token", "expired_token"] if method == "POST" else []
        )
        assert all(line["actor"] == "unknown" for line in refused)


async def test_unknown_paths_do_not_tell_strangers_that_they_are_unknown(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, door):
        assert (await door.get("/v1/nothing", None))[1]["code"] == "no_token"
        assert (await door.get("/v1/nothing"))[1]["code"] == "not_found"
        assert (await door.get("/console/..%2Fapi.py"))[1]["code"] == "not_found"


async def test_in_the_simulation_reading_needs_no_token_but_a_wrong_one_is_said(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, is_open=True) as (rig, door):
        assert (await door.get("/v1/status", None))[0] == 200
        wrong = {"Authorization": "Bearer wrong"}
        assert (await door.ask("GET", "/v1/status", headers=wrong))[1]["code"] == "wrong_token"
        assert (await door.post("/v1/kill", {}, None))[1]["code"] == "no_token"
        assert rig.page.permission == PERMISSION_ALL


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_a_browser_of_another_site_acts_nowhere(
    tmp_path: Path, path: str, headers: dict[str, str]
) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.post(path, BODIES[path], "admin", headers=headers)
        assert (status, answer["code"]) == (403, "wrong_origin")
        assert (rig.page.permission, rig.fed) == (PERMISSION_ALL, [])
        assert [line["code"] for line in rig.lines() if "code" in line] == ["wrong_origin"]


async def test_our_own_console_may_act(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        own = {"Origin": str(door.client.make_url("")), "Sec-Fetch-Site": "same-origin"}
        status, _ = await door.post("/v1/kill", {}, "halt", headers=own)
        assert (status, rig.page.permission) == (200, 0)


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", STRICT_POSTS)
@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b'{"x": "' + b"x" * BODY_BYTES_MAX + b'"}', "application/json", 413, "large_body"),
        (b"{}", "text/plain", 415, "not_json_type"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "not_json_type"),
        (b"{}", "", 415, "not_json_type"),
        (b"{", "application/json", 400, "not_json"),
        (b"", "application/json", 400, "not_json"),
        (b"\xff\xfe", "application/json", 400, "not_json"),
        (b"[1]", "application/json", 400, "bad_body"),
        (b"{}", "application/json", 400, "bad_body"),
    ],
    ids=["large", "text", "form", "untyped", "torn", "empty", "bytes", "list", "fields"],
)
async def test_each_bad_body_has_its_code_and_changes_nothing(
    tmp_path: Path, path: str, data: bytes, kind: str, status: int, code: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        before = (rig.page.generation, rig.fed)
        found, answer = await door.ask(
            "POST", path, role="admin", data=data, headers={"Content-Type": kind}
        )
        assert (found, answer["code"]) == (status, code)
        assert (rig.page.generation, rig.fed) == before
        assert [line["code"] for line in rig.lines() if "code" in line] == [code]


@pytest.mark.parametrize("path", STRICT_POSTS)
async def test_unknown_fields_are_refused_by_name(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as (_, door):
        status, answer = await door.post(path, {**BODIES[path], "forse": True})
        assert (status, answer["code"]) == (400, "bad_body")
        assert "forse" in answer["error"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"1.5"', "true", "null"])
async def test_a_knobs_value_is_a_finite_number(tmp_path: Path, value: str) -> None:
    async with serving(tmp_path) as (rig, door):
        data = f'{{"name": "width", "unit": "ratio", "value": {value}}}'.encode()
        json_type = {"Content-Type": "application/json"}
        status, _ = await door.ask(
            "POST", "/v1/params", role="trader", data=data, headers=json_type
        )
        assert (status, rig.fed) == (400, [])


@pytest.mark.parametrize("path", STRICT_POSTS)
async def test_slow_body_is_given_up(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as (rig, door):
        reader, writer = await asyncio.open_connection(door.client.host, door.client.port)
        writer.write(head(rig, path, "admin", 100) + b'{"generation"')
        answer = await reader.readuntil(b"\r\n")
        writer.close()
        assert b" 408 " in answer
        assert [line["code"] for line in rig.lines() if "code" in line] == ["slow_body"]


def head(rig: Rig, path: str, role: str, length: int) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {rig.plain[role]}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# -- kills -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b'{"reason": 7, "forse": NaN}', "application/json"),
        (b"reason=fire", "application/x-www-form-urlencoded"),
        (b'{"x": "' + b"x" * BODY_BYTES_MAX + b'"}', "application/json"),
    ],
    ids=["none", "torn", "list", "nan", "form", "large"],
)
async def test_a_kill_is_carried_out_whatever_its_body(
    tmp_path: Path, data: bytes, kind: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.ask(
            "POST", "/v1/kill", role="halt", data=data, headers={"Content-Type": kind}
        )
        assert (status, answer["level"], rig.page.permission) == (200, "cancel_all", 0)
        assert ("body not used" in answer["problem"]) == bool(data)


async def test_a_kill_does_not_wait_for_a_body_that_does_not_come(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        reader, writer = await asyncio.open_connection(door.client.host, door.client.port)
        writer.write(head(rig, "/v1/kill", "halt", 100) + b'{"reason"')
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 1.0)
        writer.close()
        assert b" 200 " in answer
        assert rig.page.permission == 0


async def test_wrong_tokens_are_throttled_and_a_valid_kill_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        wrong = {"Authorization": "Bearer wrong"}
        codes = []
        for _ in range(FAILURES_MAX + 5):
            codes.append((await door.ask("POST", "/v1/kill", headers=wrong))[1]["code"])
        assert codes == ["wrong_token"] * FAILURES_MAX + ["throttled"] * 5
        assert len(rig.lines("kill_refused")) == FAILURES_MAX
        await door.kill()
        assert rig.page.permission == 0


# -- the unix socket -------------------------------------------------------------------------------


async def test_on_the_unix_socket_the_kernel_says_who_calls_and_a_token_makes_a_person(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, persons=2) as (rig, _):
        runner = AppRunner(rig.api.application(console_handlers()))
        await runner.setup()
        path = str(rig.layout.ops_socket)
        await UnixSite(runner, path).start()
        async with ClientSession(connector=UnixConnector(path)) as session:

            async def post(where: str, body: dict[str, Any], token: str = "") -> tuple[int, Any]:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                async with session.post(f"http://x{where}", json=body, headers=headers) as got:
                    return got.status, await got.json()

            # A stale token in the environment of a person in a hurry must not stop a kill.
            for token in ("", "stale", rig.plain["view"]):
                status, answer = await post("/v1/kill", {"reason": token or "none"}, token)
                assert status == 200, answer
            assert {line["actor"] for line in rig.lines("kill")} == {answer["by"]}
            wish = {"generation": rig.page.generation, "reason": GOOD_REASON}
            assert (await post("/v1/reset", wish, "stale"))[1]["code"] == "wrong_token"
            status, asked = await post("/v1/reset", wish)
            assert (status, asked["by"]) == (202, answer["by"])
            approval = {"request_id": asked["request_id"]}
            assert (await post("/v1/reset/approve", approval))[1]["code"] == "same_person"
            status, done = await post("/v1/reset/approve", approval, rig.plain["risk"])
            assert (status, done["approved_by"]) == (200, "risk")
            assert rig.lines("reset")[0]["source"].startswith("unix uid=")
        await runner.cleanup()


# -- the same request again ------------------------------------------------------------------------


async def keyed(door: Door, key: str, body: Any, role: str = "risk") -> tuple[int, Any]:
    headers = {"Idempotency-Key": key}
    return await door.post("/v1/reset", body, role, headers=headers)


async def test_a_repeated_request_is_answered_the_same_and_carried_out_once(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        wish = {"generation": await door.kill(), "reason": GOOD_REASON}
        first = await keyed(door, "k1", wish)
        lifted = rig.page.generation
        assert await keyed(door, "k1", wish) == first
        assert rig.page.generation == lifted
        assert len(rig.lines("reset")) == 1
        (line,) = rig.lines("replayed")
        assert (line["key"], line["status"], line["actor"]) == ("k1", 200, "risk")


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        wish = {"generation": await door.kill(), "reason": GOOD_REASON}
        await keyed(door, "k1", wish)
        killed = await door.kill()
        status, answer = await keyed(door, "k1", {**wish, "generation": killed})
        assert (status, answer["code"]) == (422, "other_request")
        assert rig.page.generation == killed


async def test_a_no_is_kept_too_but_not_a_server_that_could_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        wish = {"generation": await door.kill(), "reason": GOOD_REASON}
        rig.audit.problem = "audit log damaged"
        assert (await keyed(door, "k1", wish))[0] == 503
        rig.audit.problem = ""
        rig.set_terms(parked_fills=1)
        assert (await keyed(door, "k1", wish))[1]["code"] == "parked_fills"
        rig.set_terms()
        assert (await keyed(door, "k1", wish))[1]["code"] == "parked_fills"
        assert (await keyed(door, "k2", wish))[0] == 200


async def test_keys_are_a_persons_own_and_are_judged(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, door):
        wish = {"generation": await door.kill(), "reason": GOOD_REASON}
        assert (await keyed(door, "k1", wish))[0] == 200
        assert (await keyed(door, "k1", wish, "admin"))[1]["code"] == "stale_generation"
        for key in ("", "x" * 65, "a\tb"):
            assert (await keyed(door, key, wish))[1]["code"] == "bad_key"


async def test_status_is_json_for_every_role(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        for role in ROLES:
            response = await door.client.get("/v1/status", headers=rig.header(role))
            assert json.loads(await response.text())["generation"] == rig.page.generation
