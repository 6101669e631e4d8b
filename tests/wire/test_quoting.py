"""A daemon at work, judged from the venue's side: what rests, what was sent, what a stop leaves.

One daemon lives through this module: first it quotes, then each way of killing it is tried with a
reset in between, at last it is stopped by SIGTERM and its session looked at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ccxt
import pytest

from mm_daemon.ipc.page import COMPUTE_PID, OPS_PID, TRADER_PID, VENUE_PID
from mm_daemon.ipc.tape import Tape, read_tape
from tests.wire import account
from tests.wire.harness import (
    SECRET,
    Daemon,
    Venue,
    house,
    http_json,
    replay_report,
    risk_after,
    run_cli,
    wait_for,
)

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


# -- five ways to kill ----------------------------------------------------------------------------


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


def kill_with_hung_ops(daemon: Daemon) -> None:
    ops = daemon.word(OPS_PID)
    os.kill(ops, signal.SIGSTOP)
    answer = daemon.cli("kill", "--reason", "drill", "--json")
    os.kill(ops, signal.SIGKILL)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["route"] == "page"


def wait_latched(daemon: Daemon) -> None:
    wait_for("the latch", lambda: daemon.status()["permission"] == [], 5.0)


@pytest.mark.parametrize(
    "kill",
    [kill_by_command, kill_by_http, kill_by_signal, kill_by_file, kill_with_hung_ops],
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
    swept = daemon.wait_swept()
    assert risk_after(venue, returned_us) == []
    assert swept["permission"] == []
    assert "operator" in swept["latched_by"]
    refuse_then_reset(daemon, swept["generation"])
    daemon.wait_quoting(QUOTED_MIN, 20.0)


def refuse_then_reset(daemon: Daemon, generation: int) -> None:
    """A reset that has not seen the newest kill is refused; the one that has lifts it."""
    stale = {"generation": generation - 1, "reason": "the drill is over"}
    assert daemon.post("/v1/reset", stale, role="risk")[0] == 409
    daemon.reset(generation)


def test_halting_pulls_quotes_and_says_so(running: House) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    answer = daemon.cli("kill", "--level", "halt_quoting", "--json")
    assert answer.returncode == 0, answer.stderr
    assert not [one for one in venue.open_orders() if one["quote"]]
    assert daemon.status()["permission"] == ["hedge", "reduce"]
    daemon.reset(json.loads(answer.stdout)["generation"])
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
    answer = replay_report(sessions[0])
    assert answer["difference"] is None
    assert answer["outputs"] >= 100
    assert answer["digests"] > 0
    assert answer["machine_mismatches"] == []


def test_a_changed_byte_of_an_output_is_found_and_both_sides_are_shown(running: House) -> None:
    _, daemon = running
    forged = daemon.directory / "forged"
    forge(daemon.sessions()[0], forged)
    answer = run_cli("replay", str(forged), "--verify")
    assert answer.returncode == 1, answer.stderr
    assert "DIFFERS at record" in answer.stdout
    assert "tape:" in answer.stdout
    assert "replay:" in answer.stdout


def test_a_damaged_tape_is_refused_with_its_place(running: House) -> None:
    _, daemon = running
    damaged = daemon.directory / "damaged"
    shutil.copytree(daemon.sessions()[0], damaged)
    segment = min(damaged.glob("tape-*.seg"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 8] ^= 0x01
    segment.write_bytes(content)
    answer = run_cli("replay", str(damaged), "--verify")
    assert answer.returncode == 1
    assert segment.name in answer.stderr
    assert "Traceback" not in answer.stderr


def forge(session: Path, copy: Path) -> None:
    """The same session with one digit of one quote's price changed and every checksum right."""
    shutil.copytree(session, copy, ignore=shutil.ignore_patterns("tape-*.seg"))
    tape = Tape(copy)
    is_forged = False
    for record in read_tape(session):
        payload = record.payload
        if not is_forged and b'"private/mass_quote"' in payload:
            payload = re.sub(rb'("price":[\d.]*)\d', rb"\g<1>9", payload, count=1)
            is_forged = payload != record.payload
        tape.append(record.type, record.flags, record.ts_ns, payload)
    tape.close()
    assert is_forged
