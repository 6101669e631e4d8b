"""The way of an account's events through the desks: orders, fills, accounts, outcomes, funding.

While the first picture of the venue is taken, what the streams say is held back and applied after
it. A fill that was booked is at once on the ledger, in the leans, the hedges and the P&L.
"""

from __future__ import annotations

from collections.abc import Callable

from mm_daemon.core.account_desk import AccountDesk
from mm_daemon.core.flatten_desk import FlattenDesk
from mm_daemon.core.hedge_desk import HedgeDesk
from mm_daemon.core.pnl_desk import PnlDesk
from mm_daemon.core.quote_desk import QuoteDesk
from mm_daemon.core.reconcile_desk import ReconcileDesk
from mm_daemon.core.recovery import book_known
from mm_daemon.core.state import EngineState
from mm_daemon.domain.events import MmpTriggered, RequestDone, TickerSeen
from mm_daemon.domain.inputs import Withheld
from mm_daemon.domain.intents import PlaceOrder
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    Purpose,
    RejectReason,
)
from mm_daemon.domain.units import Ns

Held = FillEvidence | OrderEvidence | AccountEvidence


class AccountFlow:
    """Handlers of account events. The reconcile desk is made from it and given to `bind`."""

    def __init__(
        self,
        state: EngineState,
        account: AccountDesk,
        quotes: QuoteDesk,
        hedges: HedgeDesk,
        flattens: FlattenDesk,
        pnl: PnlDesk,
    ) -> None:
        self._s = state
        self._account = account
        self._quotes = quotes
        self._hedges = hedges
        self._flattens = flattens
        self._pnl = pnl
        self._reconciles: ReconcileDesk

    def bind(
        self,
        make: Callable[
            [Callable[[FillEvidence, Ns], None], Callable[[Held, Ns], None]], ReconcileDesk
        ],
    ) -> ReconcileDesk:
        """The reconcile desk, made with the ways in which it applies what it found."""
        self._reconciles = make(self.after_fill, self.apply)
        return self._reconciles

    def on_order(self, evidence: OrderEvidence, now_ns: Ns) -> None:
        if self._reconciles.is_holding:
            self._reconciles.reconciler.hold(evidence)
        else:
            self._account.on_order(evidence, now_ns)

    def on_fill(self, fill: FillEvidence, now_ns: Ns) -> None:
        if self._reconciles.is_holding:
            self._reconciles.reconciler.hold(fill)
        elif self._account.on_fill(fill, now_ns):
            self.after_fill(fill, now_ns)

    def on_listing(self, now_ns: Ns) -> None:
        """New instruments are known: fills that waited for one are booked, those that the venue
        has to tell again are asked for."""
        book_known(self._s)
        for fill in self._s.portfolio.retry_parked():
            self._s.working.on_fill(fill, now_ns)
            self.after_fill(fill, now_ns)
        if self._s.portfolio.parked:
            self._reconciles.request_full(now_ns)

    def apply(self, event: Held, now_ns: Ns) -> None:
        """What a stream said while the first picture was taken, or an account of a picture."""
        if isinstance(event, OrderEvidence):
            self._account.on_order(event, now_ns)
        elif isinstance(event, AccountEvidence):
            self.on_account(event, now_ns)
        elif self._account.on_fill(event, now_ns):
            self.after_fill(event, now_ns)

    def after_fill(self, fill: FillEvidence, now_ns: Ns) -> None:
        """A fill was booked: on the ledger at once; leans, limits and hedges look again."""
        s = self._s
        taken = s.adjustments.on_fill(fill, s.portfolio, s.catalog)
        if taken:
            s.risk.refresh_all(s.portfolio.position_lots, s.working)
            name = s.names[fill.instrument_id]
            s.outbox.log("warning", "adjustment_taken_back", instrument=name, lots=taken)
        self._account.record_fill(fill, now_ns)
        self._quotes.relean(self._s.catalog.instruments[fill.instrument_id].underlying)
        self._hedges.on_fill(fill)
        self._hedges.look_now()
        self._pnl.on_fill(fill, now_ns)

    def on_account(self, evidence: AccountEvidence, now_ns: Ns) -> None:
        self._account.on_account(evidence, now_ns)
        self._pnl.on_account(evidence, now_ns)

    def on_ticker(self, event: TickerSeen, now_ns: Ns) -> None:
        state = self._s
        state.market.on_event(event, now_ns)
        if event.instrument_id not in state.perpetuals:
            return
        state.breaker.venue_offset.add(event.ts_venue_ns, now_ns)
        if state.portfolio.is_open:
            received_coin = self._account.on_perpetual(event)
            self._pnl.on_funding(state.perpetuals[event.instrument_id], received_coin)

    def on_mmp(self, event: MmpTriggered, now_ns: Ns) -> None:
        self._account.on_mmp(event, now_ns)
        self._reconciles.request_full(now_ns)

    def on_request_done(self, done: RequestDone, now_ns: Ns) -> None:
        intent = self._account.on_request_done(done, now_ns)
        is_refused = done.reason not in (None, RejectReason.UNKNOWN_OUTCOME)
        if is_refused and isinstance(intent, PlaceOrder):
            assert done.reason is not None
            self._flattens.on_refused(intent, done.reason, now_ns)

    def on_withheld(self, event: Withheld, now_ns: Ns) -> None:
        intent = self._account.on_withheld(event.request_id, event.reason, now_ns)
        if isinstance(intent, PlaceOrder):
            if intent.purpose is Purpose.FLATTEN:
                self._s.flattener.on_withheld(intent.instrument_id, now_ns)
            else:
                self._s.hedger.on_withheld(intent.instrument_id, now_ns)
