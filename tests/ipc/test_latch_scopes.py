"""Latches of single underlyings over page and file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_daemon.domain.permission import (
    OPEN,
    OPEN_SCOPES,
    OPERATOR,
    PRESETS,
    Clearer,
    LatchState,
    Mask,
    scope_mask,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import LATCH, LATCH_ROWS, SCOPED_MASKS, Page, latch_generation

CANCEL_ALL, HALT = PRESETS["cancel_all"], PRESETS["halt_quoting"]
SCOPES = ("BTC", "ETH")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page.create(tmp_path / "page", ("a", "b"), SCOPES)
    yield page
    page.close()


@pytest.fixture
def store(tmp_path: Path, page: Page) -> LatchStore:
    store = LatchStore(tmp_path / "latch.json", page)
    store.init(ts_ns=1)
    return store


def own(page: Page, scope: str) -> Mask:
    return scope_mask(page.words[SCOPED_MASKS], SCOPES.index(scope))


def test_every_process_finds_the_scopes_in_the_page(tmp_path: Path, page: Page) -> None:
    other = Page.attach(tmp_path / "page")
    assert other.scopes == SCOPES
    assert other.slot_names == ("a", "b")
    other.close()


def test_a_scoped_raise_narrows_its_scope_alone_and_counts_a_generation(
    store: LatchStore, page: Page
) -> None:
    before = page.generation
    generation = store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2, scope="ETH")
    assert generation == page.generation == before + 1
    assert Mask(page.permission, page.tasks) == OPEN
    assert (own(page, "BTC"), own(page, "ETH")) == (OPEN, CANCEL_ALL)
    assert store.load() == store.state()


def test_a_scoped_latch_survives_the_daemon(tmp_path: Path, store: LatchStore) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2, scope="ETH")
    reborn = Page.create(tmp_path / "page2", (), SCOPES)
    LatchStore(store.path, reborn).publish()
    assert (own(reborn, "BTC"), own(reborn, "ETH")) == (OPEN, CANCEL_ALL)
    assert reborn.permission == OPEN.permission


def test_another_configuration_without_the_scope_starts_latched_as_a_whole(
    tmp_path: Path, store: LatchStore
) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2, scope="ETH")
    reborn = Page.create(tmp_path / "page2", (), ("BTC",))
    LatchStore(store.path, reborn).publish()
    assert Mask(reborn.permission, reborn.tasks) == CANCEL_ALL


def test_resets_lift_by_scope_and_never_the_whole(store: LatchStore, page: Page) -> None:
    store.raise_latch(OPERATOR, HALT, "all", ts_ns=2)
    store.raise_latch(OPERATOR, CANCEL_ALL, "one", ts_ns=3, scope="BTC")
    assert isinstance(store.reset(page.generation, scope="BTC"), LatchState)
    assert own(page, "BTC") == OPEN
    assert Mask(page.permission, page.tasks) == HALT
    store.raise_latch(OPERATOR, CANCEL_ALL, "one", ts_ns=4, scope="BTC")
    assert isinstance(store.reset(page.generation), LatchState)
    assert page.words[SCOPED_MASKS] == OPEN_SCOPES
    assert Mask(page.permission, page.tasks) == OPEN
    assert store.load() == store.state()


def test_a_control_lets_go_of_its_scope(store: LatchStore, page: Page) -> None:
    for name in SCOPES:
        store.raise_latch("control:C12", HALT, "fills", ts_ns=2, scope=name)
    assert isinstance(store.clear("control:C12", Clearer.CONTROL, "ETH"), LatchState)
    assert (own(page, "BTC"), own(page, "ETH")) == (HALT, OPEN)


def test_reassert_mends_a_scope_that_a_late_writer_widened(store: LatchStore, page: Page) -> None:
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2, scope="BTC")
    store.reassert()
    assert not store.reassert()
    page.words[SCOPED_MASKS] = OPEN_SCOPES
    assert store.reassert()
    assert own(page, "BTC") == CANCEL_ALL


class WatchedWords:
    """The page's words; keeps what a gate would read after every single write."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self.seen: list[tuple[int, int]] = []

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value
        self.seen.append((latch_generation(self._words[LATCH]), self._words[SCOPED_MASKS]))


def test_whoever_sees_a_generation_sees_its_scopes_at_least_as_narrow(
    store: LatchStore, page: Page
) -> None:
    before, words = page.generation, page.words
    watched = WatchedWords(words)
    page.words = watched  # type: ignore[assignment]
    store.raise_latch(OPERATOR, CANCEL_ALL, "kill", ts_ns=2, scope="BTC")
    narrow = words[SCOPED_MASKS]
    store.reset(page.generation)
    page.words = words
    assert narrow != OPEN_SCOPES == words[SCOPED_MASKS]
    assert {scopes for generation, scopes in watched.seen if generation == before + 1} == {narrow}
    assert {generation for generation, _ in watched.seen} == {before, before + 1, before + 2}


class RaisingStore(LatchStore):
    """Another process raises in a scope between the file and the page of a reset."""

    def __init__(self, path: Path, page: Page, other: LatchStore) -> None:
        super().__init__(path, page)
        self._other: LatchStore | None = other

    def _write_file(self, state: LatchState) -> None:
        super()._write_file(state)
        if self._other is not None:
            other, self._other = self._other, None
            other.raise_page(OPERATOR, CANCEL_ALL, "kill", ts_ns=9, scope="ETH")


def test_a_scoped_raise_during_a_clear_stays_in_force(store: LatchStore, page: Page) -> None:
    store.raise_latch("control:C12", HALT, "fills", ts_ns=2, scope="ETH")
    RaisingStore(store.path, page, store).clear("control:C12", Clearer.CONTROL, "ETH")
    assert own(page, "ETH") == CANCEL_ALL
    assert store.load() == store.state()


def test_a_full_table_closes_the_whole_rather_than_forget_a_scope(
    store: LatchStore, page: Page
) -> None:
    for i in range(LATCH_ROWS):
        store.raise_page(f"control:{i}", OPEN, "x", ts_ns=i)
    store.raise_page(OPERATOR, CANCEL_ALL, "late", ts_ns=99, scope="BTC")
    assert own(page, "BTC") == CANCEL_ALL
    assert store.state().effective("BTC") == CANCEL_ALL
