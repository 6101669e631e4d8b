"""A disk without room: the daemon stays, sends nothing, says so, and trades again by itself once
there is room."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_daemon.ipc.page import TRADER_PID
from tests.wire import account
from tests.wire.harness import Daemon, Venue, house, risk_after, wait_for

QUOTED_MIN = 300
QUOTED_AGAIN = 100
DISK_BYTES = 512 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Venue, Daemon]]:
    """Sessions lie on a small file system of their own; the page and the latch do not."""
    with house(crash_count_max=500) as (venue, daemon):
        place = daemon.data_dir / "sessions"
        place.mkdir(parents=True, mode=0o700)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", place]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            pytest.skip("no permission to mount a file system of a size")
        try:
            venue.start()
            daemon.start()
            daemon.wait_quoting(QUOTED_MIN)
            yield venue, daemon
        finally:
            daemon.end()
            subprocess.run(["umount", "--lazy", place], check=True)


def fill_up(directory: Path) -> Path:
    """Takes every byte that is left."""
    ballast = directory / ".ballast"
    block = b"\0" * (1 << 20)
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(block):
                pass
        except OSError:
            return ballast
    raise AssertionError("the file system took no end of bytes")


def test_a_life_that_finds_no_room_is_tried_again_until_there_is_some(
    running: tuple[Venue, Daemon],
) -> None:
    venue, daemon = running
    ballast = fill_up(daemon.data_dir / "sessions")
    former = daemon.word(TRADER_PID)
    killed_us = time.time_ns() // 1000
    os.kill(former, signal.SIGKILL)
    wait_for("an empty venue", lambda: not venue.open_orders(), 20.0)
    wait_for("three lives without room", lambda: len(refusals(daemon)) >= 3, 60.0)
    status = daemon.status()
    assert "crash" in status["latched_by"]
    assert venue.open_orders() == []
    assert risk_after(venue, killed_us) == []
    ballast.unlink()
    daemon.wait_quoting(QUOTED_AGAIN, 60.0)
    wait_for("equal views", account.Compared(venue, daemon).is_accounted_for, 20.0)
    assert len(list((daemon.data_dir / "sessions").iterdir())) == 2, "refused lives leave nothing"
    assert daemon.status()["latched_by"] == {}


def refusals(daemon: Daemon) -> list[str]:
    """What lives said that could not begin their journals."""
    words = ("cannot begin a session", "cannot preallocate", "no_session")
    return [line for line in daemon.output().splitlines() if any(word in line for word in words)]
