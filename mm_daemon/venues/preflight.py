"""What `mm-daemon check` asks a venue before a daemon trades there, for a venue it does not know.

A venue's preflight module offers the functions of `Preflight`; `mm_daemon.venues.deribit.preflight`
is one. It only asks: nothing at the venue changes but a token being granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mm_daemon.venues.sweep import Call, CallFailed, Token


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: a short name, whether it is as it must be, and a sentence."""

    what: str
    ok: bool
    detail: str


class Preflight(Protocol):
    """What a venue's preflight module offers."""

    def time_call(self) -> Call: ...

    def read_time_ns(self, body: bytes) -> int | CallFailed:
        """The venue's clock, ns since the epoch."""
        ...

    def auth_call(self, client_id: str, client_secret: str) -> Call:
        """Asks for a token. The body carries the secret."""
        ...

    def auth_headers(self, token: Token) -> dict[str, str]: ...

    def read_token(self, body: bytes) -> Token | CallFailed: ...

    def missing_scopes(self, body: bytes) -> tuple[str, ...]:
        """Of an answer to `auth_call`: what a trading key needs and was not granted."""
        ...

    def account_call(self) -> Call: ...

    def read_account(self, body: bytes, currencies: tuple[str, ...]) -> tuple[Finding, ...]:
        """The account's settings, judged."""
        ...

    def account_id(self, body: bytes) -> str:
        """Who the account is, by the answer to `account_call`; empty where it is not told."""
        ...
