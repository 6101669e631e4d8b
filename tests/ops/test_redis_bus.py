"""The store's client against real servers: each thing that can be wrong is one clear line."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from mm_daemon.domain.permission import PRESETS
from mm_daemon.ops.lease import LeaseTimes
from mm_daemon.ops.metrics import StoreCollector
from mm_daemon.ops.redis_bus import (
    ERROR_KINDS,
    FirmState,
    Granted,
    Held,
    RedisBus,
    Refused,
    Renewed,
    Shard,
    StoreError,
    place,
)
from tests.ops.redis_server import RedisServer, free_port, redis_server

TIMES = LeaseTimes(ttl_ns=5 * 10**9, permit_ns=3 * 10**9, valid_ns=3 * 10**9)
SHARD = Shard("desk", "sim", "deribit", "maker", ("ETH", "BTC"))
PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(server: RedisServer) -> None:
    server.flush()


@asynccontextmanager
async def bus_to(url: str, password: str = "", shard: Shard = SHARD, timeout_s: float = 1.0):  # type: ignore[no-untyped-def]
    bus = RedisBus(url, shard, timeout_s, lambda: password)
    try:
        yield bus
    finally:
        await bus.close()


async def acquire(bus: RedisBus, token: str, floor: int = 0) -> Granted | Held:
    return await bus.acquire(token, ttl_ns=TIMES.ttl_ns, rest_ns=TIMES.rest_ns, floor=floor)


async def problem_of(bus: RedisBus) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await acquire(bus, "a/1")
    assert bus.problem == str(caught.value)
    assert "\n" not in bus.problem
    assert PASSWORD not in bus.problem
    assert not bus.is_up
    assert bus.errors[caught.value.kind] == 1
    assert caught.value.kind in ERROR_KINDS
    return caught.value


# -- leases ----------------------------------------------------------------------------------------


async def test_all_underlyings_or_none(server: RedisServer) -> None:
    async with bus_to(server.url) as bus, bus_to(server.url, shard=part("ETH")) as other:
        assert isinstance(await acquire(other, "b/1"), Granted)
        held = await acquire(bus, "a/1")
        assert isinstance(held, Held)
        assert held.holder == "b"
        assert 0 < held.lapses_ns <= TIMES.ttl_ns
        assert server.client().get(SHARD.lease_keys[0]) is None, "BTC was not taken alone"


def part(*underlyings: str) -> Shard:
    return Shard("desk", "sim", "deribit", "maker", underlyings)


async def test_shards_without_a_common_underlying_do_not_meet(server: RedisServer) -> None:
    others = (
        Shard("desk", "sim", "deribit", "other", ("BTC",)),
        Shard("desk", "test", "deribit", "maker", ("BTC",)),
        Shard("rival", "sim", "deribit", "maker", ("BTC",)),
        part("ETH"),
    )
    async with bus_to(server.url, shard=part("BTC")) as bus:
        assert isinstance(await acquire(bus, "a/1"), Granted)
    for shard in others:
        async with bus_to(server.url, shard=shard) as bus:
            assert isinstance(await acquire(bus, "b/1"), Granted), shard


async def test_stale_owners_renewal_is_refused_and_changes_nothing(server: RedisServer) -> None:
    async with bus_to(server.url) as bus:
        first = await acquire(bus, "a/1")
        assert isinstance(first, Granted)
        assert isinstance(await renew(bus, "a/1", first.tenure), Renewed)
        await bus.release("a/1", first.tenure, is_clean=True)
        second = await acquire(bus, "b/1")
        assert isinstance(second, Granted)
        before = server.client().get(SHARD.lease_keys[0])
        stale = (("a/1", first.tenure), ("a/1", second.tenure), ("b/1", first.tenure))
        for token, tenure in stale:
            refused = await renew(bus, token, tenure)
            assert isinstance(refused, Refused)
            assert refused.holder == "b"
            assert await bus.release(token, tenure, is_clean=True) == 0
        assert server.client().get(SHARD.lease_keys[0]) == before
        assert isinstance(await renew(bus, "b/1", second.tenure), Renewed)


async def renew(bus: RedisBus, token: str, tenure: int) -> Renewed | Refused:
    return await bus.renew(token, tenure, ttl_ns=TIMES.ttl_ns)


async def test_renewal_is_refused_as_soon_as_one_lease_of_the_shard_is_gone(
    server: RedisServer,
) -> None:
    async with bus_to(server.url) as bus:
        grant = await acquire(bus, "a/1")
        assert isinstance(grant, Granted)
        server.client().delete(SHARD.lease_keys[1])
        assert isinstance(await renew(bus, "a/1", grant.tenure), Refused)
        for key in SHARD.fence_keys:
            server.client().delete(key)
        assert isinstance(await renew(bus, "a/1", grant.tenure), Refused)


async def test_tenure_exceeds_what_any_instance_remembers(server: RedisServer) -> None:
    async with bus_to(server.url) as bus:
        far = 1 << 50
        grant = await acquire(bus, "a/1", floor=far)
        assert isinstance(grant, Granted)
        assert grant.tenure == far + 1
        await bus.release("a/1", grant.tenure, is_clean=True)
        again = await acquire(bus, "b/1")
        assert isinstance(again, Granted)
        assert again.tenure == far + 2


async def test_how_much_of_a_former_lease_may_be_left(server: RedisServer) -> None:
    """Nothing known: a ttl. Deleted by hand: what it had. Let go in order: what a holder rests."""
    async with bus_to(server.url) as bus:
        first = await acquire(bus, "a/1")
        assert isinstance(first, Granted)
        assert first.left_ns == TIMES.ttl_ns
        for key in SHARD.lease_keys:
            server.client().delete(key)
        second = await acquire(bus, "b/1")
        assert isinstance(second, Granted)
        assert TIMES.ttl_ns - 10**9 < second.left_ns <= TIMES.ttl_ns
        await bus.release("b/1", second.tenure, is_clean=True)
        third = await acquire(bus, "a/1")
        assert isinstance(third, Granted)
        assert third.left_ns == TIMES.rest_ns


async def test_owner_whose_grant_was_lost_on_the_way_asks_again(server: RedisServer) -> None:
    async with bus_to(server.url) as bus:
        first, second = await acquire(bus, "a/1"), await acquire(bus, "a/1")
        assert isinstance(first, Granted)
        assert isinstance(second, Granted)
        assert second.tenure > first.tenure


async def test_forgotten_scripts_are_loaded_again(server: RedisServer) -> None:
    async with bus_to(server.url) as bus:
        await acquire(bus, "a/1")
        server.client().script_flush()
        assert isinstance(await acquire(bus, "a/1"), Granted)
        assert not bus.errors


# -- the firm's kill -------------------------------------------------------------------------------


async def test_kills_of_the_firm_only_narrow_until_the_reset(server: RedisServer) -> None:
    async with bus_to(server.url) as bus:
        low = await raised(bus, "halt_quoting")
        both = await raised(bus, "cancel_all")
        assert both.generation > low.generation
        assert both.mask == PRESETS["halt_quoting"].narrowed(PRESETS["cancel_all"])
        again = await raised(bus, "halt_quoting")
        assert again.mask == both.mask
        stale = await bus.reset_firm(both.generation, reason="r", by="b")
        assert (stale.is_done, stale.firm.is_active) == (False, True)
        assert str(again.generation) in stale.why_not
        done = await bus.reset_firm(again.generation, reason="r", by="b")
        assert (done.is_done, done.firm.is_active) == (True, False)
        assert done.firm.generation > again.generation
        twice = await bus.reset_firm(done.firm.generation, reason="r", by="b")
        assert "not killed" in twice.why_not


async def test_every_change_wakes_who_waits(server: RedisServer) -> None:
    woken = asyncio.Event()

    async def is_woken() -> bool:
        async with asyncio.timeout(5.0):
            await woken.wait()
        woken.clear()
        return True

    async with bus_to(server.url) as bus, bus_to(server.url) as other:
        listening = asyncio.create_task(other.wake_ups(woken.set))
        assert await is_woken(), "once subscribed: something may have come before"
        firm = await raised(bus, "cancel_all")
        assert await is_woken()
        await bus.reset_firm(firm.generation, reason="r", by="b")
        assert await is_woken()
        grant = await acquire(bus, "a/1")
        assert isinstance(grant, Granted)
        await bus.release("a/1", grant.tenure, is_clean=True)
        assert await is_woken()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def raised(bus: RedisBus, level: str) -> FirmState:
    return await bus.raise_firm(PRESETS[level], level=level, reason="r", by="a")


async def test_look_at_the_store_tells_it_and_changes_nothing(server: RedisServer) -> None:
    async with bus_to(server.url) as bus:
        assert "nobody" in await bus.describe()
        await acquire(bus, "a/1")
        keys = server.client().keys("*")
        assert "our leases are with a" in await bus.describe()
        assert server.client().keys("*") == keys
    with redis_server("--replicaof", "127.0.0.1", str(server.port)) as replica:
        async with bus_to(replica.url) as bus:
            with pytest.raises(StoreError, match="replica"):
                await bus.describe()


async def test_look_at_the_store_refuses_an_account_that_another_daemon_trades_on(
    server: RedisServer,
) -> None:
    async with bus_to(server.url, shard=part("BTC")) as bus, bus_to(server.url) as both:
        assert isinstance(await acquire(both, "b/1"), Granted)
        with pytest.raises(StoreError, match=r"maker:ETH: .*sub-account of its own"):
            await bus.describe()
        assert "our leases are with b" in await both.describe()


# -- what can be wrong -----------------------------------------------------------------------------


async def test_nobody_there() -> None:
    port = free_port()
    async with bus_to(f"redis://127.0.0.1:{port}/0") as bus:
        error = await problem_of(bus)
        assert (error.kind, str(port) in str(error)) == ("connection", True)


async def test_host_that_has_no_address() -> None:
    async with bus_to("redis://store.invalid:6379/0") as bus:
        assert (await problem_of(bus)).kind in ("connection", "timeout")


async def test_wrong_password_and_none(tmp_path: Path) -> None:
    with redis_server("--requirepass", PASSWORD) as server:
        for password in ("", "wrong"):
            async with bus_to(server.url, password) as bus:
                error = await problem_of(bus)
                assert error.kind == "password"
                assert "redis.password_file" in str(error)
        passwords = ["wrong", PASSWORD]
        bus = RedisBus(server.url, SHARD, 1.0, lambda: passwords.pop(0))
        assert (await problem_of(bus)).kind == "password"
        assert isinstance(await acquire(bus, "a/1"), Granted), "the file is read again"
        await bus.close()


async def test_read_only_replica(server: RedisServer) -> None:
    with redis_server("--replicaof", "127.0.0.1", str(server.port)) as replica:
        async with bus_to(replica.url) as bus, asyncio.timeout(10.0):
            error = await problem_of(bus)
            while error.kind in ("loading", "answer"):
                bus.errors.clear()
                error = await problem_of(bus)
            assert error.kind == "replica"
            assert "primary" in str(error)


async def test_user_without_the_rights(server: RedisServer) -> None:
    server.client().acl_setuser("poor", enabled=True, nopass=True, categories=["+@connection"])
    url = server.url.replace("redis://", "redis://poor@")
    async with bus_to(url, "any") as bus:
        assert (await problem_of(bus)).kind == "rights"
    server.client().acl_deluser("poor")


async def test_paused_server_is_a_timeout_and_then_usable(server: RedisServer) -> None:
    async with bus_to(server.url, timeout_s=0.1) as bus:
        await acquire(bus, "a/1")
        server.pause()
        try:
            error = await problem_of(bus)
        finally:
            server.resume()
        assert error.kind == "timeout"
        assert isinstance(await acquire(bus, "a/1"), Granted)
        assert (bus.is_up, bus.problem) == (True, "")


async def test_server_older_than_the_scripts_need() -> None:
    """No such server can be installed, so its answer to the script is played to the client."""
    answer = ["old", "6.0.16", "", "", *[""] * 7]
    packed = f"*{len(answer)}\r\n" + "".join(f"${len(one)}\r\n{one}\r\n" for one in answer)
    with peer_that_answers_scripts(packed.encode()) as port:
        async with bus_to(f"redis://127.0.0.1:{port}/0") as bus:
            error = await problem_of(bus)
            assert error.kind == "version"
            assert "6.0.16" in str(error)
            assert "6.2" in str(error)


async def test_script_itself_refuses_an_older_server(server: RedisServer) -> None:
    older = "local real = redis; local redis = {call = function(name, ...) if name == 'INFO' then"
    older += " return 'redis_version:6.0.16\\nrun_id:ab' end; return real.call(name, ...) end}\n"

    class OlderBus(RedisBus):
        async def _run(self, script: str, keys: list[str], arguments: list[object]) -> object:
            return await super()._run(older + script, keys, arguments)

    bus = OlderBus(server.url, SHARD, 1.0, lambda: "")
    assert (await problem_of(bus)).kind == "version"
    assert server.client().keys("*") == []
    await bus.close()


@contextmanager
def peer_that_answers_scripts(answer: bytes) -> Iterator[int]:
    """Says OK to everything but a script."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while said := connection.recv(1 << 16):
                if b"EVALSHA" in said.upper():
                    connection.sendall(answer)
                else:
                    connection.sendall(b"+OK\r\n" * said.count(b"*"))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def test_address_is_told_without_user_or_database() -> None:
    assert place("redis://ann@h:7/3") == "redis at h:7"
    assert place("rediss://h") == "redis at h:6379"
    assert place("unix:///run/redis.sock") == "redis at /run/redis.sock"


def test_every_kind_of_error_is_a_series_from_the_start() -> None:
    bus = RedisBus("redis://127.0.0.1:1/0", SHARD, 1.0, lambda: "")
    bus.errors["timeout"] = 2
    up, errors = StoreCollector(bus).collect()
    assert [sample.value for sample in up.samples] == [0.0]
    counted = {sample.labels["kind"]: sample.value for sample in errors.samples}
    assert set(counted) == set(ERROR_KINDS)
    assert counted["timeout"] == 2
