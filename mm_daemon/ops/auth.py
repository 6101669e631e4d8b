"""Bearer tokens with roles, kept as hashes. A valid kill is never rate-limited; failures are.

Roles: view reads; halt may also narrow; trader may also turn bounded knobs; risk may also reset;
admin may all. A peer on the unix socket of the same user, or root, is admin by the kernel's word.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

FAILURES_MAX = 20
FAILURE_WINDOW_S = 60.0


class Role(IntEnum):
    """What a caller may do; each includes the ones below."""

    VIEW = 1
    HALT = 2
    TRADER = 3
    RISK = 4
    ADMIN = 5


@dataclass(frozen=True)
class Actor:
    """Who calls: a name for the audit log and a role."""

    name: str
    role: Role


class TokenStore:
    """Tokens by the SHA-256 of their text."""

    def __init__(self, actors: dict[str, Actor]) -> None:
        self._actors = actors
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    def find(self, header: str) -> Actor | None:
        """The actor of an `Authorization` header, or None. Compares in constant time."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = None
        for known, actor in self._actors.items():
            if hmac.compare_digest(known, digest):
                found = actor
        return found

    def note_failure(self, now_s: float) -> None:
        self._failures.append(now_s)

    def is_throttled(self, now_s: float) -> bool:
        """Whether too many wrong tokens came in lately; asked only when a token is wrong."""
        return len(self._failures) == FAILURES_MAX and now_s - self._failures[0] < FAILURE_WINDOW_S


def load_tokens(path: Path) -> TokenStore:
    """Reads the token file, or makes one token a role and prints nothing: see `<path>.new`.

    The plain tokens of a new file are written once to `<path>.new`, mode 0400, for the operator to
    hand out and delete. Raises ValueError naming the file where it is not a token file.
    """
    if not path.exists():
        _create(path)
    try:
        content = json.loads(path.read_text())
        actors = {
            entry["sha256"]: Actor(entry["name"], Role[entry["role"].upper()])
            for entry in content["tokens"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a readable token file: {error!r}") from error
    return TokenStore(actors)


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    plain = {role.name.lower(): secrets.token_hex(32) for role in Role}
    hashed = [
        {"name": role, "role": role, "sha256": hashlib.sha256(token.encode()).hexdigest()}
        for role, token in plain.items()
    ]
    _write(path, json.dumps({"tokens": hashed}, indent=1), 0o600)
    _write(path.with_name(path.name + ".new"), json.dumps(plain, indent=1), 0o400)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")
