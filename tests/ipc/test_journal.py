"""A journal over many segments, its live readers, its keeper, and a killed writer."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.ipc import ledger, tape
from mm_daemon.ipc.journal import (
    JournalCorruptError,
    JournalError,
    JournalKeeper,
    JournalReader,
    JournalWriter,
    prune,
    recover,
    verify,
)
from mm_daemon.ipc.segments import (
    RECORD_HEADER_BYTES,
    W_SYNCED_BYTES,
    W_USED_BYTES,
    Segment,
    segment_indices,
    segment_path,
)

SEGMENT_BYTES = 4096

records = st.lists(
    st.tuples(
        st.integers(0, 255), st.integers(0, 255), st.integers(0, 1 << 63), st.binary(max_size=1500)
    ),
    max_size=30,
)


def writer(directory: Path) -> JournalWriter:
    return JournalWriter(directory, "j", segment_bytes=SEGMENT_BYTES)


def fill(journal: JournalWriter, count: int, size: int = 500) -> list[bytes]:
    payloads = [i.to_bytes(4, "big") * (size // 4) for i in range(count)]
    for i, payload in enumerate(payloads):
        journal.append(1, 0, i, payload)
    return payloads


def read(directory: Path) -> list[bytes]:
    return [record.payload for record in JournalReader(directory, "j")]


def header(directory: Path, index: int, word: int) -> int:
    segment = Segment(segment_path(directory, "j", index), writable=False)
    value = segment.words[word]
    segment.close()
    return value


@settings(max_examples=60)
@given(written=records, closes=st.booleans())
def test_what_is_appended_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[tuple[int, int, int, bytes]],
    closes: bool,
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = writer(directory)
    positions = [journal.append(*one) for one in written]
    if closes:
        journal.close()
    found = list(JournalReader(directory, "j"))
    assert [(r.type, r.flags, r.ts_ns, r.payload) for r in found] == written
    assert [r.segment << 32 | r.offset for r in found] == positions
    assert positions == sorted(positions)


def test_closed_journal_is_trimmed_to_its_records_and_marked_synced(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    fill(journal, 20)
    journal.close()
    last = segment_indices(tmp_path, "j")[-1]
    size = segment_path(tmp_path, "j", last).stat().st_size
    assert size < SEGMENT_BYTES
    assert header(tmp_path, last, W_SYNCED_BYTES) == size == header(tmp_path, last, W_USED_BYTES)
    assert verify(tmp_path, "j") == (20, None)


def test_next_segment_is_there_before_it_is_needed(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    assert segment_indices(tmp_path, "j") == [0, 1]
    fill(journal, 7)
    assert segment_indices(tmp_path, "j") == [0, 1]
    fill(journal, 5)
    assert segment_indices(tmp_path, "j") == [0, 1, 2]


def test_reopening_starts_a_new_segment_behind_what_is_there(tmp_path: Path) -> None:
    first = fill(writer(tmp_path), 3)
    again = writer(tmp_path)
    assert again.torn_tail is None
    second = fill(again, 3)
    assert read(tmp_path) == first + second


def test_record_larger_than_a_segment_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    with pytest.raises(JournalError, match="raise segment_bytes"):
        journal.append(1, 0, 0, bytes(SEGMENT_BYTES))
    journal.append(1, 0, 0, b"fits")
    assert read(tmp_path) == [b"fits"]


@pytest.mark.parametrize("size", [100, 4097, 5000])
def test_odd_segment_sizes_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(JournalError, match="expected a multiple"):
        JournalWriter(tmp_path, "j", segment_bytes=size)


def test_live_reader_follows_the_writer_over_segments(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    reader = JournalReader(tmp_path, "j", is_live=True)
    assert list(reader) == []
    for turn in range(20):
        payload = bytes([turn]) * 700
        journal.append(1, 0, turn, payload)
        assert [record.payload for record in reader] == [payload]
    assert list(reader) == []
    reader.close()


def test_missing_segment_in_the_middle_is_named(tmp_path: Path) -> None:
    fill(writer(tmp_path), 30)
    segment_path(tmp_path, "j", 1).unlink()
    with pytest.raises(JournalError, match=r"j-000001.seg: missing"):
        read(tmp_path)


def test_short_segment_before_others_is_corruption(tmp_path: Path) -> None:
    """A torn tail is forgiven only where nothing follows."""
    fill(writer(tmp_path), 30)
    path = segment_path(tmp_path, "j", 0)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(JournalCorruptError) as caught:
        read(tmp_path)
    assert caught.value.path == path


@contextmanager
def no_new_segments() -> Iterator[None]:
    """Makes the kernel refuse any new file of a segment's size, as a full disk does.

    Left inside the test: pytest's own report may be a file, and longer than a segment.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT_BYTES // 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_shows_before_an_append_fails_and_loses_nothing(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    appended: list[tuple[bytes, bool]] = []

    def append(payload: bytes) -> None:
        journal.append(1, 0, 0, payload)
        appended.append((payload, journal.fault is not None))

    with no_new_segments(), pytest.raises(JournalError, match="cannot preallocate"):
        any(append(bytes([i]) * 500) for i in range(100))
    # Two segments of seven records; the second one's half is passed by its fourth record.
    assert [is_faulty for _, is_faulty in appended] == [False] * 10 + [True] * 4
    assert read(tmp_path) == [payload for payload, _ in appended]


def test_keeper_marks_what_is_on_disk_and_prepares_the_next_segment(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    keeper = JournalKeeper(tmp_path, ["j"])
    journal.append(1, 0, 0, b"x" * 100)
    assert header(tmp_path, 0, W_SYNCED_BYTES) == 0
    keeper.sync()
    assert header(tmp_path, 0, W_SYNCED_BYTES) == header(tmp_path, 0, W_USED_BYTES) > 100
    segment_path(tmp_path, "j", 1).unlink()
    keeper.prepare()
    assert segment_indices(tmp_path, "j") == [0, 1]
    keeper.prepare()
    assert segment_indices(tmp_path, "j") == [0, 1]


def test_tapes_of_all_sessions_are_pruned_to_one_bound_and_ledgers_never(tmp_path: Path) -> None:
    older, newer = tmp_path / "1", tmp_path / "2"
    for directory in (older, newer):
        directory.mkdir()
        fill(tape.Tape(directory, segment_bytes=SEGMENT_BYTES), 60)
        fill(ledger.Ledger(directory, segment_bytes=SEGMENT_BYTES), 60)
    ledger_before = segment_indices(older, ledger.STEM)
    tapes = len(segment_indices(newer, tape.STEM))
    assert tapes > 4
    prune([older, newer], tape.STEM, (tapes + 1) * SEGMENT_BYTES)
    assert len(segment_indices(older, tape.STEM)) == 1, "the oldest session goes first"
    assert len(segment_indices(newer, tape.STEM)) == tapes
    prune([older, newer], tape.STEM, 4 * SEGMENT_BYTES)
    assert segment_indices(older, tape.STEM) == []
    assert len(segment_indices(newer, tape.STEM)) == 4
    assert segment_indices(older, ledger.STEM) == ledger_before
    left = [record.ts_ns for record in tape.read_tape(newer)]
    assert left == list(range(left[0], 60))
    assert len(list(ledger.read_ledger(newer))) == 60
    prune([older, newer], tape.STEM, 0)
    assert len(segment_indices(newer, tape.STEM)) == 2, "one is written, one is ready"


def test_writer_killed_at_any_moment_loses_nothing_it_had_reported(tmp_path: Path) -> None:
    """A child prints each position after its append; SIGKILL hits it in full flow."""
    source = (
        "import sys; from pathlib import Path; from mm_daemon.ipc.journal import JournalWriter\n"
        "journal = JournalWriter(Path(sys.argv[1]), 'j', segment_bytes=8192)\n"
        "for i in range(10**9):\n"
        "    journal.append(1, 0, i, i.to_bytes(8, 'big') * (i % 40))\n"
        "    sys.stdout.write(f'{i}\\n'); sys.stdout.flush()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    reported = 0
    while reported < 300:
        reported = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    rest = child.communicate(timeout=10)[0].splitlines(keepends=True)
    reported = max([reported, *(int(line) for line in rest if line.endswith("\n"))])

    recover(tmp_path, "j")

    found = [record.ts_ns for record in JournalReader(tmp_path, "j")]
    assert found == list(range(len(found)))
    assert len(found) > reported


def test_recover_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path, "j") is None
    assert read(tmp_path) == []
    writer(tmp_path)
    assert recover(tmp_path, "j") is None
    assert segment_indices(tmp_path, "j") == []


def test_append_takes_any_bytes_like_payload(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.append(1, 0, 0, memoryview(b"abcdef")[2:])
    assert read(tmp_path) == [b"cdef"]
    assert next(iter(JournalReader(tmp_path, "j"))).offset % 8 == 0
    assert RECORD_HEADER_BYTES == 20
