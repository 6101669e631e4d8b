"""What calls a person reaches one: as a critical line and as a count by event."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from mm_daemon.core.outbox import LOG_LINES_MAX, PAGES_MAX, Outbox
from mm_daemon.domain.metrics import PAGE_EVENTS, page_slots
from mm_daemon.domain.outputs import Log
from mm_daemon.ipc.page import Page
from mm_daemon.ops.logs import make_logger, write_line
from mm_daemon.ops.trader_client import LogLine
from mm_daemon.shell.measures import Measures

PACKAGE = Path(__file__).parents[2] / "mm_daemon"


def written(level: str, **fields: bool) -> list[str]:
    """Levels of what a line came to in the log of the strictest setting that is allowed."""
    lines: list[str] = []
    logger = make_logger("error", "ops", lines.append)
    write_line(logger, LogLine(1, level, "control_tripped", dict(fields)))
    return [json.loads(one)["level"] for one in lines]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "unheard_of"])
def test_a_page_is_critical_at_whatever_level_it_was_written(level: str) -> None:
    assert written(level, page=True) == ["critical"]


def test_a_line_that_is_no_page_keeps_its_level() -> None:
    assert written("error", page=False) == ["error"]
    assert written("warning") == []
    assert written("critical") == ["critical"]


def page_events() -> dict[str, str]:
    """Events of every `log` in the decision that is or may be a page, with where."""
    found = {}
    for path in sorted(PACKAGE.glob("core/*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if call.func.attr != "log" or len(call.args) != 2:
                continue
            level, event = call.args
            is_critical = isinstance(level, ast.Constant) and level.value == "critical"
            if is_critical or any(one.arg == "page" for one in call.keywords):
                assert isinstance(event, ast.Constant), (path, call.lineno)
                found[str(event.value)] = f"{path.name}:{call.lineno}"
    return found


def test_every_page_there_is_has_a_series_of_its_own_and_none_is_idle() -> None:
    assert set(page_events()) == set(PAGE_EVENTS) - {"other"}


def test_pages_are_counted_by_event_whether_or_not_anybody_reads_the_log(tmp_path: Path) -> None:
    measures = Measures(Page.create(tmp_path / "page", page_slots(("BTC",))))
    measures.said(Log("warning", "control_tripped", {"page": True}))
    measures.said(Log("critical", "sweep_unconfirmed", {}))
    measures.said(Log("error", "unheard_of", {"page": True}))
    measures.said(Log("error", "control_tripped", {"page": False}))
    counted = {event: count for event, count in measures.pages.items() if count}
    assert counted == {"control_tripped": 1, "sweep_unconfirmed": 1, "other": 1}


def test_a_storm_of_lines_leaves_room_for_pages() -> None:
    outbox = Outbox(1)
    for _ in range(LOG_LINES_MAX + 10):
        outbox.log("info", "chatter")
    for _ in range(PAGES_MAX + 10):
        outbox.log("warning", "control_tripped", page=True)
    lines = outbox.take_outputs()
    assert len(lines) == LOG_LINES_MAX + PAGES_MAX
    assert outbox.log_lines_dropped == 20
