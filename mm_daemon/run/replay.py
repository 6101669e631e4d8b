"""Reads a session from disk, re-decides it and says whether every byte came out the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mm_daemon.ipc.session import header_mismatches, machine_facts, read_header
from mm_daemon.ipc.tape import read_tape
from mm_daemon.node.node import Node
from mm_daemon.node.replay import Difference, replay


class ReplayReport(msgspec.Struct, frozen=True):
    """What `mm-daemon replay` prints."""

    session: str
    inputs: int
    outputs: int
    digests: int
    session_s: float
    replay_s: float
    speed: float
    """Session time over replay time."""
    final_digest: str
    torn_tail: str
    machine_mismatches: tuple[str, ...]
    verified: bool
    difference: Difference | None

    @property
    def is_equal(self) -> bool:
        return self.difference is None


def replay_session(
    session: Path,
    node: Node,
    *,
    verify: bool,
    lock_path: Path | None,
    on_progress: Callable[[int], None] | None = None,
) -> ReplayReport:
    """Raises ValueError for a directory that is not a session; JournalError for a corrupt tape."""
    header = read_header(session)
    reader = read_tape(session)
    started_s = time.perf_counter()
    result = replay(node, reader, verify=verify, on_progress=on_progress)
    replay_s = time.perf_counter() - started_s
    session_s = result.span_ns / 1e9
    return ReplayReport(
        session=str(session),
        inputs=result.inputs,
        outputs=result.outputs,
        digests=result.digests,
        session_s=session_s,
        replay_s=replay_s,
        speed=session_s / replay_s if replay_s > 0 else 0.0,
        final_digest=result.final_digest,
        torn_tail=str(reader.tail) if reader.tail is not None else "",
        machine_mismatches=tuple(header_mismatches(header["machine"], machine_facts(lock_path))),
        verified=verify,
        difference=result.difference,
    )
