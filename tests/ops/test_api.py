"""The control API over real sockets: views, kills and knobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.permission import (
    HARD_STOP,
    HEDGE,
    PERMISSION_ALL,
    PRESETS,
    REDUCE,
    scope_mask,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import GENERATION_SEEN, SCOPED_MASKS
from mm_daemon.ops.audit import verify
from tests.ops.rig import lose_trader, serving


async def test_kill_returns_after_the_gate_has_seen_it_and_is_durable(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.post("/v1/kill", {}, "halt")
        assert (status, answer["state"], answer["durable"]) == (200, "settling", True)
        assert rig.page.permission == 0
        assert rig.page.words[GENERATION_SEEN] == answer["generation"]
        assert LatchStore(rig.layout.latch, None).load().generation == answer["generation"]


async def test_the_three_names_of_everything_are_one_here_and_the_answer_says_so(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (_, door):
        for scope in ("firm", "venue", "account"):
            _, answer = await door.post("/v1/kill", {"scope": scope}, "halt")
            assert answer["scope"] == scope
            assert answer["covers"].startswith("this daemon, which is all of firm, venue and")


async def test_kill_of_one_underlying_leaves_the_others_and_its_reset_lifts_only_it(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.post("/v1/kill", {"scope": "ETH"}, "halt")
        assert (status, answer["covers"]) == (200, "ETH alone")
        assert rig.page.permission == PERMISSION_ALL
        masks = [scope_mask(rig.page.words[SCOPED_MASKS], place) for place in (0, 1)]
        assert [mask.permission for mask in masks] == [PERMISSION_ALL, 0]
        await door.kill(level="halt_quoting")
        status, answer = await door.reset(scope="ETH")
        assert (status, answer["lifted"]) == (200, ["operator"])
        assert rig.page.permission == HEDGE | REDUCE
        assert scope_mask(rig.page.words[SCOPED_MASKS], 1).permission == PERMISSION_ALL


async def test_unknown_level_and_scope_are_refused_with_those_there_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.post("/v1/kill", {"level": "half"}, "halt")
        assert (status, answer["code"]) == (400, "bad_level")
        assert "cancel_all" in answer["error"]
        status, answer = await door.post("/v1/kill", {"scope": "DOGE"}, "halt")
        assert (status, answer["code"]) == (400, "bad_scope")
        assert "ETH" in answer["error"]
        status, answer = await door.post("/v1/kill", {"level": HARD_STOP, "scope": "ETH"}, "halt")
        assert (status, answer["code"]) == (400, "bad_scope")
        assert rig.page.permission == PERMISSION_ALL
        assert len(rig.lines("kill_refused")) == 3


async def test_the_same_kill_again_has_the_same_generation_and_sweeps_again(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        first = await door.kill(reason="drill")
        _, again = await door.post("/v1/kill", {"reason": "drill"}, "halt")
        assert (again["generation"], again["repeated"]) == (first, True)
        await rig.api._acting.close()
        assert rig.looks_again == 1
        assert [line["repeated"] for line in rig.lines("kill")] == [False, True]


async def test_another_persons_kill_or_another_level_is_a_kill_of_its_own(tmp_path: Path) -> None:
    """A reset that saw the first does not know of the second."""
    async with serving(tmp_path) as (_, door):
        first = await door.kill("halt")
        second = await door.kill("trader")
        third = await door.kill("trader", level="hedge_only")
        assert first < second < third


async def test_the_same_kill_after_a_reset_latches_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await door.kill()
        assert (await door.reset())[0] == 200
        await door.kill()
        assert rig.page.permission == 0


async def test_hard_stop_blocks_the_next_start_and_has_an_entry_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await door.kill(level=HARD_STOP, reason="smoke")
        assert "smoke" in str(rig.latch.start_block())
        assert rig.latch.state().entry(HARD_STOP) is not None


async def test_knob_reaches_the_trader_with_its_actor(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        body = {"name": "width", "value": 1.5, "unit": "ratio", "underlying": "BTC"}
        assert await door.post("/v1/params", body, "trader") == (200, {"accepted": True})
        assert rig.fed == [TraderKnob("width", "BTC", 0, "", 1.5, "trader")]
        (line,) = rig.lines("params")
        assert (line["name"], line["value"], line["actor"]) == ("width", 1.5, "trader")


@pytest.mark.parametrize(
    ("name", "value", "unit", "said"),
    [
        ("width", 10.5, "ratio", "0.5 to 10"),
        ("vol_offset_vp", 0.02, "vol", "'vp'"),
        ("vol_offset_vp", -15.01, "vp", "-15 to 15"),
        ("blacklist", 0.5, "flag", "0 or 1"),
        ("notional", 58.0, "usd", "unknown knob"),
    ],
)
async def test_c29_a_fat_finger_is_refused_before_anything_is_sent(
    tmp_path: Path, name: str, value: float, unit: str, said: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        body = {"name": name, "value": value, "unit": unit}
        status, answer = await door.post("/v1/params", body, "admin")
        assert (status, answer["code"]) == (400, "bad_knob")
        assert said in answer["error"]
        assert rig.fed == []


async def test_c29_a_value_without_its_unit_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        status, answer = await door.post("/v1/params", {"name": "width", "value": 1.5}, "trader")
        assert (status, answer["code"]) == (400, "bad_body")
        assert "unit" in answer["error"]
        assert rig.fed == []


async def test_a_kill_is_on_the_log_with_all_that_a_later_reader_asks(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        generation = await door.kill(reason="drill", level="halt_quoting")
        await rig.api._acting.close()
        kill, picture = rig.lines("kill", "kill_picture")
        token = {one["name"]: one for one in json.loads(rig.tokens_path.read_text())["tokens"]}
        expected = {
            "actor": "halt",
            "role": "halt",
            "token": token["halt"]["sha256"][:12],
            "source": "127.0.0.1",
            "route": "/v1/kill",
            "scope": "firm",
            "level_from": "run",
            "level_to": "halt_quoting",
            "reason": "drill",
            "generation": generation,
            "build": {"version": "0"},
            "config_sha256": "c0ffee",
            "ts_ns": rig.wall_ns,
            "mono_ns": rig.mono_ns,
        }
        assert {key: kill[key] for key in expected} == expected
        assert (picture["generation"], picture["held"]["quotes_live"]) == (generation, 3)
        assert picture["held"]["greeks"]["BTC"]["gamma_usd"] == 2.0
        assert picture["held"]["equity_usd"] is None
        assert verify(rig.audit.path).is_whole


async def test_the_picture_of_a_kill_without_a_trader_says_that_there_is_none(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        await lose_trader(rig)
        await door.kill()
        await rig.api._acting.close()
        (line,) = rig.lines("kill_picture")
        assert line["held"] is None
        assert "not running" in line["held_problem"]


async def test_status_answers_without_a_trader_and_numbers_are_json(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        _, answer = await door.get("/v1/status")
        assert answer["equity_usd"] is None
        await lose_trader(rig)
        _, answer = await door.get("/v1/status")
        assert "not running" in answer["trader_error"]
        status, answer = await door.get("/v1/quotes")
        assert (status, answer["code"]) == (503, "trader_away")


async def test_status_names_each_latch_with_its_scope_and_level(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, door):
        await door.kill(scope="BTC", reason="drill")
        _, answer = await door.get("/v1/status")
        assert answer["latched_by"] == {"operator@BTC": "drill"}
        (latch,) = answer["latches"]
        assert (latch["scope"], latch["level"]) == ("BTC", "cancel_all")


async def test_a_corrupt_latch_file_counts_as_latched(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.latch.path.write_text('{"sha256": "0", "latch": {}}')
        rig.latch.publish()
        _, answer = await door.get("/v1/status")
        assert answer["permission"] == []
        assert "damaged" in answer["latched_by"]["latch_file"]
        await door.reset()
        assert rig.page.permission == 0
        assert "latch_file" in (await door.get("/v1/status"))[1]["latched_by"]


@pytest.mark.parametrize("level", PRESETS)
async def test_every_level_has_its_mask_on_the_page(tmp_path: Path, level: str) -> None:
    async with serving(tmp_path) as (rig, door):
        await door.kill(level=level)
        assert (rig.page.permission, rig.page.tasks) == PRESETS[level]


async def test_stream_sends_numbered_snapshots(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        response = await door.client.get("/v1/stream", headers=rig.header("view"))
        assert await response.content.readline() == b"id: 0\n"
        line = await response.content.readline()
        assert json.loads(line.removeprefix(b"data: "))["status"]["session"] == "s"
