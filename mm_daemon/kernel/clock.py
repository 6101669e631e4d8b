"""The only way time reaches the kernel: stamps that strictly rise, and a monotonic reading for
deadlines."""

from __future__ import annotations

from typing import Protocol

from mm_daemon.domain.units import Ns


class Clock(Protocol):
    def stamp(self) -> Ns:
        """Wall clock at start plus monotonic delta; higher than every stamp before."""
        ...

    def mono_ns(self) -> int:
        """The machine's monotonic clock, which the permit deadline on the shared page is in."""
        ...


class StampedClock:
    """A clock over any monotonic source, anchored once to the wall.

    It is never anchored anew: every deadline, age and window is in these stamps, and a jump would
    make all of them wrong at once. A wall clock that is stepped for good stays apart from it, which
    C18 halts on, until the next life anchors again.
    """

    def __init__(self, mono_ns_source: MonotonicSource, wall_ns_at_start: int) -> None:
        self._mono_ns = mono_ns_source
        self.wall_offset_ns = wall_ns_at_start - mono_ns_source()
        self._last = 0

    def stamp(self) -> Ns:
        now = self._mono_ns() + self.wall_offset_ns
        if now <= self._last:
            now = self._last + 1
        self._last = now
        return Ns(now)

    def mono_ns(self) -> int:
        return self._mono_ns()


class MonotonicSource(Protocol):
    def __call__(self) -> int: ...
