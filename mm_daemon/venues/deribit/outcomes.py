"""Replies to intents: what the venue answered, as evidence and one outcome for each request.

A request ends in exactly one `RequestDone` (orders, cancels) or its read's event or `QueryFailed`;
where it took several frames, after the last of them. A time-out ends it with an unknown outcome,
and if the true reply comes later, that is told as well, because it is evidence.
"""

from __future__ import annotations

from typing import cast

import msgspec

from mm_daemon.domain.events import (
    AccountsRead,
    DeliveryRead,
    Event,
    FrameRefused,
    OpenOrdersRead,
    OrderRead,
    PositionsRead,
    QueryFailed,
    QuoteSideFailed,
    RequestDone,
    TradesRead,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.orders import FillEvidence, RejectReason
from mm_daemon.domain.units import Ns, Side, to_coin_e8
from mm_daemon.venues.deribit.account import Account, account_evidence
from mm_daemon.venues.deribit.errors import LOCAL_UNREADABLE, NOT_FOUND_CODES, reject_reason
from mm_daemon.venues.deribit.messages import (
    DECODE_ERRORS,
    CancelReportBody,
    DeliveryBody,
    ErrorBody,
    MassQuotedBody,
    OrderBody,
    PlacedBody,
    PositionBody,
    TradesBody,
    UserTradeBody,
)
from mm_daemon.venues.deribit.session import Ask, Pending
from mm_daemon.venues.deribit.startup import decode_accounts

MESSAGE_CHARS_MAX = 200

READS = (
    Ask.OPEN_ORDERS,
    Ask.ORDER,
    Ask.ORDER_LABEL,
    Ask.TRADES,
    Ask.POSITIONS,
    Ask.ACCOUNTS,
    Ask.DELIVERY,
)

_decode_placed = msgspec.json.Decoder(PlacedBody).decode
_decode_order = msgspec.json.Decoder(OrderBody).decode
_decode_orders = msgspec.json.Decoder(list[OrderBody]).decode
_decode_mass_quoted = msgspec.json.Decoder(MassQuotedBody).decode
_decode_positions = msgspec.json.Decoder(list[PositionBody]).decode
_decode_trades = msgspec.json.Decoder(TradesBody).decode
_decode_cancelled = msgspec.json.Decoder(int | list[CancelReportBody]).decode
_decode_detail = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_delivery = msgspec.json.Decoder(DeliveryBody).decode
_decode_text = msgspec.json.Decoder(str).decode


class Parts(msgspec.Struct):
    """A request that took several frames: how many are open, and the worst outcome so far."""

    left: int
    worst: RequestDone | None = None


class TradesRequest(msgspec.Struct):
    """One page of own trades, asked of the recent and the historical store; neither holds all."""

    currency: str
    left: int
    bodies: list[UserTradeBody] = []
    complete_to_ms: int | None = None
    """Where a store had more: beyond its last trade the page would have holes."""
    has_more: bool = False
    failure: ErrorBody | None = None


class Outcomes:
    """Reads the replies to intents."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def result(
        self, pending: Pending, raw: msgspec.Raw, ts_venue_ns: Ns, conn: Conn
    ) -> list[Event]:
        """A positive reply. What cannot be understood leaves the outcome unknown."""
        try:
            return self._read(pending, raw, ts_venue_ns, conn)
        except DECODE_ERRORS as error:
            reason = f"reply to {pending.ask.value}: {error}"[:MESSAGE_CHARS_MAX]
            body = ErrorBody(LOCAL_UNREADABLE, reason)
            return [FrameRefused(int(conn), reason), *self.error(pending, body, ts_venue_ns)]

    def error(self, pending: Pending, error: ErrorBody, ts_venue_ns: Ns) -> list[Event]:
        """A negative reply, or one of our own codes for a reply that will not come."""
        request_id = pending.request_id
        message = _message(error)
        if pending.ask is Ask.TRADES:
            return self._trades_failed(pending, error)
        if pending.ask in (Ask.ORDER, Ask.ORDER_LABEL) and error.code in NOT_FOUND_CODES:
            return [OrderRead(request_id, None)]
        if pending.ask in READS:
            return [QueryFailed(request_id, error.code, message)]
        reason = outcome_of(error)
        return _finish(pending, RequestDone(request_id, reason, error.code, message, ts_venue_ns))

    def _read(self, pending: Pending, raw: msgspec.Raw, ts_venue_ns: Ns, conn: Conn) -> list[Event]:
        account, request_id = self._account, pending.request_id
        done = RequestDone(request_id, None, 0, "", ts_venue_ns)
        match pending.ask:
            case Ask.MASS_QUOTE:
                return self._mass_quoted(pending, raw, done, conn)
            case Ask.PLACE | Ask.AMEND:
                placed = _decode_placed(raw)
                fills = account.fills(placed.trades, "reply", conn)
                return [*fills, account.order(placed.order), done]
            case Ask.CANCEL:
                return [account.order(_decode_order(raw)), done]
            case Ask.CANCEL_LABEL | Ask.CANCEL_WIDE:
                return self._cancelled(pending, raw, done)
            case Ask.RESET_MMP:
                return [done]
            case Ask.OPEN_ORDERS:
                orders = tuple(account.order(body) for body in _decode_orders(raw))
                return [OpenOrdersRead(request_id, orders, ts_venue_ns)]
            case Ask.ORDER:
                return [OrderRead(request_id, account.order(_decode_order(raw)))]
            case Ask.ORDER_LABEL:
                found = [account.order(body) for body in _decode_orders(raw)]
                newest = max(found, key=lambda order: order.ts_venue_ns, default=None)
                return [OrderRead(request_id, newest)]
            case Ask.TRADES:
                return self._trades(pending, _decode_trades(raw), conn)
            case Ask.POSITIONS:
                bodies = _decode_positions(raw)
                positions, refused = account.positions(bodies, ts_venue_ns, conn)
                return [*refused, PositionsRead(request_id, tuple(positions))]
            case Ask.ACCOUNTS:
                summaries = decode_accounts(raw)
                rows = summaries if isinstance(summaries, list) else summaries.summaries
                evidence = tuple(account_evidence(row, ts_venue_ns) for row in rows)
                return [AccountsRead(request_id, evidence)]
            case Ask.DELIVERY:
                price = _decode_delivery(raw).delivery_price
                price_e8 = -1 if price is None else to_coin_e8(price)
                return [DeliveryRead(request_id, cast("int", pending.context), price_e8)]
            case _:
                raise AssertionError(f"{pending.ask} is not an intent's request")

    def _mass_quoted(
        self, pending: Pending, raw: msgspec.Raw, done: RequestDone, conn: Conn
    ) -> list[Event]:
        body = _decode_mass_quoted(raw)
        account = self._account
        events = account.fills(body.trades, "reply", conn)
        events += [account.order(order) for order in body.orders]
        for failure in body.errors:
            instrument_id = account.instrument_id(failure.instrument_name)
            side = Side.BUY if failure.side == "bid" else Side.SELL
            error = failure.error
            reason = outcome_of(error)
            events.append(
                QuoteSideFailed(pending.request_id, instrument_id, side, reason, error.code)
            )
        return events + _finish(pending, done)

    def _cancelled(self, pending: Pending, raw: msgspec.Raw, done: RequestDone) -> list[Event]:
        """A count, or a report for each part; one failed part makes the whole not done."""
        reports = _decode_cancelled(raw)
        request_id, ts_venue_ns = pending.request_id, done.ts_venue_ns
        if isinstance(reports, int):
            if reports == 0 and pending.ask is Ask.CANCEL_LABEL:
                reason = RejectReason.NOT_FOUND
                return [RequestDone(request_id, reason, 0, "no open order has it", ts_venue_ns)]
            return [msgspec.structs.replace(done, message=f"{reports} cancelled")]
        events: list[Event] = []
        count = 0
        for report in reports:
            events += [self._account.order(body) for body in report.result]
            count += len(report.result)
            if report.error is not None:
                where = report.instrument_name or report.currency
                message = f"{where}: {_message(report.error)}"
                reason = outcome_of(report.error)
                done = RequestDone(request_id, reason, report.error.code, message, ts_venue_ns)
        if done.reason is None:
            done = msgspec.structs.replace(done, message=f"{count} cancelled")
        return [*events, done]

    def _trades(self, pending: Pending, page: TradesBody, conn: Conn) -> list[Event]:
        request = cast(TradesRequest, pending.context)
        request.left -= 1
        request.bodies += page.trades
        if page.has_more and page.trades:
            request.has_more = True
            last_ms = max(body.timestamp for body in page.trades)
            known_ms = request.complete_to_ms
            request.complete_to_ms = last_ms if known_ms is None else min(last_ms, known_ms)
        return self._trades_done(pending, request, conn)

    def _trades_failed(self, pending: Pending, error: ErrorBody) -> list[Event]:
        request = cast(TradesRequest, pending.context)
        request.left -= 1
        request.failure = request.failure or error
        return self._trades_done(pending, request, Conn.TRADE)

    def _trades_done(self, pending: Pending, request: TradesRequest, conn: Conn) -> list[Event]:
        """One store alone is no answer: both, or the query failed."""
        if request.left:
            return []
        failure = request.failure
        if failure is not None:
            return [QueryFailed(pending.request_id, failure.code, _message(failure))]
        unique = {
            (body.instrument_name, str(body.trade_id), str(body.order_id)): body
            for body in request.bodies
        }
        rows = list(unique.values())
        rows.sort(key=lambda body: (body.timestamp, body.trade_seq, str(body.trade_id)))
        if request.complete_to_ms is not None:
            rows = [body for body in rows if body.timestamp <= request.complete_to_ms]
        events = self._account.fills(rows, "recon", conn)
        fills = tuple(event for event in events if isinstance(event, FillEvidence))
        refused = [event for event in events if not isinstance(event, FillEvidence)]
        page = TradesRead(pending.request_id, request.currency, fills, request.has_more)
        return [*refused, page]


def outcome_of(error: ErrorBody) -> RejectReason:
    """The typed outcome of one error object."""
    return reject_reason(error.code, _detail(error))


def _finish(pending: Pending, done: RequestDone) -> list[Event]:
    """The outcome at once, or with the last part; an unknown part outweighs a refused one."""
    parts = pending.context
    if not isinstance(parts, Parts):
        return [done]
    parts.left -= 1
    if parts.worst is None or _weight(done) > _weight(parts.worst):
        parts.worst = done
    return [] if parts.left > 0 else [parts.worst]


def _weight(done: RequestDone) -> int:
    if done.reason is None:
        return 0
    return 2 if done.reason is RejectReason.UNKNOWN_OUTCOME else 1


def _detail(error: ErrorBody) -> str:
    try:
        raw = _decode_detail(error.data).get("reason")
        return "" if raw is None else _decode_text(raw)
    except DECODE_ERRORS:
        return ""  # `data` has no fixed shape; its reason only refines the code


def _message(error: ErrorBody) -> str:
    detail = _detail(error)
    text = f"{error.message}: {detail}" if detail else error.message
    return text[:MESSAGE_CHARS_MAX]
