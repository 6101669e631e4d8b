"""Carries out what the lease asks of the guard: ends traders, and says what may start or sweep.

Where no lease is required it allows everything and does nothing. It never latches and never counts
a crash: a lease that went is no fault of the trader's.
"""

from __future__ import annotations

import signal
import time

from mm_daemon.guard.child import Child
from mm_daemon.guard.lease_rule import Advice, LeaseView, LeaseWatch, advise, look_at_lease
from mm_daemon.guard.log import log
from mm_daemon.guard.settings import Settings
from mm_daemon.ipc.page import TRADER_TENURE, LeaseState, Page


class LeaseDesk:
    """One guard's dealings with the lease."""

    def __init__(self, settings: Settings, page: Page, trader: Child) -> None:
        self._is_required = settings.lease_required
        self._rest_ns = int(settings.lease_rest_s * 1e9)
        self._stop_budget_s = settings.stop_budget_s
        self._page = page
        self._trader = trader
        self._watch = LeaseWatch()
        self._ending: Advice | None = None
        self._deadline_s = 0.0

    @property
    def may_sweep(self) -> bool:
        """What rests at the venue is ours, provably and for a while to come: a tenure ends by our
        clock before the store lets another in."""
        return not self._is_required or self._look(is_trader_running=False).has_tenure

    @property
    def is_anothers(self) -> bool:
        """The store has said that this shard is not ours: nothing at the venue is our concern."""
        return not self.may_sweep and self._page.lease_state in (
            LeaseState.STANDBY,
            LeaseState.SUPERSEDED,
        )

    @property
    def may_have_traded(self) -> bool:
        """Whether the last trader got as far as a tenure; one that only waited sent nothing."""
        return not self._is_required or self._page.words[TRADER_TENURE] != 0

    def mind(self, now_s: float, *, is_stopping: bool = False) -> None:
        """Ends the trader where its tenure is over: in order, and by force after its time, while
        the shard is ours; at once where it may be another's, also in the middle of a stop."""
        if not self._is_required:
            return
        view = self._look(is_trader_running=self._trader.is_running)
        self._watch, advice = advise(self._watch, view, self._rest_ns)
        is_new = advice is not self._ending
        if advice is Advice.END_AT_ONCE:
            self._trader.send(signal.SIGKILL)
        elif self._ending is not None:
            if now_s >= self._deadline_s:
                self._trader.send(signal.SIGKILL)
            return
        elif advice is Advice.END_FOR_NEW_TENURE and not is_stopping:
            self._deadline_s = now_s + self._stop_budget_s
            self._trader.send(signal.SIGTERM)
        else:
            return
        self._ending = advice
        if is_new:
            log("lease", advice=advice.value, fence=view.fence, trader=view.trader_tenure)

    def take_end(self) -> bool:
        """The trader has ended: whether it was the lease that ended it."""
        was_ending, self._ending = self._ending is not None, None
        return was_ending

    def _look(self, *, is_trader_running: bool) -> LeaseView:
        return look_at_lease(self._page, time.monotonic_ns(), is_trader_running=is_trader_running)
