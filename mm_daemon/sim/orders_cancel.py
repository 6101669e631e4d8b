"""Cancels in all forms: one order, a filtered mass, quotes by kind, a lost connection.

A mass cancel also turns matching aggressors that wait in the speed bump into immediate-or-cancel.
Cancels are never bumped and never refused for lack of margin; a book in settlement still cancels.
"""

from collections.abc import Callable
from copy import copy

from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelFilter,
    CancelQuotesRequest,
    CancelQuotesType,
    CancelReason,
    CancelReply,
    Order,
    OrderState,
)
from mm_daemon.sim.orders_edit import find_own, order_number
from mm_daemon.sim.orders_resting import cancel_or_expire

Matches = Callable[[Order, Listed], bool]


def cancel_one(state: ExchangeState, caller: Caller, order_id: str, now_us: int) -> Order:
    """private/cancel; quotes are refused, they have cancel_quotes."""
    order = find_own(state, caller, order_id)
    if order.is_quote:
        raise VenueError(Code.OTHER_REJECT, data={"reason": "quotes end by cancel_quotes only"})
    cancel_or_expire(state, state.find(order.instrument), order, CancelReason.USER_REQUEST, now_us)
    return _told(order)


def _told(order: Order) -> Order:
    """A copy for a reply, in which a waiting order is open: the bump has no state of its own."""
    told = copy(order)
    if told.state is OrderState.SPEED_BUMPED:
        told.state = OrderState.OPEN
    return told


def filter_matches(which: CancelFilter, order: Order, listed: Listed) -> bool:
    """True for orders that every sent field of the filter names; a label never names a quote."""
    spec = listed.spec
    return (
        (which.currency is None or which.currency == spec.currency)
        and (which.price_index is None or which.price_index == spec.price_index)
        and (which.kind is None or which.kind is spec.kind)
        and (which.instrument is None or which.instrument == spec.name)
        and (which.label is None or (which.label == order.label and not order.is_quote))
        and (which.order_type is None or which.order_type is order.order_type)
    )


def cancel_matching(
    state: ExchangeState, caller: Caller, which: CancelFilter, now_us: int
) -> CancelReply:
    """cancel_all and its narrower forms."""
    reply = _cancel_where(
        state,
        caller.account,
        lambda order, listed: filter_matches(which, order, listed),
        CancelReason.USER_REQUEST,
        now_us,
    )
    _freeze(state, caller, which.freeze_quotes, now_us)
    return reply


def _freeze(state: ExchangeState, caller: Caller, freeze: bool, now_us: int) -> None:
    if freeze:
        account = state.account(caller)
        account.quotes_frozen_until_us = now_us + state.config.quotes_freeze_us


def cancel_quotes(
    state: ExchangeState, caller: Caller, request: CancelQuotesRequest, now_us: int
) -> CancelReply:
    """private/cancel_quotes: only quotes, chosen by the fields its type needs."""
    chosen = _quote_rule(request)
    reply = _cancel_where(
        state,
        caller.account,
        lambda order, listed: order.is_quote and chosen(order, listed),
        CancelReason.USER_REQUEST,
        now_us,
    )
    _freeze(state, caller, request.freeze_quotes, now_us)
    return reply


def _quote_rule(request: CancelQuotesRequest) -> Matches:
    match request.cancel_type:
        case CancelQuotesType.ALL:
            return lambda order, listed: True
        case CancelQuotesType.DELTA:
            low, high = request.min_delta, request.max_delta
            if low is None or high is None:
                raise invalid_params("min_delta", "min_delta and max_delta required")
            return lambda order, listed: _delta_within(listed, low, high)
        case CancelQuotesType.QUOTE_SET_ID:
            set_id = _required("quote_set_id", request.quote_set_id)
            return lambda order, listed: order.quote_set_id == set_id
        case CancelQuotesType.INSTRUMENT:
            name = _required("instrument_name", request.instrument)
            return lambda order, listed: order.instrument == name
        case CancelQuotesType.INSTRUMENT_KIND:
            kind = _required("kind", request.kind)
            currency = request.currency
            return lambda order, listed: (
                listed.spec.kind == kind and currency in {None, listed.spec.currency}
            )
        case CancelQuotesType.CURRENCY:
            wanted = _required("currency", request.currency)
            return lambda order, listed: listed.spec.currency == wanted
        case CancelQuotesType.CURRENCY_PAIR:
            index_name = _required("currency_pair", request.price_index)
            return lambda order, listed: listed.spec.price_index == index_name


def _required(param: str, value: str | None) -> str:
    if value is None:
        raise invalid_params(param, "value required")
    return value


def _delta_within(listed: Listed, low: float, high: float) -> bool:
    """True for options whose published delta lies in [low, high]."""
    if not listed.spec.is_option or listed.mark is None:
        return False
    return low <= listed.mark.delta <= high


def _cancel_where(
    state: ExchangeState,
    account_name: str,
    matches: Matches,
    reason: CancelReason,
    now_us: int,
) -> CancelReply:
    """Cancels every open and waiting order of an account that matches, in order of entry."""
    ended: list[Order] = []
    account = state.accounts[account_name]
    for order in list(account.open.values()):
        listed = state.find(order.instrument)
        if matches(order, listed):
            cancel_or_expire(state, listed, order, reason, now_us)
            ended.append(_told(order))
    for waiting in state.pending.waiting():
        order = waiting.order
        if order.account != account_name or waiting.ioc_reason:
            continue
        listed = state.find(order.instrument)
        if waiting.is_new and matches(order, listed):
            cancel_or_expire(state, listed, order, reason, now_us)
            ended.append(_told(order))
    return CancelReply(tuple(ended))


def on_disconnect(state: ExchangeState, caller: Caller, graceful: bool, now_us: int) -> CancelReply:
    """Forgets a connection; its own orders are cancelled if it asked so and did not log out."""
    account = state.account(caller)
    armed = account.cod_connections.pop(caller.connection, False)
    if graceful or not armed:
        return CancelReply(())
    return _cancel_where(
        state,
        caller.account,
        lambda order, listed: order.connection == caller.connection,
        CancelReason.CANCEL_ON_DISCONNECT,
        now_us,
    )


def open_orders(state: ExchangeState, caller: Caller, which: CancelFilter) -> list[Order]:
    """Resting orders and quotes that match, then new ones still in the bump, by order number."""
    account = state.account(caller)
    found = [
        copy(order)
        for order in account.open.values()
        if filter_matches(which, order, state.find(order.instrument))
    ]
    for waiting in state.pending.waiting():
        order = waiting.order
        if order.account != account.name or order.seq in account.open:
            continue
        if filter_matches(which, order, state.find(order.instrument)):
            found.append(copy(order))
    found.sort(key=lambda order: order.seq)
    return found


def order_state(state: ExchangeState, caller: Caller, order_id: str) -> Order:
    """One order, open, waiting or still remembered. Raises 10004."""
    account = state.account(caller)
    try:
        return copy(find_own(state, caller, order_id))
    except VenueError as refusal:
        if refusal.code is not Code.NOT_OPEN_ORDER:
            raise
    closed = account.closed(order_number(order_id))
    assert closed is not None, f"{order_id} ended and is not remembered"
    return copy(closed)
