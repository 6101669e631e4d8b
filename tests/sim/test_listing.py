"""What the venue lists at any instant, and what it adds as time passes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.listing import (
    BTC_TERMS,
    ETH_TERMS,
    TERMS,
    ListingBook,
    date_code,
    expiries,
    strike_ladder,
    synthetic_name,
)
from mm_daemon.sim.spec import (
    DAY_US,
    E8,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    SETTLEMENT_TIME_OF_DAY_US,
    InstrumentSpec,
)

SPOT = {"BTC": 70_000.0, "ETH": 2_100.0}


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND_US


START = us(datetime(2026, 2, 8, 21, 30, tzinfo=UTC))


def listed(now_us: int, extra: tuple[int, ...] = ()) -> list[InstrumentSpec]:
    book = ListingBook(terms=(BTC_TERMS, ETH_TERMS), extra_expiries_us=extra)
    return book.missing(now_us, SPOT)


def test_expiries_of_a_known_sunday_are_the_recorded_ones() -> None:
    days = [date_code(expiry.expiry_us) for expiry in expiries(START)]
    assert days == [
        "9FEB26", "10FEB26", "11FEB26", "12FEB26", "13FEB26", "20FEB26", "27FEB26",
        "27MAR26", "24APR26", "26JUN26", "25SEP26", "25DEC26",
    ]  # fmt: skip


moments = st.integers(0, 4 * 365 * 24).map(
    lambda hour: us(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hour, minutes=17))
)


@settings(max_examples=80)
@given(now_us=moments)
def test_at_any_instant_there_are_eleven_to_thirteen_expiries_at_eight(now_us: int) -> None:
    found = expiries(now_us)
    assert 11 <= len(found) <= 13
    for expiry in found:
        assert expiry.expiry_us > now_us
        assert expiry.expiry_us % DAY_US == SETTLEMENT_TIME_OF_DAY_US
    within = [e for e in found if e.expiry_us - now_us <= 4 * DAY_US]
    assert len(within) == 4


@settings(max_examples=15)
@given(now_us=moments)
def test_both_underlyings_always_have_enough_options_with_unique_names(now_us: int) -> None:
    specs = listed(now_us)
    options = [spec for spec in specs if spec.is_option]
    assert len(options) >= 1_500
    assert len({spec.name for spec in specs}) == len(specs)
    assert sorted(spec.instrument_id for spec in specs) == list(range(1, len(specs) + 1))
    counts = Counter(spec.currency for spec in options)
    assert min(counts.values()) >= 700
    assert max(counts.values()) <= 1_100


def test_each_strike_has_a_call_and_a_put_on_the_venues_steps() -> None:
    options = [spec for spec in listed(START) if spec.is_option]
    calls = {spec.name[:-1] for spec in options if spec.name.endswith("C")}
    puts = {spec.name[:-1] for spec in options if spec.name.endswith("P")}
    assert calls == puts
    for spec in options:
        strike_e8 = spec.strike_e8 or 0
        assert strike_e8 > 0
        assert strike_e8 % ((500 if spec.currency == "BTC" else 25) * E8) == 0


def test_terms_follow_the_venue() -> None:
    specs = {spec.name: spec for spec in listed(START)}
    option = specs["BTC-27MAR26-70000-C"]
    assert option.tick_e8(500_000) == 10_000
    assert option.tick_e8(500_001) == 50_000
    assert option.min_trade_amount_e8 == E8 // 10
    assert specs["ETH-27MAR26-2100-P"].min_trade_amount_e8 == E8
    perpetual = specs["BTC-PERPETUAL"]
    assert perpetual.tick_size_e8 == E8 // 2
    assert perpetual.min_trade_amount_e8 == 10 * E8
    assert specs["ETH-PERPETUAL"].tick_size_e8 == 5_000_000
    assert "BTC-27MAR26" in specs
    assert "BTC-9FEB26" not in specs
    assert synthetic_name("BTC", option.expiry_us) == "SYN.BTC-27MAR26"


def test_a_new_daily_has_nine_strikes_and_gains_more_with_age() -> None:
    expiry = next(e for e in expiries(START) if e.period == "day")
    sizes = [
        len(strike_ladder(TERMS["BTC"], expiry, expiry.expiry_us - age * HOUR_US, 70_000.0))
        for age in (96, 60, 30, 3)
    ]
    assert sizes[0] == 9
    assert sizes == sorted(sizes)
    assert 24 <= sizes[-1] <= 32


@pytest.mark.parametrize("name", ["BTC", "ETH"])
def test_ladders_hold_the_recorded_numbers_of_strikes(name: str) -> None:
    found = expiries(START)
    sizes = {
        date_code(e.expiry_us): len(strike_ladder(TERMS[name], e, START, SPOT[name])) for e in found
    }
    assert 38 <= sizes["13FEB26"] <= 50
    assert 55 <= sizes["27MAR26"] <= 65
    for back in ("26JUN26", "25SEP26", "25DEC26"):
        assert 33 <= sizes[back] <= 50


def test_at_the_roll_one_new_daily_appears_and_nothing_is_listed_twice() -> None:
    book = ListingBook(terms=(BTC_TERMS, ETH_TERMS))
    before = {spec.name for spec in book.missing(START, SPOT)}
    roll = next(e.expiry_us for e in expiries(START))
    assert book.missing(START, SPOT) == []
    added = book.missing(roll, SPOT)
    assert before.isdisjoint(spec.name for spec in added)
    new = {date_code(s.expiry_us) for s in added if s.is_option} - {
        date_code(e.expiry_us) for e in expiries(START)
    }
    assert len(new) <= 1
    assert all(spec.expiry_us > roll for spec in added)


def test_strikes_follow_the_spot() -> None:
    book = ListingBook(terms=(BTC_TERMS,))
    book.missing(START, {"BTC": 70_000.0})
    added = book.missing(START + HOUR_US, {"BTC": 80_000.0})
    assert any(spec.is_option and (spec.strike_e8 or 0) // E8 > 83_000 for spec in added)


def test_a_short_expiry_displaces_the_regular_one_of_its_date() -> None:
    start = us(datetime(2026, 2, 9, 6, 0, tzinfo=UTC))
    short = start + 5 * MINUTE_US
    specs = [s for s in listed(start, (short,)) if s.is_option]
    today = {s.expiry_us for s in specs if "-9FEB26-" in s.name}
    assert today == {short}
