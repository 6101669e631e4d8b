"""Who counts as a second person."""

from __future__ import annotations

import pytest

from mm_daemon.ops.auth import Actor, Role
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.two_people import Waiting, Words

ROOT = Actor("uid0", Role.ADMIN, peer="unix uid=0 pid=7")
DAEMON = Actor("uid900", Role.ADMIN, peer="unix uid=900 pid=8")
ALICE = Actor("alice", Role.RISK, "a" * 12, "127.0.0.1")
BOB = Actor("bob", Role.RISK, "b" * 12, "127.0.0.1")


def code_of(first: Actor, second: Actor) -> str:
    """Of `second` approving what `first` asked for; empty = they are two."""
    words = Words("reset", "unknown_reset", "expired_reset")
    waiting: Waiting[str] = Waiting(words, lambda: 0, lambda actor: True)
    pending = waiting.draft(first, "because", "this")
    waiting.keep(pending)
    try:
        waiting.find(pending.request_id, second)
    except RefusedError as error:
        return error.code
    return ""


@pytest.mark.parametrize(("first", "second"), [(ROOT, DAEMON), (DAEMON, ROOT), (ROOT, ROOT)])
def test_two_users_that_only_the_kernel_names_are_one_person(first: Actor, second: Actor) -> None:
    assert code_of(first, second) == "same_person"


@pytest.mark.parametrize(("first", "second"), [(ALICE, BOB), (ALICE, DAEMON), (ROOT, BOB)])
def test_two_names_are_two_people_where_a_token_tells_one_of_them(
    first: Actor, second: Actor
) -> None:
    assert code_of(first, second) == ""


def test_a_persons_second_token_is_not_a_second_person() -> None:
    assert code_of(ALICE, Actor("alice", Role.ADMIN, "c" * 12)) == "same_person"
