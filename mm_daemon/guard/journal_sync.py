"""The guard's syncing thread: brings the trader's journal to the disk, a few milliseconds behind.

It is not the watchdog, because a disk may make it wait for seconds. It prunes what is beyond the
configured bounds, never what a restart would read, and looks once over every finished segment of
the ledgers: a restart does not read the old ones, so damage there would else show only when
somebody asks for the fills in them. What it cannot do it says in the shared page, and goes on
trying: a failed sync stays said until the guard starts again (the kernel forgets pages it failed to
write), a full or unreadable disk until it works again. Without a sync the mark stands still from
which the trader reckons how far the disk is behind.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from mm_daemon.guard.log import log
from mm_daemon.ipc import ledger, tape
from mm_daemon.ipc.journal import JournalError, JournalKeeper, prune
from mm_daemon.ipc.journal_parts import Part
from mm_daemon.ipc.page import JOURNAL_FAULT, JOURNAL_SYNC_MONO_NS, Page
from mm_daemon.ipc.segments import segment_indices, segment_path
from mm_daemon.ipc.session import sessions_of

FAULT_NONE: Final = 0
FAULT_SYNC: Final = 1
FAULT_SPACE: Final = 2

_PRUNE_INTERVAL_S: Final = 5.0


class JournalSyncer:
    """Keeps the journals of the trader's present session."""

    def __init__(
        self, page: Page, interval_s: float, *, tape_bytes_max: int, ledger_bytes_max: int
    ) -> None:
        self._page = page
        self._interval_s = interval_s
        self._tape_bytes_max = tape_bytes_max
        self._ledger_bytes_max = ledger_bytes_max
        self._keepers: list[JournalKeeper] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pruned_s = -_PRUNE_INTERVAL_S
        self._looked_over: set[Path] = set()
        self._why_kept = ""
        self._refused: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)

    def start(self) -> None:
        """Begin syncing."""
        self._thread.start()

    def stop(self) -> None:
        """Sync once more and end the thread."""
        self._stop.set()
        self._thread.join()

    def follow(self, session: Path) -> None:
        """Keep this session from now on, and the one before it until its last bytes are safe."""
        keeper = JournalKeeper(session, (ledger.STEM, tape.STEM))
        with self._lock:
            self._keepers = [*self._keepers[-1:], keeper]

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._turn()
        self._turn()

    def _turn(self) -> None:
        with self._lock:
            keepers = list(self._keepers)
        for keeper in keepers:
            self._sync(keeper)
        if keepers:
            self._prepare(keepers[-1])

    def _sync(self, keeper: JournalKeeper) -> None:
        try:
            keeper.sync()
        except (JournalError, OSError) as error:
            self._fail(FAULT_SYNC, error)
        else:
            self._page.words[JOURNAL_SYNC_MONO_NS] = time.monotonic_ns()

    def _prepare(self, keeper: JournalKeeper) -> None:
        try:
            self._prune(keeper.directory.parent)
            keeper.prepare()
        except (JournalError, OSError) as error:
            self._fail(FAULT_SPACE, error)
        else:
            if self._page.words[JOURNAL_FAULT] == FAULT_SPACE:
                self._page.words[JOURNAL_FAULT] = FAULT_NONE
                log("journal_recovered")

    def _prune(self, root: Path) -> None:
        now_s = time.monotonic()
        if now_s - self._pruned_s < _PRUNE_INTERVAL_S:
            return
        sessions, refused = _readable(sessions_of(root))
        gone, kept = prune(sessions, tape.STEM, self._tape_bytes_max)
        for path in gone:
            log("tape_pruned", path=str(path))
        kept += self._prune_ledger(sessions)
        self._look_over_one(sessions)
        self._pruned_s = now_s
        said = {str(error) for error in (*refused, *kept)}
        for detail in sorted(said - self._refused):
            log("not_pruned", detail=detail)
        self._refused = said

    def _prune_ledger(self, sessions: list[Path]) -> list[OSError]:
        try:
            gone, refused = prune(
                sessions,
                ledger.STEM,
                self._ledger_bytes_max,
                needed_from=lambda: ledger.needed_from(sessions),
            )
        except JournalError as error:
            if self._why_kept != str(error):
                self._why_kept = str(error)
                log("ledger_not_pruned", detail=self._why_kept)
            return []
        self._looked_over.difference_update(gone)
        for path in gone:
            log("ledger_pruned", path=str(path))
        return refused

    def _look_over_one(self, sessions: list[Path]) -> None:
        """One a turn, some tens of milliseconds. The newest two of a session may be unfinished."""
        finished = (
            segment_path(session, ledger.STEM, index)
            for session in sessions
            for index in segment_indices(session, ledger.STEM)[:-2]
        )
        path = next((path for path in finished if path not in self._looked_over), None)
        if path is None:
            return
        self._looked_over.add(path)
        try:
            for _ in Part(path, is_last=False):
                pass
        except (JournalError, OSError) as error:
            log("ledger_damaged", detail=str(error))

    def _fail(self, fault: int, error: JournalError | OSError) -> None:
        if self._page.words[JOURNAL_FAULT] in (FAULT_SYNC, fault):
            return
        self._page.words[JOURNAL_FAULT] = fault
        log("journal_fault", fault=fault, detail=str(error))


def _readable(sessions: list[Path]) -> tuple[list[Path], list[OSError]]:
    """Those that can be looked into, and why the others cannot: what is not ours keeps nothing of
    ours from being pruned."""
    readable: list[Path] = []
    refused: list[OSError] = []
    for session in sessions:
        try:
            segment_indices(session, tape.STEM)
        except OSError as error:
            refused.append(error)
        else:
            readable.append(session)
    return readable, refused
