"""Explaining equity as it moves, and holding our books against the venue's at its own stamps.

Once a second each currency's book is viewed and its change explained; fills and funding are counted
as they happen. Where a portfolio message arrives, the equity that our books give at the venue's
published marks is compared with the venue's, to 1e-8 of the coin.
"""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.catalog import Floats, Ints
from mm_daemon.core.markouts import Markouts
from mm_daemon.core.pnl import Part, PnlExplain, PnlView
from mm_daemon.core.state import EngineState
from mm_daemon.domain.orders import AccountEvidence, FillEvidence
from mm_daemon.domain.units import COIN_SCALE, NS_PER_S, Ns

STEP_NS = NS_PER_S
EQUITY_UNKNOWN_NS = 30 * NS_PER_S
"""An equity that is not a number for this long counts as lost."""
COMPARE_NS = NS_PER_S


class PnlDesk:
    """Runs the explanation over the state, by settlement currency."""

    def __init__(self, state: EngineState) -> None:
        self._s = state
        self._currencies = tuple(dict.fromkeys(state.settle_currency.values()))
        self.explain = PnlExplain(state.catalog, self._currencies)
        self.markouts = Markouts()
        self._due_ns = 0
        self._compared_ns: dict[str, int] = {}
        self.difference_e8: dict[str, int] = {}
        """Our equity at the venue's marks less the venue's own, at the last compared stamp."""
        self.equity_usd: dict[str, float] = {"venue": math.nan, "desk": math.nan}
        self._unknown_since_ns = 0
        """Since when some equity has not been a number; 0 = all are."""

    def resize(self) -> None:
        self.explain.resize(self._s.catalog)

    def on_fill(self, fill: FillEvidence, now_ns: Ns) -> None:
        """Counts a booked fill against theo now."""
        s = self._s
        instrument = s.catalog.instruments[fill.instrument_id]
        index = self._index_usd(instrument.settle_currency)
        self.explain.on_fill(
            fill.instrument_id,
            fill.side,
            lots=fill.lots,
            price=fill.price_e8 / COIN_SCALE,
            theo=float(s.theo.price[fill.instrument_id]),
            fee_usd=fill.fee_e8 / COIN_SCALE * index,
            index_usd=index,
        )
        self._follow(fill, index, now_ns)

    def on_funding(self, currency: str, received_coin: float) -> None:
        usd = received_coin * self._index_usd(currency)
        if math.isfinite(usd):
            self.explain.on_funding(currency, usd)

    def on_delivery(self, instrument_id: int, lots: int, paid_e8: int) -> None:
        """A position ended: what was paid, fee included, against the theo it was carried at."""
        s = self._s
        instrument = s.catalog.instruments[instrument_id]
        index = self._index_usd(instrument.settle_currency)
        theo = float(s.theo.price[instrument_id]) if instrument.is_option else 0.0
        carried_usd = instrument.amount(lots) * theo * index if math.isfinite(theo) else 0.0
        self.explain.on_delivery(
            instrument.settle_currency, paid_e8 / COIN_SCALE * index, carried_usd
        )

    def step(self, now_ns: Ns) -> None:
        """Explains the last second, and tells the loss limits the equity."""
        s = self._s
        if now_ns < self._due_ns or not s.portfolio.is_open or not s.modes.is_informed:
            return
        self._due_ns = now_ns + STEP_NS
        self._mark_out(now_ns)
        # What has no theo now is carried at its mark, or equity would jump by its whole value.
        theos = _e8(np.where(np.isfinite(s.theo.price), s.theo.price, s.market.mark))
        marks = _e8(s.market.mark)
        venue_usd = desk_usd = 0.0
        earned_usd: dict[str, float] = {}
        for currency in self._currencies:
            index = self._index_usd(currency)
            if not (math.isfinite(index) and self._is_held_marked(currency)):
                venue_usd = desk_usd = earned_usd[currency] = math.nan
                continue
            venue = s.portfolio.equity(currency, marks).equity_e8
            desk = s.portfolio.equity(currency, theos).equity_e8
            venue_usd += venue / COIN_SCALE * index
            desk_usd += desk / COIN_SCALE * index
            earned_usd[currency] = venue / COIN_SCALE * index - self._translated_usd(currency)
            self.explain.step(currency, self._view(currency, index, venue, desk, now_ns))
        self.equity_usd = {"venue": venue_usd, "desk": desk_usd}
        self._tell_losses(earned_usd, now_ns)

    def on_account(self, evidence: AccountEvidence, now_ns: Ns) -> None:
        """Compares our books with the venue's at the venue's stamp, at most once a second."""
        s, currency = self._s, evidence.currency
        is_due = now_ns - self._compared_ns.get(currency, 0) >= COMPARE_NS
        if currency not in self._currencies or not s.portfolio.is_open or not is_due:
            return
        if not self._is_held_marked(currency):
            return
        self._compared_ns[currency] = now_ns
        ours = s.portfolio.equity(currency, _e8(s.market.mark)).equity_e8
        self.difference_e8[currency] = ours - evidence.equity_e8

    def parts_usd(self, currency: str) -> dict[str, float]:
        """Desk parts since the opening, by name."""
        desk, _ = self.explain.totals(currency)
        return {part.name.lower(): desk[part] / COIN_SCALE for part in Part}

    def digest_words(self) -> tuple[object, ...]:
        return (
            self.explain.digest().hex(),
            self.markouts.digest().hex(),
            self._due_ns,
            self._compared_ns,
            self.difference_e8,
            self.equity_usd,
            self._unknown_since_ns,
        )

    def _follow(self, fill: FillEvidence, index: float, now_ns: Ns) -> None:
        """Begins to follow a fill: what it is worth later, less what its delta made."""
        s = self._s
        instrument = s.catalog.instruments[fill.instrument_id]
        forward = float(s.theo.forward[fill.instrument_id])
        price = fill.price_e8 / COIN_SCALE
        if not instrument.is_option or not math.isfinite(forward + index):
            return
        self.markouts.on_fill(
            fill.trade_id,
            fill.instrument_id,
            fill.side,
            amount=instrument.amount(fill.lots),
            price_usd=price * forward if instrument.is_inverse else price,
            theo_usd=float(s.theo.price_usd[fill.instrument_id]),
            delta=float(s.theo.delta[fill.instrument_id]),
            forward=forward,
            now_ns=now_ns,
        )

    def _mark_out(self, now_ns: Ns) -> None:
        s = self._s
        for one in self.markouts.take_due(s.theo.price_usd, s.theo.forward, now_ns):
            s.outbox.log(
                "info",
                "markout",
                trade_id=one.trade_id,
                instrument=s.names[one.instrument_id],
                horizon_s=one.horizon_s,
                markout_usd=one.usd,
            )

    def _view(self, currency: str, index: float, venue: int, desk: int, now_ns: Ns) -> PnlView:
        s = self._s
        return PnlView(
            ts_ns=now_ns,
            index_usd=index,
            equity_desk_e8=desk,
            equity_venue_e8=venue,
            lots=s.portfolio.position_lots.copy(),
            forward=s.theo.forward.copy(),
            vol=s.theo.vol.copy(),
            theo=s.theo.price.copy(),
            delta_adjusted=s.theo.delta_adjusted.copy(),
            surface_version=sum(s.fits_accepted.values()),
        )

    def _tell_losses(self, earned_usd: dict[str, float], now_ns: Ns) -> None:
        """Equity by currency and in all, for the loss limits (C11). What is unknown for a moment is
        passed over; unknown for long it is a breach."""
        s = self._s
        total = math.fsum(earned_usd.values()) if earned_usd else math.nan
        if math.isfinite(total):
            self._unknown_since_ns = 0
        elif not self._unknown_since_ns:
            self._unknown_since_ns = now_ns
        if self._unknown_since_ns and now_ns - self._unknown_since_ns < EQUITY_UNKNOWN_NS:
            return
        s.breaker.losses.add(total, now_ns)
        for name, currency in s.settle_currency.items():
            s.breaker.losses_of[name].add(earned_usd[currency], now_ns)

    def _translated_usd(self, currency: str) -> float:
        """What the coins we hold gained or lost against the dollar: the loss limits are about
        trading, and a desk that keeps coin as collateral has chosen that risk."""
        _, venue = self.explain.totals(currency)
        return venue[Part.COLLATERAL] / COIN_SCALE

    def _is_held_marked(self, currency: str) -> bool:
        """Whether all that is held in this currency has a mark: no equity is known without."""
        s = self._s
        unmarked = np.flatnonzero((s.portfolio.position_lots != 0) & ~np.isfinite(s.market.mark))
        instruments = s.catalog.instruments
        return not any(instruments[id_].settle_currency == currency for id_ in unmarked.tolist())

    def _index_usd(self, currency: str) -> float:
        """USD of one unit of a settlement currency; NaN before its index was seen."""
        if currency.startswith("USD"):
            return 1.0
        s = self._s
        for name, params in s.underlyings.items():
            if s.settle_currency[name] == currency:
                return s.market.index_price.get(params.price_index, math.nan)
        return math.nan


def _e8(prices: Floats) -> Ints:
    """Prices in 1e-8, 0 where there is none (nothing is held of it)."""
    return np.rint(np.nan_to_num(prices) * COIN_SCALE).astype(np.int64)
