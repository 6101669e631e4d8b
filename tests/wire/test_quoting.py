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
from typing import Any

import ccxt
import pytest

from mm_daemon.ipc.page import COMPUTE_PID, OPS_PID, TRADER_PID, VENUE_PID
from mm_daemon.ipc.tape import Tape, read_tape
from tests.wire import account
from tests.wire.harness import (
    SECRET,
    Daemon,
    Venue,
    busy_factor,
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
    wait_for("equal views", account.Compared(venue, daemon).is_accounted_for, 20.0)


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

    def quotes_live() -> dict[str, float]:
        code, text = http_json(daemon.metrics_port, "GET", "/metrics")
        assert code == 200
        lines = [line.split() for line in text.splitlines() if line.startswith("mm_quotes_live{")]
        return {name: float(value) for name, value in lines}

    sides = {f'mm_quotes_live{{side="{side}",underlying="BTC"}}' for side in ("bid", "ask")}
    wait_for(
        "both sides in the metrics",
        lambda: all(quotes_live()[side] >= QUOTED_MIN for side in sides),
        5.0,
    )
    for page in ("/healthz", "/readyz"):
        assert http_json(daemon.metrics_port, "GET", page)[0] == 200


def test_status_is_one_json_object_for_scripts(running: House) -> None:
    _, daemon = running
    answer = daemon.cli("status", "--json")
    assert answer.returncode == 0, answer.stderr
    status = json.loads(answer.stdout)
    assert status["state"] == "running"
    assert status["options_two_sided"] >= QUOTED_MIN


# -- fills -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traded(running: House) -> dict[str, Any]:
    """A taker sells calls into our bids until our delta is far out of its band; what was traded."""
    venue, daemon = running
    for instrument, price in bids_at_the_touch(daemon)[:25]:
        venue.rest(
            "private/sell",
            key="demo-taker",
            instrument_name=instrument,
            amount=5,
            type="limit",
            price=price,
            time_in_force="immediate_or_cancel",
        )
    trades = wait_for("a hedge", lambda: with_hedge(own_trades(venue)), 10.0)
    assert trades is not None
    return {
        "option": next(one for one in trades if one["mmp"]),
        "hedge": next(one for one in trades if one["instrument_name"] == "BTC-PERPETUAL"),
    }


def bids_at_the_touch(daemon: Daemon) -> list[tuple[str, float]]:
    """Calls whose best bid is ours, those nearest the money first."""
    view = daemon.get("/v1/quotes")
    rows = [
        (abs(delta - 0.5), name, bid)
        for name, delta, bid, touch in zip(
            view["instrument"], view["delta"], view["bid"], view["bid_market"], strict=True
        )
        if delta is not None and delta > 0.2 and bid and bid == touch
    ]
    return [(name, bid) for _, name, bid in sorted(rows)]


def own_trades(venue: Venue) -> list[dict[str, Any]]:
    found = venue.rest("private/get_user_trades_by_currency", currency="BTC", count=1000)
    return list(found["trades"])


def with_hedge(trades: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return trades if any(one["instrument_name"] == "BTC-PERPETUAL" for one in trades) else None


@pytest.mark.usefixtures("traded")
def test_delta_is_hedged_back_into_its_band(running: House) -> None:
    _, daemon = running

    def is_inside() -> bool:
        (hedge,) = daemon.get("/v1/hedges")["hedges"]
        return bool(abs(hedge["delta_coin"]) <= hedge["band_coin"] + 1e-3)

    wait_for("delta in its band", is_inside, 10.0 * busy_factor())


@pytest.mark.usefixtures("traded")
def test_positions_are_the_venues(running: House) -> None:
    venue, daemon = running

    def same() -> bool:
        ours = {
            row["instrument"]: row["amount"] for row in daemon.get("/v1/positions")["positions"]
        }
        rows = venue.rest("private/get_positions", currency="BTC")
        theirs = {row["instrument_name"]: row["size"] for row in rows if row["size"]}
        return len(theirs) >= 2 and ours == pytest.approx(theirs, abs=1e-9)

    wait_for("equal positions", same, 10.0)


@pytest.mark.usefixtures("traded")
def test_equity_is_the_venues_to_1e_8_a_unit_and_the_parts_of_pnl_sum_to_it(
    running: House,
) -> None:
    """At a portfolio stamp; marks are told rounded, so each unit held may be off by its last
    place."""
    _, daemon = running

    def equal() -> bool:
        held = daemon.get("/v1/positions")["positions"]
        units = sum(abs(row["amount"]) for row in held if row["instrument"] != "BTC-PERPETUAL")
        view = daemon.get("/v1/pnl")
        assert sum(view["parts_usd"]["BTC"].values()) == pytest.approx(
            view["total_usd"]["BTC"], abs=1e-6
        )
        return bool(abs(view["venue_difference_e8"]["BTC"]) <= max(1.0, units))

    wait_for("equal equity", equal, 10.0)


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
    codes = [one["code"] for one in daemon.events("ended") if one["child"] == "trader"]
    assert codes == [0]
    assert venue.open_orders() == []
    assert not [pid for pid in pids if pid and os.path.exists(f"/proc/{pid}")]


def test_the_session_replays_without_a_differing_byte(running: House) -> None:
    _, daemon = running
    sessions = daemon.sessions()
    assert len(sessions) == 1, "the trader lived once"
    answer = replay_report(sessions[0])
    assert answer["difference"] is None
    assert answer["outputs"] >= 100
    assert answer["digests"] == 1, "a clean end is sealed"
    assert answer["machine_mismatches"] == []


def test_a_fill_is_explained_by_the_quote_that_was_filled(
    running: House, traded: dict[str, Any]
) -> None:
    _, daemon = running
    trade = traded["option"]
    answer = explained(daemon, f"trade:{trade['trade_id']}")
    (reason,) = answer["reasons"]
    assert reason["instrument"] == trade["instrument_name"]
    assert answer["facts"]["fill"]["fill"]["trade_id"] == trade["trade_id"]
    bid = reason["bid"]
    assert bid["price"] == pytest.approx(trade["price"])
    assert [one for one in bid["candidates"] if one["price"] == pytest.approx(trade["price"])]
    assert bid["price"] < reason["theo"]["price"]
    assert reason["risk"]["limit_use"]["delta"] < 1.0
    assert {"delta_otm", "ln_days"} <= bid["intensity"]["features"].keys()
    by_order = explained(daemon, f"order:{trade['order_id']}")
    assert by_order["reasons"][0]["instrument"] == trade["instrument_name"]


def test_a_hedge_is_explained_by_the_delta_that_it_met(
    running: House, traded: dict[str, Any]
) -> None:
    _, daemon = running
    answer = explained(daemon, traded["hedge"]["label"])
    (reason,) = answer["reasons"]
    assert reason["instrument"] == "BTC-PERPETUAL"
    assert reason["delta_coin"] > reason["band_coin"] > 0.0
    text = run_cli("explain", str(daemon.sessions()[0]), traded["hedge"]["label"])
    assert "hedge by whalley_wilmott" in text.stdout


def explained(daemon: Daemon, what: str) -> dict[str, Any]:
    answer = run_cli("explain", str(daemon.sessions()[0]), what, "--json")
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


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
