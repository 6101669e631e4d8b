"""Reconciling: the questions sent, the pictures judged, and what follows from a verdict.

Nothing is quoted or hedged before the first picture is clean. Every later one that is not clean is
remembered with its time; the controls decide what that costs.
"""

from __future__ import annotations

from collections.abc import Callable

from mm_daemon.core import absence
from mm_daemon.core.adoption import Adoption
from mm_daemon.core.order_state import WorkingOrder
from mm_daemon.core.reconcile import Cut, Reconciler, Task
from mm_daemon.core.reconcile_verdict import (
    Books,
    Conclusion,
    adjustments,
    cancels,
    fills_since,
    judge,
    targeted_reads,
)
from mm_daemon.core.state import EngineState
from mm_daemon.core.throttle import Pool
from mm_daemon.domain.events import (
    AccountsRead,
    OpenOrdersRead,
    OrderRead,
    PositionsRead,
    QueryFailed,
    TradesRead,
)
from mm_daemon.domain.inputs import AdoptVenue
from mm_daemon.domain.intents import CancelQuotes
from mm_daemon.domain.orders import AccountEvidence, FillEvidence, OrderEvidence
from mm_daemon.domain.units import Ns

QUERIES_KEPT = 4
"""Queries that are left for sweeps and targeted reads."""
BREAKS_LOGGED_MAX = 10

Answer = OpenOrdersRead | TradesRead | PositionsRead | AccountsRead | QueryFailed


class ReconcileDesk:
    """Runs the reconciler over the state."""

    def __init__(
        self,
        state: EngineState,
        *,
        book_applied: Callable[[FillEvidence, Ns], None],
        apply_event: Callable[[FillEvidence | OrderEvidence | AccountEvidence, Ns], None],
    ) -> None:
        self._s = state
        self._book_applied = book_applied
        self._apply_event = apply_event
        currencies = tuple(dict.fromkeys(state.settle_currency.values()))
        self.reconciler = Reconciler(state.params, currencies, state.start.seed)
        self._targets: dict[int, tuple[WorkingOrder, int]] = {}
        self.last_clean_ns = 0
        self.foreign_orders = 0
        self.newer_epoch_seen = False
        self.breaks: dict[str, int] = {}
        self.adoption = Adoption(state)

    @property
    def is_holding(self) -> bool:
        return self.reconciler.is_holding

    def on_session_ready(self, now_ns: Ns) -> None:
        """The trading session is up (again): nothing is known until a whole picture was taken.

        Quotes that outlived an earlier connection go first: the venue's cancel on disconnect
        covers only what was sent on the present one.
        """
        self._s.modes.is_reconciled = False
        self._cancel_quotes(now_ns)
        task = Task.FULL if self.last_clean_ns else Task.START
        self.reconciler.request(task, now_ns)

    def request_full(self, now_ns: Ns) -> None:
        self.reconciler.request(Task.FULL, now_ns)

    def adopt(self, wanted: AdoptVenue, now_ns: Ns) -> None:
        """A person says that the venue is right: its positions are taken at the next whole picture,
        where the break has stood for long and nothing else explains it."""
        if self.adoption.ask(wanted, now_ns):
            self.request_full(now_ns)

    def poll(self, now_ns: Ns) -> None:
        """Asks what is due."""
        s = self._s
        self.adoption.expire(now_ns)
        can_read = s.modes.can_read()
        can_read = can_read and s.throttle.available(Pool.QUERIES, now_ns) > QUERIES_KEPT
        asked = self.reconciler.poll(s.portfolio, s.outbox.take_id, now_ns, can_read=can_read)
        for intent in asked:
            s.throttle.try_spend(intent, now_ns)
            s.outbox.send(intent)

    def on_answer(self, answer: Answer, now_ns: Ns) -> None:
        if isinstance(answer, QueryFailed):
            self._targets.pop(answer.request_id, None)
        cut = self.reconciler.on_answer(answer, now_ns)
        if cut is not None:
            self._conclude(cut, now_ns)

    def on_order_read(self, read: OrderRead, now_ns: Ns) -> None:
        target = self._targets.pop(read.request_id, None)
        if target is not None:
            order, sent_ns = target
            absence.note_order(self._s.working, order, read, Ns(sent_ns), now_ns)

    def digest_words(self) -> tuple[object, ...]:
        return (
            self.reconciler.digest().hex(),
            sorted(self._targets),
            self.last_clean_ns,
            self.foreign_orders,
            self.newer_epoch_seen,
            self.breaks,
            self.adoption.digest_words(),
        )

    def _books(self) -> Books:
        s = self._s
        return Books(
            catalog=s.catalog,
            working=s.working,
            portfolio=s.portfolio,
            client_ids=s.client_ids,
            groups=tuple(params.mmp.group for params in s.params.underlyings),
        )

    def _conclude(self, cut: Cut, now_ns: Ns) -> None:
        s = self._s
        conclusion = judge(cut, self._books(), now_ns)
        for fill in conclusion.fills_applied:
            self._book_applied(fill, now_ns)
        if cut.accounts is not None:
            for account in cut.accounts.accounts:
                self._apply_event(account, now_ns)
        if cut.task is Task.START:
            for event in self.reconciler.take_held():
                self._apply_event(event, now_ns)
        if conclusion.fills_applied or cut.task >= Task.FULL:
            s.risk.refresh_all(s.portfolio.position_lots, s.working)
        self._clean_up(conclusion, now_ns)
        self._note(conclusion, cut, now_ns)
        if cut.task >= Task.FULL and cut.is_consistent:
            self._adjust(conclusion, cut, now_ns)
        if cut.orders is not None:
            for read, order in targeted_reads(self._books(), s.outbox.take_id, now_ns):
                self._targets[read.request_id] = (order, now_ns)
                s.outbox.send(read)

    def _adjust(self, conclusion: Conclusion, cut: Cut, now_ns: Ns) -> None:
        s, wish = self._s, self.adoption.take(now_ns)
        if wish is None:
            return
        is_lost = self.adoption.difference.is_lost
        if is_lost and fills_since(cut, self._books()):
            self.adoption.refuse(wish, "trades came while the picture was taken: ask again")
            return
        booked = 0
        for record in adjustments(conclusion, cut, self._books()):
            if not s.adjustments.book(record, s.portfolio, s.catalog):
                continue
            s.outbox.put(record)
            s.metrics.add("mm_adjustments_total")
            s.outbox.log(
                "error",
                "position_adjusted",
                adjustment_id=record.adjustment_id,
                instrument=record.instrument,
                lots=record.lots,
                actor=wish.actor,
                page=True,
            )
            booked += 1
        if is_lost:
            self._take_over(cut, wish)
        self.adoption.see((), s.catalog)
        whole = ", and the books taken over" if is_lost else ""
        self.adoption.end(f"adopted: {booked} positions{whole}")
        s.risk.refresh_all(s.portfolio.position_lots, s.working)
        self.request_full(now_ns)

    def _take_over(self, cut: Cut, wish: AdoptVenue) -> None:
        """Some of the difference can never be booked here: the venue's cash and positions, which
        have it, are taken for the whole. They are on the ledger with the next checkpoint."""
        assert cut.accounts is not None
        assert cut.positions is not None
        s = self._s
        s.outbox.log(
            "error",
            "books_taken_over",
            trades=len(s.portfolio.parked),
            positions=len(s.portfolio.orphans),
            actor=wish.actor,
            page=True,
        )
        s.portfolio.take_over(cut.accounts.accounts, cut.positions.positions)

    def _clean_up(self, conclusion: Conclusion, now_ns: Ns) -> None:
        """Our own leftovers of an earlier life go."""
        s = self._s
        for cancel in cancels(conclusion, s.outbox.take_id):
            s.throttle.try_spend(cancel, now_ns)
            s.working.register(cancel, now_ns)
            s.outbox.send(cancel)
        if conclusion.cancel_quotes:
            self._cancel_quotes(now_ns)
        if conclusion.task >= Task.FULL and not s.modes.is_reconciled:
            if conclusion.is_clean:
                self.reconciler.is_over()
            else:
                self.reconciler.again(conclusion.task, now_ns)

    def _cancel_quotes(self, now_ns: Ns) -> None:
        """All quotes in our currencies, and theirs alone: another shard may quote in others."""
        s = self._s
        for currency in dict.fromkeys(s.settle_currency.values()):
            intent = CancelQuotes(s.outbox.take_id(), currency, instrument_id=-1, freeze=False)
            s.throttle.try_spend(intent, now_ns)
            s.working.register(intent, now_ns)
            s.outbox.send(intent)

    def _note(self, conclusion: Conclusion, cut: Cut, now_ns: Ns) -> None:
        """What stands now: a look at open orders alone does not clear a break of positions."""
        s = self._s
        whole = conclusion.task >= Task.FULL
        self.foreign_orders = len(conclusion.foreign)
        self.newer_epoch_seen = self.newer_epoch_seen or conclusion.newer_epoch_seen
        looked = ["order", "fill"]
        looked += ["position"] if cut.positions is not None and cut.is_consistent else []
        looked += ["cash"] if cut.accounts is not None and cut.is_consistent else []
        if "position" in looked:
            self.adoption.see(conclusion.breaks, s.catalog)
        for kind in looked:
            self.breaks.pop(kind, None)
        for one in conclusion.breaks:
            self.breaks[one.kind] = self.breaks.get(one.kind, 0) + 1
        is_broken = any(kind != "cash" for kind in self.breaks)
        if is_broken:
            s.reconcile_broken_since_ns = s.reconcile_broken_since_ns or now_ns
        elif conclusion.is_clean:
            self.last_clean_ns = now_ns
            s.reconcile_broken_since_ns = 0
        if whole and conclusion.is_clean and not s.modes.is_reconciled:
            s.modes.is_reconciled = True
            s.outbox.log("info", "reconciled", task=conclusion.task.name.lower())
        for one in conclusion.breaks[:BREAKS_LOGGED_MAX]:
            s.outbox.log(
                "warning",
                "reconcile_break",
                kind=one.kind,
                name=one.name,
                ours=one.ours,
                venue=one.venue,
            )
        if conclusion.foreign:
            s.outbox.log("warning", "foreign_orders", count=len(conclusion.foreign))
