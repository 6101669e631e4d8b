"""How fast a recorded session is decided again, and whether every byte comes out the same."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mm_daemon.app import make_node
from mm_daemon.domain.codec import FRAME_IN
from mm_daemon.ipc.segments import Record
from mm_daemon.ipc.tape import read_tape
from mm_daemon.node.replay import replay
from tests.bench.figures import Figure
from tests.bench.peer import Result

SECTION = "Replay of the session recorded above"
SPEEDS = ((330, 20.0), (1_250, 8.0))
"""Least session time over replay time, by the frames a second that came in: a tick, the reply to
its quote and the notice of its orders are three."""


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
    for phase, seen in watch.seen.items():
        if not phase.startswith("paced") or seen.spent_s <= 0.0:
            continue
        frames_a_second = seen.frames / seen.session_s
        goals = [goal for most, goal in SPEEDS if frames_a_second <= most]
        figures.append(
            Figure(
                section=SECTION,
                name=f"speed at {frames_a_second:,.0f} frames/s ({phase} ticks/s)",
                value=seen.session_s / seen.spent_s,
                unit="x",
                goal=goals[0] if goals else math.nan,
                at_least=True,
                note=f"{seen.session_s:.1f} s of session in {seen.spent_s:.2f} s, comparison"
                " included",
            )
        )
    return figures


@dataclass
class _Seen:
    """One phase, while it is read and after."""

    entered_s: float
    first_ns: int
    frames: int = 0
    session_s: float = 0.0
    spent_s: float = 0.0


class _Watch:
    """The tape's records, noting when the reader of them is in which phase."""

    def __init__(self, session: Path, phases: dict[str, tuple[int, int]]) -> None:
        self._session = session
        self._phases = phases
        self.seen: dict[str, _Seen] = {}

    def __iter__(self) -> Iterator[Record]:
        for record in read_tape(self._session):
            phase = self._phase_at(record.ts_ns)
            if phase:
                seen = self.seen.get(phase)
                if seen is None:
                    seen = self.seen[phase] = _Seen(time.perf_counter(), record.ts_ns)
                seen.frames += record.type == FRAME_IN
                seen.session_s = (record.ts_ns - seen.first_ns) / 1e9
                seen.spent_s = time.perf_counter() - seen.entered_s
            yield record

    def _phase_at(self, ts_ns: int) -> str:
        for name, (start_ns, end_ns) in self._phases.items():
            if start_ns <= ts_ns <= end_ns:
                return name
        return ""
