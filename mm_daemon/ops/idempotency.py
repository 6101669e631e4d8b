"""Answers by `Idempotency-Key`: a request sent twice is carried out once and answered the same.

An answer is kept a day, with a hash of the request it was given to, in a file beside the latch, so
that a restart of this process does not carry out a repeated request again. Kept are the answers of
the act itself, yes or no; what never reached it (a bad token, a bad body) is judged anew.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mm_daemon.ops.refusal import RefusedError

ANSWERS_FILE: Final = "answers.jsonl"
KEPT_S: Final = 24 * 3600.0
ANSWERS_MAX: Final = 10_000
KEY_CHARS_MAX: Final = 64


class Answer(msgspec.Struct, frozen=True):
    """What was asked under a person's key, and what was said."""

    person: str
    key: str
    request_sha256: str
    status: int
    body: bytes
    wall_s: float

    @property
    def owner(self) -> str:
        """Nobody replays another person's request."""
        return f"{self.person} {self.key}"


def sha256_of(request: bytes) -> str:
    return hashlib.sha256(request).hexdigest()


class AnswerStore:
    """The answers of one daemon. One process writes the file."""

    def __init__(self, path: Path, now_s: float) -> None:
        self._path = path
        self._open: dict[str, str] = {}
        self._answers = {one.owner: one for one in _read(path) if now_s - one.wall_s < KEPT_S}
        self._write_all()

    def begin(self, person: str, key: str, request: bytes, now_s: float) -> Answer | None:
        """The answer to give again, or None: then `drop` must follow, after `finish` or not.

        Raises: RefusedError where the key is bad, was used for another request, or is still being
        answered.
        """
        if not 0 < len(key) <= KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
            raise RefusedError(
                "bad_key", f"expected 1 to {KEY_CHARS_MAX} printable ASCII characters"
            )
        self._forget(now_s)
        owner, digest = f"{person} {key}", sha256_of(request)
        known = self._answers.get(owner)
        if (known.request_sha256 if known else self._open.get(owner, digest)) != digest:
            raise RefusedError(
                "other_request", "this Idempotency-Key was used with another request"
            )
        if owner in self._open:
            raise RefusedError("in_progress", "the first with this key is not answered yet")
        if known is None:
            self._open[owner] = digest
        return known

    def finish(self, answer: Answer) -> None:
        """Keeps it. A disk that refuses keeps it from outliving this process, no more."""
        self._answers[answer.owner] = answer
        with suppress(OSError):
            _append(self._path, answer)

    def drop(self, person: str, key: str) -> None:
        """The request is no longer being answered."""
        self._open.pop(f"{person} {key}", None)

    def _forget(self, now_s: float) -> None:
        for owner, answer in list(self._answers.items()):
            is_full = len(self._answers) >= ANSWERS_MAX
            if not is_full and now_s - answer.wall_s < KEPT_S:
                break
            del self._answers[owner]

    def _write_all(self) -> None:
        """Rewrites the file without what has run out."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
            for answer in self._answers.values():
                _append(fresh, answer)
            if self._answers:
                os.replace(fresh, self._path)
            else:
                self._path.unlink(missing_ok=True)


def _append(path: Path, answer: Answer) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(answer) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> list[Answer]:
    """What can be read; a torn line is an answer that was never given."""
    found = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        with suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(line, type=Answer))
    return found
