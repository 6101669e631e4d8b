"""One instance's lease over a real Redis that is killed, paused, cut off, emptied and shared.

Times are a tenth of the shipped ones. A watcher notes every change of the page's words, as guard
and gate would see them; what is asserted is what it saw and when.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from mm_daemon.domain.permission import CRASH, FIRM, OPERATOR, PERMISSION_ALL, PRESETS
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    LEASE_UNTIL_MONO_NS,
    PERMIT_DEADLINE_MONO_NS,
    TRADER_PID,
    TRADER_TENURE,
    LeaseState,
    Page,
)
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.firm_latch import FirmLatch
from mm_daemon.ops.lease import NS_PER_S, LeaseTimes
from mm_daemon.ops.lease_keeper import LeaseKeeper, instance_token
from mm_daemon.ops.lease_setup import must_keep
from mm_daemon.ops.redis_bus import RedisBus, Shard
from mm_daemon.ops.tenure_page import TenurePage
from tests.ops.redis_server import RedisServer, redis_server
from tests.wire.proxy import Proxy

TIMES = LeaseTimes(ttl_ns=600_000_000, permit_ns=300_000_000, valid_ns=325_000_000)
TTL_S, T1_S = 0.6, 0.3
RENEW_S, TIMEOUT_S = 0.1, 0.1
SHARD = Shard("desk", "sim", "deribit", "maker", ("BTC", "ETH"))
GRACE_S = 0.1
"""What a look at the page may come late on a busy machine."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Instance:
    """Ops of one daemon as far as the lease goes, and a trader that follows every tenure."""

    def __init__(self, directory: Path, url: str) -> None:
        directory.mkdir()
        self.layout = Layout(directory / "r", directory / "s")
        self.layout.create()
        self.page = Page.create(self.layout.page)
        self.latch = LatchStore(self.layout.latch, self.page)
        self.latch.init(ts_ns=1)
        self.lifted: list[int] = []
        self.lines: list[dict[str, object]] = []
        self.url = url
        self.trader_follows = True
        self.idle_s = 60.0
        self.fences: list[tuple[float, int]] = []
        self._ops: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self.keeper: LeaseKeeper

    def start(self) -> None:
        log = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self._note],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.bus = RedisBus(self.url, SHARD, TIMEOUT_S, lambda: "")
        firm_file = DurableNumber(self.layout.state_dir / "firm-kill")
        self.keeper = LeaseKeeper(
            bus=self.bus,
            page=TenurePage(self.page),
            times=TIMES,
            renew_s=RENEW_S,
            token=instance_token(self.layout.runtime_dir / "lease-token", "a"),
            epochs=DurableNumber(self.layout.state_dir / "epoch"),
            firm=FirmLatch(self.latch, self.layout.wake, firm_file, self._on_lifted),
            mono_ns=time.monotonic_ns,
            jitter=random.Random(1),
            must_keep=lambda: must_keep(self.latch.state()),
            log=log,
            idle_s=self.idle_s,
        )
        self._ops = asyncio.create_task(self.keeper.run())
        self._watch = self._watch or asyncio.create_task(self._look())

    def _note(self, _: object, __: str, event: dict[str, object]) -> str:
        self.lines.append(dict(event))
        raise structlog.DropEvent

    async def _on_lifted(self, generation: int) -> None:
        self.lifted.append(generation)

    async def _look(self) -> None:
        """The trader's part of the page, and a record of the fence."""
        words = self.page.words
        while True:
            fence = words[FENCE_EPOCH]
            if not self.fences or self.fences[-1][1] != fence:
                self.fences.append((time.monotonic(), fence))
            if fence and self.trader_follows:
                words[TRADER_TENURE] = fence
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """SIGTERM."""
        if self._ops is not None:
            self._ops.cancel()
            await asyncio.gather(self._ops, return_exceptions=True)
            self._ops = None

    async def die(self) -> None:
        """SIGKILL of ops: nothing it would do at its end is done."""
        self.page.words[TRADER_PID] = 1
        await self.stop()

    async def end(self) -> None:
        await self.stop()
        if self._watch is not None:
            self._watch.cancel()

    @property
    def state(self) -> LeaseState:
        return self.page.lease_state

    @property
    def tenure(self) -> int:
        return int(self.page.words[FENCE_EPOCH])

    def may_send(self) -> bool:
        """As the gate looks at it."""
        return time.monotonic_ns() < self.page.words[PERMIT_DEADLINE_MONO_NS]

    def events(self, name: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["event"] == name]

    async def until(self, what: Callable[[], bool], within_s: float = 5.0) -> float:
        """Seconds it took until `what` was true."""
        started_s = time.monotonic()
        while not what():
            assert time.monotonic() < started_s + within_s, (self.state, self.lines[-5:])
            await asyncio.sleep(0.002)
        return time.monotonic() - started_s

    async def holds(self) -> None:
        await self.until(lambda: self.state is LeaseState.HELD and self.may_send())


@asynccontextmanager
async def instances(path: Path, *urls: str) -> AsyncIterator[list[Instance]]:
    """Started one after the other, the first of them holding the lease."""
    found = [Instance(path / f"i{place}", url) for place, url in enumerate(urls)]
    try:
        for place, one in enumerate(found):
            one.start()
            if place == 0:
                await one.holds()
        yield found
    finally:
        for one in found:
            await one.end()


@pytest.mark.parametrize("fault", ["kill", "pause", "flush", "partition"])
async def test_permit_runs_out_by_t1_and_the_fence_falls_before_the_lease_lapses(
    tmp_path: Path, server: RedisServer, fault: str
) -> None:
    with Proxy() as proxy:
        proxy.target_port = server.port
        url = f"redis://127.0.0.1:{proxy.port}/0" if fault == "partition" else server.url
        async with instances(tmp_path, url) as (one,):
            former = one.tenure
            {
                "kill": server.kill,
                "pause": server.pause,
                "flush": server.flush,
                "partition": proxy.freeze,
            }[fault]()
            assert await one.until(lambda: not one.may_send()) <= T1_S + GRACE_S
            assert await one.until(lambda: one.tenure != former) <= TTL_S
            if fault == "kill":
                server.start()
            elif fault == "pause":
                server.resume()
            elif fault == "partition":
                proxy.thaw()
            await one.holds()
            if fault in ("kill", "flush"):
                assert one.tenure > former
                (_, grant) = one.events("lease_acquired")
                assert float(str(grant["quiet_s"])) >= TTL_S, "a store that knows nothing"


async def test_store_that_comes_back_within_the_ttl_finds_the_same_tenure(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        former = one.tenure
        server.pause()
        await one.until(lambda: one.state is LeaseState.SUSPENDED)
        assert one.tenure == 0
        assert not one.may_send()
        server.resume()
        await one.holds()
        assert one.tenure == former
        (problem,) = one.events("store_unusable")
        assert "did not answer" in str(problem["problem"])


async def test_standby_waits_then_takes_over_when_the_lease_lapses(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url, server.url) as (one, two):
        await two.until(lambda: two.state is LeaseState.STANDBY and two.bus.is_up)
        assert two.tenure == 0
        assert two.keeper.face().holder
        former = one.tenure
        await one.die()
        died_s = time.monotonic()
        await two.holds()
        took_s = time.monotonic() - died_s
        settle_s = TIMES.settle_ns(0) / NS_PER_S
        assert took_s <= TTL_S + settle_s + 0.3
        assert two.tenure > former
        assert not one.may_send()
        assert one.page.words[LEASE_UNTIL_MONO_NS] < time.monotonic_ns()


async def test_older_owner_that_was_cut_off_stops_first_and_is_superseded(
    tmp_path: Path, server: RedisServer
) -> None:
    with Proxy() as proxy:
        proxy.target_port = server.port
        cut_off = f"redis://127.0.0.1:{proxy.port}/0"
        async with instances(tmp_path, cut_off, server.url) as (one, two):
            one.page.words[TRADER_PID] = 1
            former = one.tenure
            proxy.freeze()
            await two.until(lambda: two.tenure != 0)
            await two.until(lambda: any(fence for _, fence in two.fences))
            fell_s = max(at_s for at_s, fence in one.fences if fence == 0)
            rose_s = next(at_s for at_s, fence in two.fences if fence)
            assert one.tenure == 0
            assert fell_s < rose_s
            await two.holds()
            proxy.thaw()
            await one.until(lambda: one.state is LeaseState.SUPERSEDED)
            (lost,) = one.events("lease_lost")
            assert lost["tenure"] == former
            one.trader_follows = False
            one.page.words[TRADER_TENURE] = 0
            # A trader lives, but it is a new one that only waits for a tenure.
            await one.until(lambda: one.state is LeaseState.STANDBY)
            assert two.state is LeaseState.HELD


async def test_ordered_stop_hands_over_without_waiting_for_the_lapse(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url, server.url) as (one, two):
        await one.stop()
        assert one.state is LeaseState.STANDBY
        assert await two.until(lambda: two.tenure != 0) < TTL_S / 2
        await two.holds()


async def test_ops_that_starts_again_goes_on_with_the_tenure(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        former = one.tenure
        await one.die()
        one.start()
        await one.until(lambda: bool(one.events("lease_taken_up")))
        await one.holds()
        assert {fence for _, fence in one.fences} <= {0, former}
        assert one.tenure == former


async def test_no_permit_for_a_trader_of_another_tenure(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        one.trader_follows = False
        former = one.tenure
        server.flush()
        await one.until(lambda: one.state is LeaseState.HELD and one.tenure > former)
        assert not one.may_send()
        one.trader_follows = True
        await one.holds()


async def test_tenure_is_durable_before_the_page_shows_it(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        epochs = DurableNumber(one.layout.state_dir / "epoch")
        assert epochs.read() == one.tenure
        epochs.raise_to(one.tenure + 10**6)
        await one.stop()
        one.start()
        await one.holds()
        assert one.tenure > 10**6 + 1
        assert one.tenure == epochs.read()


async def test_whoever_cannot_write_its_epoch_does_not_keep_others_from_it(
    tmp_path: Path, server: RedisServer
) -> None:
    broken, sound = Instance(tmp_path / "x", server.url), Instance(tmp_path / "y", server.url)
    try:
        broken.start()
        (broken.layout.state_dir / "epoch").write_text("seven")
        await broken.until(lambda: bool(broken.events("store_unusable")))
        sound.start()
        await sound.holds()
        assert broken.tenure == 0
    finally:
        await broken.end()
        await sound.end()


# -- an instance that cannot trade ---------------------------------------------------------------


@asynccontextmanager
async def idle_and_waiting(path: Path, server: RedisServer) -> AsyncIterator[list[Instance]]:
    """One that is about to hold the lease without a trader, and one that stands by."""
    one, two = Instance(path / "one", server.url), Instance(path / "two", server.url)
    one.idle_s = 3 * TTL_S
    two.page.words[TRADER_PID] = 2
    try:
        one.start()
        await one.holds()
        two.start()
        await two.until(lambda: two.state is LeaseState.STANDBY and two.bus.is_up)
        yield [one, two]
    finally:
        for each in (one, two):
            each.page.words[TRADER_PID] = 0
            await each.end()


async def test_holder_that_cannot_run_a_trader_gives_way_and_comes_back_with_one(
    tmp_path: Path, server: RedisServer
) -> None:
    async with idle_and_waiting(tmp_path, server) as (one, two):
        one.latch.raise_page(CRASH, PRESETS["cancel_all"], "no room on the disk", ts_ns=2)
        former = one.tenure
        await two.holds()
        assert two.tenure > former
        (given,) = one.events("lease_given_up")
        assert given["tenure"] == former
        two.page.words[TRADER_PID] = 0
        await two.stop()
        free_s = time.monotonic()
        await one.until(lambda: time.monotonic() - free_s > 2 * TTL_S)
        assert one.tenure == 0, "a shard that is free is no use to it yet"
        one.page.words[TRADER_PID] = 1
        await one.holds()


@pytest.mark.parametrize("source", [OPERATOR, "control:C11"])
async def test_what_a_person_or_a_limit_of_the_account_holds_is_not_given_to_another(
    tmp_path: Path, server: RedisServer, source: str
) -> None:
    async with idle_and_waiting(tmp_path, server) as (one, two):
        one.latch.raise_page(source, PRESETS["cancel_all"], "smoke", ts_ns=2)
        former, began_s = one.tenure, time.monotonic()
        await one.until(lambda: time.monotonic() - began_s > 5 * TTL_S)
        assert (one.tenure, two.tenure) == (former, 0)
        one.latch.reset(one.latch.state().generation)
        await two.holds()


async def test_trader_that_lives_keeps_the_lease_and_its_absence_counts_from_its_end(
    tmp_path: Path, server: RedisServer
) -> None:
    async with idle_and_waiting(tmp_path, server) as (one, two):
        one.page.words[TRADER_PID] = 1
        began_s = time.monotonic()
        await one.until(lambda: time.monotonic() - began_s > 4 * TTL_S)
        assert two.tenure == 0
        one.page.words[TRADER_PID] = 0
        ended_s = time.monotonic()
        await two.holds()
        assert time.monotonic() - ended_s >= one.idle_s - RENEW_S - GRACE_S


async def test_disk_that_keeps_no_word_of_the_firms_does_not_part_us_from_the_lease(
    tmp_path: Path, server: RedisServer
) -> None:
    """What the store renewed is renewed here, or it would name us while we do nothing."""
    async with instances(tmp_path, server.url) as (one,):
        raised = await one.bus.raise_firm(PRESETS["cancel_all"], level="x", reason="one", by="ann")
        await one.until(lambda: one.page.permission == 0)
        file = LatchStore(one.layout.latch, None)
        await one.until(lambda: file.load().entry(FIRM) is not None)
        kept = one.layout.state_dir.rename(tmp_path / "gone")
        await one.bus.reset_firm(raised.generation, reason="all clear", by="bob")
        await one.until(lambda: bool(one.events("store_unusable")))
        began_s = time.monotonic()
        while time.monotonic() - began_s < 3 * TTL_S:
            assert one.state is LeaseState.HELD
            await asyncio.sleep(0.01)
        kept.rename(one.layout.state_dir)
        await one.until(lambda: one.page.permission == PERMISSION_ALL)


# -- the firm's kill -------------------------------------------------------------------------------


async def test_kill_of_the_firm_reaches_every_instance_and_only_its_own_reset_lifts_it(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url, server.url) as (one, two):
        await two.until(lambda: two.bus.is_up)
        raised = await one.bus.raise_firm(
            PRESETS["cancel_all"], level="cancel_all", reason="drill", by="ann"
        )
        for each in (one, two):
            await each.until(lambda each=each: each.page.permission == 0)  # type: ignore[misc]
        entry = two.latch.state().entry(FIRM)
        assert entry is not None
        assert "ann" in entry.reason
        assert "drill" in entry.reason
        stale = await two.bus.reset_firm(raised.generation - 1, reason="all clear now", by="bob")
        assert not stale.is_done
        assert one.page.permission == 0
        done = await two.bus.reset_firm(raised.generation, reason="all clear now", by="bob")
        assert done.is_done
        for each in (one, two):
            await each.until(lambda each=each: each.page.permission == PERMISSION_ALL)  # type: ignore[misc]
            await each.until(lambda each=each: bool(each.lifted))  # type: ignore[misc]


async def test_emptied_store_lifts_no_kill_and_is_told_of_it_again(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        raised = await one.bus.raise_firm(
            PRESETS["halt_quoting"], level="halt_quoting", reason="drill", by="ann"
        )
        await one.until(lambda: one.page.permission != PERMISSION_ALL)
        server.flush()
        await one.until(lambda: server.client().hget(SHARD.firm_key, "active") == "1")
        assert one.latch.state().entry(FIRM) is not None
        again = int(server.client().hget(SHARD.firm_key, "generation"))
        assert again > raised.generation
        assert int(server.client().hget(SHARD.firm_key, "permission")) == one.page.permission


async def test_store_restored_from_before_the_kill_does_not_lift_it(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        bus, client = one.bus, server.client()
        first = await bus.raise_firm(PRESETS["cancel_all"], level="x", reason="one", by="ann")
        await one.until(lambda: one.page.permission == 0)
        await bus.reset_firm(first.generation, reason="all clear", by="bob")
        await one.until(lambda: one.page.permission == PERMISSION_ALL)
        open_then = client.hgetall(SHARD.firm_key)
        await bus.raise_firm(PRESETS["cancel_all"], level="x", reason="two", by="ann")
        await one.until(lambda: one.page.permission == 0)
        client.hset(SHARD.firm_key, mapping=open_then)
        turns = one.page.words[PERMIT_DEADLINE_MONO_NS]
        await one.until(lambda: one.page.words[PERMIT_DEADLINE_MONO_NS] > turns + NS_PER_S // 4)
        assert one.page.permission == 0


async def test_kill_of_the_firm_holds_over_a_restart_without_the_store(
    tmp_path: Path, server: RedisServer
) -> None:
    async with instances(tmp_path, server.url) as (one,):
        await one.bus.raise_firm(PRESETS["cancel_all"], level="x", reason="one", by="ann")
        await one.until(lambda: one.page.permission == 0)
        file = LatchStore(one.layout.latch, None)
        await one.until(lambda: file.load().entry(FIRM) is not None)
        server.kill()
        await one.stop()
        one.start()
        await one.until(lambda: bool(one.events("store_unusable")))
        assert one.page.permission == 0


def test_token_is_private_and_the_same_for_every_life_of_ops(tmp_path: Path) -> None:
    path = tmp_path / "token"
    first = instance_token(path, "a")
    assert instance_token(path, "a") == first
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o600)
    path.write_text("not one")
    assert instance_token(path, "a") != first
