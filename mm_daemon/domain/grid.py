"""The price grid: side-aware rounding between prices and legal ticks, in one place.

A price is an integer count of the instrument's finest tick. Above a threshold only multiples of a
coarser step are legal
(Deribit: 0.0001 up to 0.005, multiples of 0.0005 strictly above it). The two functions on plain
integers are also compiled
by the quoting kernel, so that the hot path and the rest of the house share one rule.
"""

from __future__ import annotations

import math

import msgspec

from mm_daemon.domain.units import Ticks

E9 = 1_000_000_000


def floor_legal(ticks: int, above: int, step: int) -> int:
    """The highest legal tick not above `ticks`, with one coarser `step` strictly above `above`."""
    if ticks <= above:
        return ticks
    return ticks - ticks % step


def ceil_legal(ticks: int, above: int, step: int) -> int:
    """The lowest legal tick not below `ticks`."""
    if ticks <= above:
        return ticks
    remainder = ticks % step
    return ticks if remainder == 0 else ticks + step - remainder


class TickGrid(msgspec.Struct, frozen=True):
    """Legal prices of one instrument: the finest tick, in 1e-9 of the price unit, and at most one
    coarser step."""

    tick_e9: int
    above: int
    """Prices strictly above this many ticks must be multiples of `step`."""
    step: int
    """In ticks; 1 where the instrument has one tick size throughout."""

    def price(self, ticks: int) -> float:
        """The float nearest to the exact decimal price, so that JSON prints it clean."""
        return ticks * self.tick_e9 / E9

    def nearest(self, price: float) -> Ticks:
        """The tick count of a price that is already on the fine grid."""
        return Ticks(round(price * E9 / self.tick_e9))

    def floor(self, price: float) -> Ticks:
        """The highest legal price at or below `price`: where a bid may stand. May be 0 or less: no
        legal bid."""
        return Ticks(
            floor_legal(math.floor(price * E9 / self.tick_e9 + 1e-9), self.above, self.step)
        )

    def ceil(self, price: float) -> Ticks:
        """The lowest legal price at or above `price`: where an ask may stand."""
        return Ticks(ceil_legal(math.ceil(price * E9 / self.tick_e9 - 1e-9), self.above, self.step))

    def is_legal(self, ticks: int) -> bool:
        return ticks > 0 and floor_legal(ticks, self.above, self.step) == ticks

    def is_on_grid(self, price: float) -> bool:
        """Whether a recorded price is a legal tick, to within a millionth of a tick."""
        ticks = self.nearest(price)
        return abs(price * E9 / self.tick_e9 - ticks) < 1e-6 and self.is_legal(ticks)

    def up(self, ticks: int) -> Ticks:
        """The next legal price above."""
        return Ticks(ceil_legal(ticks + 1, self.above, self.step))

    def down(self, ticks: int) -> Ticks:
        """The next legal price below; 0 or less means there is none."""
        return Ticks(floor_legal(ticks - 1, self.above, self.step))
