"""Each intent to its connection, its bytes and the request that its reply will answer.

Orders go on the trading session and only while it is ready. Wide cancels go on the kill session
when it is up, so that they never queue behind quotes; single cancels stay with the orders they
follow. What no connection can carry ends as not sent, which is certain, not unknown.
"""

from __future__ import annotations

from mm_daemon.domain.errors import LocalProtocolError
from mm_daemon.domain.events import Event, QueryFailed, RequestDone
from mm_daemon.domain.frames import Conn, FrameKind
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    CancelQuotes,
    Intent,
    MassQuote,
    PlaceOrder,
    ReadAccounts,
    ReadDelivery,
    ReadInstruments,
    ReadOpenOrders,
    ReadOrder,
    ReadPositions,
    ReadTrades,
    ResetMmp,
    Resync,
)
from mm_daemon.domain.orders import Purpose, RejectReason
from mm_daemon.domain.permission import HEDGE, QUOTE, REDUCE
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from mm_daemon.venues.deribit.encode import Encoder
from mm_daemon.venues.deribit.errors import LOCAL_NOT_SENT
from mm_daemon.venues.deribit.market import MarketFeed
from mm_daemon.venues.deribit.methods import request
from mm_daemon.venues.deribit.outcomes import Parts, TradesRequest
from mm_daemon.venues.deribit.session import Ask, Session
from mm_daemon.venues.deribit.settings import DeribitSettings
from mm_daemon.venues.deribit.venue_clock import VenueClock

RESET_VALID_NS = NS_PER_S
"""`reset_mmp` has no `valid_until` at the venue; this bounds how long the frame may wait here."""

TRADES_PER_PAGE_MAX = 1_000
TRADES_END_NS = 60 * NS_PER_S
"""The end of a trades query lies this far ahead, so that no error of the clock hides a trade."""

_READ_INTENTS = (
    ReadOpenOrders,
    ReadOrder,
    ReadTrades,
    ReadPositions,
    ReadAccounts,
    ReadDelivery,
)


class Requests:
    """Turns intents into pending requests."""

    def __init__(
        self,
        settings: DeribitSettings,
        sessions: list[Session],
        market: MarketFeed,
        clock: VenueClock,
        deferred: list[Event],
    ) -> None:
        self._sessions = sessions
        self._market = market
        self._clock = clock
        self._deferred = deferred
        self._group_index = {group.name: group.price_index for group in settings.mmp_groups}
        self._scope_of = {one.name: scope for scope, one in enumerate(settings.underlyings)}
        """The place of each underlying in the parameters, by which its own latch is known."""
        self._scope_of_group = {
            group.name: _only_place(settings, group.price_index) for group in settings.mmp_groups
        }
        self._encoder = Encoder(market.catalogue, clock, settings.mmp_groups)

    def send(self, intent: Intent, now_ns: Ns, generation: int) -> None:
        """Raises LocalProtocolError for what the venue's language cannot say."""
        match intent:
            case MassQuote():
                self._mass_quote(intent, now_ns, generation)
            case PlaceOrder() | AmendOrder() | ResetMmp():
                self._risk(intent, now_ns, generation)
            case CancelOrder() | CancelQuotes() | CancelAll():
                self._cancel(intent, now_ns)
            case ReadTrades():
                self._read_trades(intent, now_ns)
            case ReadOpenOrders() | ReadOrder() | ReadPositions() | ReadAccounts():
                self._read(intent, now_ns)
            case ReadDelivery():
                self._read_delivery(intent, now_ns)
            case ReadInstruments():
                self._read_instruments(intent, now_ns)
            case Resync():
                self._deferred += self._market.resync(intent.instrument_id, now_ns)

    def _mass_quote(self, intent: MassQuote, now_ns: Ns, generation: int) -> None:
        session = self._sessions[Conn.TRADE]
        if not session.is_ready:
            self._not_sent(intent)
            return
        frames = self._encoder.mass_quotes(intent, session.next_id())
        parts = Parts(len(frames)) if len(frames) > 1 else None
        for payload in frames:
            session.post(
                Ask.MASS_QUOTE,
                payload,
                now_ns,
                request_id=intent.request_id,
                context=parts,
                kind=FrameKind.RISK,
                needs=QUOTE,
                generation=generation,
                valid_until_ns=intent.valid_until_ns,
                scope=self._scope_of_group.get(intent.mmp_group, -1),
            )

    def _risk(
        self, intent: PlaceOrder | AmendOrder | ResetMmp, now_ns: Ns, generation: int
    ) -> None:
        session = self._sessions[Conn.TRADE]
        if not session.is_ready:
            self._not_sent(intent)
            return
        kind, needs = FrameKind.RISK, QUOTE
        match intent:
            case PlaceOrder():
                ask = Ask.PLACE
                method, params = self._encoder.place(intent)
                valid_until_ns = intent.valid_until_ns
                kind = FrameKind.REDUCE if intent.reduce_only else FrameKind.RISK
                needs = _permission_of(intent)
                scope = self._scope(intent.instrument_id)
            case AmendOrder():
                ask = Ask.AMEND
                method, params = self._encoder.amend(intent)
                valid_until_ns = intent.valid_until_ns
                scope = self._scope(intent.instrument_id)
            case ResetMmp():
                ask = Ask.RESET_MMP
                method, params = "private/reset_mmp", self._reset_params(intent)
                valid_until_ns = Ns(now_ns + RESET_VALID_NS)
                scope = self._scope_of_group.get(intent.mmp_group, -1)
        session.post(
            ask,
            request(session.next_id(), method, params),
            now_ns,
            request_id=intent.request_id,
            kind=kind,
            needs=needs,
            generation=generation,
            valid_until_ns=valid_until_ns,
            scope=scope,
        )

    def _scope(self, instrument_id: int) -> int:
        underlying = self._market.catalogue[instrument_id].underlying
        return self._scope_of.get(underlying, -1)

    def _reset_params(self, intent: ResetMmp) -> dict[str, object]:
        index = self._group_index.get(intent.mmp_group)
        if index is None:
            raise LocalProtocolError(f"reset of MMP group {intent.mmp_group!r}: not configured")
        return {"index_name": index, "mmp_group": intent.mmp_group}

    def _cancel(self, intent: CancelOrder | CancelQuotes | CancelAll, now_ns: Ns) -> None:
        match intent:
            case CancelOrder():
                method, params = self._encoder.cancel(intent)
                ask = Ask.CANCEL if intent.order_id else Ask.CANCEL_LABEL
                session = self._session_for(wide=False)
            case CancelQuotes():
                method, params = self._encoder.cancel_quotes(intent)
                ask, session = Ask.CANCEL_WIDE, self._session_for(wide=intent.instrument_id < 0)
            case CancelAll():
                method, params = self._encoder.cancel_all(intent)
                ask, session = Ask.CANCEL_WIDE, self._session_for(wide=True)
        if session is None:
            self._not_sent(intent)
            return
        session.ask(ask, method, params, now_ns, request_id=intent.request_id)

    def _read(
        self, intent: ReadOpenOrders | ReadOrder | ReadPositions | ReadAccounts, now_ns: Ns
    ) -> None:
        params: dict[str, object]
        match intent:
            case ReadOpenOrders() if intent.currency:
                ask, method = Ask.OPEN_ORDERS, "private/get_open_orders_by_currency"
                params = {"currency": intent.currency, "type": "all"}
            case ReadOpenOrders():
                ask, method, params = Ask.OPEN_ORDERS, "private/get_open_orders", {}
            case ReadOrder() if intent.order_id:
                ask, method = Ask.ORDER, "private/get_order_state"
                params = {"order_id": intent.order_id}
            case ReadOrder():
                ask, method = Ask.ORDER_LABEL, "private/get_order_state_by_label"
                params = {"currency": intent.currency, "label": intent.client_id}
            case ReadPositions():
                ask, method = Ask.POSITIONS, "private/get_positions"
                params = {"currency": "any"}
            case ReadAccounts():
                ask, method = Ask.ACCOUNTS, "private/get_account_summaries"
                params = {"extended": True}
        session = self._session_for(wide=False)
        if session is None:
            self._not_sent(intent)
            return
        session.ask(ask, method, params, now_ns, request_id=intent.request_id)

    def _read_delivery(self, intent: ReadDelivery, now_ns: Ns) -> None:
        session = self._session_for(wide=False)
        if session is None:
            self._not_sent(intent)
            return
        name = self._market.catalogue.instruments[intent.instrument_id].name
        session.ask(
            Ask.DELIVERY,
            "public/ticker",
            {"instrument_name": name},
            now_ns,
            request_id=intent.request_id,
            context=intent.instrument_id,
        )

    def _read_trades(self, intent: ReadTrades, now_ns: Ns) -> None:
        if not 1 <= intent.count_max <= TRADES_PER_PAGE_MAX:
            raise LocalProtocolError(
                f"trades query of {intent.count_max}, expected 1 to {TRADES_PER_PAGE_MAX}"
            )
        session = self._session_for(wide=False)
        if session is None:
            self._not_sent(intent)
            return
        stores = (False, True)
        context = TradesRequest(intent.currency, len(stores))
        for historical in stores:
            params: dict[str, object] = {
                "currency": intent.currency,
                "start_timestamp": intent.since_venue_ns // NS_PER_MS,
                "end_timestamp": self._clock.venue_ms(now_ns + TRADES_END_NS),
                "count": intent.count_max,
                "sorting": "asc",
                "historical": historical,
            }
            method = "private/get_user_trades_by_currency_and_time"
            session.ask(
                Ask.TRADES,
                method,
                params,
                now_ns,
                request_id=intent.request_id,
                context=context,
            )

    def _read_instruments(self, intent: ReadInstruments, now_ns: Ns) -> None:
        if not self._sessions[Conn.MARKET].is_authenticated:
            self._not_sent(intent)
            return
        self._market.read_catalogue(intent.request_id, intent.ended)
        self._market.pump(now_ns)

    def _session_for(self, *, wide: bool) -> Session | None:
        """The session a SAFE request goes on."""
        trade, kill = self._sessions[Conn.TRADE], self._sessions[Conn.KILL]
        order = (kill, trade) if wide else (trade, kill)
        for session in order:
            if session.is_authenticated:
                return session
        return None

    def _not_sent(self, intent: Intent) -> None:
        text = "not sent: no connection can carry it"
        if isinstance(intent, (*_READ_INTENTS, ReadInstruments)):
            self._deferred.append(QueryFailed(intent.request_id, LOCAL_NOT_SENT, text))
        else:
            self._deferred.append(
                RequestDone(intent.request_id, RejectReason.OTHER, LOCAL_NOT_SENT, text, 0)
            )


def _only_place(settings: DeribitSettings, price_index: str) -> int:
    """The underlying of an index; −1 where two share it, so that a quote could be of either."""
    places = [
        scope for scope, one in enumerate(settings.underlyings) if one.price_index == price_index
    ]
    return places[0] if len(places) == 1 else -1


def _permission_of(intent: PlaceOrder) -> int:
    """The permission an order needs. An amend or an MMP reset serves quoting."""
    if intent.purpose is Purpose.QUOTE:
        return QUOTE
    is_reducing = intent.is_reducing or intent.reduce_only or intent.purpose is Purpose.FLATTEN
    return REDUCE if is_reducing else HEDGE
