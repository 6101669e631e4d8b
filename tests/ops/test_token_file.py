"""A changed token file is taken up at the next request; a damaged one changes nothing, loudly."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mm_daemon.ops.auth import Actor, TokenFault
from mm_daemon.ops.token_file import SETTLED_S, TokenFile
from tests.ops.rig import Rig, serving, with_token

NOW_S = 0.0


def remove(rig: Rig, name: str) -> None:
    content = json.loads(rig.tokens_path.read_text())
    content["tokens"] = [one for one in content["tokens"] if one["name"] != name]
    rig.tokens_path.write_text(json.dumps(content))


def one_token(name: str, plain: str = "plain", **more: Any) -> str:
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps({"tokens": [{"name": name, "role": "risk", "sha256": digest, **more}]})


def name_of(tokens: TokenFile) -> str:
    found = tokens.find("Bearer plain", NOW_S)
    return found.name if isinstance(found, Actor) else found.value


async def test_a_removed_token_is_refused_at_its_next_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        assert (await door.get("/v1/status", "risk"))[0] == 200
        remove(rig, "risk")
        status, answer = await door.get("/v1/status", "risk")
        assert (status, answer["code"]) == (401, "wrong_token")
        assert (await door.get("/v1/status", "view"))[0] == 200
        (line,) = rig.lines("tokens_changed")
        assert (line["added"], len(line["removed"])) == ([], 1)
        assert line["removed"][0].startswith("risk (risk, ")


async def test_a_token_that_kills_is_refused_too_once_it_is_removed(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        remove(rig, "halt")
        assert (await door.post("/v1/kill", {}, "halt"))[1]["code"] == "wrong_token"
        assert rig.page.permission != 0


async def test_an_added_token_and_a_changed_role_count_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        carol = with_token(rig, "carol", "halt")
        headers = {"Authorization": f"Bearer {carol}"}
        assert (await door.ask("POST", "/v1/kill", headers=headers, json={}))[0] == 200
        content = rig.tokens_path.read_text().replace(
            '"carol", "role": "halt"', '"carol", "role": "view"'
        )
        rig.tokens_path.write_text(content)
        refused = await door.ask("POST", "/v1/kill", headers=headers, json={})
        assert refused[1]["code"] == "wrong_role"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"tokens": [{"name": "a", "role": "king", "sha256": "%s"}]}' % ("0" * 64),
        '{"tokens": [{"name": "a", "role": "risk", "sha256": "short"}]}',
    ],
    ids=["empty", "torn", "list", "role", "hash"],
)
async def test_a_damaged_file_keeps_the_tokens_and_is_said_until_it_is_whole(
    tmp_path: Path, text: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        whole = rig.tokens_path.read_text()
        rig.tokens_path.write_text(text)
        status, answer = await door.get("/v1/status", "risk")
        assert status == 200
        assert str(rig.tokens_path) in answer["tokens_problem"]
        assert "short" not in answer["tokens_problem"], "it may be a token in the wrong place"
        for _ in range(3):
            await door.get("/v1/status", "risk")
        assert len(rig.lines("tokens_unusable")) == 1
        rig.tokens_path.write_text(whole)
        assert (await door.get("/v1/status", "risk"))[1]["tokens_problem"] == ""
        assert len(rig.lines("tokens_usable")) == 1
        assert rig.lines("tokens_changed") == []


async def test_a_file_that_is_gone_is_damaged_and_not_made_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.tokens_path.unlink()
        status, answer = await door.get("/v1/status", "risk")
        assert (status, "No such file" in answer["tokens_problem"]) == (200, True)
        assert not rig.tokens_path.exists()


async def test_what_a_removed_person_asked_for_is_not_approved_any_more(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        _, asked = await door.reset("risk")
        remove(rig, "risk")
        status, answer = await door.approve(asked["request_id"], "admin")
        assert (status, answer["code"], rig.page.permission) == (404, "unknown_reset", 0)
        assert "taken away" in answer["error"]


async def test_a_stream_ends_with_its_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        response = await door.client.get("/v1/stream", headers=rig.header("view"))
        await response.content.readuntil(b"\n\n")
        remove(rig, "view")
        async with asyncio.timeout(5.0):
            await response.content.read()


async def test_two_changes_within_one_tick_of_the_clock_are_both_seen(tmp_path: Path) -> None:
    """Same size, same inode, same time stamp: only the bytes tell."""
    path = tmp_path / "tokens.json"
    path.write_text(one_token("alice"))
    tokens = TokenFile(path)
    await tokens.refresh()
    status = path.stat()
    path.write_text(one_token("carol"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    await tokens.refresh()
    assert name_of(tokens) == "carol"


async def test_a_file_left_alone_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(one_token("alice"))
    old_ns = path.stat().st_mtime_ns - int(2 * SETTLED_S * 1e9)
    os.utime(path, ns=(old_ns, old_ns))
    tokens = TokenFile(path)
    await tokens.refresh()
    reads: list[int] = []
    tokens.read = lambda: reads.append(1)  # type: ignore[method-assign]
    for _ in range(100):
        await tokens.refresh()
    assert reads == []


async def test_a_disk_that_hangs_is_waited_for_a_moment_and_read_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(one_token("alice"))
    tokens = TokenFile(path)
    hanging, reads = threading.Event(), []

    def read() -> None:
        reads.append(1)
        hanging.wait(10.0)

    tokens.read = read  # type: ignore[method-assign]
    for _ in range(20):
        await tokens.refresh(0.001)
    assert reads == [1]
    assert "could not be read within" in tokens.problem
    assert name_of(tokens) == "alice"
    hanging.set()


def test_two_names_with_one_token_are_nobody(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    both = json.loads(one_token("alice"))["tokens"] + json.loads(one_token("carol"))["tokens"]
    path.write_text(json.dumps({"tokens": both}))
    with pytest.raises(ValueError, match="carol has the token of alice"):
        TokenFile(path)


def test_a_wrong_token_is_still_wrong_after_all_that(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(one_token("alice", "other"))
    assert TokenFile(path).find("Bearer plain", NOW_S) is TokenFault.WRONG
