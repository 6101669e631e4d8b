"""The latch's masks: narrowing is free, widening belongs to one source."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.permission import (
    CRASH,
    FIRM,
    HEDGE,
    LATCH_FILE,
    LEVEL_DEFAULT,
    OPEN,
    OPERATOR,
    PERMISSION_ALL,
    PRESETS,
    QUOTE,
    REDUCE,
    SWEEP,
    TASKS_ALL,
    Clearer,
    LatchEntry,
    LatchRefusal,
    LatchRefused,
    LatchState,
    Mask,
    flatten_runs,
    permission_names,
    task_names,
)

SOURCES = (OPERATOR, CRASH, "control:C5", "control:C11")

entries = st.builds(
    LatchEntry,
    source=st.sampled_from(SOURCES),
    permission=st.integers(0, PERMISSION_ALL),
    tasks=st.integers(0, TASKS_ALL),
    reason=st.just("why"),
    ts_ns=st.integers(0, 10),
)


def raised(*raises: LatchEntry) -> LatchState:
    state = LatchState(0)
    for entry in raises:
        state = state.raise_(entry)
    return state


def entry(source: str, level: str) -> LatchEntry:
    mask = PRESETS[level]
    return LatchEntry(source, mask.permission, mask.tasks, "why", 1)


@given(st.lists(entries, max_size=12))
def test_effective_mask_is_intersection_of_permissions_and_union_of_tasks(
    raises: list[LatchEntry],
) -> None:
    mask = raised(*raises).effective()
    permission, tasks = PERMISSION_ALL, 0
    for one in raises:
        permission &= one.permission
        tasks |= one.tasks
    assert mask == Mask(permission, tasks)


@given(st.lists(entries, min_size=1, max_size=5))
def test_order_of_raises_does_not_change_the_mask(raises: list[LatchEntry]) -> None:
    masks = {raised(*order).effective() for order in itertools.permutations(raises)}
    assert len(masks) == 1


@given(st.lists(entries, min_size=1, max_size=12))
def test_every_raise_counts_one_generation_and_never_widens(raises: list[LatchEntry]) -> None:
    state = LatchState(7)
    for one in raises:
        after = state.raise_(one)
        assert after.generation == state.generation + 1
        assert after.effective().permission & ~state.effective().permission == 0
        assert after.effective().tasks & state.effective().tasks == state.effective().tasks
        state = after


def test_weaker_raise_of_a_source_leaves_its_stronger_one_in_force() -> None:
    state = raised(entry(OPERATOR, "cancel_all"), entry(OPERATOR, "halt_quoting"))
    assert state.effective() == PRESETS["cancel_all"]


def test_later_flatten_does_not_trade_against_an_earlier_cancel_all() -> None:
    state = raised(entry(OPERATOR, "cancel_all"), entry("control:C11", "flatten"))
    assert not flatten_runs(state.effective())
    assert flatten_runs(raised(entry("control:C11", "flatten")).effective())


@pytest.mark.parametrize(
    ("clearer", "source", "is_allowed"),
    [
        (Clearer.GUARD, CRASH, True),
        (Clearer.GUARD, OPERATOR, False),
        (Clearer.GUARD, "control:C5", False),
        (Clearer.CONTROL, "control:C5", True),
        (Clearer.CONTROL, OPERATOR, False),
        (Clearer.CONTROL, CRASH, False),
        (Clearer.CONTROL, FIRM, False),
        (Clearer.GUARD, FIRM, False),
        (Clearer.RESET, FIRM, False),
        (Clearer.LONE_RESET, FIRM, True),
        (Clearer.LONE_RESET, OPERATOR, True),
        (Clearer.LONE_RESET, CRASH, False),
        (Clearer.FIRM, FIRM, True),
        (Clearer.FIRM, OPERATOR, False),
        (Clearer.FIRM, CRASH, False),
        (Clearer.RESET, OPERATOR, True),
        (Clearer.RESET, "control:C5", True),
        (Clearer.RESET, CRASH, False),
        (Clearer.RESET, LATCH_FILE, False),
    ],
)
def test_each_clearer_lifts_only_what_is_its_own(
    clearer: Clearer, source: str, is_allowed: bool
) -> None:
    after = raised(entry(source, "cancel_all")).clear_(source, clearer)
    if is_allowed:
        assert after == LatchState(2)
    else:
        assert isinstance(after, LatchRefused)
        assert after.code is LatchRefusal.NOT_ALLOWED


def test_clear_of_one_source_leaves_the_masks_of_others() -> None:
    state = raised(entry(CRASH, "cancel_all"), entry(OPERATOR, "halt_quoting"))
    after = state.clear_(CRASH, Clearer.GUARD)
    assert isinstance(after, LatchState)
    assert after.generation == 3
    assert after.effective() == Mask(HEDGE | REDUCE, 0)


def test_clear_of_a_source_without_latch_is_refused() -> None:
    after = LatchState(3).clear_(CRASH, Clearer.GUARD)
    assert isinstance(after, LatchRefused)
    assert after.code is LatchRefusal.NOT_LATCHED


def test_reset_with_a_stale_generation_is_refused() -> None:
    state = raised(entry(OPERATOR, "cancel_all"), entry(OPERATOR, "cancel_all"))
    after = state.reset_(1)
    assert isinstance(after, LatchRefused)
    assert after.code is LatchRefusal.STALE_GENERATION
    assert "generation 1" in after.detail
    assert "at 2" in after.detail


def test_reset_lifts_all_but_crash_and_counts_once() -> None:
    state = raised(
        entry(OPERATOR, "cancel_all"), entry("control:C5", "halt_quoting"), entry(CRASH, "flatten")
    )
    after = state.reset_(3)
    assert isinstance(after, LatchState)
    assert after.generation == 4
    assert [one.source for one in after.entries] == [CRASH]


def test_reset_naming_crash_is_refused_and_changes_nothing() -> None:
    state = raised(entry(OPERATOR, "cancel_all"), entry(CRASH, "cancel_all"))
    after = state.reset_(2, (OPERATOR, CRASH))
    assert isinstance(after, LatchRefused)
    assert after.code is LatchRefusal.NOT_ALLOWED


def test_presets_are_the_documented_masks() -> None:
    named = {k: (permission_names(m.permission), task_names(m.tasks)) for k, m in PRESETS.items()}
    assert named == {
        "halt_quoting": (("hedge", "reduce"), ()),
        "cancel_all": ((), ("sweep",)),
        "hedge_only": (("reduce",), ()),
        "flatten": (("reduce",), ("sweep", "flatten")),
        "hard_stop": ((), ("sweep",)),
    }
    assert LEVEL_DEFAULT == "cancel_all"
    assert Mask(QUOTE | HEDGE | REDUCE, 0) == OPEN
    assert PRESETS["cancel_all"].tasks == SWEEP


def test_entry_refuses_bits_that_do_not_exist() -> None:
    with pytest.raises(AssertionError):
        LatchEntry(OPERATOR, 8, 0, "why", 0)
    with pytest.raises(AssertionError):
        LatchEntry(OPERATOR, 0, 4, "why", 0)
    with pytest.raises(AssertionError):
        LatchEntry("", 0, 0, "why", 0)
