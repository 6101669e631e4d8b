"""Delta hedging: when to trade which future, how much, at what price at most.

Two measures are hedged. Total delta is kept inside a band (fixed, or Whalley and Wilmott's, always
clamped between two settings) with the perpetual; delta of one expiry beyond its own limit is
hedged with the dated future of that expiry, because a perpetual cannot hedge its basis. What is
under way counts as done, and an instrument never has two live hedges: one without an answer blocks
its instrument until the venue's evidence ends it.

Delta convention: equity in coin is part of the delta if and only if `collateral_hedged`. Orders are
limit, immediate-or-cancel, priced through the touch but never beyond the slippage bound; each
failure lets the price go further within the bound. A hedge is never smaller than a least size,
so that a delta at the edge does not send a lot a tick, and never goes past zero. Staying out of
band escalates: widen, stop quoting, page; but only while it is to be hedged. The hedger sends
nothing itself and knows no permission.
"""

from __future__ import annotations

import hashlib
import math
from enum import IntEnum

import msgspec

from mm_daemon.core.catalog import Catalog, Floats, Ints
from mm_daemon.core.portfolio_greeks import GreekTotals
from mm_daemon.core.theo import PRICE
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.params import HedgeParams, RiskLimits, UnderlyingParams
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Lots, Ns, Side, Ticks

BPS = 1e-4
LADDER = (0.4, 0.7, 1.0)
"""Share of the slippage bound that the first, second and every later attempt may use."""
FAILURES_WIDEN = 3
FAILURES_STOP = 10


class Escalation(IntEnum):
    """How badly hedging goes; each includes the ones before."""

    NONE = 0
    WIDEN = 1
    STOP = 2
    PAGE = 3


class HedgeOrder(msgspec.Struct, frozen=True):
    """An immediate-or-cancel limit order that the hedger wants sent."""

    instrument_id: int
    side: Side
    price_ticks: Ticks
    lots: Lots
    delta_before_coin: float
    """Delta that it answers, of the underlying or of the expiry."""


class HedgeInputs(msgspec.Struct, frozen=True):
    """What one underlying's hedge is decided on."""

    totals: GreekTotals
    expiries_ns: tuple[int, ...]
    """Of the arrays in `totals`."""
    collateral_coin: float
    """The equity that counts as delta; NaN where it is not known."""
    index_usd: float
    bid_ticks: Ints
    ask_ticks: Ints
    """By instrument; 0 = no valid book on that side."""
    columns: Floats
    """The theo board's: the reference price of futures."""


class HedgeState(msgspec.Struct, frozen=True):
    """One underlying's hedge for people and controls."""

    delta_coin: float
    band_coin: float
    escalation: Escalation
    out_of_band_s: float
    failures: int


class _Book(msgspec.Struct):
    params: UnderlyingParams
    perpetual_id: int
    futures: dict[int, int]
    """Dated future by expiry."""
    out_since_ns: int = 0
    failures: int = 0
    delta_coin: float = math.nan
    band_coin: float = math.nan


class _Live(msgspec.Struct):
    client_id: str
    lots: int
    sent_ns: int


class Hedger:
    """Hedges of all underlyings."""

    def __init__(self, catalog: Catalog, underlyings: tuple[UnderlyingParams, ...]) -> None:
        self._params = underlyings
        self._books: dict[str, _Book] = {}
        self._live: dict[int, _Live] = {}
        self._retry_ns: dict[int, int] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        self._catalog = catalog
        for params in self._params:
            futures = {
                i.expiry_ns: i.id
                for i in catalog.instruments
                if i.underlying == params.name and not i.is_option and i.expiry_ns
            }
            known = self._books.get(params.name)
            perpetual_id = catalog.id_of.get(params.hedge_instrument, -1)
            if known is None:
                self._books[params.name] = _Book(params, perpetual_id, futures)
            else:
                known.perpetual_id, known.futures = perpetual_id, futures

    def plan(
        self, underlying: str, inputs: HedgeInputs, working: WorkingOrders, now_ns: Ns
    ) -> list[HedgeOrder]:
        """The orders wanted now. Each must be followed by `on_sent` or `on_withheld`."""
        book = self._books[underlying]
        self._collect(working, now_ns)
        hedge = book.params.hedge
        total = self._total_delta(book, inputs, working)
        book.delta_coin = total
        book.band_coin = band_coin(hedge, inputs.totals.gamma_usd, inputs.index_usd)
        is_out = not abs(total) <= book.band_coin
        book.out_since_ns = (book.out_since_ns or now_ns) if is_out else 0
        if not is_out:
            book.failures = 0
        orders: list[HedgeOrder] = []
        for expiry, expiry_ns in enumerate(inputs.expiries_ns):
            future_id = book.futures.get(expiry_ns, -1)
            if future_id >= 0:
                delta = float(inputs.totals.delta_by_expiry[expiry])
                delta += self._under_way(future_id, inputs, working)
                excess = _beyond(delta, hedge.expiry_delta_coin_max)
                order = self._order(book, future_id, excess, delta, inputs, now_ns)
                if order is not None:
                    orders.append(order)
                    total += int(order.side) * order.lots * self._lot_delta(future_id, inputs)
        if not abs(total) <= book.band_coin:
            # Whalley and Wilmott trade to the edge of the band; a fixed band to its middle.
            edge = book.band_coin if hedge.policy == "whalley_wilmott" else 0.0
            excess = _beyond(total, edge)
            order = self._order(book, book.perpetual_id, excess, total, inputs, now_ns)
            if order is not None:
                orders.append(order)
        return orders

    def on_sent(self, order: HedgeOrder, client_id: str, now_ns: Ns) -> None:
        """The order has left under this client id: its instrument is taken until it ends."""
        assert order.instrument_id not in self._live, order
        self._live[order.instrument_id] = _Live(client_id, order.lots, now_ns)

    def on_withheld(self, instrument_id: int, now_ns: Ns) -> None:
        """The order was refused by the gate or never left: a failure, to be tried again later."""
        self._live.pop(instrument_id, None)
        self._fail(instrument_id, now_ns)

    def rest(self, underlying: str) -> None:
        """It is not to be hedged now. Time and failures count from when it is again: a condition
        that nobody may cure would hold whatever it tripped for ever."""
        book = self._books[underlying]
        book.out_since_ns = book.failures = 0

    def state(self, underlying: str, now_ns: Ns) -> HedgeState:
        """How the hedge stands as of the last plan."""
        book = self._books[underlying]
        hedge = book.params.hedge
        out_s = (now_ns - book.out_since_ns) / NS_PER_S if book.out_since_ns else 0.0
        level = Escalation.NONE
        if out_s >= hedge.page_after_s:
            level = Escalation.PAGE
        elif out_s >= hedge.stop_after_s or book.failures >= FAILURES_STOP:
            level = Escalation.STOP
        elif out_s >= hedge.widen_after_s or book.failures >= FAILURES_WIDEN:
            level = Escalation.WIDEN
        return HedgeState(book.delta_coin, book.band_coin, level, out_s, book.failures)

    def next_deadline_ns(self) -> Ns | None:
        """When a failed hedge may be tried again."""
        pending = [at for id_, at in self._retry_ns.items() if id_ not in self._live]
        return Ns(min(pending)) if pending else None

    def digest(self) -> bytes:
        books = [(name, msgspec.structs.astuple(book)[1:]) for name, book in self._books.items()]
        state = (books, list(self._live.items()), list(self._retry_ns.items()))
        return hashlib.blake2b(msgspec.msgpack.encode(state), digest_size=16).digest()

    def _collect(self, working: WorkingOrders, now_ns: int) -> None:
        """Ends the live hedges that venue evidence has ended, trades included."""
        for id_ in list(self._live):
            live = self._live[id_]
            order = working.by_client_id.get(live.client_id)
            if order is not None and not order.is_settled:
                continue
            del self._live[id_]
            if order is not None and order.booked_lots >= live.lots:
                self._retry_ns.pop(id_, None)
                self._book_of(id_).failures = 0
            elif order is None or order.booked_lots == 0:
                self._fail(id_, now_ns)

    def _fail(self, instrument_id: int, now_ns: int) -> None:
        book = self._book_of(instrument_id)
        book.failures += 1
        self._retry_ns[instrument_id] = now_ns + book.params.hedge.retry_ms * NS_PER_MS

    def _book_of(self, instrument_id: int) -> _Book:
        return self._books[self._catalog.instruments[instrument_id].underlying]

    def _total_delta(self, book: _Book, inputs: HedgeInputs, working: WorkingOrders) -> float:
        total = inputs.totals.delta_adjusted + inputs.collateral_coin
        for id_ in (book.perpetual_id, *book.futures.values()):
            if id_ >= 0:
                total += self._under_way(id_, inputs, working)
        return total

    def _under_way(self, id_: int, inputs: HedgeInputs, working: WorkingOrders) -> float:
        lots = int(working.worst_buy_lots[id_]) - int(working.worst_sell_lots[id_])
        return lots * self._lot_delta(id_, inputs) if lots else 0.0

    def _lot_delta(self, id_: int, inputs: HedgeInputs) -> float:
        lot = float(self._catalog.lot[id_])
        if not self._catalog.is_inverse[id_]:
            return lot
        price = float(inputs.columns[PRICE, id_])
        return lot / price if price > 0.0 else math.nan

    def _order(
        self,
        book: _Book,
        id_: int,
        excess_coin: float,
        delta_coin: float,
        inputs: HedgeInputs,
        now_ns: int,
    ) -> HedgeOrder | None:
        """The order that takes `excess_coin` of delta off, None where nothing can be sent now."""
        if not abs(excess_coin) > 0.0 or id_ < 0 or id_ in self._live:
            return None
        if now_ns < self._retry_ns.get(id_, 0):
            return None
        lot_delta = self._lot_delta(id_, inputs)
        lots = _lots_of(book, excess_coin, delta_coin, lot_delta, inputs.index_usd)
        if lots == 0:
            return None
        side = Side.SELL if excess_coin > 0.0 else Side.BUY
        ticks = self._price(book, self._catalog.instruments[id_], side, inputs)
        if ticks is None:
            self._fail(id_, now_ns)
            return None
        return HedgeOrder(id_, side, ticks, Lots(lots), delta_coin)

    def _price(
        self, book: _Book, instrument: Instrument, side: Side, inputs: HedgeInputs
    ) -> Ticks | None:
        """The limit: through the touch as far as this attempt may go, None where even the touch is
        beyond that or there is no touch."""
        reference = float(inputs.columns[PRICE, instrument.id])
        touches = inputs.ask_ticks if side is Side.BUY else inputs.bid_ticks
        touch = int(touches[instrument.id])
        if touch <= 0 or not 0.0 < reference < math.inf:
            return None
        share = LADDER[min(book.failures, len(LADDER) - 1)]
        bound = reference * (1.0 + side * share * book.params.hedge.slippage_bps_max * BPS)
        grid = instrument.grid
        ticks = grid.floor(bound) if side is Side.BUY else grid.ceil(bound)
        return ticks if side * (ticks - touch) >= 0 else None


def band_coin(hedge: HedgeParams, gamma_usd: float, index_usd: float) -> float:
    """Half-width of the no-trade band in coin of delta; NaN where its inputs are.

    Whalley and Wilmott: (3/2 cost S Gamma^2 / risk aversion)^(1/3), with Gamma the change of delta
    in coin for 1 USD: gamma_usd / (0.01 S^2). Clamped, because Gamma explodes before expiry.
    """
    if hedge.policy != "whalley_wilmott":
        return hedge.band_delta_coin
    gamma = gamma_usd / (0.01 * index_usd * index_usd)
    cost = hedge.cost_bps * BPS
    cube = 1.5 * cost * index_usd * gamma * gamma / hedge.risk_aversion_per_usd
    if not math.isfinite(cube):
        return math.nan
    width = math.pow(cube, 1.0 / 3.0)
    return min(max(width, hedge.band_delta_coin), hedge.band_delta_coin_max)


def _beyond(delta: float, edge: float) -> float:
    """The part of a delta beyond ±edge; 0 inside, NaN stays."""
    if abs(delta) <= edge:
        return 0.0
    return delta - math.copysign(edge, delta)


def _lots_of(
    book: _Book, excess_coin: float, delta_coin: float, lot_delta: float, index_usd: float
) -> int:
    """Whole lots, rounded up so that the hedge ends inside the band, yet never past zero delta;
    bounded by both order limits."""
    hedge: HedgeParams = book.params.hedge
    limits: RiskLimits = book.params.limits
    wanted = max(abs(excess_coin), hedge.order_size_coin_min)
    most = min(abs(delta_coin), hedge.order_size_coin_max)
    most = min(most, limits.hedge_order_usd_max / index_usd) if index_usd > 0.0 else math.nan
    if not (lot_delta > 0.0 and math.isfinite(wanted) and math.isfinite(most)):
        return 0
    lots = math.ceil(wanted / lot_delta - 1e-9)
    return min(lots, math.floor(most / lot_delta + 1e-9))
