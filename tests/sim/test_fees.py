"""Golden arithmetic of values, commissions and payoffs, each worked by hand in coin."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.fees import (
    average_price_e8,
    delivery_fee_e8,
    payoff_e18,
    premium_e8,
    trade_fee_e8,
    value_e18,
)
from mm_daemon.sim.spec import E8, E18, OptionType, div_half_even
from tests.sim.exchange_setup import INDEX_E8, LINEAR, LINEAR_PERP, e8, future, option

CALL_SPEC = option()
LINEAR_SPEC = option(LINEAR, is_inverse=False)


@pytest.mark.parametrize(
    ("price", "amount", "fee"),
    [
        (0.02, 1.0, 0.0003),  # 0.03 % of one coin
        (0.0024, 1.0, 0.0003),  # cap 12.5 % of 0.0024 is exactly the commission
        (0.001, 1.0, 0.000125),  # capped
        (0.0001, 0.1, 0.00000125),  # capped, smallest option trade
    ],
)
def test_an_inverse_option_pays_three_bips_of_a_coin_at_most_an_eighth(
    price: float, amount: float, fee: float
) -> None:
    paid = trade_fee_e8(
        CALL_SPEC, amount_e8=e8(amount), price_e8=e8(price), index_e8=INDEX_E8, is_maker=False
    )
    assert paid == e8(fee)


def test_a_linear_option_pays_of_the_index_at_most_an_eighth_of_its_price() -> None:
    """0.03 % of 60,000 is 18 USDC; an option of 100 USDC pays at most 12.5."""
    for price, fee in ((1000, 18.0), (100, 12.5)):
        paid = trade_fee_e8(
            LINEAR_SPEC, amount_e8=E8, price_e8=price * E8, index_e8=INDEX_E8, is_maker=True
        )
        assert paid == e8(fee)


def test_a_rebate_is_negative_and_capped_alike() -> None:
    rebated = msgspec.structs.replace(CALL_SPEC, maker_commission_e8=e8(-0.0001))
    for price, fee in ((0.02, -0.0001), (0.0004, -0.00005)):
        paid = trade_fee_e8(
            rebated, amount_e8=E8, price_e8=e8(price), index_e8=INDEX_E8, is_maker=True
        )
        assert paid == e8(fee)


def test_a_future_pays_of_its_value() -> None:
    """10,000 USD at 50,000 is 0.2 BTC, 0.05 % of it 0.0001; linear: 2 x 50,000 x 0.05 % = 50."""
    inverse = trade_fee_e8(
        future(), amount_e8=10_000 * E8, price_e8=50_000 * E8, index_e8=INDEX_E8, is_maker=False
    )
    assert inverse == e8(0.0001)
    linear = trade_fee_e8(
        future(LINEAR_PERP, is_inverse=False),
        amount_e8=2 * E8,
        price_e8=50_000 * E8,
        index_e8=INDEX_E8,
        is_maker=False,
    )
    assert linear == 50 * E8


def test_premium_is_price_times_amount_in_the_settlement_currency() -> None:
    assert premium_e8(CALL_SPEC, e8(0.3), e8(0.0205)) == e8(0.00615)
    assert premium_e8(LINEAR_SPEC, -e8(2), 1000 * E8) == -2000 * E8
    assert premium_e8(future(), 100 * E8, 60_000 * E8) == 0


def test_inverse_futures_profit_is_in_coin_of_reciprocals() -> None:
    """Long 60,000 USD from 60,000 to 66,000: 60,000 (1/60,000 - 1/66,000) = 1/11 BTC."""
    spec = future()
    profit = value_e18(spec, 60_000 * E8, 66_000 * E8) - value_e18(spec, 60_000 * E8, 60_000 * E8)
    assert profit == div_half_even(E18, 11)


def test_the_average_price_of_an_inverse_future_is_harmonic() -> None:
    spec = future()
    total = value_e18(spec, 100 * E8, 40_000 * E8) + value_e18(spec, 100 * E8, 60_000 * E8)
    assert average_price_e8(spec, 200 * E8, total) == 48_000 * E8


@pytest.mark.parametrize(
    ("option_type", "delivery", "payoff"),
    [
        (OptionType.CALL, 80_000, Fraction(1, 4)),
        (OptionType.CALL, 60_000, Fraction(0)),
        (OptionType.PUT, 25_000, Fraction(7, 5)),  # a put may pay more than one coin
        (OptionType.PUT, 70_000, Fraction(0)),
    ],
)
def test_an_inverse_option_pays_intrinsic_over_delivery(
    option_type: OptionType, delivery: int, payoff: Fraction
) -> None:
    spec = option(option_type=option_type)
    assert payoff_e18(spec, 2 * E8, delivery * E8) == 2 * payoff * E18
    assert payoff_e18(spec, -2 * E8, delivery * E8) == -2 * payoff * E18


def test_a_linear_option_pays_dollars() -> None:
    assert payoff_e18(LINEAR_SPEC, 3 * E8, 61_000 * E8) == 3000 * E18


def test_delivery_fees_are_capped_at_an_eighth_of_the_worth() -> None:
    """0.015 % of a coin; at 60,010 the call is worth 10/60,010, of which an eighth is less."""
    assert delivery_fee_e8(CALL_SPEC, -E8, 80_000 * E8) == e8(0.00015)
    capped = delivery_fee_e8(CALL_SPEC, E8, 60_010 * E8)
    assert capped == round(Fraction(10, 60_010) * E8 / 8)
    assert delivery_fee_e8(CALL_SPEC, E8, 50_000 * E8) == 0
    dated = msgspec.structs.replace(future(), delivery_commission_e8=e8(0.00025))
    assert delivery_fee_e8(dated, -10_000 * E8, 50_000 * E8) == e8(0.00005)


@settings(max_examples=300)
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    """Python's rounding of an exact fraction is the reference; it is symmetric in sign."""
    assert div_half_even(numerator, denominator) == round(Fraction(numerator, denominator))
    assert div_half_even(-numerator, denominator) == -div_half_even(numerator, denominator)
