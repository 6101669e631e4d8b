"""Tokens: hashed at rest, compared whole, ended in time, throttled only when wrong."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mm_daemon.ops.auth import (
    FAILURE_WINDOW_S,
    FAILURES_MAX,
    Actor,
    Role,
    TokenFault,
    load_tokens,
)

NOW_S = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def write_token(path: Path, **more: str) -> None:
    digest = hashlib.sha256(b"plain").hexdigest()
    token = {"name": "alice", "role": "risk", "sha256": digest, **more}
    path.write_text(json.dumps({"tokens": [token]}))


def test_new_token_file_holds_hashes_only_and_the_plain_ones_are_written_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.json"
    store = load_tokens(path)
    plain = json.loads((tmp_path / "tokens.json.new").read_text())
    assert (tmp_path / "tokens.json.new").stat().st_mode & 0o777 == 0o400
    assert not any(token in path.read_text() for token in plain.values())
    for name, token in plain.items():
        actor = store.find(f"Bearer {token}", NOW_S)
        assert isinstance(actor, Actor)
        assert actor.role is Role[name.upper()]
        assert hashlib.sha256(token.encode()).hexdigest().startswith(actor.fingerprint)


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer wrong", "Basic abc"])
def test_anything_but_a_known_bearer_token_is_wrong(tmp_path: Path, header: str) -> None:
    assert load_tokens(tmp_path / "tokens.json").find(header, NOW_S) is TokenFault.WRONG


def test_a_token_is_compared_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_token(path)
    begins = hashlib.sha256(b"plain").hexdigest()[:3]
    guesses = (f"guess-{number}" for number in range(100_000))
    alike = [one for one in guesses if hashlib.sha256(one.encode()).hexdigest()[:3] == begins]
    store = load_tokens(path)
    assert len(alike) > 5
    assert {store.find(f"Bearer {one}", NOW_S) for one in alike} == {TokenFault.WRONG}
    assert store.find("Bearer plai", NOW_S) is TokenFault.WRONG
    assert store.find("Bearer plainer", NOW_S) is TokenFault.WRONG


def test_no_header_is_a_missing_token(tmp_path: Path) -> None:
    assert load_tokens(tmp_path / "tokens.json").find("", NOW_S) is TokenFault.MISSING


def test_a_token_ends_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_token(path, expires="2026-01-01T01:00:00+01:00")
    store = load_tokens(path)
    assert isinstance(store.find("Bearer plain", NOW_S - 1.0), Actor)
    assert store.find("Bearer plain", NOW_S) is TokenFault.EXPIRED


def test_wrong_tokens_are_throttled_within_the_window(tmp_path: Path) -> None:
    store = load_tokens(tmp_path / "tokens.json")
    for number in range(FAILURES_MAX):
        assert not store.is_throttled(float(number))
        store.note_failure(float(number))
    assert store.is_throttled(float(FAILURES_MAX))
    assert not store.is_throttled(FAILURE_WINDOW_S + 1.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"tokens": [{"sha256": "x"}]}',
        '{"tokens": [{"sha256": "x", "name": "a", "role": "king"}]}',
        '{"tokens": [{"sha256": "x", "name": "a", "role": "risk", "expires": "2026-01-01"}]}',
        "[]",
        "{",
    ],
)
def test_damaged_token_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"tokens\.json"):
        load_tokens(path)
