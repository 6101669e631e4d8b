"""Edits of resting orders: what keeps its place, what goes to the back, what is refused.

Only a smaller amount at the same price keeps priority. Every other edit is executed like a new
order in the place of the old one, through the speed bump where it would trade.
"""

from copy import copy

from mm_daemon.sim import orders as rules
from mm_daemon.sim.accounts import Account
from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelReason,
    EditRequest,
    Order,
    OrderReply,
    Pending,
    TimeInForce,
)
from mm_daemon.sim.fees import contracts_e8
from mm_daemon.sim.orders_entry import check_group
from mm_daemon.sim.orders_execute import (
    admit,
    drop_older,
    execute_change,
    is_bumped,
    reducing_amount_e8,
    settle_post_only,
    wait,
)
from mm_daemon.sim.orders_pending import Terms
from mm_daemon.sim.orders_resting import cancel, reduce_in_place


def find_own(state: ExchangeState, caller: Caller, order_id: str) -> Order:
    """The account's open or waiting order of that id; 10004 unknown, 11044 already ended."""
    account = state.account(caller)
    seq = order_number(order_id)
    order = account.open.get(seq)
    if order is not None and order.order_id == order_id:
        return order
    for waiting in state.pending.waiting():
        if waiting.order.account == account.name and waiting.order.order_id == order_id:
            return waiting.order
    closed = account.closed(seq)
    if closed is not None and closed.order_id == order_id:
        raise VenueError(Code.NOT_OPEN_ORDER)
    raise VenueError(Code.ORDER_NOT_FOUND)


def order_number(order_id: str) -> int:
    """The number behind an order id, 0 where it has none."""
    digits = order_id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _order_to_edit(state: ExchangeState, caller: Caller, request: EditRequest) -> Order:
    if request.order_id is not None:
        order = find_own(state, caller, request.order_id)
    else:
        if request.label is None or request.instrument is None:
            raise invalid_params("label", "label and instrument_name required")
        found = [
            order
            for order in state.account(caller).open.values()
            if order.label == request.label and order.instrument == request.instrument
        ]
        if not found:
            raise VenueError(Code.ORDER_NOT_FOUND)
        if len(found) > 1:
            raise VenueError(Code.LABEL_NOT_UNIQUE)
        order = found[0]
    if order.is_quote:
        raise VenueError(Code.OTHER_REJECT, data={"reason": "quotes change by mass_quote only"})
    return order


def edit(
    state: ExchangeState, caller: Caller, request: EditRequest, now_us: int
) -> OrderReply | Pending:
    """private/edit and private/edit_by_label."""
    order = _order_to_edit(state, caller, request)
    account = state.account(caller)
    listed = rules.tradable(state, order.instrument)
    rules.check_valid_until(request.valid_until_ms, now_us)
    waiting = state.pending.of_order(order)
    if waiting is not None and (waiting.is_new or waiting.ioc_reason):
        raise VenueError(Code.NOT_OPEN_ORDER)
    total_e8 = rules.amount_of(listed.spec, request.amount_e8, request.contracts_e8)
    total_e8 = order.amount_e8 if total_e8 is None else total_e8
    price_e8 = order.price_e8 if request.price_e8 is None else request.price_e8
    assert price_e8 is not None, f"{order.order_id} rests without a price"
    _check_edit(account, listed, order, request, total_e8, price_e8, now_us)
    if price_e8 == order.price_e8 and total_e8 < order.amount_e8:
        drop_older(state, order)
        _set_flags(state, listed, order, request)
        reduce_in_place(state, listed, order, order.amount_e8 - total_e8, now_us)
        order.contracts_e8 = contracts_e8(listed.spec, total_e8)
        order.replaced = True
        return OrderReply(copy(order), ())
    return _edit_anew(state, account, listed, order, request, total_e8, price_e8, now_us)


def _check_edit(
    account: Account,
    listed: Listed,
    order: Order,
    request: EditRequest,
    total_e8: int,
    price_e8: int,
    now_us: int,
) -> None:
    rules.check_amount(listed.spec, total_e8)
    if total_e8 <= order.filled_e8:
        raise VenueError(Code.INVALID_AMOUNT, data={"reason": "not more than what is filled"})
    rules.check_price(listed, price_e8, order.sign)
    if request.post_only and order.time_in_force is not TimeInForce.GOOD_TIL_CANCELLED:
        raise invalid_params("post_only", "only with good_til_cancelled")
    if request.mmp or (request.mmp is None and order.mmp):
        left_e8 = total_e8 - order.filled_e8
        check_group(account, listed, order.mmp_group, order.sign, left_e8, order, now_us)
    if request.reduce_only:
        reducing_amount_e8(account, listed, order.sign, total_e8)


def _set_flags(state: ExchangeState, listed: Listed, order: Order, request: EditRequest) -> None:
    order.post_only = request.post_only
    order.reject_post_only = request.reject_post_only
    order.reduce_only = request.reduce_only
    if request.mmp is not None:
        order.mmp = request.mmp
    account = state.accounts[order.account]
    if order.seq in account.open:
        account.remember_open(order, listed.spec.settlement_currency)


def _edit_anew(
    state: ExchangeState,
    account: Account,
    listed: Listed,
    order: Order,
    request: EditRequest,
    total_e8: int,
    price_e8: int,
    now_us: int,
) -> OrderReply | Pending:
    """An edit that loses priority: as a new order in the place of the old one."""
    terms = Terms(
        price_e8=price_e8,
        amount_e8=total_e8 - order.filled_e8,
        total_e8=total_e8,
        post_only=request.post_only,
        reject_post_only=request.reject_post_only,
    )
    try:
        terms = settle_post_only(listed, terms, order.sign)
    except VenueError:
        drop_older(state, order)
        cancel(state, listed, order, CancelReason.EDIT_POST_ONLY_REJECT, now_us)
        raise
    admit(state, account, listed, order, terms, total_e8 - order.amount_e8, now_us)
    drop_older(state, order)
    _set_flags(state, listed, order, request)
    if is_bumped(listed, order, terms):
        return wait(state, listed, order, terms, is_new=False, now_us=now_us)
    trades = execute_change(state, listed, order, terms, CancelReason.NONE, now_us)
    return OrderReply(copy(order), tuple(trades))
