"""The pre-trade gate: what may leave, judged on the worst case of everything outstanding.

Position, live, in-flight and unknown orders all count in full, whatever subset of them fills. The
gate works on columns that `refresh` brings up to date once a flush; within the flush it counts what
it accepts, so that many messages of one decision cannot pass a limit together. It fails closed:
without fresh finite greeks, theo, stress units, account state or limits nothing that adds risk
passes. Pulls and cancels always pass. Rates are the throttle's, state controls the breaker's.

A refused side whose quote still rests is turned into a pull: a quote that may not be renewed may
not stay either.
"""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np

from mm_daemon.core import risk_kernel as rk
from mm_daemon.core.catalog import Catalog, Floats, Ints
from mm_daemon.core.order_state import BUY_INDEX
from mm_daemon.core.portfolio_greeks import (
    LOT_NOTIONAL_USD,
    LOT_ROWS,
    buckets_of,
    is_short_dated,
    lot_greeks,
)
from mm_daemon.core.risk_kernel import Reason
from mm_daemon.core.risk_sides import (
    NOTHING,
    GateBook,
    GateSide,
    Seen,
    clipped,
    gate_columns,
    is_far,
    judged,
    limit_vector,
    nearer_zero,
    partner,
)
from mm_daemon.core.risk_stress import StressUnits
from mm_daemon.core.risk_verdict import CONTROL_OF, AccountState, Refused, Verdict
from mm_daemon.core.theo import DELTA, FORWARD, PRICE
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.intents import AmendOrder, MassQuote, PlaceOrder, QuoteEntry, RiskIntent
from mm_daemon.domain.orders import Purpose
from mm_daemon.domain.params import Params
from mm_daemon.domain.units import NS_PER_MS, Lots, Ns, Side, Ticks

WING_DELTA = 0.05
"""C32 counts short options below this |delta|."""
DUPLICATE_WINDOW_NS = 100 * NS_PER_MS
"""C8: an order equal to one sent less than this ago is taken for a repetition."""


class RiskGate:
    """Judges every intent that may add risk."""

    def __init__(self, catalog: Catalog, params: Params) -> None:
        self._params = params
        self.refusals = [0] * len(Reason)
        """Sides refused, by reason."""
        self._recent: dict[tuple[int, int, int, int], int] = {}
        self._counted: list[int] = []
        """Instruments of what was accepted since the last refresh: read anew, sent or not."""
        self._take_catalog(catalog)

    def resize(self, catalog: Catalog, position_lots: Ints, working: WorkingOrders) -> None:
        """Takes up new listings; no quote passes until the next `refresh_greeks`, hedges go on.

        `refresh` will count only what changes, so everything held and everything out is counted
        here, with the theo and greeks it had.
        """
        floats, books, units = self._floats, self._books, self.stress.units
        self._take_catalog(catalog)
        known = floats.shape[1]
        self._floats[: rk.F_TICK, :known] = floats[: rk.F_TICK]
        self.stress.units[:known] = units
        for name, book in self._books.items():
            book.account = books[name].account
            self._sum_measures(book)
        self.refresh_all(position_lots, working)

    def _take_catalog(self, catalog: Catalog) -> None:
        self._catalog = catalog
        size = len(catalog)
        self._is_far = np.zeros(size, dtype=np.bool_)
        """Theo is beyond the collar around mark or touch."""
        self._lot_greeks: Floats = np.full((LOT_ROWS, size), np.nan)
        self._books = {
            underlying.name: GateBook(row, underlying, buckets_of(catalog, underlying.name))
            for row, underlying in enumerate(self._params.underlyings)
        }
        self._book_of: list[GateBook | None] = [None] * size
        for book in self._books.values():
            for id_ in book.buckets.ids.tolist():
                self._book_of[id_] = book
        self._ints, self._floats, expiries = gate_columns(catalog, list(self._books.values()))
        rows = len(self._books)
        self._limits: Floats = np.array(
            [limit_vector(underlying.limits) for underlying in self._params.underlyings]
        )
        self._sums: Floats = np.full((rows, rk.MEASURES, 2), np.nan)
        self._vega_sums: Floats = np.full((expiries, 2), np.nan)
        self.stress = StressUnits(catalog, rows)

    def set_account(self, underlying: str, account: AccountState) -> None:
        """Takes the newest margin use and collateral of one underlying; counts from the next
        `refresh_greeks` on."""
        self._books[underlying].account = account

    def refresh_greeks(
        self, underlying: str, columns: Floats, now_ns: Ns, seen: Seen | None = None
    ) -> None:
        """Takes the theo board of one underlying and sums it anew: after a theo refresh, at a pace.

        columns: the theo board's, by its own row names. A theo beyond the collar around what is
        `seen` of the option is none.
        """
        book = self._books[underlying]
        ids, account, catalog = book.buckets.ids, book.account, self._catalog
        lot_greeks(catalog, columns[PRICE : FORWARD + 1], now_ns, self._lot_greeks)
        expiries_ns = book.buckets.expiries_ns
        short_dated = np.zeros(len(expiries_ns) + 1)
        for expiry, expiry_ns in enumerate(expiries_ns):
            short_dated[expiry] = 1.0 if is_short_dated(expiry_ns, now_ns) else 0.0
        rk.take_greeks(
            ids,
            book.buckets.expiry_of,
            self._lot_greeks,
            short_dated,
            columns[PRICE],
            columns[DELTA],
            self._lot_greeks[LOT_NOTIONAL_USD],
            catalog.is_option,
            WING_DELTA,
            self._floats,
        )
        if seen is not None:
            limits, theo = book.params.limits, self._floats[rk.F_THEO]
            far = is_far(theo, seen, self._ints, self._floats, limits) & catalog.is_option
            self._is_far[ids] = far[ids]
            theo[ids[far[ids]]] = math.nan
        self.stress.refresh_some(
            book.row,
            ids,
            self._ints,
            columns,
            base_usd=account.base_delta_coin * account.index_usd,
            now_ns=now_ns,
        )
        self._sum_measures(book)
        book.is_fresh = True
        self._limit_stress(book)

    def _sum_measures(self, book: GateBook) -> None:
        ids, base, sums = book.buckets.ids, book.account.base_delta_coin, self._sums[book.row]
        rk.sum_measures(ids, self._ints, self._floats, base, sums, self._vega_sums)

    def _limit_stress(self, book: GateBook) -> None:
        """What may be lost at worst: the limit, or less where margin would not carry it."""
        account, limit = book.account, book.params.limits.stress_loss_usd_max
        room = account.margin_room_usd / account.margin_scale
        carried = self.stress.held_loss_usd(book.row) + room
        # At and beyond the stop ratio single sides are judged by what they do to what is held.
        book.is_margin_tight = room > 0.0 and carried < limit
        self._limits[book.row, rk.L_STRESS] = carried if book.is_margin_tight else limit

    def held_loss_usd(self, underlying: str) -> float:
        """The largest loss of what is held over the scenarios; NaN where unknown."""
        return self.stress.held_loss_usd(self._books[underlying].row)

    def reduces_margin(self, id_: int, side: Side, lots: int) -> bool:
        """Whether a side that fills, up to what is held, leaves less margin to carry."""
        book = self._book_of[id_]
        held = int(self._ints[rk.I_POSITION, id_])
        closing = min(lots, abs(held))
        return book is not None and self.stress.reduces(book.row, id_, held, int(side) * closing)

    def refresh(self, position_lots: Ints, working: WorkingOrders) -> None:
        """Takes what changed in positions and working orders: before the first check of a flush."""
        changed = working.take_changed()
        changed += self._counted
        self._counted = []
        self._sync(np.array(changed, dtype=np.int64), position_lots, working)

    def refresh_all(self, position_lots: Ints, working: WorkingOrders) -> None:
        """Takes every position anew: after a restore, a delivery, an adjustment."""
        working.take_changed()
        self._counted = []
        self._sync(np.arange(len(self._catalog), dtype=np.int64), position_lots, working)

    def _sync(self, changed: Ints, position_lots: Ints, working: WorkingOrders) -> None:
        rk.sync_counts(
            changed,
            position_lots,
            working.gate_rows,
            self._ints,
            self._floats,
            self._sums,
            self._vega_sums,
            self.stress.units,
            self.stress.sums,
        )

    def check(self, intent: RiskIntent, working: WorkingOrders, now_ns: Ns) -> Verdict:
        """What of an intent may leave now. Counts what it accepts: register it, or refresh."""
        if isinstance(intent, MassQuote):
            return self._check_quotes(intent, working)
        if isinstance(intent, AmendOrder):
            order = working.by_order_id.get(intent.order_id)
            if order is None:
                id_ = intent.instrument_id
                return self._refused_whole(id_, Side.BUY, Reason.UNKNOWN_INSTRUMENT, 0.0, 0.0)
            side = Side.BUY if order.side_index == BUY_INDEX else Side.SELL
            # An amend may raise size or price: it is judged as a new order of its full size.
            return self._check_one(
                intent,
                side,
                intent.price_ticks,
                intent.total_lots,
                working,
                purpose=Purpose.QUOTE,
            )
        return self._check_place(intent, working, now_ns)

    def worst_case(self, underlying: str) -> Floats:
        """(lowest, highest) by measure: delta, gamma, vega, theta, gamma under 24 h."""
        worst: Floats = self._sums[self._books[underlying].row].copy()
        return worst

    def worst_stress_usd(self, underlying: str) -> float:
        """The largest loss (as a negative P&L) over the scenarios; NaN where unknown."""
        sums = self.stress.sums[self._books[underlying].row]
        return math.nan if np.isnan(sums).any() else float(np.min(sums))

    def digest(self) -> bytes:
        state = hashlib.blake2b(self._ints.tobytes(), digest_size=16)
        for floats in (
            self._floats,
            self._sums,
            self._vega_sums,
            self._limits,
            self.stress.sums,
            self.stress.held,
        ):
            state.update(floats.tobytes())
        state.update(self._is_far.tobytes())
        words = (self.refusals, list(self._recent.items()), self._counted)
        state.update(msgspec.msgpack.encode(words))
        return state.digest()

    def _check_quotes(self, intent: MassQuote, working: WorkingOrders) -> Verdict:
        sides: list[GateSide] = []
        for entry in intent.entries:
            id_ = entry.instrument_id
            bid = self._terms(id_, 1, entry.bid_ticks, entry.bid_lots)
            ask = self._terms(id_, -1, entry.ask_ticks, entry.ask_lots)
            if bid is not None:
                sides.append((id_, 1, *bid, partner(ask)))
            if ask is not None:
                sides.append((id_, -1, *ask, partner(bid)))
        first = intent.entries[0].instrument_id
        book = self._book_of[first] if 0 <= first < len(self._book_of) else None
        if book is None:
            return self._refused_whole(first, Side.BUY, Reason.UNKNOWN_INSTRUMENT, 0.0, 0.0)
        closed = self._closed(book, working, len(sides))
        if closed is None:
            reasons, numbers = self._run(sides, is_reducing=False)
            if not any(reasons):
                return Verdict(intent, ())
        elif closed[0] is Reason.MARGIN and closed[1] < math.inf:
            return self._check_closing(intent, sides, closed, working)
        else:
            reasons = [int(closed[0]) if lots else 0 for _, _, _, lots, _ in sides]
            numbers = [closed[1:]] * len(sides)
        return self._without_refused(intent, sides, reasons, numbers, working)

    def _check_closing(
        self,
        intent: MassQuote,
        sides: list[GateSide],
        closed: tuple[Reason, float, float],
        working: WorkingOrders,
    ) -> Verdict:
        """Where margin stops adding: sides that leave less of it to carry, no larger than what is
        held."""
        held = self._ints[rk.I_POSITION]
        kept: list[GateSide] = []
        adding: list[bool] = []
        for id_, sign, ticks, lots, other in sides:
            is_adding = lots > 0 and not self.reduces_margin(id_, Side(sign), lots)
            adding.append(is_adding)
            kept_lots = 0 if is_adding else min(lots, abs(int(held[id_])))
            kept.append((id_, sign, ticks, kept_lots, other))
        found, numbers = self._run(kept, is_reducing=False)
        reasons = [
            int(closed[0]) if is_adding else one
            for is_adding, one in zip(adding, found, strict=True)
        ]
        numbers = [
            closed[1:] if is_adding else one for is_adding, one in zip(adding, numbers, strict=True)
        ]
        return self._without_refused(clipped(intent, kept), kept, reasons, numbers, working)

    def _terms(
        self, id_: int, sign: int, ticks: Ticks | None, lots: Lots | None
    ) -> tuple[int, int] | None:
        """Price and size of a side, None where it is left alone; the half that is not sent is the
        one last asked for."""
        if ticks is None and lots is None:
            return None
        row = 0 if sign > 0 else 1
        if ticks is None:
            ticks = Ticks(int(self._ints[rk.I_ASKED_BID_TICKS + row, id_]))
        if lots is None:
            lots = Lots(int(self._ints[rk.I_ASKED_BID_LOTS + row, id_]))
        return ticks, lots

    def _without_refused(
        self,
        intent: MassQuote,
        sides: list[GateSide],
        reasons: list[int],
        numbers: list[tuple[float, float]],
        working: WorkingOrders,
    ) -> Verdict:
        """The message less its refused sides; of those, what rests is pulled."""
        refused = [
            self._refused(Reason(reason), id_, Side(sign), found)
            for (id_, sign, _, _, _), reason, found in zip(sides, reasons, numbers, strict=True)
            if reason
        ]
        # By position and not by name: one message may name an instrument twice.
        verdicts = iter(reasons)
        kept: list[QuoteEntry] = []
        for entry in intent.entries:
            id_ = entry.instrument_id
            bid, ask = (entry.bid_ticks, entry.bid_lots), (entry.ask_ticks, entry.ask_lots)
            if bid != NOTHING:
                bid = judged(next(verdicts), bid, int(working.live_bid_ticks[id_]))
            if ask != NOTHING:
                ask = judged(next(verdicts), ask, int(working.live_ask_ticks[id_]))
            if bid != NOTHING or ask != NOTHING:
                kept.append(QuoteEntry(id_, *bid, *ask))
        allowed = msgspec.structs.replace(intent, entries=tuple(kept)) if kept else None
        return Verdict(allowed, tuple(refused))

    def _check_place(self, intent: PlaceOrder, working: WorkingOrders, now_ns: int) -> Verdict:
        id_, side = intent.instrument_id, intent.side
        if intent.client_id in working.by_client_id:
            return self._refused_whole(id_, side, Reason.DUPLICATE, 1.0, 0.0)
        ticks = 0 if intent.price_ticks is None else intent.price_ticks
        key = (id_, int(side), ticks, intent.lots)
        age_ns = now_ns - self._recent.get(key, -DUPLICATE_WINDOW_NS)
        if age_ns < DUPLICATE_WINDOW_NS:
            return self._refused_whole(
                id_, side, Reason.DUPLICATE, age_ns / NS_PER_MS, DUPLICATE_WINDOW_NS / NS_PER_MS
            )
        verdict = self._check_one(
            intent, side, intent.price_ticks, intent.lots, working, purpose=intent.purpose
        )
        if verdict.allowed is not None:
            self._recent[key] = now_ns
            while next(iter(self._recent.values())) < now_ns - DUPLICATE_WINDOW_NS:
                del self._recent[next(iter(self._recent))]
        return verdict

    def _check_one(
        self,
        intent: PlaceOrder | AmendOrder,
        side: Side,
        price_ticks: Ticks | None,
        lots: Lots,
        working: WorkingOrders,
        *,
        purpose: Purpose,
    ) -> Verdict:
        id_ = intent.instrument_id
        book = self._book_of[id_] if 0 <= id_ < len(self._book_of) else None
        if book is None:
            return self._refused_whole(id_, side, Reason.UNKNOWN_INSTRUMENT, 0.0, 0.0)
        if lots <= 0:
            return self._refused_whole(id_, side, Reason.SIZE_LOTS, lots, 0.0)
        if purpose is not Purpose.QUOTE:
            excess = self._not_reducing(book, id_, side, lots, purpose)
            if excess is not None:
                return self._refused_whole(id_, side, *excess)
        else:
            closed = self._closed(book, working, 1)
            if closed is not None:
                return self._refused_whole(id_, side, *closed)
        if price_ticks is None:
            if purpose is not Purpose.FLATTEN:
                return self._refused_whole(id_, side, Reason.MARKET_ORDER, 0.0, 0.0)
            return Verdict(intent, ())
        is_reducing = purpose is not Purpose.QUOTE
        sides: list[GateSide] = [(id_, int(side), int(price_ticks), int(lots), rk.ALONE)]
        reasons, numbers = self._run(sides, is_reducing=is_reducing)
        if reasons[0]:
            return self._refused_whole(id_, side, Reason(reasons[0]), *numbers[0])
        return Verdict(intent, ())

    def _not_reducing(
        self, book: GateBook, id_: int, side: Side, lots: int, purpose: Purpose
    ) -> tuple[Reason, float, float] | None:
        """Why a hedge or flatten is not one, None where it reduces.

        A hedge takes the delta of positions and outstanding hedges, in total or of its own expiry,
        nearer to zero; a flatten does so with the position of its
        instrument, in which it is the only order.
        """
        signed = int(side) * lots
        if purpose is Purpose.FLATTEN:
            held = int(self._ints[rk.I_POSITION, id_])
            left = abs(held) - int(self._ints[rk.I_SELL if held > 0 else rk.I_BUY, id_])
            if held * signed >= 0 or lots > left:
                return Reason.NOT_REDUCING, float(signed), float(-held)
            return None
        per_lot = float(self._floats[rk.DELTA, id_])
        notional = float(self._floats[rk.F_NOTIONAL, id_])
        cap = book.params.limits.hedge_order_usd_max
        if not lots * notional <= cap:
            return Reason.HEDGE_SIZE, lots * notional, cap
        change = signed * per_lot
        delta = self._hedged_delta(book, -1)
        if nearer_zero(delta, change):
            return None
        # A dated future may also hedge its own expiry; the perpetual then takes back the total.
        expiry = int(self._ints[rk.I_EXPIRY, id_])
        if expiry >= 0 and nearer_zero(self._hedged_delta(book, expiry), change):
            return None
        return Reason.NOT_REDUCING, delta + change, delta

    def _hedged_delta(self, book: GateBook, expiry: int) -> float:
        base = book.account.base_delta_coin if expiry < 0 else 0.0
        ids, is_option = book.buckets.ids, self._catalog.is_option
        return rk.hedged_delta(ids, self._ints, self._floats, is_option, base, expiry)

    def _closed(
        self, book: GateBook, working: WorkingOrders, sides: int
    ) -> tuple[Reason, float, float] | None:
        """Why nothing that adds risk may pass in this underlying at all."""
        if not book.is_fresh:
            return Reason.NOT_READY, 0.0, 1.0
        limits = book.params.limits
        if not book.account.margin_use <= limits.margin_stop_ratio:
            return Reason.MARGIN, book.account.margin_use, limits.margin_stop_ratio
        open_after = working.open_count(book.params.name) + sides
        if open_after > limits.open_orders_max:
            return Reason.OPEN_ORDERS, float(open_after), float(limits.open_orders_max)
        return None

    def _run(
        self, sides: list[GateSide], *, is_reducing: bool
    ) -> tuple[list[int], list[tuple[float, float]]]:
        columns = np.array(sides, dtype=np.int64).T
        reasons = np.zeros(len(sides), dtype=np.int64)
        numbers = np.zeros((len(sides), 2))
        rk.check_sides(
            columns,
            is_reducing,
            self._ints,
            self._floats,
            self._limits,
            self._sums,
            self._vega_sums,
            self.stress.units,
            self.stress.sums,
            reasons,
            numbers,
        )
        self._counted += [side[0] for side in sides]
        found: list[int] = reasons.tolist()
        if any(found):
            rows = zip(found, sides, numbers[:, 0].tolist(), strict=True)
            found = [self._named(reason, side[0], number) for reason, side, number in rows]
        return found, [(row[0], row[1]) for row in numbers.tolist()]

    def _named(self, reason: int, id_: int, found: float) -> int:
        """The reason behind the kernel's: what bounds the stress loss, why there is no theo."""
        if reason == Reason.NO_THEO and self._is_far[id_]:
            return int(Reason.FAR_FROM_MARKET)
        is_stress = reason == Reason.STRESS and not math.isnan(found)
        book = self._book_of[id_] if is_stress else None
        return int(Reason.MARGIN) if book is not None and book.is_margin_tight else reason

    def _refused(self, reason: Reason, id_: int, side: Side, found: tuple[float, float]) -> Refused:
        self.refusals[reason] += 1
        return Refused(CONTROL_OF[reason], reason, id_, side, found[0], found[1])

    def _refused_whole(
        self, id_: int, side: Side, reason: Reason, found: float, allowed: float
    ) -> Verdict:
        return Verdict(None, (self._refused(reason, id_, side, (found, allowed)),))
