"""Variance time: how much volatility the calendar still holds until an expiry.

A weekend day carries less variance than a weekday, a scheduled event carries its own, and the last
half hour carries a third, because settlement is an average over it. Surfaces are carried forward
and interpolated in this measure, so that a Saturday does not look like a fall of volatility.
Integer nanoseconds come in, years of ordinary variance come out; there is no clock in here.
"""

import msgspec

from mm_daemon.pricing.arrays import YEAR_NS

DAY_NS = 86_400 * 1_000_000_000
WEEK_NS = 7 * DAY_NS
SATURDAY_NS = 2 * DAY_NS
"""The epoch began on a Thursday; the first Saturday 00:00 UTC is two days in."""
AVERAGING_NS = 30 * 60 * 1_000_000_000
"""Settlement is the mean of the index over the last 30 minutes."""


class VarianceEvent(msgspec.Struct, frozen=True):
    """A scheduled announcement that adds `extra_days` of ordinary variance at `ts_ns`."""

    ts_ns: int
    extra_days: float


class VarianceClock(msgspec.Struct, frozen=True):
    """Weights of the week and the events known ahead.

    weekend_weight: variance of a Saturday or Sunday relative to a flat week, in (0, 3.5); the
    weekdays take up the rest, so that a whole week always counts seven days.
    """

    weekend_weight: float = 1.0
    events: tuple[VarianceEvent, ...] = ()


FLAT_CLOCK = VarianceClock()


def variance_years(clock: VarianceClock, from_ns: int, expiry_ns: int) -> float:
    """Years of ordinary variance left in the settlement price of `expiry_ns`; 0 once expired.

    Inside the averaging window only the share of the average that is still open counts, squared.
    """
    assert 0.0 < clock.weekend_weight < 3.5, (
        f"weekend_weight must lie in (0, 3.5), found {clock.weekend_weight}"
    )
    if from_ns >= expiry_ns:
        return 0.0
    window_start_ns = expiry_ns - AVERAGING_NS
    open_ns = _weighted_ns(clock, max(from_ns, window_start_ns), expiry_ns)
    share = min(expiry_ns - from_ns, AVERAGING_NS) / AVERAGING_NS
    total_ns = open_ns * share * share / 3.0
    if from_ns < window_start_ns:
        total_ns += _weighted_ns(clock, from_ns, window_start_ns)
    for event in clock.events:
        if from_ns < event.ts_ns <= expiry_ns:
            total_ns += event.extra_days * DAY_NS
    return total_ns / YEAR_NS


def calendar_years(from_ns: int, expiry_ns: int) -> float:
    """Time to expiry as the venue counts it, years of 365 days; 0 once expired."""
    return max(expiry_ns - from_ns, 0) / YEAR_NS


def _weighted_ns(clock: VarianceClock, from_ns: int, to_ns: int) -> float:
    """Weighted length of an interval."""
    weeks_from, into_from_ns = divmod(from_ns - SATURDAY_NS, WEEK_NS)
    weeks_to, into_to_ns = divmod(to_ns - SATURDAY_NS, WEEK_NS)
    whole_ns = (weeks_to - weeks_from) * WEEK_NS
    return whole_ns + _into_week(clock, into_to_ns) - _into_week(clock, into_from_ns)


def _into_week(clock: VarianceClock, into_ns: int) -> float:
    """Weighted time since Saturday 00:00 UTC."""
    weekend_ns = 2 * DAY_NS
    weekday_weight = (7.0 - 2.0 * clock.weekend_weight) / 5.0
    if into_ns < weekend_ns:
        return into_ns * clock.weekend_weight
    return weekend_ns * clock.weekend_weight + (into_ns - weekend_ns) * weekday_weight
