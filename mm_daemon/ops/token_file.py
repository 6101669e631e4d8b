"""The token file as it is now: read again when it changes, so that a removed token ends at once.

Every request asks. A file that cannot be read, or is no token file, leaves the tokens as they were
and says so: on the log as critical, in the status and as a metric, until it is whole again. A kill
waits for it no longer than a moment, because a token taken away must not be able to stop one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from mm_daemon.ops.auth import Actor, TokenFault, load_tokens, parse_tokens

PATIENCE_S: Final = 1.0
KILL_PATIENCE_S: Final = 0.05
SETTLED_S: Final = 1.0
"""A file changed this lately may change again within one tick of its time stamp."""

Stamp = tuple[int, int, int]
Changed = Callable[[list[Actor], list[Actor]], None]


class TokenFile:
    """One file and what it said last. `on_change` gets who was added and who removed, `on_problem`
    what is wrong, empty when it is right again; both are called in the thread that reads."""

    def __init__(self, path: Path) -> None:
        """Makes the file where there is none. Raises: ValueError where it is no token file."""
        self._path = path
        self._store = load_tokens(path)
        self._content = path.read_bytes()
        self._stamp: Stamp | None = None
        self._is_settled = False
        self._reading: asyncio.Task[None] | None = None
        self.problem = ""
        self.on_change: Changed = lambda added, removed: None
        self.on_problem: Callable[[str], None] = lambda problem: None

    async def refresh(self, patience_s: float = PATIENCE_S) -> None:
        """Brings the tokens to what the file says now, if it can be read in time."""
        for _ in range(2):
            # Twice: a reading under way when this was asked may have begun before the change.
            if not self._is_due():
                return
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(asyncio.to_thread(self.read))
            done, _ = await asyncio.wait({self._reading}, timeout=patience_s)
            if not done:
                self._say(f"{self._path}: could not be read within {patience_s:g} s")
                return

    def read(self) -> None:
        """Reads the file and takes up what it says; never raises."""
        stamp = _stamp(self._path)
        try:
            content = self._path.read_bytes()
            if content != self._content:
                self._take(content)
            self._say("")
        except (OSError, ValueError) as error:
            self._say(f"{error}: the tokens stay as they were")
        self._stamp = stamp
        self._is_settled = stamp is not None and time.time_ns() - stamp[0] > SETTLED_S * 1e9

    def find(self, header: str, wall_s: float) -> Actor | TokenFault:
        """See `TokenStore.find`."""
        return self._store.find(header, wall_s)

    def knows(self, actor: Actor) -> bool:
        """Whether the token somebody came with is still there; who came by the unix socket had
        none."""
        return not actor.fingerprint or replace(actor, peer="") in self._store.actors()

    def note_failure(self, now_s: float) -> None:
        self._store.note_failure(now_s)

    def is_throttled(self, now_s: float) -> bool:
        return self._store.is_throttled(now_s)

    def _is_due(self) -> bool:
        return not self._is_settled or _stamp(self._path) != self._stamp

    def _take(self, content: bytes) -> None:
        before = self._store.actors()
        self._store.take(parse_tokens(content, self._path))
        self._content = content
        after = self._store.actors()
        added = [one for one in after if one not in before]
        self.on_change(added, [one for one in before if one not in after])

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self.on_problem(problem)


def _stamp(path: Path) -> Stamp | None:
    """None where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
