"""Watches the trader's progress and says when to stop it: a pure rule over samples of the page.

The loop counter is what must move: a healthy trader raises it every 2 ms, whatever the market does,
so standing still means a blocked loop, a stopped process or a dead machine. The other counters may
rest for good reasons and only help to say where it stands.

    no progress for `stall`             latch and sweep, at once
    `kill_after` later                  SIGKILL, even if it moves again: it has not reconciled
    a sweep is wanted but not seen      sweep in its place, without judging it yet

`watch` reads no clock. `WatchdogThread` is the thin thread that samples and acts; it does nothing
else, and above all it never waits for a disk or a venue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from mm_daemon.domain.permission import SWEEP
from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    LATCH,
    PROGRESS_JOURNAL,
    PROGRESS_LOOP,
    PROGRESS_MARKET_DATA,
    PROGRESS_STEP,
    TRADER_INCARNATION,
    Page,
    latch_generation,
    latch_tasks,
)

NS_PER_S: Final = 1_000_000_000


class Act(Enum):
    """What the watchdog wants done now."""

    NOTHING = "nothing"
    SWEEP = "sweep"
    LATCH_AND_SWEEP = "latch_and_sweep"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is too long. `own_pause` is a gap between our own samples that proves that we were
    not running either, so that the trader cannot be blamed for the same time."""

    stall_ns: int = 1_500_000_000
    kill_after_ns: int = 500_000_000
    unseen_ns: int = 300_000_000
    start_ns: int = 180 * NS_PER_S
    own_pause_ns: int = 500_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The page at one moment of monotonic time. `incarnation` 0 means that no trader runs."""

    now_ns: int
    incarnation: int
    loop: int
    generation: int
    generation_seen: int
    is_sweep_wanted: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """What the watchdog remembers from sample to sample."""

    last_sample_ns: int = 0
    incarnation: int = 0
    loop: int = 0
    moved_ns: int = 0
    latched_ns: int | None = None
    unseen_since_ns: int | None = None
    unseen_generation: int = 0
    is_killed: bool = False


def watch(before: Watch, sample: Sample, limits: Limits) -> tuple[Watch, Act]:
    """What to remember and what to do, having seen one more sample."""
    now_ns = sample.now_ns
    if sample.incarnation != before.incarnation:
        fresh = Watch(last_sample_ns=now_ns, incarnation=sample.incarnation, moved_ns=now_ns)
        return replace(fresh, loop=sample.loop), Act.NOTHING
    after = replace(before, last_sample_ns=now_ns)
    if sample.incarnation == 0 or before.is_killed:
        return after, Act.NOTHING
    if before.latched_ns is not None:
        if now_ns - before.latched_ns >= limits.kill_after_ns:
            return replace(after, is_killed=True), Act.KILL
        return after, Act.NOTHING
    we_paused = now_ns - before.last_sample_ns > limits.own_pause_ns
    if sample.loop != before.loop or we_paused:
        after = replace(after, loop=sample.loop, moved_ns=now_ns)
    patience_ns = limits.stall_ns if sample.loop else limits.start_ns
    if now_ns - after.moved_ns >= patience_ns:
        return replace(after, latched_ns=now_ns), Act.LATCH_AND_SWEEP
    return _watch_latch(after, sample, limits)


def _watch_latch(before: Watch, sample: Sample, limits: Limits) -> tuple[Watch, Act]:
    """Ask for a sweep, once a generation, where the gate does not see that one is wanted."""
    is_unseen = sample.generation_seen < sample.generation and sample.is_sweep_wanted
    if not is_unseen or not sample.loop:
        return replace(before, unseen_since_ns=None), Act.NOTHING
    if before.unseen_since_ns is None:
        return replace(before, unseen_since_ns=sample.now_ns), Act.NOTHING
    is_late = sample.now_ns - before.unseen_since_ns >= limits.unseen_ns
    if is_late and before.unseen_generation != sample.generation:
        return replace(before, unseen_generation=sample.generation), Act.SWEEP
    return before, Act.NOTHING


def take_sample(page: Page, now_ns: int) -> Sample:
    """The page as the rule wants to see it."""
    words = page.words
    word = words[LATCH]
    return Sample(
        now_ns=now_ns,
        incarnation=words[TRADER_INCARNATION],
        loop=words[PROGRESS_LOOP],
        generation=latch_generation(word),
        generation_seen=words[GENERATION_SEEN],
        is_sweep_wanted=bool(latch_tasks(word) & SWEEP),
    )


def describe_stall(page: Page) -> str:
    """Where the counters stand, for the latch's reason."""
    words = page.words
    return (
        f"no progress: loop {words[PROGRESS_LOOP]}, step {words[PROGRESS_STEP]},"
        f" market data {words[PROGRESS_MARKET_DATA]}, journal {words[PROGRESS_JOURNAL]}"
    )


class WatchdogThread:
    """Samples the page and carries out what the rule says through `act`."""

    def __init__(
        self, page: Page, limits: Limits, interval_s: float, act: Callable[[Act], None]
    ) -> None:
        self._page = page
        self._limits = limits
        self._interval_s = interval_s
        self._act = act
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.sampled_mono_ns = 0

    def start(self) -> None:
        """Begin watching."""
        self._thread.start()

    def stop(self) -> None:
        """End watching; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        state = Watch()
        while not self._stop.wait(self._interval_s):
            now_ns = time.monotonic_ns()
            state, act = watch(state, take_sample(self._page, now_ns), self._limits)
            self.sampled_mono_ns = now_ns
            if act is not Act.NOTHING:
                self._act(act)
