"""Where working orders are kept: by venue id, by client id and by side, and as arrays.

Holds no rule about what evidence means (that is `working_orders`); it keeps the arrays equal to the
orders and requests they sum up, and forgets settled orders after a day.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, MutableSequence
from typing import cast

import msgspec
import numpy as np

from mm_daemon.core.catalog import Catalog, Ints
from mm_daemon.core.order_state import (
    BUY_INDEX,
    QuoteRequest,
    SideState,
    WorkingOrder,
)
from mm_daemon.domain.units import NS_PER_S

KEEP_SETTLED_NS = 86_400 * NS_PER_S
"""A settled order is remembered this long, so that a late report still finds its owner."""
SETTLED_MAX = 200_000
_Cells = MutableSequence[int]


class Unknowns(msgspec.Struct, frozen=True):
    """What has no definite answer, for the control on unknown orders."""

    count: int
    lots: int
    oldest_since_ns: int
    """0 where there is none."""


class OrderStore:
    """Orders, quote requests, and their sums by instrument and side.

    Arrays are by instrument id and changed in place. `live`: the quotes we believe rest. `asked`:
    the terms of the newest unanswered quote request, else the live ones. `reach`: the most
    aggressive price at which anything of ours may stand, 0 for none, and `order_reach` the same of
    plain orders alone. `worst`: lots that may still
    be added to our booked position. `inflight`: requests without an answer.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.by_order_id: dict[str, WorkingOrder] = {}
        self.by_client_id: dict[str, WorkingOrder] = {}
        self._sides: dict[int, SideState] = {}
        self._in_doubt: dict[int, SideState] = {}
        """Sides with something unknown, as last summed."""
        self._settled: deque[tuple[int, WorkingOrder]] = deque()
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Makes room for new listings; what is known stays under its id."""
        size = len(catalog)
        self._underlyings = catalog.underlyings
        self._underlying_of: list[int] = catalog.underlying.tolist()
        self._open_items = [0] * len(catalog.underlyings)
        self.gate_rows: Ints = np.zeros((10, size), dtype=np.int64)
        """What the risk gate reads: worst, reach, asked ticks, asked lots, order reach; each as
        (buy, sell) rows in the order of `risk_kernel`."""
        rows = self.gate_rows
        self.worst_buy_lots, self.worst_sell_lots = rows[0], rows[1]
        self.reach_bid_ticks, self.reach_ask_ticks = rows[2], rows[3]
        self.asked_bid_ticks, self.asked_ask_ticks = rows[4], rows[5]
        self.asked_bid_lots, self.asked_ask_lots = rows[6], rows[7]
        self.order_reach_bid_ticks, self.order_reach_ask_ticks = rows[8], rows[9]
        self.live_bid_ticks, self.live_ask_ticks = _zeros(size), _zeros(size)
        self.live_bid_lots, self.live_ask_lots = _zeros(size), _zeros(size)
        self.inflight_bid, self.inflight_ask = _zeros(size), _zeros(size)
        buy = (
            self.live_bid_ticks,
            self.live_bid_lots,
            self.asked_bid_ticks,
            self.asked_bid_lots,
            self.reach_bid_ticks,
            self.order_reach_bid_ticks,
            self.worst_buy_lots,
            self.inflight_bid,
        )
        sell = (
            self.live_ask_ticks,
            self.live_ask_lots,
            self.asked_ask_ticks,
            self.asked_ask_lots,
            self.reach_ask_ticks,
            self.order_reach_ask_ticks,
            self.worst_sell_lots,
            self.inflight_ask,
        )
        self._cells = (_views(buy), _views(sell))
        self._changed: list[int] = []
        self._is_changed = bytearray(size)
        for state in self._sides.values():
            state.open_items = 0
            self.refresh(state)

    def side(self, instrument_id: int, side_index: int) -> SideState:
        """The side's state, made on first use."""
        key = 2 * instrument_id + side_index
        state = self._sides.get(key)
        if state is None:
            state = SideState(instrument_id, side_index)
            self._sides[key] = state
        return state

    def side_of(self, order: WorkingOrder) -> SideState:
        return self.side(order.instrument_id, order.side_index)

    def sides(self) -> Iterator[SideState]:
        """All sides ever used, in order of first use."""
        yield from self._sides.values()

    def open_orders(self) -> Iterator[WorkingOrder]:
        """Every order that may still trade or whose trades are incomplete."""
        for state in self._sides.values():
            yield from state.orders

    def open_count(self, underlying: str = "") -> int:
        """Orders, quotes and unanswered quote requests that may trade; of all underlyings where
        none is named."""
        if not underlying:
            return sum(self._open_items)
        return self._open_items[self._underlyings.index(underlying)]

    def unknowns(self, underlying: str = "") -> Unknowns:
        """Everything whose outcome only evidence can still tell; of all underlyings where none is
        named."""
        count = lots = 0
        oldest = 0
        row = self._underlyings.index(underlying) if underlying else -1
        for state in self._in_doubt.values():
            if row >= 0 and self._underlying_of[state.instrument_id] != row:
                continue
            for request in state.requests:
                if request.is_unknown:
                    count += 1
                    lots += request.lots
                    oldest = min(oldest or request.unknown_since_ns, request.unknown_since_ns)
            for order in state.orders:
                if order.is_unknown:
                    count += 1
                    lots += order.exposure_lots
                    oldest = min(oldest or order.unknown_since_ns, order.unknown_since_ns)
        return Unknowns(count, lots, oldest)

    def take_changed(self) -> list[int]:
        """Instruments whose arrays or fills changed since the last call, in order of change."""
        taken, self._changed = self._changed, []
        for id_ in taken:
            self._is_changed[id_] = 0
        return taken

    def insert(self, order: WorkingOrder) -> SideState:
        """Puts a new order under its ids and side."""
        if order.order_id:
            self.by_order_id[order.order_id] = order
        if order.client_id and order.client_id not in self.by_client_id:
            self.by_client_id[order.client_id] = order
        state = self.side_of(order)
        state.orders.append(order)
        return state

    def settle_or_keep(self, state: SideState, order: WorkingOrder, now_ns: int) -> None:
        """Takes an order off its side when nothing of it is outstanding, and back on when late
        evidence makes it so."""
        if not order.is_settled:
            if order not in state.orders:
                state.orders.append(order)
            return
        order.is_unknown = order.is_suspect = order.rests = False
        if order in state.orders:
            state.orders.remove(order)
            self._settled.append((now_ns, order))
        self._forget(now_ns)

    def _forget(self, now_ns: int) -> None:
        settled = self._settled
        while settled and (settled[0][0] < now_ns - KEEP_SETTLED_NS or len(settled) > SETTLED_MAX):
            _, order = settled.popleft()
            if order.is_settled:
                if self.by_order_id.get(order.order_id) is order:
                    del self.by_order_id[order.order_id]
                if self.by_client_id.get(order.client_id) is order:
                    del self.by_client_id[order.client_id]

    def raise_for_request(self, state: SideState, request: QuoteRequest) -> None:
        """Adds one quote request to the sums of its side, without summing the rest anew."""
        state.requests.append(request)
        id_, index = state.instrument_id, state.side_index
        ticks, lots = request.price_ticks, request.lots
        _, _, asked_ticks, asked_lots, reach, _, worst, inflight = self._cells[index]
        asked_ticks[id_] = ticks
        asked_lots[id_] = lots
        inflight[id_] += 1
        if lots > 0:
            state.open_items += 1
            self._open_items[self._underlying_of[id_]] += 1
            worst[id_] += lots
            reach[id_] = _more_aggressive(index, reach[id_], ticks)
        if not self._is_changed[id_]:
            self._is_changed[id_] = 1
            self._changed.append(id_)

    def asked(self, instrument_id: int, side_index: int) -> tuple[int, int]:
        """Ticks and lots last asked for on one side, else those that rest."""
        cells = self._cells[side_index]
        return cells[2][instrument_id], cells[3][instrument_id]

    def refresh(self, state: SideState) -> None:
        """Sums one side anew into the arrays."""
        id_, index = state.instrument_id, state.side_index
        if not 0 <= id_ < len(self._underlying_of):
            return
        worst = inflight = live_ticks = live_lots = reach = order_reach = items = 0
        is_in_doubt = False
        for order in state.orders:
            exposure, resting = order.lots_at_risk()
            inflight += order.pending
            is_in_doubt = is_in_doubt or order.is_unknown
            if exposure:
                worst += exposure
                items += 1
                reach = _more_aggressive(index, reach, order.price_ticks)
                if not order.is_quote:
                    order_reach = _more_aggressive(index, order_reach, order.price_ticks)
            if resting and order.is_quote:
                live_lots += resting
                live_ticks = _more_aggressive(index, live_ticks, order.price_ticks)
        asked_ticks, asked_lots = live_ticks, live_lots
        for request in state.requests:
            asked_ticks, asked_lots = request.price_ticks, request.lots
            if request.is_unknown:
                is_in_doubt = True
            else:
                inflight += 1
            if asked_lots:
                worst += asked_lots
                items += 1
                reach = _more_aggressive(index, reach, asked_ticks)
        if is_in_doubt:
            self._in_doubt[2 * id_ + index] = state
        elif self._in_doubt:
            self._in_doubt.pop(2 * id_ + index, None)
        cells = self._cells[index]
        cells[0][id_] = live_ticks
        cells[1][id_] = live_lots
        cells[2][id_] = asked_ticks
        cells[3][id_] = asked_lots
        cells[4][id_] = reach
        cells[5][id_] = order_reach
        cells[6][id_] = worst
        cells[7][id_] = inflight
        if items != state.open_items:
            self._open_items[self._underlying_of[id_]] += items - state.open_items
            state.open_items = items
        if not self._is_changed[id_]:
            self._is_changed[id_] = 1
            self._changed.append(id_)

    def store_digest(self, *more: object) -> bytes:
        """16 bytes over all orders and requests and whatever else the owner adds."""
        state = msgspec.msgpack.encode((list(self._sides.values()), more))
        return hashlib.blake2b(state, digest_size=16).digest()


def _zeros(size: int) -> Ints:
    return np.zeros(size, dtype=np.int64)


def _views(columns: tuple[Ints, ...]) -> tuple[_Cells, ...]:
    """The same memory as the arrays: one element costs half as much to write."""
    return tuple(cast("_Cells", column.data) for column in columns)


def _more_aggressive(side_index: int, known: int, ticks: int) -> int:
    """The price that reaches further into the market; 0 stands for none (or for a market order,
    whose reach no tick can state)."""
    if known == 0:
        return ticks
    if ticks == 0:
        return known
    if side_index == BUY_INDEX:
        return known if known > ticks else ticks
    return known if known < ticks else ticks
