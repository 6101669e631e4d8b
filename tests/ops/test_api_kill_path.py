"""Every collaborator of a kill fails in turn, and each time the page is latched."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mm_daemon.domain.permission import PRESETS, Mask
from mm_daemon.ipc.page import GENERATION_SEEN, SWEPT_GENERATION, TRADER_PID
from tests.ops.rig import Door, Rig, lose_trader, serving
from tests.ops.test_audit import file_size_limited_to

CANCEL_ALL = PRESETS["cancel_all"]


@dataclass
class Broken:
    """Fails in the way of a defect: whatever is asked of it."""

    what: str

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"{self.what} has no {name} any more")


def damage_audit(rig: Rig) -> None:
    rig.audit.problem = "audit log damaged"


def close_audit(rig: Rig) -> None:
    rig.audit.close()


def lose_latch_file(rig: Rig) -> None:
    rig.latch.path = rig.layout.state_dir / "gone" / "latch.json"


def make_latch_file_a_directory(rig: Rig) -> None:
    rig.latch.path.unlink()
    rig.latch.path.mkdir()


def take_the_wake_socket_away(rig: Rig) -> None:
    rig.around.layout = Broken("layout")  # type: ignore[assignment]


def break_trader_client(rig: Rig) -> None:
    rig.around.trader = Broken("trader client")  # type: ignore[assignment]


def break_firm(rig: Rig) -> None:
    rig.around.firm = Broken("firm")  # type: ignore[assignment]


def hang_gate(rig: Rig) -> None:
    rig.gate_is_alive = False


@pytest.mark.parametrize(
    ("fault", "status", "problem"),
    [
        (damage_audit, 200, "audit: "),
        (close_audit, 200, "audit: "),
        (lose_latch_file, 503, "durable: "),
        (make_latch_file_a_directory, 503, "durable: "),
        (take_the_wake_socket_away, 200, "wake: "),
        (break_trader_client, 200, ""),
        (break_firm, 200, "firm: "),
    ],
)
async def test_the_page_is_latched_whatever_fails_beside_it(
    tmp_path: Path, fault: Callable[[Rig], None], status: int, problem: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        fault(rig)
        found, answer = await door.post("/v1/kill", {"reason": "drill"}, "halt")
        assert Mask(rig.page.permission, rig.page.tasks) == CANCEL_ALL
        assert (found, answer["state"]) == (status, "settling")
        assert problem in answer["problem"]
        assert answer["durable"] == (status == 200)


async def test_a_gate_that_does_not_answer_is_said_and_the_page_is_latched(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.page.words[GENERATION_SEEN] = rig.page.generation
        rig.gate_is_alive = False

        async def move_the_clock() -> None:
            while True:
                rig.pass_time(0.5)
                await asyncio.sleep(0.005)

        moving = asyncio.create_task(move_the_clock())
        found, answer = await door.post("/v1/kill", {}, "halt")
        moving.cancel()
        assert (found, answer["state"], rig.page.permission) == (503, "unseen", 0)


async def test_a_kill_of_a_dead_trader_holds_once_the_venue_was_swept_for_it(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.gate_is_alive = False
        words = rig.page.words
        words[TRADER_PID] = 0
        words[GENERATION_SEEN] = 0
        words[SWEPT_GENERATION] = rig.page.generation + 1
        found, answer = await door.post("/v1/kill", {}, "halt")
        assert (found, answer["state"], rig.page.permission) == (200, "settling", 0)


async def test_a_dead_trader_socket_does_not_hold_up_a_kill(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await lose_trader(rig)
        await door.kill()
        assert rig.page.permission == 0


async def test_a_disk_that_hangs_is_waited_for_no_longer_than_it_may(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.around.kill_step_timeout_s = 0.05
        release = threading.Event()

        def hang() -> None:
            release.wait(10.0)

        rig.latch.persist = hang  # type: ignore[method-assign]
        found, answer = await asyncio.wait_for(door.post("/v1/kill", {}, "halt"), 5.0)
        release.set()
        assert (found, answer["durable"], rig.page.permission) == (503, False, 0)
        assert "durable: TimeoutError" in answer["problem"]


async def test_a_full_disk_is_said_and_the_page_is_latched(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        with file_size_limited_to(1):
            found, answer = await door.post("/v1/kill", {}, "halt")
        assert (found, answer["durable"], answer["audited"]) == (503, False, False)
        assert rig.page.permission == 0


async def test_no_file_descriptor_left_and_the_page_is_latched(tmp_path: Path) -> None:
    """Locks, wake-ups and files all need one; the page is mapped already."""
    async with serving(tmp_path) as (rig, door):
        await door.get("/v1/status")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            answer = await kill_on_open_connection(door)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert rig.page.permission == 0, used
        assert answer["durable"] is False


async def kill_on_open_connection(door: Door) -> Any:
    response = await door.client.post("/v1/kill", json={}, headers=door.rig.header("halt"))
    return await response.json()
