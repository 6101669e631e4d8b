"""Carries out what the lease asks of the guard: ends traders, and says what may start or sweep.

Where no lease is required it allows everything and does nothing. It never latches and never counts
a crash: a lease that went is no fault of the trader's.
"""

from __future__ import annotations

import signal
import time

from mm_daemon.guard.child import Child
from mm_daemon.guard.lease_rule import Advice, LeaseWatch, advise, look_at_lease
from mm_daemon.guard.log import log
from mm_daemon.guard.settings import Settings
from mm_daemon.ipc.page import TRADER_TENURE, LeaseState, Page


class LeaseDesk:
    """One guard's dealings with the lease."""

    def __init__(self, settings: Settings, page: Page, trader: Child) -> None:
        self._is_required = settings.lease_required
        self._patience_ns = int(settings.lease_lost_s * 1e9)
        self._stop_budget_s = settings.stop_budget_s
        self._page = page
        self._trader = trader
        self._watch = LeaseWatch()
        self._ending: Advice | None = None
        self._deadline_s = 0.0

    @property
    def may_sweep(self) -> bool:
        """What rests at the venue is ours: we hold the tenure, or a trader of ours did and nobody
        has taken over."""
        if not self._is_required or self._has_tenure():
            return True
        is_ours = self._page.words[TRADER_TENURE] != 0
        return is_ours and self._page.lease_state is not LeaseState.SUPERSEDED

    @property
    def may_have_traded(self) -> bool:
        """Whether the last trader got as far as a tenure; one that only waited sent nothing."""
        return not self._is_required or self._page.words[TRADER_TENURE] != 0

    def mind(self, now_s: float) -> None:
        """Ends the trader where its tenure is over; once in order, after its time by force."""
        if not self._is_required:
            return
        if self._ending is not None:
            if now_s >= self._deadline_s:
                self._trader.send(signal.SIGKILL)
            return
        view = look_at_lease(
            self._page, time.monotonic_ns(), is_trader_running=self._trader.is_running
        )
        self._watch, advice = advise(self._watch, view, self._patience_ns)
        if advice in (Advice.GO_ON, Advice.HOLD_BACK):
            return
        log("lease", advice=advice.value, fence=view.fence, trader=view.trader_tenure)
        self._ending = advice
        self._deadline_s = now_s + self._stop_budget_s
        is_ours = advice is not Advice.END_SUPERSEDED
        self._trader.send(signal.SIGTERM if is_ours else signal.SIGKILL)

    def take_end(self) -> bool:
        """The trader has ended: whether it was the lease that ended it."""
        was_ending, self._ending = self._ending is not None, None
        return was_ending

    def _has_tenure(self) -> bool:
        view = look_at_lease(self._page, time.monotonic_ns(), is_trader_running=False)
        return view.has_tenure
