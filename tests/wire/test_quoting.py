"""A daemon at work, judged from the venue's side: what rests, what was sent, what a stop leaves.

One daemon lives through this module: first it quotes, then each way of killing it is tried with a
reset in between, at last it is stopped by SIGTERM and its session looked at.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import ccxt
import pytest

from mm_daemon.ipc.page import COMPUTE_PID, OPS_PID, TRADER_PID, VENUE_PID
from tests.wire import account
from tests.wire.harness import SECRET, Daemon, Venue, house, http_json, is_risk, wait_for

QUOTED_MIN = 500
"""Of some 830 listed BTC options; the rest are too close to expiry or out of the delta range."""
House = tuple[Venue, Daemon]


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house() as (venue, daemon):
        venue.start()
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        yield venue, daemon


def test_options_are_quoted_two_sided_and_never_crossed_with_itself(running: House) -> None:
    venue, _ = running
    for _ in range(5):
        orders = venue.open_orders()
        assert account.two_sided(orders) >= QUOTED_MIN
        assert account.crossed_with_itself(orders) == []
        assert all(order["post_only"] and order["mmp"] for order in orders if order["quote"])


def test_daemon_and_venue_show_the_same_orders(running: House) -> None:
    venue, daemon = running
    wait_for("equal views", lambda: account.is_accounted_for(venue, daemon), 20.0)


def test_a_strangers_client_sees_the_same_account(running: House) -> None:
    venue, daemon = running
    client = ccxt.deribit({"apiKey": "demo-guard", "secret": SECRET, "enableRateLimit": False})
    client.urls["api"]["rest"] = f"http://127.0.0.1:{venue.port}"
    client.load_markets()

    def same() -> bool:
        seen = {
            (one["info"]["instrument_name"], one["side"]): (one["price"], one["remaining"])
            for one in client.fetch_open_orders(None, None, None, {"code": "BTC"})
            if one["info"].get("quote")
        }
        return len(seen) >= 2 * QUOTED_MIN and seen == account.quotes_believed(daemon)

    wait_for("the same quotes through ccxt", same, 20.0)


def test_metrics_and_health_tell_of_a_quoting_daemon(running: House) -> None:
    _, daemon = running
    code, text = http_json(daemon.metrics_port, "GET", "/metrics")
    assert code == 200
    live = {
        line.split()[0]: float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("mm_quotes_live{")
    }
    assert live['mm_quotes_live{side="bid",underlying="BTC"}'] >= QUOTED_MIN
    assert live['mm_quotes_live{side="ask",underlying="BTC"}'] >= QUOTED_MIN
    for page in ("/healthz", "/readyz"):
        assert http_json(daemon.metrics_port, "GET", page)[0] == 200


def test_status_is_one_json_object_for_scripts(running: House) -> None:
    _, daemon = running
    answer = daemon.cli("status", "--json")
    assert answer.returncode == 0, answer.stderr
    status = json.loads(answer.stdout)
    assert status["state"] == "running"
    assert status["options_two_sided"] >= QUOTED_MIN


# -- five ways to kill ------------------------------------------------------------------------------


def kill_by_command(daemon: Daemon) -> None:
    answer = daemon.cli("kill", "--reason", "drill", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["route"] == "api"


def kill_by_http(daemon: Daemon) -> None:
    code, answer = daemon.post("/v1/kill", {"reason": "drill"}, role="halt")
    assert (code, answer["state"]) == (200, "settling")


def kill_by_signal(daemon: Daemon) -> None:
    assert daemon.process is not None
    daemon.process.popen.send_signal(signal.SIGUSR1)
    wait_latched(daemon)


def kill_by_file(daemon: Daemon) -> None:
    (daemon.runtime_dir / "KILL").write_text("drill")
    wait_latched(daemon)
    wait_for("the file is taken", lambda: not (daemon.runtime_dir / "KILL").exists(), 5.0)


def kill_with_dead_ops(daemon: Daemon) -> None:
    os.kill(daemon.word(OPS_PID), signal.SIGSTOP)
    os.kill(daemon.word(OPS_PID), signal.SIGKILL)
    answer = daemon.cli("kill", "--reason", "drill", "--json")
    assert answer.returncode == 0, answer.stderr


def wait_latched(daemon: Daemon) -> None:
    wait_for("the latch", lambda: daemon.status()["permission"] == [], 5.0)


@pytest.mark.parametrize(
    "kill",
    [kill_by_command, kill_by_http, kill_by_signal, kill_by_file, kill_with_dead_ops],
    ids=lambda one: str(one.__name__),
)
def test_after_a_kill_nothing_risky_arrives_and_only_a_reset_quotes_again(
    running: House, kill: Callable[[Daemon], None]
) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    kill(daemon)
    returned_us = time.time_ns() // 1000
    wait_for("an empty venue", lambda: not venue.open_orders(), 10.0)
    swept = wait_for("the sweep", lambda: swept_status(daemon), 15.0)
    assert not [one for one in venue.received(returned_us) if is_risk(one)]
    assert swept["permission"] == []
    assert "operator" in swept["latched_by"]
    reset(daemon, swept["generation"])
    daemon.wait_quoting(QUOTED_MIN, 20.0)


def swept_status(daemon: Daemon) -> dict[str, Any] | None:
    status = daemon.status()
    return status if status["swept_generation"] >= status["generation"] else None


def reset(daemon: Daemon, generation: int) -> None:
    """Lifts the operator's latch; a stale generation is refused first."""
    reason = {"reason": "the drill is over"}
    code, _ = daemon.post("/v1/reset", {"generation": generation - 1, **reason}, role="risk")
    assert code == 409
    answer = daemon.cli("reset", "--generation", str(generation), "--reason", reason["reason"])
    assert answer.returncode == 0, answer.stderr


def test_halting_pulls_quotes_and_says_so(running: House) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    answer = daemon.cli("kill", "--level", "halt_quoting", "--json")
    assert answer.returncode == 0, answer.stderr
    assert not [one for one in venue.open_orders() if one["quote"]]
    assert daemon.status()["permission"] == ["hedge", "reduce"]
    reset(daemon, json.loads(answer.stdout)["generation"])
    daemon.wait_quoting(QUOTED_MIN, 20.0)


@pytest.mark.parametrize(
    ("role", "code"), [("view", 403), ("halt", 403), ("trader", 403), (None, 401)]
)
def test_only_risk_may_reset(running: House, role: str | None, code: int) -> None:
    _, daemon = running
    body = {"generation": 1, "reason": "I would rather like to"}
    if role is not None:
        assert daemon.post("/v1/reset", body, role=role)[0] == code
    else:
        assert http_json(daemon.control_port, "POST", "/v1/reset", body)[0] == code


def test_a_viewer_may_not_kill(running: House) -> None:
    _, daemon = running
    assert daemon.post("/v1/kill", {}, role="view")[0] == 403
    assert daemon.status()["latched_by"] == {}


# -- the end ---------------------------------------------------------------------------------------


def test_sigterm_sweeps_and_exits_0(running: House) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    pids = [daemon.word(word) for word in (TRADER_PID, OPS_PID, COMPUTE_PID, VENUE_PID)]
    assert daemon.stop() == 0
    assert venue.open_orders() == []
    assert not [pid for pid in pids if pid and os.path.exists(f"/proc/{pid}")]


def test_the_session_replays_without_a_differing_byte(running: House) -> None:
    _, daemon = running
    sessions = daemon.sessions()
    assert len(sessions) == 1, "the trader lived once"
    answer = daemon_replay(sessions[0])
    assert answer["difference"] is None
    assert answer["outputs"] > 1000
    assert answer["digests"] > 0
    assert answer["machine_mismatches"] == []


def daemon_replay(session: Any) -> dict[str, Any]:
    from tests.wire.harness import run_cli

    answer = run_cli("replay", str(session), "--verify", "--json", timeout_s=240.0)
    assert answer.returncode in (0, 1), answer.stderr
    report: dict[str, Any] = json.loads(answer.stdout)
    assert (report["difference"] is not None) == (answer.returncode == 1)
    return report
