"""What the shell measures around the decision: latency, lag and counts, in the page's slots."""

from __future__ import annotations

import time
from bisect import bisect_left

from mm_daemon.domain.frames import Conn, FrameKind
from mm_daemon.domain.metrics import LATENCY_BOUNDS_S, PAGE_EVENTS
from mm_daemon.domain.outputs import Log, calls_a_person
from mm_daemon.ipc.page import Page
from mm_daemon.kernel.gate import Gate
from mm_daemon.kernel.pump import Pump
from mm_daemon.shell.ops_link import OpsLink

_BOUNDS_NS = [round(float(bound) * 1e9) for bound in LATENCY_BOUNDS_S[:-1]]


class Measures:
    """Plain counters on the hot path; written to the page a few times a second."""

    def __init__(self, page: Page) -> None:
        self._index = page.slot_index
        self._first_frame_ns = 0
        self._buckets = [0] * len(LATENCY_BOUNDS_S)
        self._sum_ns = 0
        self.frames = dict.fromkeys(Conn, 0)
        self.connects = dict.fromkeys(Conn, 0)
        self.pages = dict.fromkeys(PAGE_EVENTS, 0)
        self.loop_lag_s = 0.0
        self._turn_lags_s: list[float] = []

    def frame_received(self, conn: Conn) -> None:
        self.frames[conn] += 1
        if not self._first_frame_ns:
            self._first_frame_ns = time.perf_counter_ns()

    def flushed(self, quoted: bool) -> None:
        """One flush ended: if it sent quotes, the turn's first frame is what it answered."""
        if quoted and self._first_frame_ns:
            elapsed_ns = time.perf_counter_ns() - self._first_frame_ns
            self._buckets[bisect_left(_BOUNDS_NS, elapsed_ns)] += 1
            self._sum_ns += elapsed_ns
        self._first_frame_ns = 0

    def turned(self, lag_s: float) -> None:
        """A turn of the loop came this much later than it was due."""
        self._turn_lags_s.append(lag_s)

    def take_lag_p99_ns(self) -> int:
        """What 99 % of the turns since the last call were late by at most; at least 1 where any
        was measured, for 0 says that none was."""
        lags, self._turn_lags_s = sorted(self._turn_lags_s), []
        if not lags:
            return 0
        return max(1, round(lags[-1 - len(lags) // 100] * 1e9))

    def said(self, line: Log) -> None:
        """The decision wrote a line: counted here if it calls a person, whoever reads the log."""
        if calls_a_person(line.level, line.fields):
            self.pages[line.event if line.event in self.pages else PAGE_EVENTS[-1]] += 1

    def publish(self, slots: memoryview[float], gate: Gate, ops: OpsLink, pump: Pump) -> None:
        index = self._index
        for bound, count in zip(LATENCY_BOUNDS_S, self._buckets, strict=True):
            slots[index[f'mm_tick_to_quote_seconds_bucket{{le="{bound}"}}']] = count
        slots[index["mm_tick_to_quote_seconds_sum"]] = self._sum_ns / 1e9
        slots[index["mm_tick_to_quote_seconds_count"]] = sum(self._buckets)
        for conn in Conn:
            label = conn.name.lower()
            slots[index[f'mm_frames_total{{conn="{label}"}}']] = self.frames[conn]
            slots[index[f'mm_ws_connects_total{{conn="{label}"}}']] = self.connects[conn]
        for kind in FrameKind:
            label = kind.name.lower()
            slots[index[f'mm_frames_sent_total{{kind="{label}"}}']] = gate.sent_by_kind[kind]
        for event, count in self.pages.items():
            slots[index[f'mm_pages_total{{event="{event}"}}']] = count
        slots[index["mm_late_send_total"]] = gate.late_sends
        slots[index["mm_frames_withheld_total"]] = gate.withheld
        slots[index["mm_log_lines_dropped_total"]] = ops.lines_dropped
        slots[index["mm_steps_total"]] = pump.steps
        slots[index["mm_loop_lag_seconds"]] = self.loop_lag_s
