"""`mm-daemon adopt` shows what differs, asks, and sends exactly what was shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mm_daemon.cli import app
from mm_daemon.domain.inputs import AdoptVenue
from tests.ops.rig import DIFFERENCE, GOOD_REASON, Door, Rig, serving

House = tuple[Rig, Door]


@pytest.fixture
async def stopped(tmp_path: Path) -> AsyncIterator[House]:
    """A daemon that takes two people, stopped, with one difference."""
    async with serving(tmp_path, persons=2) as (rig, door):
        await door.kill()
        rig.set_adoption(DIFFERENCE)
        rig.adoption_outcome = "adopted: 1 positions"
        yield rig, door


async def adopt(house: House, role: str, *arguments: str, typed: str = "") -> Result:
    rig, door = house
    url = str(door.client.make_url("")).rstrip("/")
    whole = ["adopt", "--url", url, *arguments]
    env = {"MM_TOKEN": rig.plain[role]}
    return await asyncio.to_thread(CliRunner().invoke, app, whole, typed, env)


async def test_two_people_see_it_and_agree(stopped: House) -> None:
    rig, _ = stopped
    first = await adopt(stopped, "risk", "--reason", GOOD_REASON, typed="y\n")
    assert first.exit_code == 0, first.output
    assert "BTC-PERPETUAL" in first.stderr
    assert "+70" in first.stderr
    request_id = first.stdout.split()[-1]
    second = await adopt(stopped, "admin", "--approve", request_id, "--yes", "--json")
    assert "asked for by risk" in second.stderr
    assert json.loads(second.stdout)["state"] == "adopted: 1 positions"
    wish = AdoptVenue(actor="risk and admin", reason=GOOD_REASON, difference_id="d1ff")
    assert rig.fed == [wish]


@pytest.mark.parametrize("typed", ["n\n", "\n", ""], ids=["no", "enter", "nothing"])
async def test_without_a_yes_nothing_is_sent(stopped: House, typed: str) -> None:
    rig, _ = stopped
    answer = await adopt(stopped, "risk", "--reason", GOOD_REASON, typed=typed)
    assert answer.exit_code == 1
    assert (rig.fed, rig.lines("adopt_requested")) == ([], [])


async def test_what_stands_in_the_way_is_said_before_anything_is_asked(stopped: House) -> None:
    rig, _ = stopped
    rig.set_adoption(DIFFERENCE, why_not="no break has stood for long enough")
    answer = await adopt(stopped, "risk", "--reason", GOOD_REASON, "--yes")
    assert answer.exit_code == 1
    assert "no break has stood for long enough" in answer.stderr
    assert rig.lines("adopt_requested") == []


async def test_a_refusal_and_an_unknown_request_are_one_line_and_exit_1(stopped: House) -> None:
    refused = await adopt(stopped, "trader", "--reason", GOOD_REASON, "--yes")
    assert refused.exit_code == 1
    assert "trader has role trader, /v1/adopt needs risk" in refused.stderr
    unknown = await adopt(stopped, "admin", "--approve", "none", "--yes")
    assert unknown.exit_code == 1
    assert "no request 'none' waits" in unknown.stderr
