"""Watches a decision being replayed and turns what it sees into exposures and markouts.

Time is cut into short intervals. At the start of each, features and distances are frozen as they
are; prints and own fills until its end are the outcome. So nothing of an interval's own events is
in the features that are to foretell them, and a row is what a model would have been asked.

Two kinds of exposure. Own: a quote that rested, with the share of the queue that the quoter
reckons with. Virtual: the others' touch and the ticks behind it on every option, as an order at the
front of the queue there would have met them: a print at that price or beyond fills it. Virtual rows
stand at every option and level whatever our policy wanted, which keeps distance from being only a
shadow of our own skew; where our own quote stands in front of the touch they say nothing and are
left out. Draws come from the given generator alone.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.core.catalog import Catalog, Floats, Ints
from mm_daemon.core.features import FeatureBoard, Rows
from mm_daemon.core.intensity import activity
from mm_daemon.core.market import Market
from mm_daemon.core.quote_terms import LiveColumns
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.events import PublicTrade
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.params import IntensityParams
from mm_daemon.domain.units import COIN_SCALE, NS_PER_DAY, NS_PER_S, Ns, Side
from mm_daemon.research.datasets import (
    Exposures,
    Markouts,
    Recording,
    joined,
    no_exposures,
    no_markouts,
)
from mm_daemon.research.exposure_geometry import LEVELS, Geometry, geometry

DISTANCE_MIN, DISTANCE_MAX = -1.0, 10.0
"""Half-spreads; prices farther out are in options whose market says nothing about them."""
ADVERSE_MAX = 20.0
"""A markout counts at most this many half-spreads: one jump may not be the whole fit."""
_STALL_INTERVALS = 5


class Decision(Protocol):
    """What is read of the decision; `core.state.EngineState` is one."""

    catalog: Catalog
    market: Market
    theo: TheoBoard
    features: FeatureBoard

    def live(self) -> LiveColumns: ...


class SamplingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a session is sampled."""

    interval_s: float = 1.0
    """The pace at which live models are asked again."""
    horizon_s: float = 300.0
    """When a fill is judged."""
    virtual_pairs: int = 24
    """Option sides without a print kept of each interval and underlying, ..."""
    own_pairs: int = 12
    """... and own quotes without a fill."""


class _Interval:
    """One underlying from one sample to the next."""

    def __init__(self, underlying: str, ids: Ints, state: Decision, now_ns: Ns) -> None:
        self.underlying = underlying
        self.ids = ids
        self.start_ns = int(now_ns)
        self.rows: Rows = state.features.build(underlying, ids, state.market, state.theo, now_ns)
        self.place: Geometry = geometry(ids, state.catalog, state.market, state.theo, state.live())
        self.theo: Floats = state.theo.price[ids]
        self.forward: Floats = state.theo.forward[ids]
        self.delta: Floats = state.theo.delta[ids]
        self.first_ns: Ints = np.zeros((2, ids.size), dtype=np.int64)
        self.reach: Ints = np.zeros((2, ids.size), dtype=np.int64)
        """Farthest tick that prints of the interval reached on a side."""
        self.own_ns: Ints = np.zeros((2, ids.size), dtype=np.int64)

    def on_print(self, side: int, position: int, ticks: int, now_ns: Ns) -> None:
        """A taker traded against `side` (0 bids, 1 asks) at `ticks`."""
        if not self.first_ns[side, position]:
            self.first_ns[side, position], self.reach[side, position] = now_ns, ticks
        elif (ticks < self.reach[side, position]) == (side == 0):
            self.reach[side, position] = ticks

    def reached(self, side: int, position: int, ticks: int) -> bool:
        if not self.first_ns[side, position]:
            return False
        farthest = int(self.reach[side, position])
        return farthest <= ticks if side == 0 else farthest >= ticks


class _Due(msgspec.Struct, frozen=True):
    """A fill waiting for its horizon."""

    due_ns: int
    start_ns: int
    instrument_id: int
    sign: int
    row: Rows
    theo: float
    forward: float
    delta: float
    half: float
    is_own: bool
    analytic: float


class ExposureSampler:
    """Fed with samples, prints and own fills in order of time; `recording` at the end."""

    def __init__(
        self,
        intensity: dict[str, IntensityParams],
        settings: SamplingSettings,
        generator: np.random.Generator,
        session: str,
    ) -> None:
        self._intensity = intensity
        self._settings = settings
        self._generator = generator
        self._session = session
        self._open: dict[str, _Interval] = {}
        self._place_of: Ints = np.empty(0, dtype=np.int64)
        self._interval_of: list[_Interval | None] = []
        self._pending: deque[_Due] = deque()
        self._exposures: list[Exposures] = []
        self._markouts: list[Markouts] = []
        self._fills_seen: dict[tuple[int, str, str], None] = {}
        self._seconds = 0.0
        self._prints = 0
        self._own_fills = 0

    def sample(self, state: Decision, now_ns: Ns) -> None:
        """Close the running interval of every underlying and open the next one."""
        self._judge(state, now_ns)
        stall_ns = _STALL_INTERVALS * self._settings.interval_s * NS_PER_S
        for interval in self._open.values():
            if now_ns - interval.start_ns <= stall_ns:
                self._seconds += (now_ns - interval.start_ns) / NS_PER_S / len(self._open)
                self._close(interval, now_ns)
        catalog = state.catalog
        self._open = {}
        self._place_of = np.full(len(catalog), -1, dtype=np.int64)
        self._interval_of = [None] * len(catalog)
        for name in self._intensity:
            if not state.theo.is_valued(name):
                continue
            ids = catalog.option_ids(name)
            ids = ids[catalog.expiry_ns[ids] > now_ns]
            interval = _Interval(name, ids, state, now_ns)
            self._open[name] = interval
            self._place_of[ids] = np.arange(ids.size)
            for i in ids.tolist():
                self._interval_of[i] = interval

    def on_print(self, trade: PublicTrade, tick: float, now_ns: Ns) -> None:
        """A public trade; `tick` of its instrument. Blocks trade away from the book."""
        found = self._find(trade.instrument_id)
        if found is None or trade.is_block or not trade.price > 0.0:
            return
        interval, position = found
        self._prints += 1
        side = 0 if trade.side is Side.SELL else 1
        interval.on_print(side, position, round(trade.price / tick), now_ns)

    def on_own_fill(self, fill: FillEvidence, tick: float, now_ns: Ns) -> None:
        """A trade of ours; what comes twice, or was not passive, counts not."""
        key = (fill.instrument_id, fill.trade_id, fill.order_id)
        found = self._find(fill.instrument_id)
        if found is None or not fill.is_maker or key in self._fills_seen:
            return
        self._fills_seen[key] = None
        self._own_fills += 1
        interval, position = found
        side = 0 if fill.side is Side.BUY else 1
        if not interval.own_ns[side, position]:
            interval.own_ns[side, position] = now_ns
        interval.on_print(side, position, round(fill.price_e8 / COIN_SCALE / tick), now_ns)

    def recording(self) -> Recording:
        """Everything closed so far; fills short of their horizon are left out."""
        return Recording(
            exposures=joined([no_exposures(), *self._exposures]),
            markouts=joined([no_markouts(), *self._markouts]),
            horizon_s=self._settings.horizon_s,
            seconds=self._seconds,
            prints=self._prints,
            own_fills=self._own_fills,
            sessions=(self._session,),
        )

    def _find(self, instrument_id: int) -> tuple[_Interval, int] | None:
        if not 0 <= instrument_id < len(self._interval_of):
            return None
        interval = self._interval_of[instrument_id]
        if interval is None:
            return None
        return interval, int(self._place_of[instrument_id])

    def _close(self, interval: _Interval, now_ns: Ns) -> None:
        place = interval.place
        in_range = (place.level_distance >= DISTANCE_MIN) & (place.level_distance <= DISTANCE_MAX)
        usable = in_range[:, 0] & ~place.is_behind_own
        hit = usable & (interval.first_ns > 0)
        for pairs, weight in self._strata(usable, hit, self._settings.virtual_pairs):
            self._add_virtual(interval, pairs, weight, in_range, now_ns)
        own = (place.own_distance >= DISTANCE_MIN) & (place.own_distance <= DISTANCE_MAX)
        hit = own & (interval.own_ns > 0)
        for pairs, weight in self._strata(own, hit, self._settings.own_pairs):
            self._add_own(interval, pairs, weight, now_ns)
        self._expect(interval)

    def _strata(
        self, usable: npt.NDArray[np.bool_], hit: npt.NDArray[np.bool_], count: int
    ) -> list[tuple[list[tuple[int, int]], float]]:
        """Every (side, position) with an event at weight one, and a draw of those without."""
        with_event = [(int(s), int(p)) for s, p in np.argwhere(hit)]
        quiet = np.argwhere(usable & ~hit)
        if len(quiet) > count:
            drawn = np.sort(self._generator.choice(len(quiet), size=count, replace=False))
        else:
            drawn = np.arange(len(quiet))
        without = [(int(s), int(p)) for s, p in quiet[drawn]]
        return [(with_event, 1.0), (without, len(quiet) / max(len(without), 1))]

    def _add_virtual(
        self,
        interval: _Interval,
        pairs: list[tuple[int, int]],
        weight: float,
        in_range: npt.NDArray[np.bool_],
        now_ns: Ns,
    ) -> None:
        place = interval.place
        found = [
            (side, position, level)
            for side, position in pairs
            for level in range(LEVELS)
            if in_range[side, level, position]
        ]
        filled = [
            interval.reached(side, position, int(place.level_ticks[side, level, position]))
            for side, position, level in found
        ]
        until = [
            int(interval.first_ns[side, position]) if is_filled else int(now_ns)
            for (side, position, _), is_filled in zip(found, filled, strict=True)
        ]
        distance = [place.level_distance[side, level, position] for side, position, level in found]
        self._add(interval, [pair[:2] for pair in found], distance, filled, until, weight,
                  [0.0] * len(found), is_own=False)  # fmt: skip

    def _add_own(
        self, interval: _Interval, pairs: list[tuple[int, int]], weight: float, now_ns: Ns
    ) -> None:
        place = interval.place
        filled = [interval.own_ns[pair] > 0 for pair in pairs]
        until = [
            int(interval.own_ns[pair]) if is_filled else int(now_ns)
            for pair, is_filled in zip(pairs, filled, strict=True)
        ]
        ln_share = [math.log(place.own_share[pair]) for pair in pairs]
        distance = [place.own_distance[pair] for pair in pairs]
        self._add(interval, pairs, distance, filled, until, weight, ln_share, is_own=True)

    def _add(
        self,
        interval: _Interval,
        pairs: list[tuple[int, int]],
        distance: list[float],
        filled: list[bool],
        until: list[int],
        weight: float,
        ln_share: list[float],
        *,
        is_own: bool,
    ) -> None:
        count = len(pairs)
        if not count:
            return
        n = interval.ids.size
        params = self._intensity[interval.underlying]
        at_touch = [
            math.log(params.fills_per_day_atm * activity(float(interval.delta[position])))
            for _, position in pairs
        ]
        exposed_ns = np.array(until, dtype=np.int64) - interval.start_ns
        self._exposures.append(
            Exposures(
                rows=interval.rows[[position + side * n for side, position in pairs]],
                distance=np.array(distance, dtype=np.float64),
                days=np.maximum(exposed_ns, 1) / NS_PER_DAY,
                filled=np.array(filled, dtype=np.float64),
                weight=np.full(count, weight),
                ln_share=np.array(ln_share, dtype=np.float64),
                is_own=np.full(count, is_own),
                ts_ns=np.full(count, interval.start_ns, dtype=np.int64),
                session=np.zeros(count, dtype=np.int64),
                analytic_ln_a=np.array(at_touch) + params.k_per_half_spread,
                analytic_k=np.full(count, params.k_per_half_spread),
            )
        )

    def _expect(self, interval: _Interval) -> None:
        """Every side that traded is one fill to be judged at the horizon."""
        n = interval.ids.size
        params = self._intensity[interval.underlying]
        for s, p in np.argwhere(interval.first_ns > 0):
            side, position = int(s), int(p)
            half = float(interval.place.half[position])
            if not half > 0.0:
                continue
            horizon_ns = round(self._settings.horizon_s * NS_PER_S)
            self._pending.append(
                _Due(
                    due_ns=interval.start_ns + horizon_ns,
                    start_ns=interval.start_ns,
                    instrument_id=int(interval.ids[position]),
                    sign=1 - 2 * side,
                    row=interval.rows[position + side * n : position + side * n + 1],
                    theo=float(interval.theo[position]),
                    forward=float(interval.forward[position]),
                    delta=float(interval.delta[position]),
                    half=half,
                    is_own=bool(interval.own_ns[side, position]),
                    analytic=params.adverse_half_spread_ratio,
                )
            )

    def _judge(self, state: Decision, now_ns: Ns) -> None:
        """Mark out the fills whose horizon has come against the others' middle of now."""
        due: list[_Due] = []
        while self._pending and self._pending[0].due_ns <= now_ns:
            due.append(self._pending.popleft())
        if not due:
            return
        ids = np.array([one.instrument_id for one in due], dtype=np.int64)
        place = geometry(ids, state.catalog, state.market, state.theo, state.live())
        for position, one in enumerate(due):
            i = one.instrument_id
            adverse = _adverse(
                one,
                middle=float(place.middle[position]),
                forward=float(state.theo.forward[i]),
                is_inverse=bool(state.catalog.is_inverse[i]),
            )
            if math.isfinite(adverse):
                self._markouts.append(_as_markout(one, adverse))


def _adverse(one: _Due, *, middle: float, forward: float, is_inverse: bool) -> float:
    """Half-spreads that a fill lost against theo before it, its delta hedged in the forward.

    The change is taken in USD, where a hedged option has no first-order move, and brought back to
    price units at the forward of the fill.
    """
    then_usd = one.forward if is_inverse else 1.0
    now_usd = forward if is_inverse else 1.0
    change = middle * now_usd - one.theo * then_usd - one.delta * (forward - one.forward)
    adverse = -one.sign * change / then_usd / one.half
    return min(max(adverse, -ADVERSE_MAX), ADVERSE_MAX) if math.isfinite(adverse) else math.nan


def _as_markout(one: _Due, adverse: float) -> Markouts:
    return Markouts(
        rows=one.row,
        adverse=np.array([adverse]),
        is_own=np.array([one.is_own]),
        ts_ns=np.array([one.start_ns], dtype=np.int64),
        session=np.zeros(1, dtype=np.int64),
        analytic=np.array([one.analytic]),
    )
