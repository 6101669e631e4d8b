"""Starts that cannot work, or not yet: one clear line, an exit code, or patience."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest

from tests.wire.harness import START_S, Daemon, Venue, house, run_cli, wait_for

QUOTED_SOME = 100


@pytest.mark.parametrize("key", ["control_listen", "metrics_listen"])
def test_taken_port_is_one_line_and_exit_2(key: str) -> None:
    with house() as (_, daemon):
        port = daemon.control_port if key == "control_listen" else daemon.metrics_port
        with socket.create_server(("127.0.0.1", port)):
            daemon.start()
            assert daemon.wait_exit() == 2
            (port_item,) = [
                one
                for one in json.loads(daemon.cli("check", "--json").stdout)["items"]
                if one["what"] == key
            ]
        (line,) = daemon.output().splitlines()
        assert key in line
        assert str(port) in line
        assert not port_item["ok"]


def test_second_daemon_on_the_same_directories_is_refused() -> None:
    with house() as (_, daemon):
        daemon.start()
        wait_for("the first to run", lambda: (daemon.runtime_dir / "page").exists(), START_S)
        second = run_cli("run", "--config", str(daemon.config))
        assert second.returncode == 2
        assert "another daemon runs" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert daemon.process is not None
        assert daemon.process.popen.poll() is None


def test_wrong_key_is_said_in_one_line_and_nothing_is_quoted() -> None:
    with house() as (venue, daemon):
        venue.start()
        spoil_key(daemon)
        daemon.start()
        refused = wait_for(
            "the refusal",
            lambda: [
                entry
                for entry in daemon.events("session_changed")
                if entry["conn"] == "trade" and "13004" in str(entry["reason"])
            ],
            START_S,
        )
        assert refused is not None
        assert "invalid_credentials" in refused[0]["reason"]
        assert "wrong-secret" not in daemon.output()
        assert daemon.status()["quotes_live"] == 0
        checked = daemon.cli("check")
        assert checked.returncode == 1
        (line,) = [one for one in checked.stdout.splitlines() if "venue.key" in one]
        assert line.startswith("FAIL")
        assert "invalid_credentials" in line
        assert "wrong-secret" not in checked.stdout


def spoil_key(daemon: Daemon) -> None:
    """Another secret for the trading key; the guard's stays right."""
    text = daemon.config.read_text()
    right = 'client_id = "demo-maker"\nclient_secret = "demo-secret"'
    assert right in text
    daemon.config.write_text(text.replace(right, right.replace("demo-secret", "wrong-secret")))


def test_venue_that_comes_late_is_waited_for() -> None:
    with house() as (venue, daemon):
        daemon.start()
        wait_for("a failed attempt", lambda: daemon.events("connect_failed"), START_S)
        attempts_s = [one["ts_ns"] / 1e9 for one in daemon.events("connect_failed")]
        assert attempts_s
        venue.start()
        daemon.wait_quoting(QUOTED_SOME)
        assert check_while_running(venue, daemon)
        assert daemon.stop() == 0
        assert venue.open_orders() == []


def check_while_running(venue: Venue, daemon: Daemon) -> bool:
    """`check` beside a living daemon finds all well and disturbs nothing."""
    before = len(venue.received())
    started_us = time.time_ns() // 1000
    answer = daemon.cli("check", "--json")
    report = json.loads(answer.stdout)
    assert answer.returncode == 0, report
    assert report["ok"]
    sent = [one["method"] for one in venue.received(started_us)]
    assert not [one for one in sent if re.search("cancel|buy|sell|edit", one)], sent
    return len(venue.received()) >= before
