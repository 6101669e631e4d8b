"""Units, ticks and times of an instrument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.sim.spec import (
    DAY_US,
    E8,
    HOUR_US,
    from_e8,
    next_settlement_us,
    to_e8,
)
from tests.sim.exchange_setup import T0, e8, future, option


@given(st.integers(-(10**15), 10**15))
def test_a_number_survives_the_wire(value_e8: int) -> None:
    """To a double, to its shortest decimal and back, for anything up to 10 million coins."""
    assert to_e8(from_e8(value_e8)) == value_e8


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e-9, "0.000000001"])
def test_what_is_no_multiple_of_a_hundred_millionth_is_refused(number: float | str) -> None:
    assert to_e8(number) is None


def test_text_and_whole_numbers_convert() -> None:
    assert (to_e8("1.6e-7"), to_e8(3), to_e8(0.0005)) == (16, 3 * E8, 50_000)


@given(st.integers(1, 400))
def test_next_price_up_and_down_are_inverse(steps: int) -> None:
    spec = option()
    price = spec.tick_size_e8
    for _ in range(steps):
        above = spec.next_price_e8(price, 1)
        assert above % spec.tick_e8(above) == 0
        assert spec.next_price_e8(above, -1) == price
        price = above


def test_the_step_bound_itself_has_the_finer_tick() -> None:
    spec = option()
    assert (spec.tick_e8(e8(0.005)), spec.tick_e8(e8(0.005) + 1)) == (e8(0.0001), e8(0.0005))


def test_settlement_is_the_next_eight_utc() -> None:
    noon_to_eight = 20 * HOUR_US
    assert next_settlement_us(T0) == T0 + noon_to_eight
    assert next_settlement_us(T0 + noon_to_eight) == T0 + noon_to_eight + DAY_US
    assert next_settlement_us(T0 + noon_to_eight - 1) == T0 + noon_to_eight


def test_types_of_instrument() -> None:
    assert future().is_inverse_future
    assert not option().is_inverse_future
    assert future().is_perpetual
    assert (option().instrument_type, option(is_inverse=False).instrument_type) == (
        "reversed",
        "linear",
    )
