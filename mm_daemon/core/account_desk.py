"""What the venue says of our account, brought to orders, positions, cash and the ledger.

A fill is booked, counted on its order and written to the ledger in the same step. Everything else
the venue says here is evidence about orders, the account's state, or the answer to a question.
"""

from __future__ import annotations

import math

from mm_daemon.core.breaker_drift import FillPoint
from mm_daemon.core.client_ids import Owner
from mm_daemon.core.margin import Margin
from mm_daemon.core.money import E18
from mm_daemon.core.portfolio import Booking
from mm_daemon.core.state import EngineState
from mm_daemon.core.venue_freeze import FREEZE_CONTROL
from mm_daemon.domain.events import (
    FillUnplaced,
    MmpTriggered,
    QuoteSideFailed,
    RequestDone,
    TickerSeen,
)
from mm_daemon.domain.intents import (
    CancelAll,
    CancelOrder,
    CancelQuotes,
    Intent,
    MassQuote,
    PlaceOrder,
)
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    PositionEvidence,
    RejectReason,
)
from mm_daemon.domain.outputs import FillRecord
from mm_daemon.domain.units import COIN_SCALE, Ns, to_coin_e8

LIVE_SOURCES = ("stream", "reply")
"""Fills that happen now. What a reconcile finds happened before, and no window is about it."""


class AccountDesk:
    """Handlers of account events over the state."""

    def __init__(self, state: EngineState) -> None:
        self._s = state
        self.fills_applied = 0

    def on_order(self, evidence: OrderEvidence, now_ns: Ns) -> None:
        self._s.working.on_order(evidence, now_ns)

    def on_fill(self, fill: FillEvidence, now_ns: Ns) -> bool:
        """Books one trade; True where it was new. Duplicates and parked fills are counted."""
        s = self._s
        booking = s.portfolio.book(fill)
        if booking is Booking.DUPLICATE:
            s.metrics.add("mm_fills_duplicate_total")
            return False
        if booking is not Booking.APPLIED:
            s.outbox.log("error", "fill_parked", trade_id=fill.trade_id, why=booking.value)
            return False
        s.working.on_fill(fill, now_ns)
        if not fill.is_quote and s.client_ids.owner(fill.client_id) is Owner.FOREIGN:
            self._on_foreign_fill(fill)
        return True

    def on_unplaced(self, fill: FillUnplaced, now_ns: Ns) -> None:
        """A trade whose instrument is not listed yet: kept in sight, and the listing is asked
        for."""
        s = self._s
        if not s.portfolio.park_unplaced(fill):
            return
        s.outbox.log(
            "error",
            "fill_parked",
            trade_id=fill.trade_id,
            instrument=fill.instrument,
            why="instrument not listed",
        )
        s.absent.want(fill.instrument)
        self.ask_absent(now_ns)

    def ask_absent(self, now_ns: Ns) -> None:
        """Asks for instruments that our books speak of and the catalogue does not have."""
        s = self._s
        intent = s.absent.poll(s.outbox, now_ns)
        if intent is not None:
            s.throttle.try_spend(intent, now_ns)
            s.outbox.send(intent)

    def _on_foreign_fill(self, fill: FillEvidence) -> None:
        """Somebody else trades on this account: the position is ours all the same."""
        s = self._s
        s.foreign_fills += 1
        s.outbox.log(
            "error",
            "foreign_fill",
            trade_id=fill.trade_id,
            order_id=fill.order_id,
            instrument=s.names[fill.instrument_id],
            page=True,
        )

    def _count_fill(self, fill: FillEvidence, now_ns: Ns) -> None:
        """Into the windows of our own market-maker protection."""
        s = self._s
        lot_delta, lot_vega_usd = s.lot_risk(fill.instrument_id)
        s.breaker.on_fill(
            fill.instrument_id,
            fill.side,
            fill.lots,
            lot_delta=lot_delta,
            lot_vega_usd=lot_vega_usd,
            point=fill_point(s, fill),
            now_ns=now_ns,
        )

    def record_fill(self, fill: FillEvidence, now_ns: Ns) -> None:
        """What follows from a booked fill: controls, counters, ledger, log."""
        s = self._s
        if fill.source in LIVE_SOURCES:
            self._count_fill(fill, now_ns)
        self.fills_applied += 1
        s.metrics.add("mm_fills_total", source=fill.source)
        theo = float(s.theo.price[fill.instrument_id])
        s.outbox.put(
            FillRecord(
                fill=fill,
                instrument=s.names[fill.instrument_id],
                theo_at_decision=float(s.quoter.approved[0][fill.instrument_id]),
                theo_at_fill=theo,
            )
        )
        s.outbox.log(
            "info",
            "fill",
            instrument=s.names[fill.instrument_id],
            side=fill.side.name.lower(),
            amount=s.catalog.instruments[fill.instrument_id].amount(fill.lots),
            price=fill.price_e8 / COIN_SCALE,
            theo=theo,
            maker=fill.is_maker,
            trade_id=fill.trade_id,
        )

    def on_perpetual(self, event: TickerSeen) -> float:
        """Follows the funding of a perpetual from its mark and index; what we received, coin."""
        portfolio = self._s.portfolio
        if not (event.mark_price > 0.0 and event.index_price > 0.0):
            return 0.0
        held = portfolio.holding(event.instrument_id)
        before_e18 = held.session_funding_e18
        portfolio.accrue_funding(
            event.instrument_id,
            mark_e8=to_coin_e8(event.mark_price),
            index_e8=to_coin_e8(event.index_price),
            ts_venue_ns=Ns(event.ts_venue_ns),
        )
        return (held.session_funding_e18 - before_e18) / E18

    def on_position(self, evidence: PositionEvidence, now_ns: Ns) -> None:
        """Funding so far of a perpetual; the position itself is ours by our own fills."""
        if evidence.instrument_id >= 0 and self._s.portfolio.is_open:
            self._s.portfolio.on_funding(evidence)

    def on_request_done(self, done: RequestDone, now_ns: Ns) -> Intent | None:
        """Counts the outcome of a request; returns what it was, None where it is not ours."""
        s = self._s
        intent = s.working.on_request_done(done, now_ns)
        if isinstance(intent, MassQuote) and done.reason is RejectReason.MMP:
            self._on_frozen(intent.mmp_group, 0)
        kind = _kind_of(intent)
        if kind is None:
            self._on_reset_answered(done)
            return intent
        if done.reason is None:
            outcome = "accepted"
        elif done.reason is RejectReason.UNKNOWN_OUTCOME:
            outcome = "unknown"
        else:
            outcome = "rejected"
            s.metrics.add("mm_order_rejects_total", reason=done.reason.value)
            s.breaker.rejects.add(now_ns)
            s.outbox.log(
                "warning",
                "request_rejected",
                kind=kind,
                reason=done.reason.value,
                code=done.code,
                message=done.message,
            )
        s.metrics.add("mm_orders_total", kind=kind, outcome=outcome)
        return intent

    def _on_reset_answered(self, done: RequestDone) -> None:
        """The venue's word on a reset of its protection: quotes follow, or it is asked again."""
        name = self._s.freezes.on_answer(done.request_id, is_reset=done.reason is None)
        if name:
            self._s.outbox.log(
                "info" if done.reason is None else "warning",
                "mmp_reset_answered",
                underlying=name,
                reason="" if done.reason is None else done.reason.value,
                code=done.code,
            )

    def on_side_failed(self, failed: QuoteSideFailed, now_ns: Ns) -> None:
        s = self._s
        s.working.on_side_failed(failed, now_ns)
        s.metrics.add("mm_order_rejects_total", reason=failed.reason.value)
        if failed.reason is RejectReason.MMP and failed.instrument_id >= 0:
            underlying = s.catalog.instruments[failed.instrument_id].underlying
            self._on_frozen(s.underlyings[underlying].mmp.group, 0)
        if failed.reason is not RejectReason.POST_ONLY:
            # A post-only refusal is the market moving, not a fault of ours.
            s.breaker.rejects.add(now_ns)

    def on_withheld(self, request_id: int, reason: str, now_ns: Ns) -> Intent | None:
        """Nothing of it left the process; returns what it was."""
        s = self._s
        intent = s.working.on_withheld(request_id, now_ns)
        s.freezes.on_answer(request_id, is_reset=False)
        kind = _kind_of(intent)
        if kind is not None:
            s.metrics.add("mm_orders_total", kind=kind, outcome="withheld")
            s.outbox.log("warning", "frame_withheld", kind=kind, reason=reason)
        return intent

    def on_mmp(self, event: MmpTriggered, now_ns: Ns) -> None:
        s = self._s
        s.working.on_group_pulled(event.mmp_group, now_ns)
        s.outbox.log("error", "mmp_triggered", group=event.mmp_group, index=event.index_name)
        self._on_frozen(event.mmp_group, event.frozen_until_ns)

    def _on_frozen(self, group: str, until_ns: int) -> None:
        """The venue has pulled a group, or refuses its quotes because it had: held at once, for the
        table of controls only looks at its pace."""
        s = self._s
        name = s.freezes.on_frozen(group, until_ns)
        if name:
            s.metrics.add("mm_mmp_trips_total", by="venue")
            s.modes.halted[name] = FREEZE_CONTROL

    def on_account(self, evidence: AccountEvidence, now_ns: Ns) -> None:
        s = self._s
        s.equity_coin[evidence.currency] = evidence.equity_e8 / COIN_SCALE
        if evidence.margin_balance_e8 > 0 or evidence.initial_margin_e8 > 0:
            s.margin[evidence.currency] = Margin(
                balance=evidence.margin_balance_e8 / COIN_SCALE,
                initial=evidence.initial_margin_e8 / COIN_SCALE,
                maintenance=evidence.maintenance_margin_e8 / COIN_SCALE,
                available=evidence.available_e8 / COIN_SCALE,
            )


def fill_point(state: EngineState, fill: FillEvidence) -> FillPoint:
    """Where a fill stands on the path of its option's prices (C3)."""
    i, catalog, theo = fill.instrument_id, state.catalog, state.theo
    tick, step, above = (
        float(catalog.tick[i]),
        int(catalog.tick_step[i]),
        int(catalog.tick_above[i]),
    )
    price = fill.price_e8 / COIN_SCALE
    forward = float(theo.forward[i])
    slope = float(theo.delta_adjusted[i])
    if catalog.is_inverse[i]:
        # A premium in coin moves by the premium-adjusted delta for each relative move.
        slope = slope / forward if forward > 0.0 else math.nan
    return FillPoint(
        price=price,
        tick=tick * step if price > above * tick else tick,
        forward=forward,
        price_per_forward=slope,
    )


def _kind_of(intent: object) -> str | None:
    """Label of a request in metrics, None for what is not counted."""
    if isinstance(intent, MassQuote):
        return "quote"
    if isinstance(intent, PlaceOrder):
        return intent.purpose.value
    if isinstance(intent, CancelOrder | CancelQuotes | CancelAll):
        return "cancel"
    return None
