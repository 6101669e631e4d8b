"""The audit log: who did what and when, each line chained to the one before by SHA-256.

Append-only JSON lines, synced before the act is answered. A line that was changed, removed or
inserted breaks the chain from there on, and `verify` names the first line that does not follow.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditVerdict:
    """Whether the chain holds. `broken_line` counts from 1; 0 = none."""

    lines: int
    broken_line: int
    reason: str


class AuditLog:
    """Appends to one file. One writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._last = _last_hash(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, entry: dict[str, Any]) -> str:
        """Writes one entry, synced; returns its hash. Raises OSError where the disk refuses."""
        body = {**entry, "prev": self._last}
        digest = _digest(body)
        line = json.dumps({**body, "hash": digest}, sort_keys=True) + "\n"
        os.write(self._fd, line.encode())
        os.fsync(self._fd)
        self._last = digest
        return digest

    def tail(self, count: int) -> list[dict[str, Any]]:
        """The last entries, newest last."""
        lines = self.path.read_text().splitlines()[-count:]
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        os.close(self._fd)


def verify(path: Path) -> AuditVerdict:
    """Walks the whole chain."""
    expected = GENESIS
    number = 0
    with path.open() as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                digest = entry.pop("hash")
            except (ValueError, KeyError, AttributeError):
                return AuditVerdict(number, number, "not an audit entry")
            if entry.get("prev") != expected:
                return AuditVerdict(number, number, "does not follow the line before")
            if _digest(entry) != digest:
                return AuditVerdict(number, number, "was changed after it was written")
            expected = digest
    return AuditVerdict(number, 0, "")


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _last_hash(path: Path) -> str:
    """The hash to chain to; a torn last line of a dead writer is cut off first."""
    if not path.exists():
        return GENESIS
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    if not whole:
        return GENESIS
    return str(json.loads(whole.splitlines()[-1])["hash"])
