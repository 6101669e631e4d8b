"""A person's setting is sent only in its unit and inside its bounds."""

from __future__ import annotations

import math

import pytest

from mm_daemon.domain.knobs import KNOBS, why_refused


@pytest.mark.parametrize("name", list(KNOBS))
def test_c29_takes_its_bounds_and_nothing_beyond_them(name: str) -> None:
    bounds = KNOBS[name]
    for value in (bounds.low, bounds.high):
        assert why_refused(name, value, bounds.unit) == ""
    for value in (bounds.low - 0.01, bounds.high + 0.01, math.nan, math.inf, -math.inf):
        assert name in why_refused(name, value, bounds.unit)


@pytest.mark.parametrize("name", list(KNOBS))
def test_c29_a_value_without_its_unit_is_refused(name: str) -> None:
    for unit in ("", "usd", "bps", "percent"):
        assert KNOBS[name].unit in why_refused(name, KNOBS[name].low, unit)


def test_c29_a_knob_that_does_not_exist_names_those_that_do() -> None:
    assert "width" in why_refused("widht", 1.0, "ratio")


def test_c29_a_flag_is_on_or_off() -> None:
    assert why_refused("blacklist", 0.5, "flag")
