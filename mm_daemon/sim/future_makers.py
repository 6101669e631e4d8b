"""Depth on perpetuals and dated futures: tight and deep, so that whoever makes options can hedge.

One quiet account a level, each a fixed distance from the fair price, re-marked on a short cadence
when the price has left its slack. Distances are in basis points of the price; sizes in USD, as the
venue counts inverse futures.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from mm_daemon.sim.makers import Venue
from mm_daemon.sim.spec import E8, NOT_TAKEN, InstrumentSpec


class Level(msgspec.Struct, frozen=True):
    """One account's quotes: half-distance from fair, and what it shows on a perpetual."""

    account: str
    half_bps: float
    size_usd: int


LEVELS: Final = (
    Level("futures-level-1", 0.15, 150_000),
    Level("futures-level-2", 0.5, 400_000),
    Level("futures-level-3", 1.2, 900_000),
    Level("futures-level-4", 3.0, 2_000_000),
    Level("futures-level-5", 8.0, 4_000_000),
)

DATED_HALF_BPS: Final = 0.8
DATED_BPS_PER_ROOT_YEAR: Final = 4.0
"""A dated future is wider than the perpetual by a constant and by the root of its tenor."""
DATED_LEVELS: Final = 3
DATED_SIZE_SHARE: Final = 0.35

KEEP_SHARE: Final = 0.5
"""A level stays while its distance is within this share of what it should be, or within a tick."""


class FutureMaker:
    """All levels of one future; remembers what each shows."""

    __slots__ = ("_levels", "_shown", "_size_share", "_spec", "_tick", "_widen")

    def __init__(self, spec: InstrumentSpec, tte_years: float) -> None:
        self._spec = spec
        self._tick = spec.tick_size_e8 / E8
        dated = not spec.is_perpetual
        self._widen = (
            DATED_HALF_BPS + DATED_BPS_PER_ROOT_YEAR * math.sqrt(tte_years) if dated else 0.0
        )
        self._size_share = DATED_SIZE_SHARE if dated else 1.0
        self._levels = LEVELS[:DATED_LEVELS] if dated else LEVELS
        self._shown: dict[str, tuple[int, int]] = {}

    @property
    def name(self) -> str:
        return self._spec.name

    def forget_quotes(self) -> None:
        """Every level is to be placed anew: one was hit."""
        self._shown.clear()

    def remark(self, venue: Venue, fair: float, now_us: int, *, width: float) -> None:
        """Moves the levels that the fair price has left; a bid never reaches the best ask.

        What a jump has left on the wrong side is pulled first, so that no level stands in the
        way of another.
        """
        wanted = []
        for level in self._levels:
            quote = self._wanted(level, fair, width)
            if quote is not None:
                wanted.append((level, *quote))
        for level, _, _ in wanted:
            bid, ask = self._shown.get(level.account, (0, 0))
            if ask and not bid * self._tick <= fair <= ask * self._tick:
                pulled = venue.maker_quote(level.account, self._spec.name, 0, 0, 0, 0, now_us)
                if pulled == NOT_TAKEN:
                    return
                del self._shown[level.account]
        for level, bid, ask in wanted:
            self._show(venue, level, bid, ask, now_us)

    def _wanted(self, level: Level, fair: float, width: float) -> tuple[int, int] | None:
        """(bid, ask) in ticks, or None while what it shows is near enough."""
        half = fair * (level.half_bps + self._widen) * width * 1e-4
        bid = math.floor((fair - half) / self._tick)
        ask = math.ceil((fair + half) / self._tick)
        shown = self._shown.get(level.account)
        slack = max(1, math.floor(KEEP_SHARE * half / self._tick))
        if shown and abs(shown[0] - bid) <= slack and abs(shown[1] - ask) <= slack:
            return None
        return bid, ask

    def _show(self, venue: Venue, level: Level, bid: int, ask: int, now_us: int) -> None:
        tick_e8 = self._spec.tick_size_e8
        best_bid, _, best_ask, _ = venue.best(self._spec.name)
        own = self._shown.get(level.account, (0, 0))
        if best_ask and bid * tick_e8 >= best_ask and best_ask != own[1] * tick_e8:
            bid = best_ask // tick_e8 - 1
        if best_bid and ask * tick_e8 <= best_bid and best_bid != own[0] * tick_e8:
            ask = best_bid // tick_e8 + 1
        lot = self._spec.min_trade_amount_e8
        amount = max(int(level.size_usd * self._size_share) * E8 // lot, 1) * lot
        traded = venue.maker_quote(
            level.account, self._spec.name, bid * tick_e8, amount, ask * tick_e8, amount, now_us
        )
        if traded != NOT_TAKEN:
            self._shown[level.account] = (bid, ask)
