"""Segments: preallocated, memory-mapped files of checksummed records, and how to trust one.

A record is committed by the single aligned store of its first word (length and checksum); its body
is written before. So a process killed at any byte leaves either a whole record or none, and a
reader in another process sees only whole ones. Records are padded to eight bytes to keep that
word aligned.

    segment = header (64 bytes) record*            zeros up to the preallocated size
    record  = len u32 | crc32 u32 | type u8 | flags u8 | reserved u16 | ts_ns u64 | payload | pad

`len` counts the 20 header bytes and the payload, so it is never 0; zlib.crc32 runs from type to the
end of the payload, seeded with `len`.

Verification tells two kinds of damage apart. A bad record with nothing good behind it is a torn
tail: a process died, or the host did before the tail reached the disk; it is cut and reported. A
bad record with good ones behind it is corruption and refused by file and offset: cutting there
would lose fills that are known to have happened. One exception: after a host crash pages reach the
disk in any order, so behind the last sync of an earlier boot a hole counts as tail.

This module never decides when to write, rotate or delete; `mm_daemon.ipc.journal` does.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

SEGMENT_MAGIC: Final = 0x3147_4553_5F4D_4D7F
SEGMENT_VERSION: Final = 1
SEGMENT_HEADER_BYTES: Final = 64
SEGMENT_BYTES_DEFAULT: Final = 64 << 20
SEGMENT_BYTES_MIN: Final = 4096
RECORD_HEADER_BYTES: Final = 20
RECORD_ALIGN_BYTES: Final = 8

# Words of the segment header.
W_MAGIC: Final = 0
W_VERSION: Final = 1
W_INDEX: Final = 2
W_USED_BYTES: Final = 3
W_SEALED_BYTES: Final = 4
W_SYNCED_BYTES: Final = 5
W_BOOT_ID: Final = 6  # two words

RECORD_BODY: Final = struct.Struct("<BBHQ")
_SUFFIX: Final = ".seg"
_U32_MASK: Final = 0xFFFF_FFFF


class JournalError(Exception):
    """The journal cannot take or give a record. Nothing risky may be sent after it."""


class JournalCorruptError(JournalError):
    """A record that was once whole is damaged."""

    def __init__(self, path: Path, offset: int, detail: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset} ({detail}) with good records behind it: the file was"
            " changed after it was written; restore it from a copy or move the session aside"
        )
        self.path = path
        self.offset = offset


class Record(NamedTuple):
    """One committed record and where it stands."""

    type: int
    flags: int
    ts_ns: int
    payload: bytes
    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class TornTail:
    """A tail that was (or would be) cut. `bytes_lost` counts up to the last byte written."""

    path: Path
    offset: int
    bytes_lost: int
    reason: str


def segment_path(directory: Path, stem: str, index: int) -> Path:
    """`tape-000007.seg` and the like."""
    return directory / f"{stem}-{index:06d}{_SUFFIX}"


def segment_indices(directory: Path, stem: str) -> list[int]:
    """Indices of the segments present, rising; none where the directory is gone."""
    prefix = f"{stem}-"
    found: list[int] = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return found
    for name in names:
        digits = name[len(prefix) : -len(_SUFFIX)]
        if name.startswith(prefix) and name.endswith(_SUFFIX) and digits.isdigit():
            found.append(int(digits))
    return sorted(found)


def allocate_segment(directory: Path, stem: str, index: int, segment_bytes: int) -> Path:
    """Make an empty segment of full size, so that a full disk shows now and not at a write.

    Idempotent and safe against another process doing the same.

    Raises: JournalError naming the file where the disk or directory refuses.
    """
    path = segment_path(directory, stem, index)
    if path.exists():
        return path
    fresh = directory / f".{path.name}.{os.getpid()}.new"
    try:
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(fd, 0, segment_bytes)
            os.pwrite(fd, _header(index), 0)
        finally:
            os.close(fd)
        with suppress(FileExistsError):
            os.link(fresh, path)
    except OSError as error:
        raise JournalError(
            f"{path}: cannot preallocate {segment_bytes} bytes: {error.strerror}; free space or"
            " lower the tape's retention"
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(fresh)
    return path


def boot_id() -> bytes:
    """16 bytes that change with every boot of the host; zeros where the host does not tell."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return bytes(16)
    return bytes.fromhex(text.replace("-", ""))


def _header(index: int) -> bytes:
    words = struct.pack("=6Q", SEGMENT_MAGIC, SEGMENT_VERSION, index, SEGMENT_HEADER_BYTES, 0, 0)
    return (words + boot_id()).ljust(SEGMENT_HEADER_BYTES, b"\0")


class Segment:
    """One mapped segment. `words` is its 8-byte view, `mapped` its bytes."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        flags = os.O_RDWR if writable else os.O_RDONLY
        try:
            fd = os.open(path, flags)
        except OSError as error:
            raise JournalError(f"{path}: cannot open: {error.strerror}") from error
        try:
            self.size = os.fstat(fd).st_size // RECORD_ALIGN_BYTES * RECORD_ALIGN_BYTES
            if self.size < SEGMENT_HEADER_BYTES:
                raise JournalError(f"{path}: {self.size} bytes are too few for a segment")
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self.mapped = mmap.mmap(fd, self.size, access=access)
        finally:
            os.close(fd)
        self.words: memoryview[int] = memoryview(self.mapped).cast("Q")
        found = (self.words[W_MAGIC], self.words[W_VERSION])
        if found != (SEGMENT_MAGIC, SEGMENT_VERSION):
            self.close()
            raise JournalError(
                f"{path}: not a version {SEGMENT_VERSION} segment (magic {found[0]:#x},"
                f" version {found[1]})"
            )

    @property
    def index(self) -> int:
        return self.words[W_INDEX]

    @property
    def sealed_bytes(self) -> int:
        """Where the records end, once the writer has moved on; 0 before."""
        return self.words[W_SEALED_BYTES]

    def close(self) -> None:
        """Unmap."""
        self.words.release()
        self.mapped.close()

    def record_at(self, offset: int) -> Record | None:
        """The record at `offset`, or None where none is committed or its checksum fails."""
        length = self.length_at(offset)
        if length == 0:
            return None
        crc = self.words[offset >> 3] >> 32
        body = self.mapped[offset + 8 : offset + length]
        if zlib.crc32(body, length) != crc:
            return None
        type_, flags, _, ts_ns = RECORD_BODY.unpack_from(body)
        payload = body[RECORD_HEADER_BYTES - 8 :]
        return Record(type_, flags, ts_ns, payload, self.index, offset)

    def length_at(self, offset: int) -> int:
        """Length of the record that claims to start at `offset`; 0 where it cannot be one."""
        if offset + RECORD_HEADER_BYTES > self.size:
            return 0
        length = self.words[offset >> 3] & _U32_MASK
        fits = RECORD_HEADER_BYTES <= length <= self.size - offset
        return length if fits else 0

    def records(self, offset: int = SEGMENT_HEADER_BYTES) -> Iterator[Record]:
        """Committed records from `offset` on, up to the first place that holds none."""
        while (record := self.record_at(offset)) is not None:
            yield record
            offset += padded(RECORD_HEADER_BYTES + len(record.payload))


def padded(length: int) -> int:
    """A record's length on the file."""
    return length + RECORD_ALIGN_BYTES - 1 & -RECORD_ALIGN_BYTES


def find_end(
    segment: Segment, start: int = SEGMENT_HEADER_BYTES, *, is_last: bool = True
) -> tuple[int, TornTail | None]:
    """Where the good records end, and the torn tail behind them if there is one.

    `start` is a place up to which the records are known to be good. `is_last` says that no later
    segment holds records; else a tail here is a hole in the middle of the journal.

    Raises: JournalCorruptError where a damaged record has good ones behind it.
    """
    end = start
    while (length := segment.length_at(end)) and segment.record_at(end) is not None:
        end += padded(length)
    last = _last_written(segment, end)
    is_short = not is_last and segment.sealed_bytes != end
    if last <= end and not is_short:
        return end, None
    reason = "a checksum fails" if segment.length_at(end) else "no record starts here"
    if is_short or _is_before_good_record(segment, end, last):
        if end < segment.words[W_SYNCED_BYTES] or written_this_boot(segment):
            raise JournalCorruptError(segment.path, end, reason)
        reason += ", never synced before the host went down"
    return end, TornTail(segment.path, end, last - end, reason)


def cut_tail(segment: Segment, end: int) -> None:
    """Zero everything from `end` on, so the segment ends with its last good record."""
    last = _last_written(segment, end)
    segment.mapped[end:last] = bytes(last - end)
    segment.mapped.flush()


def _last_written(segment: Segment, start: int) -> int:
    """One past the last nonzero byte at or behind `start`; `start` where all is zero."""
    chunk = 1 << 20
    low = segment.size
    while low > start:
        high, low = low, max(start, low - chunk)
        tail = segment.mapped[low:high].rstrip(b"\0")
        if tail:
            return low + len(tail)
    return start


def _is_before_good_record(segment: Segment, bad: int, last: int) -> bool:
    """Whether any whole record starts behind the damaged one at `bad`."""
    for offset in range(bad + RECORD_ALIGN_BYTES, last, RECORD_ALIGN_BYTES):
        if segment.length_at(offset) and segment.record_at(offset) is not None:
            return True
    return False


def written_this_boot(segment: Segment) -> bool:
    """Whether the host has been up since this segment was made."""
    start = W_BOOT_ID * 8
    return segment.mapped[start : start + 16] == boot_id()
