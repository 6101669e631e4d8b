"""Adopting the venue's positions: shown first, by people who may, on terms, once, on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mm_daemon.core.view_builder import build_view
from mm_daemon.domain.inputs import AdoptVenue
from mm_daemon.domain.units import Ns
from mm_daemon.ops.surroundings import Identity
from mm_daemon.ops.two_people import ACTS_MAX, EXPIRES_S
from tests.core.test_adjustments import Haunted
from tests.ops.rig import (
    DIFFERENCE,
    GOOD_REASON,
    NOTHING_DIFFERS,
    Door,
    Rig,
    lose_trader,
    serving,
    with_token,
)

DONE = "adopted: 1 positions"


async def stop_with_difference(rig: Rig, door: Door, **changes: Any) -> None:
    """Stopped, and one position differs for long."""
    await door.kill()
    rig.set_adoption(DIFFERENCE, **changes)
    rig.adoption_outcome = DONE


async def adopt(door: Door, role: str = "risk", **body: Any) -> tuple[int, Any]:
    whole = {
        "generation": door.rig.page.generation,
        "difference_id": DIFFERENCE.difference_id,
        "reason": GOOD_REASON,
        **body,
    }
    return await door.post("/v1/adopt", whole, role)


async def test_the_difference_is_in_the_status_before_anybody_asks(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        shown = (await door.get("/v1/status"))[1]["adoption"]
        assert shown["difference_id"] == "d1ff"
        expected = {"instrument": "BTC-PERPETUAL", "ours": 0.0, "venue": 70.0}
        assert shown["differences"] == [expected]


async def test_where_one_suffices_it_is_handed_over_with_its_person_and_its_end_is_told(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        status, answer = await adopt(door)
        assert (status, answer["state"], answer["by"]) == (200, DONE, "risk")
        assert rig.fed == [AdoptVenue(actor="risk", reason=GOOD_REASON, difference_id="d1ff")]
        (line,) = rig.lines("adopt")
        assert (line["actor"], line["reason"], line["difference_id"]) == (
            "risk",
            GOOD_REASON,
            "d1ff",
        )
        assert line["differences"][0]["venue"] == 70.0
        assert rig.lines("adopt_ended")[0]["outcome"] == DONE
        assert rig.page.permission == 0, "nothing is lifted by it"


async def test_two_people_where_the_rules_say_so_and_never_the_same_one(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await stop_with_difference(rig, door)
        status, asked = await adopt(door)
        assert (status, asked["expires_in_s"], rig.fed) == (202, EXPIRES_S, [])
        (waiting,) = (await door.get("/v1/status"))[1]["adoptions_waiting"]
        assert (waiting["request_id"], waiting["difference_id"]) == (asked["request_id"], "d1ff")
        approval = {"request_id": asked["request_id"]}
        own = {"Authorization": f"Bearer {with_token(rig, 'risk', 'admin')}"}
        refused = await door.ask("POST", "/v1/adopt/approve", headers=own, json=approval)
        assert refused[1]["code"] == "same_person"
        status, answer = await door.post("/v1/adopt/approve", approval)
        assert (status, answer["by"], answer["approved_by"]) == (200, "risk", "admin")
        (wish,) = rig.fed
        assert isinstance(wish, AdoptVenue)
        assert wish.actor == "risk and admin"
        (line,) = rig.lines("adopt")
        assert (line["actor"], line["approver"]) == ("risk", "admin")
        assert line["token"] != line["approver_token"] != ""
        again = await door.post("/v1/adopt/approve", approval)
        assert again[1]["code"] == "unknown_adoption"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"why_not": "fills are parked: they may explain it"}, "not_adoptable"),
        ({"difference_id": "0ther"}, "stale_difference"),
        ({"difference_id": "", "differences": ()}, "no_difference"),
    ],
)
async def test_what_the_decision_knows_is_judged_at_the_request_and_at_the_approval(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await stop_with_difference(rig, door, **changes)
        status, answer = await adopt(door)
        assert (status, answer["code"]) == (409, code)
        rig.set_adoption(DIFFERENCE)
        asked = (await adopt(door))[1]
        rig.set_adoption(DIFFERENCE, **changes)
        approval = {"request_id": asked["request_id"]}
        status, answer = await door.post("/v1/adopt/approve", approval)
        assert (status, answer["code"], rig.fed) == (409, code, [])
        assert [line["code"] for line in rig.lines("adopt_refused", "adopt_approve_refused")] == [
            code,
            code,
        ]
        left = (await door.get("/v1/status"))[1]["adoptions_waiting"]
        assert bool(left) == (code == "not_adoptable"), "what was seen is gone: ask again"


async def test_a_stale_generation_and_a_kill_in_between_end_it(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await stop_with_difference(rig, door)
        stale = await adopt(door, generation=rig.page.generation - 1)
        assert stale[1]["code"] == "stale_generation"
        asked = (await adopt(door))[1]
        await door.kill(level="hedge_only")
        approval = {"request_id": asked["request_id"]}
        gone = await door.post("/v1/adopt/approve", approval)
        assert (gone[1]["code"], rig.fed) == ("unknown_adoption", [])
        assert rig.lines("kill")[-1]["resets_dropped"] == [asked["request_id"]]


async def test_one_that_waits_runs_out(tmp_path: Path) -> None:
    async with serving(tmp_path, persons=2) as (rig, door):
        await stop_with_difference(rig, door)
        asked = (await adopt(door))[1]
        rig.pass_time(EXPIRES_S)
        approval = {"request_id": asked["request_id"]}
        late = await door.post("/v1/adopt/approve", approval)
        assert (late[0], late[1]["code"], rig.fed) == (410, "expired_adoption", [])


async def test_a_daemon_that_may_quote_is_stopped_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        rig.set_adoption(DIFFERENCE)
        status, answer = await adopt(door)
        assert (status, answer["code"], rig.fed) == (409, "not_stopped", [])
        await door.kill(scope="BTC")
        assert (await adopt(door))[1]["code"] == "not_stopped"


@pytest.mark.parametrize("role", ["view", "halt", "trader"])
async def test_only_risk_and_admin_may(tmp_path: Path, role: str) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        status, answer = await adopt(door, role)
        assert (status, answer["code"], rig.fed) == (403, "wrong_role", [])


@pytest.mark.parametrize(
    "change", [{"reason": "short"}, {"difference_id": ""}, {"generation": -1}], ids=str
)
async def test_it_takes_a_reason_and_what_was_seen(tmp_path: Path, change: dict[str, Any]) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        assert (await adopt(door, **change))[1]["code"] == "bad_body"
        assert rig.fed == []


async def test_without_a_trader_a_log_or_the_same_build_nothing_is_handed_over(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        rig.trader_identity = Identity({"version": "1"}, "c0ffee")
        assert (await adopt(door))[1]["code"] == "build_differs"
        rig.trader_identity = rig.around.identity
        rig.audit.problem = "audit log damaged"
        assert (await adopt(door))[1]["code"] == "audit_unwritable"
        rig.audit.problem = ""
        rig.status = msgspec.structs.replace(rig.status, adoption=None)
        assert (await adopt(door))[1]["code"] == "not_reconciled"
        await lose_trader(rig)
        assert (await adopt(door))[1]["code"] == "trader_away"
        assert rig.fed == []


async def test_what_the_decision_refuses_is_an_answer_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        rig.adoption_outcome = "refused: the difference is not the one that was seen"
        status, answer = await adopt(door)
        assert (status, answer["code"]) == (409, "not_adopted")
        assert "not the one that was seen" in answer["error"]
        assert rig.lines("adopt_ended")[0]["outcome"] == rig.adoption_outcome


async def test_the_same_key_is_handed_over_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        await stop_with_difference(rig, door)
        body = {"generation": rig.page.generation, "difference_id": "d1ff", "reason": GOOD_REASON}
        key = {"Idempotency-Key": "k1"}
        first = await door.post("/v1/adopt", body, "risk", headers=key)
        assert first[0] == 200
        rig.set_adoption(NOTHING_DIFFERS, ended=1, outcome=DONE)
        assert await door.post("/v1/adopt", body, "risk", headers=key) == first
        assert len(rig.fed) == 1


async def test_nobody_asks_faster_than_the_pace(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, door):
        for _ in range(ACTS_MAX):
            assert (await adopt(door))[1]["code"] == "not_stopped"
        assert (await adopt(door))[1]["code"] == "many_adoptions"
        assert (await adopt(door, "admin"))[1]["code"] == "not_stopped"


async def test_the_whole_way_to_the_books_of_a_real_decision(tmp_path: Path) -> None:
    """The status is the engine's own, and the wish goes into it as the trader's loop feeds it."""
    haunted = Haunted().wait_until_old()
    async with serving(tmp_path) as (rig, door):
        await door.kill()

        def view(name: str) -> bytes:
            haunted.bench.run(1)
            return build_view(haunted.bench.engine, name, Ns(haunted.bench.now))

        rig.link._view = view
        rig.link._feed = haunted.bench.feed
        shown = (await door.get("/v1/status"))[1]["adoption"]
        status, answer = await adopt(door, difference_id=shown["difference_id"])
        assert (status, answer["state"]) == (200, DONE)
        assert int(haunted.state.portfolio.position_lots[0]) == 7
        after = (await door.get("/v1/status"))[1]["adoption"]
        assert (after["difference_id"], after["lots_standing"]) == ("", 7)
        assert (await adopt(door, difference_id="d1ff"))[1]["code"] == "no_difference"
