"""We never outrun the venue's buckets, and quoting never eats what cancels need."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.throttle import Pool, Throttle
from mm_daemon.domain.events import CreditLimits
from mm_daemon.domain.intents import (
    CancelAll,
    CancelOrder,
    MassQuote,
    PlaceOrder,
    QuoteEntry,
    ReadOpenOrders,
)
from mm_daemon.domain.orders import Purpose, TimeInForce
from mm_daemon.domain.params import ThrottleParams
from mm_daemon.domain.units import NS_PER_S, Lots, Ns, Side, Ticks

PARAMS = ThrottleParams(use_ratio=0.8, cancel_reserve=3.0, quote_value_per_credit_min_usd=0.0)
LIMITS = CreditLimits(
    orders_per_s=30,
    orders_burst=100,
    quotes_per_s=500,
    quotes_burst=1000,
    mass_quotes_per_s=10,
    mass_quotes_burst=20,
    cancel_all_per_s=5,
    cancel_all_burst=20,
    queries_per_s=20,
    queries_burst=100,
)
START = Ns(10**18)


def order() -> PlaceOrder:
    return PlaceOrder(
        1,
        "c",
        0,
        Side.BUY,
        Ticks(1),
        Lots(1),
        TimeInForce.IOC,
        post_only=False,
        reduce_only=False,
        mmp=False,
        purpose=Purpose.HEDGE,
        valid_until_ns=START,
    )


def mass_quote(lots: list[int]) -> MassQuote:
    entries = tuple(QuoteEntry(i, Ticks(1), Lots(n), None, None) for i, n in enumerate(lots))
    return MassQuote(1, "g", "q", entries, START)


def ready() -> Throttle:
    throttle = Throttle(PARAMS)
    throttle.set_limits(LIMITS, START)
    return throttle


def test_nothing_may_be_sent_before_the_venue_stated_its_limits() -> None:
    throttle = Throttle(PARAMS)
    assert not throttle.try_spend(order(), START)
    assert throttle.quote_sides_available(START) == 0
    assert throttle.next_ns(Pool.ORDERS, 1, START) is None


def test_c06_uses_only_its_share_and_keeps_the_reserve_for_cancels() -> None:
    throttle = ready()
    sent = 0
    while throttle.try_spend(order(), START):
        sent += 1
    assert sent == 80 - 3
    for _ in range(3):
        assert throttle.try_spend(CancelOrder(1, "o", "", "BTC"), START)
    assert not throttle.try_spend(CancelOrder(1, "o", "", "BTC"), START)
    assert throttle.try_spend(CancelAll(1, "", freeze=True), START)


def test_c06_a_mass_quote_that_only_pulls_may_use_the_reserve() -> None:
    throttle = ready()
    while throttle.try_spend(mass_quote([1]), START):
        pass
    assert throttle.quote_sides_available(START) == 0
    assert throttle.try_spend(mass_quote([0, 0]), START)
    assert not throttle.try_spend(mass_quote([0, 1]), START)


def test_c06_a_burst_of_ten_times_the_credit_leaves_every_cancel_its_own() -> None:
    throttle = ready()
    refused = 0
    for k in range(1_000):
        now = Ns(START + k * NS_PER_S // 1_000)
        refused += not throttle.try_spend(order(), now)
        if k % 400 == 0:
            assert throttle.try_spend(CancelOrder(1, "o", "", "BTC"), now)
    assert refused > 800
    assert throttle.refused[Pool.ORDERS] == refused


def test_next_ns_is_the_first_moment_with_enough_credit() -> None:
    throttle = ready()
    while throttle.try_spend(order(), START):
        pass
    at = throttle.next_ns(Pool.ORDERS, 5, START)
    assert at is not None
    assert throttle.available(Pool.ORDERS, Ns(at - 1)) == 4
    assert throttle.available(Pool.ORDERS, at) == 5
    assert throttle.next_ns(Pool.ORDERS, 10**6, START) is None


def test_drained_pool_holds_nothing_until_it_refills() -> None:
    throttle = ready()
    throttle.drain(Pool.ORDERS, START)
    assert throttle.available(Pool.ORDERS, START, for_cancel=True) == 0
    assert throttle.available(Pool.ORDERS, Ns(START + NS_PER_S), for_cancel=True) == 24


def test_reads_count_in_their_own_pool() -> None:
    throttle = ready()
    assert throttle.try_spend(ReadOpenOrders(1), START)
    assert throttle.available(Pool.QUERIES, START, for_cancel=True) == 79
    assert throttle.available(Pool.ORDERS, START, for_cancel=True) == 80


@given(st.lists(st.tuples(st.integers(0, 3 * 10**8), st.booleans()), max_size=150))
def test_c06_never_outruns_a_bucket_of_the_stated_rate(steps: list[tuple[int, bool]]) -> None:
    """The venue's own bucket, kept here as exact fractions, never goes below zero."""
    throttle = ready()
    now = int(START)
    level = Fraction(100)
    for wait_ns, is_cancel in steps:
        now += wait_ns
        level = min(Fraction(100), level + Fraction(30 * wait_ns, NS_PER_S))
        intent = CancelOrder(1, "o", "", "BTC") if is_cancel else order()
        if throttle.try_spend(intent, Ns(now)):
            level -= 1
        assert level >= 0


def test_limits_stated_again_give_no_credit_back() -> None:
    throttle = ready()
    while throttle.try_spend(order(), START):
        pass
    throttle.set_limits(LIMITS, START)
    assert throttle.available(Pool.ORDERS, START) == 0
    assert not throttle.try_spend(order(), START)


def test_equal_histories_have_equal_digests() -> None:
    first, second = ready(), ready()
    assert first.digest() == second.digest()
    assert first.try_spend(order(), START)
    assert first.digest() != second.digest()
