"""What the fill and spread models see: one row per option and side, built by one kernel.

Every feature is signed so that it means the same for a bid and an ask (positive is good for the
fill or for the edge of that side), so one model serves both. The layout has a hash; a model states
the hash it was trained on, and training reads the very rows that were asked of the models live.

The distance of a price is no feature: it enters the intensity by formula, so that intensities stay
monotone in price whatever a model says.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.market import FLOW_HALF_LIFE_S, Market
from mm_daemon.core.quote_kernel import HALF_SPREAD_STEPS_MAX, HALF_SPREAD_VOL_MAX
from mm_daemon.core.theo import DELTA, FORWARD, PRICE, VEGA, VOL, TheoBoard
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, NS_PER_YEAR, Ns
from mm_daemon.pricing.arrays import kernel

FEATURES = (
    "delta_otm",
    "is_call",
    "is_in_the_money",
    "ln_days",
    "vol",
    "ln_half_spread_steps",
    "ln_half_spread_vol_points",
    "is_one_sided",
    "imbalance_toward",
    "theo_toward_half_spreads",
    "flow_toward",
    "drift_toward_half_spreads",
    "ln_realised_over_implied",
    "ln_touch_amount",
    "ln_book_age_s",
)
"""Names in column order. `toward`: positive when the market leans to this side being right."""
LAYOUT_VERSION = 1
LAYOUT_HASH = blake2b(
    f"{LAYOUT_VERSION}:{','.join(FEATURES)}:float32".encode(), digest_size=16
).hexdigest()

Rows = npt.NDArray[np.float32]

DRIFT_HALF_LIFE_S = 5.0
VARIANCE_HALF_LIFE_S = 300.0
_CLIP = 5.0
_FLOW_RATE_PER_S = math.log(2.0) / FLOW_HALF_LIFE_S
_VARIANCE_FLOOR = 1e-6
"""Annual variance of a perpetual that did not trade: a vol of one tenth of a percent."""


class FeatureBoard:
    """Running state of the features (drift, realised variance) and the builder of rows."""

    def __init__(self, catalog: Catalog) -> None:
        self._drift: dict[str, float] = {}
        self._last: dict[str, tuple[int, float]] = {}
        self._variance: dict[str, float] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Take up a larger catalogue; running state is per underlying and stays."""
        self._tick = catalog.tick
        self._tick_above = catalog.tick_above
        self._tick_step = catalog.tick_step
        self._is_inverse = catalog.is_inverse
        self._is_call = catalog.is_call
        self._expiry_ns = catalog.expiry_ns

    def observe(self, underlying: str, perpetual: float, now_ns: Ns) -> None:
        """Take one price of the perpetual; NaN is no observation."""
        if not perpetual > 0.0:
            return
        last = self._last.get(underlying)
        self._last[underlying] = (now_ns, perpetual)
        if last is None:
            return
        elapsed_ns = now_ns - last[0]
        move = math.log(perpetual / last[1])
        keep = math.pow(0.5, elapsed_ns / (DRIFT_HALF_LIFE_S * NS_PER_S))
        self._drift[underlying] = keep * self._drift.get(underlying, 0.0) + move
        rate = math.log(2.0) / (VARIANCE_HALF_LIFE_S * NS_PER_S) * NS_PER_YEAR
        keep = math.pow(0.5, elapsed_ns / (VARIANCE_HALF_LIFE_S * NS_PER_S))
        before = self._variance.get(underlying, 0.0)
        self._variance[underlying] = keep * before + rate * move * move

    def realised_vol(self, underlying: str) -> float:
        """Annual vol of the perpetual over the last minutes, 0.0 before any move was seen."""
        return math.sqrt(self._variance.get(underlying, 0.0))

    def build(
        self, underlying: str, ids: Ints, market: Market, board: TheoBoard, now_ns: Ns
    ) -> Rows:
        """Rows (2 n, k): the bids of all ids, then the asks."""
        out = np.empty((2 * ids.size, len(FEATURES)), dtype=np.float32)
        variance = max(self._variance.get(underlying, 0.0), _VARIANCE_FLOOR)
        _build_into(
            ids,
            now_ns,
            self._drift.get(underlying, 0.0),
            variance,
            market.touch.ticks,
            market.touch.money,
            market.book_ts_recv_ns,
            market.flow_amount,
            market.flow_ts_ns,
            board.columns,
            self._tick,
            self._tick_above,
            self._tick_step,
            self._is_inverse,
            self._is_call,
            self._expiry_ns,
            out,
        )
        return out

    def digest(self) -> bytes:
        """16 bytes over the running state, equal for equal histories."""
        words = (self._drift, self._last, self._variance)
        return blake2b(repr(words).encode(), digest_size=16).digest()


@kernel
def clipped(value: float) -> float:
    """Within the range models are trained on; NaN becomes 0, which says nothing."""
    if math.isnan(value):
        return 0.0
    return min(max(value, -_CLIP), _CLIP)


@kernel
def _build_into(
    ids: Ints,
    now_ns: int,
    drift: float,
    variance: float,
    touch_ticks: Ints,
    touch_money: Floats,
    book_ts_ns: Ints,
    flow_amount: Floats,
    flow_ts_ns: Ints,
    board: Floats,
    tick: Floats,
    tick_above: Ints,
    tick_step: Ints,
    is_inverse: Bools,
    is_call: Bools,
    expiry_ns: Ints,
    out: Rows,
) -> None:
    """Write one row per id and side; what is unknown is 0."""
    n = ids.size
    for position in range(n):
        i = ids[position]
        theo, forward = board[PRICE, i], board[FORWARD, i]
        usd = forward if is_inverse[i] else 1.0
        vega = board[VEGA, i] / usd
        step = tick[i] * (tick_step[i] if theo > tick_above[i] * tick[i] else 1)
        bid, ask = touch_ticks[0, i], touch_ticks[1, i]
        half_max = max(HALF_SPREAD_STEPS_MAX * step, HALF_SPREAD_VOL_MAX * vega)
        half = 0.5 * (ask - bid) * tick[i] if bid > 0 and ask > 0 else half_max
        middle = 0.5 * (ask + bid) * tick[i] if bid > 0 and ask > 0 else theo
        half = min(max(half, 0.5 * tick[i]), half_max) if half_max > 0.0 else math.nan
        size = abs(board[DELTA, i])
        amounts = touch_money[0, i] + touch_money[1, i]
        imbalance = (touch_money[0, i] - touch_money[1, i]) / amounts if amounts > 0.0 else 0.0
        age_s = max(now_ns - flow_ts_ns[i], 0) / 1e9
        flow = flow_amount[i] * math.exp(-age_s * _FLOW_RATE_PER_S)
        days = max(expiry_ns[i] - now_ns, 0) / NS_PER_DAY
        for side in range(2):
            sign = 1.0 - 2.0 * side
            row = out[position + side * n]
            row[0] = clipped(min(size, 1.0 - size))
            row[1] = 1.0 if is_call[i] else 0.0
            row[2] = 1.0 if size > 0.5 else 0.0
            row[3] = clipped(math.log(max(days, 0.01)))
            row[4] = clipped(board[VOL, i])
            row[5] = clipped(math.log(half / step))
            row[6] = clipped(math.log(max(100.0 * half / vega, 0.01)) if vega > 0.0 else 0.0)
            row[7] = 1.0 if bid == 0 or ask == 0 else 0.0
            row[8] = clipped(sign * imbalance)
            row[9] = clipped(sign * (theo - middle) / half)
            row[10] = clipped(sign * flow / (abs(flow) + 1.0))
            row[11] = clipped(sign * board[DELTA, i] * drift * forward / (usd * half))
            row[12] = clipped(0.5 * math.log(variance) - math.log(max(board[VOL, i], 0.01)))
            row[13] = clipped(math.log(0.1 + touch_money[side, i]))
            row[14] = clipped(math.log(0.1 + max(now_ns - book_ts_ns[i], 0) / 1e9))
