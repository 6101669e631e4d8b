"""How fast a recorded session is decided again, and whether every byte comes out the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from mm_daemon.app import make_node
from mm_daemon.ipc.segments import Record
from mm_daemon.ipc.tape import read_tape
from mm_daemon.node.replay import replay
from tests.bench.figures import Figure
from tests.bench.peer import Result

SECTION = "Replay of the session recorded above"
GOALS = {"paced 1000": 8.0, "paced 300": 20.0}
"""Session time over replay time, by phase."""


def measure(result: Result, session: Path) -> list[Figure]:
    """Replays the whole session and times each paced phase of it."""
    watch = _Watch(session, result.phases)
    verdict = replay(make_node(), iter(watch), verify=True)
    figures = [
        Figure(
            section=SECTION,
            name="differing bytes (0 = none; 1 = the first was found)",
            value=0.0 if verdict.difference is None else 1.0,
            unit="",
            goal=0.0,
            note=f"{verdict.inputs:,} inputs, {verdict.outputs:,} outputs, all compared"
            if verdict.difference is None
            else f"at record {verdict.difference.record_index}",
        )
    ]
    for phase, goal in GOALS.items():
        span_s, spent_s = watch.times.get(phase, (0.0, 0.0))
        if spent_s <= 0.0:
            continue
        figures.append(
            Figure(
                section=SECTION,
                name=f"{phase} frames/s, each a tick: speed against real time",
                value=span_s / spent_s,
                unit="x",
                goal=goal,
                at_least=True,
                note=f"{span_s:.1f} s of session in {spent_s:.2f} s, comparison included",
            )
        )
    return figures


class _Watch:
    """The tape's records, noting when the reader of them enters and leaves each phase."""

    def __init__(self, session: Path, phases: dict[str, tuple[int, int]]) -> None:
        self._session = session
        self._phases = phases
        self.times: dict[str, tuple[float, float]] = {}
        """Phase to (session seconds, replay seconds)."""

    def __iter__(self) -> Iterator[Record]:
        inside, entered_s, first_ns, last_ns = "", 0.0, 0, 0
        for record in read_tape(self._session):
            phase = self._phase_at(record.ts_ns)
            if phase != inside:
                now_s = time.perf_counter()
                if inside:
                    self.times[inside] = ((last_ns - first_ns) / 1e9, now_s - entered_s)
                inside, entered_s, first_ns = phase, now_s, record.ts_ns
            last_ns = record.ts_ns
            yield record

    def _phase_at(self, ts_ns: int) -> str:
        for name, (start_ns, end_ns) in self._phases.items():
            if start_ns <= ts_ns <= end_ns:
                return name
        return ""
