"""A guard whose lease goes: what it does to its trader and at the venue, and when it lets be.

Ops is played by the test, which writes its words on the page.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass

import pytest

from mm_daemon.domain.permission import OPEN, OPERATOR, PRESETS
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import (
    CRASH_COUNT,
    FENCE_EPOCH,
    LEASE_STATE,
    LEASE_UNTIL_MONO_NS,
    TRADER_PID,
    TRADER_TENURE,
    LeaseState,
    Page,
)
from tests.guard.rest_venue import RestVenue
from tests.guard.test_supervisor import Guard, guard, is_alive, until

__all__ = ["guard"]

REST_S = 0.5


@dataclass
class Ops:
    """Says on the page what the store would have it say."""

    page: Page

    def hold(self, tenure: int, seconds: float) -> None:
        words = self.page.words
        words[LEASE_UNTIL_MONO_NS] = time.monotonic_ns() + int(seconds * 1e9)
        words[FENCE_EPOCH] = tenure
        words[LEASE_STATE] = LeaseState.HELD

    def say(self, state: LeaseState) -> None:
        self.page.words[FENCE_EPOCH] = 0
        self.page.words[LEASE_STATE] = state


def holding(guard: Guard) -> tuple[Page, Ops]:
    """A guard under a tenure, and its trader under the same."""
    guard.extra = {"lease_required": True, "lease_rest_s": REST_S}
    guard.start()
    page = guard.page()
    ops = Ops(page)
    ops.hold(7, 60.0)
    guard.reconciled(1)
    page.words[TRADER_TENURE] = 7
    return page, ops


def cancels(venue: RestVenue) -> int:
    """How many cancels were asked for, whatever they met."""
    with venue.lock:
        return sum(b"private/cancel" in body for body in venue.bodies)


@pytest.mark.parametrize("how", ["suspended", "ops dead"])
def test_trader_whose_lease_may_be_anothers_is_killed_and_nothing_is_swept(
    guard: Guard, venue: RestVenue, how: str
) -> None:
    """An order that is there afterwards is another owner's."""
    page, ops = holding(guard)
    trader = page.words[TRADER_PID]
    ops.hold(7, 0.2)
    lost_s = time.monotonic() + 0.2
    if how == "suspended":
        until(lambda: time.monotonic() >= lost_s, "the end of the holder's time")
        ops.say(LeaseState.SUSPENDED)
    until(lambda: not is_alive(trader), "the end of the trader")
    ended_s = time.monotonic() - lost_s
    assert REST_S - 0.05 <= ended_s <= REST_S + 1.0, "the store's ttl, and no longer"
    guard.life(2)
    with venue.lock:
        venue.orders["of another"] = "BTC"
    LatchStore(guard.layout.latch, page).raise_latch(
        OPERATOR, PRESETS["cancel_all"], "kill", ts_ns=1
    )
    until(lambda: guard.has_logged("ended", child="trader", code=-9), "its end to be seen")
    assert page.words[CRASH_COUNT] == 0
    assert is_still(venue)
    assert "of another" in venue.orders
    assert guard.stop() == 3, "nobody of ours asked the venue"
    assert cancels(venue) == 0


def test_sweep_in_hand_ends_with_the_tenure(guard: Guard, venue: RestVenue) -> None:
    guard.lives = {"2": "unsure"}  # one that waits for a tenure reconciles nothing
    page, ops = holding(guard)
    venue.faults.is_cancel_deaf = True
    guard_sweeps = cancels(venue)
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    until(lambda: cancels(venue) > guard_sweeps + 10, "a sweep that finds no end")
    ops.say(LeaseState.SUPERSEDED)
    until(lambda: is_still(venue), "its end")
    ops.say(LeaseState.STANDBY)
    guard.life(2)
    assert page.words[TRADER_TENURE] == 0, "a trader that waits"
    assert is_still(venue), "whatever comes after"
    assert guard.stop() == 0, "what rests is another's"


def is_still(venue: RestVenue) -> bool:
    """No cancel for longer than any pause between two rounds of a sweep."""
    count = cancels(venue)
    return not threading.Event().wait(0.5) and cancels(venue) == count


def test_lease_that_goes_during_an_orderly_stop_ends_it_at_once(
    guard: Guard, venue: RestVenue
) -> None:
    guard.lives = {"1": "ignore_term"}
    _, ops = holding(guard)
    ops.hold(7, 0.2)
    guard.send(signal.SIGTERM)
    assert guard.wait() == 3
    assert cancels(venue) == 0
    assert guard.has_logged("lease", advice="end_at_once")
    assert guard.latch().load().effective() == OPEN, "no crash of the trader's"


def test_trader_of_an_older_tenure_is_stopped_in_order_and_swept_under_the_new(
    guard: Guard, venue: RestVenue
) -> None:
    page, ops = holding(guard)
    ops.hold(8, 60.0)
    guard.reconciled(2)
    assert guard.has_logged("ended", child="trader", code=0)
    assert page.words[CRASH_COUNT] == 0
    assert guard.stop() == 0
    assert venue.orders == {}
