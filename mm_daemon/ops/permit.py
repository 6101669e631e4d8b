"""Lease and permit without a store: the lock files of the shard's underlyings, on one host.

Same page, same tenures, same rule of one writer for each account and underlying. A second daemon
on the same directories is refused at its start, because ledger and latch are one daemon's. One with
directories of its own on the same host stands by here: the kernel drops a lock in the moment its
holder dies, so waiting for it is safe and needs no clock. On another host nothing is known of it:
that takes the store.

The permit's deadline is monotonic, so a clock step cannot extend it, and it is renewed four times
as often as it runs out. When this process dies or hangs, it simply runs out.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from mm_daemon.domain.errors import ConfigError
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.lease import NEVER_NS, Lease, LeaseTimes
from mm_daemon.ops.lease_face import LeaseFace
from mm_daemon.ops.tenure_page import Standing, TenurePage

RENEWALS_PER_PERMIT: Final = 4
POLL_S: Final = 0.02
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what all daemons of a host share, for one boot


@dataclass(frozen=True, slots=True)
class _Note:
    """What a holder leaves in its lock file for the next one."""

    tenure: int = 0
    home: str = ""
    """The holder's runtime directory."""
    is_clean: bool = True
    """The holder let go after its trader had ended."""


class LocalPermit:
    """One daemon's hold on its shard on this host."""

    def __init__(
        self,
        *,
        lock_paths: tuple[Path, ...],
        home: Path,
        epochs: DurableNumber,
        page: TenurePage,
        times: LeaseTimes,
        mono_ns: Callable[[], int],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        assert lock_paths
        self._lock_paths = tuple(sorted(lock_paths))
        self._home = str(home)
        self._epochs = epochs
        self._page = page
        self._times = times
        self._mono_ns = mono_ns
        self._log = log
        self._lease = Lease()
        self._renewed_ns = 0
        self._fds: list[int] = []
        self._problem = ""

    @property
    def is_held(self) -> bool:
        return bool(self._fds)

    async def run(self) -> None:
        """Takes the locks, waiting for a holder before us to end, then renews until cancelled."""
        interval_s = self._times.permit_ns / 1e9 / RENEWALS_PER_PERMIT
        due_ns = 0
        try:
            while True:
                now_ns = self._mono_ns()
                if now_ns >= due_ns:
                    due_ns = now_ns + int(interval_s * 1e9)
                    self._turn(now_ns)
                self.publish()
                await asyncio.sleep(POLL_S)
        finally:
            self._let_go()

    def face(self) -> LeaseFace:
        now_ns = self._mono_ns()
        return LeaseFace(
            state=self._lease.state(now_ns).name.lower(),
            tenure=self._lease.tenure,
            holder=self._problem and "another daemon on this host",
            age_s=(now_ns - self._renewed_ns) / 1e9 if self._renewed_ns else None,
            store="lock files",
            store_is_up=True,
            problem=self._problem,
        )

    def publish(self) -> None:
        """Writes the page from what is held now."""
        now_ns = self._mono_ns()
        self._page.publish(
            Standing(
                state=self._lease.state(now_ns),
                fence=self._lease.tenure,
                until_ns=self._lease.until_ns,
                permit_deadline_ns=self._lease.permit_deadline_ns(now_ns, self._times),
                renewed_ns=self._renewed_ns,
            ),
            now_ns,
        )

    def _turn(self, now_ns: int) -> None:
        try:
            if not self.is_held:
                self._take(now_ns)
        except (OSError, ConfigError) as error:
            self._say(str(error))
            return
        if self.is_held:
            self._renewed_ns = now_ns
            self._lease = self._lease.renewed_for_good(asked_ns=now_ns)

    def _take(self, now_ns: int) -> None:
        """All locks, in the order of their names, or none."""
        fds: list[int] = []
        try:
            for path in self._lock_paths:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fds.append(fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin(fds, now_ns)
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise
            self._say(f"{path} is held by another daemon of this shard on this host: standing by")
            return
        self._fds = fds
        self._say("")

    def _begin(self, fds: list[int], now_ns: int) -> None:
        """Under a new tenure, or under the one the page still names: then only ops died."""
        notes = [_read_note(fd) for fd in fds]
        found = self._page.found()
        goes_on = found.fence > 0 and all(
            note.tenure == found.fence and note.home == self._home for note in notes
        )
        tenure = found.fence if goes_on else max(self._epochs.read(), *_tenures(notes)) + 1
        if not goes_on:
            self._epochs.raise_to(tenure)
        wait_ns = 0 if goes_on else max(self._wait_ns(note) for note in notes)
        for fd in fds:
            _write_note(fd, _Note(tenure, self._home, is_clean=False))
        self._lease = Lease(
            tenure=tenure, asked_ns=now_ns, until_ns=NEVER_NS, quote_from_ns=now_ns + wait_ns
        )
        self._log.info("lock_taken", tenure=tenure, quiet_s=wait_ns / 1e9, goes_on=goes_on)

    def _wait_ns(self, note: _Note) -> int:
        """A holder that only lost its ops leaves a trader with a permit for so long; one of our own
        directories is gone whole, or the guard would not have started."""
        if note.is_clean or note.home == self._home:
            return 0
        return self._times.permit_ns + self._times.valid_ns

    def _let_go(self) -> None:
        """What a living trader relies on is left as it is: it runs out by itself."""
        if not self._fds:
            return
        if not self._page.has_trader:
            tenure, self._lease = self._lease.tenure, Lease()
            self.publish()
            for fd in self._fds:
                with suppress(OSError):
                    _write_note(fd, _Note(tenure, self._home))
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            self._log.warning("standing_by", problem=problem)
        self._problem = problem


def lock_paths(
    environment: str, venue_address: str, account: str, names: tuple[str, ...]
) -> tuple[Path, ...]:
    """Where the daemons of one user on one host meet over a shard.

    Raises: OSError where the directory cannot be made.
    """
    is_shared = os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    parent = SHARED_MEMORY if is_shared else Path(tempfile.gettempdir())
    directory = parent / f"mm-daemon-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    shard = f"{environment}-{venue_address}-{account}".replace("/", "-")
    return tuple(directory / f"{shard}-{name}.lock" for name in names)


def _tenures(notes: list[_Note]) -> list[int]:
    return [note.tenure for note in notes]


def _read_note(fd: int) -> _Note:
    """An empty file was never held; one that cannot be read was held by somebody."""
    text = os.pread(fd, 4096, 0)
    if not text:
        return _Note()
    try:
        note = json.loads(text)
        return _Note(int(note["tenure"]), str(note["home"]), bool(note["is_clean"]))
    except (ValueError, KeyError, TypeError):
        return _Note(is_clean=False)


def _write_note(fd: int, note: _Note) -> None:
    text = json.dumps({"tenure": note.tenure, "home": note.home, "is_clean": note.is_clean})
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)
