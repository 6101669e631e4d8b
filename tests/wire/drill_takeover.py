"""The active of two daemons dies with all its processes, or loses the store; the other takes over.

Times of the lease are those the product ships. The judge is the venue's record: what the former one
sends after the other may quote is a violation, and so is a successor that quotes while the former
one still could.
"""

from __future__ import annotations

import os
import random
import signal
import time

from mm_daemon.config import example_text, parse
from mm_daemon.ipc.page import FENCE_EPOCH
from tests.wire import account
from tests.wire.drill_report import Goal, Report
from tests.wire.harness import Daemon, busy_factor, decided_us, descendants, risk_after, wait_for
from tests.wire.pair import (
    US_PER_S,
    Pair,
    late_frames,
    now_us,
    permit_end_us,
    quoting_connections,
    two_daemons,
    wait_one_quotes,
    wait_standing_by,
)

QUOTED_MIN = 100
BACK_S = 90.0
WAYS = ("dead", "cut off")


def run(count: int, seed: int) -> Report:
    redis = parse(example_text(), "the example").redis
    limit_s = redis.lease_ttl_s + 5.0
    goals = {f"{way} to first quote of the other": Goal(100, limit_s) for way in WAYS}
    report = Report("takeover", seed, goals)
    rng = random.Random(seed)
    with two_daemons(crash_count_max=1_000_000) as pair:
        for number in range(count):
            report.iterations += 1
            wait_one_quotes(pair)
            wait_standing_by(pair.standby)
            time.sleep(rng.uniform(0.0, 2.0))
            _take_over_once(pair, report, WAYS[number % len(WAYS)], limit_s)
    return report


def _take_over_once(pair: Pair, report: Report, way: str, limit_s: float) -> None:
    former, other = pair.active, pair.standby
    older, tenure = quoting_connections(pair), former.word(FENCE_EPOCH)
    began_s, began_us = time.monotonic(), now_us()
    if way == "dead":
        kill_tree(former)
    else:
        pair.pipe(former).popen.send_signal(signal.SIGSTOP)
    ended_us = permit_end_us(former)
    other.wait_quoting(1, BACK_S)
    newer = [one for one in risk_after(pair.venue, began_us) if one["connection"] not in older]
    first_us = min(decided_us(one) for one in newer)
    report.add(f"{way} to first quote of the other", (first_us - began_us) / US_PER_S)
    other.wait_quoting(QUOTED_MIN, BACK_S)
    report.add(f"{way} to {QUOTED_MIN} options quoted", time.monotonic() - began_s)
    if first_us <= ended_us:
        report.violate(f"{way}: the other quoted while the former one's permit held")
    if late := late_frames(pair.venue, older, ended_us):
        report.violate(f"{way}: {len(late)} frames of the former one after its permit")
    if other.word(FENCE_EPOCH) <= tenure:
        report.violate(f"{way}: the epoch did not rise")
    if (first_us - began_us) / US_PER_S > limit_s * busy_factor():
        report.violate(f"{way}: took over after {(first_us - began_us) / US_PER_S:.1f} s")
    if way == "dead":
        former.start()
    else:
        pair.pipe(former).popen.send_signal(signal.SIGCONT)
    pair.swap()
    venue = pair.venue
    wait_for("equal orders", account.Compared(venue, other).is_accounted_for, BACK_S)


def kill_tree(daemon: Daemon) -> None:
    """All of its processes at once, the guard first."""
    assert daemon.process is not None
    for pid in (daemon.process.pid, *descendants(daemon.process.pid)):
        os.kill(pid, signal.SIGKILL)
