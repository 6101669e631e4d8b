"""The shared page: one small mapped file through which the processes see each other's state.

It holds what must be readable in a tenth of a microsecond and must work while every event loop
hangs: the latch, the permit, progress counters, process states and the metric slots. Every field
is an aligned 8-byte word read and written by one memory access, so a reader never sees half of
one. Fields that must change together share a word: permission, tasks and latch generation are one
word, for with three a reader could pair an old permission with a new generation.

Every word but the latch has exactly one writing process. The latch words are changed through
`mm_daemon.ipc.latch` only, which takes the lock this page needs for that.

The page never holds prices, secrets or anything a decision depends on beyond the latch and the
permit, and it is never the durable copy: the latch file is.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from mm_daemon.domain.permission import OPEN_SCOPES, PERMISSION_NONE, SCOPES_MAX

MAGIC: Final = 0x3147_5041_505F_4D4D  # "MM_PAPG1" read as a little-endian word
LAYOUT_VERSION: Final = 2

# Word indices. A reader in a hot loop writes `words = page.words` once and then `words[LATCH]`;
# the properties below cost three times as much and are for everybody else.
W_MAGIC: Final = 0
W_LAYOUT: Final = 1
W_METRIC_COUNT: Final = 2
W_DIRECTORY_BYTES: Final = 3
LATCH: Final = 8
SCOPED_MASKS: Final = 9
"""Byte k: permission and tasks of the k-th scope's own latch (`domain.permission.scope_mask`). A
raise writes it before the latch word, a clear after: whoever has seen a generation sees its narrow
scopes too."""
GENERATION_SEEN: Final = 16
SWEPT_GENERATION: Final = 17
PERMIT_DEADLINE_MONO_NS: Final = 24
FENCE_EPOCH: Final = 25
"""The tenure under which this daemon may send, 0 while it holds none. Ops writes it. A trader takes
its epoch from it at its start; one that finds another tenure here has lost the fence."""
LEASE_STATE: Final = 26
"""A `LeaseState`, written by ops."""
LEASE_UNTIL_MONO_NS: Final = 27
"""When the holder stops by its own clock. Past it, a tenure counts as lost whatever `FENCE_EPOCH`
says: ops may be dead. The largest word where the lock dies with its holder and needs no clock."""
PERMIT_RENEWED_MONO_NS: Final = 28
"""When the last renewal of the permit was asked for: what the age of the permit counts from."""
TRADER_TENURE: Final = 29
"""The tenure a trader took its epoch from, written by it at its start. Ops gives no permit to a
trader of another tenure: its orders would carry an older epoch than the shard's."""
PROGRESS_LOOP: Final = 32
PROGRESS_MARKET_DATA: Final = 33
PROGRESS_STEP: Final = 34
PROGRESS_JOURNAL: Final = 35
GUARD_PID: Final = 40
TRADER_PID: Final = 41
OPS_PID: Final = 42
COMPUTE_PID: Final = 43
VENUE_PID: Final = 44
BOOT_STATE: Final = 48
TRADER_STATE: Final = 49
TRADER_INCARNATION: Final = 50
RECONCILED_INCARNATION: Final = 51
CRASH_COUNT: Final = 52
GUARD_ALIVE_MONO_NS: Final = 53
JOURNAL_SYNC_MONO_NS: Final = 54
JOURNAL_FAULT: Final = 55

PROGRESS_WORDS: Final = {
    "loop": PROGRESS_LOOP,
    "market_data": PROGRESS_MARKET_DATA,
    "step": PROGRESS_STEP,
    "journal": PROGRESS_JOURNAL,
}
PID_WORDS: Final = {
    "guard": GUARD_PID,
    "trader": TRADER_PID,
    "ops": OPS_PID,
    "compute": COMPUTE_PID,
    "venue": VENUE_PID,
}

LATCH_TABLE_OFFSET: Final = 4096
LATCH_ROW_BYTES: Final = 384
LATCH_ROWS: Final = 64
DIRECTORY_OFFSET: Final = LATCH_TABLE_OFFSET + LATCH_ROWS * LATCH_ROW_BYTES
DIRECTORY_BYTES_MAX: Final = 1 << 20
_CACHE_LINE_BYTES: Final = 64

_PERMISSION_BITS: Final = 8
_TASK_SHIFT: Final = 8
_GENERATION_SHIFT: Final = 16
_BYTE_MASK: Final = 0xFF


class PageError(Exception):
    """The shared page is missing, foreign or of another layout."""


class BootState(IntEnum):
    """How far the guard has come."""

    DOWN = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3


class TraderState(IntEnum):
    """What the trader says of itself; the guard writes DOWN when it has reaped it."""

    DOWN = 0
    STARTING = 1
    RECONCILING = 2
    RUNNING = 3
    SETTLING = 4
    KILLED_CONFIRMED = 5
    KILLED_UNCONFIRMED = 6
    STOPPING = 7


class LeaseState(IntEnum):
    """Where ops stands with the right to trade this shard."""

    NONE = 0
    """Ops has not spoken yet."""
    STANDBY = 1
    """Another instance holds the lease, or none can be had; nothing here may trade or sweep."""
    SETTLING = 2
    """Ours, but what a former holder sent may still arrive: no permit yet."""
    HELD = 3
    SUSPENDED = 4
    """Our own clock ran out before a renewal; the store may still name us, so it may come back."""
    SUPERSEDED = 5
    """Another instance took over. What rests at the venue is its own now: stop, do not sweep."""


def latch_word(permission: int, tasks: int, generation: int) -> int:
    """The latch as one word: generation above tasks above permission."""
    return generation << _GENERATION_SHIFT | tasks << _TASK_SHIFT | permission


def latch_permission(word: int) -> int:
    """Permission bits of a latch word."""
    return word & _BYTE_MASK


def latch_tasks(word: int) -> int:
    """Task bits of a latch word."""
    return word >> _TASK_SHIFT & _BYTE_MASK


def latch_generation(word: int) -> int:
    """Generation of a latch word."""
    return word >> _GENERATION_SHIFT


class Page:
    """A mapped page. `words` are unsigned 64-bit words, `slots` the float64 metric slots.

    `slots[page.slot_index[name]] += 1.0` is the whole metrics API of a writing process: counters,
    gauges and histogram buckets are all slots, and what a slot means is the reader's knowledge.
    Each slot has one writing process; two writers would lose increments.
    """

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self._mapped = mapped
        self._view = memoryview(mapped)
        self.words: memoryview[int] = self._view[: len(mapped) // 8 * 8].cast("Q")
        self._check()
        directory_bytes = self.words[W_DIRECTORY_BYTES]
        directory = json.loads(self.read_bytes(DIRECTORY_OFFSET, directory_bytes))
        self.scopes: tuple[str, ...] = tuple(directory["scopes"])
        """Names of the scopes in the order of their bytes; every process finds them here."""
        self.slot_names: tuple[str, ...] = tuple(directory["names"])
        self.slot_index: dict[str, int] = {name: i for i, name in enumerate(self.slot_names)}
        offset = _slots_offset(directory_bytes)
        region = self._view[offset : offset + 8 * len(self.slot_names)]
        self.slots: memoryview[float] = region.cast("d")

    @classmethod
    def create(
        cls, path: Path, metric_names: tuple[str, ...] = (), scopes: tuple[str, ...] = ()
    ) -> Self:
        """Make a fresh page and put it at `path` whole; a reader sees the old one or the new one.

        The page starts latched (no permission, generation 0) until a latch store publishes.
        `scopes` names what may be latched by itself; beyond the first few there is no room for a
        byte of their own, and a latch of one of those holds for the whole daemon.
        """
        if len(set(metric_names)) != len(metric_names):
            raise PageError(f"{path}: a metric name is declared twice")
        directory = json.dumps({"names": metric_names, "scopes": scopes[:SCOPES_MAX]}).encode()
        if len(directory) > DIRECTORY_BYTES_MAX:
            raise PageError(
                f"{path}: the metric directory needs {len(directory)} bytes, at most"
                f" {DIRECTORY_BYTES_MAX} are allowed: declare fewer metrics"
            )
        size = _slots_offset(len(directory)) + 8 * len(metric_names)
        pages = -(-size // mmap.PAGESIZE)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(fd, 0, pages * mmap.PAGESIZE)
            mapped = mmap.mmap(fd, pages * mmap.PAGESIZE)
        finally:
            os.close(fd)
        with memoryview(mapped) as view, view.cast("Q") as words:
            view[DIRECTORY_OFFSET : DIRECTORY_OFFSET + len(directory)] = directory
            words[W_METRIC_COUNT] = len(metric_names)
            words[W_DIRECTORY_BYTES] = len(directory)
            words[W_LAYOUT] = LAYOUT_VERSION
            words[LATCH] = latch_word(PERMISSION_NONE, 0, 0)
            words[SCOPED_MASKS] = OPEN_SCOPES
            words[W_MAGIC] = MAGIC
        os.replace(fresh, path)
        return cls(path, mapped)

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Map an existing page for reading and writing.

        Raises: PageError where there is none or it is of another layout.
        """
        try:
            fd = os.open(path, os.O_RDWR)
        except OSError as error:
            raise PageError(
                f"no shared page at {path} ({error.strerror}): is the guard running?"
            ) from error
        try:
            size = os.fstat(fd).st_size
            if size < DIRECTORY_OFFSET:
                raise PageError(f"{path}: {size} bytes are too few for a page")
            return cls(path, mmap.mmap(fd, size))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmap. Views taken from `words` or `slots` become unusable."""
        self.slots.release()
        self.words.release()
        self._view.release()
        self._mapped.close()

    def _check(self) -> None:
        found = (self.words[W_MAGIC], self.words[W_LAYOUT])
        if found == (MAGIC, LAYOUT_VERSION):
            return
        self.words.release()
        self._view.release()
        self._mapped.close()
        raise PageError(
            f"{self.path}: expected magic {MAGIC:#x} layout {LAYOUT_VERSION}, found magic"
            f" {found[0]:#x} layout {found[1]}: another version wrote it, stop all and start again"
        )

    @property
    def permission(self) -> int:
        """Effective permission bits."""
        return latch_permission(self.words[LATCH])

    @property
    def tasks(self) -> int:
        """Effective task bits."""
        return latch_tasks(self.words[LATCH])

    @property
    def generation(self) -> int:
        """Generation of the latch."""
        return latch_generation(self.words[LATCH])

    @property
    def trader_state(self) -> TraderState:
        """What the trader last said of itself."""
        return TraderState(self.words[TRADER_STATE])

    @trader_state.setter
    def trader_state(self, state: TraderState) -> None:
        self.words[TRADER_STATE] = state

    @property
    def lease_state(self) -> LeaseState:
        """Where ops stands with the lease."""
        return LeaseState(self.words[LEASE_STATE])

    @property
    def boot_state(self) -> BootState:
        """How far the guard has come."""
        return BootState(self.words[BOOT_STATE])

    @boot_state.setter
    def boot_state(self, state: BootState) -> None:
        self.words[BOOT_STATE] = state

    def read_bytes(self, offset: int, size: int) -> bytes:
        """Raw bytes of a latch row; see `mm_daemon.ipc.latch`."""
        return self._view[offset : offset + size].tobytes()

    def write_bytes(self, offset: int, content: bytes) -> None:
        """Store raw bytes of a latch row; see `mm_daemon.ipc.latch`."""
        self._view[offset : offset + len(content)] = content


class PageOwner:
    """The proof that a guard lives: an exclusive lock beside the page, dropped by its death."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def claim(cls, page_path: Path) -> PageOwner | None:
        """Become the owner, or None where another living process is."""
        fd = os.open(_owner_path(page_path), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    def release(self) -> None:
        """Give ownership up."""
        os.close(self._fd)


def page_is_owned(page_path: Path) -> bool:
    """Whether a guard lives that owns this page. A page without owner is a leftover."""
    owner = PageOwner.claim(page_path) if _owner_path(page_path).exists() else None
    if owner is None:
        return _owner_path(page_path).exists()
    owner.release()
    return False


def _owner_path(page_path: Path) -> Path:
    return page_path.with_name(f"{page_path.name}.owner")


def _slots_offset(directory_bytes: int) -> int:
    end = DIRECTORY_OFFSET + directory_bytes
    return -(-end // _CACHE_LINE_BYTES) * _CACHE_LINE_BYTES
