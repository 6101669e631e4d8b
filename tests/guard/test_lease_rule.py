"""What the guard does about a lease that comes, goes, comes back or went to another."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.guard.lease_rule import Advice, LeaseView, LeaseWatch, advise, look_at_lease
from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    LEASE_STATE,
    LEASE_UNTIL_MONO_NS,
    TRADER_TENURE,
    LeaseState,
    Page,
)

REST_NS = 100


def view(
    now_ns: int,
    fence: int = 0,
    *,
    until_ns: int = 1 << 62,
    state: LeaseState = LeaseState.SUSPENDED,
    trader: int = 0,
    is_running: bool = True,
) -> LeaseView:
    return LeaseView(now_ns, fence, until_ns, state, trader, is_running)


def advice(*views: LeaseView) -> list[Advice]:
    watch, found = LeaseWatch(), []
    for one in views:
        watch, what = advise(watch, one, REST_NS)
        found.append(what)
    return found


def test_tenure_lets_a_trader_start_and_live() -> None:
    assert advice(view(1, 7, is_running=False), view(2, 7), view(3, 7, trader=7)) == [
        Advice.GO_ON,
        Advice.GO_ON,
        Advice.GO_ON,
    ]


def test_without_one_none_starts_and_a_waiting_one_is_left_alone() -> None:
    waiting = view(10**6, state=LeaseState.STANDBY)
    assert advice(view(1, is_running=False), waiting) == [Advice.HOLD_BACK, Advice.HOLD_BACK]


def test_lost_tenure_is_borne_until_another_may_have_it_whenever_the_guard_looks() -> None:
    held = view(5, 7, until_ns=10, trader=7)
    lost = [view(ns, trader=7) for ns in (10, 109, 110)]
    assert advice(held, *lost)[1:] == [Advice.HOLD_BACK, Advice.HOLD_BACK, Advice.END_AT_ONCE]
    assert advice(held, lost[2])[-1] is Advice.END_AT_ONCE, "a guard that slept gives no time more"
    back = view(60, 7, until_ns=70, trader=7)
    assert advice(held, lost[0], back, lost[1], lost[2])[-1] is Advice.HOLD_BACK


def test_dead_ops_is_a_lost_tenure_once_its_time_is_over() -> None:
    stale = [view(ns, 7, until_ns=50, trader=7, state=LeaseState.HELD) for ns in (49, 50, 149, 150)]
    assert advice(*stale) == [Advice.GO_ON, Advice.HOLD_BACK, Advice.HOLD_BACK, Advice.END_AT_ONCE]


def test_trader_of_another_tenure_is_ended_for_a_new_one() -> None:
    assert advice(view(1, 9, trader=7)) == [Advice.END_FOR_NEW_TENURE]


def test_superseded_trader_is_ended_at_once() -> None:
    assert advice(view(1, trader=7, state=LeaseState.SUPERSEDED)) == [Advice.END_AT_ONCE]


@given(
    st.lists(
        st.builds(
            LeaseView,
            now_ns=st.integers(0, 500),
            fence=st.integers(0, 3),
            until_ns=st.integers(0, 500),
            state=st.sampled_from(LeaseState),
            trader_tenure=st.integers(0, 3),
            is_trader_running=st.booleans(),
        )
    )
)
def test_trader_is_asked_to_stop_in_order_only_under_a_tenure(views: list[LeaseView]) -> None:
    """Who stops in order sweeps the account."""
    ordered = sorted(views, key=lambda one: one.now_ns)
    for one, what in zip(ordered, advice(*ordered), strict=True):
        if what in (Advice.GO_ON, Advice.END_FOR_NEW_TENURE):
            assert one.has_tenure
        if what is Advice.END_AT_ONCE:
            assert one.is_trader_running
            assert not one.has_tenure


def test_page_is_read_as_ops_writes_it(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page")
    page.words[FENCE_EPOCH], page.words[LEASE_UNTIL_MONO_NS] = 7, 50
    page.words[LEASE_STATE], page.words[TRADER_TENURE] = LeaseState.HELD, 6
    assert look_at_lease(page, 10, is_trader_running=True) == view(
        10, 7, until_ns=50, state=LeaseState.HELD, trader=6
    )
    assert look_at_lease(page, 10, is_trader_running=False).trader_tenure == 0
