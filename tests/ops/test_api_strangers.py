"""Whoever reaches the port without a good token: refused, counted, and in nobody's way."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector
from aiohttp.web import AppRunner, UnixSite

from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.ops.audit import verify
from mm_daemon.ops.auth import FAILURE_WINDOW_S, FAILURES_MAX
from mm_daemon.ops.service import console_handlers
from tests.ops.rig import GOOD_REASON, Door, Rig, serving

STRANGERS = 500


class Disk:
    """Takes its time when it is told to."""

    def __init__(self) -> None:
        self._turns = threading.Event()
        self._turns.set()

    def hold(self) -> None:
        self._turns.clear()

    def release(self) -> None:
        self._turns.set()

    def sync(self, fd: int) -> None:
        assert self._turns.wait(20.0), "held for longer than any test may last"
        os.fsync(fd)


async def answers(door: Door, count: int, path: str = "/v1/params") -> list[str]:
    """The codes of so many acts at once, without a token."""

    async def act(number: int) -> str:
        async with door.client.post(f"{path}?{number}", data=b"x") as response:
            return str((await response.json())["code"])

    return await asyncio.gather(*(act(number) for number in range(count)))


async def test_five_hundred_strangers_at_once_hold_up_no_kill_and_fill_no_log(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        strangers = asyncio.create_task(answers(door, STRANGERS))
        await asyncio.sleep(0)
        status, answer = await door.post("/v1/kill", {"reason": "fire"}, "halt")
        codes = await strangers
        assert (status, answer["durable"], answer["audited"], answer["problem"]) == (
            200,
            True,
            True,
            "",
        )
        assert codes.count("no_token") == FAILURES_MAX
        assert codes.count("throttled") == STRANGERS - FAILURES_MAX
        assert len(rig.lines("kill")) == 1
        assert len(rig.lines("params_refused")) == FAILURES_MAX
    (line,) = rig.lines("throttled")
    assert line["count"] == STRANGERS - FAILURES_MAX
    assert verify(rig.audit.path).is_whole


async def test_a_kill_behind_a_disk_that_strangers_keep_busy_is_answered_and_its_line_is_written(
    tmp_path: Path,
) -> None:
    """The audit log's disk stands still, the latch's does not: the kill is durable, says that its
    line is not there, and the line comes as soon as it can, with the kill's own time."""
    disk = Disk()
    async with serving(tmp_path, sync=disk.sync) as (rig, door):
        rig.around.kill_step_timeout_s = 0.2
        disk.hold()
        strangers = asyncio.create_task(answers(door, STRANGERS))
        async with asyncio.timeout(10):
            while not rig.around.tokens.is_throttled(rig.mono_ns / 1e9):
                await asyncio.sleep(0)
        killed_ns = rig.wall_ns
        status, answer = await door.post("/v1/kill", {"reason": "fire"}, "halt")
        assert (status, answer["durable"], answer["audited"]) == (200, True, False)
        assert "audit: TimeoutError" in answer["problem"]
        assert rig.page.permission == 0
        rig.pass_time(5.0)
        disk.release()
        await strangers
        await rig.api._acting.close()
        (line,) = rig.lines("kill")
        assert (line["reason"], line["ts_ns"]) == ("fire", killed_ns)
        rig.watch.look()
        assert rig.lines("observed_raise") == []


async def test_acts_without_a_token_are_throttled_and_reading_without_one_is_not(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        for _ in range(2 * FAILURES_MAX):
            assert (await door.get("/v1/status", None))[1]["code"] == "no_token"
        codes = await answers(door, FAILURES_MAX + 5, "/v1/nothing")
        assert sorted(codes) == ["no_token"] * FAILURES_MAX + ["throttled"] * 5
        assert (await door.get("/v1/status", None))[1]["code"] == "no_token"
        assert (await door.get("/v1/status"))[0] == 200
        await door.kill()
        assert (await door.reset())[0] == 200
        rig.pass_time(FAILURE_WINDOW_S + 1.0)
        assert await answers(door, 1) == ["no_token"]
        assert rig.page.permission == PERMISSION_ALL


async def test_throttled_acts_share_a_line_each_so_often(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.around.throttled_line_s = 0.0
        await answers(door, FAILURES_MAX)
        for total in (3, 10):
            await answers(door, total - throttled(rig))
            async with asyncio.timeout(5):
                while throttled(rig) < total:
                    await asyncio.sleep(0.001)
    assert throttled(rig) == 10


def throttled(rig: Rig) -> int:
    return sum(line["count"] for line in rig.lines("throttled"))


@pytest.mark.parametrize("path", ["/v1/" + "x" * 7000, "/v1/kill/" + "%41" * 2000])
async def test_a_strangers_path_is_written_in_part(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as (rig, door):
        await answers(door, 1, path)
        (line,) = rig.lines("request_refused")
        assert line["route"].startswith(path[:8])
        assert len(line["route"]) == 200


async def test_a_level_that_fills_a_body_is_written_in_part(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.post("/v1/kill", {"level": "x" * 50_000}, "halt")
        assert (status, answer["code"]) == (400, "bad_level")
        (line,) = rig.lines("kill_refused")
        assert len(line["error"]) == 200


async def test_the_unix_socket_is_never_throttled(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await answers(door, FAILURES_MAX + 1)
        runner = AppRunner(rig.api.application(console_handlers()))
        await runner.setup()
        path = str(rig.layout.ops_socket)
        await UnixSite(runner, path).start()
        async with ClientSession(connector=UnixConnector(path)) as session:
            assert await told(session, "/v1/kill", {}, "stale") == (200, "")
            wish = {"generation": rig.page.generation, "reason": GOOD_REASON}
            assert await told(session, "/v1/reset", wish, "stale") == (401, "wrong_token")
            assert await told(session, "/v1/reset", wish, "") == (200, "")
        await runner.cleanup()


async def told(
    session: ClientSession, where: str, body: dict[str, Any], token: str
) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with session.post(f"http://x{where}", json=body, headers=headers) as got:
        return got.status, (await got.json()).get("code", "")
