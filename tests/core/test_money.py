"""The venue's published arithmetic, on its own examples and on its caps."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.funding import FundingMeter, rate_e18
from mm_daemon.core.money import (
    average_price_e8,
    delivery_fee_e8,
    div_half_even,
    payoff_e18,
    premium_e8,
    trade_fee_e8,
    value_e18,
)
from tests.core.account_world import (
    CALL,
    FUTURE,
    LINEAR_CALL,
    LINEAR_PERPETUAL,
    PERPETUAL,
    PUT,
    small_catalog,
)

I = small_catalog().instruments
E8 = 10**8
E18 = 10**18


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    assert div_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_ties_go_to_the_even_neighbour() -> None:
    assert [div_half_even(n, 2) for n in (-5, -3, -1, 1, 3, 5)] == [-2, -2, 0, 0, 2, 2]


def test_ten_thousand_usd_from_50_000_to_60_000_earn_a_thirtieth_of_a_coin() -> None:
    gain = value_e18(I[PERPETUAL], 1_000, 60_000 * E8) - value_e18(I[PERPETUAL], 1_000, 50_000 * E8)
    assert gain == round(Fraction(E18, 30))
    linear = I[LINEAR_PERPETUAL]
    assert value_e18(linear, 100, 60_000 * E8) - value_e18(linear, 100, 50_000 * E8) == (
        10_000 * E18
    )


def test_the_average_price_undoes_the_value() -> None:
    for id_, price in ((CALL, 5_000_000), (PERPETUAL, 61_234 * E8), (LINEAR_CALL, 2_005 * E8)):
        cost = value_e18(I[id_], 70, price)
        assert average_price_e8(I[id_], 70, cost) == price
        assert average_price_e8(I[id_], -70, -cost) == price


def test_premiums_move_for_options_alone() -> None:
    assert premium_e8(I[CALL], 10, 5_000_000) == 5_000_000
    assert premium_e8(I[CALL], -10, 5_000_000) == -5_000_000
    assert premium_e8(I[LINEAR_CALL], 100, 2_000 * E8) == 2_000 * E8
    assert premium_e8(I[PERPETUAL], 10, 60_000 * E8) == 0


@pytest.mark.parametrize(
    ("id_", "lots", "price", "is_maker", "fee"),
    [
        (CALL, 10, 0.05, True, 0.0003),
        (CALL, 10, 0.0024, True, 0.0003),
        (CALL, 10, 0.0023, True, 0.0002875),
        (CALL, 10, 0.0001, False, 0.0000125),
        # 0.03 % of an index of 60,000 a coin is 18 USDC, capped at an eighth of the premium.
        (LINEAR_CALL, 100, 2_000.0, True, 18.0),
        (LINEAR_CALL, 100, 80.0, True, 10.0),
        (PERPETUAL, 6_000, 60_000.0, False, 0.0005),
        (PERPETUAL, 6_000, 60_000.0, True, -0.0001),
        (LINEAR_PERPETUAL, 100, 60_000.0, False, 30.0),
    ],
)
def test_trading_fees_and_their_cap(
    id_: int, lots: int, price: float, is_maker: bool, fee: float
) -> None:
    charged = trade_fee_e8(
        I[id_],
        lots=lots,
        price_e8=round(price * E8),
        index_price_e8=60_000 * E8,
        is_maker=is_maker,
    )
    assert charged == round(fee * E8)


def test_payoffs_of_calls_and_puts_inverse_and_linear() -> None:
    assert payoff_e18(I[CALL], 10, 75_000 * E8) == E18 // 5
    assert payoff_e18(I[CALL], -10, 75_000 * E8) == -E18 // 5
    assert payoff_e18(I[CALL], 10, 60_000 * E8) == 0
    assert payoff_e18(I[PUT], 10, 40_000 * E8) == E18 // 2, "a put may pay more than it cost"
    assert payoff_e18(I[PUT], 10, 25_000 * E8) == 14 * E18 // 10
    assert payoff_e18(I[LINEAR_CALL], 100, 75_000 * E8) == 15_000 * E18


def test_delivery_fees_are_capped_for_options_and_not_for_futures() -> None:
    assert delivery_fee_e8(I[CALL], 10, 75_000 * E8) == 15_000
    assert delivery_fee_e8(I[CALL], 10, 60_000 * E8) == 0
    assert delivery_fee_e8(I[FUTURE], -6_000, 60_000 * E8) == 25_000


def test_funding_is_free_within_the_dead_zone_and_linear_beyond() -> None:
    index = 60_000 * E8
    assert rate_e18(index + 15 * E8, index) == 0
    assert rate_e18(index - 15 * E8, index) == 0
    assert rate_e18(index + 60 * E8, index) == 75 * 10**13
    assert rate_e18(index - 60 * E8, index) == -75 * 10**13


def test_a_meter_accrues_at_what_held_until_now() -> None:
    meter = FundingMeter(is_inverse=True)
    hour = 3_600 * 10**6
    meter.update(60_060 * E8, 60_000 * E8, hour)
    meter.update(60_000 * E8, 50_000 * E8, 9 * hour)
    # 0.075 % of a sixty-thousandth of a coin for a USD over eight hours.
    assert meter.cumulative_e30 == round(Fraction(75 * 10**25, 60_000))
    linear = FundingMeter(is_inverse=False)
    linear.update(60_060 * E8, 60_000 * E8, hour)
    linear.advance(9 * hour)
    assert linear.cumulative_e30 == 45 * 10**30
