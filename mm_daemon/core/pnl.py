"""Where the money came from: the change of equity in USD, split into parts that sum to it exactly.

Two versions of equity: the venue's, at its marks, and the desk's, at our theo; they differ by the
basis between mark and theo, which is a part of its own. A step goes from one view of the book to
the next; the positions of the first are revalued in full in a fixed order: time, forward, level of
vol, skew, wings. What happened between the views (fills, fees, funding, deliveries) is counted as
it happens.

Parts are integers of 1e-8 USD and the residual is what is left of the total, so the sum is exact by
construction; whether the explanation is any good is the residual's variance, which is measured.
Nothing here changes the books.
"""

from __future__ import annotations

import hashlib
import math
from enum import IntEnum

import msgspec
import numpy as np

from mm_daemon.core import pnl_kernel as pk
from mm_daemon.core.catalog import Catalog, Floats, Ints
from mm_daemon.domain.units import COIN_SCALE, NS_PER_YEAR, Ns, Side

MINUTE_NS = 60_000_000_000


class Part(IntEnum):
    """The parts of a change of equity."""

    COLLATERAL = 0
    """Equity in coin times the move of the index."""
    THETA = 1
    DELTA = 2
    GAMMA = 3
    VEGA = 4
    """Level of vol, between surfaces."""
    SKEW = 5
    WINGS = 6
    SURFACE_REFIT = 7
    """Everything that vol moved in a step that took up a new surface."""
    SPREAD = 8
    """Options filled away from theo."""
    HEDGE = 9
    """Futures filled away from their reference."""
    FEES = 10
    FUNDING = 11
    SETTLEMENT = 12
    """Deliveries: payoff less the theo that was carried."""
    MARK_BASIS = 13
    """Venue version only: mark less theo on the positions."""
    RESIDUAL = 14


PARTS = len(Part)


class PnlView(msgspec.Struct, frozen=True):
    """One currency's book at one moment. Arrays by instrument id are copied, not referred to."""

    ts_ns: int
    index_usd: float
    """USD of one unit of the currency; 1 for USDC."""
    equity_desk_e8: int
    """Our books at our theo, in the currency."""
    equity_venue_e8: int
    """Our books at the venue's marks."""
    lots: Ints
    forward: Floats
    vol: Floats
    theo: Floats
    """In the venue's unit; the reference price for futures."""
    delta_adjusted: Floats
    surface_version: int


class PnlStep(msgspec.Struct, frozen=True):
    """One step, 1e-8 USD: totals by version, and the parts of each, which sum to them."""

    desk_usd_e8: int
    venue_usd_e8: int
    desk: tuple[int, ...]
    venue: tuple[int, ...]


class _Book:
    """What is carried from step to step for one currency."""

    def __init__(self) -> None:
        self.ids: Ints = np.zeros(0, dtype=np.int64)
        self.expiry_of = self.ids
        self.expiries = 0
        self.last: PnlView | None = None
        self.pending_usd = [0.0] * PARTS
        self.desk = [0] * PARTS
        self.venue = [0] * PARTS
        self.minute = -1
        self.minute_residual = 0
        self.minute_total = 0
        self.residual_moments = [0.0, 0.0, 0.0]
        self.total_moments = [0.0, 0.0, 0.0]


class PnlExplain:
    """Explains equity by settlement currency."""

    def __init__(self, catalog: Catalog, currencies: tuple[str, ...]) -> None:
        self._currencies = currencies
        self._books: dict[str, _Book] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Takes up new listings; the step under way starts at the next view."""
        self._catalog = catalog
        for currency in self._currencies:
            members = [i for i in catalog.instruments if i.settle_currency == currency]
            expiries = {i.expiry_ns: None for i in members if i.expiry_ns}
            index = {expiry_ns: row for row, expiry_ns in enumerate(expiries)}
            book = self._books.setdefault(currency, _Book())
            book.ids = np.array([i.id for i in members], dtype=np.int64)
            book.expiry_of = np.array([index.get(i.expiry_ns, -1) for i in members], dtype=np.int64)
            book.expiries = len(index)
            if book.last is not None:
                book.last = _padded(book.last, len(catalog))

    def on_fill(
        self, instrument_id: int, side: Side, *, lots: int, price: float, theo: float,
        fee_usd: float, index_usd: float,
    ) -> None:  # fmt: skip
        """Counts a fill: price and theo in the venue's unit at the fill (futures: reference)."""
        instrument = self._catalog.instruments[instrument_id]
        pending = self._books[instrument.settle_currency].pending_usd
        amount = int(side) * instrument.amount(lots)
        if instrument.is_option:
            part, edge = Part.SPREAD, amount * (theo - price) * index_usd
        elif instrument.is_inverse:
            part, edge = Part.HEDGE, amount * (1.0 / price - 1.0 / theo) * index_usd
        else:
            part, edge = Part.HEDGE, amount * (theo - price) * index_usd
        if math.isfinite(edge):
            pending[part] += edge
        pending[Part.FEES] -= fee_usd

    def on_funding(self, currency: str, received_usd: float) -> None:
        self._books[currency].pending_usd[Part.FUNDING] += received_usd

    def on_delivery(self, currency: str, paid_usd: float, carried_usd: float) -> None:
        """A position ended: what was paid (less fee) against what it was carried at."""
        self._books[currency].pending_usd[Part.SETTLEMENT] += paid_usd - carried_usd

    def step(self, currency: str, view: PnlView) -> PnlStep | None:
        """Explains the change since the last view; None for the first."""
        book = self._books[currency]
        last, book.last = book.last, view
        pending, book.pending_usd = book.pending_usd, [0.0] * PARTS
        if last is None:
            return None
        parts = self._parts(book, last, view)
        for part in Part:
            parts[part] += pending[part]
        desk_total = _usd_e8(view, view.equity_desk_e8) - _usd_e8(last, last.equity_desk_e8)
        venue_total = _usd_e8(view, view.equity_venue_e8) - _usd_e8(last, last.equity_venue_e8)
        desk = [round(usd * COIN_SCALE) if math.isfinite(usd) else 0 for usd in parts]
        desk[Part.RESIDUAL] = desk_total - sum(desk)
        venue = [*desk]
        venue[Part.MARK_BASIS] = venue_total - desk_total
        for part in Part:
            book.desk[part] += desk[part]
            book.venue[part] += venue[part]
        _count_minute(book, view.ts_ns, desk[Part.RESIDUAL], desk_total)
        return PnlStep(desk_total, venue_total, tuple(desk), tuple(venue))

    def totals(self, currency: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(desk, venue) parts since the start, 1e-8 USD, in the order of `Part`."""
        book = self._books[currency]
        return tuple(book.desk), tuple(book.venue)

    def residual_quality(self, currency: str) -> float:
        """Variance of the residual over that of the total, by minutes; NaN before two minutes."""
        book = self._books[currency]
        total = _variance(book.total_moments)
        return _variance(book.residual_moments) / total if total > 0.0 else math.nan

    def digest(self) -> bytes:
        state = hashlib.blake2b(digest_size=16)
        for currency, book in self._books.items():
            words = (
                currency, book.pending_usd, book.desk, book.venue, book.minute,
                book.minute_residual, book.minute_total, book.residual_moments,
                book.total_moments,
            )  # fmt: skip
            state.update(repr(words).encode())
            if book.last is not None:
                state.update(book.last.lots.tobytes() + book.last.theo.tobytes())
        return state.digest()

    def _parts(self, book: _Book, last: PnlView, view: PnlView) -> list[float]:
        catalog = self._catalog
        out = np.zeros(pk.ROWS)
        pk.revalue(
            book.ids,
            book.expiry_of,
            book.expiries,
            last.lots,
            catalog.lot,
            catalog.strike,
            catalog.is_call,
            catalog.is_option,
            catalog.is_inverse,
            _years(catalog, last.ts_ns),
            _years(catalog, view.ts_ns),
            last.forward,
            view.forward,
            last.vol,
            view.vol,
            last.theo,
            view.theo,
            last.delta_adjusted,
            out,
        )
        parts = [0.0] * PARTS
        moved = out.tolist()
        now_usd = view.index_usd
        parts[Part.THETA] = moved[pk.THETA] * now_usd
        # At the old index the first order in coin is the USD delta; the index's own move then
        # completes the second order to the gamma in USD.
        first_usd = moved[pk.DELTA] * last.index_usd
        parts[Part.DELTA] = first_usd + moved[pk.LINEAR] * now_usd
        parts[Part.GAMMA] = (moved[pk.DELTA] + moved[pk.GAMMA]) * now_usd - first_usd
        parts[Part.VEGA] = moved[pk.VEGA] * now_usd
        parts[Part.SKEW] = moved[pk.SKEW] * now_usd
        parts[Part.WINGS] = moved[pk.WINGS] * now_usd
        if view.surface_version != last.surface_version:
            parts[Part.SURFACE_REFIT] = parts[Part.VEGA] + parts[Part.SKEW] + parts[Part.WINGS]
            parts[Part.VEGA] = parts[Part.SKEW] = parts[Part.WINGS] = 0.0
        translated = last.equity_desk_e8 / COIN_SCALE * (now_usd - last.index_usd)
        parts[Part.COLLATERAL] = translated
        return parts


def _years(catalog: Catalog, ts_ns: int) -> Floats:
    left: Floats = np.maximum(catalog.expiry_ns - ts_ns, 0) / NS_PER_YEAR
    return left


def _usd_e8(view: PnlView, equity_e8: int) -> int:
    """Equity in 1e-8 USD at the view's index, rounded once."""
    return round(equity_e8 * view.index_usd)


def _padded(view: PnlView, size: int) -> PnlView:
    """A view over a catalogue that has grown: what is new was not held and had no value."""

    def longer(column: Floats) -> Floats:
        grown = np.full(size, np.nan)
        grown[: column.size] = column
        return grown

    lots = np.zeros(size, dtype=np.int64)
    lots[: view.lots.size] = view.lots
    return msgspec.structs.replace(
        view,
        lots=lots,
        forward=longer(view.forward),
        vol=longer(view.vol),
        theo=longer(view.theo),
        delta_adjusted=longer(view.delta_adjusted),
    )


def _count_minute(book: _Book, ts_ns: Ns | int, residual_e8: int, total_e8: int) -> None:
    minute = ts_ns // MINUTE_NS
    if minute != book.minute:
        if book.minute >= 0:
            _add(book.residual_moments, book.minute_residual / COIN_SCALE)
            _add(book.total_moments, book.minute_total / COIN_SCALE)
        book.minute, book.minute_residual, book.minute_total = minute, 0, 0
    book.minute_residual += residual_e8
    book.minute_total += total_e8


def _add(moments: list[float], value: float) -> None:
    """Welford's update of (count, mean, sum of squared deviations)."""
    moments[0] += 1.0
    change = value - moments[1]
    moments[1] += change / moments[0]
    moments[2] += change * (value - moments[1])


def _variance(moments: list[float]) -> float:
    return moments[2] / (moments[0] - 1.0) if moments[0] >= 2.0 else math.nan
