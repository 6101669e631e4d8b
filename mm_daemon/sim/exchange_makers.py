"""Quiet accounts' way into the books: two calls without checks that only clients need.

In-process makers keep one bid and one ask per book and replace both in one call; takers send an
immediate-or-cancel. Matching, fees, positions and prints are those of everybody else. Orders of
quiet makers are known to the book and to `Listed.house` only.
"""

from mm_daemon.sim.accounts import Account
from mm_daemon.sim.accounts_posting import prefixed
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import Order, OrderState, OrderType, TimeInForce
from mm_daemon.sim.fees import contracts_e8
from mm_daemon.sim.orders_fills import sweep
from mm_daemon.sim.orders_resting import lift
from mm_daemon.sim.spec import BUY, SELL, InstrumentState


def is_trading(state: ExchangeState, listed: Listed) -> bool:
    """True where the book takes orders now."""
    return (
        listed.state is InstrumentState.OPEN
        and state.now_us >= state.settling_until_us
        and not state.maintenance
        and listed.spec.price_index not in state.locked_indices
    )


def quote_both(
    state: ExchangeState,
    account: Account,
    listed: Listed,
    bid: tuple[int, int],
    ask: tuple[int, int],
    now_us: int,
) -> int:
    """Replaces both orders of one maker, each (price, amount); the amount that traded at once.

    A bid that meets the maker's own old ask removes it, as any own order in the way; the new ask
    follows in the same call.
    """
    assert account.quiet, f"{account.name} is a client: clients quote by mass_quote"
    assert not (bid[1] and ask[1]) or bid[0] < ask[0], f"{listed.spec.name} {bid} {ask}"
    pair = listed.house.get(account.name)
    if pair is None:
        pair = listed.house[account.name] = [None, None]
    traded = _replace(state, account, listed, pair, BUY, bid, now_us)
    return traded + _replace(state, account, listed, pair, SELL, ask, now_us)


def _replace(
    state: ExchangeState,
    account: Account,
    listed: Listed,
    pair: list[Order | None],
    sign: int,
    wanted: tuple[int, int],
    now_us: int,
) -> int:
    price_e8, amount_e8 = wanted
    slot = 0 if sign > 0 else 1
    order = pair[slot]
    book = listed.book
    if order is not None and order.state is OrderState.OPEN:
        if order.price_e8 == price_e8 and order.amount_e8 == amount_e8:
            return 0
        side = book.side(sign)
        if order.price_e8 == price_e8 and 0 < amount_e8 < order.amount_e8:
            side.reduce(order, order.amount_e8 - amount_e8)
            order.amount_e8 = amount_e8
            return 0
        side.remove(order)
    if amount_e8 == 0:
        if order is not None:
            order.state = OrderState.CANCELLED
        return 0
    if order is None:
        order = pair[slot] = _house_order(state, account, listed, sign, now_us)
    order.price_e8 = price_e8
    order.amount_e8 = amount_e8
    order.filled_e8 = order.filled_value_e18 = 0
    order.state = OrderState.OPEN
    order.updated_us = now_us
    if book.would_cross(sign, price_e8):
        sweep(state, listed, order, price_e8, now_us)
    if order.amount_e8 == 0:
        order.state = OrderState.FILLED
        return amount_e8
    book.side(sign).add(order)
    return amount_e8 - order.amount_e8


def _house_order(
    state: ExchangeState, account: Account, listed: Listed, sign: int, now_us: int
) -> Order:
    state.order_seq += 1
    return Order(
        seq=state.order_seq,
        order_id=prefixed(listed.spec.currency, state.order_seq),
        account=account.name,
        connection=0,
        instrument=listed.spec.name,
        sign=sign,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GOOD_TIL_CANCELLED,
        price_e8=None,
        amount_e8=0,
        contracts_e8=0,
        is_quote=True,
        user_id=account.config.user_id,
        created_us=now_us,
        updated_us=now_us,
    )


def take(
    state: ExchangeState,
    account: Account,
    listed: Listed,
    sign: int,
    amount_e8: int,
    limit_e8: int,
    now_us: int,
) -> int:
    """An immediate-or-cancel of a quiet account; the amount filled."""
    assert account.quiet, f"{account.name} is a client: clients trade by place"
    assert amount_e8 > 0
    if not listed.book.would_cross(sign, limit_e8):
        return 0
    order = _house_order(state, account, listed, sign, now_us)
    order.is_quote = False
    order.time_in_force = TimeInForce.IMMEDIATE_OR_CANCEL
    order.price_e8 = limit_e8
    order.amount_e8 = amount_e8
    order.contracts_e8 = contracts_e8(listed.spec, amount_e8)
    sweep(state, listed, order, limit_e8, now_us)
    return order.filled_e8


def clear_house(state: ExchangeState, listed: Listed) -> None:
    """Takes every quiet maker's orders off one book, as at its close."""
    for pair in listed.house.values():
        for order in pair:
            if order is not None and order.state is OrderState.OPEN:
                lift(state, listed, order)
                order.state = OrderState.CANCELLED
    listed.house.clear()
