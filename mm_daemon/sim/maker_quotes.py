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
        (2.60, 5.97, 1.50, 4.06, 1.17, 9.00),
        (1.14, 0.64, 1.49, 0.97, 3.45, 0.30),
        (0.65, 0.97, 0.93, 1.33, 1.70, 1.87),
        (0.68, 0.57, 0.57, 0.86, 0.78, 2.41),
        (0.55, 0.49, 0.18, 0.62, 1.23, 2.67),
        (0.25, 0.27, 0.26, 0.56, 0.88, 1.40),
        (0.28, 0.30, 0.27, 0.24, 0.14, 2.30),
        (0.23, 0.21, 0.17, 0.20, 0.37, 1.47),
        (0.16, 0.16, 0.18, 0.19, 0.02, 2.42),
        (0.30, 0.28, 0.25, 0.44, 0.18, 1.98),
    ),
    "ETH": (
        (5.03, 4.04, 3.30, 3.94, 5.05, 8.62),
        (1.63, 1.11, 1.74, 2.78, 4.60, 3.69),
        (1.71, 1.14, 1.12, 2.20, 1.90, 4.04),
        (0.94, 1.06, 1.07, 1.45, 1.66, 3.39),
        (0.81, 0.67, 0.66, 0.99, 1.81, 3.34),
        (0.48, 0.50, 0.49, 0.65, 1.19, 1.38),
        (0.49, 0.40, 0.40, 0.63, 0.06, 3.78),
        (0.43, 0.41, 0.34, 0.67, 0.29, 2.91),
        (0.49, 0.40, 0.39, 0.57, 0.75, 1.25),
        (0.42, 0.47, 0.40, 0.51, 0.64, 2.82),
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
    half_coin: FloatArray,
    shift_coin: FloatArray,
    bid_floor_ticks: FloatArray,
    shown: BoolArray,
    resting_bid: IntArray,
    resting_ask: IntArray,
    bid: IntArray,
    ask: IntArray,
    urgency: FloatArray,
) -> None:
    """Fills the prices to show (0: none) and how far, in local ticks, the resting ones are off.

    A resting price that is still within the slack is repeated in `bid` or `ask`, so that urgency 0
    means both stay.
    """
    for i in range(price.size):
        bid[i] = NO_QUOTE
        ask[i] = NO_QUOTE
        if shown[i]:
            fair = (price[i] + shift_coin[i]) / TICK_COIN
            half = half_coin[i] / TICK_COIN
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
