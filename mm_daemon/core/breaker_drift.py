"""Whether our own fills walk a price: the rolling collar (C3).

A single order is held by its collar around theo; a theo that follows our own trades would carry the
collar along. So the prices at which one side of one option filled are laid out over a window, less
what its delta explains of each step, and the path that is left may not span more than the band.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from mm_daemon.domain.units import Ns, Side

FILLS_MAX = 4_096
"""Of one side of one option; beyond it the oldest are forgotten."""
PATHS_MAX = 4_096


class FillPoint(msgspec.Struct, frozen=True):
    """One fill. Price, tick and `price_per_forward` are in the price unit of the option."""

    price: float
    tick: float
    forward: float
    price_per_forward: float
    """Change of the option's price for a change of its forward by 1; NaN where unknown."""


class _Path(msgspec.Struct):
    """Of one side of one option: the last fill, and the unexplained price at each."""

    last: FillPoint
    points: deque[tuple[int, float]]


class DriftWindow:
    """Own fill prices of one underlying over the window."""

    def __init__(self, window_ns: int, ratio_max: float, ticks_max: int) -> None:
        self._window_ns = window_ns
        self._ratio_max = ratio_max
        self._ticks_max = ticks_max
        self._paths: dict[tuple[int, int], _Path] = {}

    def add(self, instrument_id: int, side: Side, fill: FillPoint, now_ns: Ns) -> None:
        key = (instrument_id, int(side))
        path = self._paths.get(key)
        if path is None:
            path = _Path(fill, deque(maxlen=FILLS_MAX))
            self._paths[key] = path
            path.points.append((now_ns, fill.price))
            if len(self._paths) > PATHS_MAX:
                del self._paths[next(iter(self._paths))]
            return
        at = path.points[-1][1] + fill.price - path.last.price - _explained(path.last, fill)
        path.points.append((now_ns, at))
        path.last = fill

    def drift(self, now_ns: Ns) -> float:
        """The widest span of any path in the window, over its band; 0 without fills, NaN where one
        had no price."""
        worst = 0.0
        for key, path in list(self._paths.items()):
            points = path.points
            while points and points[0][0] <= now_ns - self._window_ns:
                points.popleft()
            if not points:
                del self._paths[key]
                continue
            span = max(at for _, at in points) - min(at for _, at in points)
            band = self._ratio_max * path.last.price + self._ticks_max * path.last.tick
            share = span / band if band > 0.0 else math.nan
            if math.isnan(share):
                return share
            worst = max(worst, share)
        return worst

    def clear(self) -> None:
        """A person has looked: what was before no longer counts."""
        self._paths.clear()

    def words(self) -> list[object]:
        return [
            (key, msgspec.structs.astuple(path.last), list(path.points))
            for key, path in self._paths.items()
        ]


def _explained(before: FillPoint, after: FillPoint) -> float:
    """What the forward's move makes of the price, by the mean of both deltas, which takes gamma in;
    0 where unknown, so that the whole step counts."""
    slope = 0.5 * (before.price_per_forward + after.price_per_forward)
    move = slope * (after.forward - before.forward)
    return move if math.isfinite(move) else 0.0
