"""When a latch may be lifted, and by how many people: rules over what is known, nothing else.

A reset names the generation it has seen, so it cannot lift a kill it does not know of. Beyond that
the server looks for itself, at the request and again at the approval: are the books equal to the
venue's, lately; is nothing unknown; has what tripped a control gone; has enough time passed; do
trader and ops run the same code and configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mm_daemon.domain.group import Running, differences
from mm_daemon.domain.permission import (
    CONTROL_PREFIX,
    FIRM,
    FLATTEN,
    HARD_STOP,
    PRESETS,
    TWO_PERSONS_MARK,
    WHOLE,
    Clearer,
    LatchEntry,
    LatchRefusal,
    LatchRefused,
    LatchState,
)
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.surroundings import Identity, ResetRules

TWO_PERSONS_ALWAYS: Final = ("hedge_only", "flatten", "hard_stop", "C11", "C25")
"""Levels and controls that one person never lifts, whatever the rules say."""
RESTARTED_BY_RESET: Final = ("C11", "C11.underlying")
"""Controls over a sum that only the reset itself begins anew: it cannot be gone before."""
CLOCK_CONTROL: Final = "C18"


@dataclass(frozen=True)
class Lift:
    """What a reset at a generation would lift."""

    generation: int
    scope: str | None
    """None: everything that a reset may lift."""
    lifted: tuple[LatchEntry, ...]
    firm: LatchEntry | None
    """This instance's copy of the firm's kill, which is lifted in the store; None also where no
    store is configured any more: then it is among what is lifted here."""
    before: LatchState
    after: LatchState


def what_lifts(
    state: LatchState, generation: int, scope: str | None, *, has_store: bool = True
) -> Lift:
    """Raises: RefusedError where the generation is not that of the latch, or nothing holds."""
    after = state.reset_(generation, None, scope, clearer(has_store))
    firm = state.entry(FIRM) if has_store and scope in (None, WHOLE) else None
    if isinstance(after, LatchRefused):
        if firm is None or after.code is not LatchRefusal.NOT_LATCHED:
            raise RefusedError(after.code.value, after.detail, generation=state.generation)
        after = state
    lifted = tuple(entry for entry in state.entries if entry not in after.entries)
    return Lift(generation, scope, lifted, firm, state, after)


def clearer(has_store: bool) -> Clearer:
    """What a reset here may lift: the firm's kill too where there is no store to lift it in."""
    return Clearer.RESET if has_store else Clearer.LONE_RESET


def persons_needed(lift: Lift, rules: ResetRules) -> int:
    """1 or 2."""
    if any(entry.source == FIRM for entry in lift.lifted):
        return 2
    for entry in (*lift.lifted, *([lift.firm] if lift.firm else [])):
        if _is_always_two(entry):
            return 2
        if rules.persons == 2 and entry.mask != PRESETS["halt_quoting"]:
            return 2
    return 1


def check_terms(
    lift: Lift,
    status: dict[str, Any],
    rules: ResetRules,
    age_s: Callable[[LatchEntry], float],
) -> None:
    """Raises: RefusedError with the first term that is not met, and the codes of all."""
    failed = [*_books(status, rules), *_controls(lift, status), *_time(lift, rules, age_s)]
    if failed:
        code, text = failed[0]
        raise RefusedError(code, text, failed=[one for one, _ in failed])


def check_same_build(ops: Identity, trader: Callable[[], Identity]) -> None:
    """Raises: RefusedError naming what differs, or why it cannot be told."""
    try:
        theirs = trader()
    except ValueError as error:
        why = f"the trader's build cannot be told: {error}"
        raise RefusedError("build_differs", why) from error
    found = differences(_running(ops), {"the trader": _running(theirs)})
    if found:
        raise RefusedError("build_differs", f"{'; '.join(found)}: restart the daemon")


def _running(identity: Identity) -> Running:
    build = ", ".join(f"{key} {value}" for key, value in sorted(identity.build.items()))
    return Running(build=build, config_sha256=identity.config_sha256)


def _is_always_two(entry: LatchEntry) -> bool:
    if entry.mask == PRESETS["hedge_only"] or entry.tasks & FLATTEN:
        return True
    if entry.reason.startswith(TWO_PERSONS_MARK):
        return True
    return entry.source == HARD_STOP or _row(entry).partition(".")[0] in TWO_PERSONS_ALWAYS


def _row(entry: LatchEntry) -> str:
    """The control's row that holds this entry, empty where it is no control's."""
    if not entry.source.startswith(CONTROL_PREFIX):
        return ""
    return entry.source.removeprefix(CONTROL_PREFIX)


def _books(status: dict[str, Any], rules: ResetRules) -> Iterator[tuple[str, str]]:
    terms = status.get("reset")
    if terms is None or not status["is_reconciled"]:
        yield "not_reconciled", "the venue and our books were not found equal yet: wait"
    if terms is None:
        return
    age_s = terms["reconcile_age_s"]
    if not age_s < rules.clean_age_s:
        ago = "never" if math.isnan(age_s) else f"{age_s:.1f} s ago"
        yield (
            "old_reconcile",
            f"the last clean reconcile was {ago}, expected within {rules.clean_age_s:g} s",
        )
    if status["unknown_orders"]:
        yield "unknown_orders", f"{status['unknown_orders']} orders have no known outcome"
    if terms["parked_fills"]:
        yield "parked_fills", f"{terms['parked_fills']} fills could not be booked"


def _controls(lift: Lift, status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    terms = status.get("reset")
    if terms is None:
        return
    if any(one.split(" ")[0] == CLOCK_CONTROL for one in terms["controls_holding"]):
        yield "clock_offset", f"{CLOCK_CONTROL} holds: our clock and the venue's differ"
    for entry in lift.lifted:
        row = _row(entry)
        if not row or row in RESTARTED_BY_RESET:
            continue
        if not terms["is_informed"]:
            yield "control_holds", f"{row} may still hold: the controls have not seen every input"
        elif _holds(entry, terms["controls_holding"]):
            yield "control_holds", f"{row} still holds: {entry.reason}"


def _holds(entry: LatchEntry, holding: tuple[str, ...] | list[str]) -> bool:
    row = _row(entry)
    for one in holding:
        control, _, place = one.partition(" ")
        if control == row and (not entry.scope or place.split(" ")[0] == entry.scope):
            return True
    return False


def _time(
    lift: Lift, rules: ResetRules, age_s: Callable[[LatchEntry], float]
) -> Iterator[tuple[str, str]]:
    for entry in lift.lifted:
        left_s = rules.cooldown_s - age_s(entry)
        if left_s > 0.0:
            yield (
                "cooling_down",
                f"{entry.source} was raised {rules.cooldown_s - left_s:.1f} s ago: wait another"
                f" {left_s:.1f} s",
            )
