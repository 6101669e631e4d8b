"""Weighted time: whole weeks are neutral, weekends light, events heavy, averages a third."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.pricing.variance_time import (
    AVERAGING_NS,
    DAY_NS,
    FLAT_CLOCK,
    VarianceClock,
    VarianceEvent,
    calendar_years,
    variance_years,
)

HOUR_NS = DAY_NS // 24
SATURDAY = 20_484 * DAY_NS
"""31 January 2026, a Saturday."""
LIGHT = VarianceClock(weekend_weight=0.5)
MOMENTS = st.integers(0, 60 * 24).map(lambda hours: SATURDAY + hours * HOUR_NS)


def days(clock: VarianceClock, start: int, end: int) -> float:
    return variance_years(clock, start, end) * 365.0


AVERAGING_DAYS = 20.0 / (24 * 60)


def test_a_flat_clock_is_calendar_time_less_twenty_minutes() -> None:
    expiry = SATURDAY + 7 * DAY_NS
    assert days(FLAT_CLOCK, SATURDAY, expiry) == pytest.approx(7.0 - AVERAGING_DAYS, abs=1e-12)
    assert calendar_years(SATURDAY, expiry) == 7.0 / 365.0


def test_a_whole_week_counts_seven_days_whatever_the_weekend_weighs() -> None:
    wednesday = SATURDAY + 4 * DAY_NS
    heavy = days(LIGHT, wednesday, wednesday + 14 * DAY_NS)
    # The averaging window takes its twenty minutes at the weight of its own day.
    assert heavy == pytest.approx(14.0 - AVERAGING_DAYS * 6.0 / 5.0, abs=1e-12)


def test_a_weekend_day_counts_its_weight_and_a_weekday_the_rest() -> None:
    one_day = days(LIGHT, SATURDAY - 12 * HOUR_NS, SATURDAY + 12 * HOUR_NS)
    assert one_day == pytest.approx(0.5 * 1.2 + 0.5 * 0.5 - 0.5 * AVERAGING_DAYS, abs=1e-12)


def test_an_event_counts_until_it_has_passed() -> None:
    event_ns = SATURDAY + 3 * DAY_NS
    clock = VarianceClock(events=(VarianceEvent(event_ns, extra_days=1.5),))
    expiry = SATURDAY + 7 * DAY_NS
    assert days(clock, SATURDAY, expiry) == pytest.approx(8.5 - AVERAGING_DAYS)
    assert days(clock, event_ns, expiry) == pytest.approx(4.0 - AVERAGING_DAYS)
    assert days(clock, SATURDAY, event_ns - DAY_NS) == pytest.approx(2.0 - AVERAGING_DAYS)


def test_the_averaging_window_starts_with_a_third_and_ends_with_nothing() -> None:
    expiry = SATURDAY + 8 * HOUR_NS
    window = AVERAGING_NS / DAY_NS
    assert days(FLAT_CLOCK, expiry - AVERAGING_NS, expiry) == pytest.approx(window / 3.0)
    assert days(FLAT_CLOCK, expiry - AVERAGING_NS // 2, expiry) == pytest.approx(window / 24.0)
    assert days(FLAT_CLOCK, expiry, expiry) == 0.0
    assert days(FLAT_CLOCK, expiry + 1, expiry) == 0.0


@given(MOMENTS, MOMENTS, MOMENTS)
def test_more_time_is_never_less_variance(a: int, b: int, c: int) -> None:
    start, middle, end = sorted((a, b, c))
    assert variance_years(LIGHT, start, end) >= variance_years(LIGHT, middle, end)
    assert variance_years(LIGHT, start, end) >= variance_years(LIGHT, start, middle)


def test_a_weight_that_would_make_weekdays_negative_is_refused() -> None:
    with pytest.raises(AssertionError, match="weekend_weight"):
        variance_years(VarianceClock(weekend_weight=3.5), SATURDAY, SATURDAY + DAY_NS)
