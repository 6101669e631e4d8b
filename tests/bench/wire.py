"""Tick to quote over a real socket, everything on: the whole daemon against the bench's venue.

Stamps are the peer's. The tape of the daemon says which quote answered which tick, and which
decisions also refreshed a model; those are reported apart.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mm_daemon.domain.codec import (
    FLUSH_IN,
    FRAME_IN,
    FRAME_OUT,
    STRUCTURED_IN,
    STRUCTURED_OUT,
    decode_input,
)
from mm_daemon.domain.inputs import Start
from mm_daemon.ipc.tape import read_tape
from tests.bench.chain import PERPETUAL
from tests.bench.daemon import ROOT, Daemon, only_session, write_config
from tests.bench.figures import Figure
from tests.bench.peer import Plan, Result
from tests.bench.timing import percentile

GOALS = {
    (60, "closed"): (5.0, 9.0),
    (60, "paced 1000"): (8.0, 16.0),
    (1_000, "closed"): (10.0, float("nan")),
}
"""Multiples of the bare echo, p50 and p99, by options of the chain and phase."""

_TICK = b'"channel":"book.' + PERPETUAL.encode()
_CHANGE_ID = re.compile(rb'"change_id":(\d+)')
_QUOTE_ID = re.compile(rb'"id":(\d+),"method":"private/mass_quote"')
_ASKS_MODEL = b"ask_inference"


@dataclass
class Answer:
    """The first quote message of one flush, by its number on the wire."""

    wire_id: int
    flush_ns: int
    refreshes_model: bool = False


@dataclass
class Taped:
    """What the tape says: which ticks each flush looked at, and what it sent first."""

    wall_offset_ns: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    """By change id of the tick."""
    received_ns: dict[int, int] = field(default_factory=dict)


@contextmanager
def recorded(plan: Plan) -> Iterator[tuple[Result, Path]]:
    """Runs daemon and peer; yields the stamps and the finished session."""
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        place = Path(name)
        yield _run(plan, place), only_session(place / "var")


def measure(result: Result, session: Path) -> list[Figure]:
    """The figures of one run, as multiples of the bare echo."""
    taped = read_answers(session)
    received = {quoted.wire_id: quoted for quoted in result.quoted}
    echo_ns = statistics.median(result.echo_paired_ns)
    hot_ratio = echo_ns / statistics.median(result.echo_hot_ns)
    section = (
        f"Tick to quote, {result.options:,} options (multiples of the bare echo between ticks)"
    )
    figures = [_echo_figure(section, result, echo_ns)]
    size = 60 if result.options < 500 else 1_000
    for phase in result.phases:
        if phase == "tuning":
            continue
        ticks = [sent for sent in result.sent if sent.phase == phase]
        plain: list[float] = []
        with_model: list[float] = []
        entries: list[int] = []
        for sent in ticks:
            answer = taped.answers.get(sent.change_id)
            quoted = received.get(answer.wire_id) if answer is not None else None
            if answer is None or quoted is None:
                continue
            times = with_model if answer.refreshes_model else plain
            times.append((quoted.mono_ns - sent.mono_ns) / echo_ns)
            entries.append(quoted.entries)
        goals = GOALS.get((size, phase), (float("nan"), float("nan")))
        quotes = statistics.median(entries) if entries else 0
        moved = f"; {len(plain)} of {len(ticks)} ticks moved quotes, {quotes:.0f} each"
        for label, share, goal in (("p50", 0.5, goals[0]), ("p99", 0.99, goals[1])):
            times_echo = percentile(plain, share)
            note = (
                f"{times_echo * echo_ns / 1e3:.0f} us, {times_echo * hot_ratio:.1f} x the hot echo"
            )
            figures.append(
                Figure(
                    section=section,
                    name=f"{phase}, {label}",
                    value=times_echo,
                    unit="x",
                    goal=goal,
                    note=note + (moved if label == "p50" else ""),
                )
            )
        if with_model:
            figures.append(
                Figure(
                    section=section,
                    name=f"{phase}, ticks that refresh a model, p50",
                    value=percentile(with_model, 0.5),
                    unit="x",
                    note=f"{len(with_model)} ticks",
                )
            )
    return [*figures, *_stages(section, result, taped)]


def read_answers(session: Path) -> Taped:
    """Joins ticks and quotes through the flush that saw the one and sent the other."""
    taped = Taped()
    waiting: list[int] = []
    seen: list[int] = []
    answer: Answer | None = None
    flush_ns = 0
    for record in read_tape(session):
        if record.type == FRAME_IN:
            if _TICK in record.payload[:120]:
                found = _CHANGE_ID.search(record.payload)
                assert found is not None, record.payload[:200]
                waiting.append(int(found[1]))
                taped.received_ns[waiting[-1]] = record.ts_ns
        elif record.type == FLUSH_IN:
            seen, waiting, answer, flush_ns = waiting, [], None, record.ts_ns
        elif record.type == FRAME_OUT and seen and answer is None:
            head = _QUOTE_ID.search(record.payload[:160])
            if head is not None:
                answer = Answer(int(head[1]), flush_ns)
                for change_id in seen:
                    taped.answers[change_id] = answer
        elif record.type == STRUCTURED_OUT and _ASKS_MODEL in record.payload[:40]:
            if answer is not None:
                answer.refreshes_model = True
        elif record.type == STRUCTURED_IN and not taped.wall_offset_ns:
            start = decode_input(record.type, record.flags, record.payload)
            if isinstance(start, Start):
                taped.wall_offset_ns = start.wall_offset_ns
    return taped


def _stages(section: str, result: Result, taped: Taped) -> list[Figure]:
    """Where the time of the closed loop goes, by the daemon's own stamps."""
    received = {quoted.wire_id: quoted.mono_ns for quoted in result.quoted}
    parts: dict[str, list[float]] = {
        "send to stamp of the frame": [],
        "stamp of the frame to stamp of the flush": [],
        "stamp of the flush to the quote's first byte": [],
    }
    for sent in result.sent:
        answer = taped.answers.get(sent.change_id)
        if sent.phase != "closed" or answer is None or answer.wire_id not in received:
            continue
        frame_ns = taped.received_ns[sent.change_id] - taped.wall_offset_ns
        flush_ns = answer.flush_ns - taped.wall_offset_ns
        stamps = (sent.mono_ns, frame_ns, flush_ns, received[answer.wire_id])
        for name, first, last in zip(parts, stamps, stamps[1:], strict=False):
            parts[name].append((last - first) / 1e3)
    return [
        Figure(
            section=section, name=f"closed, of it {name}", value=percentile(times, 0.5), unit="us"
        )
        for name, times in parts.items()
    ]


def _echo_figure(section: str, result: Result, echo_ns: float) -> Figure:
    """Between ticks both ends have slept as the daemon has; back to back neither ever sleeps."""
    hot_us = statistics.median(result.echo_hot_ns) / 1e3
    return Figure(
        section=section,
        name="the bare loopback echo, one after each tick",
        value=echo_ns / 1e3,
        unit="us",
        note=f"p99 {percentile(result.echo_paired_ns, 0.99) / 1e3:.0f} us; hot, back to back:"
        f" {hot_us:.1f} us",
    )


def _run(plan: Plan, place: Path) -> Result:
    result_path = place / "result.json"
    module = [sys.executable, "-m"]
    peer = subprocess.Popen(
        [*module, "tests.bench.peer", msgspec.json.encode(plan).decode(), str(result_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert peer.stdout is not None
    assert peer.stdin is not None
    ports = msgspec.json.decode(peer.stdout.readline(), type=dict[str, int])
    echo = subprocess.Popen([*module, "tests.bench.echo", str(ports["echo"])], cwd=ROOT)
    daemon = Daemon(place, write_config(place, ports["venue"]))
    try:
        line = peer.stdout.readline()
        if line != b"measured\n":
            log = daemon.log_path.read_text()[-3000:]
            raise RuntimeError(f"the bench's venue ended early; the daemon said:\n{log}")
    finally:
        daemon.stop()
        peer.stdin.close()
        for process in (peer, echo):
            process.terminate()
            process.wait()
    return msgspec.json.decode(result_path.read_bytes(), type=Result)
