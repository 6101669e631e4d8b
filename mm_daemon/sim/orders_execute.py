"""Executing admitted terms: funds and self-trade checks, the speed bump, matching, late replies.

An aggressing request of an instrument with a speed bump waits in the pending queue and is
executed by `release`; everything else is executed here and now. New orders, edits and quote sides
all end in `execute`, so that a bumped request obeys the same matching as any other.
"""

from copy import copy

from mm_daemon.sim import orders as rules
from mm_daemon.sim.accounts import Account
from mm_daemon.sim.accounts_valuation import check_funds
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import RequestCompleted
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelReason,
    MassQuoteReply,
    Order,
    OrderReply,
    OrderState,
    OrderType,
    Pending,
    TimeInForce,
    UserTrade,
)
from mm_daemon.sim.fees import contracts_e8
from mm_daemon.sim.orders_fills import RESTING_TIMES, check_self_trade, settle_remainder, sweep
from mm_daemon.sim.orders_pending import QuoteBatch, Terms, Waiting
from mm_daemon.sim.orders_resting import cancel, close, lift


def settle_post_only(listed: Listed, terms: Terms, sign: int) -> Terms:
    """Moves a post-only price off the other side; 11054 where it asked to be rejected."""
    if not terms.post_only:
        return terms
    price_e8 = rules.passive_price_e8(listed, terms, sign)
    if price_e8 == terms.price_e8:
        return terms
    return Terms(
        price_e8=price_e8,
        amount_e8=terms.amount_e8,
        total_e8=terms.total_e8,
        post_only=True,
        reject_post_only=terms.reject_post_only,
    )


def is_risk_reducing(account: Account, listed: Listed, sign: int, amount_e8: int) -> bool:
    held_e8 = account.position_e8(listed.spec.name)
    return held_e8 * sign < 0 and amount_e8 <= abs(held_e8)


def admit(
    state: ExchangeState,
    account: Account,
    listed: Listed,
    order: Order,
    terms: Terms,
    added_e8: int,
    now_us: int,
) -> None:
    """The checks that need book and money: self-trade, then funds for what is added."""
    if account.quiet:
        return
    limit_e8 = limit_of_e8(listed, order, terms)
    check_self_trade(state, listed, order, limit_e8, terms.amount_e8)
    if added_e8 > 0 and not order.risk_reducing:
        check_funds(
            state,
            account,
            listed,
            sign=order.sign,
            added_e8=added_e8,
            mmp=order.mmp,
            now_us=now_us,
        )


def limit_of_e8(listed: Listed, order: Order, terms: Terms) -> int:
    """The worst price that an aggressor may trade at."""
    if terms.price_e8 is not None:
        return terms.price_e8
    if order.order_type is OrderType.MARKET_LIMIT:
        return listed.book.side(-order.sign).best_price_e8() or listed.spec.tick_size_e8
    return rules.sweep_limit_e8(listed, order.sign)


def is_bumped(listed: Listed, order: Order, terms: Terms) -> bool:
    if not listed.spec.speed_bump_us or terms.post_only:
        return False
    return listed.book.would_cross(order.sign, terms.price_e8)


def wait(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    terms: Terms,
    *,
    is_new: bool,
    now_us: int,
    batch: QuoteBatch | None = None,
) -> Pending:
    """Puts an aggressor into the bump and promises its reply (a quote side's: to its batch)."""
    waiting = Waiting(
        due_us=now_us + listed.spec.speed_bump_us,
        ticket=state.ticket_seq + 1 if batch is None else batch.ticket,
        order=order,
        terms=terms,
        is_new=is_new,
        batch=batch,
    )
    state.pending.add(waiting)
    if batch is None:
        state.ticket_seq += 1
    else:
        batch.outstanding += 1
    return Pending(waiting.ticket)


def execute(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    terms: Terms,
    ioc_reason: CancelReason,
    now_us: int,
) -> list[UserTrade]:
    """Matches an order that is in no book, then rests or ends what is left.

    `ioc_reason` set says that it was cancelled while it waited: nothing of it may rest.
    """
    limit_e8 = limit_of_e8(listed, order, terms)
    order.state = OrderState.OPEN
    trades: list[UserTrade] = []
    if order.time_in_force is not TimeInForce.FILL_OR_KILL or _fills_whole(listed, order, limit_e8):
        trades = sweep(state, listed, order, limit_e8, now_us)
    may_rest = order.time_in_force in RESTING_TIMES and not ioc_reason
    if order.order_type is OrderType.MARKET:
        may_rest = False
    elif order.order_type is OrderType.MARKET_LIMIT:
        may_rest = may_rest and order.filled_e8 > 0
        order.price_e8 = limit_e8 if order.filled_e8 else None
    settle_remainder(
        state,
        listed,
        order,
        may_rest=may_rest,
        reason=ioc_reason,
        now_us=now_us,
    )
    return trades


def _fills_whole(listed: Listed, order: Order, limit_e8: int) -> bool:
    wanted_e8 = order.remaining_e8
    return listed.book.available_e8(order.sign, limit_e8, wanted_e8, order.account) >= wanted_e8


def execute_change(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    terms: Terms,
    ioc_reason: CancelReason,
    now_us: int,
) -> list[UserTrade]:
    """Gives a resting order or quote new terms at the back of the queue, matching if it crosses.

    An order that filled beyond its new total while the edit waited is done.
    """
    lift(state, listed, order)
    order.price_e8 = terms.price_e8
    order.amount_e8 = terms.amount_e8 if terms.total_e8 is None else terms.total_e8
    order.contracts_e8 = contracts_e8(listed.spec, order.amount_e8)
    order.replaced = True
    order.updated_us = now_us
    account = state.accounts[order.account]
    if order.remaining_e8 <= 0:
        order.amount_e8 = order.filled_e8
        close(state, listed, order, OrderState.FILLED, CancelReason.NONE, now_us)
        return []
    order.risk_reducing = is_risk_reducing(account, listed, order.sign, order.remaining_e8)
    return execute(state, listed, order, terms, ioc_reason, now_us)


def complete(
    state: ExchangeState,
    waiting: Waiting,
    reply: OrderReply | None,
    error: VenueError | None,
) -> None:
    """Gives a bumped request its late reply; a quote side reports to its mass quote."""
    order, batch = waiting.order, waiting.batch
    if batch is None:
        _publish_reply(state, Caller(order.account, order.connection), waiting.ticket, reply, error)
        return
    batch.outstanding -= 1
    if error is not None:
        batch.failed(order.instrument, order.sign, error)
    else:
        assert reply is not None
        batch.succeeded(reply.order, reply.trades)
    if batch.outstanding == 0 and batch.promised:
        _publish_reply(state, batch.caller, batch.ticket, batch.reply(), None)


def _publish_reply(
    state: ExchangeState,
    caller: Caller,
    ticket: int,
    reply: OrderReply | MassQuoteReply | None,
    error: VenueError | None,
) -> None:
    state.publish(
        RequestCompleted(
            ticket=ticket,
            account=caller.account,
            connection=caller.connection,
            reply=reply,
            error=error,
        )
    )


def release(state: ExchangeState, waiting: Waiting, now_us: int) -> None:
    """Executes one aggressor whose bump is over and completes its request."""
    order = waiting.order
    listed = state.find(order.instrument)
    try:
        _check_release(state, listed, waiting)
    except VenueError as refusal:
        if not waiting.is_new and order.state is OrderState.SPEED_BUMPED:
            cancel(state, listed, order, waiting.ioc_reason, now_us)
        complete(state, waiting, None, refusal)
        return
    run = execute if waiting.is_new else execute_change
    trades = run(state, listed, order, waiting.terms, waiting.ioc_reason, now_us)
    complete(state, waiting, OrderReply(copy(order), tuple(trades)), None)


def _check_release(state: ExchangeState, listed: Listed, waiting: Waiting) -> None:
    """What may have changed in the bump: the book's state, the order, the position."""
    order = waiting.order
    rules.tradable(state, order.instrument)
    if order.state not in {OrderState.OPEN, OrderState.SPEED_BUMPED}:
        raise VenueError(Code.NOT_OPEN_ORDER)
    if order.reduce_only and waiting.is_new:
        account = state.accounts[order.account]
        room_e8 = reducing_amount_e8(account, listed, order.sign, order.amount_e8)
        order.amount_e8 = room_e8
        order.contracts_e8 = contracts_e8(listed.spec, room_e8)
    limit_e8 = limit_of_e8(listed, order, waiting.terms)
    check_self_trade(state, listed, order, limit_e8, waiting.terms.amount_e8)


def reducing_amount_e8(account: Account, listed: Listed, sign: int, amount_e8: int) -> int:
    """The part of a reduce-only order that reduces; 11030 where there is none."""
    room_e8 = max(0, -account.position_e8(listed.spec.name) * sign)
    if room_e8 == 0:
        raise VenueError(Code.OTHER_REJECT, data={"reason": "reduce_only: nothing to reduce"})
    return min(amount_e8, room_e8)


def drop_older(state: ExchangeState, order: Order) -> None:
    """Answers 13777 to an edit of the same order that still waits in the bump."""
    waiting = state.pending.of_order(order)
    if waiting is None:
        return
    state.pending.drop(waiting)
    complete(state, waiting, None, VenueError(Code.REPLACED))
