"""Two daemons of one shard at one venue, and the Redis between them: only one ever quotes.

The judge is the venue's own record: which connection wrote what, and when it was decided.
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mm_daemon.ipc.page import CRASH_COUNT, FENCE_EPOCH, TRADER_PID
from tests.ops.redis_server import RedisServer, redis_server
from tests.wire.harness import (
    CLOCK_TOLERANCE_US,
    Daemon,
    DoorClosedError,
    Venue,
    busy_factor,
    config_text,
    decided_us,
    descendants,
    free_ports,
    http_json,
    is_risk,
    risk_after,
    short_directory,
    wait_for,
)

TTL_S, T1_S, T2_S = 3.0, 1.5, 4.0
TAKEOVER_S = TTL_S + 5.0
PASSWORD = "correct-horse-battery-staple"
QUOTED_MIN = 200
QUOTED_SOME = 20
US_PER_S = 1_000_000
LATE_S = 0.5
"""What the pulling itself, and looking at it, may take."""


@dataclass
class Pair:
    """Two daemons, of which the first was started first."""

    venue: Venue
    redis: RedisServer
    active: Daemon
    standby: Daemon


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with short_directory() as directory, redis_server("--requirepass", PASSWORD) as server:
        password_file = directory / "p"
        password_file.write_text(f"{PASSWORD}\n")
        password_file.chmod(0o400)
        (port,) = free_ports(1)
        venue = Venue(directory, port)
        daemons = []
        for name in ("a", "b"):
            home = directory / name
            home.mkdir()
            daemons.append(Daemon(home, config_of(home, port, server.url, password_file)))
        try:
            venue.start()
            daemons[0].start()
            daemons[0].wait_quoting(QUOTED_MIN)
            daemons[1].start()
            yield Pair(venue, server, *daemons)
        finally:
            for daemon in daemons:
                daemon.end()
            venue.stop()


def config_of(home: Path, venue_port: int, url: str, password_file: Path) -> str:
    return config_text(
        home,
        venue_port,
        url=url,
        password_file=str(password_file),
        lease_ttl_s=TTL_S,
        renew_s=0.5,
        timeout_s=0.4,
        permit_s=T1_S,
        permit_quote_age_s_max=T1_S,
        permit_order_age_s_max=T2_S,
        crash_count_max=50,
    )


def lease_of(daemon: Daemon) -> dict[str, Any]:
    return dict(daemon.status()["lease"])


def wait_standing_by(daemon: Daemon) -> dict[str, Any]:
    """Until it says so, with warm processes: its page shows no tenure."""

    def look() -> dict[str, Any]:
        status = daemon.status()
        if status.get("state") != "standby" or not status["lease"]["holder"]:
            raise DoorClosedError({key: status.get(key) for key in ("trader", "state", "lease")})
        return status

    return wait_for("a standby", look, 30.0)


def risk_connections(venue: Venue, after_us: int = 0) -> set[int]:
    """Which connections wrote what could add risk."""
    return {frame["connection"] for frame in venue.received(after_us) if is_risk(frame)}


def metrics_of(daemon: Daemon) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.metrics_port, timeout=10.0)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def now_us() -> int:
    return time.time_ns() // 1000


def test_second_daemon_stands_by_and_says_so(pair: Pair) -> None:
    status = wait_standing_by(pair.standby)
    assert status["lease"]["state"] == "standby"
    assert status["lease"]["store_is_up"]
    assert status["lease"]["holder"]
    code, ready = http_json(pair.standby.metrics_port, "GET", "/readyz")
    assert (code, ready["lease_state"], ready["lease_held"]) == (503, "standby", False)
    text = metrics_of(pair.standby)
    assert "\nmm_lease_held 0.0" in text
    assert "\nmm_fence_epoch 0.0" in text
    assert 'mm_lease_state{state="standby"} 1.0' in text
    assert "\nmm_redis_up 1.0" in text
    held = metrics_of(pair.active)
    assert "\nmm_lease_held 1.0" in held
    assert "mm_permit_age_seconds" in held


def test_exactly_one_quotes(pair: Pair) -> None:
    wait_standing_by(pair.standby)
    since_us = now_us()
    connections = risk_connections(pair.venue)
    (one,) = connections
    wait_for("more of its quotes", lambda: risk_connections(pair.venue, since_us), 20.0)
    assert risk_connections(pair.venue) == {one}
    assert pair.standby.word(FENCE_EPOCH) == 0
    assert pair.active.word(FENCE_EPOCH) == lease_of(pair.active)["tenure"] > 0


def test_killed_tree_of_the_active_is_replaced_and_sends_nothing_more(pair: Pair) -> None:
    wait_standing_by(pair.standby)
    active, standby = pair.active, pair.standby
    active.wait_quoting(QUOTED_SOME)
    recent_us = now_us() - 5 * US_PER_S
    older = risk_connections(pair.venue, recent_us)
    assert active.process is not None
    for pid in (active.process.pid, *descendants(active.process.pid)):
        os.kill(pid, signal.SIGKILL)
    killed_s, killed_us = time.monotonic(), now_us()
    standby.wait_quoting(1, 3 * TAKEOVER_S)
    took_s = time.monotonic() - killed_s
    assert took_s <= TAKEOVER_S * busy_factor()
    newer = [
        frame
        for frame in pair.venue.received(killed_us)
        if is_risk(frame) and decided_us(frame) > killed_us + CLOCK_TOLERANCE_US
    ]
    assert newer
    assert {frame["connection"] for frame in newer}.isdisjoint(older)
    first_s = (min(decided_us(frame) for frame in newer) - killed_us) / US_PER_S
    assert first_s >= TTL_S - 1.0, "not before the lease of the older one had lapsed"
    assert standby.word(FENCE_EPOCH) > 0
    pair.active, pair.standby = standby, active
    pair.standby.start()
    wait_standing_by(pair.standby)


def test_paused_redis_stops_quotes_by_t1_and_cancels_by_t2_and_one_comes_back(pair: Pair) -> None:
    pair.active.wait_quoting(QUOTED_SOME)
    former = pair.active.word(FENCE_EPOCH)
    pair.redis.pause()
    try:
        paused_s, paused_us = time.monotonic(), now_us()
        pair.active.wait_pulled(T1_S + 3.0 * busy_factor())
        wait_for("an empty venue", lambda: not pair.venue.open_orders(), T2_S * busy_factor())
        assert time.monotonic() - paused_s <= (T2_S + LATE_S) * busy_factor()
        while time.monotonic() < paused_s + T2_S + 1.0:
            assert risk_after(pair.venue, paused_us + int(T1_S * US_PER_S)) == []
            time.sleep(0.2)
        assert pair.active.word(FENCE_EPOCH) == pair.standby.word(FENCE_EPOCH) == 0
    finally:
        pair.redis.resume()
    wait_one_quotes(pair)
    assert max(pair.active.word(FENCE_EPOCH), pair.standby.word(FENCE_EPOCH)) > former


def wait_one_quotes(pair: Pair) -> None:
    """Until one of the two quotes; it is then `pair.active`. One that was latched at T2 waits for
    a person, once it has the lease again and has reconciled."""

    def holder() -> Daemon | None:
        """The loser of a flush says `held` until its next renewal: wait for that too."""
        statuses = {daemon: daemon.status() for daemon in (pair.active, pair.standby)}
        held = [one for one, status in statuses.items() if status["lease"]["state"] == "held"]
        if len(held) == 1 and statuses[held[0]].get("is_reconciled"):
            return held[0]
        return None

    found = wait_for("one that holds the lease", holder, 30.0 * busy_factor())
    assert found is not None
    if found is pair.standby:
        pair.active, pair.standby = pair.standby, pair.active
    status = pair.active.status()
    if "control:C24.order" in status["latched_by"]:
        pair.active.reset(status["generation"])
    pair.active.wait_quoting(1, 20.0 * busy_factor())
    wait_standing_by(pair.standby)


def test_flushed_redis_gives_a_higher_epoch_and_a_new_trader_without_a_crash(pair: Pair) -> None:
    active = pair.active
    former, trader = active.word(FENCE_EPOCH), active.word(TRADER_PID)
    crashes = active.word(CRASH_COUNT)
    flushed_us = now_us()
    older = risk_connections(pair.venue, flushed_us - 5 * US_PER_S)
    pair.redis.flush()
    wait_for("a new tenure", lambda: holder_above(pair, former), 20.0 * busy_factor())
    wait_one_quotes(pair)
    assert pair.active.word(TRADER_PID) not in (0, trader)
    assert active.word(CRASH_COUNT) == crashes
    late = [
        frame
        for frame in risk_after(pair.venue, flushed_us + int((T1_S + LATE_S) * US_PER_S))
        if frame["connection"] in older
    ]
    assert late == []


def holder_above(pair: Pair, former: int) -> bool:
    return any(one.word(FENCE_EPOCH) > former for one in (pair.active, pair.standby))


def test_no_secret_of_the_store_is_in_a_log_or_a_file(pair: Pair) -> None:
    for daemon in (pair.active, pair.standby):
        token = (daemon.runtime_dir / "lease-token").read_text().partition("/")[2]
        logs = [one.read_text() for one in daemon.directory.glob("*.log")]
        assert any("store_unusable" in text for text in logs)
        assert not [text for text in logs if PASSWORD in text or token in text]
        for path in daemon.data_dir.rglob("*"):
            if path.is_file():
                assert PASSWORD.encode() not in path.read_bytes(), path
