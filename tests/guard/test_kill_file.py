"""Anything of the kill file's name stops the trading, whatever it is and whoever may read it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mm_daemon.domain.permission import OPERATOR
from mm_daemon.guard.kill_file import KillFile
from mm_daemon.ipc.page import TRADER_PID
from tests.guard.test_supervisor import Guard, guard, until

__all__ = ["guard"]


def nothing_readable(path: Path) -> None:
    path.touch()
    path.chmod(0)


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00smoke")


KINDS: dict[str, Callable[[Path], object]] = {
    "unreadable": nothing_readable,
    "directory": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
    "pipe": lambda path: os.mkfifo(path),
    "not text": not_text,
    "empty": lambda path: path.touch(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_it_is_it_is_heard_once_and_taken_away(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "KILL"
    kill = KillFile(path)
    assert kill.look(lambda: False) is None
    KINDS[kind](path)
    assert kill.look(lambda: True)
    assert kill.look(lambda: True) is None
    kill.take_away()
    assert not os.path.lexists(path)
    KINDS[kind](path)
    assert kill.look(lambda: True), "each one counts"


def test_one_that_cannot_be_taken_away_holds_against_a_reset(tmp_path: Path) -> None:
    path = tmp_path / "KILL"
    path.mkdir()
    (path / "full").touch()
    kill = KillFile(path)
    assert kill.look(lambda: False)
    with pytest.raises(OSError, match="not empty"):
        kill.take_away()
    assert kill.look(lambda: True) is None, "no new latch ten times a second"
    assert kill.look(lambda: False)


def test_place_that_cannot_be_looked_at_counts_as_a_kill(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    kill = KillFile(tmp_path / "run" / "KILL")
    reason = kill.look(lambda: False)
    assert reason is not None
    assert "cannot be looked for" in reason


@pytest.mark.parametrize("kind", ["directory", "dangling link", "pipe"])
def test_guard_that_cannot_read_its_kill_file_latches_and_lives(guard: Guard, kind: str) -> None:
    guard.start()
    page = guard.reconciled(1)
    KINDS[kind](guard.layout.kill_file)
    until(lambda: page.permission == 0, "the latch")
    until(lambda: not os.path.lexists(guard.layout.kill_file), "the file to go")
    until(lambda: guard.latch().load().entry(OPERATOR), "the operator's latch on the disk")
    assert guard.stop() == 0


def test_kill_file_left_by_a_guard_that_died_is_heard_by_the_next(guard: Guard) -> None:
    guard.start()
    guard.reconciled(1)
    guard.send(signal.SIGSTOP)
    guard.layout.kill_file.touch()
    guard.send(signal.SIGKILL)
    guard.wait()
    guard.start()
    page = guard.reconciled(1)
    assert page.permission == 0
    assert guard.latch().load().entry(OPERATOR) is not None
    assert guard.stop() == 0


def test_signal_to_a_trader_that_has_no_handler_yet_is_the_operators_word(guard: Guard) -> None:
    guard.start()
    page = guard.reconciled(1)
    os.kill(page.words[TRADER_PID], signal.SIGUSR1)
    page = guard.reconciled(2)
    until(lambda: guard.has_logged("crash_cleared", incarnation=2), "crash to be lifted")
    assert page.permission == 0
    entry = guard.latch().load().entry(OPERATOR)
    assert entry is not None
    assert "SIGUSR1" in entry.reason
    assert guard.stop() == 0
