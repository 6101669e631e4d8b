"""Trader settings are bounded, scoped, and refused rather than bent."""

from __future__ import annotations

import math

import pytest

from mm_daemon.core.knobs import KNOBS_MAX, KnobRefusal, Knobs
from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.knobs import KNOBS
from tests.core.chain_world import catalog

WORLD = catalog(days=(7.0, 30.0), strikes=3)
EXPIRY = WORLD.expiries["BTC"][0].expiry_ns
NAME = WORLD.instruments[2].name


def knob(
    name: str = "width",
    value: float = 2.0,
    underlying: str = "",
    expiry_ns: int = 0,
    instrument: str = "",
) -> TraderKnob:
    return TraderKnob(name, underlying, expiry_ns, instrument, value, "trader")


@pytest.mark.parametrize("name", list(KNOBS))
def test_bounds_are_inclusive_and_nothing_outside_or_nan_is_taken(name: str) -> None:
    knobs, bounds = Knobs(), KNOBS[name]
    assert knobs.set(knob(name, bounds.low), WORLD) is None
    assert knobs.set(knob(name, bounds.high), WORLD) is None
    for value in (bounds.low - 0.01, bounds.high + 0.01, math.nan, math.inf):
        assert knobs.set(knob(name, value), WORLD) is KnobRefusal.OUT_OF_BOUNDS
    assert knobs.value(name, 9.0, underlying="BTC", expiry_ns=EXPIRY) == bounds.high


@pytest.mark.parametrize(
    ("setting", "refusal"),
    [
        (knob("warp"), KnobRefusal.UNKNOWN_NAME),
        (knob(underlying="DOGE"), KnobRefusal.UNKNOWN_SCOPE),
        (knob(expiry_ns=17), KnobRefusal.UNKNOWN_SCOPE),
        (knob(instrument="BTC-1-1-C"), KnobRefusal.UNKNOWN_SCOPE),
        (knob("vol_offset_vp", 1.0, instrument=NAME), KnobRefusal.SCOPE_TOO_NARROW),
    ],
)
def test_setting_without_a_meaning_is_refused(setting: TraderKnob, refusal: KnobRefusal) -> None:
    knobs = Knobs()
    assert knobs.set(setting, WORLD) is refusal
    assert knobs.in_force() == []
    assert knobs.version == 0


def test_narrowest_scope_wins_whatever_the_order() -> None:
    knobs = Knobs()
    knobs.set(knob(value=5.0, instrument=NAME), WORLD)
    knobs.set(knob(value=4.0, underlying="BTC", expiry_ns=EXPIRY), WORLD)
    knobs.set(knob(value=3.0, underlying="BTC"), WORLD)
    knobs.set(knob(value=2.0), WORLD)

    def value(underlying: str, expiry_ns: int, instrument: str = "") -> float:
        return knobs.value(
            "width", 1.0, underlying=underlying, expiry_ns=expiry_ns, instrument=instrument
        )

    assert value("BTC", EXPIRY, NAME) == 5.0
    assert value("BTC", EXPIRY) == 4.0
    assert value("BTC", 0) == 3.0
    assert value("ETH", 0) == 2.0
    assert knobs.instruments() == [NAME]


def test_number_of_settings_is_bounded() -> None:
    knobs = Knobs()
    wide = catalog(days=tuple(float(day) for day in range(2, 40)), strikes=30)
    taken = 0
    for item in wide.instruments[2:]:
        refusal = knobs.set(knob(value=1.0, instrument=item.name), wide)
        if refusal is not None:
            assert refusal is KnobRefusal.TOO_MANY
            break
        taken += 1
    assert taken == KNOBS_MAX
    assert knobs.set(knob(value=3.0, instrument=wide.instruments[2].name), wide) is None


def test_equal_histories_have_equal_digests() -> None:
    first, second = Knobs(), Knobs()
    assert first.set(knob(), WORLD) is second.set(knob(), WORLD)
    assert first.digest() == second.digest()
    second.set(knob(value=3.0), WORLD)
    assert first.digest() != second.digest()
