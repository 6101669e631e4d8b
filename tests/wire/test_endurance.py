"""The long drills in short: a few crashes, kills and hangs each, and not one broken promise.

`python -m tests.wire.endurance` runs the same for hours. Times are judged there, on a machine that
does nothing else.
"""

from __future__ import annotations

import json

import pytest

from tests.wire import endurance
from tests.wire.drill_report import Goal, Report


@pytest.mark.parametrize(
    ("drill", "count"), [("sigkill", 1), ("kill", 2), ("guard", 1)], ids=lambda one: str(one)
)
def test_drill_in_short_breaks_no_promise(drill: str, count: int) -> None:
    report = endurance.DRILLS[drill](count, 1)
    assert report.violations == []
    assert report.iterations == count


def test_violations_fail_the_drill_and_missed_goals_are_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report("kill", 1, {"answer": Goal(99, 0.05)})
    report.add("answer", 0.2)
    monkeypatch.setitem(endurance.DRILLS, "kill", lambda count, seed: report)
    assert endurance.main(["kill"]) == 0
    assert "MISSED answer: p99 0.200 s, goal 0.05 s" in capsys.readouterr().out
    report.violate("an order arrived late")
    assert endurance.main(["kill"]) == 1
    assert "VIOLATION kill 0: an order arrived late" in capsys.readouterr().out
    assert json.loads(json.dumps(report.as_json()))["violations"]
