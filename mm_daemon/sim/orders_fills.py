"""Matching one aggressor against a book, and what each fill sets off.

Price-time priority, maker's price. After every single fill the protection groups of both sides
are counted and reduce-only orders are shrunk to the position, so that the next fill already meets
the consequences: a group that triggers in the middle of a sweep trades no further.
"""

from mm_daemon.sim.accounts_posting import fill_order, post_fill, print_trade
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import MmpTriggered
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import (
    CancelReason,
    Order,
    OrderState,
    SelfTradeMode,
    TimeInForce,
    UserTrade,
)
from mm_daemon.sim.mmp import trade_measures
from mm_daemon.sim.orders_resting import cancel, cancel_or_expire, close, reduce_in_place, rest


def check_self_trade(
    state: ExchangeState, listed: Listed, order: Order, limit_e8: int, amount_e8: int
) -> None:
    """Refuses with 10003 an aggressor that would reach an order of its own account."""
    account = state.accounts[order.account]
    if account.self_trade_mode is not SelfTradeMode.REJECT_TAKER:
        return
    if listed.book.meets_own(account.name, order.sign, limit_e8, amount_e8):
        raise VenueError(Code.ORDER_OVERLAP)


def sweep(
    state: ExchangeState, listed: Listed, taker: Order, limit_e8: int, now_us: int
) -> list[UserTrade]:
    """Fills `taker`, which is in no book, up to `limit_e8`; its trade records in order.

    Own orders that stand in the way are cancelled: reject_taker has been checked before.
    The taker's state is left OPEN or CANCELLED (its own group triggered).
    """
    opposite = listed.book.side(-taker.sign)
    trades: list[UserTrade] = []
    while taker.remaining_e8 > 0 and taker.state is OrderState.OPEN:
        maker = opposite.first()
        if maker is None:
            break
        price_e8 = opposite.best_price_e8()
        if taker.sign * (limit_e8 - price_e8) < 0:
            break
        if maker.account == taker.account:
            cancel(state, listed, maker, CancelReason.RISK_MITIGATION, now_us)
            continue
        record = _fill_pair(state, listed, taker, maker, price_e8, now_us)
        if record is not None:
            trades.append(record)
    return trades


def _fill_pair(
    state: ExchangeState,
    listed: Listed,
    taker: Order,
    maker: Order,
    price_e8: int,
    now_us: int,
) -> UserTrade | None:
    """Executes the largest amount both orders allow, then its consequences."""
    amount_e8 = min(taker.remaining_e8, maker.remaining_e8)
    printed = print_trade(
        state, listed, sign=taker.sign, amount_e8=amount_e8, price_e8=price_e8, now_us=now_us
    )
    listed.book.side(maker.sign).reduce(maker, amount_e8)
    state.touch_book(listed)
    for order in (maker, taker):
        fill_order(order, listed, amount_e8=amount_e8, price_e8=price_e8, now_us=now_us)
    post_fill(state, listed, maker, printed, is_maker=True, now_us=now_us)
    record = post_fill(state, listed, taker, printed, is_maker=False, now_us=now_us)
    if maker.remaining_e8 == 0:
        close(state, listed, maker, OrderState.FILLED, CancelReason.NONE, now_us)
    for order in (maker, taker):
        if _protect(state, listed, order, amount_e8, price_e8, now_us) and order is taker:
            taker.state = OrderState.CANCELLED
            taker.cancel_reason = CancelReason.MMP_TRIGGER
        _shrink_reduce_only(state, listed, order.account, now_us)
    return record


def _protect(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    amount_e8: int,
    price_e8: int,
    now_us: int,
) -> bool:
    """Counts a fill in the order's protection group; True where that broke it and pulled it."""
    if not order.mmp:
        return False
    key = (listed.spec.price_index, order.mmp_group)
    group = state.accounts[order.account].mmp_groups.get(key)
    if group is None:
        return False
    coin_e8, delta, vega_usd = trade_measures(
        listed.spec, listed.mark, amount_e8 * order.sign, price_e8
    )
    if not group.on_trade(coin_e8=coin_e8, delta=delta, vega_usd=vega_usd, now_us=now_us):
        return False
    pull_group(state, order.account, key, CancelReason.MMP_TRIGGER, now_us)
    state.publish(
        MmpTriggered(
            account=order.account,
            index_name=key[0],
            mmp_group=key[1],
            frozen_until_ms=group.frozen_until_ms(),
            ts_us=now_us,
        )
    )
    return True


def pull_group(
    state: ExchangeState,
    account_name: str,
    key: tuple[str, str],
    reason: CancelReason,
    now_us: int,
) -> None:
    """Cancels every resting order of one protection group; waiting ones become IOC."""
    account = state.accounts[account_name]
    for order in list(account.open.values()):
        if not order.mmp or order.mmp_group != key[1]:
            continue
        listed = state.listed[order.instrument]
        if listed.spec.price_index == key[0]:
            cancel_or_expire(state, listed, order, reason, now_us)
    for waiting in state.pending.waiting():
        order = waiting.order
        if not waiting.is_new or order.account != account_name:
            continue
        if order.mmp and order.mmp_group == key[1]:
            listed = state.listed[order.instrument]
            if listed.spec.price_index == key[0]:
                cancel_or_expire(state, listed, order, reason, now_us)


def _shrink_reduce_only(
    state: ExchangeState, listed: Listed, account_name: str, now_us: int
) -> None:
    """Shrinks or cancels resting reduce-only orders that the position no longer carries."""
    account = state.accounts[account_name]
    orders = account.reduce_only.get(listed.spec.name)
    if not orders:
        return
    held_e8 = account.position_e8(listed.spec.name)
    for order in list(orders.values()):
        room_e8 = max(0, -held_e8 * order.sign)
        if room_e8 == 0:
            cancel(state, listed, order, CancelReason.RISK_MITIGATION, now_us)
        elif order.remaining_e8 > room_e8:
            reduce_in_place(state, listed, order, order.remaining_e8 - room_e8, now_us)


def settle_remainder(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    *,
    may_rest: bool,
    reason: CancelReason,
    now_us: int,
) -> None:
    """Ends or rests an aggressor after its sweep; a market-limit rests at its last fill."""
    if order.remaining_e8 == 0:
        close(state, listed, order, OrderState.FILLED, CancelReason.NONE, now_us)
    elif order.state is OrderState.CANCELLED:
        close(state, listed, order, OrderState.CANCELLED, order.cancel_reason, now_us)
    elif may_rest:
        rest(state, listed, order)
    else:
        close(state, listed, order, OrderState.CANCELLED, reason, now_us)


RESTING_TIMES = frozenset({TimeInForce.GOOD_TIL_CANCELLED, TimeInForce.GOOD_TIL_DAY})
