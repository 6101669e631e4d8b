"""What the daemon may do, as two bit masks, and the latch that narrows them by source.

Permission and tasks are two fields and not one level, because the levels do not order: "hedge only"
and "cancel all" contradict each other, and a maximum would let a later flatten (which trades)
override a cancel-all (which must not). Every source contributes one mask; what holds is the
intersection of permissions and the union of tasks. Masks narrow freely and widen only by the clear
of their own source. An entry may be of one underlying alone (its scope): there it narrows further
what the entries of the whole daemon leave, and lifting it lifts nothing of theirs.

This module is vocabulary and pure transitions. It never reads a clock, a file or the shared page;
`mm_daemon.ipc.latch` keeps the state it describes. Standard library only: the guard imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

# Plain ints and not IntFlag: the gate tests these bits before every write, and an IntFlag
# operation costs ten times an int operation.
QUOTE: Final = 1
HEDGE: Final = 2
REDUCE: Final = 4
PERMISSION_ALL: Final = QUOTE | HEDGE | REDUCE
PERMISSION_NONE: Final = 0

SWEEP: Final = 1
FLATTEN: Final = 2
TASKS_ALL: Final = SWEEP | FLATTEN
TASKS_NONE: Final = 0

PERMISSION_NAMES: Final = ((QUOTE, "quote"), (HEDGE, "hedge"), (REDUCE, "reduce"))
TASK_NAMES: Final = ((SWEEP, "sweep"), (FLATTEN, "flatten"))

OPERATOR: Final = "operator"
CRASH: Final = "crash"
CRASHES: Final = "crashes"
"""Too many crashes in too short a time. Like an operator's, only a reset lifts it."""
LATCH_FILE: Final = "latch_file"
FIRM: Final = "firm"
"""The firm's kill, which every instance takes over from the store they share."""
CONTROL_PREFIX: Final = "control:"
TWO_PERSONS_MARK: Final = "two persons: "
"""Begins the reason of an entry that one person's reset is not enough for."""

SOURCE_BYTES_MAX: Final = 47
REASON_BYTES_MAX: Final = 247
SCOPE_BYTES_MAX: Final = 63

WHOLE: Final = ""
"""The scope of an entry that holds for all of this daemon; else it is an underlying's name."""
SCOPES_MAX: Final = 8
"""Scopes that have a byte of their own; an entry of any other scope holds for the whole daemon."""
_SCOPE_BITS: Final = 8
_SCOPE_TASK_SHIFT: Final = 3
OPEN_SCOPES: Final = int.from_bytes(bytes([PERMISSION_ALL] * SCOPES_MAX), "little")
"""The word of all scopes where none is latched."""


class Mask(NamedTuple):
    """A permission and the tasks that go with it."""

    permission: int
    tasks: int

    def narrowed(self, other: Mask) -> Mask:
        """The mask under which both hold: permissions intersect, tasks unite."""
        return Mask(self.permission & other.permission, self.tasks | other.tasks)


OPEN: Final = Mask(PERMISSION_ALL, TASKS_NONE)

LEVEL_DEFAULT: Final = "cancel_all"

HARD_STOP: Final = "hard_stop"
"""The level that also ends the daemon and blocks its start until a file is removed by hand."""

# Existing quotes are pulled whenever QUOTE is missing, so halt_quoting and hedge_only need no
# sweep and leave working hedges alone. REDUCE without HEDGE admits only orders that pass the
# reduce test. hard_stop has the mask of cancel_all; that the process ends and that its start is
# blocked is a mark beside the latch file, because no mask can say it.
PRESETS: Final[dict[str, Mask]] = {
    "halt_quoting": Mask(HEDGE | REDUCE, TASKS_NONE),
    "cancel_all": Mask(PERMISSION_NONE, SWEEP),
    "hedge_only": Mask(REDUCE, TASKS_NONE),
    "flatten": Mask(REDUCE, SWEEP | FLATTEN),
    HARD_STOP: Mask(PERMISSION_NONE, SWEEP),
}


def scope_mask(word: int, index: int) -> Mask:
    """The mask of the `index`-th scope in a word of scopes; closed where it has no byte."""
    if not 0 <= index < SCOPES_MAX:
        return OPEN if word == OPEN_SCOPES else Mask(PERMISSION_NONE, TASKS_NONE)
    byte = word >> _SCOPE_BITS * index
    return Mask(byte & PERMISSION_ALL, byte >> _SCOPE_TASK_SHIFT & TASKS_ALL)


def scope_permission(word: int, index: int) -> int:
    """The permission in `scope_mask` alone, without making a mask: the gate asks at every write."""
    if 0 <= index < SCOPES_MAX:
        return word >> _SCOPE_BITS * index & PERMISSION_ALL
    return PERMISSION_ALL if word == OPEN_SCOPES else PERMISSION_NONE


def scopes_word(masks: Sequence[Mask]) -> int:
    """One byte for each scope: tasks above permission; scopes without a mask are open."""
    assert len(masks) <= SCOPES_MAX, len(masks)
    word = OPEN_SCOPES
    for index, mask in enumerate(masks):
        byte = mask.tasks << _SCOPE_TASK_SHIFT | mask.permission
        shift = _SCOPE_BITS * index
        word = word & ~(0xFF << shift) | byte << shift
    return word


def permission_names(permission: int) -> tuple[str, ...]:
    """Names of the bits set, in the order quote, hedge, reduce."""
    return tuple(name for bit, name in PERMISSION_NAMES if permission & bit)


def task_names(tasks: int) -> tuple[str, ...]:
    """Names of the bits set, in the order sweep, flatten."""
    return tuple(name for bit, name in TASK_NAMES if tasks & bit)


def flatten_runs(mask: Mask) -> bool:
    """A flatten runs only while reducing is permitted by every source."""
    return bool(mask.tasks & FLATTEN) and bool(mask.permission & REDUCE)


@dataclass(frozen=True, slots=True)
class LatchEntry:
    """One source's mask in one scope. `ts_ns` is wall time of the last raise by that source."""

    source: str
    permission: int
    tasks: int
    reason: str
    ts_ns: int
    scope: str = WHOLE

    def __post_init__(self) -> None:
        assert 0 < len(self.source.encode()) <= SOURCE_BYTES_MAX, self.source
        assert self.permission & ~PERMISSION_ALL == 0, self.permission
        assert self.tasks & ~TASKS_ALL == 0, self.tasks
        assert self.ts_ns >= 0, self.ts_ns
        assert len(self.scope.encode()) <= SCOPE_BYTES_MAX, self.scope

    @property
    def key(self) -> tuple[str, str]:
        """What an entry is known by: one source may hold a mask in several scopes."""
        return self.source, self.scope

    @property
    def mask(self) -> Mask:
        return Mask(self.permission, self.tasks)


class Clearer(Enum):
    """Who asks for a clear. Each may lift only what is its own."""

    GUARD = "guard"
    CONTROL = "control"
    FIRM = "firm"
    RESET = "reset"
    LONE_RESET = "lone_reset"
    """A reset where no store of the firm is configured: there is nobody else to let go of `firm`.
    """


class LatchRefusal(Enum):
    """Why a clear changed nothing."""

    STALE_GENERATION = "stale_generation"
    NOT_ALLOWED = "not_allowed"
    NOT_LATCHED = "not_latched"


@dataclass(frozen=True, slots=True)
class LatchRefused:
    """A clear that was refused; the latch is as it was."""

    code: LatchRefusal
    detail: str


def may_clear(clearer: Clearer, source: str) -> bool:
    """The guard lifts `crash`, a control its own entry, the firm's reset `firm`, and a reset here
    everything else that is lifted.

    A reset does not lift `crash`: that entry stands for a venue not yet swept or a trader not yet
    reconciled, and no person's word replaces either. Nor does it lift `latch_file`, which stands
    for a durable latch that is missing or damaged: that takes an explicit initialisation. Nor the
    firm's, which one instance alone would only take over again; where no store is configured any
    more, that cannot happen, and the reset lifts this one too.
    """
    if clearer is Clearer.GUARD:
        return source == CRASH
    if clearer is Clearer.CONTROL:
        return source.startswith(CONTROL_PREFIX)
    if clearer is Clearer.FIRM:
        return source == FIRM
    kept = (CRASH, LATCH_FILE) if clearer is Clearer.LONE_RESET else (CRASH, LATCH_FILE, FIRM)
    return source not in kept


@dataclass(frozen=True, slots=True)
class LatchState:
    """All masks by source and scope, ordered, and the generation that counts their changes.

    Generations rise by one with every raise and every clear, also when the mask stays the same: a
    reset names the generation it has seen, so it cannot lift a kill it does not know of.
    """

    generation: int
    entries: tuple[LatchEntry, ...] = ()

    def __post_init__(self) -> None:
        assert self.generation >= 0, self.generation
        keys = [entry.key for entry in self.entries]
        assert keys == sorted(set(keys)), keys

    def effective(self, scope: str = WHOLE) -> Mask:
        """What holds now for the whole daemon, or for one scope of it."""
        mask = OPEN
        for entry in self.entries:
            if entry.scope in (WHOLE, scope):
                mask = mask.narrowed(entry.mask)
        return mask

    def page_masks(self, scopes: Sequence[str]) -> tuple[Mask, int]:
        """The mask of the whole daemon and the word of these scopes.

        An entry of a scope that is not among them (another configuration wrote it) is taken for the
        whole daemon: what cannot be told apart is closed.
        """
        whole = OPEN
        own = [OPEN] * len(scopes)
        for entry in self.entries:
            if entry.scope in scopes:
                index = scopes.index(entry.scope)
                own[index] = own[index].narrowed(entry.mask)
            else:
                whole = whole.narrowed(entry.mask)
        return whole, scopes_word(own)

    def entry(self, source: str, scope: str = WHOLE) -> LatchEntry | None:
        """The mask of one source, None where that source has not latched in this scope."""
        for entry in self.entries:
            if entry.key == (source, scope):
                return entry
        return None

    def raise_(self, entry: LatchEntry) -> LatchState:
        """The state after a source has narrowed. A second raise never widens the first."""
        before = self.entry(entry.source, entry.scope)
        merged = entry if before is None else _merged(before, entry)
        others = [other for other in self.entries if other.key != entry.key]
        ordered = tuple(sorted([*others, merged], key=lambda one: one.key))
        return LatchState(self.generation + 1, ordered)

    def clear_(
        self, source: str, clearer: Clearer, scope: str = WHOLE
    ) -> LatchState | LatchRefused:
        """The state after one source has let go in one scope."""
        if not may_clear(clearer, source):
            return LatchRefused(
                LatchRefusal.NOT_ALLOWED, f"{clearer.value} may not clear the latch of {source!r}"
            )
        if self.entry(source, scope) is None:
            where = f" in {scope}" if scope else ""
            return LatchRefused(LatchRefusal.NOT_LATCHED, f"{source!r} holds no latch{where}")
        kept = tuple(entry for entry in self.entries if entry.key != (source, scope))
        return LatchState(self.generation + 1, kept)

    def reset_(
        self,
        expected_generation: int,
        sources: tuple[str, ...] | None = None,
        scope: str | None = None,
        clearer: Clearer = Clearer.RESET,
    ) -> LatchState | LatchRefused:
        """The state after a person's reset of `sources` (None: all that a reset may lift) in one
        scope (None: in all; `WHOLE`: only what holds for the whole daemon).

        One reset is one change: the generation rises by one however many entries it lifts.
        """
        if expected_generation != self.generation:
            return LatchRefused(
                LatchRefusal.STALE_GENERATION,
                f"reset expects generation {expected_generation}, the latch is at"
                f" {self.generation}: read the status again and decide anew",
            )
        inside = [one for one in self.entries if scope is None or one.scope == scope]
        if sources is None:
            lifted = [one for one in inside if may_clear(clearer, one.source)]
            if scope is not None and not lifted:
                return LatchRefused(
                    LatchRefusal.NOT_LATCHED, f"nothing that a reset lifts holds in {scope!r}"
                )
        else:
            lifted = [one for one in inside if one.source in sources]
            for source in sources:
                if not may_clear(clearer, source):
                    return LatchRefused(
                        LatchRefusal.NOT_ALLOWED, f"reset may not clear the latch of {source!r}"
                    )
                if all(one.source != source for one in inside):
                    return LatchRefused(LatchRefusal.NOT_LATCHED, f"{source!r} holds no latch")
        kept = tuple(entry for entry in self.entries if entry not in lifted)
        return LatchState(self.generation + 1, kept)


def _merged(before: LatchEntry, after: LatchEntry) -> LatchEntry:
    mask = before.mask.narrowed(after.mask)
    return LatchEntry(
        after.source, mask.permission, mask.tasks, after.reason, after.ts_ns, after.scope
    )
