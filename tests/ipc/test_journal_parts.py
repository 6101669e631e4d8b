"""A journal read from its newest end, a segment at a time."""

from pathlib import Path

import pytest

from mm_daemon.ipc.journal import JournalKeeper, JournalReader, JournalWriter
from mm_daemon.ipc.journal_parts import parts_newest_first
from mm_daemon.ipc.segments import (
    W_BOOT_ID,
    W_SYNCED_BYTES,
    JournalCorruptError,
    JournalError,
    Segment,
    segment_path,
)

SEGMENT_BYTES = 4096


def written(directory: Path, count: int = 30) -> JournalWriter:
    journal = JournalWriter(directory, "j", segment_bytes=SEGMENT_BYTES)
    for i in range(count):
        journal.append(1, 0, i, bytes([i]) * 500)
    return journal


def spoil(path: Path, offset: int = 100) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("is_clean", [True, False])
def test_parts_from_the_newest_on_are_the_journal_and_may_be_read_again(
    tmp_path: Path, is_clean: bool
) -> None:
    journal = written(tmp_path)
    if is_clean:
        journal.close()
    whole = list(JournalReader(tmp_path, "j"))
    parts = list(parts_newest_first(tmp_path, "j"))
    assert len(parts) == 5
    for _ in range(2):
        assert [record for part in reversed(parts) for record in part] == whole
    assert [part.tail for part in parts] == [None] * 5


def test_a_torn_tail_ends_the_newest_part_and_is_damage_in_any_other(tmp_path: Path) -> None:
    written(tmp_path)
    newest, older, *_ = parts_newest_first(tmp_path, "j")
    *_, last = newest
    spoil(newest.path, last.offset + 30)
    assert [record.ts_ns for record in newest] == [28]
    assert newest.tail is not None
    assert (newest.tail.path, newest.tail.offset) == (newest.path, last.offset)
    *_, last = older
    spoil(older.path, last.offset + 30)
    with pytest.raises(JournalCorruptError) as caught:
        list(older)
    assert (caught.value.path, caught.value.offset) == (older.path, last.offset)


def test_a_missing_segment_is_met_only_by_who_goes_so_far(tmp_path: Path) -> None:
    written(tmp_path)
    segment_path(tmp_path, "j", 2).unlink()
    parts = parts_newest_first(tmp_path, "j")
    assert [next(parts).path.name for _ in range(2)] == ["j-000004.seg", "j-000003.seg"]
    with pytest.raises(JournalError, match=r"j-000002.seg: missing"):
        next(parts)


def test_what_is_not_on_the_disk_yet_does_not_count_as_synced(tmp_path: Path) -> None:
    journal = written(tmp_path, 5)
    (part,) = parts_newest_first(tmp_path, "j", is_synced=True)
    assert list(part) == []
    JournalKeeper(tmp_path, ["j"]).sync()
    journal.append(1, 0, 5, b"later")
    assert [record.ts_ns for record in part] == [0, 1, 2, 3, 4]


def test_a_journal_of_no_records_has_no_parts(tmp_path: Path) -> None:
    written(tmp_path, 0)
    assert list(parts_newest_first(tmp_path, "j")) == []
    assert list(parts_newest_first(tmp_path / "absent", "j")) == []


def of_an_earlier_boot(path: Path, synced_bytes: int | None = None) -> None:
    segment = Segment(path, writable=True)
    segment.words[W_BOOT_ID] ^= 1
    if synced_bytes is not None:
        segment.words[W_SYNCED_BYTES] = synced_bytes
    segment.close()


@pytest.mark.parametrize("hole", range(5))
def test_what_lies_behind_a_hole_of_a_host_crash_is_lost_as_a_whole(
    tmp_path: Path, hole: int
) -> None:
    """A checkpoint behind it would stand without the trades that were in the hole."""
    written(tmp_path)
    JournalKeeper(tmp_path, ["j"]).sync()
    for index in range(5):
        of_an_earlier_boot(segment_path(tmp_path, "j", index), 0 if index >= hole else None)
    spoil(segment_path(tmp_path, "j", hole), 700)
    whole = list(JournalReader(tmp_path, "j"))
    assert whole[-1].ts_ns == hole * 7
    parts = list(parts_newest_first(tmp_path, "j"))
    assert [record for part in reversed(parts) for record in part] == whole
    assert parts[0].tail is not None
    assert parts[0].tail.offset == 584


def test_the_same_hole_is_damage_where_the_disk_once_had_it_whole(tmp_path: Path) -> None:
    written(tmp_path)
    JournalKeeper(tmp_path, ["j"]).sync()
    for index in range(5):
        of_an_earlier_boot(segment_path(tmp_path, "j", index))
    spoil(segment_path(tmp_path, "j", 2), 700)
    parts = list(parts_newest_first(tmp_path, "j"))
    assert len(parts) == 5
    with pytest.raises(JournalCorruptError):
        list(parts[2])
