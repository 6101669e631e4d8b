"""Journals of a simulated daemon, in memory or on disk, and the places where a life can end.

A journal in memory has the writer's interface and the file's cost of bytes, so that a cut at any
byte means the same: records that are whole before it survive. On disk the real writers are used.

`Failpoints` counts the places between "record appended" and "frame written" at which a process can
be killed; a death there is an exception nobody handles, as sudden as SIGKILL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from mm_daemon.ipc.ledger import STEM as LEDGER_STEM
from mm_daemon.ipc.ledger import Ledger, read_ledger
from mm_daemon.ipc.segments import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    W_USED_BYTES,
    JournalError,
    Record,
    Segment,
    segment_indices,
    segment_path,
)
from mm_daemon.ipc.session import create_session, machine_facts, write_header
from mm_daemon.ipc.tape import Tape, read_tape
from mm_daemon.kernel.pump import Journal

SEGMENT_BYTES: Final = 8 << 20


class SimulatedDeathError(BaseException):
    """The process is gone at this very place. Not an Exception: nothing may handle it."""


class Failpoints:
    """Counts every place a death can be planted at, and kills at the one asked for."""

    def __init__(self) -> None:
        self.count = 0
        self.die_at = 0
        """0 = never."""

    def passed(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            raise SimulatedDeathError(f"planted at place {self.count}")


class Disk:
    """The disk of the host: while it is full nothing is appended."""

    def __init__(self) -> None:
        self.is_full = False


Noted = Callable[[int, int, bytes], None]
"""Gets (record type, time stamp, payload) of every record that was kept."""


class WatchedJournal:
    """A journal with a failpoint before and behind every record."""

    def __init__(
        self,
        inner: Journal,
        failpoints: Failpoints,
        disk: Disk,
        *,
        noted: Noted,
        refused: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._failpoints = failpoints
        self._disk = disk
        self._noted = noted
        self._refused = refused

    def append(self, record_type: int, flags: int, ts_ns: int, payload: bytes, /) -> object:
        self._failpoints.passed()
        if self._disk.is_full:
            self._refused()
            raise JournalError("no space left for the next segment (planted)")
        position = self._inner.append(record_type, flags, ts_ns, payload)
        self._noted(record_type, ts_ns, payload)
        self._failpoints.passed()
        return position


class MemoryJournal:
    """Records in a list, at the offsets a segment of endless size would give them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.end = SEGMENT_HEADER_BYTES

    def append(self, record_type: int, flags: int, ts_ns: int, payload: bytes, /) -> int:
        offset = self.end
        self.records.append(Record(record_type, flags, ts_ns, bytes(payload), 0, offset))
        self.end = offset + (RECORD_HEADER_BYTES + len(payload) + 7 & -8)
        return offset

    def cut(self, offset: int) -> None:
        """Loses every record that is not whole before `offset`."""
        while self.records and self.end > offset:
            self.end = self.records.pop().offset


class Journals(Protocol):
    """Where the lives of one daemon keep their journals."""

    def open(self, start_ns: int) -> tuple[str, Journal, Journal]:
        """Begins a session: its name, tape and ledger."""
        ...

    def close(self) -> None:
        """The clean end of a session."""
        ...

    def ledger_end(self) -> int:
        """How many bytes the newest ledger has."""
        ...

    def crash(self, cut_at: int | None) -> None:
        """The unclean end; `cut_at` loses the ledger's bytes from there on."""
        ...

    def tapes(self) -> list[tuple[str, Iterable[Record]]]:
        """Every session's tape by name, oldest first."""
        ...

    def ledgers(self) -> list[Iterable[Record]]:
        """Every session's ledger, oldest first."""
        ...


class MemoryJournals:
    """All sessions in memory: fast, and private to a forked child."""

    def __init__(self) -> None:
        self.sessions: list[tuple[str, MemoryJournal, MemoryJournal]] = []

    def open(self, start_ns: int) -> tuple[str, Journal, Journal]:
        name = f"s{len(self.sessions) + 1:03d}"
        tape, ledger = MemoryJournal(), MemoryJournal()
        self.sessions.append((name, tape, ledger))
        return name, tape, ledger

    def close(self) -> None:
        """Nothing waits to be written."""

    def ledger_end(self) -> int:
        return self.sessions[-1][2].end

    def crash(self, cut_at: int | None) -> None:
        if cut_at is not None:
            self.sessions[-1][2].cut(cut_at)

    def tapes(self) -> list[tuple[str, Iterable[Record]]]:
        return [(name, list(tape.records)) for name, tape, _ in self.sessions]

    def ledgers(self) -> list[Iterable[Record]]:
        return [list(ledger.records) for _, _, ledger in self.sessions]


class DiskJournals:
    """The real writers under `<directory>/sessions`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths: list[Path] = []
        self._open: tuple[Tape, Ledger] | None = None

    def open(self, start_ns: int) -> tuple[str, Journal, Journal]:
        path = create_session(self.directory, start_ns)
        write_header(path, {"machine": machine_facts(None)})
        self.paths.append(path)
        self._open = Tape(path, segment_bytes=SEGMENT_BYTES), Ledger(path)
        return path.name, *self._open

    def close(self) -> None:
        if self._open is not None:
            for journal in self._open:
                journal.close()
        self._open = None

    def ledger_end(self) -> int:
        path = self.paths[-1]
        last = segment_indices(path, LEDGER_STEM)[0]
        segment = Segment(segment_path(path, LEDGER_STEM, last), writable=False)
        try:
            return segment.words[W_USED_BYTES]
        finally:
            segment.close()

    def crash(self, cut_at: int | None) -> None:
        """The mapped bytes stay as they are; a cut is what a host crash does to a file's tail."""
        self._open = None
        if cut_at is None:
            return
        path = segment_path(self.paths[-1], LEDGER_STEM, 0)
        cut_at = max(cut_at, SEGMENT_HEADER_BYTES)
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(cut_at)
            file.write(bytes(size - cut_at))

    def tapes(self) -> list[tuple[str, Iterable[Record]]]:
        return [(path.name, list(read_tape(path))) for path in self.paths]

    def ledgers(self) -> list[Iterable[Record]]:
        return [list(read_ledger(path)) for path in self.paths]
