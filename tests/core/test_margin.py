"""Margin: what cannot be known is never taken for room; the estimate stays in its bounds."""

from __future__ import annotations

import math

import pytest

from mm_daemon.core.margin import CALIBRATE_NS, SCALE_MAX, SCALE_MIN, Margin, MarginScales
from tests.core.account_world import T0


def use(balance: float, initial: float) -> float:
    return Margin(balance=balance, initial=initial, maintenance=0.0, available=0.0).use


def test_use_is_initial_margin_over_balance() -> None:
    assert use(4.0, 1.0) == 0.25
    assert use(1.0, 2.0) == 2.0


def test_what_no_balance_carries_is_beyond_every_ratio() -> None:
    assert use(0.0, 1.0) == math.inf
    assert use(-1.0, 1.0) == math.inf
    assert math.isnan(use(0.0, 0.0)), "nothing is known of an account that shows nothing"


def observed(*steps: tuple[float, float, int]) -> float:
    """The scale after (asked, loss, at) of a balance of 1,000 USD."""
    scales = MarginScales()
    for asked_usd, loss_usd, after_ns in steps:
        scales.observe(
            "BTC",
            asked_usd=asked_usd,
            loss_usd=loss_usd,
            balance_usd=1_000.0,
            now_ns=int(T0) + after_ns,
        )
    return scales.of("BTC")


@pytest.mark.parametrize(
    ("asked_usd", "loss_usd", "scale"),
    [
        (50.0, 100.0, 0.5),
        (1.0, 100.0, SCALE_MIN),
        (1_000.0, 100.0, SCALE_MAX),
        (50.0, 9.0, 1.0),
        (math.nan, 100.0, 1.0),
    ],
)
def test_scale_is_what_the_venue_asks_within_its_bounds(
    asked_usd: float, loss_usd: float, scale: float
) -> None:
    assert observed((asked_usd, loss_usd, 0)) == scale


def test_scale_is_measured_again_after_an_hour_or_at_twice_the_loss() -> None:
    first = (50.0, 100.0, 0)
    assert observed(first, (100.0, 150.0, 1)) == 0.5
    assert observed(first, (100.0, 150.0, CALIBRATE_NS)) == pytest.approx(2 / 3)
    assert observed(first, (220.0, 220.0, 1)) == 1.0
    assert MarginScales().of("BTC") == 1.0
