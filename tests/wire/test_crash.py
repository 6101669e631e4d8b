"""Processes that die or hang, one after the other, under one daemon; and what it leaves on disk.

The daemon speaks through a recording proxy, so that at the end its directory can be searched for
every token and signature that ever crossed the wire.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_daemon.ipc.page import COMPUTE_PID, GUARD_PID, OPS_PID, TRADER_PID
from tests.wire import account
from tests.wire.harness import (
    SECRET,
    Daemon,
    Venue,
    busy_factor,
    house,
    replay_report,
    risk_after,
    wait_for,
)
from tests.wire.proxy import Proxy

QUOTED_MIN = 500
QUOTED_AGAIN = 100
BACK_S = 10.0
"""A process that was killed is replaced, reconciled and quoting within this time."""
GONE_S = 4.0
"""After a trader hangs or dies, all orders are gone within this time."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def running(proxy: Proxy) -> Iterator[tuple[Venue, Daemon]]:
    with house(through=proxy, crash_count_max=50) as (venue, daemon):
        venue.start()
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        yield venue, daemon


def end(daemon: Daemon, word: int, number: signal.Signals = signal.SIGKILL) -> int:
    """Signals one process of the daemon; its id."""
    pid = daemon.word(word)
    assert pid, "it runs"
    os.kill(pid, number)
    return pid


def wait_replaced(daemon: Daemon, word: int, former: int) -> None:
    wait_for("a new process", lambda: daemon.word(word) not in (0, former), 3 * BACK_S)


def wait_accounted_for(venue: Venue, daemon: Daemon) -> None:
    wait_for("equal views", account.Compared(venue, daemon).is_accounted_for, 20.0)


def test_killed_trader_is_swept_and_its_successor_quotes_by_itself(
    running: tuple[Venue, Daemon],
) -> None:
    venue, daemon = running
    started_s = time.monotonic()
    former = end(daemon, TRADER_PID)
    wait_for("an empty venue", lambda: not venue.open_orders(), GONE_S * busy_factor())
    wait_replaced(daemon, TRADER_PID, former)
    daemon.wait_quoting(QUOTED_AGAIN, 30.0)
    assert time.monotonic() - started_s <= BACK_S * busy_factor()
    wait_accounted_for(venue, daemon)
    assert daemon.status()["latched_by"] == {}


def test_killed_ops_comes_back_and_the_trader_goes_on(running: tuple[Venue, Daemon]) -> None:
    venue, daemon = running
    trader = daemon.word(TRADER_PID)
    started_s = time.monotonic()
    former = end(daemon, OPS_PID)
    wait_replaced(daemon, OPS_PID, former)
    daemon.wait_quoting(QUOTED_AGAIN, 30.0)
    assert time.monotonic() - started_s <= BACK_S * busy_factor()
    assert daemon.word(TRADER_PID) == trader
    wait_accounted_for(venue, daemon)


def test_killed_compute_comes_back_and_fits_again(running: tuple[Venue, Daemon]) -> None:
    _, daemon = running
    former = end(daemon, COMPUTE_PID)
    wait_replaced(daemon, COMPUTE_PID, former)
    accepted = daemon.get("/v1/surface")["fits_accepted"].get("BTC", 0)
    wait_for(
        "an accepted fit",
        lambda: daemon.get("/v1/surface")["fits_accepted"].get("BTC", 0) > accepted,
        30.0,
    )
    daemon.wait_quoting(QUOTED_AGAIN, 30.0)


def test_hanging_trader_is_swept_killed_and_replaced(running: tuple[Venue, Daemon]) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_AGAIN)
    started_s = time.monotonic()
    former = end(daemon, TRADER_PID, signal.SIGSTOP)
    wait_for("an empty venue", lambda: not venue.open_orders(), 2 * GONE_S)
    assert time.monotonic() - started_s <= GONE_S * busy_factor()
    wait_replaced(daemon, TRADER_PID, former)
    daemon.wait_quoting(QUOTED_AGAIN, 30.0)
    wait_accounted_for(venue, daemon)


def test_killed_guard_leaves_nothing_working_and_the_next_start_is_clean(
    running: tuple[Venue, Daemon],
) -> None:
    venue, daemon = running
    trader = daemon.word(TRADER_PID)
    end(daemon, GUARD_PID)
    wait_for("an empty venue", lambda: not venue.open_orders(), 10.0)
    wait_for("the trader to go", lambda: not Path(f"/proc/{trader}").exists(), 10.0)
    daemon.start()
    daemon.wait_quoting(QUOTED_AGAIN)
    wait_accounted_for(venue, daemon)


def test_a_kill_holds_over_a_restart_until_a_reset(running: tuple[Venue, Daemon]) -> None:
    venue, daemon = running
    assert daemon.cli("kill", "--reason", "over the weekend").returncode == 0
    returned_us = time.time_ns() // 1000
    assert daemon.stop() == 0
    daemon.start()
    reconciled = wait_for(
        "a reconciled, latched trader", lambda: latched_status(daemon), timeout_s=30.0
    )
    assert reconciled["permission"] == []
    assert risk_after(venue, returned_us) == []
    daemon.reset(reconciled["generation"])
    daemon.wait_quoting(QUOTED_AGAIN, 20.0)
    wait_accounted_for(venue, daemon)


def latched_status(daemon: Daemon) -> dict[str, object] | None:
    status = daemon.status()
    return status if status.get("is_reconciled") and "operator" in status["latched_by"] else None


def test_hard_stop_ends_the_daemon_and_blocks_its_start(running: tuple[Venue, Daemon]) -> None:
    venue, daemon = running
    answer = daemon.cli("kill", "--level", "hard_stop", "--reason", "drill")
    assert answer.returncode == 0, answer.stderr
    assert daemon.wait_exit() == 0
    assert venue.open_orders() == []
    daemon.start()
    assert daemon.wait_exit() == 2
    (line,) = [one for one in daemon.output().splitlines() if "hard stop" in one]
    block = Path(re.search(r"remove (\S+) to", line)[1])  # type: ignore[index]
    block.unlink()


# -- what was left on disk -------------------------------------------------------------------------


def test_every_session_replays_also_those_that_ended_in_a_crash(
    running: tuple[Venue, Daemon],
) -> None:
    _, daemon = running
    sessions = daemon.sessions()
    assert len(sessions) >= 5
    for session in sessions:
        report = replay_report(session)
        assert report["difference"] is None, (session, report["difference"])
        assert report["inputs"] > 0


def test_no_secret_is_on_disk(running: tuple[Venue, Daemon], proxy: Proxy) -> None:
    _, daemon = running
    secrets = secrets_seen(proxy) | {SECRET.encode()}
    assert len(secrets) > 10, "tokens and signatures crossed the wire"
    for path in daemon.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [one for one in secrets if one in content], path
    log = daemon.output().encode()
    assert not [one for one in secrets if one in log]


def secrets_seen(proxy: Proxy) -> set[bytes]:
    """Every token granted and every signature sent."""
    found: set[bytes] = set()
    for opening in proxy.openings:
        granted = bytes(opening.from_venue)
        found |= set(re.findall(rb'"(?:access|refresh)_token":"([^"]{8,})"', granted))
        found |= set(re.findall(rb'"signature":"([0-9a-f]{16,})"', opening.client_text()))
    assert any(len(one) == 64 for one in found), "signatures are seen"
    return found


def test_directories_and_files_are_private(running: tuple[Venue, Daemon]) -> None:
    _, daemon = running
    for session in daemon.sessions():
        assert session.stat().st_mode & 0o077 == 0
    for path in (daemon.runtime_dir, daemon.data_dir / "state"):
        assert path.stat().st_mode & 0o077 == 0
