"""Every way in stops the trading of the real daemon, lasts until a reset, and is on the audit log
with who or what it was: by ops where it came that way, as observed where it came past it.

The venue's own record judges whether anything that adds risk was written afterwards. A daemon of
its own, because two people are needed here, as the example ships it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mm_daemon.ipc.page import TRADER_PID
from tests.wire.harness import Daemon, Venue, house, http_json, risk_after, wait_for

QUOTED_MIN = 200
REASON = "drill of the ways in"
House = tuple[Venue, Daemon]


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house(reset_persons=2, crash_count_max=50) as (venue, daemon):
        venue.start()
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        yield venue, daemon


def by_http(daemon: Daemon) -> dict[str, Any]:
    code, answer = daemon.post("/v1/kill", {"reason": REASON}, role="halt")
    assert code == 200, answer
    return {"act": "kill", "actor": "halt", "route": "/v1/kill", "reason": REASON}


def by_unix_socket(daemon: Daemon) -> dict[str, Any]:
    answer = daemon.cli("kill", "--reason", REASON, "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["route"] == "api"
    return {"act": "kill", "actor": f"uid{os.getuid()}", "reason": REASON}


def by_signal_to_the_guard(daemon: Daemon) -> dict[str, Any]:
    assert daemon.process is not None
    daemon.process.popen.send_signal(signal.SIGUSR1)
    return {"act": "observed_raise", "source": "operator", "reason": "signal SIGUSR1"}


def by_runtime_file(daemon: Daemon) -> dict[str, Any]:
    (daemon.runtime_dir / "KILL").write_text(REASON)
    return {"act": "observed_raise", "source": "operator", "reason": f"kill file: {REASON}"}


def by_the_watchdog(daemon: Daemon) -> dict[str, Any]:
    """A trader that stands still is nobody's wish, and the guard's own key sweeps."""
    os.kill(daemon.word(TRADER_PID), signal.SIGSTOP)
    return {"act": "observed_raise", "source": "crash", "reason": "no progress"}


WAYS = (by_http, by_unix_socket, by_signal_to_the_guard, by_runtime_file, by_the_watchdog)


@pytest.mark.parametrize("way", WAYS, ids=lambda one: str(one.__name__))
def test_every_way_in_stops_the_trading_and_is_on_the_log(
    running: House, way: Callable[[Daemon], dict[str, Any]]
) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    began_ns = time.time_ns()
    expected = way(daemon)
    wait_for("the line", lambda: line_like(daemon, expected, began_ns), 15.0)
    stopped_us = time.time_ns() // 1000
    wait_for("an empty venue", lambda: not venue.open_orders(), 15.0)
    if expected.get("source") == "crash":
        # The guard lifts it itself when the next trader has reconciled.
        daemon.wait_quoting(QUOTED_MIN)
        cleared = {"act": "observed_clear", "source": "crash"}
        wait_for("the line of its end", lambda: line_like(daemon, cleared, began_ns), 5.0)
        return
    swept = daemon.wait_swept()
    assert risk_after(venue, stopped_us) == []
    assert swept["permission"] == []
    lift_by_two(daemon, swept["generation"])


def line_like(daemon: Daemon, expected: dict[str, Any], since_ns: int) -> dict[str, Any] | None:
    """The first line of the log since then with these fields; texts may go on."""
    for line in daemon.get("/v1/audit")["entries"]:
        if line["ts_ns"] >= since_ns and all(
            str(line.get(key, "")).startswith(value) for key, value in expected.items()
        ):
            return dict(line)
    return None


def lift_by_two(daemon: Daemon, generation: int) -> None:
    """Asked for by the command over the unix socket, approved over HTTP by another person."""

    def ask() -> dict[str, Any] | None:
        answer = daemon.cli(
            "reset", "--generation", str(generation), "--reason", "the drill is over", "--json"
        )
        return dict(json.loads(answer.stdout)) if answer.returncode == 0 else None

    asked = wait_for("a request that waits", ask, 30.0, poll_s=3.0)
    assert asked is not None
    assert daemon.status()["permission"] == []
    approval = {"request_id": asked["request_id"]}
    own = daemon.cli("reset", "--approve", asked["request_id"])
    assert own.returncode == 1
    assert "another person must approve" in own.stderr
    code, answer = daemon.post("/v1/reset/approve", approval, role="risk")
    assert code == 200, answer
    assert answer["approved_by"] == "risk"
    status = daemon.status()
    assert status["reentry"]["BTC"]["size_ratio"] < 1.0


def test_a_kill_of_one_underlying_says_so_and_status_names_its_scope(running: House) -> None:
    _, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    answer = daemon.cli("kill", "--scope", "BTC", "--reason", REASON, "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["scope"] == "BTC"
    status = daemon.wait_swept()
    assert status["latched_by"] == {"operator@BTC": REASON}
    assert status["permission"] == ["quote", "hedge", "reduce"]
    unknown = daemon.cli("kill", "--scope", "DOGE")
    assert unknown.returncode == 1
    assert "DOGE" in unknown.stderr
    lift_scope(daemon, status["generation"])


def lift_scope(daemon: Daemon, generation: int) -> None:
    body = {"generation": generation, "reason": "the drill is over", "scope": "BTC"}

    def ask() -> dict[str, Any] | None:
        code, answer = daemon.post("/v1/reset", body, role="risk")
        return dict(answer) if code == 202 else None

    asked = wait_for("a request that waits", ask, 30.0, poll_s=3.0)
    assert asked is not None
    approval = {"request_id": asked["request_id"]}
    assert daemon.post("/v1/reset/approve", approval, role="admin")[0] == 200


def test_the_log_of_all_this_verifies_and_the_metrics_count_it(running: House) -> None:
    _, daemon = running
    verified = daemon.cli("audit", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["lines"] > len(WAYS)
    shown = daemon.cli("audit", "show", "--last", "5")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 5
    code, text = http_json(daemon.metrics_port, "GET", "/metrics")
    assert code == 200
    lines = dict(line.rsplit(" ", 1) for line in str(text).splitlines() if line[:1] != "#")
    assert float(lines['mm_kill_total{level="cancel_all",source="operator"}']) >= len(WAYS) - 1
    assert float(lines['mm_kill_total{level="cancel_all",source="crash"}']) >= 1.0
    assert float(lines["mm_kill_settle_seconds_count"]) >= len(WAYS) - 1
    assert lines['mm_permission{kind="quote",scope="BTC"}'] == "1.0"
