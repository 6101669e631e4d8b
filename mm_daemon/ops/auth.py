"""Bearer tokens with roles, kept as hashes. A valid kill is never rate-limited; failures are.

Roles: view reads; halt may also narrow; trader may also turn bounded knobs; risk may also reset;
admin may all. A peer on the unix socket of the same user, or root, is admin by the kernel's word;
it may bring a token and is then the person of that token.

A person is a name: two tokens of one name are one person, also while an old one is being replaced.
All whom only the kernel names are one person where an act needs two (`ops.two_people`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
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
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


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
class Known:
    """One token: whose it is, and until when."""

    actor: Actor
    expires_s: float | None
    """Wall time in seconds; None = never."""


class TokenStore:
    """Tokens by the SHA-256 of their text."""

    def __init__(self, known: dict[str, Known]) -> None:
        self._known = known
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    def take(self, known: dict[str, Known]) -> None:
        """Other tokens from now on; failures keep counting."""
        self._known = known

    def actors(self) -> list[Actor]:
        return [one.actor for one in self._known.values()]

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
        """Whether too many came in lately; asked only when a token is wrong, or an act has none."""
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
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: not a readable token file: {error!r}") from error
    return TokenStore(parse_tokens(content, path))


def parse_tokens(content: bytes, path: Path) -> dict[str, Known]:
    """By the SHA-256 of their text. Raises: ValueError naming the file and what is wrong."""
    known: dict[str, Known] = {}
    try:
        for entry in json.loads(content)["tokens"]:
            sha256, one = _entry(entry)
            if sha256 in known:
                raise ValueError(f"{one.actor.name} has the token of {known[sha256].actor.name}")
            known[sha256] = one
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable token file: {error!r}") from error
    return known


def _entry(entry: dict[str, Any]) -> tuple[str, Known]:
    sha256 = str(entry["sha256"])
    if _SHA256.fullmatch(sha256) is None:
        # Not shown: it may be the token itself, put there by mistake.
        raise ValueError(f"sha256 of {entry['name']} is not 64 hexadecimal digits")
    actor = Actor(str(entry["name"]), Role[entry["role"].upper()], sha256[:FINGERPRINT_CHARS])
    if "expires" not in entry:
        return sha256, Known(actor, None)
    expires = datetime.fromisoformat(entry["expires"])
    if expires.tzinfo is None:
        raise ValueError(f"expires {entry['expires']!r} of {actor.name} has no time zone")
    return sha256, Known(actor, expires.timestamp())


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
