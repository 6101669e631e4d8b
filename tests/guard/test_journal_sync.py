"""Syncing another process's journals: what is said to be on the disk is there, and what goes is not
needed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mm_daemon.guard.journal_sync import FAULT_NONE, FAULT_SYNC, JournalSyncer
from mm_daemon.guard.log import log
from mm_daemon.ipc.ledger import CHECKPOINT, INTENT, KEYS_FIRST, QUOTE, Ledger
from mm_daemon.ipc.line_pipe import STDERR
from mm_daemon.ipc.page import JOURNAL_FAULT, JOURNAL_SYNC_MONO_NS, Page
from mm_daemon.ipc.segments import (
    W_SYNCED_BYTES,
    W_USED_BYTES,
    Segment,
    segment_indices,
    segment_path,
)
from mm_daemon.ipc.tape import Tape

TAPE_BYTES_MAX = 1 << 20


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page.create(tmp_path / "page")
    yield page
    page.close()


def syncer_of(
    page: Page, *, tape_bytes_max: int = TAPE_BYTES_MAX, ledger_bytes_max: int = TAPE_BYTES_MAX
) -> JournalSyncer:
    return JournalSyncer(
        page, 1.0, tape_bytes_max=tape_bytes_max, ledger_bytes_max=ledger_bytes_max
    )


@contextmanager
def log_read() -> Iterator[int]:
    """Where the guard's log of this process can be read meanwhile; the test itself must enter it,
    for its runner changes the same descriptor between the phases of a test."""
    reader, writer = os.pipe()
    before = os.dup(STDERR)
    os.dup2(writer, STDERR)
    yield reader
    os.dup2(before, STDERR)
    for fd in (before, reader, writer):
        os.close(fd)


def header(path: Path) -> tuple[int, int]:
    segment = Segment(path, writable=False)
    try:
        return segment.words[W_USED_BYTES], segment.words[W_SYNCED_BYTES]
    finally:
        segment.close()


def test_what_is_marked_as_synced_was_and_a_disk_that_refuses_moves_no_mark(
    tmp_path: Path, page: Page
) -> None:
    session = tmp_path / "session"
    session.mkdir()
    ledger = Ledger(session, segment_bytes=8192)
    ledger.append(INTENT, 0, 1, b"intent")
    syncer = syncer_of(page)
    syncer.follow(session)
    syncer._turn()
    path = segment_path(session, "ledger", 0)
    used, synced = header(path)
    assert used == synced > 0
    assert page.words[JOURNAL_FAULT] == FAULT_NONE
    marked_ns = page.words[JOURNAL_SYNC_MONO_NS]
    assert marked_ns > 0
    path.unlink()
    path.mkdir()  # what cannot be opened for writing
    syncer._turn()
    assert page.words[JOURNAL_SYNC_MONO_NS] == marked_ns
    assert page.words[JOURNAL_FAULT] == FAULT_SYNC
    path.rmdir()
    syncer._turn()
    assert page.words[JOURNAL_SYNC_MONO_NS] > marked_ns


def test_tapes_of_earlier_sessions_count_and_go_first(tmp_path: Path, page: Page) -> None:
    older, newer = tmp_path / "1", tmp_path / "2"
    for session in (older, newer):
        session.mkdir()
        tape = Tape(session, segment_bytes=8192)
        for i in range(40):
            tape.append(INTENT, 0, i, b"x" * 1000)
    before = segment_indices(newer, "tape")
    assert len(before) > 3
    syncer = syncer_of(page, tape_bytes_max=8192 * len(before))
    syncer.follow(newer)
    syncer._turn()
    assert segment_indices(older, "tape") == []
    assert segment_indices(newer, "tape") == before


def test_directory_that_is_no_session_of_ours_keeps_nothing_from_being_pruned(
    tmp_path: Path, page: Page
) -> None:
    """What refuses whoever asks, as a `lost+found` of root's refuses all others."""
    older, newer = tmp_path / "1", tmp_path / "2"
    for session in (older, newer):
        session.mkdir()
        tape = Tape(session, segment_bytes=8192)
        for i in range(40):
            tape.append(INTENT, 0, i, b"x" * 1000)
    stranger = segment_path(older, "tape", 999)
    stranger.symlink_to(stranger)
    syncer = syncer_of(page, tape_bytes_max=8192)
    syncer.follow(newer)
    syncer._turn()
    assert len(segment_indices(newer, "tape")) == 2
    assert page.words[JOURNAL_FAULT] == FAULT_NONE


def test_disk_that_refuses_to_be_looked_at_is_a_fault_and_ends_no_syncing(
    tmp_path: Path, page: Page
) -> None:
    root = tmp_path / "sessions"
    session = root / "1"
    session.mkdir(parents=True)
    ledger = Ledger(session, segment_bytes=8192)
    ledger.append(INTENT, 0, 1, b"intent")
    syncer = syncer_of(page)
    syncer.follow(session)
    kept = tmp_path / "kept"
    root.rename(kept)
    root.symlink_to(root)
    syncer._turn()
    assert page.words[JOURNAL_FAULT] != FAULT_NONE
    root.unlink()
    kept.rename(root)
    marked_ns = page.words[JOURNAL_SYNC_MONO_NS]
    syncer._turn()
    assert page.words[JOURNAL_SYNC_MONO_NS] > marked_ns


def ledger_of(session: Path, *types: int) -> Ledger:
    """A ledger of records that fill a segment by sevens."""
    session.mkdir(exist_ok=True)
    ledger = Ledger(session, segment_bytes=8192)
    for ts_ns, type_ in enumerate(types):
        ledger.append(type_, 0, ts_ns, b"x" * 1000)
    return ledger


def test_ledgers_are_pruned_to_their_bound_but_never_what_a_restart_reads(
    tmp_path: Path, page: Page
) -> None:
    older, newer = tmp_path / "1", tmp_path / "2"
    quotes = [QUOTE] * 28
    ledger_of(older, KEYS_FIRST, CHECKPOINT, *quotes)
    ledger = ledger_of(newer, *quotes, KEYS_FIRST, *quotes, *quotes)
    syncer = syncer_of(page, ledger_bytes_max=8192)
    syncer.follow(newer)
    syncer._turn()
    whole = segment_indices(older, "ledger")
    assert whole[0] == 0, "keys without a checkpoint behind them"
    ledger.append(CHECKPOINT, 0, 99, b"x" * 1000)
    syncer._prune_ledger([older, newer])
    assert segment_indices(older, "ledger") == whole, "the checkpoint is not on the disk yet"
    syncer._pruned_s = float("-inf")
    syncer._turn()
    assert segment_indices(older, "ledger") == []
    assert segment_indices(newer, "ledger")[0] == 4, "from the keys on"


def test_a_ledger_within_its_bound_is_kept_whole(tmp_path: Path, page: Page) -> None:
    session = tmp_path / "1"
    ledger_of(session, *[QUOTE] * 28, KEYS_FIRST, CHECKPOINT)
    before = segment_indices(session, "ledger")
    syncer = syncer_of(page, ledger_bytes_max=8192 * len(before))
    syncer.follow(session)
    syncer._turn()
    assert segment_indices(session, "ledger")[:-1] == before, "and one that is prepared"


def test_damage_in_an_old_segment_of_a_ledger_is_said_once(tmp_path: Path, page: Page) -> None:
    session = tmp_path / "1"
    ledger_of(session, *[QUOTE] * 35)
    path = segment_path(session, "ledger", 1)
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF
    path.write_bytes(content)
    syncer = syncer_of(page)
    text = b""
    with log_read() as reader:
        for _ in range(5):
            syncer._look_over_one([session])
        log("all_looked_at")
        while b"all_looked_at" not in text:  # the log has a thread of its own
            text += os.read(reader, 1 << 16)
    said = [line for line in text.decode().splitlines() if "ledger_damaged" in line]
    assert len(said) == 1
    assert f"{path}: damaged at byte 64" in said[0]
