"""The trader's knobs: what each may be set to, and in which unit.

One table for both ends of the wire: the server of the control API refuses what is out of bounds or
comes without its unit, before anything is sent (C29), and the decision refuses it again. Values are
never clamped, so that what the audit says is what is in force.
"""

from __future__ import annotations

import msgspec


class Bounds(msgspec.Struct, frozen=True):
    """Allowed range of a knob, its unit, and the value that changes nothing (None: the
    parameter's own)."""

    low: float
    high: float
    neutral: float | None
    unit: str


KNOBS: dict[str, Bounds] = {
    "vol_offset_vp": Bounds(-15.0, 15.0, 0.0, "vp"),
    "skew_offset_vp": Bounds(-10.0, 10.0, 0.0, "vp"),
    "width": Bounds(0.5, 10.0, None, "ratio"),
    "edge_min_ticks": Bounds(0.0, 100.0, None, "ticks"),
    "size_ratio": Bounds(0.0, 5.0, 1.0, "ratio"),
    "lean_ratio": Bounds(0.0, 5.0, 1.0, "ratio"),
    "blacklist": Bounds(0.0, 1.0, 0.0, "flag"),
    "freeze_fit": Bounds(0.0, 1.0, 0.0, "flag"),
}
"""Volatility points (vp) are 0.01 of vol. A positive skew offset raises calls against puts."""


def why_refused(name: str, value: float, unit: str) -> str:
    """Why a person's setting may not be sent; empty where it may. NaN and infinity never may."""
    bounds = KNOBS.get(name)
    if bounds is None:
        return f"unknown knob {name!r}: expected one of {', '.join(KNOBS)}"
    if unit != bounds.unit:
        return f"{name} is in {bounds.unit!r}, found unit {unit!r}: give the value in its unit"
    if not bounds.low <= value <= bounds.high:
        return f"{name} is from {bounds.low:g} to {bounds.high:g} {bounds.unit}, found {value:g}"
    if unit == "flag" and value not in (0.0, 1.0):
        return f"{name} is a flag: expected 0 or 1, found {value:g}"
    return ""
