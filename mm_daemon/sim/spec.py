"""What an instrument of the simulated venue is: names, units, ticks, commissions, limits.

Every price, amount and coin quantity in the simulated venue is an integer scaled by 1e-8
(suffix `_e8`); intermediate values that must not lose anything carry 1e-18 (suffix `_e18`).
Times are microseconds since the Unix epoch in UTC (suffix `_us`). The one rounding rule is
half-to-even at the stated scale, in `div_half_even`.

The arithmetic here is the venue's own on purpose: it shares no code with the daemon's, so that
a mistake in one can be seen from the other. Nothing here reads a clock or changes state.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

E8: Final = 100_000_000
E10: Final = 10_000_000_000
E18: Final = 1_000_000_000_000_000_000

MS_US: Final = 1_000
SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 3_600 * SECOND_US
DAY_US: Final = 24 * HOUR_US
SETTLEMENT_TIME_OF_DAY_US: Final = 8 * HOUR_US
PERPETUAL_EXPIRY_US: Final = 32_503_708_800_000 * MS_US

BUY: Final = 1
SELL: Final = -1
NOT_TAKEN: Final = -1
"""The answer to a maker's quote where the book takes no orders now: it shows what it showed."""


class Kind(StrEnum):
    """The venue's instrument kinds that this simulation lists; a perpetual is a future."""

    OPTION = "option"
    FUTURE = "future"


class OptionType(StrEnum):
    CALL = "call"
    PUT = "put"


class InstrumentState(StrEnum):
    OPEN = "open"
    SETTLEMENT = "settlement"
    DELIVERED = "delivered"
    INACTIVE = "inactive"
    LOCKED = "locked"
    HALTED = "halted"
    ARCHIVIZED = "archivized"


class TickStep(msgspec.Struct, frozen=True):
    """Prices strictly above `above_price_e8` move in `tick_size_e8`."""

    above_price_e8: int
    tick_size_e8: int


class InstrumentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One listed instrument, as constant as its contract.

    Units of amount: USD for inverse futures, base coin for options and linear futures.
    `currency` is the venue's grouping for requests, trade ids and order-id prefixes ("USDC" for
    linear instruments); cash moves in `settlement_currency`. A commission is a share of the
    underlying's notional (0.0003 is 30_000); a negative one is a rebate.
    The price band is mark +- max(band_ratio * mark, band_abs); `speed_bump_us` 0 means none.
    """

    name: str
    instrument_id: int
    kind: Kind
    currency: str
    base_currency: str
    quote_currency: str
    counter_currency: str
    settlement_currency: str
    price_index: str
    is_inverse: bool
    settlement_period: str
    creation_us: int
    expiry_us: int
    tick_size_e8: int
    tick_steps: tuple[TickStep, ...] = ()
    min_trade_amount_e8: int
    amount_step_e8: int
    contract_size_e8: int
    strike_e8: int | None = None
    option_type: OptionType | None = None
    max_leverage: int | None = None
    max_liquidation_commission_e8: int | None = None
    maker_commission_e8: int
    taker_commission_e8: int
    block_trade_commission_e8: int
    block_trade_tick_size_e8: int
    block_trade_min_trade_amount_e8: int
    delivery_commission_e8: int = 0
    band_ratio_e8: int
    band_abs_e8: int
    speed_bump_us: int = 0

    @property
    def is_option(self) -> bool:
        return self.kind is Kind.OPTION

    @property
    def is_perpetual(self) -> bool:
        return self.settlement_period == "perpetual"

    @property
    def is_inverse_future(self) -> bool:
        """True where amount is USD and value is coin: v(p) = -1/p instead of v(p) = p."""
        return self.is_inverse and self.kind is Kind.FUTURE

    @property
    def instrument_type(self) -> str:
        return "reversed" if self.is_inverse else "linear"

    def tick_e8(self, price_e8: int) -> int:
        """The tick that a price must be a multiple of; a step begins strictly above its bound."""
        tick = self.tick_size_e8
        for step in self.tick_steps:
            if price_e8 > step.above_price_e8:
                tick = step.tick_size_e8
        return tick

    def next_price_e8(self, price_e8: int, sign: int) -> int:
        """The nearest legal price strictly above (sign +1) or below (sign -1) a legal price."""
        if sign > 0:
            return price_e8 + self.tick_e8(price_e8 + 1)
        return price_e8 - self.tick_e8(price_e8)


def div_half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, ties to even, exact for any size."""
    assert denominator > 0, f"div_half_even: denominator {denominator}, expected > 0"
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def to_e8(number: float | int | str | Decimal) -> int | None:
    """A decimal number as 1e-8 units, or None where it has more than 8 decimals.

    A float is read as its shortest decimal form, which is what a JSON peer wrote.
    """
    scaled = Decimal(repr(number) if isinstance(number, float) else number).scaleb(8)
    if not scaled.is_finite():
        return None
    whole = int(scaled)
    return whole if whole == scaled else None


def from_e8(value_e8: int) -> float:
    """The double nearest to value_e8 / 1e8, whose shortest form prints the same decimal."""
    return value_e8 / E8


def next_settlement_us(now_us: int) -> int:
    """The first 08:00 UTC strictly after `now_us`."""
    days = (now_us - SETTLEMENT_TIME_OF_DAY_US) // DAY_US + 1
    return days * DAY_US + SETTLEMENT_TIME_OF_DAY_US
