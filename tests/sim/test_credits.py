"""Rate limits: pools, refill, and what running dry does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.credits import AccountCredits, CreditPool
from mm_daemon.sim.exchange_config import COMMON_LIMITS, TIERS
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import ConnectionTerminated
from mm_daemon.sim.exchange_types import CancelFilter, CreditClass, MassQuoteReply
from mm_daemon.sim.spec import BUY, SECOND_US
from tests.sim.exchange_setup import (
    CALL,
    MAKER,
    T0,
    mass,
    of_type,
    order,
    protect,
    quote,
    venue,
)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 400_000), max_size=60), st.integers(1, 30), st.integers(1, 40))
def test_a_pool_never_grants_more_than_burst_plus_rate(
    waits_us: list[int], rate: int, burst: int
) -> None:
    """In any window: grants <= burst + rate x length; and a refusal takes nothing."""
    pool = CreditPool(cost_credits=1, pool_credits=burst, refill_credits_per_s=rate, now_us=0)
    now_us, grants = 0, []
    for wait_us in waits_us:
        now_us += wait_us
        before = pool.level
        if pool.take(1, now_us):
            grants.append(now_us)
        else:
            assert pool.level >= before
    for first, start_us in enumerate(grants):
        for count, end_us in enumerate(grants[first:], 1):
            assert count * SECOND_US <= burst * SECOND_US + rate * (end_us - start_us)


def test_a_dry_pool_refills_one_request_in_one_over_the_rate() -> None:
    pools = AccountCredits(1, 0)
    for _ in range(100):
        pools.charge(CreditClass.NON_MATCHING, 0)
    with pytest.raises(VenueError):
        pools.charge(CreditClass.NON_MATCHING, 49_999)
    pools.charge(CreditClass.NON_MATCHING, 50_000)


def test_subscribe_costs_three_thousand_of_thirty_thousand() -> None:
    pools = AccountCredits(1, 0)
    for _ in range(10):
        pools.charge(CreditClass.SUBSCRIBE, 0)
    with pytest.raises(VenueError):
        pools.charge(CreditClass.SUBSCRIBE, 299_999)
    pools.charge(CreditClass.SUBSCRIBE, 300_000)


@pytest.mark.parametrize(
    ("tier", "rate", "burst"), [(1, 30, 100), (2, 20, 50), (3, 10, 30), (4, 5, 20)]
)
def test_matching_limits_follow_the_tier(tier: int, rate: int, burst: int) -> None:
    statement = AccountCredits(tier, 0).statement()
    assert (statement.matching_engine.rate, statement.matching_engine.burst) == (rate, burst)


def test_running_dry_is_10028_and_ends_the_session() -> None:
    exchange = venue()
    for _ in range(TIERS[1][CreditClass.MATCHING].burst):
        exchange.place(MAKER, order(BUY, 0.1, 0.001), T0)
    exchange.drain_events()
    with pytest.raises(VenueError) as caught:
        exchange.place(MAKER, order(BUY, 0.1, 0.001), T0)
    assert caught.value.code is Code.TOO_MANY_REQUESTS
    assert caught.value.terminates_session
    (ended,) = of_type(exchange.drain_events(), ConnectionTerminated)
    assert (ended.account, ended.connection) == (MAKER.account, MAKER.connection)


def test_cancel_all_has_its_own_pool() -> None:
    exchange = venue()
    for _ in range(TIERS[1][CreditClass.MATCHING].burst):
        exchange.place(MAKER, order(BUY, 0.1, 0.001), T0)
    assert len(exchange.cancel_matching(MAKER, CancelFilter(), T0).orders) == 100
    for _ in range(COMMON_LIMITS[CreditClass.CANCEL_ALL].burst - 1):
        exchange.cancel_matching(MAKER, CancelFilter(), T0)
    with pytest.raises(VenueError) as caught:
        exchange.cancel_matching(MAKER, CancelFilter(), T0)
    assert caught.value.code is Code.TOO_MANY_REQUESTS


def test_too_many_quotes_is_13903_without_ending_the_session() -> None:
    exchange = venue()
    protect(exchange)
    request = mass(*[quote(CALL, (0.018, 1), (0.022, 1))] * 100)
    for _ in range(5):
        assert isinstance(exchange.mass_quote(MAKER, request, T0), MassQuoteReply)
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(MAKER, request, T0)
    assert caught.value.code is Code.TOO_MANY_QUOTES
    assert not caught.value.terminates_session


def test_mass_quotes_draw_on_the_guaranteed_rate_first() -> None:
    exchange = venue()
    protect(exchange)
    request = mass(quote(CALL, (0.018, 1), None))
    limits = TIERS[1]
    both = (
        limits[CreditClass.GUARANTEED_MASS_QUOTES].burst
        + limits[CreditClass.MAXIMUM_MASS_QUOTES].burst
    )
    for _ in range(both):
        exchange.mass_quote(MAKER, request, T0)
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(MAKER, request, T0)
    assert caught.value.code is Code.TOO_MANY_REQUESTS
