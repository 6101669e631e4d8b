"""The shared page, from one and from two processes."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    LATCH,
    LAYOUT_VERSION,
    MAGIC,
    PROGRESS_LOOP,
    W_LAYOUT,
    BootState,
    Page,
    PageError,
    PageOwner,
    TraderState,
    latch_generation,
    latch_permission,
    latch_tasks,
    latch_word,
    page_is_owned,
)

NAMES = ("mm_fills_total", 'mm_quotes_live{underlying="BTC",side="bid"}', "mm_loop_lag_seconds")


@pytest.fixture
def page_path(tmp_path: Path) -> Path:
    return tmp_path / "page"


def run_python(source: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_fresh_page_permits_nothing(page_path: Path) -> None:
    page = Page.create(page_path, NAMES)
    assert (page.permission, page.tasks, page.generation) == (0, 0, 0)
    assert page.trader_state is TraderState.DOWN
    assert page.boot_state is BootState.DOWN


def test_latch_word_carries_its_three_fields_apart() -> None:
    word = latch_word(5, 2, 1 << 40)
    assert (latch_permission(word), latch_tasks(word), latch_generation(word)) == (5, 2, 1 << 40)


def test_another_process_sees_words_and_slots_and_writes_back(page_path: Path) -> None:
    page = Page.create(page_path, NAMES)
    page.words[LATCH] = latch_word(3, 1, 42)
    page.slots[page.slot_index["mm_fills_total"]] = 2.0
    source = (
        "import sys; from pathlib import Path; from mm_daemon.ipc.page import *\n"
        "page = Page.attach(Path(sys.argv[1]))\n"
        "page.words[GENERATION_SEEN] = page.generation\n"
        "page.words[PROGRESS_LOOP] += 7\n"
        "page.trader_state = TraderState.RUNNING\n"
        "page.slots[page.slot_index['mm_fills_total']] += 1.5\n"
        "print(page.permission, page.tasks, page.slot_names)\n"
    )
    printed = run_python(source, str(page_path))
    assert printed == f"3 1 {NAMES}"
    assert page.words[GENERATION_SEEN] == 42
    assert page.words[PROGRESS_LOOP] == 7
    assert page.trader_state is TraderState.RUNNING
    assert page.slots[0] == 3.5


def test_page_without_metrics_has_no_slots(page_path: Path) -> None:
    Page.create(page_path).close()
    page = Page.attach(page_path)
    assert len(page.slots) == 0
    assert page.slot_names == ()


def test_a_metric_declared_twice_is_refused(page_path: Path) -> None:
    with pytest.raises(PageError, match="declared twice"):
        Page.create(page_path, ("a", "b", "a"))


def test_attach_without_page_asks_whether_the_guard_runs(page_path: Path) -> None:
    with pytest.raises(PageError, match="is the guard running"):
        Page.attach(page_path)


def test_attach_to_a_truncated_page_is_refused(page_path: Path) -> None:
    page_path.write_bytes(b"x" * 100)
    with pytest.raises(PageError, match="too few"):
        Page.attach(page_path)


def test_attach_to_another_layout_names_both_versions(page_path: Path) -> None:
    page = Page.create(page_path)
    page.words[W_LAYOUT] = LAYOUT_VERSION + 1
    with pytest.raises(PageError, match=f"layout {LAYOUT_VERSION},.*layout {LAYOUT_VERSION + 1}"):
        Page.attach(page_path)


def test_magic_is_readable_in_a_hex_dump(page_path: Path) -> None:
    Page.create(page_path).close()
    assert page_path.read_bytes()[:8] == MAGIC.to_bytes(8, "little") == b"MM_PAPG1"


def test_metric_slots_are_aligned_for_one_access_each(page_path: Path) -> None:
    for count in range(1, 12):
        names = tuple(f"m{'x' * i}" for i in range(count))
        page = Page.create(page_path, names)
        page.slots[count - 1] = -1.25e300
        assert page_path.read_bytes().index(struct.pack("d", -1.25e300)) % 8 == 0
        page.close()


def test_owner_of_a_page_is_exclusive_until_it_releases(page_path: Path) -> None:
    assert not page_is_owned(page_path)
    owner = PageOwner.claim(page_path)
    assert owner is not None
    assert PageOwner.claim(page_path) is None
    assert page_is_owned(page_path)
    owner.release()
    assert not page_is_owned(page_path)


def test_death_of_the_owner_frees_the_page(page_path: Path) -> None:
    source = (
        "import sys, time; from pathlib import Path; from mm_daemon.ipc.page import PageOwner\n"
        "owner = PageOwner.claim(Path(sys.argv[1])); print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source, str(page_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert page_is_owned(page_path)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=10)
    assert not page_is_owned(page_path)
