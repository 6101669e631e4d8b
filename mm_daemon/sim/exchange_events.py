"""What the simulated venue publishes, in the order in which it happened.

The exchange appends these to one list; whoever drives it drains the list after each call and
turns it into notifications, so nothing here names a channel. One event per book and call at
most: changes of one call to one book are coalesced.
"""

import msgspec

from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.exchange_records import (
    AccountSummary,
    PositionView,
    Settlement,
)
from mm_daemon.sim.exchange_types import (
    MassQuoteReply,
    Order,
    OrderReply,
    PublicTrade,
    UserTrade,
)
from mm_daemon.sim.spec import InstrumentState

# (action, price_e8, new total amount_e8); action is "new", "change" or "delete" (amount 0).
LevelChange = tuple[str, int, int]


class BookChanged(msgspec.Struct, frozen=True, kw_only=True):
    """`prev_change_id` is the change_id of this book's previous event; ids jump, links hold."""

    instrument: str
    ts_us: int
    change_id: int
    prev_change_id: int
    bids: tuple[LevelChange, ...]
    asks: tuple[LevelChange, ...]


class TradesPrinted(msgspec.Struct, frozen=True):
    """Public prints of one call in one instrument, in order of execution."""

    instrument: str
    trades: tuple[PublicTrade, ...]


class UserChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What one call changed for one account in one instrument (never for quiet accounts).

    The source of user.orders, user.trades and user.changes. A position is present when traded.
    """

    account: str
    instrument: str
    ts_us: int
    orders: tuple[Order, ...]
    trades: tuple[UserTrade, ...]
    positions: tuple[PositionView, ...]


class RequestCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """The late reply of a request that met the speed bump; exactly one of reply, error is set."""

    ticket: int
    account: str
    connection: int
    reply: OrderReply | MassQuoteReply | None
    error: VenueError | None


class MmpTriggered(msgspec.Struct, frozen=True, kw_only=True):
    """frozen_until_ms 0 means until reset."""

    account: str
    index_name: str
    mmp_group: str
    frozen_until_ms: int
    ts_us: int


class InstrumentStateChanged(msgspec.Struct, frozen=True):
    """Also the announcement of a new listing (state open)."""

    instrument: str
    state: InstrumentState
    ts_us: int


class IndexChanged(msgspec.Struct, frozen=True):
    index_name: str
    price_e8: int
    ts_us: int


class VolatilityIndexChanged(msgspec.Struct, frozen=True):
    """`volatility_pct` 55.3 means 55.3 %."""

    index_name: str
    volatility_pct: float
    ts_us: int


class MarksChanged(msgspec.Struct, frozen=True):
    """The named instruments have new marks, all stamped ts_us; read them by `ticker`."""

    index_name: str
    instruments: tuple[str, ...]
    ts_us: int


class FundingChanged(msgspec.Struct, frozen=True):
    """perpetual.{instrument}: the 8-hour rate as a decimal at this mark and index."""

    instrument: str
    interest: float
    index_price_e8: int
    ts_us: int


class PortfolioChanged(msgspec.Struct, frozen=True):
    """user.portfolio of one account and currency.

    After `set_marks` it carries the stamp of those marks and is valued at exactly them.
    """

    summary: AccountSummary


class EstimatedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of the delivery average; outside the window `is_estimated` is False."""

    index_name: str
    price_e8: int
    is_estimated: bool
    seconds_left: int
    left_ticks: int
    total_ticks: int
    ts_us: int


class SettlementDone(msgspec.Struct, frozen=True):
    """One session settlement or delivery of one instrument, all accounts that held it."""

    instrument: str
    is_delivery: bool
    price_e8: int
    index_price_e8: int
    ts_us: int
    settlements: tuple[Settlement, ...]


class PlatformStateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Either one index lock changed (`price_index`, `locked`) or a maintenance began or ended."""

    ts_us: int
    price_index: str | None = None
    locked: bool | None = None
    maintenance: bool | None = None


class ConnectionTerminated(msgspec.Struct, frozen=True, kw_only=True):
    """The venue wants this connection closed (its requests ran out of credit)."""

    account: str
    connection: int
    ts_us: int


Event = (
    BookChanged
    | TradesPrinted
    | UserChanged
    | RequestCompleted
    | MmpTriggered
    | InstrumentStateChanged
    | IndexChanged
    | VolatilityIndexChanged
    | MarksChanged
    | FundingChanged
    | PortfolioChanged
    | EstimatedDelivery
    | SettlementDone
    | PlatformStateChanged
    | ConnectionTerminated
)
