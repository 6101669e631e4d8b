"""How a simulated venue is set up: its tiers, windows, pauses, margins and bounds.

Every queue and history of the exchange has its bound here. Durations are microseconds.
"""

from typing import Final

import msgspec

from mm_daemon.sim.exchange_records import (
    RateLimit,
)
from mm_daemon.sim.exchange_types import (
    CodScope,
    CreditClass,
    MarginModel,
    SelfTradeMode,
)
from mm_daemon.sim.spec import MINUTE_US, SECOND_US

# Matching-engine tiers by seven-day volume (top: above $25M), and the quote limits that a
# market maker of that tier is granted here; the account summary states them. Tier 0 is no tier of
# the venue's: a grant so wide that the client is the bound, for tests under load.
TIERS: Final[dict[int, dict[CreditClass, RateLimit]]] = {
    0: {
        CreditClass.MATCHING: RateLimit(rate=1_000, burst=2_000),
        CreditClass.MAXIMUM_QUOTES: RateLimit(rate=10_000, burst=20_000),
        CreditClass.MAXIMUM_MASS_QUOTES: RateLimit(rate=1_000, burst=2_000),
        CreditClass.GUARANTEED_MASS_QUOTES: RateLimit(rate=2, burst=2),
    },
    1: {
        CreditClass.MATCHING: RateLimit(rate=30, burst=100),
        CreditClass.MAXIMUM_QUOTES: RateLimit(rate=500, burst=1000),
        CreditClass.MAXIMUM_MASS_QUOTES: RateLimit(rate=10, burst=20),
        CreditClass.GUARANTEED_MASS_QUOTES: RateLimit(rate=2, burst=2),
    },
    2: {
        CreditClass.MATCHING: RateLimit(rate=20, burst=50),
        CreditClass.MAXIMUM_QUOTES: RateLimit(rate=250, burst=500),
        CreditClass.MAXIMUM_MASS_QUOTES: RateLimit(rate=5, burst=10),
        CreditClass.GUARANTEED_MASS_QUOTES: RateLimit(rate=2, burst=2),
    },
    3: {
        CreditClass.MATCHING: RateLimit(rate=10, burst=30),
        CreditClass.MAXIMUM_QUOTES: RateLimit(rate=100, burst=200),
        CreditClass.MAXIMUM_MASS_QUOTES: RateLimit(rate=3, burst=6),
        CreditClass.GUARANTEED_MASS_QUOTES: RateLimit(rate=1, burst=1),
    },
    4: {
        CreditClass.MATCHING: RateLimit(rate=5, burst=20),
        CreditClass.MAXIMUM_QUOTES: RateLimit(rate=50, burst=100),
        CreditClass.MAXIMUM_MASS_QUOTES: RateLimit(rate=2, burst=4),
        CreditClass.GUARANTEED_MASS_QUOTES: RateLimit(rate=1, burst=1),
    },
}

# Pools that do not depend on the tier.
COMMON_LIMITS: Final[dict[CreditClass, RateLimit]] = {
    CreditClass.NON_MATCHING: RateLimit(rate=20, burst=100),
    CreditClass.GET_INSTRUMENTS: RateLimit(rate=1, burst=50),
    CreditClass.TRANSACTION_LOG: RateLimit(rate=1, burst=8),
    CreditClass.CANCEL_ALL: RateLimit(rate=5, burst=20),
}

# The subscribe pool is 3,000 credits a call, 30,000 at most and 10,000 refilled a second, which
# is no whole number of calls per second; credits.py keeps it in credits.
SUBSCRIBE_COST_CREDITS: Final = 3_000
SUBSCRIBE_POOL_CREDITS: Final = 30_000
SUBSCRIBE_REFILL_CREDITS_PER_S: Final = 10_000


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One account. A `quiet` account (in-process makers and takers) has no margin check, rate
    limit, order history or user events; its fills, fees and positions are as real as any."""

    name: str
    user_id: int
    balances_e8: dict[str, int] = {}
    tier: int = 4
    margin_model: MarginModel = MarginModel.STANDARD
    self_trade_mode: SelfTradeMode = SelfTradeMode.REJECT_TAKER
    mass_quotes_enabled: bool = False
    cod_default: CodScope | None = None
    quiet: bool = False


class MarginConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The margin rules, simplified and stated: see margin.py."""

    spot_shocks: tuple[float, ...] = (-0.15, -0.10, -0.05, 0.0, 0.05, 0.10, 0.15)
    vol_shocks: tuple[float, ...] = (-0.25, 0.0, 0.35)
    initial_over_maintenance: float = 1.2
    short_option_floor: float = 0.01
    refresh_us: int = 5 * SECOND_US


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True):
    margin: MarginConfig = MarginConfig()
    delivery_window_us: int = 30 * MINUTE_US
    delivery_sample_us: int = 6 * SECOND_US
    delivery_price_tick_e8: int = 1_000_000
    delivery_delay_us: int = 0
    """How long after an expiry its price is said and paid; books end at the expiry itself."""
    delivery_prices_kept: int = 1_000
    expired_kept: int = 5_000
    settlement_pause_us: int = 2 * SECOND_US
    portfolio_interval_us: int = 100_000
    quotes_freeze_us: int = SECOND_US
    mass_quote_entries_max: int = 100
    mmp_groups_max: int = 16
    pending_max: int = 1_000
    open_orders_max: int = 10_000
    events_max: int = 1_000_000
    requests_kept: int = 100_000
    cash_moves_kept: int = 200_000
    fills_kept: int = 100_000
    closed_orders_kept: int = 20_000
    public_trades_kept: int = 1_000
