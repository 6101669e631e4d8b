"""The book of subscriptions: which session hears which stream, and what it may hear.

A bad name is left out of the granted list without a word, as Deribit leaves it out; only raw
public channels on a nameless socket are refused aloud (13778).  A channel already held is granted
again without a second snapshot.
"""

from typing import Final

from mm_daemon.sim.deribit_wire_account_hub import AccountHub
from mm_daemon.sim.deribit_wire_channels import SCOPES, Channel, Family, parse_channel
from mm_daemon.sim.deribit_wire_hub import MarketHub
from mm_daemon.sim.deribit_wire_index_hub import IndexHub
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.deribit_wire_streams import Stream
from mm_daemon.sim.exchange_api import MarketDataApi
from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.spec import InstrumentState

CHANNELS_PER_CALL_MAX: Final = 500
LABEL_CHARS_MAX: Final = 16
_RAW_FAMILIES: Final = (Family.BOOK, Family.TICKER, Family.TRADES, Family.PERPETUAL)
_MARKET_FAMILIES: Final = (
    Family.BOOK,
    Family.BOOK_GROUPED,
    Family.TICKER,
    Family.INCREMENTAL_TICKER,
    Family.QUOTE,
    Family.TRADES,
    Family.PERPETUAL,
)
_GONE: Final = (InstrumentState.DELIVERED, InstrumentState.ARCHIVIZED)


class Subscriptions:
    """Every stream with a listener, by account (None for public) and channel name."""

    def __init__(
        self, market: MarketDataApi, markets: MarketHub, accounts: AccountHub, indices: IndexHub
    ) -> None:
        self._market = market
        self._markets = markets
        self._accounts = accounts
        self._indices = indices
        self._streams: dict[tuple[str | None, str], Stream] = {}

    def subscribe(
        self,
        session: Session,
        names: list[str],
        *,
        private: bool,
        label: str | None,
        now_us: int,
    ) -> list[str]:
        """Grant what can be granted; returns the granted names in the order asked."""
        if len(names) > CHANNELS_PER_CALL_MAX:
            raise invalid_params("channels", f"at most {CHANNELS_PER_CALL_MAX} channels per call")
        if label is not None and len(label) > LABEL_CHARS_MAX:
            raise invalid_params("label", f"at most {LABEL_CHARS_MAX} characters")
        channels = [parse_channel(name) for name in names]
        if session.grant is None and any(
            channel is not None and channel.interval == "raw" and channel.family in _RAW_FAMILIES
            for channel in channels
        ):
            raise WireError(13778, "raw_subscriptions_not_available_for_unauthorized")
        granted: list[str] = []
        for channel in channels:
            if channel is None or not self._may_hear(session, channel, private=private):
                continue
            if channel.name not in granted:
                granted.append(channel.name)
                self._join(session, channel, label, now_us)
        return granted

    def _may_hear(self, session: Session, channel: Channel, *, private: bool) -> bool:
        if channel.is_private:
            grant = session.grant
            if not private or grant is None or not grant.allows(SCOPES[channel.family], "read"):
                return False
        if channel.instrument is not None:
            try:
                state = self._market.instrument_state(channel.instrument)
            except VenueError:
                return False
            if state in _GONE:
                return False
            if channel.family is Family.PERPETUAL:
                return self._market.instrument(channel.instrument).is_perpetual
        if channel.index is None or channel.index in self._market.index_names():
            return True
        return channel.family is Family.USER_MMP_TRIGGER and channel.index in ("any", "all")

    def _join(self, session: Session, channel: Channel, label: str | None, now_us: int) -> None:
        account = session.grant.account if channel.is_private and session.grant else None
        stream = self._streams.get((account, channel.name))
        if stream is None:
            stream = self._create(channel, account)
            self._streams[(account, channel.name)] = stream
        if session in stream.subscribers:
            stream.subscribers[session] = label
            return
        self._markets.before_joining(stream, now_us)
        stream.subscribers[session] = label
        session.streams[(account, channel.name)] = None
        if account is not None:
            self._accounts.greet(stream, session, now_us)
        elif channel.family in _MARKET_FAMILIES:
            self._markets.greet(stream, session, now_us)
        else:
            self._indices.greet(stream, session, now_us)

    def _create(self, channel: Channel, account: str | None) -> Stream:
        if account is not None:
            return self._accounts.create(channel, account)
        if channel.family in _MARKET_FAMILIES:
            return self._markets.create(channel)
        return self._indices.create(channel)

    def unsubscribe(self, session: Session, names: list[str], *, private: bool) -> list[str]:
        """Leave channels; returns those that were held."""
        left = []
        account = session.grant.account if session.grant is not None else None
        for name in names:
            keys: list[tuple[str | None, str]] = [(None, name)]
            if private and account is not None:
                keys.append((account, name))
            for key in keys:
                if key in session.streams:
                    self._leave(session, key)
                    left.append(name)
        return left

    def unsubscribe_all(self, session: Session, *, private: bool) -> None:
        """Leave everything: public channels, and private ones when asked privately."""
        for key in list(session.streams):
            if key[0] is None or private:
                self._leave(session, key)

    def _leave(self, session: Session, key: tuple[str | None, str]) -> None:
        stream = self._streams[key]
        del stream.subscribers[session]
        del session.streams[key]
        if stream.subscribers:
            return
        del self._streams[key]
        if key[0] is not None:
            self._accounts.remove(stream)
        elif stream.channel.family in _MARKET_FAMILIES:
            self._markets.remove(stream)
        else:
            self._indices.remove(stream)
