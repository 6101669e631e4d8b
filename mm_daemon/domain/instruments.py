"""What can be traded: contract terms as the venue states them, in our units. Never prices, never
state of a book."""

from __future__ import annotations

from enum import Enum

import msgspec

from mm_daemon.domain.grid import E9, TickGrid
from mm_daemon.domain.units import Lots


class Kind(Enum):
    OPTION = "option"
    PERPETUAL = "perpetual"
    FUTURE = "future"


class Lifecycle(Enum):
    """The venue's instrument state; only OPEN may be quoted."""

    OPEN = "open"
    HALTED = "halted"
    LOCKED = "locked"
    SETTLEMENT = "settlement"
    DELIVERED = "delivered"
    INACTIVE = "inactive"
    ARCHIVED = "archivized"


class FeeSchedule(msgspec.Struct, frozen=True):
    """Rates as the venue states them for this account.

    Options: coin per coin of amount (inverse) or share of the index (linear), capped at
    `premium_cap` of the premium.
    Futures: share of the notional. Negative = rebate.
    """

    maker: float
    taker: float
    premium_cap: float
    """Largest share of an option's premium that a trading fee may take (0.125 on Deribit)."""
    delivery: float
    delivery_cap: float


class Instrument(msgspec.Struct, frozen=True):
    """Contract terms of one instrument.

    `id` is a dense index, equal over the whole process and stable within a session. `amount` of an
    inverse perpetual or
    future is in USD, of everything else in the base coin. `is_inverse`: premium, P&L and fees are
    in the coin.
    """

    id: int
    name: str
    kind: Kind
    underlying: str
    price_index: str
    settle_currency: str
    is_inverse: bool
    expiry_ns: int
    """0 for a perpetual."""
    strike: float
    """NaN-free: 0.0 for what is not an option."""
    is_call: bool
    grid: TickGrid
    lot_e9: int
    """Amount of one lot in 1e-9 of the amount unit (BTC option: 0.1; BTC-PERPETUAL: 10 USD)."""
    contract_size: float
    fees: FeeSchedule
    created_ns: int = 0

    @property
    def is_option(self) -> bool:
        return self.kind is Kind.OPTION

    def amount(self, lots: int) -> float:
        """Lots as the venue's amount, printed clean."""
        return lots * self.lot_e9 / E9

    def lots(self, amount: float) -> Lots:
        """The nearest whole number of lots of a venue amount."""
        return Lots(round(amount * E9 / self.lot_e9))
