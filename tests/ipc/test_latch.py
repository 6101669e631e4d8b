"""The latch: fail closed, safe between processes, never widened over a raise."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.domain.permission import (
    CRASH,
    LATCH_FILE,
    OPEN,
    OPERATOR,
    PRESETS,
    Clearer,
    LatchRefusal,
    LatchRefused,
    LatchState,
    Mask,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.locks import file_lock
from mm_daemon.ipc.page import LATCH, LATCH_ROWS, Page, latch_word

CANCEL_ALL = PRESETS["cancel_all"]
NOTHING = Mask(0, 0)
HALT = PRESETS["halt_quoting"]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page.create(tmp_path / "page")
    yield page
    page.close()


@pytest.fixture
def store(tmp_path: Path, page: Page) -> LatchStore:
    store = LatchStore(tmp_path / "latch.json", page)
    store.init(ts_ns=1)
    return store


def page_mask(page: Page) -> Mask:
    return Mask(page.permission, page.tasks)


def test_missing_file_counts_as_latched_and_says_how_to_create_it(tmp_path: Path) -> None:
    state = LatchStore(tmp_path / "latch.json", None).load()
    assert state.effective() == NOTHING
    assert state.entries[0].source == LATCH_FILE
    assert "reset --init" in state.entries[0].reason


def test_reset_does_not_lift_a_missing_file_but_init_does(tmp_path: Path) -> None:
    store = LatchStore(tmp_path / "latch.json", None)
    refused = store.reset(store.load().generation, (LATCH_FILE,))
    assert isinstance(refused, LatchRefused)
    assert store.load().effective() == NOTHING
    done = store.init(ts_ns=1)
    assert isinstance(done, LatchState)
    assert store.load().effective() == OPEN


def test_init_of_a_whole_latch_is_refused(store: LatchStore) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    refused = store.init(ts_ns=3)
    assert isinstance(refused, LatchRefused)
    assert store.load().effective() == CANCEL_ALL


@settings(max_examples=80)
@given(data=st.data())
def test_any_changed_byte_of_the_file_counts_as_latched_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whitespace may change without harm; the meaning may not."""
    store = LatchStore(tmp_path_factory.mktemp("latch") / "latch.json", None)
    store.init(ts_ns=1)
    store.raise_latch("control:C5", HALT, "stale", ts_ns=2)
    before = store.load()
    content = bytearray(store.path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    store.path.write_bytes(bytes(content))
    after = store.load()
    assert after == before or after.effective() == CANCEL_ALL


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"latch": {}}', b"\xff\xfe", b'{"sha256": 1}']
)
def test_damaged_file_is_latched_and_init_keeps_its_bytes(tmp_path: Path, content: bytes) -> None:
    store = LatchStore(tmp_path / "latch.json", None)
    store.path.write_bytes(content)
    assert store.load().effective() == CANCEL_ALL
    assert "damaged" in store.load().entries[0].reason
    store.init(ts_ns=77)
    assert store.load().effective() == OPEN
    assert (tmp_path / "latch.json.damaged-77").read_bytes() == content


def test_truncated_file_at_every_length_counts_as_latched(tmp_path: Path) -> None:
    store = LatchStore(tmp_path / "latch.json", None)
    store.init(ts_ns=1)
    content = store.path.read_bytes()
    for size in range(len(content)):
        store.path.write_bytes(content[:size])
        assert store.load().effective() == CANCEL_ALL, size


def test_file_with_bits_that_do_not_exist_counts_as_latched(tmp_path: Path) -> None:
    """A right checksum over a wrong content is no pass."""
    import hashlib

    store = LatchStore(tmp_path / "latch.json", None)
    row = {"source": OPERATOR, "permission": 255, "tasks": 0, "reason": "x", "ts_ns": 1}
    body = {"version": 1, "generation": 1, "entries": [row]}
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    store.path.write_text(json.dumps({"sha256": checksum, "latch": body}))
    assert store.load().entries[0].source == LATCH_FILE


def test_raise_narrows_page_and_file_and_counts_generations(store: LatchStore, page: Page) -> None:
    before = page.generation
    first = store.raise_latch(OPERATOR, HALT, "a", ts_ns=2)
    second = store.raise_latch(CRASH, CANCEL_ALL, "b", ts_ns=3)
    assert [first, second] == [before + 1, before + 2]
    assert page.generation == second
    assert page_mask(page) == CANCEL_ALL
    assert store.load() == store.state()
    assert [one.reason for one in store.load().entries] == ["b", "a"]


def test_page_is_narrowed_even_where_the_disk_refuses(tmp_path: Path, page: Page) -> None:
    store = LatchStore(tmp_path / "gone" / "latch.json", page)
    page.words[LATCH] = latch_word(OPEN.permission, 0, 5)
    with pytest.raises(OSError, match="latch"):
        store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=1)
    assert page_mask(page) == CANCEL_ALL
    assert page.generation == 6


def test_file_is_on_the_disk_before_it_has_its_name_and_then_its_name_is(
    tmp_path: Path, page: Page
) -> None:
    path = tmp_path / "latch.json"
    synced: list[tuple[int, int]] = []
    named_before: list[int] = []

    def sync(fd: int) -> None:
        status = os.fstat(fd)
        synced.append((status.st_ino, status.st_size))
        named_before.append(path.stat().st_ino if path.exists() else 0)

    store = LatchStore(path, page, sync=sync)
    store.init(ts_ns=1)
    synced.clear()
    named_before.clear()
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    file, directory = path.stat(), tmp_path.stat()
    assert synced[0] == (file.st_ino, file.st_size)
    assert named_before[0] != file.st_ino
    assert synced[1][0] == directory.st_ino
    assert named_before[1] == file.st_ino


def test_latch_survives_the_daemon(tmp_path: Path, store: LatchStore) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    reborn = Page.create(tmp_path / "page2")
    LatchStore(store.path, reborn).publish()
    assert page_mask(reborn) == CANCEL_ALL
    assert reborn.generation == store.state().generation


def test_kill_while_no_daemon_runs_holds_for_the_next_start(tmp_path: Path) -> None:
    store = LatchStore(tmp_path / "latch.json", None)
    store.init(ts_ns=1)
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    page = Page.create(tmp_path / "page")
    LatchStore(store.path, page).publish()
    assert page_mask(page) == CANCEL_ALL


def test_crash_clears_by_the_guard_and_leaves_the_operator_latched(
    store: LatchStore, page: Page
) -> None:
    store.raise_latch(OPERATOR, HALT, "kill", ts_ns=2)
    store.raise_latch(CRASH, CANCEL_ALL, "died", ts_ns=3)
    assert isinstance(store.clear(OPERATOR, Clearer.GUARD), LatchRefused)
    assert isinstance(store.clear(CRASH, Clearer.GUARD), LatchState)
    assert page_mask(page) == HALT
    assert store.load() == store.state()


def test_reset_needs_the_generation_that_holds(store: LatchStore, page: Page) -> None:
    seen = store.raise_latch(OPERATOR, CANCEL_ALL, "one", ts_ns=2)
    store.raise_latch(OPERATOR, CANCEL_ALL, "two", ts_ns=3)
    refused = store.reset(seen)
    assert isinstance(refused, LatchRefused)
    assert refused.code is LatchRefusal.STALE_GENERATION
    assert page_mask(page) == CANCEL_ALL
    done = store.reset(page.generation)
    assert isinstance(done, LatchState)
    assert page_mask(page) == OPEN
    assert page.generation == done.generation == seen + 2
    assert store.load().effective() == OPEN


class RaisingStore(LatchStore):
    """Another process raises between the file and the page of a reset."""

    def __init__(self, path: Path, page: Page, other: LatchStore) -> None:
        super().__init__(path, page)
        self._other: LatchStore | None = other

    def _write_file(self, state: LatchState) -> None:
        super()._write_file(state)
        if self._other is not None:
            other, self._other = self._other, None
            other.raise_page("control:C11", CANCEL_ALL, "loss", ts_ns=9)


def test_raise_during_a_reset_wins_and_the_file_says_so(store: LatchStore, page: Page) -> None:
    store.raise_latch(OPERATOR, HALT, "kill", ts_ns=2)
    racing = RaisingStore(store.path, page, store)
    refused = racing.reset(page.generation)
    assert isinstance(refused, LatchRefused)
    assert page_mask(page) == CANCEL_ALL
    assert [one.source for one in store.load().entries] == ["control:C11", OPERATOR]
    assert store.load() == store.state()


def test_raise_during_the_guards_clear_stays_in_force(store: LatchStore, page: Page) -> None:
    store.raise_latch(CRASH, CANCEL_ALL, "died", ts_ns=2)
    racing = RaisingStore(store.path, page, store)
    done = racing.clear(CRASH, Clearer.GUARD)
    assert isinstance(done, LatchState)
    assert [one.source for one in done.entries] == ["control:C11"]
    assert page_mask(page) == CANCEL_ALL
    assert store.load() == store.state()


def test_many_processes_raising_at_once_lose_no_mask(tmp_path: Path, store: LatchStore) -> None:
    source = (
        "import sys; from pathlib import Path\n"
        "from mm_daemon.ipc.page import Page; from mm_daemon.ipc.latch import LatchStore\n"
        "from mm_daemon.domain.permission import Mask\n"
        "root, who = Path(sys.argv[1]), sys.argv[2]\n"
        "store = LatchStore(root / 'latch.json', Page.attach(root / 'page'))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for i in range(15):\n"
        "    mask = Mask(7 & ~(1 << i % 3), 0)\n"
        "    store.raise_latch(f'control:{who}-{i % 3}', mask, who, ts_ns=i)\n"
    )
    before = store.state().generation
    children = [
        subprocess.Popen(
            [sys.executable, "-c", source, str(tmp_path), who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in "abcd"
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.wait(30) for child in children] == [0, 0, 0, 0]
    state = store.state()
    assert len(state.entries) == 12
    assert state.generation == before + 60
    assert state.effective().permission == 0
    assert store.load() == state


def test_raise_does_not_wait_for_a_stopped_holder_of_the_lock(
    tmp_path: Path, store: LatchStore, page: Page
) -> None:
    source = (
        "import sys; from pathlib import Path; from mm_daemon.ipc.locks import file_lock\n"
        "with file_lock(Path(sys.argv[1]), 1.0):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path / "page.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    os.kill(child.pid, signal.SIGSTOP)
    store.raise_page(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    assert page_mask(page) == CANCEL_ALL
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=10)
    assert store.state().effective() == CANCEL_ALL


def test_reassert_mends_a_page_that_a_late_writer_widened(store: LatchStore, page: Page) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    store.reassert()
    assert not store.reassert()
    page.words[LATCH] = latch_word(OPEN.permission, 0, page.generation)
    assert store.reassert()
    assert page_mask(page) == CANCEL_ALL
    assert store.load() == store.state()


def test_reassert_mends_a_file_that_a_late_writer_put_back(store: LatchStore) -> None:
    old = store.path.read_bytes()
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    store.reassert()
    store.path.write_bytes(old)
    assert store.load().effective() == OPEN
    assert store.reassert()
    assert store.load().effective() == CANCEL_ALL


def test_more_sources_than_rows_still_narrow(store: LatchStore, page: Page) -> None:
    for i in range(LATCH_ROWS):
        store.raise_page(f"control:{i}", Mask(7, 0), "x", ts_ns=i)
    store.raise_page("control:late", CANCEL_ALL, "late", ts_ns=99)
    assert page_mask(page) == CANCEL_ALL
    assert store.state().effective() == CANCEL_ALL


def test_long_reasons_are_cut_and_never_refused(store: LatchStore) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "ü" * 5000, ts_ns=2)
    reason = store.load().entries[0].reason
    assert set(reason) == {"ü"}
    assert 100 < len(reason.encode()) <= 247


def test_hard_stop_blocks_starting_until_its_file_is_removed(store: LatchStore) -> None:
    assert store.start_block() is None
    store.block_start("limits breached by bug")
    block = store.start_block()
    assert block is not None
    assert "limits breached by bug" in block
    assert str(store.path.with_name("start-blocked")) in block
    store.path.with_name("start-blocked").unlink()
    assert store.start_block() is None


def test_lock_is_refused_in_time_and_free_again_after(tmp_path: Path) -> None:
    with file_lock(tmp_path / "l", 1.0) as first:
        assert first
        with file_lock(tmp_path / "l", 0.01) as second:
            assert not second
    with file_lock(tmp_path / "l", 1.0) as third:
        assert third
