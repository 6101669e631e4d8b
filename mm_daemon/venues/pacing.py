"""Pacing of requests that a venue meters: a token bucket in whole nanoseconds.

One integer of state (the bucket's theoretical arrival time), so that equal histories pace equally.
"""

from __future__ import annotations

from mm_daemon.domain.units import Ns


class Pacer:
    """`burst` requests at once, then one each `interval_ns`."""

    def __init__(self, *, interval_ns: int, burst: int) -> None:
        assert interval_ns > 0, f"pacer interval {interval_ns} ns, expected > 0"
        assert burst >= 1, f"pacer burst {burst}, expected >= 1"
        self._interval_ns = interval_ns
        self._slack_ns = interval_ns * (burst - 1)
        self._next_ns = 0

    def ready_ns(self, reserve: int = 0) -> Ns:
        """From when one more request may be sent that leaves `reserve` for others."""
        return Ns(self._next_ns - self._slack_ns + reserve * self._interval_ns)

    def take(self, now_ns: Ns, reserve: int = 0) -> bool:
        """Whether a request may be sent now, leaving `reserve` for others; if so it is counted."""
        if now_ns < self.ready_ns(reserve):
            return False
        self._next_ns = max(self._next_ns, now_ns) + self._interval_ns
        return True

    def state(self) -> int:
        return self._next_ns
