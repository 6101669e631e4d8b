"""Closing what is held: which instrument next, by what kind of order, at what price, how much.

Every order takes one position nearer to zero, in a piece of what the market shows, at a bounded
distance from theo. Each instrument has a ladder: immediate at the touch, immediate further through
it, resting (at the near touch first, then nearer to the far one), a person. A way that finds nobody
a few times, or that the venue refuses to know, gives way to the next; after the person has been
called everything is tried again, because markets come back. Nothing is assumed to have worked: what
is left is what the books hold, and an order without an end blocks its instrument until the venue's
evidence ends it.

Options go first, the short ones before the long, the largest vega first; their delta is the
hedger's to keep meanwhile. Perpetual and futures are closed when no option is left, because until
then they are the hedge. The flattener sends nothing itself and knows no permission.
"""

from __future__ import annotations

import hashlib
import math
from enum import Enum, IntEnum

import msgspec

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.theo import PRICE, VEGA
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.orders import RejectReason, TimeInForce
from mm_daemon.domain.params import FlattenParams, UnderlyingParams
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Lots, Ns, Side, Ticks

BPS = 1e-4
NOT_THE_ORDER = (
    RejectReason.RATE_LIMIT,
    RejectReason.MMP,
    RejectReason.QUOTES_FROZEN,
    RejectReason.EXPIRED,
    RejectReason.REPLACED,
    RejectReason.PURGED,
    RejectReason.INSTRUMENT,
    RejectReason.MAINTENANCE,
    RejectReason.AUTH,
)
"""Refusals that say nothing against the kind of order: the same is tried again later."""


class Rung(IntEnum):
    """Ways to close, in the order in which they are tried."""

    TOUCH = 0
    WIDE = 1
    REST = 2
    PERSON = 3
    """No way is left: a person is called, and after a while all ways are tried again."""


class FlattenState(Enum):
    IDLE = "idle"
    RUNNING = "running"
    STUCK = "stuck"
    """Whatever is left found no way to trade; a person has been called."""
    FLAT = "flat"


class FlattenOrder(msgspec.Struct, frozen=True):
    """A reduce-only limit order that the flattener wants sent."""

    instrument_id: int
    side: Side
    price_ticks: Ticks
    lots: Lots
    time_in_force: TimeInForce
    rung: Rung


class FlattenInputs(msgspec.Struct, frozen=True):
    """What the flatten of one underlying is decided on, by instrument id."""

    position_lots: Ints
    bid_ticks: Ints
    ask_ticks: Ints
    """0 = no valid book on that side."""
    bid_amount: Floats
    ask_amount: Floats
    is_open: Bools
    columns: Floats
    """The theo board's."""


class FlattenProgress(msgspec.Struct, frozen=True):
    """How a flatten stands."""

    state: FlattenState
    positions_left: int
    live_orders: int
    called_for: tuple[int, ...]
    """Instruments for which a person has been called and that are not closed yet."""


class _Work(msgspec.Struct):
    """One instrument's place on the ladder."""

    rung: Rung = Rung.TOUCH
    floor: Rung = Rung.TOUCH
    """The first way that the venue has not refused to know."""
    tries: int = 0
    not_before_ns: int = 0
    client_id: str = ""
    """The order that has no end yet; empty = none."""
    sent_ns: int = 0
    is_resting: bool = False
    is_called: bool = False


class _Book(msgspec.Struct):
    params: UnderlyingParams
    option_ids: list[int]
    future_ids: list[int]
    next_ns: int = 0
    """No order of the underlying before this."""
    progress: FlattenProgress = FlattenProgress(FlattenState.IDLE, 0, 0, ())


class Flattener:
    """Flattens of all underlyings."""

    def __init__(self, catalog: Catalog, underlyings: tuple[UnderlyingParams, ...]) -> None:
        self._params = underlyings
        self._books: dict[str, _Book] = {}
        self._work: dict[int, _Work] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        self._catalog = catalog
        for params in self._params:
            mine = [i for i in catalog.instruments if i.underlying == params.name]
            options = [i.id for i in mine if i.is_option]
            futures = [i.id for i in mine if not i.is_option]
            known = self._books.get(params.name)
            if known is None:
                self._books[params.name] = _Book(params, options, futures)
            else:
                known.option_ids, known.future_ids = options, futures

    def collect(self, underlying: str, working: WorkingOrders, now_ns: Ns) -> None:
        """Ends the orders that the venue's evidence has ended, trades included."""
        book = self._books[underlying]
        for id_ in (*book.option_ids, *book.future_ids):
            work = self._work.get(id_)
            if work is None or not work.client_id:
                continue
            order = working.by_client_id.get(work.client_id)
            if order is not None and not order.is_settled:
                continue
            work.client_id = ""
            work.not_before_ns = max(work.not_before_ns, now_ns + _pace_ns(book))
            if order is not None and order.booked_lots > 0:
                work.rung, work.tries, work.is_called = work.floor, 0, False
            else:
                self._missed(book, work, now_ns)

    def plan(self, underlying: str, inputs: FlattenInputs, now_ns: Ns) -> list[FlattenOrder]:
        """The order wanted now, if any, after `collect`. Must be followed by `on_sent` or
        `on_withheld`."""
        book = self._books[underlying]
        left = self._left(book, inputs)
        live = sum(1 for id_ in (*book.option_ids, *book.future_ids) if self._is_live(id_))
        self._note(book, left, live)
        if now_ns < book.next_ns or live >= book.params.flatten.orders_live_max:
            return []
        for id_ in left:
            work = self._work.setdefault(id_, _Work())
            if work.client_id or now_ns < work.not_before_ns:
                continue
            if work.rung is Rung.PERSON:
                work.rung, work.tries = Rung.TOUCH, 0
                work.floor = Rung.TOUCH
            order = self._order(book, work, id_, inputs)
            if order is not None:
                return [order]
            work.not_before_ns = now_ns + _pace_ns(book)
            self._missed(book, work, now_ns)
        return []

    def to_cancel(self, underlying: str, now_ns: Ns, *, is_over: bool) -> list[str]:
        """Client ids of resting orders to cancel: too old, or (`is_over`) all of them."""
        book = self._books[underlying]
        rest_ns = int(book.params.flatten.rest_s * NS_PER_S)
        return [
            work.client_id
            for id_ in (*book.option_ids, *book.future_ids)
            if (work := self._work.get(id_)) is not None
            and work.client_id
            and work.is_resting
            and (is_over or now_ns - work.sent_ns >= rest_ns)
        ]

    def on_sent(self, order: FlattenOrder, client_id: str, now_ns: Ns) -> None:
        """The order has left under this client id: its instrument is taken until it ends."""
        work = self._work[order.instrument_id]
        assert not work.client_id, order
        work.client_id, work.sent_ns = client_id, now_ns
        work.is_resting = order.time_in_force is TimeInForce.GTC
        book = self._books[self._catalog.instruments[order.instrument_id].underlying]
        book.next_ns = now_ns + _pace_ns(book)

    def on_withheld(self, instrument_id: int, now_ns: Ns) -> None:
        """The order was refused by our own gates or never left: an attempt that found nobody."""
        work = self._work.get(instrument_id)
        if work is None:
            return
        book = self._books[self._catalog.instruments[instrument_id].underlying]
        work.client_id = ""
        work.not_before_ns = now_ns + _pace_ns(book)
        self._missed(book, work, now_ns)

    def on_refused(self, instrument_id: int, reason: RejectReason, now_ns: Ns) -> None:
        """The venue refused the order. Where it refused the kind of order, its way is closed."""
        work = self._work.get(instrument_id)
        if work is None or reason in NOT_THE_ORDER or work.rung is Rung.PERSON:
            return
        book = self._books[self._catalog.instruments[instrument_id].underlying]
        work.rung = Rung(work.rung + 1)
        work.floor, work.tries = min(work.rung, Rung.REST), -1
        # Its end, which `collect` will see, counts as the first miss of the new way: −1 undoes it.
        if work.rung is Rung.PERSON:
            self._call(book, work, now_ns)

    def forget(self, underlying: str) -> None:
        """The flatten is over: another one begins on the first rung. Orders without an end stay."""
        book = self._books[underlying]
        book.progress = FlattenProgress(FlattenState.IDLE, 0, 0, ())
        for id_ in (*book.option_ids, *book.future_ids):
            work = self._work.get(id_)
            if work is None:
                continue
            if work.client_id:
                work.rung = work.floor = Rung.TOUCH
                work.tries, work.is_called = 0, False
            else:
                del self._work[id_]

    def is_hedge_needed(self, underlying: str, position_lots: Ints) -> bool:
        """Whether options are left whose delta futures must go on hedging."""
        book = self._books[underlying]
        return any(position_lots[id_] or self._is_live(id_) for id_ in book.option_ids)

    def progress(self, underlying: str) -> FlattenProgress:
        """As of the last plan."""
        return self._books[underlying].progress

    def digest(self) -> bytes:
        books = [(name, book.next_ns, repr(book.progress)) for name, book in self._books.items()]
        state = (books, list(self._work.items()))
        return hashlib.blake2b(msgspec.msgpack.encode(state), digest_size=16).digest()

    def _is_live(self, id_: int) -> bool:
        work = self._work.get(id_)
        return work is not None and bool(work.client_id)

    def _left(self, book: _Book, inputs: FlattenInputs) -> list[int]:
        """Held instruments in the order in which they are closed."""
        held = inputs.position_lots
        options = [id_ for id_ in book.option_ids if held[id_]]
        if options or any(self._is_live(id_) for id_ in book.option_ids):
            return sorted(options, key=lambda id_: self._urgency(id_, inputs))
        return [id_ for id_ in book.future_ids if held[id_]]

    @staticmethod
    def _urgency(id_: int, inputs: FlattenInputs) -> tuple[bool, float, int]:
        lots = int(inputs.position_lots[id_])
        vega = abs(lots * float(inputs.columns[VEGA, id_]))
        return lots > 0, -vega if math.isfinite(vega) else 0.0, id_

    def _note(self, book: _Book, left: list[int], live: int) -> None:
        called = tuple(
            id_ for id_ in left if (work := self._work.get(id_)) is not None and work.is_called
        )
        state = FlattenState.RUNNING
        if not left and not live:
            state = FlattenState.FLAT
        elif left and len(called) == len(left) and not live:
            state = FlattenState.STUCK
        book.progress = FlattenProgress(state, len(left), live, called)

    def _missed(self, book: _Book, work: _Work, now_ns: int) -> None:
        """An attempt found nobody: the next way after a few of them."""
        work.tries += 1
        if work.tries < book.params.flatten.tries_max or work.rung is Rung.PERSON:
            return
        work.rung, work.tries = Rung(work.rung + 1), 0
        if work.rung is Rung.PERSON:
            self._call(book, work, now_ns)

    @staticmethod
    def _call(book: _Book, work: _Work, now_ns: int) -> None:
        work.is_called = True
        work.not_before_ns = now_ns + int(book.params.flatten.person_wait_s * NS_PER_S)

    def _order(
        self, book: _Book, work: _Work, id_: int, inputs: FlattenInputs
    ) -> FlattenOrder | None:
        """The next piece, None where it cannot be priced within its bound now."""
        instrument = self._catalog.instruments[id_]
        held = int(inputs.position_lots[id_])
        side = Side.SELL if held > 0 else Side.BUY
        theo = float(inputs.columns[PRICE, id_])
        if not inputs.is_open[id_] or not 0.0 < theo < math.inf:
            return None
        priced = _price(book.params.flatten, instrument, side, work, theo, inputs)
        if priced is None:
            return None
        lots = min(abs(held), self._clip_lots(book, instrument, theo))
        if work.rung is not Rung.REST:
            amounts = inputs.bid_amount if side is Side.SELL else inputs.ask_amount
            shown = amounts[id_] * book.params.flatten.depth_share
            lots = min(lots, max(1, math.floor(shown * 1e9 / instrument.lot_e9 + 1e-9)))
        is_resting = work.rung is Rung.REST
        return FlattenOrder(
            instrument_id=id_,
            side=side,
            price_ticks=priced,
            lots=Lots(lots),
            time_in_force=TimeInForce.GTC if is_resting else TimeInForce.IOC,
            rung=work.rung,
        )

    @staticmethod
    def _clip_lots(book: _Book, instrument: Instrument, theo: float) -> int:
        params, limits = book.params.flatten, book.params.limits
        if instrument.is_option:
            return min(params.clip_lots_max, limits.order_lots_max)
        lot_usd = instrument.amount(1) * (1.0 if instrument.is_inverse else theo)
        most_usd = min(params.clip_future_usd_max, limits.order_notional_usd_max)
        return max(1, math.floor(most_usd / lot_usd))


def _pace_ns(book: _Book) -> int:
    return book.params.flatten.pace_ms * NS_PER_MS


def _price(
    params: FlattenParams,
    instrument: Instrument,
    side: Side,
    work: _Work,
    theo: float,
    inputs: FlattenInputs,
) -> Ticks | None:
    """The limit price of one way, None where the market is beyond its bound or shows nobody."""
    bound = _bound(params, instrument, side, theo, is_wide=work.rung is not Rung.TOUCH)
    bid, ask = int(inputs.bid_ticks[instrument.id]), int(inputs.ask_ticks[instrument.id])
    near, far = (bid, ask) if side is Side.BUY else (ask, bid)
    if work.rung is Rung.REST:
        # Beside those who wait (at theo where nobody does), then step by step to the other side:
        # where only immediate orders are refused, a limit at the far touch trades as they would.
        grid = instrument.grid
        start = grid.price(near) if near > 0 else theo
        share = work.tries / max(1, params.tries_max - 1)
        wanted = start + share * (grid.price(far) - start) if far > 0 else start
        if side is Side.BUY:
            price = min(grid.floor(wanted), bound)
        else:
            price = max(grid.ceil(wanted), bound)
        return price if price > 0 else None
    if far <= 0 or side * (far - bound) > 0:
        return None
    return Ticks(far) if work.rung is Rung.TOUCH else bound


def _bound(
    params: FlattenParams, instrument: Instrument, side: Side, theo: float, *, is_wide: bool
) -> Ticks:
    """The worst legal price: for a buy the highest, for a sale the lowest, a tick at least."""
    if instrument.is_option:
        ratio = params.cost_wide_theo_ratio if is_wide else params.cost_theo_ratio
        ticks = params.cost_wide_ticks if is_wide else params.cost_ticks
        distance = ratio * theo + instrument.grid.price(ticks)
    else:
        bps = params.cost_wide_future_bps if is_wide else params.cost_future_bps
        distance = bps * BPS * theo
    grid = instrument.grid
    if side is Side.BUY:
        return grid.floor(theo + distance)
    return Ticks(max(grid.up(0), grid.ceil(theo - distance)))
