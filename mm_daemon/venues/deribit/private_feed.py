"""The private channels of the trading session: changes of our orders, accounts, protection trips.

Keeps what must be granted before the session is ready: a private channel that is missing would
leave fills unseen.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mm_daemon.domain.events import Event
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.units import Ns
from mm_daemon.venues.deribit.account import (
    Account,
    account_evidence,
    decode_account,
    decode_changes,
    decode_mmp_trigger,
    mmp_triggered,
)
from mm_daemon.venues.deribit.messages import DECODE_ERRORS, decode_raw
from mm_daemon.venues.deribit.routes import Route, refused
from mm_daemon.venues.deribit.session import Session
from mm_daemon.venues.deribit.settings import DeribitSettings
from mm_daemon.venues.deribit.subscriptions import Subscriptions
from mm_daemon.venues.deribit.venue_clock import VenueClock
from mm_daemon.venues.pacing import Pacer

CHANGES_CHANNEL = "user.changes.any.any.raw"


class PrivateRoute:
    """One private channel and its reader."""

    __slots__ = ("_read", "channel")

    def __init__(self, channel: str, read: Callable[[msgspec.Raw, Ns], list[Event]]) -> None:
        self.channel = channel
        self._read = read

    def feed(self, payload: bytes, now_ns: Ns) -> list[Event]:
        try:
            return self._read(decode_raw(payload).params.data, now_ns)
        except DECODE_ERRORS as error:
            return refused(Conn.TRADE, self.channel, error)


class PrivateFeed:
    """What flows on the TRADE connection beside replies."""

    def __init__(
        self,
        settings: DeribitSettings,
        session: Session,
        pacer: Pacer,
        account: Account,
        clock: VenueClock,
    ) -> None:
        self._account = account
        self._clock = clock
        self.subscriptions = Subscriptions(session, pacer, "private")
        self.missing: list[str] = []
        """Channels that the venue did not grant on this connection."""
        self.routes: dict[bytes, Route] = {}
        self._add(CHANGES_CHANNEL, self._changes)
        for currency in settings.currencies:
            self._add(f"user.portfolio.{currency.lower()}", self._portfolio)
        for underlying in settings.underlyings:
            self._add(f"user.mmp_trigger.{underlying.price_index}", self._mmp_trigger)

    def begin(self) -> None:
        """Subscribes everything private."""
        self.missing.clear()
        held = self.subscriptions.granted
        names = [channel.decode() for channel in self.routes]
        self.subscriptions.want([name for name in names if name not in held])

    def _add(self, channel: str, read: Callable[[msgspec.Raw, Ns], list[Event]]) -> None:
        self.routes[channel.encode()] = PrivateRoute(channel, read)

    def _changes(self, raw: msgspec.Raw, now_ns: Ns) -> list[Event]:
        return self._account.changes(decode_changes(raw), self._clock.venue_ns(now_ns))

    def _portfolio(self, raw: msgspec.Raw, now_ns: Ns) -> list[Event]:
        return [account_evidence(decode_account(raw), self._clock.venue_ns(now_ns))]

    def _mmp_trigger(self, raw: msgspec.Raw, _now_ns: Ns) -> list[Event]:
        return [mmp_triggered(decode_mmp_trigger(raw))]
