"""Latches of single underlyings: they narrow further, and lifting one lifts nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.permission import (
    CRASH,
    LATCH_FILE,
    OPEN,
    OPEN_SCOPES,
    OPERATOR,
    PERMISSION_ALL,
    PRESETS,
    SCOPES_MAX,
    TASKS_ALL,
    WHOLE,
    Clearer,
    LatchEntry,
    LatchRefusal,
    LatchRefused,
    LatchState,
    Mask,
    may_clear,
    scope_mask,
    scope_permission,
    scopes_word,
)

SCOPES = ("BTC", "ETH")
SOURCES = (OPERATOR, CRASH, "control:C5")
masks = st.builds(Mask, st.integers(0, PERMISSION_ALL), st.integers(0, TASKS_ALL))
acts = st.lists(
    st.tuples(
        st.sampled_from(["raise", "clear", "reset_scope", "reset_all"]),
        st.sampled_from(SOURCES),
        st.sampled_from((WHOLE, *SCOPES)),
        masks,
    ),
    max_size=20,
)


def entry(source: str, level: str, scope: str = WHOLE) -> LatchEntry:
    mask = PRESETS[level]
    return LatchEntry(source, mask.permission, mask.tasks, "why", 1, scope)


@given(acts)
def test_any_order_of_raises_and_resets_gives_the_intersection_of_what_is_held(
    acts: list[tuple[str, str, str, Mask]],
) -> None:
    """Against a plain table of what each source holds where."""
    state = LatchState(0)
    held: dict[tuple[str, str], Mask] = {}
    for act, source, scope, mask in acts:
        after: Any
        if act == "raise":
            after = state.raise_(LatchEntry(source, *mask, "why", 1, scope))
            held[source, scope] = held.get((source, scope), OPEN).narrowed(mask)
        elif act == "clear":
            clearer = Clearer.GUARD if source == CRASH else Clearer.CONTROL
            after = state.clear_(source, clearer, scope)
            if may_clear(clearer, source):
                held.pop((source, scope), None)
        else:
            inside = scope if act == "reset_scope" else None
            after = state.reset_(state.generation, scope=inside)
            for key in [key for key in held if key[0] != CRASH and inside in (None, key[1])]:
                del held[key]
        if isinstance(after, LatchState):
            assert after.generation == state.generation + 1
            state = after
        for looked_at in (WHOLE, *SCOPES):
            wanted = OPEN
            for (_, where), mask_held in held.items():
                if where in (WHOLE, looked_at):
                    wanted = wanted.narrowed(mask_held)
            assert state.effective(looked_at) == wanted
            whole, word = state.page_masks(SCOPES)
            if looked_at:
                own = scope_mask(word, SCOPES.index(looked_at))
                assert whole.narrowed(own) == wanted


def test_reset_of_a_scope_never_lifts_the_whole() -> None:
    state = LatchState(0).raise_(entry(OPERATOR, "cancel_all"))
    state = state.raise_(entry(OPERATOR, "halt_quoting", "BTC"))
    after = state.reset_(state.generation, scope="BTC")
    assert isinstance(after, LatchState)
    assert after.effective("BTC") == PRESETS["cancel_all"]
    refused = after.reset_(after.generation, scope="BTC")
    assert isinstance(refused, LatchRefused)
    assert refused.code is LatchRefusal.NOT_LATCHED


def test_reset_of_the_whole_alone_leaves_the_scope() -> None:
    state = LatchState(0).raise_(entry(OPERATOR, "cancel_all"))
    state = state.raise_(entry(OPERATOR, "halt_quoting", "BTC"))
    after = state.reset_(state.generation, scope=WHOLE)
    assert isinstance(after, LatchState)
    assert after.effective() == OPEN
    assert after.effective("BTC") == PRESETS["halt_quoting"]
    assert after.effective("ETH") == OPEN


def test_a_source_may_hold_two_scopes_and_lets_go_of_one() -> None:
    state = LatchState(0)
    for name in SCOPES:
        state = state.raise_(entry("control:C12", "halt_quoting", name))
    after = state.clear_("control:C12", Clearer.CONTROL, "BTC")
    assert isinstance(after, LatchState)
    assert (after.effective("BTC"), after.effective("ETH")) == (OPEN, PRESETS["halt_quoting"])


def test_a_scope_nobody_knows_holds_for_the_whole_daemon() -> None:
    state = LatchState(0).raise_(entry(OPERATOR, "cancel_all", "SOL"))
    whole, word = state.page_masks(SCOPES)
    assert (whole, word) == (PRESETS["cancel_all"], OPEN_SCOPES)


def test_reset_of_a_scope_refuses_what_no_reset_may_lift() -> None:
    state = LatchState(0).raise_(entry(LATCH_FILE, "cancel_all"))
    refused = state.reset_(state.generation, (LATCH_FILE,), WHOLE)
    assert isinstance(refused, LatchRefused)
    assert refused.code is LatchRefusal.NOT_ALLOWED


@given(st.lists(masks, max_size=SCOPES_MAX))
def test_the_word_of_scopes_holds_every_mask_and_opens_what_it_does_not_name(
    held: list[Mask],
) -> None:
    word = scopes_word(held)
    assert 0 <= word < 1 << 64
    assert [scope_mask(word, index) for index in range(len(held))] == held
    for index in range(len(held), SCOPES_MAX):
        assert scope_mask(word, index) == OPEN
    for index in range(-1, SCOPES_MAX + 1):
        assert scope_permission(word, index) == scope_mask(word, index).permission


@pytest.mark.parametrize("index", [-1, SCOPES_MAX])
def test_a_scope_without_a_byte_is_closed_while_any_is_latched(index: int) -> None:
    assert scope_mask(OPEN_SCOPES, index) == OPEN
    assert scope_mask(scopes_word([Mask(6, 0)]), index) == Mask(0, 0)
