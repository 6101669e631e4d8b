"""Pauses between the lives of a child. Time is an argument; the processes are real and short."""

import os
import select
import signal
import socket

import pytest

from mm_daemon.guard.child import BACKOFF_S, HEALTHY_AFTER_S, Child
from mm_daemon.guard.settings import ChildSettings


def child(*argv: str, wait_tcp: tuple[tuple[str, int], ...] = (), wait_s: float = 5.0) -> Child:
    return Child(ChildSettings("one", argv, {}, 0, wait_tcp, wait_s, True))


def live_once(subject: Child, start_s: float, end_s: float) -> int:
    """Start at one time and reap, once it has ended by itself, as if at another."""
    subject.start(start_s, dict(os.environ))
    pidfd = os.pidfd_open(subject.pid)
    assert select.select([pidfd], [], [], 10.0)[0]
    os.close(pidfd)
    code = subject.reap(end_s)
    assert code is not None
    return code


def test_pauses_grow_with_failures_and_stay_bounded() -> None:
    subject = child("false")
    pauses = []
    now_s = 100.0
    for _ in range(len(BACKOFF_S) + 2):
        assert live_once(subject, now_s, now_s + 1.0) == 1
        pauses.append(subject.not_before_s - (now_s + 1.0))
        now_s = subject.not_before_s
        assert not subject.may_start(now_s - 0.001)
        assert subject.may_start(now_s)
    assert pauses == [*BACKOFF_S, BACKOFF_S[-1], BACKOFF_S[-1]]


@pytest.mark.parametrize("says_healthy", [True, False])
def test_useful_life_makes_the_next_restart_immediate(says_healthy: bool) -> None:
    subject = child("false")
    for start_s in (0.0, 10.0, 20.0):
        live_once(subject, start_s, start_s + 1.0)
    assert subject.not_before_s > 21.0
    if says_healthy:
        subject.note_healthy()
        end_s = 51.0
    else:
        end_s = 50.0 + HEALTHY_AFTER_S
    live_once(subject, 50.0, end_s)
    assert subject.not_before_s == end_s


def test_end_is_reaped_once_with_its_signal() -> None:
    subject = child("sleep", "60")
    subject.start(0.0, dict(os.environ))
    assert subject.reap(0.1) is None
    assert subject.is_running
    pidfd = os.pidfd_open(subject.pid)
    subject.send(signal.SIGKILL)
    assert select.select([pidfd], [], [], 10.0)[0]
    os.close(pidfd)
    assert subject.reap(1.0) == -signal.SIGKILL
    assert subject.reap(1.0) is None
    assert subject.pid == 0
    subject.send(signal.SIGKILL)


def test_start_waits_for_its_port_but_not_for_ever() -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        address = ("127.0.0.1", port.getsockname()[1])
        subject = child("true", wait_tcp=(address,), wait_s=5.0)
        assert not subject.may_start(0.0)
        assert not subject.may_start(4.9)
        assert subject.may_start(5.0)
        port.listen()
        assert child("true", wait_tcp=(address,)).may_start(0.0)
