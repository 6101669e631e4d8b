"""A journal from its newest end: one segment at a time, for who needs only what was written last.

A part is read as often as wanted, and holds nothing open between. Damage in a segment that nobody
asks for is not met here.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """The segments that hold records, newest first.

    Raises: JournalError where one is missing, once those behind it were taken: who goes on needs
    what is not there.
    """
    indices = segment_indices(directory, stem)
    is_last = True
    expected = indices[-1] if indices else -1
    for index in reversed(indices):
        if index != expected:
            break
        expected -= 1
        path = segment_path(directory, stem, index)
        if is_used(path):
            yield Part(path, is_last=is_last, is_synced=is_synced)
            is_last = False
    if expected >= 0:
        raise JournalError(
            f"{segment_path(directory, stem, expected)}: missing, and no later one holds a whole"
            " checkpoint: restore it from a copy or move the session aside"
        )
