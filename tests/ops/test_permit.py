"""Lease and permit by lock files: one writer on a host, also over deaths of ops or the house."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import structlog

from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    PERMIT_DEADLINE_MONO_NS,
    TRADER_PID,
    TRADER_TENURE,
    LeaseState,
    Page,
)
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.lease import LeaseTimes
from mm_daemon.ops.permit import LocalPermit, lock_paths
from mm_daemon.ops.tenure_page import TenurePage

TIMES = LeaseTimes(ttl_ns=10**9, permit_ns=200_000_000, valid_ns=100_000_000)


class Instance:
    """Ops of one daemon with directories of its own."""

    def __init__(self, home: Path, locks: Path) -> None:
        home.mkdir(exist_ok=True)
        locks.mkdir(exist_ok=True)
        self.home = home
        self.locks = (locks / "ETH.lock", locks / "BTC.lock")
        self.epochs = DurableNumber(home / "epoch")
        self.new_page()

    def new_page(self) -> None:
        """A fresh guard."""
        self.page = Page.create(self.home / "page")
        self.permit = self.make()

    def make(self) -> LocalPermit:
        return LocalPermit(
            lock_paths=self.locks,
            home=self.home,
            epochs=self.epochs,
            page=TenurePage(self.page),
            times=TIMES,
            mono_ns=time.monotonic_ns,
            log=structlog.wrap_logger(structlog.PrintLogger(), processors=[_silent]),
        )

    def start(self) -> asyncio.Task[None]:
        self.permit = self.make()
        return asyncio.create_task(self.permit.run())

    @property
    def fence(self) -> int:
        return int(self.page.words[FENCE_EPOCH])

    def may_send(self) -> bool:
        self.page.words[TRADER_TENURE] = self.fence
        return time.monotonic_ns() < self.page.words[PERMIT_DEADLINE_MONO_NS]


def _silent(*_: object) -> str:
    raise structlog.DropEvent


async def until(what: object, within_s: float = 5.0) -> float:
    assert callable(what)
    started_s = time.monotonic()
    while not what():
        assert time.monotonic() < started_s + within_s
        await asyncio.sleep(0.002)
    return time.monotonic() - started_s


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Instance, Instance]:
    return (Instance(tmp_path / "a", tmp_path / "l"), Instance(tmp_path / "b", tmp_path / "l"))


async def test_first_start_waits_for_nobody_and_takes_a_durable_tenure(
    pair: tuple[Instance, Instance],
) -> None:
    one, _ = pair
    task = one.start()
    assert await until(one.may_send) < 0.2
    assert one.page.lease_state is LeaseState.HELD
    assert one.fence == one.epochs.read() == 1
    await ended(task)
    assert one.page.lease_state is LeaseState.STANDBY
    assert not one.may_send()


async def test_second_daemon_of_the_shard_stands_by_and_says_for_whom(
    pair: tuple[Instance, Instance],
) -> None:
    one, two = pair
    tasks = [one.start()]
    await until(one.may_send)
    tasks.append(two.start())
    await until(lambda: bool(two.permit.face().problem))
    assert two.page.lease_state is LeaseState.STANDBY
    assert two.fence == 0
    assert "held by another daemon" in two.permit.face().problem
    await ended(tasks[0])
    await until(two.may_send)
    assert two.fence == 2
    await ended(tasks[1])


async def test_standby_waits_out_what_a_dead_holders_trader_may_still_send(
    pair: tuple[Instance, Instance],
) -> None:
    one, two = pair
    first, second = one.start(), two.start()
    await until(one.may_send)
    one.page.words[TRADER_PID] = 1
    await ended(first)
    await until(lambda: two.fence > 0)
    assert two.page.lease_state is LeaseState.SETTLING
    assert await until(two.may_send) > 0.25
    assert not one.may_send()
    await ended(second)


async def test_ops_that_starts_again_goes_on_with_the_tenure(
    pair: tuple[Instance, Instance],
) -> None:
    one, _ = pair
    task = one.start()
    await until(one.may_send)
    one.page.words[TRADER_PID] = 1
    await ended(task)
    task = one.start()
    await until(lambda: one.permit.is_held)
    assert one.fence == 1
    assert await until(one.may_send) < 0.1
    await ended(task)


async def test_new_guard_of_the_same_directories_begins_a_new_tenure_at_once(
    pair: tuple[Instance, Instance],
) -> None:
    one, _ = pair
    task = one.start()
    await until(one.may_send)
    one.page.words[TRADER_PID] = 1
    await ended(task)
    one.new_page()
    task = one.start()
    assert await until(one.may_send) < 0.2
    assert one.fence == 2
    await ended(task)


async def test_all_locks_or_none(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    one.locks = one.locks[:1]
    tasks = [one.start()]
    await until(one.may_send)
    tasks.append(two.start())
    await until(lambda: bool(two.permit.face().problem))
    three = Instance(two.home.parent / "c", two.locks[0].parent)
    three.locks = two.locks[1:]
    tasks.append(three.start())
    await until(three.may_send)
    assert two.fence == 0
    for task in tasks:
        await ended(task)


@pytest.mark.parametrize("content", ["x", "-1", "1.5", ""])
async def test_epoch_file_that_is_no_number_is_said_and_nothing_is_held(
    pair: tuple[Instance, Instance], content: str
) -> None:
    one, _ = pair
    one.epochs.path.write_text(content)
    task = one.start()
    await until(lambda: "whole number" in one.permit.face().problem)
    assert one.fence == 0
    await ended(task)


async def test_damaged_lock_file_counts_as_somebody_elses(
    pair: tuple[Instance, Instance],
) -> None:
    one, _ = pair
    one.locks[0].write_text("{")
    task = one.start()
    await until(lambda: one.fence > 0)
    assert one.page.lease_state is LeaseState.SETTLING
    assert not one.may_send()
    await ended(task)


def test_lock_files_tell_venue_account_and_underlying_apart() -> None:
    paths = {
        path
        for venue in ("h:1", "h:2")
        for account in ("a", "b")
        for path in lock_paths("sim", venue, account, ("BTC", "ETH"))
    }
    assert len(paths) == 8
    assert all(path.parent.stat().st_mode & 0o077 == 0 for path in paths)


def test_durable_number_never_falls(tmp_path: Path) -> None:
    number = DurableNumber(tmp_path / "n")
    assert number.read() == 0
    number.raise_to(5)
    number.raise_to(3)
    assert number.read() == 5
