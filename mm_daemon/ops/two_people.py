"""What one person asked for and another must approve: kept in memory, for a while, a few at most.

A restart of this process drops it, and whoever asked asks again.

Two people are two names, of which at least one is told by its token. The kernel's word for a user
of this host counts as one person, whichever user it names: whoever may become root is both.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from mm_daemon.ops.auth import Actor
from mm_daemon.ops.refusal import RefusedError

EXPIRES_S: Final = 600
PENDING_MAX: Final = 16
ACTS_MAX: Final = 10
ACTS_WINDOW_S: Final = 60.0
_NS_PER_S: Final = 1_000_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class Pending(Generic[T]):
    """An act that waits for its second person."""

    request_id: str
    by: Actor
    reason: str
    what: T
    expires_mono_ns: int

    def expires_in_s(self, mono_ns: int) -> float:
        return (self.expires_mono_ns - mono_ns) / _NS_PER_S


@dataclass(frozen=True)
class Words:
    """The codes that a kind of act refuses by."""

    kind: str
    unknown: str
    expired: str


class Waiting(Generic[T]):
    """All of one kind."""

    def __init__(
        self, words: Words, mono_ns: Callable[[], int], knows: Callable[[Actor], bool]
    ) -> None:
        """`knows`: whether the token of somebody who asked is still valid."""
        self._words = words
        self._knows = knows
        self._mono_ns = mono_ns
        self._pending: dict[str, Pending[T]] = {}

    def draft(self, by: Actor, reason: str, what: T) -> Pending[T]:
        """One that is not kept yet, so that its id can go onto the audit log first."""
        expires_ns = self._mono_ns() + EXPIRES_S * _NS_PER_S
        return Pending(secrets.token_hex(8), by, reason, what, expires_ns)

    def keep(self, pending: Pending[T]) -> None:
        """Takes it up; the oldest go where there are too many."""
        for request_id, one in list(self._pending.items()):
            is_full = len(self._pending) >= PENDING_MAX
            if is_full or one.expires_in_s(self._mono_ns()) <= 0:
                del self._pending[request_id]
        self._pending[pending.request_id] = pending

    def find(self, request_id: str, second: Actor) -> Pending[T]:
        """The one to approve. Raises: RefusedError where there is none, or `second` asked for
        it."""
        kind, pending = self._words.kind, self._pending.get(request_id)
        if pending is None:
            raise RefusedError(
                self._words.unknown,
                f"no request {request_id!r} waits: it was carried out, or dropped by a kill, a"
                " change of the latch or a restart of ops: ask again",
            )
        if pending.expires_in_s(self._mono_ns()) <= 0:
            self.drop(request_id)
            raise RefusedError(
                self._words.expired, f"the request waited for more than {EXPIRES_S} s: ask again"
            )
        if not self._knows(pending.by):
            self.drop(request_id)
            raise RefusedError(
                self._words.unknown, f"the token that {pending.by.name} asked with was taken away"
            )
        if pending.by.name == second.name:
            raise RefusedError(
                "same_person",
                f"{second.name} asked for this {kind}: another person must approve it",
            )
        if not (pending.by.fingerprint or second.fingerprint):
            raise RefusedError(
                "same_person",
                f"{pending.by.name} and {second.name} both came by this host's socket without a"
                " token, where one person can be either: one of the two must bring a token"
                " (MM_TOKEN)",
            )
        return pending

    def drop(self, request_id: str) -> None:
        self._pending.pop(request_id, None)

    def void(self) -> tuple[str, ...]:
        """Drops all; returns the ids that are gone."""
        gone = tuple(self._pending)
        self._pending.clear()
        return gone

    def alive(self) -> list[Pending[T]]:
        now_ns = self._mono_ns()
        return [one for one in self._pending.values() if one.expires_in_s(now_ns) > 0]


class Pace:
    """How often one person may ask; kills never come through here."""

    def __init__(self, code: str, mono_ns: Callable[[], int]) -> None:
        self._code = code
        self._mono_ns = mono_ns
        self._times: dict[str, deque[int]] = {}

    def require(self, actor: Actor) -> None:
        """Counts this one. Raises: RefusedError."""
        now_ns = self._mono_ns()
        times = self._times.setdefault(actor.name, deque(maxlen=ACTS_MAX))
        if len(times) == ACTS_MAX and now_ns - times[0] < ACTS_WINDOW_S * _NS_PER_S:
            raise RefusedError(
                self._code, f"more than {ACTS_MAX} in {ACTS_WINDOW_S:g} s by {actor.name}"
            )
        times.append(now_ns)


def people_fields(people: list[Actor], reasons: list[str]) -> dict[str, Any]:
    """One or two people on an audit line."""
    first, last = people[0], people[-1]
    fields = {
        "actor": first.name,
        "role": first.role.name.lower(),
        "token": first.fingerprint,
        "source": first.peer,
        "reason": reasons[0],
    }
    if len(people) > 1:
        fields |= {
            "approver": last.name,
            "approver_role": last.role.name.lower(),
            "approver_token": last.fingerprint,
            "approver_source": last.peer,
            "approver_reason": reasons[-1],
        }
    return fields
