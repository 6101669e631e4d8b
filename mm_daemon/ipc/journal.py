"""A journal: an endless row of segments under one stem, with one writer and any number of readers.

The writer only copies bytes into mapped memory, which survives the death of its process at once.
Nothing here waits for a disk while appending: `JournalKeeper` syncs, preallocates and prunes from
another process. The writer preallocates for itself only where no keeper has done so by the time
half a segment is used.

A writer never continues in an old segment: it recovers what is there and starts a new one, so a
record once verified is never next to a byte written later.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mm_daemon.ipc.segments import (
    RECORD_BODY,
    RECORD_HEADER_BYTES,
    SEGMENT_BYTES_DEFAULT,
    SEGMENT_BYTES_MIN,
    SEGMENT_HEADER_BYTES,
    W_SEALED_BYTES,
    W_SYNCED_BYTES,
    W_USED_BYTES,
    JournalCorruptError,
    JournalError,
    Record,
    Segment,
    TornTail,
    allocate_segment,
    cut_tail,
    find_end,
    segment_indices,
    segment_path,
)

_BODY_AT: Final = 8
_SEGMENT_INDEX_SHIFT: Final = 32


class JournalWriter:
    """Appends records. Not for two threads.

    `fault` turns from None to an error as soon as the next segment cannot be had, which is half a
    segment before an append would fail: the gate reads it and stops adding risk while the ledger
    still takes what must be written on the way down.
    """

    def __init__(
        self, directory: Path, stem: str, *, segment_bytes: int = SEGMENT_BYTES_DEFAULT
    ) -> None:
        if segment_bytes < SEGMENT_BYTES_MIN or segment_bytes % mmap.PAGESIZE:
            raise JournalError(
                f"{directory}/{stem}: segment_bytes is {segment_bytes}, expected a multiple of"
                f" {mmap.PAGESIZE} of at least {SEGMENT_BYTES_MIN}"
            )
        self.directory = directory
        self.stem = stem
        self.segment_bytes = segment_bytes
        self.fault: JournalError | None = None
        self.torn_tail = recover(directory, stem)
        indices = segment_indices(directory, stem)
        self._index = indices[-1] + 1 if indices else 0
        allocate_segment(directory, stem, self._index, segment_bytes)
        allocate_segment(directory, stem, self._index + 1, segment_bytes)
        self._segment: Segment
        self._words: memoryview[int]
        self._offset: int = SEGMENT_HEADER_BYTES
        self._limit: int = 0
        self._open()

    def append(self, type_: int, flags: int, ts_ns: int, payload: bytes | memoryview) -> int:
        """Commit one record; returns its position, `segment << 32 | offset`.

        Raises: JournalError where no segment can take it. The record then does not exist.
        """
        length = RECORD_HEADER_BYTES + len(payload)
        offset = self._offset
        end = offset + (length + 7 & -8)
        if end > self._limit:
            offset = self._make_room(length)
            end = offset + (length + 7 & -8)
        body = RECORD_BODY.pack(type_, flags, 0, ts_ns)
        crc = zlib.crc32(payload, zlib.crc32(body, length))
        mapped = self._segment.mapped
        words = self._words
        mapped[offset + _BODY_AT : offset + RECORD_HEADER_BYTES] = body
        mapped[offset + RECORD_HEADER_BYTES : offset + length] = payload
        words[offset >> 3] = crc << 32 | length
        words[W_USED_BYTES] = end
        self._offset = end
        return self._index << _SEGMENT_INDEX_SHIFT | offset

    def close(self) -> None:
        """Sync, seal and trim. The journal then ends where its last record does."""
        segment = self._segment
        words = self._words
        words[W_SEALED_BYTES] = self._offset
        segment.mapped.flush()
        words[W_SYNCED_BYTES] = self._offset
        segment.close()
        _trim(segment.path, self._offset)
        _drop_after(self.directory, self.stem, self._index)

    def _open(self) -> None:
        path = segment_path(self.directory, self.stem, self._index)
        self._segment = Segment(path, writable=True)
        self._words = self._segment.words
        self._offset = SEGMENT_HEADER_BYTES
        self._limit = self._segment.size // 2

    def _make_room(self, length: int) -> int:
        """The slow path of `append`: look for the next segment at half, change over at the end."""
        if length > self.segment_bytes - SEGMENT_HEADER_BYTES:
            raise JournalError(
                f"{self.directory}/{self.stem}: a record of {length} bytes does not fit a segment"
                f" of {self.segment_bytes}: raise segment_bytes"
            )
        if self._limit < self._segment.size:
            self._limit = self._segment.size
            try:
                allocate_segment(self.directory, self.stem, self._index + 1, self.segment_bytes)
            except JournalError as error:
                self.fault = error
            if self._offset + (length + 7 & -8) <= self._limit:
                return self._offset
        allocate_segment(self.directory, self.stem, self._index + 1, self.segment_bytes)
        self._words[W_SEALED_BYTES] = self._offset
        self._segment.close()
        self._index += 1
        self._open()
        return self._offset


class JournalReader:
    """Reads a journal from its oldest segment on.

    `tail` names the torn tail once a reading of a finished journal has met one.
    """

    def __init__(self, directory: Path, stem: str, *, is_live: bool = False) -> None:
        self.directory = directory
        self.stem = stem
        self.is_live = is_live
        self.tail: TornTail | None = None
        self._segment: Segment | None = None
        self._offset = SEGMENT_HEADER_BYTES

    def __iter__(self) -> Iterator[Record]:
        """Records not given yet. On a live journal, iterate again for what came since.

        Raises: JournalCorruptError where a finished journal is damaged in the middle, JournalError
        where a segment is missing.
        """
        while True:
            if self._segment is None and not self._open_first():
                return
            segment = self._segment
            assert segment is not None
            while (record := segment.record_at(self._offset)) is not None:
                self._offset += RECORD_HEADER_BYTES + len(record.payload) + 7 & -8
                yield record
            if not self._step_over(segment):
                return

    def close(self) -> None:
        """Unmap the segment in hand."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _open_first(self) -> bool:
        indices = segment_indices(self.directory, self.stem)
        if not indices:
            return False
        self._open(indices[0])
        return True

    def _open(self, index: int) -> None:
        self.close()
        self._segment = Segment(segment_path(self.directory, self.stem, index), writable=False)
        self._offset = SEGMENT_HEADER_BYTES

    def _step_over(self, segment: Segment) -> bool:
        """Go on to the next segment if this one is done; else look at what stopped us."""
        index = segment.index
        if segment.sealed_bytes == self._offset:
            later = [i for i in segment_indices(self.directory, self.stem) if i > index]
            if not later:
                return False
            if later[0] != index + 1:
                missing = segment_path(self.directory, self.stem, index + 1)
                raise JournalError(f"{missing}: missing, though {later[0]:06d} is there")
            self._open(index + 1)
            return True
        if not self.is_live:
            is_last = not _has_records_after(self.directory, self.stem, index)
            _, self.tail = find_end(segment, self._offset, is_last=is_last)
        return False


class JournalKeeper:
    """Syncs and preallocates another process's journals, by path.

    A sync marks how far the file is safe, which is how recovery after a host crash tells a lost
    tail from damage.
    """

    def __init__(self, directory: Path, stems: Sequence[str]) -> None:
        self.directory = directory
        self._stems = stems
        self._synced: dict[Path, int] = {}
        self._finished: set[Path] = set()

    def sync(self) -> None:
        """Bring every written byte to the disk.

        Raises: JournalError naming the file where the disk refuses.
        """
        for stem in self._stems:
            for index in segment_indices(self.directory, stem):
                self._sync_segment(segment_path(self.directory, stem, index))

    def prepare(self) -> None:
        """Preallocate the segment after the newest one in use.

        Raises: JournalError where the disk is full.
        """
        for stem in self._stems:
            indices = segment_indices(self.directory, stem)
            if indices and is_used(segment_path(self.directory, stem, indices[-1])):
                newest = segment_path(self.directory, stem, indices[-1])
                allocate_segment(self.directory, stem, indices[-1] + 1, newest.stat().st_size)

    def _sync_segment(self, path: Path) -> None:
        if path in self._finished:
            return
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"{path}: cannot sync: {error.strerror}") from error
        try:
            used = _header_word(fd, W_USED_BYTES)
            sealed = _header_word(fd, W_SEALED_BYTES)
            done = used + sealed
            if self._synced.get(path) == done:
                return
            os.fdatasync(fd)
            os.pwrite(fd, used.to_bytes(8, "little"), W_SYNCED_BYTES * 8)
            self._synced[path] = done
            if sealed:
                self._finished.add(path)
        except OSError as error:
            raise JournalError(f"{path}: cannot sync: {error.strerror}") from error
        finally:
            os.close(fd)


def recover(
    directory: Path, stem: str, on_tail: Callable[[TornTail], None] | None = None
) -> TornTail | None:
    """Cut the torn tail a dead writer left, trim the last segment, drop empty ones.

    Only the newest segment with records is verified; reading verifies the rest.

    Raises: JournalCorruptError where damage in it has good records behind it.
    """
    indices = segment_indices(directory, stem)
    while indices and not is_used(segment_path(directory, stem, indices[-1])):
        segment_path(directory, stem, indices.pop()).unlink()
    if not indices:
        return None
    segment = Segment(segment_path(directory, stem, indices[-1]), writable=True)
    try:
        end, tail = find_end(segment)
        if tail is not None:
            cut_tail(segment, end)
        segment.words[W_USED_BYTES] = end
        segment.words[W_SEALED_BYTES] = end
        segment.mapped.flush()
        segment.words[W_SYNCED_BYTES] = end
    finally:
        segment.close()
    _trim(segment.path, end)
    if tail is not None and on_tail is not None:
        on_tail(tail)
    return tail


def verify(directory: Path, stem: str) -> tuple[int, TornTail | None]:
    """Read a finished journal whole: its number of records and its torn tail, if any.

    Raises: JournalCorruptError naming file and offset of damage in the middle.
    """
    reader = JournalReader(directory, stem)
    try:
        return sum(1 for _ in reader), reader.tail
    finally:
        reader.close()


def prune(
    oldest_first: Iterable[Path],
    stem: str,
    retain_bytes: int,
    *,
    needed_from: Callable[[], Path | None] = lambda: None,
) -> tuple[list[Path], list[OSError]]:
    """Delete the oldest segments until what is left in all of these directories fits.

    The newest two always stay: a writer has one open and the other is prepared for it. So does
    what is not older than the segment that `needed_from` names, which is asked only where
    something has to go. Returns what went, and what the disk refused: a file that is not ours, or
    that a person removes at the same time, keeps nothing else from being pruned.
    """
    sized: list[tuple[Path, int]] = []
    gone: list[Path] = []
    refused: list[OSError] = []
    for directory in oldest_first:
        for index in segment_indices(directory, stem):
            path = segment_path(directory, stem, index)
            try:
                sized.append((path, path.stat().st_size))
            except OSError as error:
                refused.append(error)
    total = sum(size for _, size in sized)
    if total <= retain_bytes:
        return gone, refused
    needed = needed_from()
    for path, size in sized[:-2]:
        if total <= retain_bytes or path == needed:
            break
        try:
            path.unlink()
        except OSError as error:
            refused.append(error)
        else:
            total -= size
            gone.append(path)
    return gone, refused


def _header_word(fd: int, index: int) -> int:
    return int.from_bytes(os.pread(fd, 8, index * 8), "little")


def is_used(path: Path) -> bool:
    """Whether any record was begun in this segment."""
    segment = Segment(path, writable=False)
    try:
        start = SEGMENT_HEADER_BYTES
        is_touched = any(segment.mapped[start : start + RECORD_HEADER_BYTES])
        return segment.words[W_USED_BYTES] > start or is_touched
    finally:
        segment.close()


def _has_records_after(directory: Path, stem: str, index: int) -> bool:
    later = (i for i in segment_indices(directory, stem) if i > index)
    return any(is_used(segment_path(directory, stem, i)) for i in later)


def _trim(path: Path, end: int) -> None:
    """Give back the preallocated space behind the last record."""
    with suppress(OSError):
        os.truncate(path, end)


def _drop_after(directory: Path, stem: str, index: int) -> None:
    for later in segment_indices(directory, stem):
        if later > index:
            segment_path(directory, stem, later).unlink(missing_ok=True)


__all__ = [
    "JournalCorruptError",
    "JournalError",
    "JournalKeeper",
    "JournalReader",
    "JournalWriter",
    "Record",
    "TornTail",
    "is_used",
    "prune",
    "recover",
    "verify",
]
