"""The machine's clocks, read once and anchored: the only place of the daemon that asks for the
time."""

from __future__ import annotations

import time

from mm_daemon.kernel.clock import StampedClock


def live_clock() -> StampedClock:
    """A stamping clock on CLOCK_MONOTONIC, anchored to the wall clock now."""
    return StampedClock(time.monotonic_ns, time.time_ns())
