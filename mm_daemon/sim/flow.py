"""Who trades against the books: patient and hurried takers of options, hedgers of futures, and
those who know early.

Each taker draws from its own stream, so removing one leaves the others' orders as they were. An
ordinary taker wants a kind of option, by moneyness and tenor as recorded, and pays up to its own
willingness over the fair value: so worse prices trade less. An early taker sees the market a little
ahead, a fraction of a second on the future or the next move of volatility, and hits only what that
makes wrong; it alone is handed the future, by the world.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.sim.chain import OptionChain, Valuation
from mm_daemon.sim.maker_quotes import TICK_COIN, legal_down, legal_up
from mm_daemon.sim.makers import LOT_E8, TICK_E8, Venue
from mm_daemon.sim.option_math import FloatArray
from mm_daemon.sim.spec import E8, SECOND_US, InstrumentSpec
from mm_daemon.sim.streams import stream

MONEYNESS_EDGES: Final = (0.0, 0.01, 0.05, 0.10, 0.25, 0.40, 0.5000001)
MONEYNESS_SHARES: Final = (0.07, 0.17, 0.13, 0.27, 0.22, 0.14)
"""Trades by absolute delta of the out-of-the-money twin."""
OTM_SHARE: Final = 0.85
CALL_SHARE: Final = 0.47

SIZE_LOG_SD: Final = 1.957
"""Lognormal with the 95th percentile at 25 times the median."""
SIZE_MEDIAN: Final = {"BTC": 1.0, "ETH": 10.0}
TENOR_TASTE_DAYS: Final = 6.0
"""Demand for a tenor falls with the root of (days + this)."""

WILLING_MEAN_HALVES: Final = 1.6
"""Mean of what a taker pays over fair value, in half-spreads of its option (exponential), beside
one fee.
"""
OPTION_FEE: Final = 0.0003
FEE_CAP: Final = 0.125

EARLY_SCAN: Final = 40
"""Books that an early taker looks at before it chooses."""
EARLY_SIZE_MULTIPLE: Final = 2.0


class TakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One taker of options on one underlying; rates per second at speed 1."""

    name: str
    rate_per_s: float
    size_multiple: float = 1.0


TAKERS: Final = {
    "BTC": (
        TakerConfig(name="retail", rate_per_s=0.090, size_multiple=0.6),
        TakerConfig(name="fund", rate_per_s=0.066, size_multiple=1.5),
        TakerConfig(name="desk", rate_per_s=0.024, size_multiple=4.0),
    ),
    "ETH": (
        TakerConfig(name="retail", rate_per_s=0.032, size_multiple=0.5),
        TakerConfig(name="fund", rate_per_s=0.018, size_multiple=1.2),
        TakerConfig(name="desk", rate_per_s=0.006, size_multiple=3.0),
    ),
}


class EarlyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One early taker; it attempts at `rate_per_s`, and trades when something is wrong by more than
    the fee.
    """

    name: str
    rate_per_s: float
    ahead_min_us: int
    ahead_max_us: int
    sees_spot: bool
    """True: the future's move; False: only the move of the surface."""


EARLY_TAKERS: Final = (
    EarlyConfig(name="early-spot", rate_per_s=0.016, ahead_min_us=50_000,
                ahead_max_us=500_000, sees_spot=True),
    EarlyConfig(name="early-vol", rate_per_s=0.006, ahead_min_us=SECOND_US,
                ahead_max_us=5 * SECOND_US, sees_spot=False),
)  # fmt: skip
EARLY_SHARE: Final = {"BTC": 1.0, "ETH": 0.35}
"""Early attempts by underlying, as its ordinary flow."""
ANNOUNCED_RATE_MULTIPLE: Final = 16.0
"""Attempts around an announcement, over calm ones: early trades are about 5 % in calm and 60 %
then.
"""


class OptionTaker:
    """One ordinary taker on one underlying."""

    def __init__(self, config: TakerConfig, underlying: str, seed: int) -> None:
        self.account = f"taker-{config.name}"
        self._config = config
        self._underlying = underlying
        self._rng = stream(seed, f"taker/{config.name}/{underlying}")

    def next_after_us(self, speed: float) -> int:
        """Time until it next comes to the market."""
        return _wait_us(self._rng, self._config.rate_per_s * speed)

    def trade(
        self, venue: Venue, chain: OptionChain, view: Valuation, half: FloatArray, now_us: int
    ) -> int:
        """One order at the market's present, `half` the usual half-widths in vol; the amount
        filled, 1e-8.
        """
        draws = self._rng.random(6).tolist()
        size = SIZE_MEDIAN[self._underlying] * math.exp(SIZE_LOG_SD * self._rng.standard_normal())
        willing = self._rng.exponential(WILLING_MEAN_HALVES)
        row = _choose(chain, view, draws)
        if row is None:
            return 0
        sign = 1 if draws[5] < 0.5 else -1
        price = float(view.price[row])
        over = willing * max(float(half[row] * view.vega[row]), TICK_COIN)
        over += min(OPTION_FEE, FEE_CAP * price)
        limit = _limit_e8(price + sign * over, sign)
        if limit <= 0:
            return 0
        amount = _amount_e8(size * self._config.size_multiple, self._underlying)
        return venue.taker_trade(self.account, chain.names[row], sign, amount, limit, now_us)


class EarlyTaker:
    """One early taker on one underlying."""

    def __init__(self, config: EarlyConfig, underlying: str, seed: int) -> None:
        self.account = f"taker-{config.name}"
        self.config = config
        self._underlying = underlying
        self._rng = stream(seed, f"taker/{config.name}/{underlying}")

    def next_after_us(self, speed: float) -> int:
        rate = self.config.rate_per_s * EARLY_SHARE[self._underlying]
        return _wait_us(self._rng, rate * speed)

    def attempts(self, chance: float) -> bool:
        """Whether this arrival is an attempt at all."""
        return bool(self._rng.random() < chance)

    def ahead_us(self) -> int:
        """How far it sees this time."""
        return int(self._rng.integers(self.config.ahead_min_us, self.config.ahead_max_us + 1))

    def trade(self, venue: Venue, chain: OptionChain, future: Valuation, now_us: int) -> int:
        """Hits the quote that `future`, the chain as it will be, makes most wrong beyond the fee;
        amount filled.
        """
        weights = _taste(chain, future)
        total = float(weights.sum())
        size = SIZE_MEDIAN[self._underlying] * math.exp(SIZE_LOG_SD * self._rng.standard_normal())
        picks = self._rng.random(EARLY_SCAN)
        if total <= 0.0:
            return 0
        rows = np.unique(np.searchsorted(np.cumsum(weights), picks * total)).tolist()
        found = (0.0, 0, 0, 0)
        for row in rows:
            bid, _, ask, _ = venue.best(chain.names[row])
            worth = float(future.price[row])
            fee = min(OPTION_FEE, FEE_CAP * worth)
            if ask and worth - ask / E8 - fee > found[0]:
                found = (worth - ask / E8 - fee, row, 1, ask)
            if bid and bid / E8 - worth - fee > found[0]:
                found = (bid / E8 - worth - fee, row, -1, bid)
        if not found[2]:
            return 0
        amount = _amount_e8(size * EARLY_SIZE_MULTIPLE, self._underlying)
        return venue.taker_trade(
            self.account, chain.names[found[1]], found[2], amount, found[3], now_us
        )


class FutureTakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Takers of perpetuals and dated futures; sizes in USD."""

    rate_per_s: float
    dated_share: float
    size_median_usd: float
    size_log_sd: float
    reach_bps: float
    """How far past the best price an order may trade."""


FUTURE_TAKERS: Final = {
    "BTC": FutureTakerConfig(rate_per_s=0.8, dated_share=0.12, size_median_usd=4_000.0,
                             size_log_sd=1.6, reach_bps=3.0),
    "ETH": FutureTakerConfig(rate_per_s=0.5, dated_share=0.12, size_median_usd=2_000.0,
                             size_log_sd=1.6, reach_bps=3.0),
}  # fmt: skip


class FutureTaker:
    """Ordinary flow in the futures of one underlying."""

    account = "taker-futures"

    def __init__(self, underlying: str, seed: int) -> None:
        self._config = FUTURE_TAKERS[underlying]
        self._rng = stream(seed, f"taker/futures/{underlying}")

    def next_after_us(self, speed: float) -> int:
        return _wait_us(self._rng, self._config.rate_per_s * speed)

    def trade(
        self, venue: Venue, perpetual: InstrumentSpec, dated: list[InstrumentSpec], now_us: int
    ) -> int:
        """One order in the perpetual, or at times in a dated future; filled amount, 1e-8 USD."""
        pick, side, which = self._rng.random(3).tolist()
        size = self._config.size_median_usd * math.exp(
            self._config.size_log_sd * self._rng.standard_normal()
        )
        spec = perpetual
        if dated and pick < self._config.dated_share:
            spec = dated[int(which * len(dated))]
        bid, _, ask, _ = venue.best(spec.name)
        sign = 1 if side < 0.5 else -1
        best = ask if sign > 0 else bid
        if not best:
            return 0
        tick, lot = spec.tick_size_e8, spec.min_trade_amount_e8
        limit = best + sign * int(best * self._config.reach_bps * 1e-4 / tick) * tick
        amount = max(int(size * E8) // lot, 1) * lot
        return venue.taker_trade(self.account, spec.name, sign, amount, limit, now_us)


def _wait_us(rng: np.random.Generator, rate_per_s: float) -> int:
    return 1 + int(rng.exponential(SECOND_US / rate_per_s))


def _taste(chain: OptionChain, view: Valuation) -> FloatArray:
    """Weight of each option in the flow by tenor, before moneyness."""
    days = (view.slices.tte_years * 365.0 + TENOR_TASTE_DAYS).tolist()
    by_slice = np.array([1.0 / math.sqrt(d) for d in days])
    twin = np.minimum(np.abs(view.delta), 1.0 - np.abs(view.delta))
    weights: FloatArray = by_slice[chain.expiry] * (twin > 0.01)
    return weights


def _choose(chain: OptionChain, view: Valuation, draws: list[float]) -> int | None:
    """A row by the recorded shares of moneyness, out of the money, calls; then by tenor; None if
    none fits.
    """
    absolute = np.abs(view.delta)
    twin = np.minimum(absolute, 1.0 - absolute)
    bucket = int(np.searchsorted(np.cumsum(MONEYNESS_SHARES), draws[0], side="right"))
    bucket = min(bucket, len(MONEYNESS_SHARES) - 1)
    low, high = MONEYNESS_EDGES[bucket], MONEYNESS_EDGES[bucket + 1]
    is_otm: npt.NDArray[np.bool_] = (absolute < 0.5) == (draws[1] < OTM_SHARE)
    fits = (twin >= low) & (twin < high) & is_otm & (chain.is_call == (draws[2] < CALL_SHARE))
    rows = np.flatnonzero(fits)
    if not rows.size:
        return None
    days = (view.slices.tte_years[chain.expiry[rows]] * 365.0 + TENOR_TASTE_DAYS).tolist()
    weights = np.cumsum([1.0 / math.sqrt(d) for d in days])
    return int(rows[min(int(np.searchsorted(weights, draws[3] * weights[-1])), rows.size - 1)])


def _limit_e8(price: float, sign: int) -> int:
    ticks = price / TICK_COIN
    return (legal_down(ticks) if sign > 0 else max(legal_up(ticks), 1)) * TICK_E8


def _amount_e8(size: float, underlying: str) -> int:
    lot = LOT_E8[underlying]
    return max(round(size * E8 / lot), 1) * lot
