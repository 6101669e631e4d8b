"""One line of the bench: what was measured, the goal it is held against, and the verdict."""

from __future__ import annotations

import math

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """`value` in `unit`; `goal` is a bound (at most, or at least where `at_least`), NaN = none."""

    section: str
    name: str
    value: float
    unit: str
    goal: float = math.nan
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if math.isnan(self.goal):
            return "" if not math.isnan(self.value) else "not measured"
        if math.isnan(self.value):
            return "not measured"
        is_met = self.value >= self.goal if self.at_least else self.value <= self.goal
        return "pass" if is_met else "falls short"


def skipped(section: str, reason: str) -> Figure:
    """A section that could not be measured, and why."""
    return Figure(section=section, name="not measured", value=math.nan, unit="", note=reason)


def table(figures: list[Figure]) -> str:
    """The figures as text, one a line under their sections."""
    lines: list[str] = []
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            lines += ["", section]
        lines.append(
            f"  {figure.name:<58} {_value(figure):>13}  {_goal(figure):>10}"
            f"  {figure.verdict:<12} {figure.note}".rstrip()
        )
    return "\n".join(lines[1:])


def as_json(figures: list[Figure]) -> bytes:
    """The figures as a JSON array; what has no value or goal is null there."""
    rows = [
        {**_nan_to_none(msgspec.to_builtins(figure)), "verdict": figure.verdict}
        for figure in figures
    ]
    return msgspec.json.format(msgspec.json.encode(rows), indent=1)


def _nan_to_none(row: dict[str, object]) -> dict[str, object]:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }


def _value(figure: Figure) -> str:
    return "—" if math.isnan(figure.value) else f"{figure.value:,.2f} {figure.unit}"


def _goal(figure: Figure) -> str:
    if math.isnan(figure.goal):
        return ""
    return f"{'≥' if figure.at_least else '≤'} {figure.goal:g}"
