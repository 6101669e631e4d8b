"""Two daemons of one shard at one venue, each with a way of its own to the Redis between them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_daemon.ipc.page import PERMIT_DEADLINE_MONO_NS
from tests.ops.redis_server import RedisServer, redis_server
from tests.wire.harness import (
    Daemon,
    DoorClosedError,
    Process,
    Venue,
    busy_factor,
    config_text,
    free_ports,
    is_risk,
    risk_after,
    short_directory,
    wait_for,
)

PASSWORD = "correct-horse-battery-staple"
QUOTED_MIN = 200
QUOTED_SOME = 20
US_PER_S = 1_000_000
KEYS = ("trader", "state", "lease", "options_two_sided", "latched_by", "reasons_not_quoting")
LIFTED_BY = {"C24.order", "C18"}
"""Controls that must have let go before that latch is lifted."""


@dataclass
class Pair:
    """Two daemons, of which the first was started first, and what each reaches the store by."""

    venue: Venue
    redis: RedisServer
    active: Daemon
    standby: Daemon
    pipes: dict[Path, Process]

    def swap(self) -> None:
        self.active, self.standby = self.standby, self.active

    def pipe(self, daemon: Daemon) -> Process:
        return self.pipes[daemon.directory]


@contextmanager
def two_daemons(**keys: object) -> Iterator[Pair]:
    """The first quotes, the second was just started; `keys` replaces those of the configuration."""
    with short_directory() as directory, redis_server("--requirepass", PASSWORD) as server:
        password_file = directory / "p"
        password_file.write_text(f"{PASSWORD}\n")
        password_file.chmod(0o400)
        port, *pipe_ports = free_ports(3)
        venue = Venue(directory, port)
        daemons, pipes = [], {}
        for name, pipe_port in zip(("a", "b"), pipe_ports, strict=True):
            home = directory / name
            home.mkdir()
            url = server.url.replace(str(server.port), str(pipe_port))
            text = config_text(home, port, url=url, password_file=str(password_file), **keys)
            daemons.append(Daemon(home, text))
            argv = [sys.executable, "-m", "tests.wire.pipe_process", str(pipe_port)]
            pipes[home] = Process("pipe", [*argv, str(server.port)], directory / f"{name}-pipe.log")
            pipes[home].start()
        try:
            venue.start()
            daemons[0].start()
            daemons[0].wait_quoting(QUOTED_MIN)
            daemons[1].start()
            yield Pair(venue, server, daemons[0], daemons[1], pipes)
        finally:
            for daemon in daemons:
                daemon.end()
            venue.stop()
            for pipe in pipes.values():
                pipe.end()


def lease_of(daemon: Daemon) -> dict[str, Any]:
    return dict(daemon.status()["lease"])


def wait_standing_by(daemon: Daemon) -> dict[str, Any]:
    """Until it says so, with warm processes: its page shows no tenure."""

    def look() -> dict[str, Any]:
        status = daemon.status()
        if status.get("state") != "standby" or not status["lease"]["holder"]:
            raise DoorClosedError({key: status.get(key) for key in ("trader", "state", "lease")})
        return status

    return wait_for("a standby", look, 30.0)


def risk_connections(venue: Venue, after_us: int = 0) -> set[int]:
    """Which connections wrote what could add risk."""
    return {frame["connection"] for frame in venue.received(after_us) if is_risk(frame)}


def quoting_connections(pair: Pair) -> set[int]:
    """Those of the one that quotes now: what comes next is its."""
    since_us = now_us()
    return wait_for("its next quotes", lambda: risk_connections(pair.venue, since_us), 20.0)


def late_frames(venue: Venue, connections: set[int], after_us: int) -> list[dict[str, Any]]:
    """What could add risk, written after that moment on one of these connections."""
    return [one for one in risk_after(venue, after_us) if one["connection"] in connections]


def permit_end_us(daemon: Daemon) -> int:
    """When the last permit of its life ended or ends, by the wall clock."""
    left_ns = daemon.word(PERMIT_DEADLINE_MONO_NS) - time.monotonic_ns()
    return now_us() + left_ns // 1000


def now_us() -> int:
    return time.time_ns() // 1000


def wait_one_quotes(pair: Pair) -> None:
    """Until exactly one holds the lease and quotes, and the other stands by; the one is then
    `pair.active`. Who was latched at T2 waits for a person: here that is this."""

    def look() -> Daemon:
        statuses = {daemon: daemon.status() for daemon in (pair.active, pair.standby)}
        seen = {
            daemon.directory.name: {key: status.get(key) for key in KEYS}
            for daemon, status in statuses.items()
        }
        held = [one for one, status in statuses.items() if status["lease"]["state"] == "held"]
        if len(held) != 1:
            raise DoorClosedError(seen)
        (one,) = held
        (other,) = [daemon for daemon in statuses if daemon is not one]
        lift_t2(one, statuses[one])
        quotes = statuses[one].get("options_two_sided", 0)
        is_standing_by = statuses[other].get("state") == "standby"
        if statuses[one].get("state") != "running" or quotes < QUOTED_SOME or not is_standing_by:
            raise DoorClosedError(seen)
        return one

    found = wait_for("one that quotes, one that stands by", look, 60.0 * busy_factor(), poll_s=0.2)
    if found is pair.standby:
        pair.swap()


def lift_t2(daemon: Daemon, status: dict[str, Any]) -> None:
    """Once the server's terms are met: whoever asks over and over is told to slow down."""
    if "control:C24.order" not in status["latched_by"]:
        return
    terms = status.get("reset")
    holding = [one.split(" ")[0] for one in terms["controls_holding"]] if terms else [*LIFTED_BY]
    is_clean = status.get("is_reconciled") and not status.get("unknown_orders")
    if is_clean and not set(holding) & LIFTED_BY:
        body = {"generation": status["generation"], "reason": "the store is back"}
        code, answer = daemon.post("/v1/reset", body, role="risk")
        if code != 200:
            raise DoorClosedError(answer)
