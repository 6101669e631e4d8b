"""A fill's markout is what it earned at a horizon beyond what its delta hedge earned."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.core.markouts import HORIZONS_S, PENDING_MAX, Markouts
from mm_daemon.domain.units import NS_PER_S, Ns, Side
from tests.core.account_world import CALL, T0


def at(seconds: float) -> Ns:
    return Ns(T0 + int(seconds * NS_PER_S))


def followed(side: Side = Side.BUY) -> Markouts:
    """One coin of an option bought (or sold) at 2,990 when theo is 3,000, delta one half."""
    markouts = Markouts()
    edge = markouts.on_fill(
        "t",
        CALL,
        side,
        amount=1.0,
        price_usd=2_990.0,
        theo_usd=3_000.0,
        delta=0.5,
        forward=60_000.0,
        now_ns=T0,
    )
    assert (edge.horizon_s, edge.usd) == (0, int(side) * 10.0)
    return markouts


def board(theo: float, forward: float) -> tuple[np.ndarray, np.ndarray]:
    return np.full(CALL + 1, theo), np.full(CALL + 1, forward)


def test_each_horizon_comes_once_at_its_time() -> None:
    markouts = followed()
    for horizon in HORIZONS_S:
        assert markouts.take_due(*board(3_000.0, 60_000.0), at(horizon - 0.001)) == []
        assert markouts.next_due_ns() == at(horizon)
        (one,) = markouts.take_due(*board(3_000.0, 60_000.0), at(horizon))
        assert (one.horizon_s, one.usd) == (horizon, 10.0)
    assert markouts.next_due_ns() is None
    assert markouts.counts == [1] * len(HORIZONS_S)


def test_the_hedge_s_share_of_the_move_is_taken_out() -> None:
    # The forward rose by 100, the option by 55: half of 100 was the hedge's.
    (one,) = followed().take_due(*board(3_055.0, 60_100.0), at(1))
    assert one.usd == pytest.approx(15.0)
    (one,) = followed(Side.SELL).take_due(*board(3_055.0, 60_100.0), at(1))
    assert one.usd == pytest.approx(-15.0)


def test_without_a_theo_it_waits_and_is_then_missed_never_guessed() -> None:
    markouts = followed()
    assert markouts.take_due(*board(math.nan, 60_000.0), at(1)) == []
    (one,) = markouts.take_due(*board(3_000.0, 60_000.0), at(2.1))
    assert one.horizon_s == 1
    assert markouts.take_due(*board(math.nan, 60_000.0), at(7.1)) == []
    assert markouts.missed == [0, 1, 0, 0, 0]


def test_what_is_followed_is_bounded() -> None:
    markouts = Markouts()
    for k in range(PENDING_MAX + 10):
        markouts.on_fill(
            str(k),
            CALL,
            Side.BUY,
            amount=1.0,
            price_usd=1.0,
            theo_usd=1.0,
            delta=0.5,
            forward=1.0,
            now_ns=T0,
        )
    assert len(markouts.take_due(*board(1.0, 1.0), at(1))) == PENDING_MAX
