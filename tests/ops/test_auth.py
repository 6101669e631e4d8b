"""Tokens: hashed at rest, compared whole, throttled only when wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm_daemon.ops.auth import FAILURE_WINDOW_S, FAILURES_MAX, Role, load_tokens


def test_new_token_file_holds_hashes_only_and_the_plain_ones_are_written_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.json"
    store = load_tokens(path)
    plain = json.loads((tmp_path / "tokens.json.new").read_text())
    assert (tmp_path / "tokens.json.new").stat().st_mode & 0o777 == 0o400
    assert not any(token in path.read_text() for token in plain.values())
    for name, token in plain.items():
        actor = store.find(f"Bearer {token}")
        assert actor is not None
        assert actor.role is Role[name.upper()]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic abc"])
def test_anything_but_a_known_bearer_token_is_nobody(tmp_path: Path, header: str) -> None:
    assert load_tokens(tmp_path / "tokens.json").find(header) is None


def test_wrong_tokens_are_throttled_within_the_window(tmp_path: Path) -> None:
    store = load_tokens(tmp_path / "tokens.json")
    for number in range(FAILURES_MAX):
        assert not store.is_throttled(float(number))
        store.note_failure(float(number))
    assert store.is_throttled(float(FAILURES_MAX))
    assert not store.is_throttled(FAILURE_WINDOW_S + 1.0)


def test_damaged_token_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"tokens": [{"sha256": "x"}]}')
    with pytest.raises(ValueError, match=r"tokens\.json"):
        load_tokens(path)
