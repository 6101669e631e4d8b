"""The lease as a pure machine, and two of them over the store's own scripts on a virtual clock.

The scripts run inside a real Redis, unchanged; only `redis` is another name in them, so that time,
expiry and the server's identity are the test's. So hypothesis may stretch, lose and reorder what
takes seconds in the world, forget or restore all that the store knows, and look after every step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mm_daemon.core.hedge_desk import HEDGE_VALID_NS
from mm_daemon.ipc.page import LeaseState
from mm_daemon.ops.lease import (
    LIFE_BITS,
    NS_PER_S,
    ORDER_VALID_S_MAX,
    Lease,
    LeaseTimes,
    life_epoch,
)
from mm_daemon.ops.redis_bus import Granted, Held, RedisBus, Refused, Renewed, Shard
from tests.ops.redis_server import RedisServer, redis_server

NS_PER_MS = 1_000_000
TIMES = LeaseTimes(ttl_ns=5 * NS_PER_S, permit_ns=3 * NS_PER_S, valid_ns=3_250 * NS_PER_MS)
SHARD = Shard("desk", "sim", "deribit", "maker", ("BTC", "ETH"))
START_MS = 1_800_000_000_000


# -- one instance alone ----------------------------------------------------------------------------


def test_an_order_is_valid_no_longer_than_a_new_owner_waits() -> None:
    assert HEDGE_VALID_NS == ORDER_VALID_S_MAX * NS_PER_S


def test_nothing_held_permits_nothing() -> None:
    lease = Lease()
    assert lease.state(0) is LeaseState.STANDBY
    assert lease.fence(0) == 0
    assert lease.permit_deadline_ns(0, TIMES) == 0


def granted(left_ns: int = 0) -> Lease:
    return Lease().granted(7, left_ns, asked_ns=100, now_ns=200, times=TIMES)


def test_new_owner_waits_for_what_the_former_one_may_have_sent() -> None:
    lease = granted()
    quiet_ns = TIMES.valid_ns - TIMES.rest_ns
    assert lease.state(200 + quiet_ns) is LeaseState.SETTLING
    assert lease.fence(200) == 7
    assert lease.permit_deadline_ns(200, TIMES) == 0
    assert quiet_ns <= TIMES.settle_ns(0) < 2 * NS_PER_S


def test_new_owner_of_a_store_that_knows_nothing_waits_for_a_whole_ttl_more() -> None:
    assert granted(TIMES.ttl_ns).quote_from_ns - granted().quote_from_ns == TIMES.ttl_ns


def test_permit_counts_from_before_the_question_was_sent() -> None:
    lease = granted().renewed(asked_ns=2 * NS_PER_S, times=TIMES)
    now_ns = lease.quote_from_ns
    assert lease.state(now_ns) is LeaseState.HELD
    assert lease.permit_deadline_ns(now_ns, TIMES) == 2 * NS_PER_S + TIMES.permit_ns


def test_holder_stops_by_its_own_clock_and_may_come_back() -> None:
    lease = granted().renewed(asked_ns=2 * NS_PER_S, times=TIMES)
    end_ns = 2 * NS_PER_S + TIMES.hold_ns
    assert lease.fence(end_ns - 1) == 7
    assert lease.fence(end_ns) == 0
    assert lease.state(end_ns) is LeaseState.SUSPENDED
    assert lease.permit_deadline_ns(end_ns, TIMES) == 0
    back = lease.renewed(asked_ns=end_ns, times=TIMES)
    assert back.fence(end_ns) == 7
    assert back.state(end_ns) is LeaseState.HELD


def test_late_answer_gives_nothing() -> None:
    late_ns = 100 + TIMES.hold_ns
    lease = Lease().granted(7, 0, asked_ns=100, now_ns=late_ns, times=TIMES)
    assert lease.fence(late_ns) == 0


def test_superseded_until_its_trader_has_ended() -> None:
    lease = granted().lost(to_another=True)
    assert lease.state(0) is LeaseState.SUPERSEDED
    assert lease.fence(0) == 0
    assert lease.stood_down().state(0) is LeaseState.STANDBY
    assert granted().lost(to_another=False).state(0) is LeaseState.STANDBY


@given(st.lists(st.tuples(st.integers(1, 1 << 41), st.integers(1, (1 << LIFE_BITS) - 1))))
def test_epochs_order_by_tenure_then_life_and_never_collide(lives: list[tuple[int, int]]) -> None:
    assert sorted(life_epoch(*one) for one in lives) == [life_epoch(*one) for one in sorted(lives)]
    assert len({life_epoch(*one) for one in lives}) == len(set(lives))


# -- two instances over the real scripts -----------------------------------------------------------

VIRTUAL = """
local real = redis
local function now() return tonumber(real.call('GET', 'virtual:now')) end
local function is_gone(key)
  local at = real.call('GET', 'virtual:at:' .. key)
  return at and tonumber(at) <= now()
end
local commands = {
  TIME = function()
    local ms = now()
    return {math.floor(ms / 1000), (ms % 1000) * 1000}
  end,
  INFO = function() return 'redis_version:6.2.0\\nrun_id:' .. real.call('GET', 'virtual:life') end,
  GET = function(key)
    if is_gone(key) then return false end
    return real.call('GET', key)
  end,
  PTTL = function(key) return tonumber(real.call('GET', 'virtual:at:' .. key)) - now() end,
  SET = function(key, value, _, ttl)
    real.call('SET', 'virtual:at:' .. key, now() + ttl)
    return real.call('SET', key, value)
  end,
  PEXPIRE = function(key, ttl) return real.call('SET', 'virtual:at:' .. key, now() + ttl) end,
}
local redis = {call = function(name, ...)
  if commands[name] then return commands[name](...) end
  return real.call(name, ...)
end}
"""


class VirtualBus(RedisBus):
    """The bus with the time of the test in its scripts."""

    async def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        return await super()._run(VIRTUAL + script, keys, arguments)


@dataclass
class Asked:
    """A question on its way, or its answer."""

    at_ns: int
    tenure: int
    answer: Granted | Held | Renewed | Refused | None = None


@dataclass
class Instance:
    """One daemon's lease; its clock has an origin and a rate of its own."""

    name: str
    bus: VirtualBus
    origin_ns: int
    rate_per_mille: int
    lease: Lease = field(default_factory=Lease)
    asked: Asked | None = None
    sent_last_ms: int = -(1 << 60)
    """True time at which it last could send."""

    def clock_ns(self, true_ms: int) -> int:
        return self.origin_ns + true_ms * NS_PER_MS * self.rate_per_mille // 1000


class TwoInstances(RuleBasedStateMachine):
    """Anything may happen to questions, answers and the store; never two that may send."""

    server: RedisServer
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.redis = self.server.client()
        self.redis.flushall()
        self.ms = START_MS
        self.life = 0
        self.tenures: list[int] = []
        self.kept: dict[str, bytes] = {}
        self.instances = [
            Instance("a", self.make_bus(), 10**15, 997),
            Instance("b", self.make_bus(), 3 * 10**11, 1003),
        ]
        self.tell_time()

    def make_bus(self) -> VirtualBus:
        return VirtualBus(self.server.url, SHARD, 5.0, lambda: "")

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def tell_time(self) -> None:
        self.redis.mset({"virtual:now": self.ms, "virtual:life": f"{self.life:040x}"})

    def teardown(self) -> None:
        for one in self.instances:
            self.wait(one.bus.close())
        self.redis.close()

    # -- what may happen ----------------------------------------------------------------------

    @rule(index=st.integers(0, 1), seconds=st.integers(1, 9), every_ms=st.integers(200, 1_500))
    def all_is_well(self, index: int, seconds: int, every_ms: int) -> None:
        """Round trips as they should be, for long enough that a new owner may begin to send."""
        for _ in range(0, seconds * 1000, every_ms):
            self.prompt_round_trip(index)
            self.pass_time(every_ms)

    @rule(index=st.integers(0, 1), step=st.sampled_from(("ask", "reach", "arrive")))
    def step_of_a_slow_round_trip(self, index: int, step: str) -> None:
        steps = {"ask": self.ask, "reach": self.reach_the_store, "arrive": self.answer_arrives}
        steps[step](index)

    @rule(index=st.integers(0, 1), trouble=st.sampled_from(("loss", "stop", "restart")))
    def trouble_of_an_instance(self, index: int, trouble: str) -> None:
        troubles = {
            "loss": self.question_or_answer_is_lost,
            "stop": self.let_go,
            "restart": self.starts_again,
        }
        troubles[trouble](index)

    @rule(trouble=st.sampled_from(("flush", "delete", "copy", "restore")))
    def trouble_of_the_store(self, trouble: str) -> None:
        troubles = {
            "flush": self.store_is_flushed,
            "delete": self.a_lease_is_deleted_by_hand,
            "copy": self.store_is_copied,
            "restore": self.store_starts_again_from_the_copy,
        }
        troubles[trouble]()

    @rule(ms=st.one_of(st.integers(1, 300), st.integers(300, 6_000)))
    def pass_time(self, ms: int) -> None:
        """In small steps, so that whoever may send is seen to."""
        end_ms = self.ms + ms
        while self.ms < end_ms:
            self.ms = min(end_ms, self.ms + 25)
            self.never_two_that_send()
        self.tell_time()

    def ask(self, index: int) -> None:
        one = self.instances[index]
        if one.asked is None:
            one.asked = Asked(one.clock_ns(self.ms), one.lease.tenure)

    def reach_the_store(self, index: int) -> None:
        one = self.instances[index]
        if one.asked is None or one.asked.answer is not None:
            return
        self.ms += 1
        self.tell_time()
        if one.asked.tenure:
            work = one.bus.renew(one.name, one.asked.tenure, ttl_ns=TIMES.ttl_ns)
            one.asked.answer = self.wait(work)
            return
        one.asked.answer = self.wait(
            one.bus.acquire(one.name, ttl_ns=TIMES.ttl_ns, rest_ns=TIMES.rest_ns, floor=0)
        )
        if isinstance(one.asked.answer, Granted):
            self.on_grant(one, one.asked.answer)

    def on_grant(self, one: Instance, grant: Granted) -> None:
        assert all(grant.tenure > former for former in self.tenures), "never reused, always rising"
        self.tenures.append(grant.tenure)
        other = self.instances[1 - self.instances.index(one)]
        if grant.left_ns == 0:
            assert other.lease.fence(other.clock_ns(self.ms)) == 0, "it stopped before we may start"

    def answer_arrives(self, index: int) -> None:
        one = self.instances[index]
        if one.asked is None or one.asked.answer is None:
            return
        asked, one.asked = one.asked, None
        match asked.answer:
            case Granted(tenure, left_ns):
                one.lease = one.lease.granted(
                    tenure,
                    left_ns,
                    asked_ns=asked.at_ns,
                    now_ns=one.clock_ns(self.ms),
                    times=TIMES,
                )
            case Renewed():
                one.lease = one.lease.renewed(asked_ns=asked.at_ns, times=TIMES)
            case Refused(holder):
                one.lease = one.lease.lost(to_another=bool(holder))

    def question_or_answer_is_lost(self, index: int) -> None:
        self.instances[index].asked = None

    def prompt_round_trip(self, index: int) -> None:
        self.question_or_answer_is_lost(index)
        self.ask(index)
        self.reach_the_store(index)
        self.answer_arrives(index)

    def let_go(self, index: int) -> None:
        """An ordered stop: the trader has ended."""
        one = self.instances[index]
        if one.lease.tenure and one.asked is None:
            tenure, one.lease = one.lease.tenure, Lease()
            self.wait(one.bus.release(one.name, tenure, is_clean=True))

    def starts_again(self, index: int) -> None:
        """It remembers nothing; what it sent is still on its way."""
        one = self.instances[index]
        one.lease, one.asked = Lease(), None

    def store_is_flushed(self) -> None:
        self.ms += 1
        self.redis.flushall()
        self.tell_time()

    def a_lease_is_deleted_by_hand(self) -> None:
        self.redis.delete(SHARD.lease_keys[0])

    def store_is_copied(self) -> None:
        keys = [key for key in self.redis.keys("*") if not key.startswith("virtual:now")]
        raw = self.server.client()
        raw.connection_pool.connection_kwargs["decode_responses"] = False
        self.kept = {key: raw.dump(key) for key in keys}
        raw.close()

    def store_starts_again_from_the_copy(self) -> None:
        self.ms += 1
        self.redis.flushall()
        for key, value in self.kept.items():
            self.redis.restore(key, 0, value)
        self.life += 1
        self.tell_time()

    # -- what must hold -----------------------------------------------------------------------

    @invariant()
    def never_two_that_send(self) -> None:
        for one in self.instances:
            now_ns = one.clock_ns(self.ms)
            if now_ns >= one.lease.permit_deadline_ns(now_ns, TIMES):
                continue
            one.sent_last_ms = self.ms
            for other in self.instances:
                if other is not one:
                    arrives_ms = other.sent_last_ms + TIMES.valid_ns // NS_PER_MS
                    assert arrives_ms <= self.ms, (one.name, other.name, self.ms, arrives_ms)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_never_two_that_may_send_and_no_tenure_twice(server: RedisServer) -> None:
    TwoInstances.server = server
    TwoInstances.loop = asyncio.new_event_loop()
    try:
        run = settings(
            max_examples=100,
            stateful_step_count=30,
            suppress_health_check=[HealthCheck.too_slow],
        )
        case = TwoInstances.TestCase()
        case.settings = run
        case.runTest()
    finally:
        TwoInstances.loop.close()
