"""What survives damage: a crash cut at any byte, a flipped byte, a host crash."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.ipc.journal import JournalReader, JournalWriter, recover, verify
from mm_daemon.ipc.segments import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    W_BOOT_ID,
    W_SYNCED_BYTES,
    JournalCorruptError,
    JournalError,
    Segment,
    allocate_segment,
    find_end,
    padded,
    segment_path,
)

SEGMENT_BYTES = 8192
PAYLOADS = (b"", b"a", b"1234567", b"12345678", b"x" * 100, bytes(64), b"tail")


def dead_journal(directory: Path, payloads: tuple[bytes, ...] = PAYLOADS) -> list[int]:
    """A journal whose writer was killed: neither sealed nor trimmed. Returns where records start
    and, last, where they end."""
    writer = JournalWriter(directory, "j", segment_bytes=SEGMENT_BYTES)
    starts = [writer.append(1, 0, 5 + i, one) for i, one in enumerate(payloads)]
    return [*starts, starts[-1] + padded(RECORD_HEADER_BYTES + len(payloads[-1]))]


def payloads_of(directory: Path) -> list[bytes]:
    return [record.payload for record in JournalReader(directory, "j")]


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_records_start_on_eight_bytes_and_keep_their_fields(tmp_path: Path) -> None:
    starts = dead_journal(tmp_path)
    records = list(JournalReader(tmp_path, "j"))
    assert all(start % 8 == 0 for start in starts)
    assert [r.offset for r in records] == starts[:-1]
    assert [r.payload for r in records] == list(PAYLOADS)
    assert [r.ts_ns for r in records] == list(range(5, 5 + len(PAYLOADS)))


@settings(max_examples=150)
@given(cut=st.integers(0, 10_000), garbage=st.binary(max_size=40))
def test_crash_cut_at_any_byte_keeps_exactly_the_whole_records_before_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes
) -> None:
    """Everything from the cut on is replaced by garbage and zeros, as a dying host may leave."""
    directory = tmp_path_factory.mktemp("cut")
    starts = dead_journal(directory)
    end = starts[-1]
    at = SEGMENT_HEADER_BYTES + cut % (end - SEGMENT_HEADER_BYTES)
    overwrite(segment_path(directory, "j", 0), at, garbage + bytes(end - at))
    survivors = [p for p, after in zip(PAYLOADS, starts[1:], strict=True) if after <= at]

    recover(directory, "j")

    found = payloads_of(directory)
    assert found[: len(survivors)] == survivors
    # The byte after the cut may by chance continue the record that the cut went through.
    assert found == list(PAYLOADS[: len(found)])
    assert len(found) <= len(survivors) + 1
    assert verify(directory, "j") == (len(found), None)


@settings(max_examples=60)
@given(size=st.integers(SEGMENT_HEADER_BYTES, 1000))
def test_truncated_file_gives_the_whole_records_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    directory = tmp_path_factory.mktemp("short")
    starts = dead_journal(directory)
    size = min(size, starts[-1])
    path = segment_path(directory, "j", 0)
    path.write_bytes(path.read_bytes()[:size])
    ends = [
        start + RECORD_HEADER_BYTES + len(p) for start, p in zip(starts, PAYLOADS, strict=False)
    ]
    whole = sum(1 for end in ends if end <= size // 8 * 8)

    recover(directory, "j")

    assert payloads_of(directory) == list(PAYLOADS[:whole])


@settings(max_examples=150)
@given(data=st.data())
def test_flipped_byte_in_the_middle_refuses_and_names_file_and_offset(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("flip")
    starts = dead_journal(directory)
    victim = data.draw(st.integers(0, len(PAYLOADS) - 2))
    start = starts[victim]
    where = start + data.draw(st.integers(0, RECORD_HEADER_BYTES + len(PAYLOADS[victim]) - 1))
    path = segment_path(directory, "j", 0)
    before = path.read_bytes()[where]
    overwrite(path, where, bytes([before ^ data.draw(st.integers(1, 255))]))

    with pytest.raises(JournalCorruptError) as read:
        payloads_of(directory)
    with pytest.raises(JournalCorruptError) as recovered:
        recover(directory, "j")

    for error in (read.value, recovered.value):
        assert (error.path, error.offset) == (path, start)
        assert str(path) in str(error)
        assert f"byte {start}" in str(error)


def test_damaged_last_record_is_cut_and_said_so(tmp_path: Path) -> None:
    starts = dead_journal(tmp_path)
    path = segment_path(tmp_path, "j", 0)
    overwrite(path, starts[-2] + RECORD_HEADER_BYTES, b"X")

    tail = recover(tmp_path, "j")

    assert tail is not None
    assert (tail.path, tail.offset, tail.reason) == (path, starts[-2], "a checksum fails")
    assert tail.bytes_lost == RECORD_HEADER_BYTES + len(PAYLOADS[-1])
    assert payloads_of(tmp_path) == list(PAYLOADS[:-1])
    assert recover(tmp_path, "j") is None


def test_reader_names_the_torn_tail_without_cutting_it(tmp_path: Path) -> None:
    starts = dead_journal(tmp_path)
    overwrite(segment_path(tmp_path, "j", 0), starts[-2] + RECORD_HEADER_BYTES, b"X")
    count, tail = verify(tmp_path, "j")
    assert count == len(PAYLOADS) - 1
    assert tail is not None
    assert tail.offset == starts[-2]


def test_record_without_its_commit_word_is_a_torn_tail(tmp_path: Path) -> None:
    """A writer killed between body and commit leaves bytes behind a zero word."""
    starts = dead_journal(tmp_path)
    overwrite(segment_path(tmp_path, "j", 0), starts[-2], bytes(8))
    tail = recover(tmp_path, "j")
    assert tail is not None
    assert tail.reason == "no record starts here"
    assert payloads_of(tmp_path) == list(PAYLOADS[:-1])


def unsynced_hole(directory: Path, synced: int, boot: bytes | None) -> list[int]:
    """A hole at the third record with good records behind it."""
    starts = dead_journal(directory)
    path = segment_path(directory, "j", 0)
    overwrite(path, starts[2], bytes(starts[3] - starts[2]))
    overwrite(path, W_SYNCED_BYTES * 8, synced.to_bytes(8, "little"))
    if boot is not None:
        overwrite(path, W_BOOT_ID * 8, boot)
    return starts


def test_hole_behind_the_last_sync_of_an_earlier_boot_is_a_lost_tail(tmp_path: Path) -> None:
    starts = unsynced_hole(tmp_path, synced=0, boot=bytes(16))
    tail = recover(tmp_path, "j")
    assert tail is not None
    assert tail.offset == starts[2]
    assert "never synced" in tail.reason
    assert payloads_of(tmp_path) == list(PAYLOADS[:2])


def test_hole_before_the_last_sync_of_an_earlier_boot_is_corruption(tmp_path: Path) -> None:
    starts = unsynced_hole(tmp_path, synced=7000, boot=bytes(16))
    with pytest.raises(JournalCorruptError, match=f"byte {starts[2]}"):
        recover(tmp_path, "j")


def test_hole_written_this_boot_is_corruption_even_unsynced(tmp_path: Path) -> None:
    starts = unsynced_hole(tmp_path, synced=0, boot=None)
    with pytest.raises(JournalCorruptError, match=f"byte {starts[2]}"):
        recover(tmp_path, "j")


def test_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = segment_path(tmp_path, "j", 0)
    path.write_bytes(b"hello" * 100)
    with pytest.raises(JournalError, match=r"j-000000.seg: not a version 1 segment"):
        Segment(path, writable=False)
    path.write_bytes(b"x")
    with pytest.raises(JournalError, match="too few"):
        Segment(path, writable=False)


def test_allocation_is_full_size_and_idempotent(tmp_path: Path) -> None:
    path = allocate_segment(tmp_path, "j", 3, SEGMENT_BYTES)
    inode = path.stat().st_ino
    assert path.stat().st_size == SEGMENT_BYTES
    assert path.stat().st_blocks * 512 >= SEGMENT_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert allocate_segment(tmp_path, "j", 3, SEGMENT_BYTES).stat().st_ino == inode
    assert [p.name for p in tmp_path.iterdir()] == ["j-000003.seg"]


def test_allocation_beyond_the_disk_names_file_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"j-000000.seg: cannot preallocate"):
        allocate_segment(tmp_path, "j", 0, 1 << 60)
    assert list(tmp_path.iterdir()) == []


def test_empty_segment_ends_where_it_starts(tmp_path: Path) -> None:
    segment = Segment(allocate_segment(tmp_path, "j", 0, SEGMENT_BYTES), writable=False)
    assert find_end(segment) == (SEGMENT_HEADER_BYTES, None)
    segment.close()
