"""A whole daemon under the bench: configured for one venue address, started, stopped in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mm_daemon.inference.manifest import MANIFEST
from mm_daemon.ipc.session import list_sessions

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
STOP_S_MAX = 40.0


def write_config(place: Path, venue_port: int) -> Path:
    """The shipped example against a venue on this port, for BTC alone, all its files in `place`."""
    text = EXAMPLE.read_text()
    head, btc, _eth = re.split(r"^\[\[underlyings\]\]$", text, flags=re.MULTILINE)
    text = f"{head}[[underlyings]]{btc}"
    has_models = all((ROOT / "models" / one / MANIFEST).is_file() for one in ("fill", "spread"))
    changes = {
        "data_dir": f'"{place / "var"}"',
        "ws_url": f'"ws://127.0.0.1:{venue_port}/ws/api/v2"',
        "rest_url": f'"http://127.0.0.1:{venue_port}/api/v2"',
        "control_listen": f'"127.0.0.1:{free_port()}"',
        "metrics_listen": f'"127.0.0.1:{free_port()}"',
        "tokens_file": f'"{place / "tokens.json"}"',
        "directory": f'"{ROOT / "models"}"' if has_models else '""',
    }
    for key, value in changes.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{EXAMPLE}: expected one {key}, found {count}"
    path = place / "config.toml"
    path.write_text(text)
    return path


class Daemon:
    """`mm-daemon run` in a process group of its own."""

    def __init__(self, place: Path, config: Path | None) -> None:
        self._log = (place / "daemon.log").open("w")
        self.log_path = place / "daemon.log"
        arguments = [sys.executable, "-m", "mm_daemon", "run"]
        if config is not None:
            arguments += ["--config", str(config)]
        self.started_ns = time.time_ns()
        self._process = subprocess.Popen(
            arguments,
            cwd=place,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM, and SIGKILL to the group where that takes too long; the exit code."""
        if self.is_running:
            self._process.terminate()
        try:
            code = self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        self._log.close()
        return code


def only_session(data_dir: Path) -> Path:
    """The one session of a daemon that ran once."""
    sessions = list_sessions(data_dir)
    assert len(sessions) == 1, f"{data_dir}: expected one session, found {len(sessions)}"
    return sessions[0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
