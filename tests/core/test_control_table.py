"""The table of controls in ARCHITECTURE.md is the code's: its rows, its metrics, its tests.

`expected_table()` makes the table from the rows in the code and the tests that are there; where the
page differs, the failure shows the whole table to put there.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from mm_daemon.core.controls import (
    CONTROLS,
    HELD,
    QUICK_CONTROLS,
    STANDING_CONTROLS,
    TRIPS,
    Level,
    Reset,
    number_of,
)
from mm_daemon.core.risk_verdict import CONTROL_OF
from mm_daemon.domain import metrics

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "mm_daemon" / "ARCHITECTURE.md"
HEADING = "## Controls"
NUMBERS = range(1, 35)
HEAD = (
    "| row | trips on | level | does | lifted by | metric | tests |",
    "|---|---|---|---|---|---|---|",
)
RESETS = {Reset.AUTO: "itself", Reset.OPERATOR: "an operator", Reset.TWO_PERSONS: "two people"}


class Line(NamedTuple):
    """One line of the table but for its tests."""

    id: str
    trigger: str
    level: str
    action: str
    lifted_by: str
    metric: str


def code_lines() -> list[Line]:
    """Every row of the code, by number."""
    lines = [
        Line(
            row.id,
            row.trigger,
            row.level.value,
            row.action.value,
            _lifted(row.reset, row.held_s_min, row.trips_per_hour_max),
            TRIPS,
        )
        for row in CONTROLS
    ]
    lines += [
        Line(
            row.id,
            row.trigger,
            Level.INSTRUMENT.value,
            row.action.value,
            RESETS[row.reset],
            HELD,
        )
        for row in QUICK_CONTROLS
    ]
    lines += [
        Line(row.id, row.trigger, row.level.value, row.action.value, "nothing to lift", row.counted)
        for row in STANDING_CONTROLS
    ]
    return sorted(lines, key=lambda line: (int(number_of(line.id)[1:]), line.id))


def _lifted(reset: Reset, held_s_min: float, trips_per_hour_max: int) -> str:
    text = RESETS[reset]
    if held_s_min:
        text += f" after {held_s_min:g} s"
    if trips_per_hour_max:
        text += f"; two people from trip {trips_per_hour_max} in an hour"
    return text


def numbered_tests() -> dict[int, dict[str, list[str]]]:
    """Test functions named after a control, by its number and the file they are in."""
    found: dict[int, dict[str, list[str]]] = {number: {} for number in NUMBERS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_c"):
                for word in node.name.removeprefix("test_").split("_"):
                    if not (word.startswith("c") and word[1:].isdigit() and len(word) == 3):
                        break
                    name = str(path.relative_to(ROOT / "tests"))
                    found[int(word[1:])].setdefault(name, []).append(node.name)
    return found


def expected_table() -> str:
    """The section's table as it must stand in the page."""
    tests = numbered_tests()
    rows = [
        f"| {line.id} | {line.trigger} | {line.level} | {line.action.replace('_', ' ')}"
        f" | {line.lifted_by} | `{line.metric}`"
        f" | {', '.join(f'`{name}`' for name in tests[int(number_of(line.id)[1:])])} |"
        for line in code_lines()
    ]
    return "\n".join((*HEAD, *rows))


def page_table() -> str:
    section = PAGE.read_text().partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("|"))


def test_the_page_has_the_rows_of_the_code_and_the_tests_that_there_are() -> None:
    expected = expected_table()
    assert page_table() == expected, f"put this table under {HEADING!r}:\n{expected}"


def test_every_number_of_the_published_list_has_a_row_and_a_test() -> None:
    numbered = {int(number_of(line.id)[1:]) for line in code_lines()}
    assert numbered == set(NUMBERS)
    untested = [number for number, files in numbered_tests().items() if not files]
    assert untested == []


def test_every_metric_of_the_table_exists_with_its_label() -> None:
    families = {family.name: dict(family.labels) for family in metrics.node_families(("BTC",))}
    unmeasured = [line.id for line in code_lines() if line.metric not in families]
    assert unmeasured == ["C26"], "what ops refuses is in its audit log"
    for line in code_lines():
        if line.id not in unmeasured:
            assert number_of(line.id) in families[line.metric]["control"]


def test_every_standing_control_names_the_module_that_holds_it() -> None:
    for row in STANDING_CONTROLS:
        assert (ROOT / "mm_daemon" / f"{row.place}.py").is_file(), row


def test_every_refusal_of_the_gate_is_of_a_standing_control() -> None:
    standing = {number_of(row.id) for row in STANDING_CONTROLS}
    assert set(CONTROL_OF.values()) <= standing


def test_a_row_that_latches_has_a_level_that_a_latch_knows() -> None:
    for row in CONTROLS:
        if row.is_latched:
            assert row.level in (Level.UNDERLYING, Level.VENUE, Level.FIRM)
        if row.level is Level.EXPIRY:
            assert row.action.mask is None
