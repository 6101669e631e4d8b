"""Theo, choice and schedule together over time: quiet when nothing moves, right when it does."""

from __future__ import annotations

import numpy as np
import pytest

from mm_daemon.core.market import Market
from mm_daemon.core.quote_terms import LiveColumns
from mm_daemon.core.scheduler import Addressing, Credits, FlightColumns, Plan, Scheduler
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from tests.core.chain_world import (
    FORWARD,
    NOW,
    board,
    book_event,
    calibration,
    catalog,
    costs,
    live,
    quoted_market,
    quoter,
)

WORLD = catalog(days=(7.0, 30.0), strikes=15)
IDS = WORLD.option_ids("BTC")


class Loop:
    """The market side of the decision, with a venue that takes every message at once."""

    def __init__(self) -> None:
        self.theo: TheoBoard = board(WORLD)
        self.market: Market = quoted_market(WORLD, self.theo)
        self.calibration = calibration(WORLD)
        self.quoter = quoter(WORLD)
        self.scheduler = Scheduler()
        self.rests: LiveColumns = live(WORLD)
        self.costs = costs(WORLD)
        zeros = np.zeros(len(WORLD), dtype=np.int64)
        self.flights = FlightColumns(zeros, zeros)
        self.now_ns = NOW

    def turn(self, forward: float = FORWARD, sides: int = 1_000) -> Plan:
        self.now_ns = Ns(self.now_ns + 10 * NS_PER_MS)
        moved = self.theo.refresh("BTC", np.full(2, forward), self.calibration, self.now_ns)
        ids = np.concatenate((self.market.take_dirty(), moved))
        price = self.scheduler.credit_price_usd("g", self.now_ns)
        self.quoter.choose(
            ids,
            self.market.touch,
            self.rests,
            self.rests,
            self.costs,
            self.theo,
            self.now_ns,
            credit_price_usd=price,
        )
        plan = self.scheduler.plan(
            ids,
            IDS,
            self.quoter.wanted,
            self.rests,
            self.flights,
            Credits(sides, 10, sides + 20, 12),
            Addressing("g", 1, Ns(self.now_ns + NS_PER_S)),
            self.now_ns,
            gain_min_usd=0.05,
        )
        for planned in plan.messages:
            self.quoter.approve(planned.ids, self.theo)
            for entry in planned.intent.entries:
                i = entry.instrument_id
                if entry.bid_lots is not None:
                    self.rests.bid_ticks[i] = entry.bid_ticks or 0
                    self.rests.bid_lots[i] = entry.bid_lots
                if entry.ask_lots is not None:
                    self.rests.ask_ticks[i] = entry.ask_ticks or 0
                    self.rests.ask_lots[i] = entry.ask_lots
        return plan


def sides_sent(plan: Plan) -> int:
    return sum(
        (entry.bid_lots is not None) + (entry.ask_lots is not None)
        for planned in plan.messages
        for entry in planned.intent.entries
    )


def test_quotes_the_chain_once_and_then_is_quiet() -> None:
    loop = Loop()
    assert sides_sent(loop.turn()) == 2 * IDS.size
    assert (loop.rests.bid_lots[IDS] > 0).all()
    assert (loop.rests.bid_ticks[IDS] < loop.rests.ask_ticks[IDS]).all()
    for _ in range(60):
        assert loop.turn().messages == ()


def test_wiggles_within_a_small_part_of_a_tick_move_few_quotes() -> None:
    loop = Loop()
    loop.turn()
    sent = sum(sides_sent(loop.turn(FORWARD * (1.0 + 2e-5 * (-1) ** step))) for step in range(40))
    assert sent <= 0.02 * 40 * 2 * IDS.size


def test_a_jump_moves_or_pulls_every_quote_that_became_wrong_in_the_same_turn() -> None:
    loop = Loop()
    loop.turn()
    loop.turn(FORWARD * 1.01)
    bids = loop.rests.bid_ticks[IDS] * 0.0001
    asks = np.where(loop.rests.ask_lots[IDS] > 0, loop.rests.ask_ticks[IDS] * 0.0001, np.inf)
    resting = loop.rests.bid_lots[IDS] > 0
    assert (bids[resting] < loop.theo.price[IDS][resting]).all()
    assert (asks > loop.theo.price[IDS]).all()


def test_a_jump_without_credits_still_pulls_from_the_reserve() -> None:
    loop = Loop()
    loop.turn()
    before = int((loop.rests.ask_lots[IDS] > 0).sum())
    plan = loop.turn(FORWARD * 1.01, sides=0)
    assert all(planned.is_pull for planned in plan.messages)
    assert int((loop.rests.ask_lots[IDS] > 0).sum()) < before
    assert plan.sides_left > 0


def test_scarce_credits_reach_the_whole_chain_in_the_end() -> None:
    loop = Loop()
    turns = [sides_sent(loop.turn(sides=10)) for _ in range(12)]
    assert turns[:12] == [10] * 12
    for _ in range(5):
        loop.turn(sides=10)
    assert (loop.rests.bid_lots[IDS] > 0).all()
    assert (loop.rests.ask_lots[IDS] > 0).all()


def test_lost_books_pull_their_quotes_in_the_same_turn() -> None:
    loop = Loop()
    loop.turn()
    i = int(IDS[7])
    event = book_event(WORLD, i, 40, 30)
    loop.market.on_event(event, loop.now_ns)
    loop.turn()
    assert loop.rests.bid_lots[i] == loop.rests.ask_lots[i] == 0
    assert loop.market.take_resyncs() == [i]


@pytest.mark.parametrize("seed", [1, 2])
def test_equal_runs_are_equal_to_the_last_digest(seed: int) -> None:
    digests = []
    for _ in range(2):
        rng = np.random.default_rng(seed)
        loop, forward = Loop(), FORWARD
        for _ in range(30):
            forward *= float(np.exp(2e-4 * rng.normal()))
            loop.turn(forward)
        parts = (loop.theo, loop.market, loop.quoter, loop.scheduler)
        digests.append([part.digest() for part in parts])
    assert digests[0] == digests[1]
