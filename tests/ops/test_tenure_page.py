"""Ops' words on the page: what a gate and a guard may conclude at each moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    PERMIT_DEADLINE_MONO_NS,
    TRADER_TENURE,
    LeaseState,
    Page,
)
from mm_daemon.ops.tenure_page import Standing, TenurePage


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page.create(tmp_path / "page")


def standing(state: LeaseState, fence: int) -> Standing:
    return Standing(state, fence, until_ns=900, permit_deadline_ns=800, renewed_ns=100)


def test_permit_is_for_a_trader_of_the_tenure_that_is_held(page: Page) -> None:
    words, tenure = page.words, TenurePage(page)
    tenure.publish(standing(LeaseState.HELD, 7), 200)
    assert (words[FENCE_EPOCH], words[PERMIT_DEADLINE_MONO_NS]) == (7, 0)
    words[TRADER_TENURE] = 7
    tenure.publish(standing(LeaseState.HELD, 7), 210)
    assert words[PERMIT_DEADLINE_MONO_NS] == 800
    tenure.publish(standing(LeaseState.HELD, 8), 220)
    assert words[PERMIT_DEADLINE_MONO_NS] == 0


@pytest.mark.parametrize("state", [LeaseState.SUSPENDED, LeaseState.STANDBY, LeaseState.SUPERSEDED])
def test_permit_that_is_taken_away_ended_now_and_not_long_ago(
    page: Page, state: LeaseState
) -> None:
    words, tenure = page.words, TenurePage(page)
    words[TRADER_TENURE] = 7
    tenure.publish(standing(LeaseState.HELD, 7), 200)
    tenure.publish(standing(state, 0), 300)
    assert (words[FENCE_EPOCH], words[PERMIT_DEADLINE_MONO_NS]) == (0, 300)
    tenure.publish(standing(state, 0), 400)
    assert words[PERMIT_DEADLINE_MONO_NS] == 300
    assert page.lease_state is state


def test_new_tenure_begins_without_a_permit(page: Page) -> None:
    words, tenure = page.words, TenurePage(page)
    words[TRADER_TENURE] = 7
    tenure.publish(standing(LeaseState.HELD, 7), 200)
    tenure.publish(standing(LeaseState.SETTLING, 9), 300)
    assert (words[FENCE_EPOCH], words[PERMIT_DEADLINE_MONO_NS]) == (9, 0)


def test_next_life_of_ops_finds_what_the_last_one_left(page: Page) -> None:
    TenurePage(page).publish(standing(LeaseState.HELD, 7), 200)
    found = TenurePage(page).found()
    assert (found.state, found.fence, found.until_ns, found.renewed_ns) == (
        LeaseState.HELD,
        7,
        900,
        100,
    )
