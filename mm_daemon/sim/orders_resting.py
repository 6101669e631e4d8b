"""Putting orders into books and taking them off: the only code that does either for clients.

After these functions the account's list of open orders, the book and the index of quotes agree:
an order is in all of them or in none. They never match and never refuse.
"""

from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import CancelReason, Order, OrderState


def quote_key(order: Order) -> tuple[str, str, int]:
    """One quote per account, group and side in a book."""
    return (order.account, order.mmp_group, order.sign)


def rest(state: ExchangeState, listed: Listed, order: Order) -> None:
    """Puts an order with something left at the back of its level."""
    assert order.remaining_e8 > 0, f"{order.order_id} rests with nothing left"
    assert order.state is OrderState.OPEN, f"{order.order_id} rests as {order.state}"
    listed.book.side(order.sign).add(order)
    state.touch_book(listed)
    account = state.accounts[order.account]
    account.remember_open(order, listed.spec.settlement_currency)
    if order.is_quote:
        listed.quotes[quote_key(order)] = order
    if not account.quiet:
        state.touch_order(order)


def lift(state: ExchangeState, listed: Listed, order: Order) -> None:
    """Takes an order out of book, open orders and quotes; it must be rested or closed next.

    Does nothing for an order that is in none of them.
    """
    side = listed.book.side(order.sign)
    if side.holds(order):
        side.remove(order)
        state.touch_book(listed)
    account = state.accounts[order.account]
    account.forget_open(order, listed.spec.settlement_currency)
    if order.is_quote and listed.quotes.get(quote_key(order)) is order:
        del listed.quotes[quote_key(order)]


def reduce_in_place(
    state: ExchangeState, listed: Listed, order: Order, by_e8: int, now_us: int
) -> None:
    """Shrinks a resting order without losing its place."""
    assert 0 < by_e8 < order.remaining_e8
    listed.book.side(order.sign).reduce(order, by_e8)
    order.amount_e8 -= by_e8
    order.updated_us = now_us
    state.touch_book(listed)
    if not state.accounts[order.account].quiet:
        state.touch_order(order)


def close(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    end: OrderState,
    reason: CancelReason,
    now_us: int,
) -> None:
    """Ends an order: off the book, out of the account's open orders, into its history."""
    assert end in {OrderState.FILLED, OrderState.CANCELLED}
    lift(state, listed, order)
    order.state = end
    order.cancel_reason = reason
    order.mmp_cancelled = reason is CancelReason.MMP_TRIGGER
    order.updated_us = now_us
    account = state.accounts[order.account]
    account.remember_closed(order)
    if not account.quiet:
        state.touch_order(order)


def cancel(
    state: ExchangeState, listed: Listed, order: Order, reason: CancelReason, now_us: int
) -> None:
    close(state, listed, order, OrderState.CANCELLED, reason, now_us)


def cancel_or_expire(
    state: ExchangeState, listed: Listed, order: Order, reason: CancelReason, now_us: int
) -> None:
    """Cancels an order; one that waits in the bump becomes immediate-or-cancel instead.

    The resting part of a waiting edit leaves the book at once.
    """
    waiting = state.pending.of_order(order)
    if waiting is None:
        cancel(state, listed, order, reason, now_us)
        return
    waiting.ioc_reason = waiting.ioc_reason or reason
    if not waiting.is_new:
        lift(state, listed, order)
        order.state = OrderState.SPEED_BUMPED
