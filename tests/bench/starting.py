"""From the command to the first quote that the embedded venue acknowledged, kernels warm."""

from __future__ import annotations

import re
import socket
import sys
import tempfile
import time
from pathlib import Path

from mm_daemon.domain.codec import FRAME_IN, FRAME_OUT
from mm_daemon.ipc.session import list_sessions
from mm_daemon.ipc.tape import read_tape
from tests.bench.daemon import Daemon
from tests.bench.figures import Figure, skipped

SECTION = "Start on the embedded venue"
START_S_MAX = 10.0
WAIT_S_MAX = 60.0
POLL_S = 0.25
PORTS = (8700, 8712, 9464)
"""The embedded venue and the consoles of the shipped configuration."""

_QUOTE_ID = re.compile(rb'"id":(\d+),"method":"private/mass_quote"')
_REPLY_ID = re.compile(rb'"id":(\d+)')


def measure() -> list[Figure]:
    busy = [port for port in PORTS if not _is_free(port)]
    if busy:
        return [skipped(SECTION, f"port {busy[0]} is in use; stop what listens there")]
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        place = Path(name)
        daemon = Daemon(place, None)
        try:
            started_s = _wait_for_quote(daemon, place / "var")
        finally:
            daemon.stop()
        if started_s is None:
            log = daemon.log_path.read_text()
            sys.stderr.write(log[-2000:])
            faults = [line for line in log.splitlines() if line.startswith("mm-daemon: ")]
            return [skipped(SECTION, faults[-1] if faults else f"none in {WAIT_S_MAX:.0f} s")]
    return [
        Figure(
            section=SECTION,
            name="command to first quote acknowledged, kernels warm",
            value=started_s,
            unit="s",
            goal=START_S_MAX,
        )
    ]


def _wait_for_quote(daemon: Daemon, data_dir: Path) -> float | None:
    """Seconds from the command to the acknowledgement, by the tape's own stamp."""
    deadline_s = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline_s and daemon.is_running:
        time.sleep(POLL_S)
        for session in list_sessions(data_dir) if data_dir.is_dir() else []:
            acknowledged_ns = _first_acknowledged_ns(session)
            if acknowledged_ns is not None:
                return (acknowledged_ns - daemon.started_ns) / 1e9
    return None


def _first_acknowledged_ns(session: Path) -> int | None:
    asked: bytes | None = None
    for record in read_tape(session, is_live=True):
        if record.type == FRAME_OUT and asked is None:
            found = _QUOTE_ID.search(record.payload[:160])
            asked = found[1] if found is not None else None
        elif record.type == FRAME_IN and asked is not None:
            reply = _REPLY_ID.search(record.payload[:60])
            if reply is not None and reply[1] == asked:
                return record.ts_ns
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
