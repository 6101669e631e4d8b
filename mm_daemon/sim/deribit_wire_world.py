"""What stands behind the wire: the exchange, and whatever moves the market on it.

The wire never advances an exchange past what the world has still to do on it: before every
request and at every pump it advances the world, and it takes events from the world, which reads
them too.  An exchange nobody moves is a world as well, a still one.
"""

from typing import Protocol

from mm_daemon.sim.exchange_api import ClientApi, MarketDataApi, WorldApi
from mm_daemon.sim.exchange_events import Event
from mm_daemon.sim.scenario import Fault


class ExchangeApi(WorldApi, MarketDataApi, ClientApi, Protocol):
    """The whole exchange, as the wire uses it."""


class MovingWorld(Protocol):
    """What moves the market; times never fall."""

    def advance(self, to_us: int) -> None:
        """Do everything due until then, on the exchange as well."""

    def next_event_us(self) -> int:
        """When `advance` next has something to do."""

    def drain_events(self) -> list[Event]:
        """Everything the exchange published since the last call, in order."""

    def drain_faults(self) -> list[Fault]:
        """Faults of the wire that were announced since the last call."""


class StillWorld:
    """An exchange on which nobody trades but the clients; only its own clockwork moves."""

    def __init__(self, exchange: ExchangeApi) -> None:
        self._exchange = exchange

    def advance(self, to_us: int) -> None:
        """The exchange does what fell due."""
        self._exchange.advance(to_us)

    def next_event_us(self) -> int:
        """When the exchange next has something to do."""
        return self._exchange.next_due_us()

    def drain_events(self) -> list[Event]:
        """The exchange's events."""
        return self._exchange.drain_events()

    def drain_faults(self) -> list[Fault]:
        """None: nobody scripts this world."""
        return []
