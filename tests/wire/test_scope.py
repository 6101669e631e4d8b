"""A kill of one underlying stops that one at the venue, for this life and the next, and no other.

A daemon of its own, because two underlyings cost a venue and a daemon twice the work.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wire.harness import (
    START_S,
    Daemon,
    DoorClosedError,
    Venue,
    busy_factor,
    house,
    risk_after,
    wait_for,
)

QUOTED_MIN = 100
REASON = "drill of one underlying"
House = tuple[Venue, Daemon]


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house(underlyings=2) as (venue, daemon):
        venue.start(underlyings=("BTC", "ETH"))
        daemon.start()
        wait_resting(venue, "BTC", "ETH", timeout_s=START_S)
        yield venue, daemon


def resting(venue: Venue) -> Counter[str]:
    """Open orders at the venue, quotes included, by underlying."""
    return Counter(order["instrument_name"].partition("-")[0] for order in venue.open_orders())


def wait_resting(venue: Venue, *underlyings: str, timeout_s: float = 60.0) -> None:
    """Until that many orders of each rest there."""

    def look() -> bool:
        found = resting(venue)
        if min(found[one] for one in underlyings) < QUOTED_MIN:
            raise DoorClosedError(dict(found))
        return True

    wait_for(f"orders of {' and '.join(underlyings)}", look, timeout_s * busy_factor(), 0.2)


def underlyings_of(frame: dict[str, Any]) -> set[str]:
    """What a received order or quote is about."""
    params = json.loads(frame["frame"])["params"]
    rows = params.get("quotes", [params])
    return {row["instrument_name"].partition("-")[0] for row in rows}


def risked_after(venue: Venue, us: int) -> set[str]:
    found: set[str] = set()
    return found.union(*(underlyings_of(frame) for frame in risk_after(venue, us)))


def wide_cancels(venue: Venue, since_us: int) -> list[str]:
    """Cancels that name no currency and no instrument."""
    return [
        frame["frame"]
        for frame in venue.received(since_us)
        if frame["method"] == "private/cancel_all" or '"cancel_type":"all"' in frame["frame"]
    ]


def now_us() -> int:
    return time.time_ns() // 1000


def judge_btc_is_still(venue: Venue, since_us: int) -> None:
    """Until the other one has moved on well after that moment: then BTC has had its chances."""
    later_us = now_us() + 500_000
    wait_for("more of ETH", lambda: "ETH" in risked_after(venue, later_us), 30.0)
    assert risked_after(venue, since_us) == {"ETH"}
    wait_resting(venue, "ETH")
    assert resting(venue)["BTC"] == 0


def test_a_scoped_kill_empties_its_underlying_and_the_other_goes_on(running: House) -> None:
    venue, daemon = running
    asked_us = now_us()
    answer = daemon.cli("kill", "--scope", "BTC", "--reason", REASON, "--json")
    killed_us = now_us()
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert (said["scope"], said["state"], said["route"]) == ("BTC", "confirmed", "api")
    assert resting(venue)["BTC"] == 0, "confirmed means that nothing rests"
    assert wide_cancels(venue, asked_us) == [], "the other one is not swept with it"
    judge_btc_is_still(venue, killed_us)
    assert daemon.status()["latched_by"] == {"operator@BTC": REASON}


def test_it_survives_a_restart_and_the_other_quotes_again(running: House) -> None:
    venue, daemon = running
    assert daemon.stop() == 0
    assert not venue.open_orders()
    started_us = now_us()
    daemon.start()
    wait_resting(venue, "ETH", timeout_s=START_S)
    judge_btc_is_still(venue, started_us)
    assert daemon.status()["latched_by"] == {"operator@BTC": REASON}


def test_a_reset_of_that_scope_alone_brings_it_back(running: House) -> None:
    venue, daemon = running
    wrong = daemon.cli("reset", "--scope", "ETH", "--reason", "the drill is over")
    assert wrong.returncode == 1
    assert " 409 " in wrong.stderr
    assert daemon.status()["latched_by"] == {"operator@BTC": REASON}

    def lifted() -> bool:
        done = daemon.cli("reset", "--scope", "BTC", "--reason", "the drill is over")
        if done.returncode:
            raise DoorClosedError(done.stderr)
        return True

    wait_for("the reset", lifted, 60.0, poll_s=3.0)
    assert daemon.status()["latched_by"] == {}
    wait_resting(venue, "BTC", "ETH")
