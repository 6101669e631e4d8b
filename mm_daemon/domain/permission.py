"""What the daemon may do, as two bit masks, and the latch that narrows them by source.

Permission and tasks are two fields and not one level, because the levels do not order: "hedge only"
and "cancel all" contradict each other, and a maximum would let a later flatten (which trades)
override a cancel-all (which must not). Every source contributes one mask; what holds is the
intersection of permissions and the union of tasks. Masks narrow freely and widen only by the clear
of their own source.

This module is vocabulary and pure transitions. It never reads a clock, a file or the shared page;
`mm_daemon.ipc.latch` keeps the state it describes. Standard library only: the guard imports it.
"""

from __future__ import annotations

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
LATCH_FILE: Final = "latch_file"
CONTROL_PREFIX: Final = "control:"

SOURCE_BYTES_MAX: Final = 47
REASON_BYTES_MAX: Final = 247


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
    """One source's mask. `ts_ns` is wall time of the last raise by that source."""

    source: str
    permission: int
    tasks: int
    reason: str
    ts_ns: int

    def __post_init__(self) -> None:
        assert 0 < len(self.source.encode()) <= SOURCE_BYTES_MAX, self.source
        assert self.permission & ~PERMISSION_ALL == 0, self.permission
        assert self.tasks & ~TASKS_ALL == 0, self.tasks
        assert self.ts_ns >= 0, self.ts_ns

    @property
    def mask(self) -> Mask:
        return Mask(self.permission, self.tasks)


class Clearer(Enum):
    """Who asks for a clear. Each may lift only what is its own."""

    GUARD = "guard"
    CONTROL = "control"
    RESET = "reset"


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
    """The guard lifts `crash`, a control its own entry, a reset everything else that is lifted.

    A reset does not lift `crash`: that entry stands for a venue not yet swept or a trader not yet
    reconciled, and no person's word replaces either. Nor does it lift `latch_file`, which stands
    for a durable latch that is missing or damaged: that takes an explicit initialisation.
    """
    if clearer is Clearer.GUARD:
        return source == CRASH
    if clearer is Clearer.CONTROL:
        return source.startswith(CONTROL_PREFIX)
    return source not in (CRASH, LATCH_FILE)


@dataclass(frozen=True, slots=True)
class LatchState:
    """All masks by source, ordered by source name, and the generation that counts their changes.

    Generations rise by one with every raise and every clear, also when the mask stays the same: a
    reset names the generation it has seen, so it cannot lift a kill it does not know of.
    """

    generation: int
    entries: tuple[LatchEntry, ...] = ()

    def __post_init__(self) -> None:
        assert self.generation >= 0, self.generation
        names = [entry.source for entry in self.entries]
        assert names == sorted(set(names)), names

    def effective(self) -> Mask:
        """What holds now."""
        mask = OPEN
        for entry in self.entries:
            mask = mask.narrowed(entry.mask)
        return mask

    def entry(self, source: str) -> LatchEntry | None:
        """The mask of one source, None where that source has not latched."""
        for entry in self.entries:
            if entry.source == source:
                return entry
        return None

    def raise_(self, entry: LatchEntry) -> LatchState:
        """The state after a source has narrowed. A second raise never widens the first."""
        before = self.entry(entry.source)
        merged = entry if before is None else _merged(before, entry)
        others = [other for other in self.entries if other.source != entry.source]
        ordered = tuple(sorted([*others, merged], key=lambda one: one.source))
        return LatchState(self.generation + 1, ordered)

    def clear_(self, source: str, clearer: Clearer) -> LatchState | LatchRefused:
        """The state after one source has let go."""
        if not may_clear(clearer, source):
            return LatchRefused(
                LatchRefusal.NOT_ALLOWED, f"{clearer.value} may not clear the latch of {source!r}"
            )
        if self.entry(source) is None:
            return LatchRefused(LatchRefusal.NOT_LATCHED, f"{source!r} holds no latch")
        kept = tuple(entry for entry in self.entries if entry.source != source)
        return LatchState(self.generation + 1, kept)

    def reset_(
        self, expected_generation: int, sources: tuple[str, ...] | None = None
    ) -> LatchState | LatchRefused:
        """The state after a person's reset of `sources` (None: all that a reset may lift).

        One reset is one change: the generation rises by one however many entries it lifts.
        """
        if expected_generation != self.generation:
            return LatchRefused(
                LatchRefusal.STALE_GENERATION,
                f"reset expects generation {expected_generation}, the latch is at"
                f" {self.generation}: read the status again and decide anew",
            )
        named = sources
        if named is None:
            named = tuple(e.source for e in self.entries if may_clear(Clearer.RESET, e.source))
        for source in named:
            refused = self.clear_(source, Clearer.RESET)
            if isinstance(refused, LatchRefused):
                return refused
        kept = tuple(entry for entry in self.entries if entry.source not in named)
        return LatchState(self.generation + 1, kept)


def _merged(before: LatchEntry, after: LatchEntry) -> LatchEntry:
    mask = before.mask.narrowed(after.mask)
    return LatchEntry(after.source, mask.permission, mask.tasks, after.reason, after.ts_ns)
