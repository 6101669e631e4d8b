"""A kill while something is broken: the trader blocked, the trader dead, ops and the page gone.

The cases that need no fault are in `test_quoting` and `test_ways_in`; a dead ops is there too.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mm_daemon.ipc.page import OPS_PID, TRADER_PID
from tests.wire.drill_guard import block_main_thread
from tests.wire.harness import Daemon, Venue, house, risk_after, wait_for

QUOTED_MIN = 100
House = tuple[Venue, Daemon]


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house(crash_count_max=50) as (venue, daemon):
        venue.start()
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        yield venue, daemon


@pytest.mark.parametrize("way", ["blocked", "stopped"])
def test_kill_of_a_trader_that_hangs_is_confirmed_by_the_guards_sweep(
    running: House, way: str
) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    former = daemon.word(TRADER_PID)
    if way == "blocked":
        block_main_thread(former)
    else:
        os.kill(former, signal.SIGSTOP)
    hung_us = time.time_ns() // 1000
    answer = daemon.cli("kill", "--reason", "it hangs", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    told = json.loads(answer.stdout)
    assert told["state"] == "confirmed"
    assert venue.open_orders() == []
    assert risk_after(venue, hung_us) == []
    wait_for("another trader", lambda: daemon.word(TRADER_PID) not in (0, former), 30.0)
    lift(daemon)


def test_kill_right_after_the_traders_death_holds_in_its_successor(running: House) -> None:
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    os.kill(daemon.word(TRADER_PID), signal.SIGKILL)
    code, answer = daemon.post("/v1/kill", {"reason": "it died"}, role="halt")
    answered_us = time.time_ns() // 1000
    assert code in (200, 503), answer
    assert (code == 200) == (answer["state"] == "settling")
    status = daemon.wait_swept()
    assert status["permission"] == []
    assert venue.open_orders() == []
    assert risk_after(venue, answered_us) == []
    lift(daemon)


def test_kill_with_ops_hung_and_the_page_unreadable_is_taken_by_the_guard(running: House) -> None:
    """Last, because nothing that starts later can attach to such a page."""
    venue, daemon = running
    daemon.wait_quoting(QUOTED_MIN)
    page = daemon.page()
    os.kill(page.words[OPS_PID], signal.SIGSTOP)
    path = daemon.runtime_dir / "page"
    path.unlink()
    path.write_bytes(b"garbage")
    answer = daemon.cli("kill", "--reason", "nothing works", "--json")
    told_us = time.time_ns() // 1000
    os.kill(page.words[OPS_PID], signal.SIGKILL)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    told = json.loads(answer.stdout)
    assert (told["route"], told["state"]) == ("guard", "taken by the guard")
    wait_for("an empty venue", lambda: not venue.open_orders(), 10.0)
    assert risk_after(venue, told_us) == []
    assert page.permission == 0
    page.close()


def lift(daemon: Daemon) -> None:
    """Once the successor has reconciled and the guard has taken its own latch back, which is a
    generation more; by one person."""

    def only_ours_is_left() -> dict[str, Any] | None:
        status = daemon.status()
        is_left = status.get("is_reconciled") and list(status["latched_by"]) == ["operator"]
        return status if is_left else None

    status = wait_for("the operator's latch alone", only_ours_is_left, 30.0)
    assert status is not None
    daemon.reset(int(status["generation"]))
