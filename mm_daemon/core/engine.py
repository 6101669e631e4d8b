"""The decision: events in, intents and outputs out, in one fixed order.

Events only change state; `decide` (one flush) and timers act on it. The order of one decision:
revalue what moved; see what may be done at all; take away what may not stay; reconcile; quote;
hedge. What must not wait for a flush (losing permission, a lost session, a kill) acts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from mm_daemon.core.account_desk import AccountDesk
from mm_daemon.core.account_flow import AccountFlow
from mm_daemon.core.answer_desk import AnswerDesk
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.control_desk import ControlDesk
from mm_daemon.core.flatten_desk import FlattenDesk
from mm_daemon.core.gauges import set_gauges, set_tokens
from mm_daemon.core.hedge_desk import HedgeDesk
from mm_daemon.core.modes import JOURNAL_DEAD_NS, Modes
from mm_daemon.core.outbox import Outbox
from mm_daemon.core.pnl_desk import PnlDesk
from mm_daemon.core.quote_desk import QuoteDesk
from mm_daemon.core.reconcile_desk import ReconcileDesk
from mm_daemon.core.recovery import Checkpoints, restore
from mm_daemon.core.settlement_desk import SettlementDesk
from mm_daemon.core.state import EngineState
from mm_daemon.core.sweep import SweepState
from mm_daemon.core.sweep_desk import SweepDesk
from mm_daemon.core.view_builder import build_view
from mm_daemon.domain.errors import GridChangedError
from mm_daemon.domain.events import (
    AccountConfirmed,
    AccountsRead,
    BookChanged,
    BookLost,
    CreditLimits,
    DeliveryRead,
    Event,
    ExpirationEstimate,
    FillUnplaced,
    FrameRefused,
    IndexSeen,
    InstrumentsRead,
    InstrumentStateChanged,
    MmpTriggered,
    OpenOrdersRead,
    OrderRead,
    PlatformChanged,
    PositionsRead,
    PublicTrade,
    QueryFailed,
    QuoteSideFailed,
    RequestDone,
    SessionChanged,
    SessionPhase,
    TickerSeen,
    TradesRead,
    VolIndexSeen,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import (
    AdoptVenue,
    Drain,
    HealthSample,
    Input,
    LatchChanged,
    OperatorReset,
    PermitChanged,
    Start,
    Withheld,
)
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.intents import Intent
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    PositionEvidence,
)
from mm_daemon.domain.outputs import Drained, Output
from mm_daemon.domain.permission import SWEEP
from mm_daemon.domain.standing import Stage, Standing
from mm_daemon.domain.units import NS_PER_MS, Ns

HOUSEKEEPING_NS = 100 * NS_PER_MS
EARLY_NS = 150 * NS_PER_MS
"""What is due within this is done by the housekeeping, so that a flush with a tick in it seldom
has to; more than one housekeeping, so that nothing falls between two."""
EARLY_EVENTS_MAX = 10_000

Handler = Callable[[Any, Ns], None]
MARKET_EVENTS = (
    BookChanged,
    BookLost,
    TickerSeen,
    PublicTrade,
    IndexSeen,
    VolIndexSeen,
    ExpirationEstimate,
    InstrumentStateChanged,
    PlatformChanged,
)


class Desk(Protocol):
    """A part of the engine with state of its own beside the components'."""

    def digest_words(self) -> tuple[object, ...]: ...


class Engine:
    """One account's decision. Made by the first input of a session."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.modes = Modes(start)
        self.outbox = Outbox(start.first_sequence)
        self.sweeps = SweepDesk(
            self.modes, self.outbox, tuple(one.name for one in start.params.underlyings)
        )
        self.state: EngineState | None = None
        self._early: list[Event] = []
        self.quotes: QuoteDesk
        self.answers: AnswerDesk
        self.account: AccountDesk
        self.reconciles: ReconcileDesk
        self.controls: ControlDesk
        self.hedges: HedgeDesk
        self.flattens: FlattenDesk
        self.flow: AccountFlow
        self.pnl: PnlDesk
        self.settlements: SettlementDesk
        self.checkpoints: Checkpoints
        self._now_ns = Ns(0)
        self._housekeeping_ns = 0
        self.started_ns = 0
        self._on_event: dict[type, Handler] = {
            SessionChanged: self._on_session,
            AccountConfirmed: self._on_confirmed,
            InstrumentsRead: self._on_instruments,
            FrameRefused: self._on_frame_refused,
        }
        self._on_input: dict[type, Handler] = {
            Start: self._on_start,
            LatchChanged: self._on_latch,
            PermitChanged: self._on_permit,
            HealthSample: self._on_health,
            Withheld: self._on_withheld,
            OperatorReset: self._on_reset,
            AdoptVenue: self._on_adopt,
            Drain: self._on_drain,
        }

    # -- the node's calls -------------------------------------------------------------------------

    def on_events(self, events: Sequence[Event], now_ns: Ns) -> None:
        self._now_ns = now_ns
        handlers = self._on_event
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event, now_ns)
            elif len(self._early) < EARLY_EVENTS_MAX:
                # Before the catalogue nothing can be counted in lots: it waits, in order.
                self._early.append(event)

    def on_input(self, event: Input, now_ns: Ns) -> None:
        self._now_ns = now_ns
        handler = self._on_input.get(type(event))
        if handler is not None:
            handler(event, now_ns)
        elif self.state is not None:
            self.answers.on_input(event, now_ns)

    def decide(self, now_ns: Ns) -> None:
        """One flush."""
        self._now_ns = now_ns
        state = self.state
        if state is None:
            self.modes.refresh(now_ns)
            return
        moved = self.quotes.revalue(now_ns)
        self.controls.evaluate(now_ns)
        self._follow_modes(now_ns)
        self.quotes.look_at(self.controls.scan(now_ns), moved)
        self.quotes.resync()
        if not self.modes.is_reconciled:
            # Once reconciled, questions keep the pace of the timer.
            self.reconciles.poll(now_ns)
        self.quotes.quote(moved, now_ns)
        self.hedges.hedge(now_ns)
        self.flattens.flatten(now_ns)
        self.sweeps.poll(now_ns)

    def on_timer(self, now_ns: Ns) -> None:
        """Housekeeping; the flush that follows decides."""
        self._now_ns = now_ns
        self._housekeeping_ns = now_ns + HOUSEKEEPING_NS
        if self.state is None:
            return
        set_tokens(self.state, now_ns)
        self.controls.evaluate(now_ns, early_ns=EARLY_NS)
        self.quotes.renew(now_ns, early_ns=EARLY_NS)
        self.quotes.calibrate(self.controls.outside_share, now_ns)
        self.reconciles.poll(now_ns)
        self.pnl.step(now_ns)
        self.settlements.poll(now_ns)
        self.account.ask_absent(now_ns)
        self.checkpoints.poll(now_ns)
        if self.modes.quoting_reasons and self.quotes.has_quotes():
            self.quotes.pull(", ".join(self.modes.quoting_reasons), now_ns, freeze=False)
        self.sweeps.poll(now_ns)

    def next_deadline_ns(self) -> Ns | None:
        """Later than the last step: what is due and waits for something else is looked at by the
        housekeeping, for a deadline already past would fire again in every turn of the loop."""
        now_ns = self._now_ns
        due = [ns for ns in (self.modes.next_ns(now_ns), self.sweeps.next_ns()) if ns is not None]
        return Ns(min([self._housekeeping_ns, *(ns for ns in due if ns > now_ns)]))

    def take_outputs(self) -> list[Output]:
        return self.outbox.take_outputs()

    def take_intents(self) -> list[Intent]:
        return self.outbox.take_intents()

    # -- events -----------------------------------------------------------------------------------

    def _on_session(self, event: SessionChanged, now_ns: Ns) -> None:
        conn = Conn(event.conn)
        self.modes.phases[conn] = event.phase
        if conn is Conn.TRADE:
            if event.phase is SessionPhase.READY and self.state is not None:
                self.reconciles.on_session_ready(now_ns)
            elif event.phase is not SessionPhase.READY:
                self.modes.is_reconciled = False
        self.outbox.log(
            "info",
            "session_changed",
            conn=conn.name.lower(),
            phase=event.phase.value,
            reason=event.reason,
        )
        self._follow_modes(now_ns)

    def _on_confirmed(self, event: AccountConfirmed, now_ns: Ns) -> None:
        self.modes.confirmed = event

    def _on_frame_refused(self, event: FrameRefused, now_ns: Ns) -> None:
        self.outbox.log(
            "warning", "frame_refused", conn=Conn(event.conn).name.lower(), reason=event.reason
        )
        if self.state is not None:
            self.state.metrics.add("mm_frames_refused_total")
            if event.conn == Conn.TRADE:
                # Whatever it carried is unknown: ask.
                self.reconciles.request_full(now_ns)

    def _on_instruments(self, event: InstrumentsRead, now_ns: Ns) -> None:
        """The first complete catalogue makes the state; later ones change it."""
        underlyings = tuple(one.name for one in self.start.params.underlyings)
        known = {instrument.underlying: None for instrument in event.instruments}
        if any(name not in known for name in underlyings):
            return
        mine = tuple(i for i in event.instruments if i.underlying in underlyings)
        assert len(mine) == len(event.instruments), "the protocol filters to our underlyings"
        if self.state is not None:
            if event.instruments != self.state.catalog.instruments:
                self._relist(self.state, event.instruments, now_ns)
            self.state.absent.on_read(event.request_id, self.state.catalog, self.outbox)
            return
        catalog = Catalog(event.instruments, underlyings)
        self.state = EngineState(self.start, catalog, self.modes, self.outbox)
        self.quotes = QuoteDesk(self.state)
        self.answers = AnswerDesk(self.state, self.quotes)
        self.account = AccountDesk(self.state)
        self.hedges = HedgeDesk(self.state, self.sweeps.is_over)
        self.flattens = FlattenDesk(self.state, self.sweeps.is_over)
        self.pnl = PnlDesk(self.state)
        state = self.state
        self.flow = AccountFlow(
            state, self.account, self.quotes, self.hedges, self.flattens, self.pnl
        )
        self.reconciles = self.flow.bind(
            lambda book, apply: ReconcileDesk(state, book_applied=book, apply_event=apply)
        )
        self.controls = ControlDesk(self.state, self.reconciles)
        self.checkpoints = Checkpoints(self.state)
        self.settlements = SettlementDesk(self.state, self.pnl, self._after_delivery)
        self._bind(self.state)
        applied = restore(self.state, self.start)
        if applied:
            self.outbox.log("info", "ledger_applied", fills=applied)
        self.sweeps.bind(self.state, self._settle_ns(), now_ns)
        early, self._early = self._early, []
        if self.modes.phases[Conn.TRADE] is SessionPhase.READY:
            self.reconciles.on_session_ready(now_ns)
        self.on_events(early, now_ns)
        self.outbox.log("info", "catalogue_ready", instruments=len(catalog))

    def _relist(self, state: EngineState, instruments: tuple[Instrument, ...], now_ns: Ns) -> None:
        """Takes up new listings, and fees: the account's own are known only after the catalogue.

        A grid ends the life instead. Books, what rests, what is under way and what was asked are
        all counted in ticks, so each would have to be converted while answers in old ticks still
        come; the venue changes grids in maintenance, where a new life costs nothing more.
        """
        for known, now in zip(state.catalog.instruments, instruments, strict=False):
            if known.grid != now.grid:
                raise GridChangedError(
                    f"{known.name}: the venue changed its price grid from {known.grid} to"
                    f" {now.grid}; prices of this life are counted in the old one, the next life"
                    " reads everything anew"
                )
        state.grow(Catalog(instruments, state.catalog.underlyings))
        self.pnl.resize()
        self.controls.resize()
        self.quotes.take_surface()
        self.quotes.invalidate()
        self.flow.on_listing(now_ns)

    def _bind(self, state: EngineState) -> None:
        """Routes events straight to the component that takes them."""
        self._on_event.update(dict.fromkeys(MARKET_EVENTS, state.market.on_event))
        account, flow = self.account, self.flow
        self._on_event.update(
            {
                TickerSeen: flow.on_ticker,
                OrderEvidence: flow.on_order,
                FillEvidence: flow.on_fill,
                FillUnplaced: account.on_unplaced,
                RequestDone: flow.on_request_done,
                QuoteSideFailed: account.on_side_failed,
                MmpTriggered: flow.on_mmp,
                AccountEvidence: flow.on_account,
                CreditLimits: state.throttle.set_limits,
                PositionEvidence: account.on_position,
                OpenOrdersRead: self._on_open_orders,
                DeliveryRead: self.settlements.on_delivery,
                OrderRead: self.reconciles.on_order_read,
                **dict.fromkeys(
                    (TradesRead, PositionsRead, AccountsRead, QueryFailed),
                    self.reconciles.on_answer,
                ),
            }
        )

    def _after_delivery(self, now_ns: Ns) -> None:
        self.checkpoints.want_now()
        self.reconciles.request_full(now_ns)

    def _on_open_orders(self, event: OpenOrdersRead, now_ns: Ns) -> None:
        self.sweeps.on_read(event, now_ns)
        self.reconciles.on_answer(event, now_ns)

    # -- inputs -----------------------------------------------------------------------------------

    def _on_start(self, event: Start, now_ns: Ns) -> None:
        self.started_ns = now_ns
        self._housekeeping_ns = now_ns + HOUSEKEEPING_NS
        self.outbox.log("info", "started", session=event.session, epoch=event.epoch)

    def _on_latch(self, event: LatchChanged, now_ns: Ns) -> None:
        before = self.modes.scoped
        self.modes.set_latch(event)
        self._follow_modes(now_ns)
        if before != event.scoped and self.state is not None:
            self._follow_scopes(now_ns)
        self.sweeps.on_latch(self._settle_ns(), now_ns)

    def _on_permit(self, event: PermitChanged, now_ns: Ns) -> None:
        self.modes.permit_deadline_ns = event.deadline_ns

    def _on_health(self, event: HealthSample, now_ns: Ns) -> None:
        self.modes.journal_is_sound = event.journal_lag_ns < JOURNAL_DEAD_NS
        if self.state is not None:
            self.controls.on_health(event, now_ns)
        self._follow_modes(now_ns)

    def _on_withheld(self, event: Withheld, now_ns: Ns) -> None:
        if self.state is not None:
            self.flow.on_withheld(event, now_ns)

    def _on_reset(self, event: OperatorReset, now_ns: Ns) -> None:
        for one in self.start.params.underlyings:
            if event.scope in ("", one.name):
                self.modes.on_reset(one.name, one.quoting.reentry_s, now_ns)
        if self.state is not None and not event.is_ahead:
            for control in self.state.breaker.reset(now_ns, scope=event.scope):
                self.outbox.log("warning", "reset_too_early", control=control)
            if not event.scope:
                self.state.foreign_fills = 0
            self.quotes.invalidate(event.scope)

    def _on_adopt(self, event: AdoptVenue, now_ns: Ns) -> None:
        if self.state is not None:
            self.reconciles.adopt(event, now_ns)

    def _on_drain(self, event: Drain, now_ns: Ns) -> None:
        self.modes.is_draining = True
        self.outbox.log("info", "draining", reason=event.reason)
        if self.state is None:
            self.outbox.put(Drained(is_confirmed=True, open_orders=0))
            return
        self._follow_modes(now_ns)
        self.sweeps.begin_everything(self._settle_ns(), now_ns)

    # -- acts -------------------------------------------------------------------------------------

    def _follow_modes(self, now_ns: Ns) -> None:
        """Losing permission to quote pulls at once, before any flush."""
        if self.modes.refresh(now_ns) and self.state is not None:
            if self.modes.quoting_reasons:
                why = ", ".join(self.modes.quoting_reasons)
                self.outbox.log("warning", "quoting_stopped", reason=why)
                if self.quotes.has_quotes():
                    self.quotes.pull(why, now_ns, freeze=False)
            else:
                self.outbox.log("info", "quoting_allowed")
                self.quotes.invalidate()

    def _follow_scopes(self, now_ns: Ns) -> None:
        """The same for single underlyings."""
        for one in self.start.params.underlyings:
            if self.modes.why_held(one.name):
                self.quotes.pull_held(one.name, now_ns)
            else:
                self.quotes.invalidate(one.name)

    def _settle_ns(self) -> int:
        """The last `valid_until` of anything that left."""
        if self.state is None:
            return 0
        return max(self.quotes.settle_ns, self.hedges.settle_ns, self.flattens.settle_ns)

    def _desks(self) -> tuple[Desk, ...]:
        return (
            self.quotes,
            self.controls,
            self.hedges,
            self.flattens,
            self.reconciles,
            self.pnl,
            self.settlements,
            self.checkpoints,
        )

    # -- looking in -------------------------------------------------------------------------------

    def view(self, name: str, now_ns: Ns) -> bytes:
        """One of `domain.views`, as MessagePack. KeyError for an unknown name."""
        return build_view(self, name, now_ns)

    def metrics(self) -> Sequence[float]:
        """Counters as they are; gauges brought up to date now."""
        state = self.state
        if state is None:
            return ()
        set_gauges(self, state, self._now_ns)
        return state.metrics.published()

    def standing(self) -> Standing:
        stage = Stage.RUNNING
        if self.state is None:
            stage = Stage.STARTING
        elif self.sweeps.sweep.state is SweepState.RUNNING:
            is_overdue = self.sweeps.is_overdue(self._now_ns)
            stage = Stage.KILLED_UNCONFIRMED if is_overdue else Stage.SETTLING
        elif self.modes.tasks & SWEEP:
            stage = Stage.KILLED_CONFIRMED
        elif not self.modes.is_reconciled:
            stage = Stage.RECONCILING
        return Standing(
            stage=stage,
            swept_generation=self.sweeps.sweep.confirmed_generation,
            is_reconciled=self.modes.is_reconciled,
        )

    def digest(self) -> bytes:
        """16 bytes over all state."""
        hasher = blake2b(digest_size=16)
        hasher.update(repr(self.modes.digest_words()).encode())
        hasher.update(repr(self.sweeps.digest_words()).encode())
        hasher.update(self.outbox.digest())
        hasher.update(repr((self._housekeeping_ns, len(self._early))).encode())
        if self.state is not None:
            for desk in self._desks():
                hasher.update(repr(desk.digest_words()).encode())
            hasher.update(self.state.digest())
        return hasher.digest()
