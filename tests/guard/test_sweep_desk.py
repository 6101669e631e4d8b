"""When the guard sweeps, for which latch that counts, and when the next trader may start."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_daemon.domain.permission import OPERATOR, PRESETS
from mm_daemon.guard.sweep_desk import SweepDesk
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import SWEPT_GENERATION, Page

PATIENCE_S = 60.0


class Sweeping:
    """A sweeper that confirms when it is told to, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.confirmed = 0
        self._epoch = 0
        self._is_running = False

    def begin(self, *, check_first: bool = False) -> int:
        self.asked.append("check" if check_first else "sweep")
        self._epoch += 1
        self._is_running = True
        return self._epoch

    def call_off(self) -> None:
        if self._is_running:
            self.asked.append("call_off")
        self._is_running = False

    def is_confirmed(self, epoch: int) -> bool:
        return self.confirmed >= epoch > 0


class Tenure:
    def __init__(self) -> None:
        self.may_sweep = True


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page.create(tmp_path / "page")
    yield page
    page.close()


@pytest.fixture
def latch(tmp_path: Path, page: Page) -> LatchStore:
    store = LatchStore(tmp_path / "latch.json", page)
    store.init(ts_ns=1)
    return store


@pytest.fixture
def sweeping() -> Sweeping:
    return Sweeping()


@pytest.fixture
def tenure() -> Tenure:
    return Tenure()


@pytest.fixture
def desk(sweeping: Sweeping, page: Page, tenure: Tenure) -> SweepDesk:
    return SweepDesk(sweeping, page, tenure, PATIENCE_S)  # type: ignore[arg-type]


def kill(latch: LatchStore) -> int:
    return latch.raise_page(OPERATOR, PRESETS["cancel_all"], "kill", ts_ns=2)


def test_no_trader_starts_before_the_venue_is_empty_or_all_patience_is_over(
    desk: SweepDesk, sweeping: Sweeping
) -> None:
    now_s = time.monotonic()
    assert desk.may_start_trader(now_s), "nothing to sweep"
    desk.begin()
    assert not desk.may_start_trader(now_s + 1.0)
    assert desk.may_start_trader(now_s + PATIENCE_S + 5.0)
    sweeping.confirmed = 1
    assert desk.may_start_trader(now_s + 1.0)


def test_a_kill_that_comes_during_a_sweep_is_not_what_was_swept_for(
    desk: SweepDesk, sweeping: Sweeping, page: Page, latch: LatchStore
) -> None:
    first = kill(latch)
    desk.begin()
    second = kill(latch)
    sweeping.confirmed = 1
    assert desk.is_confirmed()
    assert page.words[SWEPT_GENERATION] == first
    desk.mind(is_trader_running=False, is_stopping=False)
    assert sweeping.asked == ["sweep", "sweep"]
    sweeping.confirmed = 2
    desk.mind(is_trader_running=False, is_stopping=False)
    assert page.words[SWEPT_GENERATION] == second
    assert sweeping.asked == ["sweep", "sweep"]


def test_what_a_living_trader_quotes_is_cancelled_only_while_the_latch_asks_for_it(
    desk: SweepDesk, sweeping: Sweeping, latch: LatchStore
) -> None:
    desk.begin()
    kill(latch)
    desk.mind(is_trader_running=True, is_stopping=False)
    assert sweeping.asked == ["sweep"]
    latch.reset(latch.state().generation)
    desk.mind(is_trader_running=True, is_stopping=True)
    assert sweeping.asked == ["sweep"]
    desk.mind(is_trader_running=True, is_stopping=False)
    assert sweeping.asked == ["sweep", "call_off"]


def test_a_trader_that_has_reconciled_is_swept_no_more(desk: SweepDesk, sweeping: Sweeping) -> None:
    desk.begin(check_first=True)
    assert desk.is_open
    desk.close()
    assert not desk.is_open
    assert sweeping.asked == ["check", "call_off"]


def test_without_a_tenure_nothing_is_swept_and_with_the_next_one_it_is(
    desk: SweepDesk, sweeping: Sweeping, tenure: Tenure
) -> None:
    tenure.may_sweep = False
    desk.begin()
    desk.begin_at_once()
    desk.mind(is_trader_running=False, is_stopping=False)
    assert sweeping.asked == []
    assert desk.may_start_trader(time.monotonic()), "a trader without a tenure only waits for one"
    tenure.may_sweep = True
    desk.mind(is_trader_running=False, is_stopping=False)
    assert sweeping.asked == ["sweep"]
    assert not desk.may_start_trader(time.monotonic())


def test_sweep_ends_with_the_tenure_it_was_begun_under_and_is_owed_to_the_next(
    desk: SweepDesk, sweeping: Sweeping, tenure: Tenure
) -> None:
    desk.begin()
    tenure.may_sweep = False
    desk.mind(is_trader_running=False, is_stopping=False)
    desk.mind(is_trader_running=False, is_stopping=False)
    assert sweeping.asked == ["sweep", "call_off"]
    tenure.may_sweep = True
    desk.mind(is_trader_running=False, is_stopping=False)
    assert sweeping.asked == ["sweep", "call_off", "sweep"]


def test_sweep_beside_a_hanging_trader_ends_with_the_tenure_too(
    desk: SweepDesk, sweeping: Sweeping, tenure: Tenure
) -> None:
    desk.begin_at_once()
    tenure.may_sweep = False
    desk.mind(is_trader_running=True, is_stopping=False)
    assert sweeping.asked == ["sweep", "call_off"]


def test_what_was_confirmed_under_a_tenure_is_not_owed_again(
    desk: SweepDesk, sweeping: Sweeping, tenure: Tenure
) -> None:
    desk.begin()
    sweeping.confirmed = 1
    tenure.may_sweep = False
    desk.mind(is_trader_running=False, is_stopping=False)
    tenure.may_sweep = True
    desk.mind(is_trader_running=False, is_stopping=False)
    assert "sweep" not in sweeping.asked[1:]
