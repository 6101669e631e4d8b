"""SIGKILL of the real trader at random moments, under trades, many times against one venue.

Before most crashes a taker trades into our quotes, so that fills are on their way when the process
dies. What it left behind is swept by the guard, its successor recovers by itself, and then venue
and daemon must agree on every trade since the first start.
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

from mm_daemon.ipc.page import (
    RECONCILED_INCARNATION,
    TRADER_INCARNATION,
    TRADER_PID,
    TRADER_TENURE,
)
from tests.wire.drill_report import Goal, Report
from tests.wire.harness import Daemon, DoorClosedError, Venue, house, is_risk, wait_for
from tests.wire.judge import Books, Witness, is_two_sided

QUOTED_MIN = 100
FIRST_QUOTE = "kill to first two-sided quote sent"
RECOVERY = f"kill to {QUOTED_MIN} options quoted"
BY = {True: f"{RECOVERY}, by a spare", False: f"{RECOVERY}, from nothing"}
WAIT_S_MAX = 8.0
"""Between quoting again and the next crash, at most: some hit what follows a start, before there is
a new spare."""
TAKES_MAX = 6
BACK_S = 60.0
POLL_S = 0.003
SESSIONS_KEPT = 3
"""Whose tapes are left on the disk; the ledgers of all stay."""


def run(count: int, seed: int) -> Report:
    report = Report("sigkill", seed, {RECOVERY: Goal(99, 5.0)})
    with house(crash_count_max=1_000_000, spare_delay_s=1.0) as (venue, daemon):
        venue.start(scenario="busy")
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        drill = _Drill(venue, daemon, report, random.Random(seed))
        for _ in range(count):
            report.iterations += 1
            drill.crash_once()
        drill.finish()
    return report


class _Drill:
    def __init__(self, venue: Venue, daemon: Daemon, report: Report, rng: random.Random) -> None:
        self._venue = venue
        self._daemon = daemon
        self._report = report
        self._rng = rng
        self._books = Books(venue, daemon)
        self._witness = Witness(venue)
        self._page = daemon.page()

    def crash_once(self) -> None:
        rng, words = self._rng, self._page.words
        _pause(rng.uniform(0.0, WAIT_S_MAX))
        self._witness.read()
        older = set(self._witness.connections)
        former = words[TRADER_PID]
        for _ in range(rng.randint(0, TAKES_MAX)):
            self._take()
        _pause(rng.uniform(0.0, 0.005))
        killed_s, killed_mono_s = time.time(), time.monotonic()
        os.kill(former, signal.SIGKILL)
        self._watch_return(words, former, killed_mono_s)
        first = self._wait_first_quote(older, killed_s)
        self._report.add(FIRST_QUOTE, first["ts_us"] / 1e6 - killed_s)
        self._daemon.wait_quoting(QUOTED_MIN, BACK_S)
        took_s = time.monotonic() - killed_mono_s
        self._report.add(RECOVERY, took_s)
        spares = {one["pid"] for one in self._daemon.events("spare_started")}
        self._report.add(BY[words[TRADER_PID] in spares], took_s)
        self._judge()
        self._drop_tapes()

    def finish(self) -> None:
        self._report.count("trades at the venue", len(self._books.trades()))
        self._page.close()
        if self._daemon.stop() != 0:
            self._report.violate("the stop was not confirmed")
        self._report.violate(*self._books.differences())
        if self._venue.open_orders():
            self._report.violate("orders are left after the stop")

    def _take(self) -> None:
        """A taker hits one of our quotes, as far as it still rests; else nothing happens."""
        view = self._daemon.get("/v1/quotes")
        rows = [
            (name, side, price)
            for name, delta, bid, ask, touch_bid, touch_ask in zip(
                *(
                    view[key]
                    for key in ("instrument", "delta", "bid", "ask", "bid_market", "ask_market")
                ),
                strict=True,
            )
            for side, price, touch in (("sell", bid, touch_bid), ("buy", ask, touch_ask))
            if price and price == touch and delta is not None and 0.15 < abs(delta) < 0.85
        ]
        if not rows:
            return
        name, side, price = self._rng.choice(rows)
        try:
            self._venue.rest(
                f"private/{side}",
                key="demo-taker",
                instrument_name=name,
                amount=0.1,
                type="limit",
                price=price,
                time_in_force="immediate_or_cancel",
            )
        except DoorClosedError:
            return  # its rate limit, or a price that has moved out of its band
        self._report.count("takes beside crashes")

    def _watch_return(self, words: Any, former: int, killed_s: float) -> None:
        """Notes when each part of the return was over, by the shared page."""
        parts = {
            "kill to next trader": lambda: words[TRADER_PID] not in (0, former),
            "kill to trader warm": lambda: words[TRADER_TENURE] != 0,
            "kill to reconciled": lambda: (
                words[RECONCILED_INCARNATION] == words[TRADER_INCARNATION] != 0
            ),
        }
        for name, is_over in parts.items():
            wait_for(name, is_over, BACK_S, POLL_S)
            self._report.add(name, time.monotonic() - killed_s)

    def _wait_first_quote(self, older: set[int], killed_s: float) -> dict[str, Any]:
        """By the venue's record; the guard's sweep must have come before anything that adds risk"""
        seen: list[dict[str, Any]] = []

        def look() -> dict[str, Any] | None:
            seen.extend(self._witness.read())
            return next(
                (one for one in seen if one["connection"] not in older and is_two_sided(one)), None
            )

        first = wait_for("the first quote", look, BACK_S)
        assert first is not None
        after = [one for one in seen if one["ts_us"] / 1e6 > killed_s]
        swept_us = [one["ts_us"] for one in after if one["method"] == "private/cancel_all"]
        for one in after:
            if is_risk(one) and one["connection"] not in older:
                if not swept_us or one["ts_us"] < swept_us[0]:
                    self._report.violate("the successor traded before the venue was swept")
                break
        return first

    def _judge(self) -> None:
        self._report.violate(*self._books.disagreement())
        self._report.violate(*self._witness.violations)
        self._witness.violations.clear()
        latched = self._daemon.status()["latched_by"]
        if latched:
            self._report.violate(f"latched after a recovery by {latched}")

    def _drop_tapes(self) -> None:
        for session in self._daemon.sessions()[:-SESSIONS_KEPT]:
            for tape in session.glob("tape-*.seg"):
                tape.unlink()


def _pause(seconds: float) -> None:
    """The randomness of the moment is the point of the drill, so time must pass."""
    time.sleep(seconds)
