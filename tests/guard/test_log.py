"""The guard beside a log that nobody reads: every one of its acts, in its time."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from mm_daemon.domain.permission import OPEN, OPERATOR
from mm_daemon.ipc.page import TRADER_PID
from tests.guard.rest_venue import RestVenue
from tests.guard.test_supervisor import Guard, guard, is_alive, until
from tests.ipc.test_line_pipe import fill

__all__ = ["guard"]


@pytest.fixture
def unread(guard: Guard) -> Iterator[Guard]:
    """A guard whose log goes into a pipe that is full."""
    reader, writer = os.pipe()
    fill(writer)
    guard.log_fd = writer
    yield guard
    os.close(writer)
    os.close(reader)


def test_log_that_nobody_reads_keeps_the_guard_from_nothing(
    unread: Guard, venue: RestVenue
) -> None:
    unread.start()
    page = unread.reconciled(1)
    hanging = page.words[TRADER_PID]
    os.kill(hanging, signal.SIGSTOP)
    hung_s = time.monotonic()
    until(lambda: not venue.orders, "an empty venue")
    assert time.monotonic() - hung_s < 4.0
    assert page.permission == 0
    until(lambda: not is_alive(hanging), "the end of the hanging trader")
    page = unread.reconciled(2)
    until(lambda: page.permission == OPEN.permission, "crash to be lifted")
    unread.send(signal.SIGUSR1)
    until(lambda: unread.latch().load().entry(OPERATOR), "the operator's latch")
    assert unread.stop() == 0
    assert venue.orders == {}
