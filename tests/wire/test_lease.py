"""Two daemons of one shard at one venue, and the Redis between them: only one ever quotes.

The judge is the venue's own record: which connection wrote what, and when it was decided.
"""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Iterator

import pytest

from mm_daemon.ipc.page import CRASH_COUNT, FENCE_EPOCH, TRADER_PID
from tests.wire.account import Compared
from tests.wire.drill_takeover import kill_tree
from tests.wire.harness import (
    Daemon,
    Venue,
    busy_factor,
    decided_us,
    http_json,
    risk_after,
    wait_for,
)
from tests.wire.pair import (
    PASSWORD,
    QUOTED_SOME,
    US_PER_S,
    Pair,
    late_frames,
    lease_of,
    lift_t2,
    now_us,
    permit_end_us,
    quoting_connections,
    two_daemons,
    wait_one_quotes,
    wait_standing_by,
)

TTL_S, T1_S, T2_S = 3.0, 1.5, 8.0
TAKEOVER_S = TTL_S + 5.0
LATE_S = 0.5
"""What the pulling itself, and looking at it, may take."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with two_daemons(
        lease_ttl_s=TTL_S,
        renew_s=0.5,
        timeout_s=0.4,
        permit_s=T1_S,
        permit_quote_age_s_max=T1_S,
        permit_order_age_s_max=T2_S,
        crash_count_max=50,
    ) as pair:
        yield pair


def risk_frames_sent(daemon: Daemon) -> float:
    """By the daemon's own count; its next trader begins at 0."""
    page = daemon.page()
    try:
        return float(page.slots[page.slot_index['mm_frames_sent_total{kind="risk"}']])
    finally:
        page.close()


def metrics_of(daemon: Daemon) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.metrics_port, timeout=10.0)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


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
    assert len(quoting_connections(pair)) == 1
    assert risk_frames_sent(pair.standby) == 0
    assert pair.standby.word(FENCE_EPOCH) == 0
    assert pair.active.word(FENCE_EPOCH) == lease_of(pair.active)["tenure"] > 0


def test_killed_tree_of_the_active_is_replaced_and_sends_nothing_more(pair: Pair) -> None:
    wait_one_quotes(pair)
    active, standby = pair.active, pair.standby
    older = quoting_connections(pair)
    kill_tree(active)
    killed_s, killed_us, ended_us = time.monotonic(), now_us(), permit_end_us(active)
    standby.wait_quoting(1, 3 * TAKEOVER_S)
    took_s = time.monotonic() - killed_s
    assert took_s <= TAKEOVER_S * busy_factor()
    newer = risk_after(pair.venue, killed_us)
    assert newer
    assert {frame["connection"] for frame in newer}.isdisjoint(older)
    assert min(decided_us(frame) for frame in newer) > ended_us, "it could still have quoted"
    assert standby.word(FENCE_EPOCH) > 0
    pair.swap()
    pair.standby.start()
    wait_one_quotes(pair)


def test_paused_redis_stops_quotes_by_t1_and_cancels_by_t2_and_one_comes_back(pair: Pair) -> None:
    wait_one_quotes(pair)
    former = pair.active.word(FENCE_EPOCH)
    pair.redis.pause()
    try:
        judge_without_store(pair)
    finally:
        pair.redis.resume()
    wait_one_quotes(pair)
    assert pair.active.word(FENCE_EPOCH) > former


def judge_without_store(pair: Pair) -> None:
    """The store has just gone: T1 pulls, T2 cancels, and nothing that adds risk after T1."""
    gone_s, gone_us = time.monotonic(), now_us()
    pair.active.wait_pulled(T1_S + 3.0 * busy_factor())
    wait_for("an empty venue", lambda: not pair.venue.open_orders(), T2_S * busy_factor())
    assert time.monotonic() - gone_s <= (T2_S + LATE_S) * busy_factor()
    both = (pair.active, pair.standby)
    wait_for("no tenure", lambda: not any(one.word(FENCE_EPOCH) for one in both), 10.0)
    while time.monotonic() < gone_s + T2_S + 1.0:
        time.sleep(0.2)
    assert risk_after(pair.venue, gone_us + int(T1_S * US_PER_S)) == []
    assert not pair.venue.open_orders()


def test_active_cut_off_from_redis_is_replaced_and_sends_nothing_more(pair: Pair) -> None:
    """Its way to the venue is whole, so nothing but the lease keeps it from quoting."""
    wait_one_quotes(pair)
    cut_off, other = pair.active, pair.standby
    older, former = quoting_connections(pair), cut_off.word(FENCE_EPOCH)
    pipe = pair.pipe(cut_off).popen
    pipe.send_signal(signal.SIGSTOP)
    cut_s, cut_us, ended_us = time.monotonic(), now_us(), permit_end_us(cut_off)
    t1_us = cut_us + int(T1_S * US_PER_S)
    try:
        cut_off.wait_pulled(T1_S + 3.0 * busy_factor())
        wait_for("the lease", lambda: lease_of(other)["state"] == "held", 3 * TAKEOVER_S)
        assert time.monotonic() - cut_s <= TAKEOVER_S * busy_factor()
        sent = risk_frames_sent(cut_off)
        wait_for("quotes of the other", lambda: is_quoting(other), 60.0 * busy_factor(), 0.2)
        quoting_us = now_us()
        while time.monotonic() < cut_s + T2_S + 4.0 or now_us() < quoting_us + 3 * US_PER_S:
            time.sleep(0.2)
        assert wide_cancels(pair.venue, quoting_us) == [], "the quotes are the other's by now"
        assert risk_frames_sent(cut_off) <= sent
        said = lease_of(cut_off)
        assert (said["state"], said["store_is_up"]) == ("suspended", False)
        assert "did not answer" in said["problem"]
        assert "\nmm_redis_up 0.0" in metrics_of(cut_off)
        assert cut_off.word(FENCE_EPOCH) == 0
    finally:
        pipe.send_signal(signal.SIGCONT)
    pair.swap()
    wait_one_quotes(pair)
    assert pair.active is other, "who comes back takes nothing away"
    assert other.word(FENCE_EPOCH) > former
    assert late_frames(pair.venue, older, t1_us) == []
    newer = risk_after(pair.venue, t1_us)
    assert newer
    assert min(decided_us(frame) for frame in newer) > ended_us, "the other could still have quoted"


def wide_cancels(venue: Venue, after_us: int) -> list[str]:
    """Cancels of the whole account, over whatever connection."""
    return [
        frame["method"]
        for frame in venue.received(after_us)
        if frame["method"].startswith("private/cancel_all")
    ]


def is_quoting(daemon: Daemon) -> bool:
    status = daemon.status()
    lift_t2(daemon, status)
    return bool(status.get("options_two_sided", 0) >= QUOTED_SOME)


def test_redis_killed_for_good_costs_the_quotes_and_nothing_else(pair: Pair) -> None:
    wait_one_quotes(pair)
    both = (pair.active, pair.standby)
    guards = [one.process.pid for one in both if one.process is not None]
    former, crashes = pair.active.word(FENCE_EPOCH), pair.active.word(CRASH_COUNT)
    pair.redis.kill()
    judge_without_store(pair)
    for daemon in both:
        assert daemon.process is not None
        assert daemon.process.popen.poll() is None, "it goes on without a store"
        said = lease_of(daemon)
        assert (said["store_is_up"], said["tenure"]) == (False, 0)
        assert "redis" in said["problem"]
        assert daemon.events("store_unusable")
        text = metrics_of(daemon)
        assert "\nmm_redis_up 0.0" in text
        assert "\nmm_lease_held 0.0" in text
        assert http_json(daemon.metrics_port, "GET", "/readyz")[0] == 503
    pair.redis.start()
    wait_one_quotes(pair)
    assert pair.active.word(FENCE_EPOCH) > former, "an empty store forgets no epoch"
    assert [one.process.pid for one in both if one.process is not None] == guards
    assert both[0].word(CRASH_COUNT) == crashes
    venue, active = pair.venue, pair.active
    wait_for("equal orders", Compared(venue, active).is_accounted_for, 30.0 * busy_factor())
    wait_for("equal books", lambda: held_at_venue(venue) == held_believed(active), 30.0)


def held_at_venue(venue: Venue) -> dict[str, float]:
    rows = venue.rest("private/get_positions", currency="any")
    return {row["instrument_name"]: round(row["size"], 8) for row in rows if row["size"]}


def held_believed(daemon: Daemon) -> dict[str, float]:
    rows = daemon.get("/v1/positions")["positions"]
    return {row["instrument"]: round(row["amount"], 8) for row in rows}


def test_flushed_redis_gives_a_higher_epoch_and_a_new_trader_without_a_crash(pair: Pair) -> None:
    wait_one_quotes(pair)
    active, both = pair.active, (pair.active, pair.standby)
    former, trader = active.word(FENCE_EPOCH), active.word(TRADER_PID)
    crashes = active.word(CRASH_COUNT)
    older = quoting_connections(pair)
    pair.redis.flush()
    flushed_us = now_us()
    new = 20.0 * busy_factor()
    wait_for("a new tenure", lambda: any(one.word(FENCE_EPOCH) > former for one in both), new)
    wait_one_quotes(pair)
    assert pair.active.word(TRADER_PID) not in (0, trader)
    assert active.word(CRASH_COUNT) == crashes
    late_us = flushed_us + int((T1_S + LATE_S) * US_PER_S)
    assert late_frames(pair.venue, older, late_us) == []


def test_no_secret_of_the_store_is_in_a_log_or_a_file(pair: Pair) -> None:
    for daemon in (pair.active, pair.standby):
        token = (daemon.runtime_dir / "lease-token").read_text().partition("/")[2]
        logs = [one.read_text() for one in daemon.directory.glob("*.log")]
        assert any("store_unusable" in text for text in logs)
        assert not [text for text in logs if PASSWORD in text or token in text]
        for path in daemon.data_dir.rglob("*"):
            if path.is_file():
                assert PASSWORD.encode() not in path.read_bytes(), path
