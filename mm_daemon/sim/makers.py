"""Competing market makers on the options: each sees the market late, re-marks at its own pace and
leans on its own inventory.

Adverse selection needs somebody who is late: between a move and a maker's new prices lies its
latency, and its budget of changes bounds what a burst can cost, so a hot minute leaves stale prices
behind for those who are early. Makers trade through the exchange like anybody; they know their
fills from their positions, and never see the path ahead.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.sim.chain import OptionChain, Valuation
from mm_daemon.sim.maker_quotes import (
    HALF_WIDTH_VP,
    NO_QUOTE,
    half_widths,
    legal_down,
    legal_up,
    quote_targets,
)
from mm_daemon.sim.option_math import FloatArray
from mm_daemon.sim.spec import E8, NOT_TAKEN, SECOND_US
from mm_daemon.sim.streams import named_normals

IntArray = npt.NDArray[np.int64]

TICK_E8: Final = 10_000
UNKNOWN: Final = -1
"""What a maker believes of its own quote after a trade in that book, or where the book took no
orders: look and replace."""

FLOOR_MEDIAN_TICKS: Final = 1.45
FLOOR_LOG_SD: Final = 0.18
FLOOR_OWN_LOG_SD: Final = 0.07
FLOOR_DAYS: Final = (0.5, 1.0, 2.0, 2.5)
FLOOR_MULTIPLE: Final = (1.4, 1.3, 1.35, 1.0)
"""A wing is bid for when it is worth about one and a half ticks, more in its last days, alike for
all makers.
"""

SIZE_DELTA: Final = (0.0, 0.03, 0.075, 0.175, 0.35, 0.5)
SIZE_LOTS: Final = {"BTC": (450.0, 260.0, 110.0, 50.0, 25.0, 20.0),
                    "ETH": (2_200.0, 1_400.0, 800.0, 420.0, 250.0, 220.0)}  # fmt: skip
SIZE_LOG_SD: Final = 0.6
LOT_E8: Final = {"BTC": 10_000_000, "ETH": 100_000_000}

HEDGE_COST: Final = 0.00008
"""Half of what a maker expects to pay to hedge one delta, as a share of the forward: keeps options
deep in the money, which have no vega, from being quoted without an edge."""

BATCH_GAP_US: Final = 20_000
BUDGET_GAP_US: Final = 250_000
"""When a maker goes on with misplaced quotes: after a full batch, after an empty budget."""

STOP_BEFORE_EXPIRY_US: Final = 60 * SECOND_US


class Venue(Protocol):
    """The part of the exchange that makers and takers use."""

    def maker_quote(
        self,
        account: str,
        instrument: str,
        bid_price_e8: int,
        bid_amount_e8: int,
        ask_price_e8: int,
        ask_amount_e8: int,
        now_us: int,
    ) -> int: ...

    def taker_trade(
        self,
        account: str,
        instrument: str,
        sign: int,
        amount_e8: int,
        limit_price_e8: int,
        now_us: int,
    ) -> int: ...

    def best(self, name: str) -> tuple[int, int, int, int]: ...


class MakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One maker's character; durations on the venue's clock at speed 1."""

    name: str
    latency_us: int
    cadence_us: int
    """Re-marks at least this often, and `latency_us` after a move of `trigger_bps`."""
    trigger_bps: float
    width: float
    """Multiple of the calibrated half-width."""
    moneyness_min: float
    """Smallest absolute delta (of the out-of-the-money twin) it quotes."""
    view_noise: float
    """Its own opinion of each option, sd as a share of the half-width."""
    size: float
    vega_limit: float
    """Net vega in one expiry, coin per 1.00 of vol a contract of one coin, at which it leans a
    whole half-width.
    """
    changes_per_s: float
    """Sustained bound of quote updates over all books; `changes_burst` at once."""
    changes_burst: int
    pull_bps: float
    """A move of this size within a second makes it pull its near-the-money quotes for `pull_us`."""
    pull_us: int


MAKERS: Final = (
    MakerConfig(
        name="maker-fast", latency_us=50_000, cadence_us=SECOND_US, trigger_bps=1.5,
        width=1.10, moneyness_min=0.05, view_noise=0.15, size=0.6, vega_limit=20.0,
        changes_per_s=300.0, changes_burst=300, pull_bps=20.0, pull_us=2 * SECOND_US,
    ),
    MakerConfig(
        name="maker-main", latency_us=300_000, cadence_us=SECOND_US, trigger_bps=2.5,
        width=1.0, moneyness_min=0.0, view_noise=0.2, size=1.0, vega_limit=40.0,
        changes_per_s=300.0, changes_burst=300, pull_bps=40.0, pull_us=SECOND_US,
    ),
    MakerConfig(
        name="maker-slow", latency_us=2 * SECOND_US, cadence_us=4 * SECOND_US, trigger_bps=5.0,
        width=1.1, moneyness_min=0.0, view_noise=0.25, size=1.0, vega_limit=60.0,
        changes_per_s=200.0, changes_burst=300, pull_bps=80.0, pull_us=SECOND_US,
    ),
    MakerConfig(
        name="maker-stale", latency_us=20 * SECOND_US, cadence_us=15 * SECOND_US, trigger_bps=8.0,
        width=1.5, moneyness_min=0.02, view_noise=0.3, size=2.0, vega_limit=120.0,
        changes_per_s=100.0, changes_burst=200, pull_bps=1e9, pull_us=0,
    ),
)  # fmt: skip
"""Re-mark latencies of 50 ms, 300 ms, 2 s and 20 s; together at most 900 quote updates a second."""


class Budget:
    """A bucket of quote updates that refills with time: the stated cap on what a burst can cost."""

    __slots__ = ("_at_us", "_burst", "_left", "_per_s")

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._at_us = 0

    def available(self, now_us: int) -> int:
        if self._at_us:
            gained = (now_us - self._at_us) * self._per_s / SECOND_US
            self._left = min(self._left + gained, float(self._burst))
        self._at_us = now_us
        return int(self._left)

    def take(self, count: int) -> None:
        self._left -= count
        assert self._left >= 0.0, f"quote budget overdrawn by {-self._left}"


class OptionMaker:
    """One maker on one underlying's options: columns beside the chain's rows, and its quotes in the
    books.
    """

    def __init__(self, config: MakerConfig, chain: OptionChain, seed: int) -> None:
        self.config = config
        self.chain = chain
        self._table = np.array(HALF_WIDTH_VP[chain.underlying])
        self._seed = seed
        self._budget = Budget(per_s=config.changes_per_s / 2, burst=config.changes_burst // 2)
        self._noise = np.empty(0)
        self._floor = np.empty(0)
        self._size = np.empty(0)
        self._position_e8: IntArray = np.empty(0, dtype=np.int64)
        self._bid: IntArray = np.empty(0, dtype=np.int64)
        self._ask: IntArray = np.empty(0, dtype=np.int64)
        self._pulled_until_us = 0

    def rows_added(self) -> None:
        """Takes up the rows the chain has gained at its end."""
        names = self.chain.names[self._noise.size :]
        noise, floor, size = [], [], []
        for name in names:
            (shared,) = named_normals(self._seed, f"floor/{name}", 1)
            own = named_normals(self._seed, f"{self.config.name}/{name}", 3)
            noise.append(self.config.view_noise * own[0])
            floor.append(math.exp(FLOOR_LOG_SD * shared + FLOOR_OWN_LOG_SD * own[1]))
            size.append(self.config.size * math.exp(SIZE_LOG_SD * own[2]))
        unknown = np.full(len(names), UNKNOWN, dtype=np.int64)
        self._noise = np.concatenate([self._noise, noise])
        self._floor = np.concatenate([self._floor, np.array(floor) * FLOOR_MEDIAN_TICKS])
        self._size = np.concatenate([self._size, size])
        self._position_e8 = np.concatenate(
            [self._position_e8, np.zeros(len(names), dtype=np.int64)]
        )
        self._bid = np.concatenate([self._bid, unknown])
        self._ask = np.concatenate([self._ask, unknown])

    def rows_kept(self, kept: list[int]) -> None:
        """Follows the chain's rows after expiry."""
        self._noise, self._floor = self._noise[kept], self._floor[kept]
        self._size, self._position_e8 = self._size[kept], self._position_e8[kept]
        self._bid, self._ask = self._bid[kept], self._ask[kept]

    def traded(self, row: int, position_e8: int) -> bool:
        """Learns its inventory after a print; True where it was its own quote that traded."""
        if position_e8 == self._position_e8[row]:
            return False
        self._position_e8[row] = position_e8
        self._bid[row] = UNKNOWN
        self._ask[row] = UNKNOWN
        return True

    def pull(self, now_us: int) -> None:
        self._pulled_until_us = now_us + self.config.pull_us

    def remark(
        self, venue: Venue, view: Valuation, now_us: int, *, width: float, batch_max: int | None
    ) -> int:
        """Brings the most misplaced quotes to `view`, at most `batch_max` and what its budget
        allows; when to go on with the rest in us, 0 where nothing is left.
        """
        shown = self._shown(view, now_us)
        tte = view.slices.tte_years[self.chain.expiry]
        scale = self.config.width * width
        half = half_widths(self._table, tte, view.delta) * scale
        hedge = HEDGE_COST * scale * np.abs(view.delta)
        bid = np.zeros(half.size, dtype=np.int64)
        ask = np.zeros(half.size, dtype=np.int64)
        urgency = np.zeros(half.size)
        quote_targets(
            view.price, half * view.vega + hedge,
            view.vega * (half * self._noise + self._lean(view, half)),
            self._floor * np.interp(tte * 365.0, FLOOR_DAYS, FLOOR_MULTIPLE), shown,
            self._bid, self._ask, bid, ask, urgency,
        )  # fmt: skip
        order = np.flatnonzero(urgency > 0.0)
        if batch_max is None:
            chosen = order
        else:
            limit = min(self._budget.available(now_us), batch_max)
            chosen = order[np.argsort(-urgency[order], kind="stable")][:limit]
            self._budget.take(int(chosen.size))
        sizes = self._sizes_e8(view)
        for row in chosen.tolist():
            self._place(venue, row, int(bid[row]), int(ask[row]), int(sizes[row]), now_us)
        if chosen.size == order.size:
            return 0
        return BATCH_GAP_US if chosen.size == batch_max else BUDGET_GAP_US

    def _shown(self, view: Valuation, now_us: int) -> npt.NDArray[np.bool_]:
        twin = np.minimum(np.abs(view.delta), 1.0 - np.abs(view.delta))
        shown = twin >= self.config.moneyness_min
        closing = self.chain.expiries_us - now_us < STOP_BEFORE_EXPIRY_US
        shown &= ~closing[self.chain.expiry]
        if now_us < self._pulled_until_us:
            shown &= twin < 0.05
        return shown

    def _lean(self, view: Valuation, half: FloatArray) -> FloatArray:
        """Shift of its view against its net vega in each expiry, at most one half-width."""
        vega = np.bincount(
            self.chain.expiry,
            weights=self._position_e8 / E8 * view.vega,
            minlength=self.chain.expiries_us.size,
        )
        share = np.clip(vega / self.config.vega_limit, -1.0, 1.0)
        return -share[self.chain.expiry] * half

    def _sizes_e8(self, view: Valuation) -> IntArray:
        twin = np.minimum(np.abs(view.delta), 1.0 - np.abs(view.delta))
        lots = np.interp(twin, SIZE_DELTA, SIZE_LOTS[self.chain.underlying]) * self._size
        return np.maximum(lots, 1.0).astype(np.int64) * LOT_E8[self.chain.underlying]

    def _place(self, venue: Venue, row: int, bid: int, ask: int, size_e8: int, now_us: int) -> None:
        """Shows both sides, post-only: a price that would cross slides behind the other side."""
        name = self.chain.names[row]
        best_bid, _, best_ask, _ = venue.best(name)
        own_bid, own_ask = int(self._bid[row]) * TICK_E8, int(self._ask[row]) * TICK_E8
        hits_ask = 0 < best_ask <= bid * TICK_E8 and (own_ask == best_ask or own_ask < 0)
        hits_bid = 0 < ask * TICK_E8 <= best_bid and (own_bid == best_bid or own_bid < 0)
        if hits_ask or hits_bid:
            venue.maker_quote(self.config.name, name, 0, 0, 0, 0, now_us)
            own_bid = own_ask = NO_QUOTE
            best_bid, _, best_ask, _ = venue.best(name)
        shown_bid, shown_ask = bid, ask
        if bid and best_ask and bid * TICK_E8 >= best_ask:
            shown_bid = legal_down(best_ask / TICK_E8 - 1.0)
        if ask and best_bid and ask * TICK_E8 <= best_bid:
            shown_ask = legal_up(best_bid / TICK_E8 + 1.0)
        if shown_bid * TICK_E8 == own_bid and shown_ask * TICK_E8 == own_ask:
            return
        traded = venue.maker_quote(
            self.config.name, name,
            max(shown_bid, NO_QUOTE) * TICK_E8, size_e8 if shown_bid > 0 else 0,
            shown_ask * TICK_E8, size_e8 if shown_ask > 0 else 0, now_us,
        )  # fmt: skip
        is_shown = traded != NOT_TAKEN
        self._bid[row] = max(shown_bid, NO_QUOTE) if is_shown else UNKNOWN
        self._ask[row] = shown_ask if is_shown else UNKNOWN
