"""The sweeping thread: only reads of the present epoch confirm it."""

import random
import threading
from typing import Any

import pytest

from mm_daemon.guard.sweep_client import SweepConfig, SweepReport
from mm_daemon.guard.sweeper import Sweeper
from mm_daemon.venues.deribit import sweep as deribit
from mm_daemon.venues.sweep import Call, CallFailed, OpenOrders
from tests.guard.rest_venue import SECRET, RestVenue

CALLS_OF_A_ROUND = 8
"""A token, five cancels in two lanes, two reads."""


class Reports:
    """What the sweeper reported, for a test that waits."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reports: list[SweepReport] = []

    def add(self, report: SweepReport) -> None:
        with self._condition:
            self._reports.append(report)
            self._condition.notify_all()

    def wait(self, count: int) -> list[SweepReport]:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self._reports) >= count, 10.0)
            return list(self._reports)


@pytest.fixture
def reports() -> Reports:
    return Reports()


def sweeper(venue: RestVenue, reports: Reports, gap_s: float = 0.02) -> Sweeper:
    config = SweepConfig(venue.url, "demo-guard", SECRET, ("BTC",), 0.5, gap_s, 0.001, 0.002)
    made = Sweeper(config, deribit, random.Random(1), reports.add)
    made.start()
    return made


def test_epoch_is_confirmed_by_its_own_sweep(venue: RestVenue, reports: Reports) -> None:
    venue.orders["1"] = "BTC"
    subject = sweeper(venue, reports)
    assert not subject.is_confirmed(1)
    epoch = subject.begin()
    assert reports.wait(1)[0].is_confirmed
    assert subject.is_confirmed(epoch)
    assert not subject.is_confirmed(epoch + 1)
    subject.stop()


def test_new_epoch_drops_the_reads_of_the_one_before(venue: RestVenue, reports: Reports) -> None:
    """The first sweep waits between its two reads for longer than the test may take."""
    subject = sweeper(venue, reports, gap_s=60.0)
    first = subject.begin()
    while not [what for _, what in venue.happened if what == "read 0"]:
        pass
    second = subject.begin()
    assert not reports.wait(1)[0].is_confirmed
    assert not subject.is_confirmed(first)
    assert not subject.is_confirmed(second)
    subject.stop()


class Meddling:
    """The venue's words, but a trader dies while the last read of the first sweep is answered."""

    def __init__(self) -> None:
        self.subject: Sweeper
        self.epochs: list[int] = []
        self._reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(deribit, name)

    def read_open(self, call: Call, body: bytes) -> OpenOrders | CallFailed:
        self._reads += 1
        if self._reads == 4:
            self.epochs.append(self.subject.begin())
        return deribit.read_open(call, body)


def test_reads_of_the_epoch_before_confirm_no_later_one(venue: RestVenue, reports: Reports) -> None:
    config = SweepConfig(venue.url, "demo-guard", SECRET, ("BTC",), 0.5, 0.02, 0.001, 0.002)
    meddling = Meddling()

    def on_report(report: SweepReport) -> None:
        venue.faults.is_dead = True
        reports.add(report)

    meddling.subject = subject = Sweeper(config, meddling, random.Random(1), on_report)
    subject.start()
    subject.begin()
    assert reports.wait(1)[0].is_confirmed
    assert not subject.is_confirmed(meddling.epochs[0])
    subject.stop()


def test_called_off_sweep_ends_and_cancels_nothing_more(venue: RestVenue, reports: Reports) -> None:
    venue.faults.is_cancel_deaf = True
    venue.orders["1"] = "BTC"
    subject = sweeper(venue, reports)
    epoch = subject.begin()
    while not venue.happened:
        pass
    subject.call_off()
    under_way = len(venue.bodies)
    assert not reports.wait(1)[0].is_confirmed
    assert not subject.is_confirmed(epoch)
    count = len(venue.bodies)
    assert count - under_way <= CALLS_OF_A_ROUND
    subject.call_off()
    subject.stop()
    assert len(venue.bodies) == count


def test_check_agrees_with_one_empty_read_and_sweeps_otherwise(
    venue: RestVenue, reports: Reports
) -> None:
    subject = sweeper(venue, reports)
    epoch = subject.begin(check_first=True)
    assert reports.wait(1)[0].detail == "one empty read, as the trader said"
    assert subject.is_confirmed(epoch)
    assert [what for _, what in venue.happened] == ["read 0"]
    venue.orders["1"] = "BTC"
    epoch = subject.begin(check_first=True)
    assert reports.wait(2)[1].cancelled == 1
    assert subject.is_confirmed(epoch)
    subject.stop()


def test_unconfirmed_sweep_is_tried_again_until_it_holds(
    venue: RestVenue, reports: Reports
) -> None:
    venue.orders["1"] = "BTC"
    venue.faults.busy_cancels = 40
    subject = sweeper(venue, reports)
    epoch = subject.begin()
    reports.wait(1)
    assert subject.is_confirmed(epoch)
    assert venue.orders == {}
    subject.stop()
