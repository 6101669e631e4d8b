"""One instrument while it is listed: its book, mark, quotes by owner, prints and funding.

Plain state that the exchange's functions work on, with the two readings that all of them share:
the price band and the price to value at.
"""

from collections import deque

import msgspec

from mm_daemon.sim.exchange_records import Mark
from mm_daemon.sim.exchange_types import Order, PublicTrade
from mm_daemon.sim.matching import Book
from mm_daemon.sim.spec import E8, InstrumentSpec, InstrumentState


class StatsBucket(msgspec.Struct, eq=False):
    """One hour of trading in one instrument."""

    start_us: int
    open_e8: int
    low_e8: int
    high_e8: int
    volume_e8: int
    volume_usd_e8: int


class Listed:
    """One instrument at run time: its book, mark, quotes by owner, prints and funding."""

    __slots__ = (
        "book",
        "delivery_price_e8",
        "funding_cum_e30",
        "funding_history",
        "funding_rate_e18",
        "funding_share_e30",
        "funding_us",
        "house",
        "last_price_e8",
        "mark",
        "open_interest_e8",
        "prints",
        "quotes",
        "settlement_price_e8",
        "spec",
        "state",
        "stats",
        "tick_direction",
        "trade_seq",
    )

    def __init__(self, spec: InstrumentSpec, prints_kept: int, now_us: int) -> None:
        self.spec = spec
        self.book = Book(spec.name)
        self.state = InstrumentState.OPEN
        self.mark: Mark | None = None
        self.quotes: dict[tuple[str, str, int], Order] = {}
        self.house: dict[str, list[Order | None]] = {}
        self.prints: deque[PublicTrade] = deque(maxlen=prints_kept)
        self.last_price_e8: int | None = None
        self.tick_direction = 0
        self.trade_seq = 0
        self.open_interest_e8 = 0
        self.settlement_price_e8: int | None = None
        self.delivery_price_e8: int | None = None
        self.funding_cum_e30 = 0
        self.funding_rate_e18 = 0
        self.funding_share_e30 = 0
        self.funding_us = now_us
        self.funding_history: deque[tuple[int, int]] = deque([(now_us, 0)])
        self.stats: deque[StatsBucket] = deque()

    def band_e8(self) -> tuple[int, int]:
        """(lowest, highest) allowed price at the current mark; (smallest tick, none) before."""
        spec = self.spec
        lowest = spec.tick_size_e8
        if self.mark is None:
            return lowest, 0
        mark_e8 = self.mark.mark_price_e8
        reach_e8 = max(mark_e8 * spec.band_ratio_e8 // E8, spec.band_abs_e8)
        low = max(lowest, mark_e8 - reach_e8)
        high = mark_e8 + reach_e8
        low_tick, high_tick = spec.tick_e8(low), spec.tick_e8(high)
        return -(-low // low_tick) * low_tick, high // high_tick * high_tick

    def mark_price_e8(self) -> int:
        """The published mark, or the last trade before there is one, or 0."""
        if self.mark is not None:
            return self.mark.mark_price_e8
        return self.last_price_e8 or 0
