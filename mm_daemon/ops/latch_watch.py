"""Follows the latch: what others did to it goes onto the audit log too, marked as observed.

A kill may come by this process or past it: a signal, the kill file, the watchdog, a crash, a
control of the decision, the command line while ops is down. All of them end as an entry of the
latch. So the latch is looked at whenever its generation moves, and what this process has not done
itself is written down with the entry's own time and reason. What came and went between two looks is
counted.

It also measures what a scrape should know of kills: how many, and how long until the venue was
found empty. It never changes the latch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from mm_daemon.domain.permission import (
    CRASH,
    CRASHES,
    OPEN,
    OPERATOR,
    PRESETS,
    SWEEP,
    LatchEntry,
    LatchRefused,
    LatchState,
    Mask,
    permission_names,
    task_names,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import SWEPT_GENERATION, Page
from mm_daemon.ops.scribe import Scribe

LOOK_S: Final = 0.05
SETTLE_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 60.0)
SETTLING_MAX: Final = 64
LEVEL_OPEN: Final = "run"
LEVEL_MIXED: Final = "mixed"
_NS_PER_S: Final = 1e9

Key = tuple[str, str]


def level_of(mask: Mask) -> str:
    """The preset of a mask, for people; masks that no preset has come from several sources."""
    if mask == OPEN:
        return LEVEL_OPEN
    return next((name for name, preset in PRESETS.items() if preset == mask), LEVEL_MIXED)


def shown(entry: LatchEntry) -> dict[str, Any]:
    """An entry for the audit log."""
    return {
        "source": entry.source,
        "scope": entry.scope,
        "level": level_of(entry.mask),
        "permission": permission_names(entry.permission),
        "tasks": task_names(entry.tasks),
        "reason": entry.reason,
        "raised_ns": entry.ts_ns,
    }


class LatchWatch:
    """What the latch was at the last look, and what this process did to it since."""

    def __init__(
        self,
        page: Page,
        latch: LatchStore,
        scribe: Scribe,
        *,
        wall_ns: Callable[[], int],
        mono_ns: Callable[[], int],
    ) -> None:
        self._page = page
        self._latch = latch
        self._scribe = scribe
        self._wall_ns = wall_ns
        self._mono_ns = mono_ns
        self._generation = 0
        self._entries: dict[Key, LatchEntry] = {}
        self._raised_mono_ns: dict[Key, int] = {}
        self._own_raises: set[tuple[Key, int]] = set()
        """Entries that this process raises, by their time, until they were looked at."""
        self._own_clears: set[tuple[Key, int]] = set()
        self._clears = 0
        self._marking = threading.Lock()
        """Held for microseconds: a kill takes it."""
        self._looking = threading.Lock()
        """Held while lines are written: no kill takes it."""
        self._settling: dict[int, int] = {}
        self._kills = Counter(
            "mm_kill",
            "Raises of the latch, by who raised it and how far",
            ("source", "level"),
            registry=None,
        )
        self._settle_s = Histogram(
            "mm_kill_settle_seconds",
            "From a kill that sweeps to the venue found empty twice",
            registry=None,
            buckets=SETTLE_BUCKETS_S,
        )
        for name in PRESETS:
            self._kills.labels(OPERATOR, name)
        for source in (CRASH, CRASHES):
            self._kills.labels(source, "cancel_all")

    def publish(self, registry: CollectorRegistry) -> None:
        registry.register(self._kills)
        registry.register(self._settle_s)

    # -- life ----------------------------------------------------------------------------------

    def begin(self) -> str:
        """The first look: the log says how the latch stood when this process began. Returns what
        kept the line from being written."""
        state = self._latch.state()
        self._take(state)
        return self._scribe.try_write(
            "ops_started",
            generation=state.generation,
            level=level_of(state.effective()),
            latched=[shown(entry) for entry in state.entries],
            note="requests for a reset that were waiting are dropped",
        )

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            if self._page.generation != self._generation:
                await asyncio.to_thread(self.look)
            self.note_settled()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Writes down what others have changed since the last look. May wait for the disk."""
        with self._looking:
            state = self._latch.state()
            if state.generation == self._generation:
                return
            with self._marking:
                observed = self._compare(state)
            for act, fields in observed:
                self._scribe.try_write(act, generation=state.generation, **fields)

    # -- what this process does itself ------------------------------------------------------------

    def expect_raise(self, source: str, scope: str, ts_ns: int) -> None:
        """This process is about to raise an entry of that time."""
        key = (source, scope)
        with self._marking:
            self._own_raises.add((key, ts_ns))
            self._raised_mono_ns[key] = self._mono_ns()

    def lift(
        self, lifted: tuple[LatchEntry, ...], act: Callable[[], LatchState | LatchRefused]
    ) -> LatchState | LatchRefused:
        """Carries out a lifting of this process's own; nobody looks meanwhile.

        Raises: whatever `act` does.
        """
        with self._looking:
            result = act()
            if isinstance(result, LatchState):
                self._own_clears = {(entry.key, entry.ts_ns) for entry in lifted}
                self._clears += 1
            return result

    def count(self, source: str, mask: Mask) -> None:
        self._kills.labels(source.partition(":")[0], level_of(mask)).inc()

    def repeated(self, source: str, scope: str) -> None:
        """The same kill once more: its time counts anew."""
        self._raised_mono_ns[(source, scope)] = self._mono_ns()

    def age_s(self, entry: LatchEntry) -> float:
        """Since the entry was raised: by the wall clock, and no more than this process has seen."""
        wall_s = (self._wall_ns() - entry.ts_ns) / _NS_PER_S
        raised_ns = self._raised_mono_ns.get(entry.key)
        if raised_ns is None:
            return wall_s
        return min(wall_s, (self._mono_ns() - raised_ns) / _NS_PER_S)

    # -- inside --------------------------------------------------------------------------------

    def _compare(self, state: LatchState) -> list[tuple[str, dict[str, Any]]]:
        """Takes the new picture; (act, fields) of what others did."""
        before, delta = self._entries, state.generation - self._generation
        observed = []
        for key, entry in self._changed(state).items():
            if (key, entry.ts_ns) not in self._own_raises:
                self.count(entry.source, entry.mask)
                self._raised_mono_ns[key] = self._mono_ns()
                observed.append(("observed_raise", _observed(entry, state)))
        kept = {entry.key for entry in state.entries}
        for key, entry in before.items():
            if key not in kept and (key, entry.ts_ns) not in self._own_clears:
                observed.append(("observed_clear", _observed(entry, state)))
        unknown = delta - len(observed) - self._take(state)
        if unknown > 0:
            observed.append(("observed_changes", {"observed": True, "count": unknown}))
        return observed

    def _changed(self, state: LatchState) -> dict[Key, LatchEntry]:
        return {
            entry.key: entry for entry in state.entries if entry != self._entries.get(entry.key)
        }

    def _take(self, state: LatchState) -> int:
        """Makes the picture the known one; how many of the changes were this process's own."""
        entries = {entry.key: entry for entry in state.entries}
        # A mark for what is yet to come is kept; what the picture has caught up with is not.
        ahead = {
            (key, ts_ns)
            for key, ts_ns in self._own_raises
            if key not in entries or ts_ns > entries[key].ts_ns
        }
        own = len(self._own_raises) - len(ahead) + self._clears
        self._own_raises, self._own_clears, self._clears = ahead, set(), 0
        expected = {key for key, _ in ahead}
        for key in [one for one in self._raised_mono_ns if one not in entries]:
            if key not in expected:
                del self._raised_mono_ns[key]
        if not any(entry.tasks & SWEEP for entry in state.entries):
            self._settling.clear()
        elif self._generation and len(self._settling) < SETTLING_MAX:
            self._settling[state.generation] = self._mono_ns()
        self._entries, self._generation = entries, state.generation
        return own

    def note_settled(self) -> None:
        swept = self._page.words[SWEPT_GENERATION]
        now_ns = self._mono_ns()
        for generation in [one for one in self._settling if one <= swept]:
            self._settle_s.observe((now_ns - self._settling.pop(generation)) / _NS_PER_S)


def _observed(entry: LatchEntry, state: LatchState) -> dict[str, Any]:
    return {
        "observed": True,
        "level_to": level_of(state.effective(entry.scope)),
        **shown(entry),
    }
