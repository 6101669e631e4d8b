"""Kills of a desk at full speed, by HTTP and by the command line's socket in turn.

The venue grants more than any real one, so that what bounds the daemon's messages is the daemon. A
send is late where it was decided after the answer: by the daemon's own tape, and by the venue's
record of what arrived.
"""

from __future__ import annotations

import random
import time

from mm_daemon.domain.codec import FRAME_IN, FRAME_OUT, decode_output
from mm_daemon.domain.frames import FrameKind, OutFrame
from mm_daemon.ipc.journal import JournalReader
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import TraderState
from mm_daemon.ipc.tape import read_tape
from mm_daemon.run.operator import Endpoint, OperatorError
from tests.wire.drill_report import Goal, Report
from tests.wire.harness import (
    CLOCK_TOLERANCE_US,
    Daemon,
    DoorClosedError,
    Venue,
    decided_us,
    house,
    http_json,
    is_risk,
    wait_for,
)

FIRST_CANCEL = "request to first cancel at the venue"
FIRST_CANCEL_SENT = "request to first cancel written"
RESPONSE = "request to answer"
ORDERS_MIN = 1_000
BUSY_S_MAX = 1.0
RATE_S = 0.5
SETTLE_S = 30.0
PEOPLE = ("risk", "admin", "")
"""Who lifts in turn, because one person may not do it that often; empty: whoever runs this."""
CANCELS = frozenset(f"private/{one}" for one in ("cancel_all", "cancel_quotes"))


def run(count: int, seed: int) -> Report:
    goals = {FIRST_CANCEL: Goal(99, 0.005), FIRST_CANCEL_SENT: Goal(99, 0.005)}
    report = Report("kill", seed, {**goals, RESPONSE: Goal(99, 0.050)})
    with house(requote_gain_min_usd=0.0, crash_count_max=1_000_000) as (venue, daemon):
        venue.start(tier="load")
        daemon.start()
        daemon.wait_quoting(ORDERS_MIN // 2)
        drill = _Drill(venue, daemon, report, random.Random(seed))
        for _ in range(count):
            report.iterations += 1
            drill.kill_once()
        drill.finish()
    return report


class _Drill:
    def __init__(self, venue: Venue, daemon: Daemon, report: Report, rng: random.Random) -> None:
        self._venue = venue
        self._daemon = daemon
        self._report = report
        self._rng = rng
        self._endpoint = Endpoint(Layout(daemon.runtime_dir, daemon.data_dir / "state"))
        self._tape: JournalReader = read_tape(daemon.sessions()[-1], is_live=True)
        self._arriving: list[float] = []
        self._rates: list[float] = []
        self._sides: list[float] = []
        self._orders: list[float] = []

    def kill_once(self) -> None:
        status = self._daemon.wait_quoting(ORDERS_MIN // 2, SETTLE_S)
        time.sleep(self._rng.uniform(0.0, BUSY_S_MAX))
        self._orders.append(float(status["quotes_live"]))
        for _ in self._tape:
            pass  # what was written before is of no interest
        time.sleep(RATE_S)
        self._arriving.append(sum(raw.type == FRAME_IN for raw in self._tape) / RATE_S)
        asked_us, answered_us, generation = self._kill()
        self._report.add(RESPONSE, (answered_us - asked_us) / 1e6)
        self._wait_confirmed(generation)
        self._judge_record(asked_us, answered_us)
        self._judge_tape(asked_us, answered_us)
        self._reset(generation)

    def finish(self) -> None:
        report = self._report
        report.count("messages a second that arrive before kills", _mean(self._arriving))
        report.count("messages a second sent before kills", _mean(self._rates))
        report.count("quotes a second in them", _mean(self._sides))
        report.count("orders working at kills", _mean(self._orders))
        late = [line for line in _metrics(self._daemon) if line.startswith("mm_late_send_total ")]
        if not late or float(late[0].split()[1]) != 0.0:
            report.violate(f"the gate's own count of late sends is {late}")
        self._tape.close()
        if self._daemon.stop() != 0:
            report.violate("the stop was not confirmed")

    def _kill(self) -> tuple[int, int, int]:
        body = {"reason": f"drill {self._report.iterations}"}
        by_http = self._report.iterations % 2 == 1
        asked_us = _now_us()
        if by_http:
            code, answer = self._daemon.post("/v1/kill", body, role="halt")
            answered_us = _now_us()
            if code != 200:
                self._report.violate(f"the kill was answered {code} {answer}")
        else:
            answer = self._endpoint.request("POST", "/v1/kill", body)
            answered_us = _now_us()
        if answer["state"] != "settling":
            self._report.violate(f"the kill was answered in state {answer['state']}")
        return asked_us, answered_us, int(answer["generation"])

    def _wait_confirmed(self, generation: int) -> None:
        started_s = time.monotonic()
        confirmed = TraderState.KILLED_CONFIRMED.name.lower()

        def is_confirmed() -> bool:
            status = self._daemon.status()
            is_settled = bool(status["trader"] == confirmed)
            return is_settled and status["swept_generation"] >= generation

        wait_for("the venue's word on an empty book", is_confirmed, SETTLE_S)
        self._report.add("answer to confirmed", time.monotonic() - started_s)
        left = len(self._venue.open_orders())
        if left:
            self._report.violate(f"{left} orders are at the venue though it is confirmed empty")

    def _judge_record(self, asked_us: int, answered_us: int) -> None:
        frames = self._venue.received(asked_us - int(RATE_S * 1e6))
        before = [one for one in frames if one["ts_us"] < asked_us and is_risk(one)]
        self._rates.append(len(before) / RATE_S)
        self._sides.append(sum(one["frame"].count('"price"') for one in before) / RATE_S)
        cancels = [one for one in frames if one["ts_us"] >= asked_us and one["method"] in CANCELS]
        if not cancels:
            self._report.violate("no cancel is in the venue's record")
        else:
            self._report.add(FIRST_CANCEL, (cancels[0]["ts_us"] - asked_us) / 1e6)
        for one in frames:
            if not is_risk(one) or one["ts_us"] <= answered_us + CLOCK_TOLERANCE_US:
                continue
            if decided_us(one) > answered_us + CLOCK_TOLERANCE_US:
                late_ms = (one["ts_us"] - answered_us) / 1e3
                self._report.violate(f"{one['method']} arrived {late_ms:.1f} ms after the answer")
            else:
                self._report.count("read late by the venue, sent in time")

    def _judge_tape(self, asked_us: int, answered_us: int) -> None:
        """The daemon's own tape since before the kill."""
        is_first = True
        for raw in self._tape:
            if raw.type != FRAME_OUT or raw.ts_ns < asked_us * 1000:
                continue
            frame = decode_output(raw.type, raw.flags, raw.payload)
            assert isinstance(frame, OutFrame)
            if frame.kind is FrameKind.RISK and raw.ts_ns > answered_us * 1000:
                late_ms = (raw.ts_ns / 1e3 - answered_us) / 1e3
                self._report.violate(f"the tape has a frame of risk {late_ms:.1f} ms late")
            if is_first and b'"private/cancel' in frame.payload:
                is_first = False
                self._report.add(FIRST_CANCEL_SENT, (raw.ts_ns / 1e3 - asked_us) / 1e6)

    def _reset(self, generation: int) -> None:
        body = {"generation": generation, "reason": "the drill is over"}
        person = PEOPLE[self._report.iterations % len(PEOPLE)]

        def is_lifted() -> bool:
            if person:
                code, answer = self._daemon.post("/v1/reset", body, role=person)
                if code != 200:
                    raise DoorClosedError(f"{code} {answer}")
                return True
            try:
                self._endpoint.request("POST", "/v1/reset", body)
            except OperatorError as error:
                raise DoorClosedError(str(error)) from error
            return True

        wait_for("the reset", is_lifted, SETTLE_S, poll_s=1.0)


def _metrics(daemon: Daemon) -> list[str]:
    code, text = http_json(daemon.metrics_port, "GET", "/metrics")
    assert code == 200, text
    return str(text).splitlines()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _now_us() -> int:
    return time.time_ns() // 1000
