"""Answers by key: kept a day and over restarts, one request at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.ops.idempotency import ANSWERS_MAX, KEPT_S, Answer, AnswerStore, sha256_of
from mm_daemon.ops.refusal import RefusedError


def answer_of(key: str = "k", request: bytes = b"r", wall_s: float = 0.0) -> Answer:
    return Answer("alice", key, sha256_of(request), 200, b"{}", wall_s)


def code_of(store: AnswerStore, key: str, request: bytes, now_s: float = 0.0) -> str:
    with pytest.raises(RefusedError) as refused:
        store.begin("alice", key, request, now_s)
    return refused.value.code


def test_an_answer_is_kept_a_day_and_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    store = AnswerStore(path, 0.0)
    assert store.begin("alice", "k", b"r", 0.0) is None
    store.finish(answer_of())
    store.drop("alice", "k")
    assert AnswerStore(path, KEPT_S - 1.0).begin("alice", "k", b"r", KEPT_S - 1.0) == answer_of()
    assert store.begin("alice", "k", b"r", KEPT_S) is None
    assert AnswerStore(path, KEPT_S).begin("alice", "k", b"r", KEPT_S) is None


def test_the_second_waits_for_the_first_and_another_request_never_comes_in(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "answers.jsonl", 0.0)
    store.begin("alice", "k", b"r", 0.0)
    assert code_of(store, "k", b"r") == "in_progress"
    assert code_of(store, "k", b"other") == "other_request"
    assert store.begin("bob", "k", b"other", 0.0) is None
    store.drop("alice", "k")
    assert store.begin("alice", "k", b"other", 0.0) is None


@pytest.mark.parametrize("key", ["", "x" * 65, "a\tb", "ключ"])
def test_a_key_is_printable_and_short(tmp_path: Path, key: str) -> None:
    assert code_of(AnswerStore(tmp_path / "answers.jsonl", 0.0), key, b"r") == "bad_key"


def test_a_torn_line_is_an_answer_that_was_never_given(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    store = AnswerStore(path, 0.0)
    store.finish(answer_of("one"))
    store.finish(answer_of("two"))
    path.write_bytes(path.read_bytes()[:-20])
    again = AnswerStore(path, 1.0)
    assert again.begin("alice", "one", b"r", 1.0) == answer_of("one")
    assert again.begin("alice", "two", b"r", 1.0) is None
    again.finish(answer_of("two"))
    assert AnswerStore(path, 1.0).begin("alice", "two", b"r", 1.0) == answer_of("two")


def test_a_disk_that_refuses_keeps_the_answer_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    store = AnswerStore(path, 0.0)
    path.mkdir()
    store.finish(answer_of())
    assert store.begin("alice", "k", b"r", 0.0) == answer_of()


def test_no_more_answers_are_kept_than_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.mkdir()
    store = AnswerStore(path.with_name("none") / "answers.jsonl", 0.0)
    for number in range(ANSWERS_MAX):
        store.finish(answer_of(f"k{number}"))
    assert store.begin("alice", "new", b"r", 1.0) is None
    assert store.begin("alice", "k0", b"other", 1.0) is None
    assert store.begin("alice", "k2", b"r", 1.0) == answer_of("k2")
