"""What is sent for the credits there are: pulls, stale sides, then value per credit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.quote_terms import MONEY_ROWS, LiveColumns, WantedColumns
from mm_daemon.core.scheduler import (
    FULL_SCAN_INTERVAL_NS,
    MESSAGES_PER_PLAN_MAX,
    Addressing,
    Credits,
    FlightColumns,
    Plan,
    Scheduler,
)
from mm_daemon.domain.intents import QUOTES_PER_MESSAGE_MAX, QuoteEntry
from mm_daemon.domain.units import NS_PER_S, Ns

NOW = Ns(1_770_000_000_000_000_000)
ADDRESS = Addressing("mm-btc", 100, Ns(NOW + NS_PER_S))
PLENTY = Credits(1_000, 50, 1_000, 50)


class World:
    """n options of which nothing is wanted and nothing rests until told."""

    def __init__(self, n: int) -> None:
        self.ids = np.arange(n, dtype=np.int64)
        zeros = np.zeros((2, n), dtype=np.int64)
        self.wanted = WantedColumns(
            zeros.copy(),
            zeros.copy(),
            zeros.copy(),
            np.zeros((MONEY_ROWS, 2, n)),
            np.zeros((2, n), dtype=np.bool_),
        )
        self.asked = LiveColumns(*(np.zeros(n, dtype=np.int64) for _ in range(4)))
        self.flights = FlightColumns(*(np.zeros(n, dtype=np.int64) for _ in range(2)))
        self.scheduler = Scheduler()

    def want(self, i: int, row: int, ticks: int, lots: int = 5, gain: float = 1.0) -> None:
        self.wanted.ticks[row, i], self.wanted.lots[row, i] = ticks, lots
        self.wanted.money[1, row, i] = gain

    def ask(self, i: int, row: int, ticks: int, lots: int = 5) -> None:
        self.asked[2 * row][i], self.asked[2 * row + 1][i] = ticks, lots

    def plan(self, budget: Credits = PLENTY, gain_min_usd: float = 0.0, now: int = NOW) -> Plan:
        return self.scheduler.plan(
            self.ids,
            self.ids,
            self.wanted,
            self.asked,
            self.flights,
            budget,
            ADDRESS,
            Ns(now),
            gain_min_usd=gain_min_usd,
        )


def entries(plan: Plan) -> list[QuoteEntry]:
    return [entry for planned in plan.messages for entry in planned.intent.entries]


def test_nothing_to_do_sends_nothing() -> None:
    world = World(3)
    world.want(0, 0, 40)
    world.ask(0, 0, 40)
    assert world.plan() == Plan((), 0)


def test_only_the_side_that_differs_is_named() -> None:
    world = World(2)
    world.want(1, 0, 40)
    world.want(1, 1, 50)
    world.ask(1, 1, 50)
    assert entries(world.plan()) == [QuoteEntry(1, 40, 5, None, None)]


def test_side_no_longer_wanted_is_pulled_first_in_a_message_of_its_own() -> None:
    world = World(3)
    world.want(0, 0, 40, gain=99.0)
    world.ask(2, 1, 50)
    plan = world.plan()
    assert [planned.is_pull for planned in plan.messages] == [True, False]
    assert plan.messages[0].intent.entries == (QuoteEntry(2, None, None, None, 0),)
    assert [planned.intent.request_id for planned in plan.messages] == [100, 101]
    assert plan.messages[0].intent.valid_until_ns == ADDRESS.valid_until_ns


def test_credits_go_to_the_largest_gain_per_side() -> None:
    world = World(4)
    for i, gain in enumerate((1.0, 8.0, 3.0, 5.0)):
        world.want(i, 0, 40, gain=gain)
    world.want(1, 1, 50, gain=0.0)
    plan = world.plan(Credits(2, 5, 2, 5))
    # Instrument 1 gains 8 with two sides, 4 a side: after 3 there is no room for both.
    assert [entry.instrument_id for entry in entries(plan)] == [3, 2]
    assert plan.sides_left == 3


def test_first_gain_left_out_is_the_price_of_a_credit_and_fades() -> None:
    world = World(3)
    for i, gain in enumerate((9.0, 4.0, 2.0)):
        world.want(i, 0, 40, gain=gain)
    world.plan(Credits(1, 5, 1, 5))
    assert world.scheduler.credit_price_usd("mm-btc", NOW) == 4.0
    assert world.scheduler.credit_price_usd("mm-btc", Ns(NOW + 2 * NS_PER_S)) == 2.0
    assert world.scheduler.credit_price_usd("other", NOW) == 0.0


def test_stale_side_goes_before_any_gain_and_despite_a_request_on_its_way() -> None:
    world = World(2)
    world.want(0, 0, 40, gain=1e6)
    world.want(1, 0, 38, gain=-1.0)
    world.ask(1, 0, 40)
    world.wanted.is_stale[0, 1] = True
    world.flights.bid[1] = 1
    assert entries(world.plan(Credits(1, 5, 1, 5))) == [QuoteEntry(1, 38, 5, None, None)]


def test_stale_side_without_credit_to_move_is_pulled_from_the_reserve() -> None:
    world = World(1)
    world.want(0, 0, 38, gain=1.0)
    world.ask(0, 0, 40)
    world.wanted.is_stale[0, 0] = True
    plan = world.plan(Credits(0, 0, 3, 1))
    assert [planned.is_pull for planned in plan.messages] == [True]
    assert entries(plan) == [QuoteEntry(0, None, 0, None, None)]


def test_stale_sides_pulled_from_the_reserve_leave_less_for_moves() -> None:
    world = World(2)
    for row in range(2):
        world.want(0, row, 38 + 20 * row)
        world.ask(0, row, 40 + 20 * row)
    world.wanted.is_stale[0, 0] = True
    world.want(1, 0, 40)
    plan = world.plan(Credits(1, 2, 2, 2))
    assert entries(plan) == [QuoteEntry(0, None, 0, None, 0)]
    assert plan.sides_left == 3


def test_side_with_a_request_on_its_way_waits() -> None:
    world = World(1)
    world.want(0, 0, 41, gain=50.0)
    world.ask(0, 0, 40)
    world.flights.bid[0] = 1
    assert world.plan().messages == ()


def test_gain_below_the_minimum_is_not_sent() -> None:
    world = World(1)
    world.want(0, 0, 41, gain=0.4)
    world.ask(0, 0, 40)
    assert world.plan(gain_min_usd=0.5).messages == ()
    assert len(world.plan(gain_min_usd=0.3, now=NOW + FULL_SCAN_INTERVAL_NS).messages) == 1


def test_side_with_nothing_resting_is_sent_whatever_its_gain() -> None:
    world = World(1)
    world.want(0, 0, 41, gain=0.001)
    assert len(world.plan(gain_min_usd=0.5).messages) == 1


def test_side_that_would_meet_our_own_other_side_takes_it_along() -> None:
    world = World(1)
    world.ask(0, 0, 40)
    world.ask(0, 1, 44)
    world.want(0, 0, 45, gain=10.0)
    world.want(0, 1, 50, gain=0.1)
    plan = world.plan(gain_min_usd=1.0)
    assert entries(plan) == [QuoteEntry(0, 45, 5, 50, 5)]


def test_side_that_would_meet_an_other_side_in_flight_waits() -> None:
    world = World(1)
    world.ask(0, 0, 40)
    world.ask(0, 1, 44)
    world.want(0, 0, 45, gain=10.0)
    world.want(0, 1, 50, gain=10.0)
    world.flights.ask[0] = 1
    assert world.plan().messages == ()


def test_messages_hold_a_hundred_entries_and_a_plan_a_few_messages() -> None:
    world = World(1_000)
    for i in range(1_000):
        world.want(i, 0, 40, gain=float(i))
        world.want(i, 1, 50, gain=float(i))
    plan = world.plan(Credits(5_000, 50, 5_000, 50))
    assert len(plan.messages) == MESSAGES_PER_PLAN_MAX
    sizes = [len(planned.intent.entries) for planned in plan.messages]
    assert sizes == [QUOTES_PER_MESSAGE_MAX] * MESSAGES_PER_PLAN_MAX
    assert plan.sides_left == 2 * (1_000 - 400)
    assert entries(plan)[0].instrument_id == 999


def test_what_had_to_wait_is_looked_at_again_without_being_named() -> None:
    world = World(2)
    world.want(0, 0, 40, gain=2.0)
    world.want(1, 0, 40, gain=1.0)
    assert [e.instrument_id for e in entries(world.plan(Credits(1, 1, 1, 1)))] == [0]
    world.ask(0, 0, 40)
    again = world.scheduler.plan(
        np.empty(0, dtype=np.int64),
        world.ids,
        world.wanted,
        world.asked,
        world.flights,
        PLENTY,
        ADDRESS,
        Ns(NOW + 1),
        gain_min_usd=0.0,
    )
    assert [e.instrument_id for e in entries(again)] == [1]


SIDES = st.tuples(
    st.integers(1, 60),
    st.integers(0, 3),
    st.integers(1, 60),
    st.integers(0, 3),
    st.floats(-5.0, 50.0),
    st.booleans(),
    st.integers(0, 1),
)


@given(
    st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 3),
    st.integers(0, 6),
    st.integers(0, 2),
)
@settings(max_examples=200)
def test_a_plan_never_exceeds_its_credits_and_never_meets_itself(
    drawn: list[tuple[tuple[int, int, int, int, float, bool, int], ...]],
    sides: int,
    messages: int,
    reserve_sides: int,
    reserve_messages: int,
) -> None:
    world = World(len(drawn))
    for i, both in enumerate(drawn):
        for row, (ticks, lots, old_ticks, old_lots, gain, stale, flying) in enumerate(both):
            shift = 60 * row
            if lots:
                world.want(i, row, ticks + shift, lots, gain)
            if old_lots:
                world.ask(i, row, old_ticks + shift // 2, old_lots)
            world.wanted.is_stale[row, i] = stale
            (world.flights.bid, world.flights.ask)[row][i] = flying
        if world.asked.bid_lots[i] and world.asked.bid_ticks[i] >= world.asked.ask_ticks[i]:
            world.asked.bid_lots[i] = 0
            world.asked.bid_ticks[i] = 0
    budget = Credits(sides, messages, sides + reserve_sides, messages + reserve_messages)
    plan = world.plan(budget)
    used = sum((e.bid_lots is not None) + (e.ask_lots is not None) for e in entries(plan))
    moved = sum(bool(e.bid_lots) + bool(e.ask_lots) for e in entries(plan))
    assert used <= budget.pull_sides
    assert moved <= budget.sides
    assert len(plan.messages) <= budget.pull_messages
    assert sum(not planned.is_pull for planned in plan.messages) <= budget.messages
    rest = [list(column) for column in world.asked]
    for entry in entries(plan):
        i = entry.instrument_id
        if entry.bid_lots is not None:
            rest[0][i], rest[1][i] = entry.bid_ticks or 0, entry.bid_lots
        if entry.ask_lots is not None:
            rest[2][i], rest[3][i] = entry.ask_ticks or 0, entry.ask_lots
        # Both sides of one entry land together: the venue moves the ask first when both go up.
        if rest[1][i] and rest[3][i]:
            assert rest[0][i] < rest[2][i]


def test_equal_histories_have_equal_digests() -> None:
    first, second = World(2), World(2)
    for world in (first, second):
        world.want(0, 0, 40, gain=2.0)
        world.plan(Credits(0, 0, 0, 0))
    assert first.scheduler.digest() == second.scheduler.digest()
    assert first.scheduler.digest() != Scheduler().digest()
