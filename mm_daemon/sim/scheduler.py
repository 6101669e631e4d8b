"""Virtual time: what happens next, in an order that depends on nothing but what was scheduled.

Events run by time, and within one instant by the order in which they were scheduled. Every event
that runs has a number, the step; a step is the finest place at which a whole process can be
stopped, killed or cut off, so tests name their faults by steps and repeat them exactly.

It has no clock, no thread and no randomness: time is what the next event says.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Event:
    """One thing that will happen; `cancel` makes it happen to nobody."""

    __slots__ = ("act", "at_ns", "label")

    def __init__(self, at_ns: int, act: Callable[[], None], label: str) -> None:
        self.at_ns = at_ns
        self.act: Callable[[], None] | None = act
        self.label = label

    def cancel(self) -> None:
        self.act = None


class Scheduler:
    """Runs events in order of (time, sequence). Time never falls."""

    def __init__(self, start_ns: int) -> None:
        self.now_ns = start_ns
        """May be set forward: what was due before then runs at once."""
        self.steps = 0
        self.label = ""
        """Of the event that ran last."""
        self._queue: list[tuple[int, int, Event]] = []
        self._sequence = 0

    def at(self, at_ns: int, act: Callable[[], None], label: str) -> Event:
        """Schedules `act`; a time already past means as soon as possible."""
        event = Event(max(at_ns, self.now_ns), act, label)
        self._sequence += 1
        heapq.heappush(self._queue, (event.at_ns, self._sequence, event))
        return event

    def after(self, delay_ns: int, act: Callable[[], None], label: str) -> Event:
        return self.at(self.now_ns + delay_ns, act, label)

    def next_ns(self) -> int | None:
        """When the next event runs; None where nothing is scheduled."""
        while self._queue and self._queue[0][2].act is None:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def step(self) -> bool:
        """Runs one event; False where there is none."""
        if self.next_ns() is None:
            return False
        at_ns, _, event = heapq.heappop(self._queue)
        self.now_ns = max(at_ns, self.now_ns)
        assert event.act is not None
        act, event.act = event.act, None
        self.steps += 1
        self.label = event.label
        act()
        return True

    def run_until(self, until_ns: int) -> None:
        """Runs every event up to `until_ns`, inclusive, and leaves the time there."""
        while (due_ns := self.next_ns()) is not None and due_ns <= until_ns:
            self.step()
        self.now_ns = max(self.now_ns, until_ns)
