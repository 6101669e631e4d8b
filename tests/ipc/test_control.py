"""Killing from outside: with a living guard, with an orphan's page, with nothing at all."""

from pathlib import Path

import pytest

from mm_daemon.domain.permission import OPEN, OPERATOR, PRESETS, LatchState, Mask
from mm_daemon.ipc.control import (
    is_in_force,
    live_page,
    open_latch,
    raise_everywhere,
    wait_in_force,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import GENERATION_SEEN, SWEPT_GENERATION, TRADER_PID, Page, PageOwner
from mm_daemon.ipc.wake import drain, open_wake_socket

CANCEL_ALL = PRESETS["cancel_all"]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "run", tmp_path / "state")
    layout.create()
    LatchStore(layout.latch, None).init(ts_ns=1)
    return layout


def published_page(layout: Layout) -> Page:
    page = Page.create(layout.page)
    LatchStore(layout.latch, page).publish()
    assert page.permission == OPEN.permission
    return page


def test_kill_narrows_page_and_file_and_wakes_the_trader(layout: Layout) -> None:
    page = published_page(layout)
    owner = PageOwner.claim(layout.page)
    sleeper = open_wake_socket(layout.wake)
    raised = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    assert Mask(page.permission, page.tasks) == CANCEL_ALL
    assert page.generation == raised.generation
    assert LatchStore(layout.latch, None).load().effective() == CANCEL_ALL
    assert drain(sleeper) == 1
    sleeper.close()
    assert owner is not None
    owner.release()


def test_kill_is_in_force_once_the_gate_has_seen_it_or_the_dead_traders_venue_is_swept(
    layout: Layout,
) -> None:
    page = published_page(layout)
    owner = PageOwner.claim(layout.page)
    assert owner is not None
    page.words[TRADER_PID] = 4711
    raised = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    page.words[GENERATION_SEEN] = raised.generation - 1
    page.words[SWEPT_GENERATION] = raised.generation
    assert not is_in_force(raised)
    assert not wait_in_force(raised, 0.01)
    page.words[GENERATION_SEEN] = raised.generation
    assert wait_in_force(raised, 0.01)
    page.words[GENERATION_SEEN] = 0
    page.words[TRADER_PID] = 0
    assert wait_in_force(raised, 0.01)
    owner.release()


def test_kill_reaches_an_orphan_through_its_guards_leftover_page(layout: Layout) -> None:
    page = published_page(layout)
    raised = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    assert raised.page is None
    assert page.permission == 0
    assert LatchStore(layout.latch, None).load().effective() == CANCEL_ALL


def test_guard_that_was_told_has_the_kill_although_the_latch_file_is_refused(
    layout: Layout,
) -> None:
    published_page(layout)
    owner = PageOwner.claim(layout.page)
    layout.page.write_bytes(b"garbage")
    layout.latch.unlink()
    layout.latch.mkdir()
    raised = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "smoke", ts_ns=2)
    assert raised.is_guard_told
    assert layout.kill_file.read_text() == "smoke\n"
    assert owner is not None
    owner.release()


def test_kill_reaches_a_living_guard_whose_page_cannot_be_read(layout: Layout) -> None:
    """The guard keeps its own mapping and would mend the file by it, so the file is not enough."""
    published_page(layout)
    owner = PageOwner.claim(layout.page)
    layout.page.unlink()
    layout.page.write_bytes(b"garbage")
    raised = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "smoke", ts_ns=2)
    assert raised.is_guard_told
    assert raised.page is None
    assert layout.kill_file.read_text() == "smoke\n"
    assert LatchStore(layout.latch, None).load().effective() == CANCEL_ALL
    assert owner is not None
    owner.release()


def test_leftover_page_never_overwrites_what_the_file_knows(layout: Layout) -> None:
    """The first kill is known to the file alone, because the page came before and went stale."""
    page = published_page(layout)
    LatchStore(layout.latch, None).raise_latch("control:C11", CANCEL_ALL, "loss", ts_ns=2)
    raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=3)
    found = [one.source for one in LatchStore(layout.latch, None).load().entries]
    assert found == ["control:C11", OPERATOR]
    assert page.permission == 0


def test_kill_without_any_daemon_holds_for_the_next_start(layout: Layout) -> None:
    raised = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=2)
    assert not is_in_force(raised)
    page = Page.create(layout.page)
    LatchStore(layout.latch, page).publish()
    assert Mask(page.permission, page.tasks) == CANCEL_ALL


def test_reset_from_outside_goes_to_the_living_page_or_to_the_file(layout: Layout) -> None:
    generation = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=2).generation
    assert live_page(layout) is None
    assert isinstance(open_latch(layout).reset(generation), LatchState)
    page = published_page(layout)
    owner = PageOwner.claim(layout.page)
    assert owner is not None
    generation = raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=3).generation
    assert isinstance(open_latch(layout).reset(generation), LatchState)
    assert page.permission == OPEN.permission
    owner.release()


def test_a_kill_of_one_underlying_without_a_daemon_holds_for_the_next_start(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path / "run", tmp_path / "state")
    layout.create()
    LatchStore(layout.latch, None).init(ts_ns=1)
    raise_everywhere(layout, OPERATOR, CANCEL_ALL, "kill", ts_ns=2, scope="BTC")
    state = LatchStore(layout.latch, None).load()
    assert state.effective("BTC") == CANCEL_ALL
    assert state.effective("ETH") == state.effective() != CANCEL_ALL
