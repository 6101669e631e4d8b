"""The forward of every expiry: a slow ladder over parity and futures, moved by the perpetual.

The ladder runs at a pace, because parity over many books is slow and noisy; it yields the slow
basis of each expiry against the perpetual. Every tick of the perpetual then moves all forwards at
once by that basis. When the perpetual's book is lost, each forward falls back to what the last
ladder said until that too is too old, and then there is none: no forward, no quote.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Expiry, Floats, Ints
from mm_daemon.core.market import Market
from mm_daemon.domain.units import NS_PER_S, Ns, tte_years
from mm_daemon.pricing.forward import (
    ForwardInputs,
    ForwardSource,
    fast_forwards,
    forward_ladder,
    micro_price,
    parity_forward,
    updated_basis,
)
from mm_daemon.pricing.valuation import AVERAGING_YEARS

LADDER_INTERVAL_NS = NS_PER_S
LADDER_FIRST_NS = NS_PER_S // 10
"""Its pace until it finds the first forward: a start waits for nothing else."""
LADDER_AGE_NS_MAX = 30 * NS_PER_S
"""A forward that neither ladder nor perpetual confirmed for this long is none."""
BASIS_HALF_LIFE_NS = 10 * NS_PER_S
"""Parity is noisy by 2 to 4 bp an observation; ten seconds average that to under 1 bp."""
PARITY_SPOT_YEARS_MAX = 8.0 / 365.0
"""At 5 % a year the carry to here is a tenth of a percent: less than what C16 asks about."""
TICKER_AGE_NS_MAX = 30 * NS_PER_S


class _Pairs(msgspec.Struct, frozen=True):
    """Calls and puts of one expiry at the same strikes, by id."""

    strike: Floats
    call: Ints
    put: Ints
    is_inverse: bool


class _Curve:
    """State of one underlying's forwards."""

    def __init__(self, catalog: Catalog, underlying: str) -> None:
        self.expiries = catalog.expiries[underlying]
        self.pairs = tuple(_pairs_of(catalog, expiry) for expiry in self.expiries)
        self.perpetual_id = catalog.perpetual.get(underlying, -1)
        self.future_ids = tuple(
            instrument.id
            for instrument in catalog.instruments
            if instrument.underlying == underlying
            and not instrument.is_option
            and instrument.id != self.perpetual_id
        )
        self.index_name = next(
            i.price_index for i in catalog.instruments if i.underlying == underlying
        )
        n = len(self.expiries)
        self.forward: Floats = np.full(n, np.nan)
        self.basis: Floats = np.full(n, np.nan)
        self.slow: Floats = np.full(n, np.nan)
        self.source = [ForwardSource.NONE] * n
        self.disagreement_bps: Floats = np.full(n, np.nan)
        self.gated: Bools = np.zeros(n, dtype=np.bool_)
        self.confirmed_ns: list[int] = [0] * n
        self.perpetual = math.nan
        self.parity_spot = (math.nan, math.nan)
        self.laddered_ns = 0


class ForwardView(msgspec.Struct, frozen=True):
    """One expiry's forward for people and controls."""

    expiry_ns: int
    forward: float
    source: str
    age_ns: int
    disagreement_bps: float
    gated: bool


class Forwards:
    """Forwards of all underlyings, per expiry in catalogue order."""

    def __init__(self, catalog: Catalog) -> None:
        self._curves: dict[str, _Curve] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Take up new expiries; what is known of old ones stays."""
        curves: dict[str, _Curve] = {}
        for underlying in catalog.underlyings:
            curve = _Curve(catalog, underlying)
            old = self._curves.get(underlying)
            if old is not None:
                _carry(old, curve)
            curves[underlying] = curve
        self._curves = curves
        self._tick = catalog.tick

    def refresh(self, underlying: str, market: Market, now_ns: Ns) -> Floats:
        """Move the forwards with the perpetual, and run the ladder when it is due."""
        curve = self._curves[underlying]
        curve.perpetual = self._micro_price(market, curve.perpetual_id)
        pace_ns = LADDER_INTERVAL_NS if any(curve.confirmed_ns) else LADDER_FIRST_NS
        if now_ns - curve.laddered_ns >= pace_ns:
            self._run_ladder(curve, market, now_ns)
        fast = fast_forwards(curve.perpetual, curve.basis)
        for e, confirmed_ns in enumerate(curve.confirmed_ns):
            if now_ns - confirmed_ns > LADDER_AGE_NS_MAX:
                fast[e] = math.nan
            elif math.isnan(curve.perpetual):
                fast[e] = curve.slow[e]
        curve.forward = fast
        return fast

    def of(self, underlying: str) -> Floats:
        """Forwards as of the last refresh, NaN where there is none."""
        return self._curves[underlying].forward

    def perpetual(self, underlying: str) -> float:
        """Micro-price of the perpetual as of the last refresh, NaN without a two-sided book."""
        return self._curves[underlying].perpetual

    def parity_spot(self, underlying: str) -> tuple[float, float]:
        """What options of the nearest days say the spot is, as of the last ladder: (by put-call
        parity without carry, half of the spread it is known to); NaN where none is near enough or
        quoted on both sides."""
        return self._curves[underlying].parity_spot

    def linear_prices(self, underlying: str, market: Market) -> list[tuple[int, float]]:
        """(id, price in USD) of the perpetual and every dated future that has a price now."""
        curve = self._curves[underlying]
        found = [(curve.perpetual_id, curve.perpetual)]
        found.extend((i, self._micro_price(market, i)) for i in curve.future_ids)
        return [(i, price) for i, price in found if i >= 0 and price > 0.0]

    def views(self, underlying: str, now_ns: Ns) -> list[ForwardView]:
        """Every expiry's forward with source and age since it was last confirmed."""
        curve = self._curves[underlying]
        return [
            ForwardView(
                expiry_ns=expiry.expiry_ns,
                forward=float(curve.forward[e]),
                source=curve.source[e].name.lower(),
                age_ns=now_ns - curve.confirmed_ns[e],
                disagreement_bps=float(curve.disagreement_bps[e]),
                gated=bool(curve.gated[e]),
            )
            for e, expiry in enumerate(curve.expiries)
        ]

    def digest(self) -> bytes:
        """16 bytes over all curves, equal for equal histories."""
        state = blake2b(digest_size=16)
        for name, curve in self._curves.items():
            words = (name, curve.source, curve.confirmed_ns, curve.perpetual, curve.laddered_ns)
            state.update(repr((*words, curve.parity_spot)).encode())
            for column in (curve.forward, curve.basis, curve.slow, curve.disagreement_bps):
                state.update(column.tobytes())
        return state.digest()

    def _micro_price(self, market: Market, instrument_id: int) -> float:
        if instrument_id < 0:
            return math.nan
        tick = float(self._tick[instrument_id])
        return micro_price(
            int(market.bid_ticks[instrument_id]) * tick,
            int(market.ask_ticks[instrument_id]) * tick,
            float(market.bid_amount[instrument_id]),
            float(market.ask_amount[instrument_id]),
        )

    def _run_ladder(self, curve: _Curve, market: Market, now_ns: Ns) -> None:
        index = market.index_price.get(curve.index_name, math.nan)
        if market.index_age_ns(curve.index_name, now_ns) > TICKER_AGE_NS_MAX:
            index = math.nan
        inputs = self._ladder_inputs(curve, market, index, now_ns)
        ladder = forward_ladder(inputs)
        elapsed_ns = now_ns - curve.laddered_ns
        for e in range(len(curve.expiries)):
            seen = float(ladder.forward[e])
            if not seen > 0.0:
                continue
            # A basis from a lower rung would be averaged into one from a better rung.
            if ladder.source[e] is not curve.source[e]:
                curve.basis[e] = math.nan
            curve.slow[e] = seen
            curve.source[e] = ladder.source[e]
            curve.confirmed_ns[e] = now_ns
            curve.basis[e] = updated_basis(
                float(curve.basis[e]),
                forward=seen,
                perpetual=curve.perpetual,
                elapsed_ns=elapsed_ns,
                half_life_ns=BASIS_HALF_LIFE_NS,
            )
        curve.parity_spot = _nearest_parity(inputs)
        curve.disagreement_bps = ladder.disagreement_bps
        curve.gated = ladder.gated
        curve.laddered_ns = now_ns

    def _ladder_inputs(
        self, curve: _Curve, market: Market, index: float, now_ns: Ns
    ) -> ForwardInputs:
        n = len(curve.expiries)
        parity, parity_half = np.full(n, np.nan), np.full(n, np.nan)
        future, future_half = np.full(n, np.nan), np.full(n, np.nan)
        underlying = np.full(n, np.nan)
        years = np.zeros(n)
        for e, expiry in enumerate(curve.expiries):
            years[e] = tte_years(now_ns, expiry.expiry_ns)
            if years[e] <= 0.0:
                continue
            if years[e] <= AVERAGING_YEARS:
                # Options and futures trade on the settlement average now, not on a forward.
                underlying[e] = index
                continue
            underlying[e] = _stated(market, expiry, now_ns)
            if expiry.future_id >= 0:
                future[e] = self._micro_price(market, expiry.future_id)
                bid = market.bid_ticks[expiry.future_id]
                ask = market.ask_ticks[expiry.future_id]
                future_half[e] = 0.5 * (ask - bid) * self._tick[expiry.future_id]
            reference = underlying[e]
            for known in (future[e], curve.forward[e], index):
                reference = known if math.isnan(reference) else reference
            parity[e], parity_half[e] = self._parity(curve.pairs[e], market, float(reference))
        return ForwardInputs(years, parity, parity_half, future, future_half, underlying, index)

    def _parity(self, pairs: _Pairs, market: Market, reference: float) -> tuple[float, float]:
        tick = self._tick
        found = parity_forward(
            strike=pairs.strike,
            call_bid=market.bid_ticks[pairs.call] * tick[pairs.call],
            call_ask=market.ask_ticks[pairs.call] * tick[pairs.call],
            put_bid=market.bid_ticks[pairs.put] * tick[pairs.put],
            put_ask=market.ask_ticks[pairs.put] * tick[pairs.put],
            reference=reference,
            is_inverse=pairs.is_inverse,
        )
        return found.forward, found.half_spread


def _stated(market: Market, expiry: Expiry, now_ns: Ns) -> float:
    """The venue's own forward of an expiry: the newest ticker of its options that is fresh."""
    ages = market.ticker_ts_recv_ns[expiry.ids]
    newest = int(np.argmax(ages))
    if now_ns - int(ages[newest]) > TICKER_AGE_NS_MAX:
        return math.nan
    return float(market.underlying_price[expiry.ids[newest]])


def _nearest_parity(inputs: ForwardInputs) -> tuple[float, float]:
    for e, years in enumerate(inputs.tte_years.tolist()):
        if inputs.parity[e] > 0.0 and AVERAGING_YEARS < years <= PARITY_SPOT_YEARS_MAX:
            return float(inputs.parity[e]), float(inputs.parity_half_spread[e])
    return math.nan, math.nan


def _pairs_of(catalog: Catalog, expiry: Expiry) -> _Pairs:
    calls = {float(catalog.strike[i]): int(i) for i in expiry.ids if catalog.is_call[i]}
    puts = {float(catalog.strike[i]): int(i) for i in expiry.ids if not catalog.is_call[i]}
    strikes = [strike for strike in sorted(calls) if strike in puts]
    return _Pairs(
        strike=np.array(strikes, dtype=np.float64),
        call=np.array([calls[strike] for strike in strikes], dtype=np.int64),
        put=np.array([puts[strike] for strike in strikes], dtype=np.int64),
        is_inverse=bool(catalog.is_inverse[expiry.ids[0]]),
    )


def _carry(old: _Curve, new: _Curve) -> None:
    """Copy what is known of expiries that both curves have."""
    rows = {expiry.expiry_ns: e for e, expiry in enumerate(old.expiries)}
    for e, expiry in enumerate(new.expiries):
        row = rows.get(expiry.expiry_ns)
        if row is None:
            continue
        new.forward[e] = old.forward[row]
        new.basis[e] = old.basis[row]
        new.slow[e] = old.slow[row]
        new.source[e] = old.source[row]
        new.disagreement_bps[e] = old.disagreement_bps[row]
        new.gated[e] = old.gated[row]
        new.confirmed_ns[e] = old.confirmed_ns[row]
    new.perpetual = old.perpetual
    new.parity_spot = old.parity_spot
    new.laddered_ns = old.laddered_ns
