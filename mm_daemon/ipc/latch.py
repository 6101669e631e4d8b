"""The latch: live in the shared page, durable in a file, safe with any number of raisers.

The page is the truth while the daemon runs: a table of masks by source and scope, one word with
what they come to for the whole daemon and one with what they come to by scope. The file is the
page's image for the next start. A raise narrows the words first, then the table, then the file:
cancels never wait for a disk, and whoever dies in between leaves the page narrower than the file
says, never wider. A clear goes the other way: file first, then the page, and only if no raise came
in between.

A file that is missing or damaged counts as latched. Nothing here decides who may clear what; those
rules are `mm_daemon.domain.permission`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mm_daemon.domain.permission import (
    LATCH_FILE,
    PERMISSION_NONE,
    REASON_BYTES_MAX,
    SWEEP,
    TASKS_NONE,
    WHOLE,
    Clearer,
    LatchEntry,
    LatchRefusal,
    LatchRefused,
    LatchState,
    Mask,
    scope_mask,
    scopes_word,
)
from mm_daemon.ipc.locks import file_lock
from mm_daemon.ipc.page import (
    LATCH,
    LATCH_ROW_BYTES,
    LATCH_ROWS,
    LATCH_TABLE_OFFSET,
    SCOPED_MASKS,
    Page,
    latch_generation,
    latch_permission,
    latch_tasks,
    latch_word,
)

FILE_VERSION: Final = 1

# The page lock is held for microseconds, so whoever holds it longer is stopped: a raise then goes
# ahead without it and `reassert` mends what the stopped process may write when it wakes.
_PAGE_LOCK_S: Final = 0.05
_FILE_LOCK_S: Final = 2.0
_CLEAR_ATTEMPTS: Final = 8

_ROW_USED: Final = 1 << 63
_ROW_SOURCE_AT: Final = 24
_ROW_REASON_AT: Final = 72
_ROW_SCOPE_AT: Final = 320


class LatchError(OSError):
    """The durable latch could not be written. The page, if there is one, is already narrowed.

    An OSError, so that one `except OSError` covers its lock and its directory too.
    """


class LatchStore:
    """The latch of one daemon. With `page` None (no daemon runs) only the file is kept.

    `sync` brings a file, by its descriptor, to the disk, and returns when it is there.
    """

    def __init__(
        self, path: Path, page: Page | None, *, sync: Callable[[int], None] = os.fsync
    ) -> None:
        self.path = path
        self.page = page
        self._sync = sync
        self._seen_stamp: tuple[int, int] | None = None

    def load(self) -> LatchState:
        """What the file says; latched by `latch_file` where it is missing or damaged."""
        try:
            return _decode(self.path.read_bytes())
        except FileNotFoundError:
            # Nothing of ours can be working where the daemon was never set up, and what is there
            # is somebody else's to cancel.
            why = f"no latch file at {self.path}: `mm-daemon reset --init` creates it"
            return _latched_by_file(why, TASKS_NONE)
        except (OSError, ValueError) as error:
            return _latched_by_file(f"latch file damaged ({error}): {self.path}", SWEEP)

    def state(self) -> LatchState:
        """What holds now: the page's table, or the file where no daemon runs."""
        if self.page is None:
            return self.load()
        with file_lock(_page_lock(self.page), _PAGE_LOCK_S):
            return _read_table(self.page)

    def publish(self) -> LatchState:
        """Bring the file's state into a fresh page. For the guard, before any child starts."""
        assert self.page is not None
        state = self.load()
        with file_lock(_page_lock(self.page), _PAGE_LOCK_S):
            _write_table(self.page, state)
        return state

    def init(self, *, ts_ns: int) -> LatchState | LatchRefused:
        """Create the latch file, or replace a damaged one, whose bytes are kept beside it."""
        with file_lock(self._lock_path(), _FILE_LOCK_S):
            if self.load().entry(LATCH_FILE) is None:
                return LatchRefused(
                    LatchRefusal.NOT_ALLOWED, f"{self.path} exists and is whole: use a plain reset"
                )
            if self.path.exists():
                os.replace(self.path, self.path.with_name(f"{self.path.name}.damaged-{ts_ns}"))
            before = self.state()
            kept = tuple(one for one in before.entries if one.source != LATCH_FILE)
            after = LatchState(before.generation + 1, kept)
            self._write_file(after)
            self._apply(before, after)
            return self.state()

    def raise_page(
        self, source: str, mask: Mask, reason: str, *, ts_ns: int, scope: str = WHOLE
    ) -> int:
        """Narrow the page, without touching a disk; returns the new generation.

        `persist` must follow before anybody is told that the latch is set.
        """
        assert self.page is not None
        entry = LatchEntry(source, mask.permission, mask.tasks, _short(reason), ts_ns, scope)
        words = self.page.words
        with file_lock(_page_lock(self.page), _PAGE_LOCK_S, must_open=False):
            word = words[LATCH]
            held = Mask(latch_permission(word), latch_tasks(word))
            if scope in self.page.scopes:
                words[SCOPED_MASKS] = _narrowed_scope(self.page, scope, mask)
            else:
                held = held.narrowed(mask)
            generation = latch_generation(word) + 1
            words[LATCH] = latch_word(held.permission, held.tasks, generation)
            _raise_row(self.page, entry)
        return generation

    def persist(self) -> None:
        """Bring the page's state to the file; returns once it is on the disk.

        Raises: OSError where the disk refuses.
        """
        with file_lock(self._lock_path(), _FILE_LOCK_S):
            self._write_file(self.state())

    def raise_latch(
        self, source: str, mask: Mask, reason: str, *, ts_ns: int, scope: str = WHOLE
    ) -> int:
        """Narrow the page, then the file; returns the new generation. Never waits to narrow.

        Raises: OSError where the disk refuses; the page is narrowed all the same.
        """
        if self.page is not None:
            generation = self.raise_page(source, mask, reason, ts_ns=ts_ns, scope=scope)
            self.persist()
            return generation
        entry = LatchEntry(source, mask.permission, mask.tasks, _short(reason), ts_ns, scope)
        with file_lock(self._lock_path(), _FILE_LOCK_S):
            after = self.load().raise_(entry)
            self._write_file(after)
        return after.generation

    def clear(self, source: str, clearer: Clearer, scope: str = WHOLE) -> LatchState | LatchRefused:
        """Lift one source's mask in one scope, where `clearer` may. See `permission.may_clear`.

        Raises: OSError where the disk refuses; nothing is lifted then.
        """
        return self._lower(lambda state: state.clear_(source, clearer, scope))

    def reset(
        self,
        expected_generation: int,
        sources: tuple[str, ...] | None = None,
        scope: str | None = None,
        clearer: Clearer = Clearer.RESET,
    ) -> LatchState | LatchRefused:
        """Lift by a person's word what a reset may lift, if the latch is as that person saw it:
        in one scope, or (None) in all.

        Raises: OSError where the disk refuses; nothing is lifted then.
        """
        return self._lower(lambda state: state.reset_(expected_generation, sources, scope, clearer))

    def reassert(self) -> bool:
        """Mend what a stopped process wrote late: page no wider than its table, file no older.

        For the guard, a few times a second. True where something had to be mended.
        """
        assert self.page is not None
        words = self.page.words
        with file_lock(_page_lock(self.page), _PAGE_LOCK_S) as is_held:
            table, table_scopes = _read_table(self.page).page_masks(self.page.scopes)
            word = words[LATCH]
            held = Mask(latch_permission(word), latch_tasks(word))
            both = held.narrowed(table)
            scopes = _narrowed_scopes(self.page, table_scopes)
            is_wide = both != held or scopes != words[SCOPED_MASKS]
            if is_wide and is_held:
                words[SCOPED_MASKS] = scopes
                words[LATCH] = latch_word(both.permission, both.tasks, latch_generation(word) + 1)
        stamp = _stamp(self.path)
        if is_wide or stamp != self._seen_stamp:
            self._seen_stamp = stamp
            if self.load().generation != self.page.generation:
                self.persist()
                self._seen_stamp = _stamp(self.path)
                return True
        return is_wide

    def block_start(self, reason: str) -> None:
        """Mark that no daemon may start here until a person removes the file by hand."""
        _write_durably(self._block_path(), f"{_short(reason)}\n".encode(), self._sync)

    def start_block(self) -> str | None:
        """Why starting is blocked, or None; the sentence says which file to remove."""
        try:
            text = self._block_path().read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            text = f"its reason cannot be read: {error.strerror}"
        return f"hard stop: {text or 'no reason given'} (remove {self._block_path()} to allow it)"

    def _lower(
        self, transition: Callable[[LatchState], LatchState | LatchRefused]
    ) -> LatchState | LatchRefused:
        with file_lock(self._lock_path(), _FILE_LOCK_S) as is_held:
            if not is_held:
                raise LatchError(f"{self._lock_path()} is held by another process: try again")
            for _ in range(_CLEAR_ATTEMPTS):
                before = self.state()
                after = transition(before)
                if isinstance(after, LatchRefused):
                    return after
                self._write_file(after)
                if self._apply(before, after):
                    return after
                self._write_file(self.state())
        raise LatchError(f"{self.path}: raises keep coming in, nothing was lifted: try again")

    def _apply(self, before: LatchState, after: LatchState) -> bool:
        """Widen the page to `after`, unless it has changed since `before` was read."""
        if self.page is None:
            return True
        with file_lock(_page_lock(self.page), _PAGE_LOCK_S) as is_held:
            return is_held and _lower_table(self.page, before, after)

    def _write_file(self, state: LatchState) -> None:
        try:
            _write_durably(self.path, _encode(state), self._sync)
        except OSError as error:
            raise LatchError(f"{self.path}: cannot write: {error.strerror}") from error

    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _block_path(self) -> Path:
        return self.path.with_name("start-blocked")


def _latched_by_file(reason: str, tasks: int) -> LatchState:
    entry = LatchEntry(LATCH_FILE, PERMISSION_NONE, tasks, _short(reason), 0)
    return LatchState(0).raise_(entry)


def _short(reason: str) -> str:
    """As much of the reason as a row of the page holds."""
    return reason.encode(errors="replace")[:REASON_BYTES_MAX].decode(errors="ignore")


def _page_lock(page: Page) -> Path:
    return page.path.with_name(f"{page.path.name}.lock")


def _row_offset(row: int) -> int:
    return LATCH_TABLE_OFFSET + row * LATCH_ROW_BYTES


def _read_row(page: Page, row: int) -> LatchEntry | None:
    offset = _row_offset(row)
    word = page.words[offset >> 3]
    if not word & _ROW_USED:
        return None
    source = _read_text(page, offset + _ROW_SOURCE_AT)
    reason = _read_text(page, offset + _ROW_REASON_AT)
    scope = _read_text(page, offset + _ROW_SCOPE_AT)
    ts_ns = page.words[(offset >> 3) + 1]
    return LatchEntry(source, latch_permission(word), latch_tasks(word), reason, ts_ns, scope)


def _write_row(page: Page, row: int, entry: LatchEntry) -> None:
    """The mask goes in last where the row was free and first where it was used, so that a death in
    between leaves a row that is unused or at least as narrow."""
    offset = _row_offset(row)
    mask_word = _ROW_USED | latch_word(entry.permission, entry.tasks, 0)
    if page.words[offset >> 3] & _ROW_USED:
        page.words[offset >> 3] = mask_word
    page.words[(offset >> 3) + 1] = entry.ts_ns
    _write_text(page, offset + _ROW_SOURCE_AT, entry.source)
    _write_text(page, offset + _ROW_REASON_AT, entry.reason)
    _write_text(page, offset + _ROW_SCOPE_AT, entry.scope)
    page.words[offset >> 3] = mask_word


def _read_text(page: Page, offset: int) -> str:
    size = page.read_bytes(offset, 1)[0]
    return page.read_bytes(offset + 1, size).decode(errors="replace")


def _write_text(page: Page, offset: int, text: str) -> None:
    encoded = text.encode()
    page.write_bytes(offset, bytes([len(encoded)]) + encoded)


def _read_table(page: Page) -> LatchState:
    """The table's masks. Two rows of one source, left by raisers without the lock, count as one."""
    state = LatchState(0)
    for row in range(LATCH_ROWS):
        entry = _read_row(page, row)
        if entry is not None:
            state = state.raise_(entry)
    return LatchState(page.generation, state.entries)


def _write_table(page: Page, state: LatchState) -> None:
    """Fill a fresh page. Rows before the words, which alone permit anything."""
    assert len(state.entries) <= LATCH_ROWS, len(state.entries)
    for row in range(LATCH_ROWS):
        page.words[_row_offset(row) >> 3] = 0
    for row, entry in enumerate(state.entries):
        _write_row(page, row, entry)
    mask, scopes = state.page_masks(page.scopes)
    page.words[SCOPED_MASKS] = scopes
    page.words[LATCH] = latch_word(mask.permission, mask.tasks, state.generation)


def _lower_table(page: Page, before: LatchState, after: LatchState) -> bool:
    """Drop the rows that `after` no longer has and widen the words, last of all.

    The generation is looked at again before the word: a raise that would not wait for this
    process, stopped in here, must not be widened over when it goes on.
    """
    kept = {entry.key for entry in after.entries}
    if page.generation != before.generation:
        return False
    for row in range(LATCH_ROWS):
        entry = _read_row(page, row)
        if entry is not None and entry.key not in kept:
            page.words[_row_offset(row) >> 3] = 0
    mask, scopes = after.page_masks(page.scopes)
    word = latch_word(mask.permission, mask.tasks, after.generation)
    if page.generation != before.generation:
        return False
    page.words[LATCH] = word
    if page.generation != after.generation:
        return False
    page.words[SCOPED_MASKS] = scopes
    return True


def _narrowed_scope(page: Page, scope: str, mask: Mask) -> int:
    """The word of scopes after one of them has narrowed."""
    word = page.words[SCOPED_MASKS]
    masks = [scope_mask(word, index) for index in range(len(page.scopes))]
    index = page.scopes.index(scope)
    masks[index] = masks[index].narrowed(mask)
    return scopes_word(masks)


def _narrowed_scopes(page: Page, other: int) -> int:
    """The word of scopes narrowed by another such word."""
    word = page.words[SCOPED_MASKS]
    return scopes_word(
        [
            scope_mask(word, index).narrowed(scope_mask(other, index))
            for index in range(len(page.scopes))
        ]
    )


def _raise_row(page: Page, entry: LatchEntry) -> None:
    """Merge one entry into the table. A full table merges into its last row: the mask counts."""
    free = None
    for row in range(LATCH_ROWS):
        held = _read_row(page, row)
        if held is None:
            free = row if free is None else free
        elif held.key == entry.key:
            _merge_row(page, row, held, entry)
            return
    if free is None:
        last = _read_row(page, LATCH_ROWS - 1)
        assert last is not None
        _merge_row(page, LATCH_ROWS - 1, last, entry)
        return
    _write_row(page, free, entry)


def _merge_row(page: Page, row: int, held: LatchEntry, entry: LatchEntry) -> None:
    """Two scopes in one row hold for the whole daemon: what cannot be told apart is closed."""
    mask = held.mask.narrowed(entry.mask)
    scope = held.scope if held.scope == entry.scope else WHOLE
    merged = LatchEntry(held.source, mask.permission, mask.tasks, entry.reason, entry.ts_ns, scope)
    _write_row(page, row, merged)


def _encode(state: LatchState) -> bytes:
    body = {
        "version": FILE_VERSION,
        "generation": state.generation,
        "entries": [
            {
                "source": one.source,
                "permission": one.permission,
                "tasks": one.tasks,
                "reason": one.reason,
                "ts_ns": one.ts_ns,
                "scope": one.scope,
            }
            for one in state.entries
        ],
    }
    return json.dumps({"sha256": _checksum(body), "latch": body}, indent=1).encode()


def _decode(content: bytes) -> LatchState:
    """Raises: ValueError saying what is wrong with the file."""
    outer = json.loads(content)
    if not isinstance(outer, dict) or not isinstance(outer.get("latch"), dict):
        raise ValueError("not a latch file")
    body = outer["latch"]
    if outer.get("sha256") != _checksum(body):
        raise ValueError("checksum does not match")
    if body.get("version") != FILE_VERSION:
        raise ValueError(f"version {body.get('version')}, expected {FILE_VERSION}")
    try:
        entries = tuple(LatchEntry(**one) for one in body["entries"])
        return LatchState(body["generation"], entries)
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f"fields do not fit: {error}") from error


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _write_durably(path: Path, content: bytes, sync: Callable[[int], None]) -> None:
    """Replace a file so that after a power cut it is the old one or the new one, whole."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if os.write(fd, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(fd)
        finally:
            os.close(fd)
        os.replace(fresh, path)
    finally:
        with suppress(OSError):
            os.unlink(fresh)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(directory)
    finally:
        os.close(directory)
