"""Runs the flattens that the latch asks for: when, and how their orders leave and end.

A flatten runs in an underlying while its task is set, every source permits reducing, the venue was
found empty for just this latch, and the books are in order. When any of that ends, its resting
orders are cancelled and nothing more is sent. It is over when nothing is held, and says so; where
nothing that is left can trade it says that too, and calls a person.
"""

from __future__ import annotations

from collections.abc import Callable

from mm_daemon.core.flatten import FlattenInputs, FlattenOrder, FlattenProgress, FlattenState
from mm_daemon.core.order_sending import send_order
from mm_daemon.core.state import EngineState
from mm_daemon.domain.intents import CancelOrder, PlaceOrder
from mm_daemon.domain.orders import Purpose, RejectReason, TimeInForce
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns

PLAN_NS = 50 * NS_PER_MS
VALID_NS = 3 * NS_PER_S
CANCEL_RETRY_NS = NS_PER_S


class FlattenDesk:
    """Flattens all underlyings."""

    def __init__(self, state: EngineState, is_swept: Callable[[str], bool]) -> None:
        self._s = state
        self._is_swept = is_swept
        self._due_ns = 0
        self._is_running: dict[str, bool] = {}
        self._said: dict[str, FlattenProgress] = {}
        self._cancelled_ns: dict[str, int] = {}
        """When a resting order was last asked to go, by client id."""
        self.settle_ns = 0

    def flatten(self, now_ns: Ns) -> None:
        """Ends, cancels and sends, for every underlying."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + PLAN_NS
        s = self._s
        for name in s.underlyings:
            may = s.modes.may_flatten(name) and self._is_swept(name)
            if not may and not self._is_running.get(name, False):
                continue
            s.flattener.collect(name, s.working, now_ns)
            for client_id in s.flattener.to_cancel(name, now_ns, is_over=not may):
                self._cancel(client_id, now_ns)
            if may:
                self._run(name, now_ns)
            elif not s.modes.is_flatten_wanted(name):
                self._stop(name)

    def on_refused(self, intent: PlaceOrder, reason: RejectReason, now_ns: Ns) -> None:
        """The venue refused one of our orders."""
        if intent.purpose is Purpose.FLATTEN:
            s = self._s
            s.flattener.on_refused(intent.instrument_id, reason, now_ns)
            s.outbox.log(
                "warning",
                "flatten_refused",
                instrument=s.names[intent.instrument_id],
                reason=reason.value,
                kind=intent.time_in_force.value,
            )

    def digest_words(self) -> tuple[object, ...]:
        return (
            self._due_ns,
            self._is_running,
            self._said,
            self._cancelled_ns,
            self.settle_ns,
        )

    def _run(self, name: str, now_ns: Ns) -> None:
        s = self._s
        if not self._is_running.get(name, False):
            self._is_running[name] = True
            s.outbox.log("warning", "flatten_started", underlying=name)
        inputs = FlattenInputs(
            position_lots=s.portfolio.position_lots,
            bid_ticks=s.market.bid_ticks,
            ask_ticks=s.market.ask_ticks,
            bid_amount=s.market.bid_amount,
            ask_amount=s.market.ask_amount,
            is_open=s.market.is_open,
            columns=s.theo.columns,
        )
        for order in s.flattener.plan(name, inputs, now_ns):
            self._send(order, now_ns)
        self._say(name, s.flattener.progress(name))

    def _stop(self, name: str) -> None:
        s = self._s
        self._is_running[name] = False
        self._said.pop(name, None)
        s.flattener.forget(name)
        s.outbox.log("warning", "flatten_ended", underlying=name)

    def _say(self, name: str, progress: FlattenProgress) -> None:
        s = self._s
        before = self._said.get(name)
        if before is not None and before.called_for == progress.called_for:
            newly_called: list[int] = []
        else:
            known = () if before is None else before.called_for
            newly_called = [id_ for id_ in progress.called_for if id_ not in known]
        for id_ in newly_called:
            s.outbox.log(
                "error",
                "flatten_needs_a_person",
                instrument=s.names[id_],
                lots=int(s.portfolio.position_lots[id_]),
                page=True,
            )
        if before is None or before.state is not progress.state:
            is_bad = progress.state is FlattenState.STUCK
            s.outbox.log(
                "error" if is_bad else "warning",
                "flatten",
                underlying=name,
                state=progress.state.value,
                positions_left=progress.positions_left,
                page=is_bad,
            )
        self._said[name] = progress

    def _cancel(self, client_id: str, now_ns: Ns) -> None:
        s = self._s
        if now_ns - self._cancelled_ns.get(client_id, 0) < CANCEL_RETRY_NS:
            return
        order = s.working.by_client_id[client_id]
        currency = s.catalog.instruments[order.instrument_id].settle_currency
        intent = CancelOrder(s.outbox.take_id(), order.order_id, client_id, currency)
        if not s.throttle.try_spend(intent, now_ns):
            return
        self._cancelled_ns = {
            id_: at for id_, at in self._cancelled_ns.items() if now_ns - at < CANCEL_RETRY_NS
        }
        self._cancelled_ns[client_id] = now_ns
        s.working.register(intent, now_ns)
        s.outbox.send(intent)
        s.metrics.add("mm_orders_total", kind="cancel", outcome="sent")

    def _send(self, order: FlattenOrder, now_ns: Ns) -> None:
        s = self._s
        client_id = s.client_ids.issue()
        intent = PlaceOrder(
            request_id=s.outbox.take_id(),
            client_id=client_id,
            instrument_id=order.instrument_id,
            side=order.side,
            price_ticks=order.price_ticks,
            lots=order.lots,
            time_in_force=order.time_in_force,
            post_only=False,
            reduce_only=True,
            mmp=False,
            purpose=Purpose.FLATTEN,
            valid_until_ns=Ns(now_ns + VALID_NS),
            is_reducing=True,
        )
        if not send_order(s, intent, now_ns):
            s.flattener.on_withheld(order.instrument_id, now_ns)
            return
        s.flattener.on_sent(order, client_id, now_ns)
        self.settle_ns = max(self.settle_ns, intent.valid_until_ns)
        instrument = s.catalog.instruments[order.instrument_id]
        s.outbox.log(
            "info",
            "flatten_order",
            instrument=instrument.name,
            side=order.side.name.lower(),
            amount=instrument.amount(order.lots),
            price=instrument.grid.price(order.price_ticks),
            theo=float(s.theo.price[order.instrument_id]),
            way=order.rung.name.lower(),
            is_resting=order.time_in_force is TimeInForce.GTC,
        )
