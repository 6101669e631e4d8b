"""When the venue is swept, for which generation of the latch, and whether that has been confirmed.

The sweeper sweeps; this decides. A crash, a stop and a kill without a trader each begin a sweep; a
trader starts only when the last one is over. What was confirmed is published on the page together
with the generation it was for, because a later kill is not answered by an earlier sweep.
"""

from __future__ import annotations

import time

from mm_daemon.domain.permission import SWEEP
from mm_daemon.guard.lease_desk import LeaseDesk
from mm_daemon.guard.sweeper import Sweeper
from mm_daemon.ipc.page import SWEPT_GENERATION, Page


class SweepDesk:
    """One guard's sweeps. `sweeper` None: this venue cannot be swept."""

    def __init__(
        self, sweeper: Sweeper | None, page: Page, lease: LeaseDesk, patience_s: float
    ) -> None:
        self._sweeper = sweeper
        self._page = page
        self._lease = lease
        self._patience_s = patience_s
        self._epoch = 0
        self._is_due = False
        self._since_s: float | None = None
        self._swept_for = 0

    @property
    def can_sweep(self) -> bool:
        return self._sweeper is not None

    @property
    def is_open(self) -> bool:
        """Whether one was begun and no trader has reconciled since."""
        return self._since_s is not None

    def start(self) -> None:
        if self._sweeper is not None:
            self._sweeper.start()

    def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.stop()

    def begin(self, *, check_first: bool = False) -> None:
        """For the latch as it is now. Without a tenure it waits until there is one."""
        self._swept_for = self._page.generation
        self._since_s = time.monotonic()
        self._is_due = not self._lease.may_sweep
        if self._sweeper is not None and not self._is_due:
            self._epoch = self._sweeper.begin(check_first=check_first)

    def begin_for(self, generation: int) -> None:
        """The sweep in hand answers this generation too."""
        self._swept_for = generation

    def begin_at_once(self) -> None:
        """From the watchdog's thread: beside a trader that hangs; its end brings another."""
        if self._sweeper is not None and self._lease.may_sweep:
            self._sweeper.begin()

    def may_start_trader(self, now_s: float) -> bool:
        """Nothing to sweep, swept, or waited for long enough.

        After the wait the trader starts latched and reconciles by its own session; a REST side
        that is down must not keep the desk from seeing its orders.
        """
        if self._since_s is None or self._sweeper is None:
            return True
        if self._is_due:
            return True  # a trader without a tenure only waits for one
        return self.is_confirmed() or now_s - self._since_s >= self._patience_s

    def is_confirmed(self) -> bool:
        """Whether the last sweep was; published where it was."""
        if self._sweeper is None or not self._sweeper.is_confirmed(self._epoch):
            return False
        self._page.words[SWEPT_GENERATION] = self._swept_for
        return True

    def close(self) -> None:
        """A trader has reconciled: what rests is its own now."""
        self._since_s = None
        if self._sweeper is not None:
            self._sweeper.call_off()

    def mind(self, *, is_trader_running: bool, is_stopping: bool) -> None:
        """Carry out and publish a kill that comes while no trader runs; call off a sweep that the
        latch no longer asks for, before it cancels what a living trader quotes, and one that was
        begun under a tenure that is over, before it cancels what another owner quotes."""
        if self._sweeper is None:
            return
        if not self._lease.may_sweep:
            if self.is_open and not self.is_confirmed():
                self._is_due = True
            self._sweeper.call_off()
            return
        if self._is_due:
            self.begin()
        page = self._page
        if is_trader_running:
            if not is_stopping and not page.tasks & SWEEP:
                self._sweeper.call_off()
            return
        if self._since_s is not None:
            self.is_confirmed()
        is_new = page.generation > max(self._swept_for, page.words[SWEPT_GENERATION])
        if is_new and page.tasks & SWEEP and not is_stopping:
            self.begin()
