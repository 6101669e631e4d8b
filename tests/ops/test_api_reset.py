"""Resets: who may, how many it takes, and every reason for which nothing is lifted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mm_daemon.domain.inputs import OperatorReset
from mm_daemon.domain.permission import (
    CRASH,
    HARD_STOP,
    HEDGE,
    OPERATOR,
    PERMISSION_ALL,
    PRESETS,
    REDUCE,
    TWO_PERSONS_MARK,
    Mask,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ops.audit import verify
from mm_daemon.ops.surroundings import Identity
from mm_daemon.ops.two_people import ACTS_MAX, ACTS_WINDOW_S, EXPIRES_S, PENDING_MAX
from tests.ops.rig import GOOD_REASON, STATUS, Door, Rig, lose_trader, serving, with_token

HALT = PRESETS["halt_quoting"]


def latch_control(rig: Rig, row: str, mask: Mask = HALT, reason: str = "tripped") -> None:
    rig.latch.raise_page(f"control:{row}", mask, reason, ts_ns=rig.wall_ns)
    rig.pass_time(1.0)


async def nothing_changed(rig: Rig, generation: int) -> None:
    assert rig.page.generation == generation
    assert LatchStore(rig.layout.latch, None).load().generation <= generation
    assert rig.fed == []
    assert rig.lines("reset", "reset_failed") == []


# -- one person ------------------------------------------------------------------------------------


async def test_reset_lifts_the_latch_and_the_trader_hears_of_it_before_and_after(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill()
        status, answer = await door.reset()
        assert (status, answer["generation"]) == (200, killed + 1)
        assert rig.page.permission == PERMISSION_ALL
        assert LatchStore(rig.layout.latch, None).load().entries == ()
        assert rig.fed == [
            OperatorReset(generation=killed + 1, is_ahead=True),
            OperatorReset(generation=killed + 1),
        ]


async def test_the_line_of_a_reset_is_written_before_it_and_says_who_and_what(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill(level="halt_quoting", reason="drill")
        await door.reset()
        (line,) = rig.lines("reset")
        assert (line["actor"], line["role"], line["reason"]) == ("risk", "risk", GOOD_REASON)
        assert len(line["token"]) == 12
        assert (line["generation"], line["generation_to"]) == (killed, killed + 1)
        assert (line["level_from"], line["level_to"]) == ("halt_quoting", "run")
        assert [one["source"] for one in line["lifted"]] == [OPERATOR]
        assert line["held"]["greeks"]["BTC"]["delta_coin"] == 0.5
        assert verify(rig.audit.path).is_whole


async def test_nothing_is_lifted_without_its_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill()
        rig.audit.problem = "audit log damaged"
        status, answer = await door.reset()
        assert (status, answer["code"]) == (503, "audit_unwritable")
        assert (rig.page.generation, rig.page.permission) == (killed, 0)
        assert rig.fed == []


async def test_nothing_is_lifted_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill()
        rig.latch.path = tmp_path / "gone" / "latch.json"
        status, answer = await door.reset()
        assert (status, answer["code"]) == (503, "latch_unwritable")
        assert (rig.page.generation, rig.page.permission) == (killed, 0)
        assert [line["act"] for line in rig.lines("reset", "reset_failed")] == [
            "reset",
            "reset_failed",
        ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"reason": GOOD_REASON}, 400, "bad_body"),
        ({"generation": 1}, 400, "bad_body"),
        ({"generation": "1", "reason": GOOD_REASON}, 400, "bad_body"),
        ({"generation": -1, "reason": GOOD_REASON}, 400, "bad_body"),
        ({"generation": 2, "reason": "short"}, 400, "bad_body"),
        ({"generation": 2, "reason": GOOD_REASON, "force": True}, 400, "bad_body"),
        ({"generation": 2, "reason": GOOD_REASON, "scope": "DOGE"}, 400, "bad_scope"),
        ({"generation": 1, "reason": GOOD_REASON}, 409, "stale_generation"),
        ({"generation": 2, "reason": GOOD_REASON, "scope": "ETH"}, 409, "not_latched"),
    ],
)
async def test_reset_that_misses_something_changes_nothing_and_is_on_the_log(
    tmp_path: Path, body: dict[str, Any], status: int, code: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill()
        found, answer = await door.post("/v1/reset", body, "risk")
        assert (found, answer["code"]) == (status, code)
        await nothing_changed(rig, killed)
        (line,) = rig.lines("reset_refused")
        assert (line["code"], line["status"], line["actor"]) == (code, status, "risk")


# -- terms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status_changes", "terms_changes", "code"),
    [
        ({"is_reconciled": False}, {}, "not_reconciled"),
        ({"reset": None}, {}, "not_reconciled"),
        ({}, {"reconcile_age_s": 30.1}, "old_reconcile"),
        ({}, {"reconcile_age_s": float("nan")}, "old_reconcile"),
        ({"unknown_orders": 1}, {}, "unknown_orders"),
        ({}, {"parked_fills": 2}, "parked_fills"),
        ({}, {"controls_holding": ("C18 venue",)}, "clock_offset"),
    ],
)
async def test_each_term_refuses_by_its_code(
    tmp_path: Path, status_changes: dict[str, Any], terms_changes: dict[str, Any], code: str
) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill()
        rig.set_terms(**terms_changes)
        rig.status = msgspec.structs.replace(rig.status, **status_changes)
        status, answer = await door.reset()
        assert (status, answer["code"]) == (409, code)
        await nothing_changed(rig, killed)
        assert rig.lines("reset_refused")[0]["code"] == code
        rig.status = STATUS
        assert (await door.reset())[0] == 200


async def test_all_terms_that_fail_are_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await door.kill()
        rig.set_terms(parked_fills=1, controls_holding=("C18 venue",))
        _, answer = await door.reset()
        assert answer["failed"] == ["parked_fills", "clock_offset"]


async def test_without_a_trader_nothing_is_lifted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        killed = await door.kill()
        await lose_trader(rig)
        status, answer = await door.reset()
        assert (status, answer["code"]) == (503, "trader_away")
        await nothing_changed(rig, killed)


async def test_a_control_that_still_holds_is_named_and_is_not_lifted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        latch_control(rig, "C13")
        rig.set_terms(controls_holding=("C13 venue",))
        status, answer = await door.reset()
        assert (status, answer["code"]) == (409, "control_holds")
        assert "C13 still holds: tripped" in answer["error"]
        rig.set_terms(controls_holding=("C14.index BTC",))
        assert (await door.reset())[0] == 200


async def test_before_every_input_was_seen_a_controls_latch_is_not_lifted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.set_terms(is_informed=False)
        await door.kill()
        assert (await door.reset())[0] == 200
        latch_control(rig, "C30")
        assert (await door.reset())[1]["code"] == "control_holds"


async def test_no_reset_before_the_kill_has_cooled_down_by_either_clock(tmp_path: Path) -> None:
    async with serving(tmp_path, cooldown_s=60.0) as (rig, door):
        await door.kill()
        rig.pass_time(59.0)
        status, answer = await door.reset()
        assert (status, answer["code"]) == (409, "cooling_down")
        rig.wall_ns += 3600 * 1_000_000_000
        assert (await door.reset())[1]["code"] == "cooling_down"
        rig.pass_time(1.1)
        assert (await door.reset())[0] == 200


async def test_the_same_kill_again_cools_down_anew(tmp_path: Path) -> None:
    async with serving(tmp_path, cooldown_s=60.0) as (rig, door):
        first = await door.kill()
        rig.pass_time(61.0)
        assert await door.kill() == first
        assert (await door.reset())[1]["code"] == "cooling_down"


async def test_trader_and_ops_of_different_builds_or_configurations_do_not_quote(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        await door.kill()
        good = rig.trader_identity
        for other in (Identity({"version": "1"}, "c0ffee"), Identity({"version": "0"}, "bad")):
            rig.trader_identity = other
            status, answer = await door.reset()
            assert (status, answer["code"]) == (409, "build_differs")
        rig.trader_identity = good
        assert (await door.reset())[0] == 200


async def test_a_crash_is_not_a_persons_to_lift(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.latch.raise_page(CRASH, PRESETS["cancel_all"], "died", ts_ns=rig.wall_ns)
        await door.kill()
        status, answer = await door.reset()
        assert (status, answer["state"]) == (200, "latched")
        assert rig.page.permission == 0


# -- two people ------------------------------------------------------------------------------------


async def test_two_people_lift_what_one_has_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        killed = await door.kill()
        status, asked = await door.reset(role="risk")
        assert (status, asked["expires_in_s"]) == (202, EXPIRES_S)
        await nothing_changed(rig, killed)
        _, seen = await door.get("/v1/status")
        assert [one["request_id"] for one in seen["resets_waiting"]] == [asked["request_id"]]
        status, answer = await door.approve(asked["request_id"], "admin")
        assert (status, answer["by"], answer["approved_by"]) == (200, "risk", "admin")
        assert rig.page.permission == PERMISSION_ALL
        requested, done = rig.lines("reset_requested", "reset")
        assert (requested["actor"], requested["request_id"]) == ("risk", asked["request_id"])
        assert (done["actor"], done["approver"]) == ("risk", "admin")
        assert done["token"] != done["approver_token"]


async def test_the_same_person_is_not_two_also_with_another_token(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        killed = await door.kill()
        other = with_token(rig, "risk", "admin")
        _, asked = await door.reset(role="risk")
        for headers in (rig.header("risk"), {"Authorization": f"Bearer {other}"}):
            body = {"request_id": asked["request_id"]}
            status, answer = await door.post("/v1/reset/approve", body, None, headers=headers)
            assert (status, answer["code"]) == (403, "same_person")
        await nothing_changed(rig, killed)
        assert len(rig.lines("reset_approve_refused")) == 2
        assert (await door.approve(asked["request_id"]))[0] == 200


async def test_an_approval_looks_at_every_term_again(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        killed = await door.kill()
        _, asked = await door.reset()
        rig.set_terms(parked_fills=1)
        status, answer = await door.approve(asked["request_id"])
        assert (status, answer["code"]) == (409, "parked_fills")
        await nothing_changed(rig, killed)
        rig.set_terms()
        assert (await door.approve(asked["request_id"]))[0] == 200


async def test_a_request_ends_after_its_time(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        _, asked = await door.reset()
        rig.pass_time(EXPIRES_S)
        status, answer = await door.approve(asked["request_id"])
        assert (status, answer["code"]) == (410, "expired_reset")
        status, answer = await door.approve(asked["request_id"])
        assert (status, answer["code"]) == (404, "unknown_reset")
        assert rig.page.permission == 0


async def test_an_approval_counts_once(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        _, asked = await door.reset()
        assert (await door.approve(asked["request_id"]))[0] == 200
        lifted = rig.page.generation
        status, answer = await door.approve(asked["request_id"])
        assert (status, answer["code"]) == (404, "unknown_reset")
        assert rig.page.generation == lifted


async def test_a_kill_drops_what_waited_also_where_it_repeats_itself(tmp_path: Path) -> None:
    """The second person would approve what was asked before the newest kill."""
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        _, asked = await door.reset()
        _, again = await door.post("/v1/kill", {}, "halt")
        assert again["resets_dropped"] == [asked["request_id"]]
        assert (await door.approve(asked["request_id"]))[1]["code"] == "unknown_reset"
        assert rig.page.permission == 0


async def test_a_latch_that_changed_meanwhile_ends_the_request(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        _, asked = await door.reset()
        latch_control(rig, "C22")
        assert (await door.approve(asked["request_id"]))[1]["code"] == "stale_generation"
        assert (await door.approve(asked["request_id"]))[1]["code"] == "unknown_reset"


async def raise_level(door: Door, level: str) -> None:
    await door.kill(level=level)


@pytest.mark.parametrize(
    ("level", "persons", "expected"),
    [
        ("halt_quoting", 2, 200),
        ("cancel_all", 1, 200),
        ("cancel_all", 2, 202),
        ("hedge_only", 1, 202),
        ("flatten", 1, 202),
        (HARD_STOP, 1, 202),
    ],
)
async def test_levels_take_as_many_people_as_they_must(
    tmp_path: Path, level: str, persons: int, expected: int
) -> None:
    async with serving(tmp_path, persons=persons) as (_, door):
        await door.kill(level=level)
        assert (await door.reset())[0] == expected


@pytest.mark.parametrize(
    ("row", "mask", "reason", "expected"),
    [
        ("C13", HALT, "tripped", 200),
        ("C11", Mask(REDUCE, 0), "loss", 202),
        ("C25", PRESETS[HARD_STOP], "fence", 202),
        ("C30", HALT, f"{TWO_PERSONS_MARK}again", 202),
    ],
)
async def test_controls_take_as_many_people_as_they_must(
    tmp_path: Path, row: str, mask: Mask, reason: str, expected: int
) -> None:
    async with serving(tmp_path) as (rig, door):
        latch_control(rig, row, mask, reason)
        assert (await door.reset())[0] == expected


async def test_a_loss_is_lifted_though_it_holds_for_only_the_reset_begins_it_anew(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        latch_control(rig, "C11", Mask(REDUCE, 0))
        rig.set_terms(controls_holding=("C11 firm",))
        _, asked = await door.reset()
        assert (await door.approve(asked["request_id"]))[0] == 200
        assert rig.page.permission == PERMISSION_ALL


async def test_one_persons_halt_beside_a_kill_takes_two(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        latch_control(rig, "C13")
        await door.kill(scope="BTC")
        assert (await door.reset())[0] == 202
        assert (await door.reset(scope="firm"))[0] == 200
        assert rig.page.permission == PERMISSION_ALL
        assert rig.latch.state().entry(OPERATOR, "BTC") is not None
        assert rig.page.permission & HEDGE


async def test_only_so_many_requests_wait(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        for _ in range(PENDING_MAX + 2):
            assert (await door.reset())[0] == 202
            rig.pass_time(ACTS_WINDOW_S / ACTS_MAX)
        rig.set_terms()
        assert len((await door.get("/v1/status"))[1]["resets_waiting"]) <= PENDING_MAX


async def test_resets_are_rate_limited_by_person_and_kills_are_not(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        for _ in range(ACTS_MAX):
            assert (await door.approve("none", "risk"))[0] == 404
        status, answer = await door.approve("none", "risk")
        assert (status, answer["code"]) == (429, "many_resets")
        assert (await door.approve("none", "admin"))[0] == 404
        await door.kill("risk")
        assert rig.page.permission == 0
        rig.pass_time(ACTS_WINDOW_S)
        assert (await door.approve("none", "risk"))[0] == 404
