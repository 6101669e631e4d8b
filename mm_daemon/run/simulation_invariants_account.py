"""What must hold of orders, fills and positions at every moment, judged against the venue's own.

The venue's open orders, trades and positions are the truth. Our worst case must cover it at every
decision and at every act of the venue: what we believe may be late, what we fear may not.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from mm_daemon.core.order_state import WorkingOrder
from mm_daemon.core.state import EngineState
from mm_daemon.domain.orders import Purpose, VenueStatus
from mm_daemon.domain.outputs import FillRecord, IntentRecord
from mm_daemon.run.simulation_invariants import Invariants
from mm_daemon.run.simulation_trader import SimulatedTrader
from mm_daemon.sim.exchange_types import Order, OrderState

DECISIONS: Final = ("trader.flush", "trader.timer", "trader.frame", "trader.wake")
VENUE_ACTS: Final = ("up", "venue.pump", "rest.up")
DELTA_SLACK: Final = (1.3, 0.3)
"""A limit of delta is judged by greeks that move: (ratio, coin) it may be passed by the market."""
HEDGES_LOOKED_AT: Final = 8


class _OrderMemory(msgspec.Struct):
    filled: int
    status: VenueStatus
    ts_venue_ns: int


class AccountInvariants:
    """I3, I5, I6, I7, I9, I22. Adds itself to the checks of `judge`."""

    def __init__(self, judge: Invariants) -> None:
        self._judge = judge
        self._life: SimulatedTrader | None = None
        self._was_reconciled = False
        self._applied: dict[str, None] = {}
        self._tally: dict[str, int] = {}
        self._base: dict[str, int] | None = None
        self._orders: dict[str, _OrderMemory] = {}
        self._hedges: dict[str, int] = {}
        """Signed lots of this life's hedges, by client id."""
        judge.on_fill = self.on_fill
        judge.on_intent = self.on_intent
        judge.checks.append(self.on_step)

    def on_step(self, label: str) -> None:
        is_decision, is_act = label in DECISIONS, label in VENUE_ACTS
        if not (is_decision or is_act):
            return
        sim = self._judge.sim
        life = sim.trader
        state = self._known(life)
        truth = sim.exchange.open_of(sim.parts.account)
        if is_act:
            self._check_own_cross(truth)
        if state is None:
            return
        self._check_cover(state, truth)
        if is_decision:
            self._check_orders(state)
            self._check_tally(state)

    def on_fill(self, life: SimulatedTrader, record: FillRecord) -> None:
        """I5: the trade is the venue's, and was not applied before by this life."""
        self._follow(life)
        fill, note = record.fill, self._judge.note
        key = f"{fill.trade_id}/{fill.order_id}"
        if key in self._applied:
            note("I5", f"trade {key} applied once", "a second time")
        self._applied[key] = None
        sign = int(fill.side)
        self._tally[record.instrument] = self._tally.get(record.instrument, 0) + sign * fill.lots
        sim = self._judge.sim
        for trade in reversed(sim.exchange.trades_of(sim.parts.account)):
            if (trade.trade_id, trade.order_id) == (fill.trade_id, fill.order_id):
                theirs = (trade.instrument, trade.sign, trade.price_e8, trade.fee_e8)
                ours = (record.instrument, sign, fill.price_e8, fill.fee_e8)
                if ours != theirs:
                    note("I5", f"trade {key} as the venue has it: {theirs}", str(ours))
                return
        note("I5", "a trade that the venue has", key)

    def on_intent(self, life: SimulatedTrader, record: IntentRecord) -> None:
        """I22: a hedge goes against delta, and with all others not beyond zero."""
        self._follow(life)
        if record.purpose is not Purpose.HEDGE:
            return
        signed = int(record.side) * record.lots
        state = self._judge.sim.parts.state(life.node)
        assert state is not None
        id_ = state.catalog.id_of[record.instrument]
        mine = state.catalog.underlying == state.catalog.underlying[id_]
        lots = state.portfolio.position_lots
        per_lot = state.theo.delta_adjusted * state.catalog.lot
        expiry_ns = state.catalog.expiry_ns
        has_ended = (expiry_ns > 0) & (expiry_ns <= self._judge.sim.scheduler.now_ns)
        held = mine & (lots != 0) & ~has_ended
        delta = float((lots[held] * per_lot[held]).sum())
        open_lots = sum(self._outstanding(state, client_id) for client_id in self._recent())
        self._hedges[record.client_id] = signed
        expected = delta + open_lots * float(per_lot[id_])
        change = signed * float(per_lot[id_])
        if not np.isfinite(expected):
            return
        slack = abs(float(per_lot[id_])) * 1.5 + 0.01 * abs(expected)
        if expected * change > 0.0 or abs(change) > abs(expected) + slack:
            found = f"{change:+.5f} coin for {expected:+.5f} ({record.client_id})"
            self._judge.note("I22", "a hedge of at most the delta there is, against it", found)

    # -- inside -----------------------------------------------------------------------------------

    def _follow(self, life: SimulatedTrader) -> None:
        """A new life begins with what its ledger and the venue tell it."""
        if life is self._life:
            return
        self._life = life
        self._was_reconciled = False
        self._applied.clear()
        self._tally.clear()
        self._base = None
        self._orders.clear()
        self._hedges.clear()

    def _known(self, life: SimulatedTrader) -> EngineState | None:
        """The life's beliefs, from its first reconcile on."""
        self._follow(life)
        if not life.is_alive:
            return None
        state = self._judge.sim.parts.state(life.node)
        if state is None or not state.portfolio.is_open:
            return None
        self._was_reconciled = self._was_reconciled or state.modes.is_reconciled
        return state if self._was_reconciled else None

    def _check_own_cross(self, truth: list[Order]) -> None:
        """I9."""
        bids: dict[str, int] = {}
        asks: dict[str, int] = {}
        for order in truth:
            if order.price_e8 is None or order.state is not OrderState.OPEN:
                continue
            if order.sign > 0:
                bids[order.instrument] = max(bids.get(order.instrument, 0), order.price_e8)
            else:
                known = asks.get(order.instrument, order.price_e8)
                asks[order.instrument] = min(known, order.price_e8)
        for name, bid_e8 in bids.items():
            if bid_e8 >= asks.get(name, bid_e8 + 1):
                self._judge.note("I9", f"our bid below our ask in {name}", f"{bid_e8} on {asks}")

    def _check_cover(self, state: EngineState, truth: list[Order]) -> None:
        """I3: what the venue may still do to us is within what we fear, and within the limits."""
        sim, note = self._judge.sim, self._judge.note
        buys: dict[str, int] = {}
        sells: dict[str, int] = {}
        for order in truth:
            sums = buys if order.sign > 0 else sells
            sums[order.instrument] = sums.get(order.instrument, 0) + order.remaining_e8
        positions, working = state.portfolio.position_lots, state.working
        for instrument in state.catalog.instruments:
            id_, name = instrument.id, instrument.name
            if 0 < instrument.expiry_ns <= sim.scheduler.now_ns:
                # A delivery moves positions without a trade.
                continue
            held_e8 = sim.exchange.position_e8(sim.parts.account, name)
            most, least = held_e8 + buys.get(name, 0), held_e8 - sells.get(name, 0)
            ours, lot_e9 = int(positions[id_]), instrument.lot_e9
            fear_most = (ours + int(working.worst_buy_lots[id_])) * lot_e9 // 10
            fear_least = (ours - int(working.worst_sell_lots[id_])) * lot_e9 // 10
            if most > fear_most or least < fear_least:
                note(
                    "I3",
                    f"a worst case of {name} that covers the venue's [{least}, {most}]",
                    f"[{fear_least}, {fear_most}]",
                )
            if instrument.is_option:
                limit = state.underlyings[instrument.underlying].limits.position_lots_max
                bound_e8 = limit * lot_e9 // 10
                if max(most, -least) > bound_e8:
                    note("I3", f"|{name}| within {bound_e8} at worst", f"[{least}, {most}]")

    def _check_orders(self, state: EngineState) -> None:
        """I6 and I7, of orders; a quote's id starts anew with each quote."""
        for client_id, order in state.working.by_client_id.items():
            before = self._orders.get(client_id)
            self._judge_order(order, before)
            self._orders[client_id] = _OrderMemory(
                order.venue_filled_lots, order.status, order.ts_venue_ns
            )

    def _judge_order(self, order: WorkingOrder, before: _OrderMemory | None) -> None:
        note, name = self._judge.note, order.client_id
        most = max(order.total_lots, order.asked_lots, order.venue_filled_lots)
        if most and order.booked_lots > most:
            note("I6", f"at most {most} lots filled of {name}", str(order.booked_lots))
        if before is None:
            return
        if order.venue_filled_lots < before.filled:
            note("I6", f"{before.filled} lots filled of {name}", str(order.venue_filled_lots))
        if order.ts_venue_ns < before.ts_venue_ns:
            note("I7", f"word of {name} from {before.ts_venue_ns} on", str(order.ts_venue_ns))
        is_reopened = before.status.is_terminal and not order.status.is_terminal
        if is_reopened and order.ts_venue_ns == before.ts_venue_ns:
            note("I7", f"{name} {before.status.name} until newer word", order.status.name)

    def _check_tally(self, state: EngineState) -> None:
        """I5: positions move by the fills on the ledger and by nothing else."""
        if self._judge.life_record.journal_failed:
            return
        positions = state.portfolio.position_lots
        now_ns = self._judge.sim.scheduler.now_ns
        now = {
            i.name: int(positions[i.id])
            for i in state.catalog.instruments
            if not 0 < i.expiry_ns <= now_ns
        }
        if self._base is None:
            tally = self._tally
            self._base = {name: lots - tally.get(name, 0) for name, lots in now.items()}
            return
        for name, lots in now.items():
            expected = self._base.setdefault(name, 0) + self._tally.get(name, 0)
            if lots != expected:
                self._judge.note("I5", f"{name} at {expected} lots by its fills", str(lots))

    def _recent(self) -> list[str]:
        return list(self._hedges)[-HEDGES_LOOKED_AT:]

    def _outstanding(self, state: EngineState, client_id: str) -> int:
        """Signed lots that this hedge has filled or may fill and that are not booked yet."""
        sim = self._judge.sim
        order = state.working.by_client_id.get(client_id)
        booked = order.booked_lots if order is not None else 0
        sign = 1 if self._hedges[client_id] > 0 else -1
        found = [
            trade.amount_e8
            for trade in sim.exchange.trades_of(sim.parts.account)
            if trade.label == client_id
        ]
        id_ = order.instrument_id if order is not None else -1
        if id_ < 0:
            return 0
        lots = sum(found) * 10 // state.catalog.instruments[id_].lot_e9
        return sign * max(0, lots - booked)
