"""One underlying's options as columns, valued together: the world's truth at one state of the path.

Makers value the chain at the state they last saw, the venue marks it at the newest one, early
takers at one still to come: the columns are shared, the valuation is not. Expiries in their
averaging window are valued on the average that has built up. Prices here are true values in coin;
nobody's quote, tick or edge is known here.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.sim.option_math import YEAR_US, BoolArray, FloatArray, chain_prices
from mm_daemon.sim.paths import BASIS, LEVEL, LOG_SPOT, SKEW, SLOPE
from mm_daemon.sim.spec import E8, SECOND_US, InstrumentSpec, OptionType
from mm_daemon.sim.vol_surface import SmileTermStructure, chain_vols

IntArray = npt.NDArray[np.int64]

BASIS_NODES_YEARS: Final = (0.0, 0.02, 0.13, 0.33, 1.0)
BASIS_PER_YEAR: Final = {
    "BTC": (0.010, 0.018, 0.025, 0.036, 0.042),
    "ETH": (0.010, 0.022, 0.031, 0.033, 0.035),
}
"""Annual basis of the forward curve at the node tenors, before its factor moves it."""

VARIANCE_TIME_MIN_US: Final = SECOND_US
WINDOW_VARIANCE_SHARE: Final = 2.0 / 3.0
"""An average over a window ending at expiry has this share of the window less variance time."""


class Delivery(msgspec.Struct, frozen=True):
    """What is known of the delivery average of the expiry that is being averaged.

    `open_share` is the part of its samples still to be taken, 1.0 outside a window; `average` is
    the mean of those taken.
    """

    window_us: int
    average: float = math.nan
    open_share: float = 1.0


class Slices(msgspec.Struct, frozen=True):
    """Every listed expiry at one state: columns by slice number."""

    forward: FloatArray
    tte_years: FloatArray
    atm: FloatArray
    tilt: FloatArray
    curl: FloatArray
    bend: FloatArray


class Valuation(msgspec.Struct, frozen=True):
    """Every option at one state: by row of the chain. `price` and `vega` in coin, vega per 1.00 of
    vol.
    """

    slices: Slices
    vol: FloatArray
    price: FloatArray
    delta: FloatArray
    vega: FloatArray


class OptionChain:
    """The columns; rows are added by listing and dropped at expiry, and `version` counts both."""

    __slots__ = ("_surface", "deviation", "expiries_us", "expiry", "is_call", "names", "row",
                 "strike", "underlying", "version")  # fmt: skip

    def __init__(self, underlying: str, surface: SmileTermStructure) -> None:
        self.underlying = underlying
        self._surface = surface
        self.names: list[str] = []
        self.row: dict[str, int] = {}
        self.expiries_us: IntArray = np.empty(0, dtype=np.int64)
        self.expiry: IntArray = np.empty(0, dtype=np.int64)
        self.strike: FloatArray = np.empty(0)
        self.is_call: BoolArray = np.empty(0, dtype=np.bool_)
        self.deviation: FloatArray = np.empty(0)
        self.version = 0

    def add(self, specs: list[InstrumentSpec], deviations: dict[tuple[int, float], float]) -> None:
        """Appends options. `deviations` is the market's own view by (expiry, strike), vol over the
        smooth smile.
        """
        if not specs:
            return
        expiry_us = [int(self.expiries_us[e]) for e in self.expiry.tolist()]
        expiry_us += [spec.expiry_us for spec in specs]
        strikes = [(spec.strike_e8 or 0) / E8 for spec in specs]
        own = [deviations[(s.expiry_us, k)] for s, k in zip(specs, strikes, strict=True)]
        calls = [spec.option_type is OptionType.CALL for spec in specs]
        self.names += [spec.name for spec in specs]
        self.strike = np.concatenate([self.strike, np.array(strikes)])
        self.is_call = np.concatenate([self.is_call, np.array(calls, dtype=np.bool_)])
        self.deviation = np.concatenate([self.deviation, np.array(own)])
        self._index(np.array(expiry_us, dtype=np.int64))

    def drop_expired(self, now_us: int) -> list[int]:
        """Removes rows at or past expiry; returns the rows kept, in order, for who holds columns
        beside these.
        """
        expiry_us = self.expiries_us[self.expiry]
        kept = np.flatnonzero(expiry_us > now_us)
        if kept.size < expiry_us.size:
            self.names = [self.names[i] for i in kept.tolist()]
            self.strike = self.strike[kept]
            self.is_call = self.is_call[kept]
            self.deviation = self.deviation[kept]
            self._index(expiry_us[kept])
        return [int(i) for i in kept]

    def _index(self, expiry_us: IntArray) -> None:
        self.expiries_us, self.expiry = np.unique(expiry_us, return_inverse=True)
        self.row = {name: i for i, name in enumerate(self.names)}
        self.version += 1

    def slices(self, state: FloatArray, now_us: int, delivery: Delivery) -> Slices:
        """Forwards and smiles of all expiries; `now_us` before the first expiry."""
        spot = math.exp(state[LOG_SPOT])
        left_us = np.maximum(self.expiries_us - now_us, VARIANCE_TIME_MIN_US)
        tte = left_us / YEAR_US
        atm, tilt, curl, bend = self._surface.smiles(tte, state[LEVEL], state[SLOPE], state[SKEW])
        annual = np.interp(tte, BASIS_NODES_YEARS, BASIS_PER_YEAR[self.underlying]) + state[BASIS]
        forward = np.array([spot * math.exp(x) for x in (annual * tte).tolist()])
        for e, left in enumerate(left_us.tolist()):
            atm[e] *= math.sqrt(_variance_time_us(left, delivery.window_us) / left)
            if left < delivery.window_us and delivery.open_share < 1.0:
                fixed = 1.0 - delivery.open_share
                forward[e] = fixed * delivery.average + delivery.open_share * forward[e]
        return Slices(forward, tte, atm, tilt, curl, bend)

    def value(
        self, state: FloatArray, now_us: int, delivery: Delivery, *, as_market: bool
    ) -> Valuation:
        """All options at `state`; with the market's deviations from the smooth surface if
        `as_market`.
        """
        slices = self.slices(state, now_us, delivery)
        size = self.strike.size
        vol = np.empty(size)
        chain_vols(
            self.expiry, self.strike, slices.forward, slices.tte_years,
            slices.atm, slices.tilt, slices.curl, slices.bend, vol,
        )  # fmt: skip
        if as_market:
            vol += self.deviation
        price, delta, vega = np.empty(size), np.empty(size), np.empty(size)
        chain_prices(
            slices.forward[self.expiry], self.strike, slices.tte_years[self.expiry],
            vol, self.is_call, price, delta, vega,
        )  # fmt: skip
        return Valuation(slices, vol, price, delta, vega)


def _variance_time_us(left_us: int, window_us: int) -> float:
    """The time whose variance the delivery price still has, before or inside its window."""
    if left_us >= window_us:
        return max(left_us - WINDOW_VARIANCE_SHARE * window_us, float(VARIANCE_TIME_MIN_US))
    share = left_us / window_us
    return max(share * share * left_us / 3.0, 1.0)
