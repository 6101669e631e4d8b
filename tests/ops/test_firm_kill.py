"""The firm's kill by the control API, over a real store: it reaches the other instances, and only
two people lift it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_daemon.domain.permission import FIRM, OPERATOR, PERMISSION_ALL
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.firm_kill import FirmKill, warn_without_store
from mm_daemon.ops.firm_latch import FirmLatch
from mm_daemon.ops.logs import make_logger
from mm_daemon.ops.redis_bus import Held, RedisBus, Shard
from tests.ops.redis_server import RedisServer, redis_server
from tests.ops.rig import Door, Rig, serving

SHARD = Shard("desk", "sim", "deribit", "maker", ("ETH", "BTC"))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Instance:
    """One instance's side of the store, over a rig's latch."""

    def __init__(self, rig: Rig, url: str) -> None:
        self.bus = RedisBus(url, SHARD, 0.5, lambda: "")

        async def on_lifted(_: int) -> None:
            self.lifted = True

        taken_over = DurableNumber(rig.layout.state_dir / "firm-kill")
        self.firm = FirmLatch(rig.latch, rig.layout.wake, taken_over, on_lifted)
        self.lifted = False
        rig.around.firm = FirmKill(self.bus, self.firm)

    async def follow(self) -> None:
        """What the lease's keeper does with each answer of the store."""
        answer = await self.bus.acquire(f"{id(self)}/1", ttl_ns=10**9, rest_ns=0, floor=0)
        assert isinstance(answer, Held) or answer.tenure
        await self.firm.follow(answer.firm, self.bus)


async def test_a_firms_kill_reaches_every_instance_and_two_people_lift_it_everywhere(
    tmp_path: Path, server: RedisServer
) -> None:
    server.flush()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        serving(tmp_path / "a", persons=2) as (here, door),
        serving(tmp_path / "b") as (there, _),
    ):
        ours, theirs = Instance(here, server.url), Instance(there, server.url)
        status, answer = await door.post("/v1/kill", {"reason": "drill"}, "halt")
        assert (status, answer["problem"]) == (200, "")
        assert answer["covers"].startswith("every instance of the firm")
        await theirs.follow()
        assert there.page.permission == 0
        entry = there.latch.state().entry(FIRM)
        assert entry is not None
        assert entry.reason == "cancel_all by halt: drill"
        await ours.follow()
        _, asked = await door.reset()
        _, done = await door.approve(asked["request_id"], "admin")
        assert (done["problem"], done["state"]) == ("", "latched")
        for instance, rig in ((ours, here), (theirs, there)):
            await instance.follow()
            assert instance.lifted
            assert rig.page.permission == PERMISSION_ALL
            await instance.bus.close()


async def test_a_daemons_own_scope_is_not_told_to_the_firm(
    tmp_path: Path, server: RedisServer
) -> None:
    server.flush()
    async with serving(tmp_path) as (rig, door):
        instance = Instance(rig, server.url)
        for scope in ("venue", "BTC"):
            await door.kill(scope=scope)
        await instance.follow()
        assert rig.latch.state().entry(FIRM) is None
        assert rig.latch.state().entry(OPERATOR) is not None
        await instance.bus.close()


async def test_a_store_that_is_away_is_said_and_this_instance_is_latched(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        instance = Instance(rig, "redis://127.0.0.1:1/0")
        status, answer = await door.post("/v1/kill", {"reason": "drill"}, "halt")
        assert (status, rig.page.permission) == (200, 0)
        assert "the firm's store was not told, other instances go on" in answer["problem"]
        await instance.bus.close()


async def test_only_the_firms_latch_left_is_lifted_in_the_store(
    tmp_path: Path, server: RedisServer
) -> None:
    """An instance that was only told of the kill may be the one where it is lifted."""
    server.flush()
    async with serving(tmp_path) as (rig, door):
        instance = Instance(rig, server.url)
        assert rig.around.firm is not None
        await rig.around.firm.tell(level="halt_quoting", reason="elsewhere", by="bob")
        await instance.follow()
        status, answer = await door.reset(scope="firm")
        assert (status, answer["problem"]) == (200, "")
        await instance.follow()
        assert rig.page.permission == PERMISSION_ALL
        await instance.bus.close()


async def stranded(rig: Rig, door: Door, url: str) -> None:
    """Killed with the firm, and then the store is taken out of the configuration."""
    instance = Instance(rig, url)
    assert rig.around.firm is not None
    rig.wall_ns = time.time_ns()
    await rig.around.firm.tell(level="cancel_all", reason="elsewhere", by="bob")
    await instance.follow()
    await door.kill(level="halt_quoting")
    await instance.bus.close()
    rig.watch.look()
    rig.pass_time(1.0)
    rig.around.firm = None


async def test_a_firms_kill_without_a_store_takes_two_people_here_whatever_the_rules(
    tmp_path: Path, server: RedisServer
) -> None:
    server.flush()
    async with serving(tmp_path, persons=1) as (rig, door):
        await stranded(rig, door, server.url)
        latched = rig.page.generation
        status, asked = await door.reset(scope="firm")
        assert (status, rig.page.permission) == (202, 0), asked
        status, done = await door.approve(asked["request_id"], "admin")
        assert (status, sorted(done["lifted"])) == (200, [FIRM, OPERATOR])
        assert "let go here alone" in done["problem"]
        assert (rig.page.permission, rig.page.generation) == (PERMISSION_ALL, latched + 1)
        assert LatchStore(rig.layout.latch, None).load().entry(FIRM) is None
        (line,) = rig.lines("reset")
        assert (line["actor"], line["approver"]) == ("risk", "admin")
        assert FIRM in [one["source"] for one in line["lifted"]]
        assert rig.lines("observed_clear") == []


async def test_a_store_that_comes_back_with_the_kill_still_on_latches_again(
    tmp_path: Path, server: RedisServer
) -> None:
    server.flush()
    async with serving(tmp_path, persons=1) as (rig, door):
        await stranded(rig, door, server.url)
        asked = (await door.reset())[1]
        await door.approve(asked["request_id"], "admin")
        assert rig.page.permission == PERMISSION_ALL
        again = Instance(rig, server.url)
        await again.follow()
        assert rig.page.permission == 0
        assert rig.latch.state().entry(FIRM) is not None
        assert not (await door.reset())[1].get("lifted"), "only in the store, now that there is one"
        assert rig.latch.state().entry(FIRM) is not None
        await again.bus.close()


async def test_at_the_start_the_latch_that_was_left_is_named_with_its_file_and_the_way_out(
    tmp_path: Path, server: RedisServer
) -> None:
    server.flush()
    lines: list[str] = []
    async with serving(tmp_path) as (rig, door):
        log = make_logger("error", "ops", lines.append)
        warn_without_store(rig.latch, log)
        assert lines == []
        await stranded(rig, door, server.url)
        warn_without_store(rig.latch, log)
        (line,) = map(json.loads, lines)
    assert (line["level"], line["event"]) == ("critical", "firm_kill_without_store")
    assert line["file"] == str(rig.layout.latch)
    assert "mm-daemon reset --scope firm" in line["act"]
