"""What every method of the venue may use: the exchange, identities, subscriptions, memory.

The desk also turns the exchange's events into notifications, which keeps one order of telling:
whatever a call caused is told before that call's own reply, as on the real venue, where a client
may read of its fill before it reads that its order was taken.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from mm_daemon.sim.deribit_wire_account_hub import AccountHub
from mm_daemon.sim.deribit_wire_auth import AuthDesk
from mm_daemon.sim.deribit_wire_history import History
from mm_daemon.sim.deribit_wire_hub import MarketHub
from mm_daemon.sim.deribit_wire_index_hub import IndexHub
from mm_daemon.sim.deribit_wire_quotes import TickerDesk
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params
from mm_daemon.sim.deribit_wire_session import Call, Session
from mm_daemon.sim.deribit_wire_subscriptions import Subscriptions
from mm_daemon.sim.deribit_wire_world import ExchangeApi, MovingWorld
from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.exchange_events import (
    BookChanged,
    ConnectionTerminated,
    EstimatedDelivery,
    Event,
    FundingChanged,
    IndexChanged,
    InstrumentStateChanged,
    MarksChanged,
    MmpTriggered,
    PlatformStateChanged,
    PortfolioChanged,
    RequestCompleted,
    SettlementDone,
    TradesPrinted,
    UserChanged,
    VolatilityIndexChanged,
)
from mm_daemon.sim.exchange_types import Caller, MassQuoteReply, OrderReply, SelfTradeMode
from mm_daemon.sim.spec import E8, InstrumentSpec

SETTLEMENTS_KEPT: Final = 5_000
ACCESSES_KEPT: Final = 1_000

Render = Callable[[OrderReply | MassQuoteReply], object]


class Deferred(msgspec.Struct, frozen=True):
    """A method whose reply comes later, under this ticket, rendered by this function."""

    ticket: int
    render: Render


class Access(msgspec.Struct, frozen=True):
    """One authentication, for the access log."""

    ts_us: int
    account: str
    peer: str


class Desk:
    """The shared parts behind every method."""

    def __init__(self, exchange: ExchangeApi, world: MovingWorld, auth: AuthDesk) -> None:
        self.exchange = exchange
        self.world = world
        self.auth = auth
        self.tickers = TickerDesk(exchange)
        self.history = History()
        self.market_hub = MarketHub(exchange, self.tickers)
        self.account_hub = AccountHub(exchange, self.tickers)
        self.index_hub = IndexHub(exchange, self.tickers, self.history)
        self.subscriptions = Subscriptions(
            exchange, self.market_hub, self.account_hub, self.index_hub
        )
        self.settlements: deque[SettlementDone] = deque(maxlen=SETTLEMENTS_KEPT)
        self.accesses: deque[Access] = deque(maxlen=ACCESSES_KEPT)
        self.self_trading: dict[str, SelfTradeMode] = {}
        self.completed: list[RequestCompleted] = []
        self.terminated: list[ConnectionTerminated] = []
        self.rendered_instruments: dict[tuple[str | None, str | None, bool], bytes] = {}

    def publish(self) -> None:
        """Tell every subscriber what the exchange did since it was last asked."""
        for event in self.world.drain_events():
            self._publish_one(event)

    def _publish_one(self, event: Event) -> None:
        match event:
            case BookChanged():
                self.market_hub.book_changed(event)
            case MarksChanged():
                self.index_hub.marks_changed(event)
                self.market_hub.marks_changed(event)
            case TradesPrinted():
                self.market_hub.trades_printed(event)
                self.index_hub.trades_printed(event)
            case UserChanged():
                self.account_hub.user_changed(event)
            case PortfolioChanged():
                self.account_hub.portfolio_changed(event)
            case IndexChanged():
                self.index_hub.index_changed(event)
            case VolatilityIndexChanged():
                self.index_hub.volatility_changed(event)
            case FundingChanged():
                index_price = event.index_price_e8 / E8
                self.history.funding_moved(
                    event.instrument, event.interest, index_price, event.ts_us
                )
                self.market_hub.funding_changed(event)
            case EstimatedDelivery():
                self.index_hub.delivery_estimated(event)
            case InstrumentStateChanged():
                self.rendered_instruments.clear()
                self.index_hub.state_changed(event)
            case PlatformStateChanged():
                self.rendered_instruments.clear()
                self.index_hub.platform_changed(event)
            case MmpTriggered():
                self.account_hub.mmp_triggered(event)
            case SettlementDone():
                self.settlements.append(event)
            case RequestCompleted():
                self.completed.append(event)
            case ConnectionTerminated():
                self.terminated.append(event)
            case _:
                assert_never(event)

    def step(self, now_us: int) -> None:
        """One beat of the conflating streams."""
        self.market_hub.step(now_us)
        self.account_hub.step(now_us)

    def spec_of(self, name: str) -> InstrumentSpec:
        """The instrument a parameter names; refused as Deribit refuses an unknown one."""
        try:
            return self.tickers.spec(name)
        except VenueError:
            raise invalid_params("instrument_name", "instrument not found") from None

    @staticmethod
    def caller(call: Call) -> Caller:
        """Who asks; a private method is never reached without one."""
        assert call.caller is not None, "private method reached without a caller"
        return call.caller

    @staticmethod
    def session(call: Call) -> Session:
        """The websocket a method needs; over HTTP it is refused."""
        if call.session is None:
            raise WireError(11050, "bad_request", {"reason": "only over websocket"})
        return call.session
