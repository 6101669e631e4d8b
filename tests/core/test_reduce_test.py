"""What counts as reducing delta where hedging is not permitted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.reduce_test import reduces_delta

coins = st.floats(-100.0, 100.0)


def reduces(delta: float, change: float, low: float, high: float) -> bool:
    return reduces_delta(delta_coin=delta, change_coin=change, worst_coin=(low, high))


def test_an_order_against_the_delta_and_no_larger_reduces() -> None:
    assert reduces(2.0, -2.0, 2.0, 2.0)
    assert reduces(-2.0, 0.5, -2.0, -2.0)


@pytest.mark.parametrize("change", [0.0, 0.5, -2.1])
def test_nothing_the_same_way_and_more_than_the_delta_do_not(change: float) -> None:
    assert not reduces(2.0, change, 2.0, 2.0)


def test_what_would_be_worse_if_everything_outstanding_filled_does_not_reduce() -> None:
    """Delta is +1, yet outstanding sales can take it to −12: another sale makes the worst worse."""
    assert not reduces(1.0, -1.0, -12.0, 2.0)
    assert reduces(1.0, -1.0, -5.0, 12.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_cannot_be_computed_does_not_reduce(bad: float) -> None:
    assert not reduces(bad, -1.0, 1.0, 1.0)
    assert not reduces(1.0, bad, 1.0, 1.0)
    assert not reduces(1.0, -1.0, bad, 1.0)
    assert not reduces(1.0, -1.0, math.nan, math.nan)


@given(coins, coins, coins, coins)
def test_what_passes_never_raises_delta_nor_its_worst_case(
    delta: float, change: float, one: float, other: float
) -> None:
    low, high = min(one, other), max(one, other)
    if reduces(delta, change, low, high):
        assert abs(delta + change) <= abs(delta)
        for outstanding in (low, high):
            assert abs(outstanding + change) <= max(abs(low), abs(high))
