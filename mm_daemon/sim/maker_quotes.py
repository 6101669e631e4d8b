"""What a competing maker would show: legal prices around its view of fair value, and which resting
ones it bothers to move.

Half-widths come from a table by tenor and moneyness, scaled by the maker and by the regime. Wings
are quoted ask-only where the fair value does not reach the maker's smallest bid, as recorded. Pure
kernels over columns in units of the fine tick.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from mm_daemon.sim.calibration import TENOR_NODES_DAYS
from mm_daemon.sim.option_math import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]

TICK_COIN: Final = 0.0001
COARSE_FROM: Final = 50
"""Above this many fine ticks (0.005 coin) prices are multiples of COARSE_STEP."""
COARSE_STEP: Final = 5
ROUNDING: Final = 1e-9

KEEP_SLACK_TICKS: Final = 0.3
"""A resting price stays while it is within this of what rounding would choose: no flicker at tick
borders.
"""

DELTA_NODES: Final = (0.0, 0.005, 0.03, 0.075, 0.175, 0.325, 0.45, 0.5)
"""Centres of the delta buckets, outermost first, with both ends pinned."""

NO_QUOTE: Final = 0

HALF_WIDTH_VP: Final = {
    "BTC": (
        (3.54, 4.34, 2.89, 4.28, 1.59, 9.00),
        (2.09, 1.12, 1.83, 1.44, 2.41, 0.64),
        (1.25, 1.15, 1.28, 1.64, 1.19, 5.62),
        (0.79, 0.83, 0.66, 0.95, 0.90, 2.00),
        (0.67, 0.59, 0.27, 0.76, 1.08, 2.44),
        (0.38, 0.41, 0.38, 0.64, 0.75, 1.56),
        (0.35, 0.32, 0.33, 0.28, 0.31, 2.27),
        (0.23, 0.22, 0.23, 0.24, 0.41, 1.85),
        (0.17, 0.17, 0.18, 0.22, 0.03, 1.87),
        (0.32, 0.32, 0.29, 0.45, 0.20, 2.20),
    ),
    "ETH": (
        (6.51, 4.35, 5.37, 4.46, 3.97, 9.00),
        (2.56, 1.42, 2.30, 2.71, 4.50, 3.11),
        (1.85, 1.31, 1.49, 2.19, 2.85, 5.57),
        (1.30, 1.21, 1.27, 1.43, 1.58, 2.06),
        (0.87, 0.70, 0.71, 1.14, 1.66, 3.41),
        (0.68, 0.53, 0.55, 0.78, 1.28, 1.95),
        (0.51, 0.43, 0.50, 0.57, 0.24, 4.07),
        (0.43, 0.46, 0.40, 0.62, 0.43, 2.99),
        (0.52, 0.44, 0.42, 0.62, 0.73, 1.25),
        (0.45, 0.51, 0.44, 0.53, 0.67, 3.00),
    ),
}
"""Half-widths by tenor bucket and delta bucket (as in the calibration, at the money first), vp;
fitted so that the best of all makers, after rounding to ticks, shows the calibrated spreads.
"""


def half_widths(table: FloatArray, tte_years: FloatArray, delta: FloatArray) -> FloatArray:
    """Half-width in vol of every option from `table` (tenor bucket, delta bucket) in vp, bilinear
    in (log tenor, |delta|).
    """
    out = np.empty(delta.size)
    nodes = np.array([math.log(days) for days in TENOR_NODES_DAYS])
    moneyness = np.array(DELTA_NODES)
    columns = np.concatenate([table[:, -1:], table[:, ::-1], table[:, :1]], axis=1)
    _bilinear(nodes, moneyness, columns, tte_years * 365.0, np.abs(delta), out)
    return out


@njit(cache=True, nogil=True)
def _locate(nodes: FloatArray, x: float) -> tuple[int, float]:
    if x <= nodes[0]:
        return 0, 0.0
    last = nodes.size - 1
    if x >= nodes[last]:
        return last - 1, 1.0
    i = 0
    while nodes[i + 1] < x:
        i += 1
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


@njit(cache=True, nogil=True)
def _bilinear(
    tenor_nodes: FloatArray,
    delta_nodes: FloatArray,
    table_vp: FloatArray,
    days: FloatArray,
    moneyness: FloatArray,
    out: FloatArray,
) -> None:
    for i in range(days.size):
        a, u = _locate(tenor_nodes, math.log(days[i]))
        b, v = _locate(delta_nodes, min(moneyness[i], 1.0 - moneyness[i]))
        low = table_vp[a, b] * (1.0 - v) + table_vp[a, b + 1] * v
        high = table_vp[a + 1, b] * (1.0 - v) + table_vp[a + 1, b + 1] * v
        out[i] = (low * (1.0 - u) + high * u) / 100.0


@njit(cache=True, nogil=True)
def legal_down(ticks: float) -> int:
    """The highest legal price at or below, in fine ticks; may be 0 or negative."""
    n = math.floor(ticks + ROUNDING)
    if n > COARSE_FROM:
        n -= n % COARSE_STEP
    return int(n)


@njit(cache=True, nogil=True)
def legal_up(ticks: float) -> int:
    """The lowest legal price at or above, in fine ticks."""
    n = math.ceil(ticks - ROUNDING)
    if n > COARSE_FROM and n % COARSE_STEP:
        n += COARSE_STEP - n % COARSE_STEP
    return int(n)


@njit(cache=True, nogil=True)
def quote_targets(
    price: FloatArray,
    vega: FloatArray,
    half_vol: FloatArray,
    shift_vol: FloatArray,
    bid_floor_ticks: FloatArray,
    shown: BoolArray,
    resting_bid: IntArray,
    resting_ask: IntArray,
    bid: IntArray,
    ask: IntArray,
    urgency: FloatArray,
) -> None:
    """Fills the prices to show (0: none) and how far, in local ticks, the resting ones are off (0:
    leave them).

    A resting price that is still within the slack is repeated in `bid` or `ask`, so that urgency 0
    means both stay.
    """
    for i in range(price.size):
        bid[i] = NO_QUOTE
        ask[i] = NO_QUOTE
        if shown[i]:
            fair = (price[i] + vega[i] * shift_vol[i]) / TICK_COIN
            half = vega[i] * half_vol[i] / TICK_COIN
            bid[i] = _keep_or_move(fair - half, resting_bid[i], True)
            if bid[i] < 1:
                bid[i] = 1 if fair >= bid_floor_ticks[i] else NO_QUOTE
            ask[i] = max(_keep_or_move(fair + half, resting_ask[i], False), 1)
            if bid[i] >= ask[i]:
                ask[i] = legal_up(bid[i] + 1.0)
        urgency[i] = _distance(bid[i], resting_bid[i]) + _distance(ask[i], resting_ask[i])


@njit(cache=True, nogil=True)
def _keep_or_move(wanted: float, resting: int, is_bid: bool) -> int:
    step = COARSE_STEP if max(wanted, resting) > COARSE_FROM else 1
    slack = KEEP_SLACK_TICKS * step
    if resting > 0:
        ahead = wanted - resting if is_bid else resting - wanted
        if -slack <= ahead <= step + slack:
            return resting
    return legal_down(wanted) if is_bid else legal_up(wanted)


@njit(cache=True, nogil=True)
def _distance(wanted: int, resting: int) -> float:
    if wanted == resting:
        return 0.0
    step = COARSE_STEP if max(wanted, resting) > COARSE_FROM else 1
    return max(abs(wanted - resting) / step, 1.0)
