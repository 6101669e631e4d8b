"""Bearer tokens with roles, kept as hashes. A valid kill is never rate-limited; failures are.

Roles: view reads; halt may also narrow; trader may also turn bounded knobs; risk may also reset;
admin may all. A peer on the unix socket of the same user, or root, is admin by the kernel's word;
it may bring a token and is then the person of that token.

A person is a name: two tokens of one name are one person, also while an old one is being replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Final

FAILURES_MAX: Final = 20
FAILURE_WINDOW_S: Final = 60.0
FINGERPRINT_CHARS: Final = 12


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
    fingerprint: str = ""
    """First digits of the SHA-256 of the token; empty for a peer on the unix socket."""
    peer: str = ""
    """Where the call came from: an address, or user and process on the unix socket."""


class TokenFault(Enum):
    """Why a header names nobody; the value is the refusal's code."""

    MISSING = "no_token"
    WRONG = "wrong_token"
    EXPIRED = "expired_token"


@dataclass(frozen=True)
class _Known:
    actor: Actor
    expires_s: float | None
    """Wall time in seconds; None = never."""


class TokenStore:
    """Tokens by the SHA-256 of their text."""

    def __init__(self, known: dict[str, _Known]) -> None:
        self._known = known
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    def find(self, header: str, wall_s: float) -> Actor | TokenFault:
        """The actor of an `Authorization` header. Compares in constant time."""
        if not header:
            return TokenFault.MISSING
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return TokenFault.WRONG
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = None
        for sha256, known in self._known.items():
            if hmac.compare_digest(sha256, digest):
                found = known
        if found is None:
            return TokenFault.WRONG
        if found.expires_s is not None and wall_s >= found.expires_s:
            return TokenFault.EXPIRED
        return found.actor

    def note_failure(self, now_s: float) -> None:
        self._failures.append(now_s)

    def is_throttled(self, now_s: float) -> bool:
        """Whether too many wrong tokens came in lately; asked only when a token is wrong."""
        return len(self._failures) == FAILURES_MAX and now_s - self._failures[0] < FAILURE_WINDOW_S


def load_tokens(path: Path) -> TokenStore:
    """Reads the token file, or makes one token a role and prints nothing: see `<path>.new`.

    An entry is `{"name", "role", "sha256", "expires"}`, the last an ISO 8601 time with its zone, or
    absent. The plain tokens of a new file are written once to `<path>.new`, mode 0400, for the
    operator to hand out and delete. Raises ValueError naming the file where it is not a token file.
    """
    if not path.exists():
        _create(path)
    try:
        content = json.loads(path.read_text())
        known = dict(_entry(one) for one in content["tokens"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable token file: {error!r}") from error
    return TokenStore(known)


def _entry(entry: dict[str, Any]) -> tuple[str, _Known]:
    sha256 = str(entry["sha256"])
    actor = Actor(str(entry["name"]), Role[entry["role"].upper()], sha256[:FINGERPRINT_CHARS])
    if "expires" not in entry:
        return sha256, _Known(actor, None)
    expires = datetime.fromisoformat(entry["expires"])
    if expires.tzinfo is None:
        raise ValueError(f"expires {entry['expires']!r} of {actor.name} has no time zone")
    return sha256, _Known(actor, expires.timestamp())


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
