"""A venue that loses messages, answers late, goes away and hangs, in front of a quoting daemon.

The daemon is started first and waits, so that the venue's script runs from a known moment. After
each fault every order that the venue shows is one that the daemon knows of, and the other way
round.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.wire import account
from tests.wire.harness import (
    START_S,
    Daemon,
    Venue,
    busy_factor,
    house,
    http_json,
    risk_after,
    wait_for,
)
from tests.wire.proxy import Proxy

QUOTED_MIN = 400
SCRIPT = """
name = "script"
description = "Lost book messages from 10 s, late answers from 16 s, gone from 26 s to 29 s."
activity = -0.25

[[events]]
type = "feed_gap"
at_s = 10.0
instrument = "BTC-PERPETUAL"
messages = 1

[[events]]
type = "feed_gap"
at_s = 12.0
instrument = "atm:BTC:2"
messages = 2

[[events]]
type = "ack_delay"
at_s = 16.0
for_s = 4.0
delay_ms = 400.0

[[events]]
type = "ack_delay"
at_s = 20.0
for_s = 2.0
delay_ms = 2500.0

[[events]]
type = "outage"
at_s = 26.0
for_s = 3.0
"""
GAPS_OVER_S, ACKS_OVER_S, OUTAGE_S, OUTAGE_OVER_S = 14.0, 25.0, 26.0, 29.0


class Scripted:
    """A daemon quoting on a scripted venue, and when the script began."""

    def __init__(self, venue: Venue, daemon: Daemon, proxy: Proxy) -> None:
        self.venue = venue
        self.daemon = daemon
        self.proxy = proxy
        self.began_s = time.monotonic()

    def wait_until(self, at_s: float) -> None:
        """Until the script is `at_s` old: the venue's clock is the only thing that tells."""
        wait_for(
            f"second {at_s} of the script", lambda: time.monotonic() - self.began_s >= at_s, 60.0
        )

    def wait_accounted_for(self) -> None:
        wait_for("equal views", account.Compared(self.venue, self.daemon).is_accounted_for, 20.0)

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        text = str(http_json(self.daemon.metrics_port, "GET", "/metrics")[1])
        lines = [one for one in text.splitlines() if one.startswith((f"{name}{{", f"{name} "))]
        assert lines, name
        return sum(float(one.rsplit(" ", 1)[1]) for one in lines)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with Proxy() as proxy, house(through=proxy, stop_budget_s=4.0) as (venue, daemon):
        daemon.start()
        wait_for("the daemon to wait", lambda: daemon.events("connect_failed"), START_S)
        script = daemon.directory / "script.toml"
        script.write_text(SCRIPT)
        venue.start(scenario=str(script))
        scripted = Scripted(venue, daemon, proxy)
        daemon.wait_quoting(QUOTED_MIN)
        yield scripted


def test_lost_book_messages_are_found_and_only_those_books_are_asked_again(
    scripted: Scripted,
) -> None:
    scripted.wait_until(GAPS_OVER_S)
    # A gap shows at the next message of that book: at once for the perpetual, seldom for an option.
    wait_for("a gap", lambda: scripted.metric("mm_book_gaps_total") >= 1, 10.0)
    assert scripted.metric("mm_book_gaps_total") <= 2, "one by one, not the whole chain"
    scripted.daemon.wait_quoting(QUOTED_MIN, 20.0)
    scripted.wait_accounted_for()
    assert not scripted.daemon.events("crash")


def test_late_answers_leave_no_order_unaccounted_for(scripted: Scripted) -> None:
    scripted.wait_until(ACKS_OVER_S)
    scripted.wait_accounted_for()
    assert scripted.daemon.status()["unknown_orders"] == 0


def test_outage_empties_the_book_of_quotes_and_they_come_back_by_themselves(
    scripted: Scripted,
) -> None:
    daemon = scripted.daemon
    scripted.wait_until(OUTAGE_S)
    wait_for(
        "the lost sessions",
        lambda: daemon.status()["sessions"]["trade"] != "ready",
        10.0,
    )
    assert daemon.status()["reasons_not_quoting"]
    scripted.wait_until(OUTAGE_OVER_S)
    daemon.wait_quoting(QUOTED_MIN, 30.0 * busy_factor())
    scripted.wait_accounted_for()
    assert daemon.status()["latched_by"] == {}


def test_reset_connections_are_swept_by_the_venue_and_made_again(scripted: Scripted) -> None:
    venue, daemon = scripted.venue, scripted.daemon
    scripted.proxy.refuse(True)
    scripted.proxy.cut()
    wait_for("cancel on disconnect", lambda: not venue.open_orders(), 5.0)
    wait_for("quoting stopped", lambda: daemon.status()["reasons_not_quoting"], 5.0)
    scripted.proxy.refuse(False)
    daemon.wait_quoting(QUOTED_MIN, 30.0 * busy_factor())
    scripted.wait_accounted_for()


def test_kill_holds_while_the_venue_cannot_be_reached(scripted: Scripted) -> None:
    """The bytes stop both ways and the connections stay up, as when a network dies."""
    venue, daemon = scripted.venue, scripted.daemon
    scripted.proxy.freeze()
    answer = daemon.cli("kill", "--no-wait", "--reason", "drill")
    returned_us = time.time_ns() // 1000
    assert answer.returncode == 0, answer.stderr
    assert daemon.status()["swept_generation"] < daemon.status()["generation"], "not confirmed"
    scripted.proxy.thaw()
    swept = daemon.wait_swept(40.0)
    assert venue.open_orders() == []
    assert risk_after(venue, returned_us) == []
    daemon.reset(swept["generation"])
    daemon.wait_quoting(QUOTED_MIN, 40.0 * busy_factor())
    scripted.wait_accounted_for()


def test_hanging_venue_is_noticed_and_met_again(scripted: Scripted) -> None:
    """Its connections stay up and say nothing: only age tells."""
    venue, daemon = scripted.venue, scripted.daemon
    assert venue.process is not None
    venue.process.popen.send_signal(signal.SIGSTOP)
    try:
        wait_for("quoting to be held", lambda: daemon.status()["reasons_not_quoting"], 15.0)
    finally:
        venue.process.popen.send_signal(signal.SIGCONT)
    daemon.wait_quoting(QUOTED_MIN, 40.0 * busy_factor())
    scripted.wait_accounted_for()
    assert daemon.status()["unknown_orders"] == 0


def test_stop_without_a_venue_is_said_by_exit_3(scripted: Scripted) -> None:
    venue, daemon = scripted.venue, scripted.daemon
    venue.stop()
    assert daemon.stop() == 3
