"""Pace and order of resynchronisation, and the token bucket that bounds it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.venues.book_sync import (
    RESYNC_SPACING_NS_MAX,
    SNAPSHOT_WAIT_NS,
    BookChain,
    ResyncPlan,
)
from mm_daemon.venues.pacing import Pacer


def at(seconds: float) -> Ns:
    return Ns(round(seconds * NS_PER_S))


def test_a_loss_is_told_once() -> None:
    chain = BookChain()
    assert not chain.lose()
    chain.change_id = 5
    assert chain.is_live
    assert chain.lose()
    assert not chain.lose()
    assert chain.losses == 1


def test_a_book_is_asked_for_at_once_and_then_ever_more_slowly() -> None:
    plan = ResyncPlan()
    asked = []
    now = 0.0
    while now < 100.0:
        plan.want(1, at(now))
        if plan.due(at(now), 10):
            asked.append(now)
        now = round(now + 0.25, 2)
    gaps = [b - a for a, b in itertools.pairwise(asked)]
    assert asked[0] == 0.0
    assert gaps[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert gaps[-1] == RESYNC_SPACING_NS_MAX / NS_PER_S


def test_a_book_that_stayed_whole_for_long_is_asked_for_quickly_again() -> None:
    plan = ResyncPlan()
    for now in (0.0, 10.0, 20.0, 500.0):
        plan.want(1, at(now))
        assert plan.due(at(now), 10) == [1]
    plan.want(1, at(500.1))
    assert plan.due(at(501.0), 10) == [1]


def test_no_more_books_than_the_cap_at_once_and_the_rest_stay_due() -> None:
    plan = ResyncPlan()
    for book_id in range(25):
        plan.want(book_id, at(0))
    assert plan.due(at(0), 10) == list(range(10))
    assert plan.due(at(0), 10) == list(range(10, 20))
    assert plan.due(at(0), 10) == list(range(20, 25))


def test_a_snapshot_that_does_not_come_is_overdue_once() -> None:
    plan = ResyncPlan()
    plan.expect(1, at(0))
    plan.expect(2, at(1))
    plan.settle(2)
    assert plan.next_deadline_ns(may_ask=True) == SNAPSHOT_WAIT_NS
    assert plan.overdue(Ns(SNAPSHOT_WAIT_NS - 1)) == []
    assert plan.overdue(Ns(SNAPSHOT_WAIT_NS)) == [1]
    assert plan.overdue(at(99)) == []


def test_a_book_no_longer_wanted_has_no_deadline() -> None:
    plan = ResyncPlan()
    plan.want(1, at(0))
    plan.expect(2, at(0))
    assert plan.next_deadline_ns(may_ask=False) == SNAPSHOT_WAIT_NS
    plan.forget(1)
    plan.forget(2)
    assert plan.next_deadline_ns(may_ask=True) is None


@given(st.lists(st.integers(0, 3_000_000_000), max_size=60))
def test_a_pacer_never_exceeds_burst_plus_rate(steps: list[int]) -> None:
    pacer = Pacer(interval_ns=NS_PER_S, burst=5)
    now, taken = 0, []
    for step in steps:
        now += step
        if pacer.take(Ns(now)):
            taken.append(now)
        else:
            assert now < pacer.ready_ns()
    for i in range(len(taken)):
        for j in range(i + 1, len(taken)):
            count = j - i + 1
            assert count <= 5 + (taken[j] - taken[i]) / NS_PER_S + 1e-9
