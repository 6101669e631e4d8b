"""Theoretical value and greeks of every instrument, refreshed one underlying at a time.

One kernel call revalues the expiries whose forward, surface or clock moved enough to matter; the
others keep what they have, because a forward that moved by a hundredth of a tick costs more to
follow than it is worth. The call also tells which options moved by a stated share of a tick since
they were last reported: those are the ones whose quotes are looked at again.

The surface is aligned to the clock every few seconds; between alignments vol and time to expiry
stand still together, so that their product, the variance, is never mixed from two moments.

An option without forward, vol or time has NaN everywhere. The board holds no opinion on whether a
theo is good enough to quote on; that is the breaker's.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np

from mm_daemon.core.calibration import Calibration
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.domain.units import NS_PER_S, Ns, tte_years
from mm_daemon.pricing.arrays import kernel
from mm_daemon.pricing.surface import align, chain_vols_into
from mm_daemon.pricing.valuation import N_ROWS as VALUE_ROWS
from mm_daemon.pricing.valuation import NOT_AVERAGING, Averaging, value_into

ALIGN_INTERVAL_NS = 5 * NS_PER_S
"""Five seconds are 0.02 % of the variance left at six hours: 0.01 vol points."""
FORWARD_MOVE_MIN = 1e-5
"""Relative move that revalues an expiry: 0.1 bp is at most 1/50 of a tick of any option."""
MOVED_TICKS_MIN = 0.05
"""An option is reported as moved beyond this share of its tick."""

STALE = -1.0
"""Stands for the last valued forward of an expiry that must be valued anew."""

(VOL, PRICE, PRICE_USD, DELTA, DELTA_ADJUSTED, GAMMA, VEGA, THETA, FORWARD, REPORTED) = range(10)
_ROWS = 10
(
    E_FORWARD,
    E_TTE,
    E_SSR,
    E_BUMP_VOL,
    E_BUMP_SKEW,
    E_BUMP_WING,
    E_FORWARD_FIT,
    E_VALUED,
    E_AVERAGE,
    E_FIXED,
) = range(10)
_EXPIRY_ROWS = 10


class _Chain:
    """One underlying's options side by side, by expiry then strike, and its expiries' terms."""

    def __init__(self, catalog: Catalog, underlying: str) -> None:
        expiries = catalog.expiries[underlying]
        self.expiries_ns = tuple(expiry.expiry_ns for expiry in expiries)
        self.ids = catalog.option_ids(underlying)
        sizes = [0] + [expiry.ids.size for expiry in expiries]
        self.starts: Ints = np.cumsum(np.array(sizes, dtype=np.int64), dtype=np.int64)
        self.strike = catalog.strike[self.ids]
        self.is_call = catalog.is_call[self.ids]
        self.terms: Floats = np.full((_EXPIRY_ROWS, len(expiries)), np.nan)
        self.terms[E_AVERAGE], self.terms[E_FIXED] = 0.0, 0.0
        self.averaging: Averaging = NOT_AVERAGING
        self.params: Floats = np.zeros((0, 5))
        self.slice_rows: Ints = np.zeros((len(expiries), 2), dtype=np.int64)
        self.weights: Floats = np.full((len(expiries), 2), np.nan)
        self.version = -1
        self.aligned_ns = 0
        self.moved: Ints = np.empty(self.ids.size, dtype=np.int64)

    def attach(self, averaging: Averaging) -> None:
        """Put an average on the row of the expiry it settles and on no other: at 08:00 UTC the last
        word on today's average comes when tomorrow's expiry is the nearest."""
        self.averaging = averaging
        for e, expiry_ns in enumerate(self.expiries_ns):
            is_own = expiry_ns == averaging.expiry_ns
            if is_own or self.terms[E_FIXED, e] > 0.0:
                self.terms[E_VALUED, e] = STALE
            self.terms[E_AVERAGE, e] = averaging.average_usd if is_own else 0.0
            self.terms[E_FIXED, e] = averaging.fixed_share if is_own else 0.0


class TheoBoard:
    """Columns by instrument id. Greeks are per unit of amount (a coin; a USD for inverse futures).

    `price` is in the venue's price unit (coin for inverse options), `price_usd`, `gamma`, `vega`
    (per 1.00 of vol) and `theta` (per year) in USD; `delta` in coin by Black, `delta_adjusted` less
    the premium in coin for inverse options.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.columns: Floats = np.full((_ROWS, 0), np.nan)
        self._chains: dict[str, _Chain] = {}
        self.refreshed_ns: dict[str, int] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Grow to a larger catalogue; values of known instruments stay until the next refresh."""
        grown = np.full((_ROWS, len(catalog)), np.nan)
        grown[:, : self.columns.shape[1]] = self.columns
        self.columns = grown
        self.vol = grown[VOL]
        self.price = grown[PRICE]
        self.price_usd = grown[PRICE_USD]
        self.delta = grown[DELTA]
        self.delta_adjusted = grown[DELTA_ADJUSTED]
        self.gamma = grown[GAMMA]
        self.vega = grown[VEGA]
        self.theta = grown[THETA]
        self.forward = grown[FORWARD]
        self._tick = catalog.tick
        self._tick_above = catalog.tick_above
        self._tick_step = catalog.tick_step
        self._is_inverse = catalog.is_inverse
        self._chains = {name: _Chain(catalog, name) for name in catalog.underlyings}

    def refresh(
        self,
        underlying: str,
        forwards: Floats,
        calibration: Calibration | None,
        now_ns: Ns,
        averaging: Averaging = NOT_AVERAGING,
    ) -> Ints:
        """Revalue what moved; returns the option ids whose price moved enough to look at quotes.

        forwards: one per expiry of the underlying in catalogue order, NaN where there is none.
        averaging: the settlement average that is being taken, if one is; it touches its own expiry.
        """
        chain = self._chains[underlying]
        assert forwards.size == len(chain.expiries_ns), (underlying, forwards.size)
        if calibration is None:
            return np.empty(0, dtype=np.int64)
        is_due = now_ns - chain.aligned_ns >= ALIGN_INTERVAL_NS
        if calibration.version != chain.version or is_due:
            self._align(chain, calibration, now_ns)
        chain.terms[E_FORWARD] = forwards
        if averaging is not chain.averaging:
            chain.attach(averaging)
        count = _refresh_into(
            chain.starts,
            chain.ids,
            chain.strike,
            chain.is_call,
            chain.terms,
            chain.params,
            chain.slice_rows,
            chain.weights,
            self._is_inverse,
            self._tick,
            self._tick_above,
            self._tick_step,
            self.columns,
            chain.moved,
        )
        self.refreshed_ns[underlying] = now_ns
        return chain.moved[:count].copy()

    def set_linear(self, instrument_id: int, price: float) -> None:
        """Value of a perpetual or future, USD: its delta is a coin a coin, 1/price a USD."""
        column = self.columns[:, instrument_id]
        is_inverse = bool(self._is_inverse[instrument_id])
        column[PRICE] = column[PRICE_USD] = column[FORWARD] = price
        column[DELTA] = column[DELTA_ADJUSTED] = 1.0 / price if is_inverse else 1.0
        column[GAMMA] = column[VEGA] = column[THETA] = 0.0

    def is_valued(self, underlying: str) -> bool:
        """Whether a calibration was ever applied to this underlying."""
        return self._chains[underlying].version >= 0

    def digest(self) -> bytes:
        """16 bytes over all columns and alignments, equal for equal histories."""
        state = blake2b(self.columns.tobytes(), digest_size=16)
        for name, chain in self._chains.items():
            state.update(f"{name} {chain.version} {chain.aligned_ns}".encode())
            state.update(chain.terms.tobytes())
        return state.digest()

    def _align(self, chain: _Chain, calibration: Calibration, now_ns: Ns) -> None:
        aligned = align(calibration.surface, chain.expiries_ns, now_ns, calibration.clock)
        chain.params = aligned.params
        chain.slice_rows = aligned.rows
        chain.weights = aligned.weights
        terms = chain.terms
        terms[E_FORWARD_FIT] = aligned.forward_fit
        terms[E_TTE] = [tte_years(now_ns, expiry_ns) for expiry_ns in chain.expiries_ns]
        terms[E_SSR] = calibration.ssr
        terms[E_BUMP_VOL] = calibration.bumps.vol
        terms[E_BUMP_SKEW] = calibration.bumps.skew
        terms[E_BUMP_WING] = calibration.bumps.wing
        terms[E_VALUED] = STALE
        chain.version = calibration.version
        chain.aligned_ns = now_ns


@kernel
def _refresh_into(
    starts: Ints,
    ids: Ints,
    strike: Floats,
    is_call: Bools,
    terms: Floats,
    params: Floats,
    slice_rows: Ints,
    weights: Floats,
    is_inverse: Bools,
    tick: Floats,
    tick_above: Ints,
    tick_step: Ints,
    columns: Floats,
    moved: Ints,
) -> int:
    """Revalue expiries whose forward left the last valued one; returns how many ids are in moved.

    STALE in E_VALUED always revalues; a NaN forward makes the expiry's values NaN, once.
    """
    count = 0
    for e in range(starts.size - 1):
        forward = terms[E_FORWARD, e]
        valued = terms[E_VALUED, e]
        if abs(forward - valued) <= FORWARD_MOVE_MIN * valued:
            continue
        if math.isnan(forward) and math.isnan(valued):
            continue
        begin, end = starts[e], starts[e + 1]
        n = end - begin
        average, fixed = terms[E_AVERAGE, e], terms[E_FIXED, e]
        settled = fixed * average + (1.0 - fixed) * forward if fixed > 0.0 else forward
        vols = np.empty(n)
        chain_vols_into(
            params,
            slice_rows[e : e + 1],
            weights[e : e + 1],
            terms[E_FORWARD_FIT, e : e + 1],
            np.full(1, settled),
            terms[E_TTE, e : e + 1],
            terms[E_SSR, e : e + 1],
            terms[E_BUMP_VOL, e : e + 1],
            terms[E_BUMP_SKEW, e : e + 1],
            terms[E_BUMP_WING, e : e + 1],
            np.zeros(n, dtype=np.int64),
            strike[begin:end],
            vols,
        )
        values = np.empty((VALUE_ROWS, n))
        value_into(
            np.full(n, forward),
            strike[begin:end],
            np.full(n, terms[E_TTE, e]),
            vols,
            is_call[begin:end],
            is_inverse[ids[begin:end]],
            np.full(n, average),
            np.full(n, fixed),
            values,
        )
        terms[E_VALUED, e] = forward
        count = _publish_into(
            ids[begin:end],
            vols,
            values,
            forward,
            tick,
            tick_above,
            tick_step,
            columns,
            moved,
            count,
        )
    return count


@kernel
def _publish_into(
    ids: Ints,
    vols: Floats,
    values: Floats,
    forward: float,
    tick: Floats,
    tick_above: Ints,
    tick_step: Ints,
    columns: Floats,
    moved: Ints,
    count: int,
) -> int:
    """Write one expiry's values to the board and append the ids that moved."""
    for j in range(ids.size):
        i = ids[j]
        price = values[0, j]
        columns[VOL, i] = vols[j]
        # Rows of the board follow those of the valuation.
        for row in range(VALUE_ROWS):
            columns[PRICE + row, i] = values[row, j]
        columns[FORWARD, i] = forward
        step = tick[i] * (tick_step[i] if price > tick_above[i] * tick[i] else 1)
        # Written so that appearing from or vanishing into NaN counts as a move.
        if not abs(price - columns[REPORTED, i]) <= MOVED_TICKS_MIN * step and not (
            math.isnan(price) and math.isnan(columns[REPORTED, i])
        ):
            columns[REPORTED, i] = price
            moved[count] = i
            count += 1
    return count
