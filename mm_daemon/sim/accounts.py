"""One account of the simulated venue: cash, positions, resting orders, history.

A position keeps the value it was opened at (`cost_e18`, see fees.value_e18) instead of a price:
profit is then a difference of values, exact to 1e-18, and the average price is derived from it.
A second basis restarts at every session settlement. Nothing here trades or publishes.
"""

from collections import deque

import msgspec

from mm_daemon.sim.credits import AccountCredits
from mm_daemon.sim.exchange_config import AccountConfig, ExchangeConfig
from mm_daemon.sim.exchange_records import Settlement
from mm_daemon.sim.exchange_types import CodScope, Order, OrderState, UserTrade
from mm_daemon.sim.fees import value_e18
from mm_daemon.sim.mmp import MmpGroup
from mm_daemon.sim.spec import InstrumentSpec, div_half_even

# Funding accumulates per unit of position in 1e-30; times a 1e-8 amount that is 1e-38, and
# this brings it to 1e-18.
FUNDING_TO_E18 = 10**20


class Position(msgspec.Struct, kw_only=True, eq=False):
    """A signed position; the session fields restart at each session settlement."""

    size_e8: int = 0
    cost_e18: int = 0
    realized_e18: int = 0
    session_cost_e18: int = 0
    session_realized_e18: int = 0
    session_funding_e18: int = 0
    funding_e18: int = 0
    funding_seen_e30: int = 0

    def trade(self, spec: InstrumentSpec, amount_e8: int, price_e8: int) -> int:
        """Adds a signed fill; returns the profit that it realised, in 1e-18 coin."""
        closing_e8 = self._closing_e8(amount_e8)
        realized_e18 = 0
        if closing_e8:
            proceeds_e18 = -value_e18(spec, closing_e8, price_e8)
            size_e8 = abs(self.size_e8)
            cost_e18 = div_half_even(self.cost_e18 * abs(closing_e8), size_e8)
            session_cost_e18 = div_half_even(self.session_cost_e18 * abs(closing_e8), size_e8)
            self.size_e8 += closing_e8
            self.cost_e18 -= cost_e18
            self.session_cost_e18 -= session_cost_e18
            realized_e18 = proceeds_e18 - cost_e18
            self.realized_e18 += realized_e18
            self.session_realized_e18 += proceeds_e18 - session_cost_e18
        opening_e8 = amount_e8 - closing_e8
        if opening_e8:
            opened_e18 = value_e18(spec, opening_e8, price_e8)
            self.size_e8 += opening_e8
            self.cost_e18 += opened_e18
            self.session_cost_e18 += opened_e18
        return realized_e18

    def _closing_e8(self, amount_e8: int) -> int:
        """The part of a signed fill that reduces this position, signed as the fill."""
        if self.size_e8 == 0 or (self.size_e8 > 0) == (amount_e8 > 0):
            return 0
        part_e8 = min(abs(self.size_e8), abs(amount_e8))
        return part_e8 if amount_e8 > 0 else -part_e8

    def fund(self, cumulative_e30: int) -> None:
        """Accrues funding since last seen: a long pays what rose per unit, a short receives."""
        rise_e30 = cumulative_e30 - self.funding_seen_e30
        self.funding_seen_e30 = cumulative_e30
        if rise_e30 and self.size_e8:
            paid_e18 = div_half_even(self.size_e8 * rise_e30, FUNDING_TO_E18)
            self.session_funding_e18 -= paid_e18
            self.funding_e18 -= paid_e18

    def session_result_e18(self, spec: InstrumentSpec, price_e8: int) -> int:
        """Realised, unrealised and funding since the last session settlement, at a price."""
        unrealized_e18 = 0
        if self.size_e8:
            unrealized_e18 = value_e18(spec, self.size_e8, price_e8) - self.session_cost_e18
        return self.session_realized_e18 + self.session_funding_e18 + unrealized_e18

    def restart_session(self, spec: InstrumentSpec, price_e8: int) -> None:
        """Takes `price_e8` as the new basis; what the session made has been paid in cash."""
        self.session_realized_e18 = 0
        self.session_funding_e18 = 0
        self.session_cost_e18 = value_e18(spec, self.size_e8, price_e8) if self.size_e8 else 0


class Account:
    """The mutable state of one account."""

    def __init__(self, config: AccountConfig, limits: ExchangeConfig, now_us: int) -> None:
        self.config = config
        self.name = config.name
        self.quiet = config.quiet
        self.balances: dict[str, int] = {}
        self.positions: dict[str, Position] = {}
        self.open: dict[int, Order] = {}
        self.reduce_only: dict[str, dict[int, Order]] = {}
        self.plain_orders: dict[str, dict[int, Order]] = {}
        self.mmp_groups: dict[tuple[str, str], MmpGroup] = {}
        self.credits = AccountCredits(config.tier, now_us)
        self.self_trade_mode = config.self_trade_mode
        self.quotes_frozen_until_us = 0
        self.cod_account = config.cod_default is CodScope.ACCOUNT
        self.cod_connections: dict[int, bool] = {}
        self.closed_filled: dict[int, Order] = {}
        self.closed_unfilled: dict[int, Order] = {}
        self._closed_max = limits.closed_orders_kept
        self.trades: deque[UserTrade] = deque(maxlen=limits.fills_kept)
        self.settlements: deque[Settlement] = deque(maxlen=limits.closed_orders_kept)
        self.dirty_currencies: dict[str, None] = {}

    def position_e8(self, instrument: str) -> int:
        held = self.positions.get(instrument)
        return 0 if held is None else held.size_e8

    def position(self, instrument: str) -> Position:
        held = self.positions.get(instrument)
        if held is None:
            held = self.positions[instrument] = Position()
        return held

    def remember_open(self, order: Order, currency: str) -> None:
        """Lists an order as open; `currency` is the one its margin is held in."""
        self.open[order.seq] = order
        plain = self.plain_orders.setdefault(currency, {})
        shrinking = self.reduce_only.setdefault(order.instrument, {})
        plain.pop(order.seq, None)
        shrinking.pop(order.seq, None)
        if not order.mmp:
            plain[order.seq] = order
        if order.reduce_only:
            shrinking[order.seq] = order

    def forget_open(self, order: Order, currency: str) -> None:
        """Removes an order from the open ones, if it is there."""
        self.open.pop(order.seq, None)
        self.plain_orders.get(currency, {}).pop(order.seq, None)
        self.reduce_only.get(order.instrument, {}).pop(order.seq, None)

    def remember_closed(self, order: Order) -> None:
        """Puts an order that ended into the bounded history; the oldest leaves."""
        assert order.state is not OrderState.OPEN, f"{order.order_id} is still open"
        if self.quiet:
            return
        history = self.closed_filled if order.filled_e8 else self.closed_unfilled
        history[order.seq] = order
        if len(history) > self._closed_max:
            del history[next(iter(history))]

    def closed(self, seq: int) -> Order | None:
        """An ended order that is still remembered."""
        return self.closed_filled.get(seq) or self.closed_unfilled.get(seq)
