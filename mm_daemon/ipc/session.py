"""Session directories: one for each life of the trader, holding all that its replay needs.

    <data_dir>/sessions/<UTC start>/   header.json config.toml build.json tape-*.seg ledger-*.seg

Names sort by start. Directories are readable by their owner only. No secret is ever written here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mm_daemon.ipc.segments import JournalError

HEADER: Final = "header.json"
CONFIG: Final = "config.toml"
BUILD: Final = "build.json"
SESSIONS: Final = "sessions"

_CPUINFO: Final = Path("/proc/cpuinfo")


def create_session(data_dir: Path, start_ns: int) -> Path:
    """Make the directory of a session that starts at wall time `start_ns`."""
    root = data_dir / SESSIONS
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    seconds, ns = divmod(start_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S")
    path = root / f"{stamp}.{ns // 1000:06d}Z"
    path.mkdir(mode=0o700)
    return path


def drop_unbegun(session: Path) -> None:
    """Remove the directory of a life that ended before it could write anything worth keeping."""
    if any(session.glob("*.seg")):
        return
    with suppress(OSError):
        for path in session.iterdir():
            path.unlink()
        session.rmdir()


def list_sessions(data_dir: Path) -> list[Path]:
    """All session directories, oldest first."""
    return sessions_of(data_dir / SESSIONS)


def sessions_of(root: Path) -> list[Path]:
    """The session directories in `root`, oldest first."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir())


def previous_session(data_dir: Path, session: Path) -> Path | None:
    """The newest session before this one that has a ledger."""
    earlier = [path for path in list_sessions(data_dir) if path.name < session.name]
    for path in reversed(earlier):
        if any(path.glob("ledger-*.seg")):
            return path
    return None


def machine_facts(lock_path: Path | None) -> dict[str, Any]:
    """What must be equal for a replay to promise equal bytes: lock, CPU features, libc, Python."""
    return {
        "lock_sha256": _sha256(lock_path),
        "cpu_features": cpu_features(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
    }


def cpu_features() -> list[str]:
    """The CPU's feature flags, sorted; empty where the host does not tell."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return sorted(value.split())
    return []


def write_header(session: Path, header: Mapping[str, Any], config_text: str = "") -> None:
    """Write `header.json` whole or not at all, after the configuration the session runs under.

    Raises: JournalError naming the file that the disk refuses.
    """
    path = session / CONFIG
    try:
        if config_text:
            path.write_text(config_text)
        path = session / HEADER
        write_json(path, header)
    except OSError as error:
        raise JournalError(
            f"{path}: cannot begin a session: {error.strerror}; free space or lower the tape's"
            " retention"
        ) from error


def read_header(session: Path) -> dict[str, Any]:
    """Raises: ValueError naming the file where it is not a JSON object."""
    path = session / HEADER
    try:
        header = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable session header: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(header).__name__}")
    return header


def header_mismatches(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Sentences naming each machine fact in which a replay's machine differs from the recorder."""
    found = []
    for key in ("lock_sha256", "machine", "libc", "python", "cpu_features"):
        before, now = recorded.get(key), here.get(key)
        if before == now:
            continue
        if isinstance(before, list) and isinstance(now, list):
            gone = sorted(set(before) - set(now))
            new = sorted(set(now) - set(before))
            found.append(f"{key}: missing here {gone}, only here {new}")
        else:
            found.append(f"{key}: recorded {before!r}, here {now!r}")
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.write("\n")
        os.replace(fresh, path)
    except OSError:
        fresh.unlink()
        raise


def _sha256(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()
