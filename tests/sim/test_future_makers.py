"""Depth on futures: tight, layered, follows the fair price, and does not flicker."""

from __future__ import annotations

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.future_makers import LEVELS, FutureMaker
from mm_daemon.sim.spec import E8, SECOND_US
from tests.sim.world_runs import START_US, RecordingExchange, shipped_scenario, started


@pytest.fixture
def venue() -> RecordingExchange:
    """The books of a started world; its own levels are those of the maker under test."""
    world, exchange = started(shipped_scenario("calm"), seed=21, underlyings=("BTC",))
    assert world.next_event_us() >= START_US
    exchange.quotes.clear()
    return exchange


def maker(exchange: Exchange, name: str) -> FutureMaker:
    return FutureMaker(exchange.instrument(name), tte_years=0.14)


def test_levels_stand_apart_and_grow_outward(venue: RecordingExchange) -> None:
    view = venue.book_view("BTC-PERPETUAL", 10, START_US)
    assert len(view.bids) == len(LEVELS)
    assert len(view.asks) == len(LEVELS)
    sizes = [amount for _, amount in view.asks]
    assert sizes == sorted(sizes)
    assert all(amount % (10 * E8) == 0 for amount in sizes)


def test_a_small_wobble_moves_nothing_and_a_move_moves_all(venue: RecordingExchange) -> None:
    made = maker(venue, "BTC-PERPETUAL")
    made.remark(venue, 70_000.0, START_US, width=1.0)
    made.remark(venue, 70_000.0, START_US, width=1.0)
    first = len(venue.quotes)
    assert first >= len(LEVELS)
    made.remark(venue, 70_000.2, START_US + 1, width=1.0)
    assert len(venue.quotes) == first
    made.remark(venue, 70_100.0, START_US + 2, width=1.0)
    bid, _, ask, _ = venue.best("BTC-PERPETUAL")
    assert bid <= 70_100 * E8 <= ask
    assert (ask - bid) / bid < 2e-4


def test_a_level_that_was_hit_is_shown_in_full_again(venue: RecordingExchange) -> None:
    made = maker(venue, "BTC-PERPETUAL")
    made.remark(venue, 70_000.0, START_US, width=1.0)
    _, _, ask, amount = venue.best("BTC-PERPETUAL")
    assert venue.taker_trade("taker-futures", "BTC-PERPETUAL", 1, amount // 2, ask, START_US) > 0
    assert venue.best("BTC-PERPETUAL")[3] < amount
    made.forget_quotes()
    made.remark(venue, 70_000.0, START_US + SECOND_US, width=1.0)
    assert venue.best("BTC-PERPETUAL")[3] == amount


def test_what_a_closed_book_did_not_take_is_shown_once_it_opens(venue: RecordingExchange) -> None:
    made = maker(venue, "BTC-PERPETUAL")
    made.remark(venue, 70_000.0, START_US, width=1.0)
    before = venue.best("BTC-PERPETUAL")
    venue.set_maintenance(True, START_US)
    made.remark(venue, 70_500.0, START_US, width=1.0)
    assert venue.best("BTC-PERPETUAL") == before
    venue.set_maintenance(False, START_US)
    made.remark(venue, 70_500.0, START_US, width=1.0)
    bid, _, ask, _ = venue.best("BTC-PERPETUAL")
    assert bid <= 70_500 * E8 <= ask
    assert (ask - bid) / bid < 2e-4


def test_dated_futures_are_wider_than_the_perpetual(venue: RecordingExchange) -> None:
    def width(name: str) -> float:
        bid, _, ask, _ = venue.best(name)
        return (ask - bid) / bid

    assert width("BTC-PERPETUAL") < width("BTC-27MAR26") < width("BTC-25DEC26") < 2e-3
