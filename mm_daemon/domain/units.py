"""Units of the things we send and count, and the constants that convert them.

What is sent or counted is an integer (ticks, lots, nanoseconds, 1e-8 coin); what is estimated is a
float. The conversions
live here and in `grid`, nowhere else.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NewType

Ns = NewType("Ns", int)
"""Nanoseconds since the Unix epoch, on the daemon's own clock unless the name says `venue`."""
Ticks = NewType("Ticks", int)
"""Price in multiples of an instrument's finest tick."""
Lots = NewType("Lots", int)
"""Amount in multiples of an instrument's minimum amount; signed where it is a position."""
CoinE8 = NewType("CoinE8", int)
"""Money in 1e-8 of the settlement currency."""

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_S
NS_PER_YEAR: Final = 365 * NS_PER_DAY
"""Deribit's year: exactly 365 days (a year of 365.25 days is measurably wrong)."""
COIN_SCALE: Final = 100_000_000


class Side(IntEnum):
    """The direction of an order; its value is the sign of the position it makes."""

    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


def tte_years(now_ns: int, expiry_ns: int) -> float:
    """Time to expiry in years of 365 days, never negative."""
    return max(0, expiry_ns - now_ns) / NS_PER_YEAR


def to_coin_e8(amount: float) -> CoinE8:
    """The nearest multiple of 1e-8; exact for venue amounts below 9e7, which carry at most 8
    decimals."""
    return CoinE8(round(amount * COIN_SCALE))
