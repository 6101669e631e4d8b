"""From delta out of its band to an order that may leave.

The hedger plans; here its orders pass the risk gate and the throttle, are counted as working, put
on the ledger and handed on. What is refused goes back to the hedger as a failure, so that failing
to hedge escalates and is never silent.

Where hedging is not granted but reducing is, only what passes the reduce test leaves, one order of
an underlying at a time; and while a sweep is not confirmed nothing does, for it would be filled
after the venue was found empty.
"""

from __future__ import annotations

from collections.abc import Callable

from mm_daemon.core.hedger import HedgeInputs, HedgeOrder
from mm_daemon.core.order_sending import send_order
from mm_daemon.core.reduce_test import has_live_order, reduces_delta
from mm_daemon.core.state import EngineState
from mm_daemon.core.theo import DELTA_ADJUSTED
from mm_daemon.domain.intents import PlaceOrder
from mm_daemon.domain.orders import FillEvidence, Purpose, TimeInForce
from mm_daemon.domain.permission import FLATTEN
from mm_daemon.domain.units import COIN_SCALE, NS_PER_MS, NS_PER_S, Ns

PLAN_NS = 50 * NS_PER_MS
"""Pace of looking at the delta: a fill forces a look at once."""
HEDGE_VALID_NS = 3 * NS_PER_S


class HedgeDesk:
    """Hedges all underlyings."""

    def __init__(self, state: EngineState, is_swept: Callable[[str], bool]) -> None:
        self._s = state
        self._is_swept = is_swept
        self._due_ns = 0
        self._arrival: dict[int, tuple[str, float]] = {}
        """Client id of the newest hedge of each instrument, of which one lives at a time, and the
        mid price when it was decided; until it is filled."""
        self.hedges: dict[str, int] = {}
        self.slippage_bps: dict[str, float] = {}
        """Running mean of slippage against the arrival mid, by underlying; positive = cost."""
        self.settle_ns = 0

    def look_now(self) -> None:
        self._due_ns = 0

    def hedge(self, now_ns: Ns) -> None:
        """Plans and sends for every underlying that may be hedged."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + PLAN_NS
        s = self._s
        for name, params in s.underlyings.items():
            if not self._is_wanted(name):
                s.hedger.rest(name)
                continue
            if not s.modes.may_hedge(name) or not self._is_swept(name):
                continue
            inputs = HedgeInputs(
                totals=s.position_greeks(name, now_ns),
                expiries_ns=s.buckets[name].expiries_ns,
                collateral_coin=s.collateral_coin(name),
                index_usd=s.market.index_price.get(params.price_index, float("nan")),
                bid_ticks=s.market.bid_ticks,
                ask_ticks=s.market.ask_ticks,
                columns=s.theo.columns,
            )
            orders = s.hedger.plan(name, inputs, s.working, now_ns)
            if s.modes.is_reduce_only(name):
                self._send_reducing(name, orders, now_ns)
                continue
            for order in orders:
                self._send(name, order, now_ns, is_reducing=False)

    def _is_wanted(self, name: str) -> bool:
        """Whether delta is to be kept in its band at all: where hedging is forbidden, or a flatten
        closes everything, being out of it is no failure to hedge."""
        s = self._s
        if not s.modes.is_hedging_allowed(name):
            return False
        is_flattening = bool(s.modes.mask_of(name).tasks & FLATTEN)
        return not is_flattening or s.flattener.is_hedge_needed(name, s.portfolio.position_lots)

    def on_fill(self, fill: FillEvidence) -> None:
        """Measures the slippage of a hedge against the mid at which it was decided."""
        arrival = self._arrival.get(fill.instrument_id)
        if arrival is None or arrival[0] != fill.client_id:
            return
        mid = self._arrival.pop(fill.instrument_id)[1]
        name = self._s.catalog.instruments[fill.instrument_id].underlying
        cost_bps = fill.side * (fill.price_e8 / COIN_SCALE / mid - 1.0) * 1e4
        count = self.hedges.get(name, 0) + 1
        mean = self.slippage_bps.get(name, 0.0)
        self.hedges[name] = count
        self.slippage_bps[name] = mean + (cost_bps - mean) / count

    def digest_words(self) -> tuple[object, ...]:
        return (
            self._due_ns,
            self._arrival,
            self.hedges,
            self.slippage_bps,
            self.settle_ns,
        )

    def _send_reducing(self, name: str, orders: list[HedgeOrder], now_ns: Ns) -> None:
        """The first order that reduces the delta of the underlying, unless one is out already."""
        s = self._s
        if not orders or has_live_order(s.working, s.hedge_ids[name]):
            return
        s.risk.refresh(s.portfolio.position_lots, s.working)
        worst = s.risk.worst_case(name)[0]
        delta = s.hedger.state(name, now_ns).delta_coin
        for order in orders:
            lot = float(s.catalog.lot[order.instrument_id])
            per_lot = float(s.theo.columns[DELTA_ADJUSTED, order.instrument_id]) * lot
            change = int(order.side) * order.lots * per_lot
            if reduces_delta(
                delta_coin=delta,
                change_coin=change,
                worst_coin=(float(worst[0]), float(worst[1])),
            ):
                self._send(name, order, now_ns, is_reducing=True)
                return
            s.outbox.log(
                "warning",
                "hedge_not_reducing",
                instrument=s.names[order.instrument_id],
                delta_coin=delta,
                change_coin=change,
                worst_low_coin=float(worst[0]),
                worst_high_coin=float(worst[1]),
            )
            s.hedger.on_withheld(order.instrument_id, now_ns)

    def _send(self, name: str, order: HedgeOrder, now_ns: Ns, *, is_reducing: bool) -> None:
        s = self._s
        client_id = s.client_ids.issue()
        intent = PlaceOrder(
            request_id=s.outbox.take_id(),
            client_id=client_id,
            instrument_id=order.instrument_id,
            side=order.side,
            price_ticks=order.price_ticks,
            lots=order.lots,
            time_in_force=TimeInForce.IOC,
            post_only=False,
            reduce_only=False,
            mmp=False,
            purpose=Purpose.HEDGE,
            valid_until_ns=Ns(now_ns + HEDGE_VALID_NS),
            is_reducing=is_reducing,
        )
        if not send_order(s, intent, now_ns):
            s.hedger.on_withheld(order.instrument_id, now_ns)
            return
        s.hedger.on_sent(order, client_id, now_ns)
        self.settle_ns = max(self.settle_ns, intent.valid_until_ns)
        mid = float(s.theo.price[order.instrument_id])
        self._arrival[order.instrument_id] = (client_id, mid)
        s.metrics.add("mm_hedge_orders_total", underlying=name)
        instrument = s.catalog.instruments[order.instrument_id]
        s.outbox.log(
            "info",
            "hedge",
            instrument=instrument.name,
            side=order.side.name.lower(),
            amount=instrument.amount(order.lots),
            price=instrument.grid.price(order.price_ticks),
            delta_before_coin=order.delta_before_coin,
        )
