"""A journal from its newest end: one segment at a time, for who needs only what was written last.

A part is read as often as wanted, and holds nothing open between. Damage in a segment that nobody
asks for is not met here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mm_daemon.ipc.journal import is_used
from mm_daemon.ipc.segments import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    W_SYNCED_BYTES,
    JournalError,
    Record,
    Segment,
    TornTail,
    find_end,
    padded,
    segment_indices,
    segment_path,
    written_this_boot,
)


class Part:
    """The records of one segment. `tail` names the torn tail once a reading has met one.

    is_last: no later segment of its journal holds records.
    is_synced: only what is known to be on the disk; damage then ends it and is not raised.
    """

    def __init__(self, path: Path, *, is_last: bool, is_synced: bool = False) -> None:
        self.path = path
        self.tail: TornTail | None = None
        self._is_last = is_last
        self._is_synced = is_synced

    def is_safe(self) -> bool:
        """Whether no host crash can have left a hole: it is on the disk as a whole, or the host is
        up since it was written."""
        try:
            segment = Segment(self.path, writable=False)
        except JournalError:
            return True  # not for a crash of the host to explain
        try:
            sealed = segment.sealed_bytes
            return written_this_boot(segment) or 0 < sealed == segment.words[W_SYNCED_BYTES]
        finally:
            segment.close()

    def __iter__(self) -> Iterator[Record]:
        """Raises: JournalCorruptError where the segment is damaged in the middle."""
        segment = Segment(self.path, writable=False)
        try:
            end = SEGMENT_HEADER_BYTES
            for record in segment.records():
                end = record.offset + padded(RECORD_HEADER_BYTES + len(record.payload))
                if self._is_synced and end > segment.words[W_SYNCED_BYTES]:
                    return
                yield record
            if not self._is_synced and segment.sealed_bytes != end:
                _, self.tail = find_end(segment, end, is_last=self._is_last)
        finally:
            segment.close()


def parts_newest_first(directory: Path, stem: str, *, is_synced: bool = False) -> Iterator[Part]:
    """The segments that hold records, newest first; none behind a hole that counts as a tail.

    Raises: JournalError where one is missing, once those behind it were taken: who goes on needs
    what is not there.
    """
    indices = segment_indices(directory, stem)
    while indices and not is_used(segment_path(directory, stem, indices[-1])):
        indices.pop()
    last = indices[-1] if indices else -1
    kept = _before_hole([segment_path(directory, stem, index) for index in indices])
    expected = indices[len(kept) - 1] if kept else -1
    for index in reversed(indices[: len(kept)]):
        if index != expected:
            break
        expected -= 1
        path = segment_path(directory, stem, index)
        yield Part(path, is_last=index == last, is_synced=is_synced)
    if expected >= 0:
        raise JournalError(
            f"{segment_path(directory, stem, expected)}: missing, and no later one holds a whole"
            " checkpoint: restore it from a copy or move the session aside"
        )


def _before_hole(oldest_first: list[Path]) -> list[Path]:
    """Without those behind a hole that the host left when it went down.

    Segments are synced in their order, so a hole is behind the last that is safe: one or two are
    read for it, and on most starts none.
    """
    kept = oldest_first
    for place in range(len(oldest_first) - 2, -1, -1):
        part = Part(oldest_first[place], is_last=False)
        if part.is_safe():
            break
        # Damage that is no hole is met by who needs this segment.
        with suppress(JournalError):
            for _ in part:
                pass
        if part.tail is not None:
            kept = oldest_first[: place + 1]
    return kept
