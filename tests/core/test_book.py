"""The book against a slow reference, and its refusal to be half right."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.book import Book, Validity
from mm_daemon.domain.events import Level
from mm_daemon.domain.grid import TickGrid
from mm_daemon.domain.units import Side

GRID = TickGrid(tick_e9=100_000, above=50, step=5)
SNAPSHOT_BIDS: list[Level] = [("new", 0.0030, 5.0), ("new", 0.0028, 2.0), ("new", 0.0010, 9.0)]
SNAPSHOT_ASKS: list[Level] = [("new", 0.0034, 4.0), ("new", 0.0040, 6.0)]


def full_book() -> Book:
    book = Book(GRID)
    assert book.apply(True, SNAPSHOT_BIDS, SNAPSHOT_ASKS) is Validity.OK
    return book


class SlowBook:
    """What a book should be, by the shortest possible code."""

    def __init__(self) -> None:
        self.levels: dict[Side, dict[int, float]] = {Side.BUY: {}, Side.SELL: {}}

    def apply(self, side: Side, level: Level) -> None:
        action, price, amount = level
        ticks = round(price / 0.0001)
        if action == "delete":
            del self.levels[side][ticks]
        else:
            self.levels[side][ticks] = amount

    def ordered(self, side: Side) -> list[tuple[int, float]]:
        return sorted(self.levels[side].items(), reverse=side is Side.BUY)


NOTHING = (0, 0.0)


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[Side, int, float | None]]:
    """Bids at 1..40, asks at 41..80, so that no change crosses; None deletes."""
    one = st.tuples(
        st.sampled_from(Side),
        st.integers(1, 40),
        st.one_of(st.none(), st.floats(0.1, 100.0)),
    )
    return draw(st.lists(one, max_size=60))


@given(changes())
@settings(max_examples=80)
def test_any_history_of_changes_equals_the_slow_reference(
    history: list[tuple[Side, int, float | None]],
) -> None:
    book, slow = Book(GRID), SlowBook()
    book.apply(True, [], [])
    for side, ticks, amount in history:
        ticks = ticks if side is Side.BUY else ticks + 40
        is_there = ticks in slow.levels[side]
        if amount is None and not is_there:
            continue
        action = "delete" if amount is None else ("change" if is_there else "new")
        level: Level = (action, GRID.price(ticks), amount or 0.0)
        slow.apply(side, level)
        bids, asks = ([level], []) if side is Side.BUY else ([], [level])
        assert book.apply(False, bids, asks) is Validity.OK
        bid, second_bid = [*slow.ordered(Side.BUY), NOTHING, NOTHING][:2]
        ask, second_ask = [*slow.ordered(Side.SELL), NOTHING, NOTHING][:2]
        assert (book.best_bid_ticks, book.best_bid_amount) == bid
        assert (book.best_ask_ticks, book.best_ask_amount) == ask
        assert (book.second_bid_ticks, book.second_ask_ticks) == (second_bid[0], second_ask[0])
    for side in Side:
        assert book.depth(side, 99) == slow.ordered(side)


LEVELS = st.lists(
    st.tuples(
        st.sampled_from(["new", "change", "delete"]),
        st.one_of(
            st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.001, 1e300, 0.00015]),
            st.integers(1, 100).map(GRID.price),
        ),
        st.one_of(st.sampled_from([math.nan, math.inf, 0.0, -1.0]), st.floats(0.1, 10.0)),
    ),
    max_size=6,
)


@given(st.lists(st.tuples(st.booleans(), LEVELS, LEVELS), max_size=12))
@settings(max_examples=150)
def test_any_garbage_leaves_a_valid_book_or_an_invalid_empty_one(
    messages: list[tuple[bool, list[Level], list[Level]]],
) -> None:
    book = Book(GRID)
    for is_snapshot, bids, asks in messages:
        verdict = book.apply(is_snapshot, bids, asks)
        assert verdict is book.validity
        if verdict is Validity.OK:
            if book.best_bid_ticks and book.best_ask_ticks:
                assert book.best_bid_ticks < book.best_ask_ticks
            for side in Side:
                for ticks, amount in book.depth(side, 99):
                    assert ticks > 0
                    assert 0.0 < amount < math.inf
        else:
            assert book.best_bid_ticks == book.best_ask_ticks == 0
            assert book.depth(Side.BUY, 9) == book.depth(Side.SELL, 9) == []


def test_invalid_book_stays_invalid_until_a_snapshot() -> None:
    book = full_book()
    assert book.apply(False, [("new", math.nan, 1.0)], []) is Validity.GARBAGE
    assert book.apply(False, [("new", 0.0030, 1.0)], []) is Validity.GARBAGE
    assert book.apply(True, SNAPSHOT_BIDS, SNAPSHOT_ASKS) is Validity.OK
    assert book.best_bid_ticks == 30


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (("new", 0.0034, 1.0), Validity.CROSSED),
        (("new", 0.0050, 1.0), Validity.CROSSED),
        (("new", 0.00305, 1.0), Validity.OFF_GRID),
        (("new", -0.0030, 1.0), Validity.GARBAGE),
        (("change", 0.0030, 0.0), Validity.GARBAGE),
        (("new", 0.0030, math.nan), Validity.GARBAGE),
        (("delete", 0.0029, 0.0), Validity.ABSENT_LEVEL),
    ],
)
def test_impossible_bid_makes_the_book_invalid(level: Level, expected: Validity) -> None:
    assert full_book().apply(False, [level], []) is expected


def test_own_amounts_are_taken_out_of_the_best_price() -> None:
    book = full_book()
    assert book.best_excluding(Side.BUY, {30: 5.0}) == (28, 2.0)
    assert book.best_excluding(Side.BUY, {30: 2.0}) == (30, 3.0)
    assert book.best_excluding(Side.SELL, {34: 4.0, 40: 6.0}) == (0, 0.0)


def test_equal_histories_have_equal_digests_and_a_changed_level_another() -> None:
    assert full_book().digest() == full_book().digest()
    other = full_book()
    other.apply(False, [("change", 0.0010, 8.0)], [])
    assert other.digest() != full_book().digest()


def test_price_memory_is_bounded_and_changes_no_result() -> None:
    fine = TickGrid(tick_e9=1, above=10**12, step=1)
    book = Book(fine)
    book.apply(True, [], [])
    for ticks in range(1, 10_001):
        assert book.apply(False, [("new", fine.price(ticks), 1.0)], []) is Validity.OK
    assert book.best_bid_ticks == 10_000
