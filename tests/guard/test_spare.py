"""The spare trader: kept, taken, done without. A real guard over real children."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from mm_daemon.domain.permission import OPEN
from mm_daemon.guard.settings import ChildSettings
from mm_daemon.guard.spare import SpareTrader
from mm_daemon.ipc.page import CRASH_COUNT, TRADER_PID
from tests.guard.rest_venue import RestVenue
from tests.guard.test_supervisor import Guard, guard, is_alive, until

__all__ = ["guard"]


def spare_of(guard: Guard) -> int:
    """The newest spare once it waits."""

    def look() -> int:
        started = [line["pid"] for line in guard.log if line["event"] == "spare_started"]
        waits = started and (guard.root / f"spare-{started[-1]}").exists()
        return int(started[-1]) if waits and is_alive(started[-1]) else 0

    return int(until(look, "a spare that waits"))


def keep_spare(guard: Guard, **more: Any) -> None:
    guard.extra = {"spare_delay_s": 0.05, **more}


def test_spare_becomes_the_trader_after_a_crash_and_another_is_kept(
    guard: Guard, venue: RestVenue
) -> None:
    keep_spare(guard)
    guard.start()
    page = guard.reconciled(1)
    spare = spare_of(guard)
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    page = guard.reconciled(2)
    assert page.words[TRADER_PID] == spare
    life = guard.life(2)
    assert (life["pid"], life["was_spare"]) == (spare, True)
    assert life["environ"]["MM_INCARNATION"] == "2"
    sessions = sorted((guard.root / "var" / "sessions").iterdir())
    assert life["environ"]["MM_SESSION_DIR"] == str(sessions[1])
    assert guard.layout.session_file.read_text().strip() == str(sessions[1])
    until(lambda: spare_of(guard) != spare, "another spare")
    until(lambda: page.permission == OPEN.permission, "crash to be lifted")
    assert guard.stop() == 0
    assert venue.orders == {}


def test_venue_is_swept_before_the_spare_is_let_go(guard: Guard, venue: RestVenue) -> None:
    keep_spare(guard)
    guard.start()
    page = guard.reconciled(1)
    spare_of(guard)
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    guard.reconciled(2)
    happened = [what for _, what in venue.happened]
    assert happened[:5] == ["trader place", "cancelled 3", "read 0", "read 0", "trader place"]
    assert guard.stop() == 0


def test_without_a_living_spare_a_trader_is_started_from_nothing(guard: Guard) -> None:
    keep_spare(guard)
    guard.start()
    page = guard.reconciled(1)
    spare = spare_of(guard)
    os.kill(spare, signal.SIGKILL)
    until(lambda: guard.has_logged("spare_ended", code=-9), "its end to be seen")
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    guard.reconciled(2)
    assert guard.life(2)["was_spare"] is False
    assert guard.stop() == 0


def test_end_of_a_spare_is_no_crash_and_is_not_repeated_at_once(guard: Guard) -> None:
    guard.lives = {"spare": "end"}
    keep_spare(guard)
    guard.start()
    page = guard.reconciled(1)
    until(lambda: guard.has_logged("spare_ended", code=0), "its end to be seen")
    guard.send(signal.SIGUSR1)
    until(lambda: page.permission == 0, "several turns of the guard's loop")
    assert page.words[CRASH_COUNT] == 0
    assert len([line for line in guard.log if line["event"] == "spare_started"]) == 1
    assert guard.stop() == 0


def test_stop_leaves_no_spare_behind(guard: Guard) -> None:
    keep_spare(guard)
    guard.start()
    guard.reconciled(1)
    spare = spare_of(guard)
    assert guard.stop() == 0
    assert not is_alive(spare)


def test_killed_guard_takes_its_spare_along(guard: Guard) -> None:
    keep_spare(guard)
    guard.start()
    guard.reconciled(1)
    spare = spare_of(guard)
    guard.send(signal.SIGKILL)
    guard.wait()
    until(lambda: not is_alive(spare), "the end of the spare")


def test_none_is_kept_where_none_is_wanted(guard: Guard) -> None:
    guard.start()
    page = guard.reconciled(1)
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    guard.reconciled(2)
    assert not guard.has_logged("spare_started")
    assert not list(Path(guard.root).glob("spare-*"))
    assert guard.stop() == 0


def test_spare_that_does_not_listen_is_ended_and_not_taken() -> None:
    """It has closed its standard input: the order reaches nobody."""
    reader, writer = os.pipe()
    program = f"import os, time; os.close(0); os.write({writer}, b'.'); time.sleep(60)"
    settings = ChildSettings(
        name="spare",
        argv=(sys.executable, "-I", "-S", "-c", program),
        env={},
        nice=0,
        wait_tcp=(),
        wait_s=0.0,
        restart=True,
    )
    spare = SpareTrader(settings, dict(os.environ), writer, 0.0)
    spare.mind(0.0, is_wanted=True)
    spare.mind(0.0, is_wanted=True)
    os.close(writer)
    pid = spare.pid
    assert os.read(reader, 1) == b"."
    os.close(reader)
    assert spare.take({"incarnation": 1}) is None
    assert not is_alive(pid)
    assert spare.pid == 0
