"""The truth of the simulated market at any moment: paths in chunks, chains of options, forwards,
and what was sampled of the delivery average.

Paths run on their own grid from the seed alone, so what is asked of the future is already decided;
`state` answers for any time within the horizon, and only the world decides who may ask for a time
ahead of now. Nothing here trades.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mm_daemon.sim.chain import Delivery, OptionChain, Slices, Valuation
from mm_daemon.sim.exchange_events import EstimatedDelivery
from mm_daemon.sim.maker_quotes import HALF_WIDTH_VP, half_widths
from mm_daemon.sim.option_math import FloatArray
from mm_daemon.sim.paths import (
    BASIS,
    DAY_S,
    FACTORS,
    LOG_SPOT,
    PREMIUM,
    PathGenerator,
    Regime,
    Shock,
)
from mm_daemon.sim.spec import E8, SECOND_US, InstrumentSpec
from mm_daemon.sim.streams import named_normals
from mm_daemon.sim.vol_surface import LEVEL_LOADING_VP, SmileTermStructure

STEP_US: Final = 50_000
CHUNK_STEPS: Final = 200
CHUNK_US: Final = STEP_US * CHUNK_STEPS
CHUNKS_KEPT_BEHIND: Final = 9
"""The slowest maker looks back over its latency and cadence; older chunks are forgotten."""
LOOK_AHEAD_US: Final = CHUNK_US

DEVIATION_SHARE: Final = 0.47
"""The market's view of a strike's volatility differs from the smooth smile by this share of its
half-width (sd).
"""

ScriptedShock = tuple[int, str, Shock]


class Market:
    """Paths and chains of all underlyings from one seed; times in us on the venue's clock.

    `regimes` and `shocks` come from the scenario: (from us, until us, regime), and (time us,
    underlying, shock).
    """

    __slots__ = ("_chunks", "_deliveries", "_first_us", "_generator", "_oldest", "_regimes",
                 "_seed", "_shocks", "_window_us", "chains", "names")  # fmt: skip

    def __init__(
        self,
        *,
        seed: int,
        names: tuple[str, ...],
        first_us: int,
        speed: float,
        window_us: int,
        activity: float,
        regimes: tuple[tuple[int, int, Regime], ...] = (),
        shocks: tuple[ScriptedShock, ...] = (),
    ) -> None:
        self.names = names
        self._seed = seed
        self._first_us = first_us
        self._window_us = window_us
        self._regimes = regimes
        self._shocks = shocks
        self._generator = PathGenerator(
            seed=seed,
            params={name: FACTORS[name] for name in names},
            step_days=STEP_US / SECOND_US * speed / DAY_S,
            activity_start=activity,
        )
        self._chunks: list[dict[str, FloatArray]] = []
        self._oldest = 0
        self.chains = {
            name: OptionChain(name, SmileTermStructure(name, level_scale=LEVEL_LOADING_VP[name]))
            for name in names
        }
        self._deliveries = dict.fromkeys(names, Delivery(window_us))

    def state(self, name: str, time_us: int) -> FloatArray:
        """The path's state at `time_us`, clamped to the oldest kept and to the first."""
        step = max(time_us - self._first_us, 0) // STEP_US
        chunk, row = divmod(step, CHUNK_STEPS)
        while chunk >= self._oldest + len(self._chunks):
            self._extend()
        if chunk < self._oldest:
            chunk, row = self._oldest, 0
        path = self._chunks[chunk - self._oldest][name]
        found: FloatArray = path[row]
        return found

    def spot(self, name: str, time_us: int) -> float:
        return math.exp(self.state(name, time_us)[LOG_SPOT])

    def perpetual(self, name: str, time_us: int) -> float:
        """The perpetual's fair price."""
        state = self.state(name, time_us)
        return math.exp(state[LOG_SPOT]) * (1.0 + float(state[PREMIUM]))

    def slices(self, name: str, seen_us: int, now_us: int) -> Slices:
        """Forwards and smiles by the state seen at `seen_us`, for the time left at `now_us`."""
        chain = self.chains[name]
        return chain.slices(self.state(name, seen_us), now_us, self._deliveries[name])

    def value(self, name: str, seen_us: int, now_us: int, *, as_market: bool) -> Valuation:
        """The chain by the state seen at `seen_us`, for the time left at `now_us`."""
        chain = self.chains[name]
        state = self.state(name, seen_us)
        return chain.value(state, now_us, self._deliveries[name], as_market=as_market)

    def value_after(self, name: str, now_us: int, ahead_us: int, *, sees_spot: bool) -> Valuation:
        """The chain as it will be worth `ahead_us` from now: only for those entitled to the future.

        Without `sees_spot` the spot stays as it is and only the surface is the future's.
        """
        future = self.state(name, now_us + ahead_us).copy()
        if not sees_spot:
            present = self.state(name, now_us)
            future[LOG_SPOT], future[BASIS] = present[LOG_SPOT], present[BASIS]
        chain = self.chains[name]
        return chain.value(future, now_us, self._deliveries[name], as_market=True)

    def widths(self, name: str, view: Valuation) -> FloatArray:
        """The calibrated half-widths of the chain, in vol."""
        tte = view.slices.tte_years[self.chains[name].expiry]
        return half_widths(np.array(HALF_WIDTH_VP[name]), tte, view.delta)

    def note_delivery(self, name: str, estimate: EstimatedDelivery) -> None:
        """Takes over how far the venue's delivery average has come."""
        total, left = estimate.total_ticks, estimate.left_ticks
        index = self.spot(name, estimate.ts_us)
        taken = total - left
        if not estimate.is_estimated or left == 0 or taken <= 0:
            self._deliveries[name] = Delivery(self._window_us)
            return
        average = (estimate.price_e8 / E8 * total - left * index) / taken
        self._deliveries[name] = Delivery(self._window_us, average, left / total)

    def list_options(self, name: str, specs: list[InstrumentSpec], now_us: int) -> None:
        """Adds options; each (expiry, strike) gets the market's own view, shared by its call and
        put.
        """
        chain = self.chains[name]
        chain.add(specs, {_strike_key(spec): 0.0 for spec in specs})
        value = self.value(name, now_us, now_us, as_market=False)
        widths = self.widths(name, value)
        views: dict[tuple[int, float], float] = {}
        for spec in specs:
            key = _strike_key(spec)
            row = chain.row[spec.name]
            if key not in views:
                (draw,) = named_normals(self._seed, f"deviation/{name}/{key[0]}/{key[1]}", 1)
                views[key] = DEVIATION_SHARE * widths[row] * draw
            chain.deviation[row] = views[key]

    def _extend(self) -> None:
        number = self._oldest + len(self._chunks)
        start_us = self._first_us + number * CHUNK_US
        regime = Regime()
        for from_us, until_us, given in self._regimes:
            if from_us <= start_us < until_us:
                regime = given
        shocks: dict[str, list[Shock]] = {}
        for at_us, name, shock in self._shocks:
            step, inside = (at_us - start_us) // STEP_US, start_us <= at_us < start_us + CHUNK_US
            if inside:
                placed = Shock(step, shock.log_return, shock.level, shock.skew)
                shocks.setdefault(name, []).append(placed)
        self._chunks.append(self._generator.extend(CHUNK_STEPS, regime=regime, shocks=shocks))
        if len(self._chunks) > CHUNKS_KEPT_BEHIND + 2:
            del self._chunks[0]
            self._oldest += 1


def _strike_key(spec: InstrumentSpec) -> tuple[int, float]:
    return spec.expiry_us, (spec.strike_e8 or 0) / E8
