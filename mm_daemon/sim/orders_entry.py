"""New orders: from a request to admitted terms and an order that is executed or waits."""

from copy import copy

from mm_daemon.sim import orders as rules
from mm_daemon.sim.accounts import Account
from mm_daemon.sim.accounts_posting import prefixed
from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelReason,
    Order,
    OrderReply,
    OrderRequest,
    OrderState,
    OrderType,
    Pending,
)
from mm_daemon.sim.fees import coin_size_e8, contracts_e8
from mm_daemon.sim.mmp import check_quote_size
from mm_daemon.sim.orders_execute import (
    admit,
    execute,
    is_bumped,
    is_risk_reducing,
    reducing_amount_e8,
    settle_post_only,
    wait,
)
from mm_daemon.sim.orders_pending import Terms


def place(
    state: ExchangeState, caller: Caller, request: OrderRequest, now_us: int
) -> OrderReply | Pending:
    """private/buy and private/sell."""
    account = state.account(caller)
    listed = rules.tradable(state, request.instrument)
    rules.check_valid_until(request.valid_until_ms, now_us)
    rules.check_form(request)
    if len(account.open) >= state.config.open_orders_max:
        raise VenueError(Code.OTHER_REJECT, data={"reason": "too many open orders"})
    amount_e8 = rules.amount_of(listed.spec, request.amount_e8, request.contracts_e8)
    if amount_e8 is None:
        raise invalid_params("amount", "value required")
    rules.check_amount(listed.spec, amount_e8)
    if request.order_type is OrderType.LIMIT:
        assert request.price_e8 is not None
        rules.check_price(listed, request.price_e8, request.sign)
    if request.reduce_only:
        amount_e8 = reducing_amount_e8(account, listed, request.sign, amount_e8)
    if request.mmp:
        check_group(account, listed, "", request.sign, amount_e8, None, now_us)
    terms = _entry_terms(listed, request, amount_e8)
    order = _new_order(state, listed, account, caller, request, terms, now_us)
    admit(state, account, listed, order, terms, amount_e8, now_us)
    if is_bumped(listed, order, terms):
        order.state = OrderState.SPEED_BUMPED
        return wait(state, listed, order, terms, is_new=True, now_us=now_us)
    trades = execute(state, listed, order, terms, CancelReason.NONE, now_us)
    return OrderReply(copy(order), tuple(trades))


def _entry_terms(listed: Listed, request: OrderRequest, amount_e8: int) -> Terms:
    terms = Terms(
        price_e8=request.price_e8 if request.order_type is OrderType.LIMIT else None,
        amount_e8=amount_e8,
        post_only=request.post_only,
        reject_post_only=request.reject_post_only,
    )
    return settle_post_only(listed, terms, request.sign)


def next_order_id(state: ExchangeState, listed: Listed) -> tuple[int, str]:
    state.order_seq += 1
    return state.order_seq, prefixed(listed.spec.currency, state.order_seq)


def _new_order(
    state: ExchangeState,
    listed: Listed,
    account: Account,
    caller: Caller,
    request: OrderRequest,
    terms: Terms,
    now_us: int,
) -> Order:
    seq, order_id = next_order_id(state, listed)
    return Order(
        seq=seq,
        order_id=order_id,
        account=account.name,
        connection=caller.connection,
        instrument=listed.spec.name,
        sign=request.sign,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        price_e8=terms.price_e8,
        amount_e8=terms.amount_e8,
        contracts_e8=contracts_e8(listed.spec, terms.amount_e8),
        label=request.label,
        post_only=request.post_only,
        reject_post_only=request.reject_post_only,
        reduce_only=request.reduce_only,
        mmp=request.mmp,
        risk_reducing=is_risk_reducing(account, listed, request.sign, terms.amount_e8),
        via_api=request.via_api,
        user_id=account.config.user_id,
        created_us=now_us,
        updated_us=now_us,
    )


def check_group(
    account: Account,
    listed: Listed,
    group_name: str,
    sign: int,
    amount_e8: int,
    replaced: Order | None,
    now_us: int,
) -> None:
    """13040 without a protection group, 13030 while it is frozen, 10021 past its sizes."""
    group = account.mmp_groups.get((listed.spec.price_index, group_name))
    if group is None:
        raise VenueError(Code.MMP_REQUIRED)
    if group.frozen_at(now_us):
        raise VenueError(Code.MMP_TRIGGER)
    price_e8 = listed.mark_price_e8()
    open_e8 = 0
    if not group_name:  # a named group has one quote per side and book: the one replaced
        open_e8 = sum(
            order.remaining_e8
            for order in account.open.values()
            if order.instrument == listed.spec.name
            and order.sign == sign
            and order.mmp
            and not order.mmp_group
            and order is not replaced
        )
    check_quote_size(
        group.config,
        amount_coin_e8=coin_size_e8(listed.spec, amount_e8, price_e8),
        side_open_coin_e8=coin_size_e8(listed.spec, open_e8, price_e8),
    )
