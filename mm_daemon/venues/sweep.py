"""What every venue's sweep is made of, so that the guard can empty a venue it does not know.

A venue's sweep module offers the functions of `SweepProtocol`; `mm_daemon.venues.deribit.sweep` is
one. Standard library only, because the guard imports it. Values and an interface, no behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `is_optional` where a venue without the feature is no failure."""

    name: str
    body: bytes
    is_optional: bool = False

    def __repr__(self) -> str:
        """The body stays out: an auth call carries the secret."""
        return f"Call({self.name})"


class Failure(Enum):
    """Why a call did not do what it was for; each asks for another next step."""

    UNAUTHORIZED = "unauthorized"
    BUSY = "busy"
    REFUSED = "refused"
    GARBLED = "garbled"


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call without effect known to us."""

    failure: Failure
    detail: str


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token."""

    value: str
    expires_in_s: int

    def __repr__(self) -> str:
        """The value stays out of every log and traceback."""
        return f"Token(expires_in_s={self.expires_in_s})"


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """How many orders and quotes a read found, with a few of their ids."""

    count: int
    examples: tuple[str, ...] = ()


class SweepProtocol(Protocol):
    """What a venue's sweep module offers."""

    def auth_call(self, client_id: str, client_secret: str) -> Call:
        """Asks for a token. The body carries the secret."""
        ...

    def auth_headers(self, token: Token) -> dict[str, str]:
        """Headers of every private call."""
        ...

    def read_token(self, body: bytes) -> Token | CallFailed: ...

    def cancel_lanes(self, currencies: tuple[str, ...]) -> tuple[tuple[Call, ...], ...]:
        """Cancels by lane, the first of which covers the whole account. Lanes run side by side,
        the calls of a lane one after the other."""
        ...

    def read_calls(self, currencies: tuple[str, ...]) -> tuple[Call, ...]:
        """Reads that together show everything that can still trade."""
        ...

    def read_cancel(self, call: Call, body: bytes) -> int | CallFailed:
        """How many things a cancel cancelled."""
        ...

    def read_open(self, call: Call, body: bytes) -> OpenOrders | CallFailed:
        """What a read found; a failed read is never an empty one."""
        ...
