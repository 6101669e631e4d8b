"""The controls as tables: what trips each, at which level, what it does, how it resets.

`CONTROLS` are judged by the breaker on one sample, `QUICK_CONTROLS` in its pass by instrument, and
`STANDING_CONTROLS` refuse where they stand. Numbers are those of the table in ARCHITECTURE.md,
which is checked against these rows; a row with a name behind its number is one part of a control.
"""

from __future__ import annotations

from mm_daemon.core.control_rows_desk import DESK_CONTROLS
from mm_daemon.core.control_rows_market import MARKET_CONTROLS, QUICK_CONTROLS
from mm_daemon.core.control_rows_standing import STANDING_CONTROLS
from mm_daemon.core.control_rows_system import SYSTEM_CONTROLS
from mm_daemon.core.control_types import (
    Action,
    Control,
    Level,
    QuickControl,
    QuickRow,
    Reset,
    Sample,
    StandingRow,
    UnderlyingSample,
    number_of,
)

TRIPS = "mm_breaker_trips_total"
"""Counts trips, labelled with `number_of` the row's id."""
HELD = "mm_instruments_held_total"
"""Counts instruments that the controls by instrument began to hold, with the same label."""


def _order(control: Control) -> tuple[int, str]:
    return int(number_of(control.id)[1:]), control.id


CONTROLS: tuple[Control, ...] = tuple(
    sorted((*DESK_CONTROLS, *MARKET_CONTROLS, *SYSTEM_CONTROLS), key=_order)
)

__all__ = [
    "CONTROLS",
    "HELD",
    "QUICK_CONTROLS",
    "STANDING_CONTROLS",
    "TRIPS",
    "Action",
    "Control",
    "Level",
    "QuickControl",
    "QuickRow",
    "Reset",
    "Sample",
    "StandingRow",
    "UnderlyingSample",
    "number_of",
]
