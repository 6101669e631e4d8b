"""Mass quotes: many two-sided quotes in one request, each side accepted or refused by itself.

A side replaces the account's resting quote of the same instrument, side and group. A side that
is refused cancels the quote it meant to amend: a maker must never stay exposed at a price that it
tried to leave. What refuses the whole request (not enabled, no cancel-on-disconnect, no group,
frozen, too many) changes nothing. The amount of a quote is what remains of it.
"""

from copy import copy

from mm_daemon.sim import orders as rules
from mm_daemon.sim.accounts import Account
from mm_daemon.sim.accounts_valuation import check_funds
from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelReason,
    MarginModel,
    MassQuoteReply,
    MassQuoteRequest,
    Order,
    OrderState,
    OrderType,
    Pending,
    QuoteEntry,
    QuoteSide,
    TimeInForce,
)
from mm_daemon.sim.fees import contracts_e8
from mm_daemon.sim.orders_entry import check_group, next_order_id
from mm_daemon.sim.orders_execute import (
    admit,
    drop_older,
    execute,
    execute_change,
    is_bumped,
    is_risk_reducing,
    settle_post_only,
    wait,
)
from mm_daemon.sim.orders_pending import QuoteBatch, Terms, Waiting
from mm_daemon.sim.orders_resting import cancel_or_expire, reduce_in_place
from mm_daemon.sim.spec import BUY, SELL


def mass_quote(
    state: ExchangeState, caller: Caller, request: MassQuoteRequest, now_us: int
) -> MassQuoteReply | Pending:
    """private/mass_quote."""
    account = state.account(caller)
    _check_allowed(state, account, caller, request, now_us)
    sides = sum((entry.bid is not None) + (entry.ask is not None) for entry in request.quotes)
    if not account.quiet:
        account.credits.charge_mass_quote(sides, now_us)
    first = _check_request(state, account, request, now_us)
    check_funds(state, account, first, sign=BUY, added_e8=0, mmp=True, now_us=now_us)
    state.ticket_seq += 1
    batch = QuoteBatch(caller, state.ticket_seq)
    for entry in request.quotes:
        _quote_entry(state, account, request, entry, batch, now_us)
    if batch.outstanding and request.wait_for_response:
        batch.promised = True
        return Pending(batch.ticket)
    return batch.reply()


def _check_allowed(
    state: ExchangeState,
    account: Account,
    caller: Caller,
    request: MassQuoteRequest,
    now_us: int,
) -> None:
    """What the account needs before the request is even read."""
    if not account.config.mass_quotes_enabled:
        raise VenueError(Code.MASS_QUOTES_NOT_ENABLED)
    if not account.cod_connections.get(caller.connection, account.cod_account):
        raise VenueError(Code.COD_NOT_ENABLED)
    rules.check_valid_until(request.valid_until_ms, now_us)
    if now_us < account.quotes_frozen_until_us:
        raise VenueError(Code.QUOTES_FROZEN)
    limit = state.config.mass_quote_entries_max
    if not 1 <= len(request.quotes) <= limit:
        raise invalid_params("quotes", f"1 to {limit} entries")
    if not request.quote_id:
        raise invalid_params("quote_id", "value required")


def _check_request(
    state: ExchangeState, account: Account, request: MassQuoteRequest, now_us: int
) -> Listed:
    """One index, a group on it, not frozen; returns an instrument of that index."""
    known = [
        state.listed[entry.instrument]
        for entry in request.quotes
        if entry.instrument in state.listed
    ]
    if not known:
        raise invalid_params("instrument_name", "instrument not found")
    index_name = known[0].spec.price_index
    if any(listed.spec.price_index != index_name for listed in known):
        raise invalid_params("quotes", "instruments of more than one index")
    group = account.mmp_groups.get((index_name, request.mmp_group))
    if group is None:
        raise VenueError(Code.MMP_REQUIRED)
    if group.frozen_at(now_us):
        raise VenueError(Code.MMP_TRIGGER)
    return known[0]


def _quote_entry(
    state: ExchangeState,
    account: Account,
    request: MassQuoteRequest,
    entry: QuoteEntry,
    batch: QuoteBatch,
    now_us: int,
) -> None:
    sides = ((BUY, entry.bid), (SELL, entry.ask))
    if _both_move_up(state, account, request, entry):
        sides = (sides[1], sides[0])
    for sign, side in sides:
        if side is None:
            continue
        try:
            _quote_side(state, account, request, entry, sign, side, batch, now_us)
        except VenueError as refusal:
            batch.failed(entry.instrument, sign, refusal)
            resting = _resting(state, account, request, entry.instrument, sign)
            if resting is not None:
                listed = state.listed[entry.instrument]
                cancel_or_expire(state, listed, resting, CancelReason.USER_REQUEST, now_us)


def _resting(
    state: ExchangeState,
    account: Account,
    request: MassQuoteRequest,
    instrument: str,
    sign: int,
) -> Order | None:
    listed = state.listed.get(instrument)
    if listed is None:
        return None
    return listed.quotes.get((account.name, request.mmp_group, sign))


def _both_move_up(
    state: ExchangeState, account: Account, request: MassQuoteRequest, entry: QuoteEntry
) -> bool:
    """True where the ask must go first so that the new bid does not meet the old ask."""
    for sign, side in ((BUY, entry.bid), (SELL, entry.ask)):
        resting = _resting(state, account, request, entry.instrument, sign)
        if resting is None or side is None or side.price_e8 is None:
            return False
        assert resting.price_e8 is not None
        if side.price_e8 <= resting.price_e8:
            return False
    return True


def _quote_side(
    state: ExchangeState,
    account: Account,
    request: MassQuoteRequest,
    entry: QuoteEntry,
    sign: int,
    side: QuoteSide,
    batch: QuoteBatch,
    now_us: int,
) -> None:
    """Brings one side to what is asked; raises the refusal that its entry will list."""
    listed = rules.tradable(state, entry.instrument)
    if listed.spec.is_option and account.config.margin_model is MarginModel.STANDARD:
        raise VenueError(Code.FORBIDDEN, data={"reason": "option quotes need portfolio margin"})
    resting = _resting(state, account, request, entry.instrument, sign)
    waiting = _waiting_new(state, account, request, entry.instrument, sign)
    if side.amount_e8 == 0:
        for order in (resting, waiting.order if waiting is not None else None):
            if order is not None:
                cancel_or_expire(state, listed, order, CancelReason.USER_REQUEST, now_us)
                batch.orders.append(copy(order))
        return
    terms = _side_terms(account, request, listed, resting, sign, side, now_us)
    if waiting is not None:
        drop_older(state, waiting.order)
    if resting is not None and _keeps_place(resting, terms, entry):
        drop_older(state, resting)
        _stamp(resting, request, entry, batch)
        if terms.amount_e8 < resting.amount_e8:
            by_e8 = resting.amount_e8 - terms.amount_e8
            reduce_in_place(state, listed, resting, by_e8, now_us)
            resting.contracts_e8 = contracts_e8(listed.spec, resting.amount_e8)
        state.touch_order(resting)
        batch.succeeded(resting, ())
        return
    _quote_anew(state, account, request, entry, listed, resting, sign, terms, batch, now_us)


def _waiting_new(
    state: ExchangeState,
    account: Account,
    request: MassQuoteRequest,
    instrument: str,
    sign: int,
) -> Waiting | None:
    """A quote of the same place that never rested and still waits in the bump."""
    for waiting in state.pending.waiting():
        order = waiting.order
        if (
            waiting.is_new
            and not waiting.ioc_reason
            and order.is_quote
            and order.account == account.name
            and order.mmp_group == request.mmp_group
            and order.instrument == instrument
            and order.sign == sign
        ):
            return waiting
    return None


def _side_terms(
    account: Account,
    request: MassQuoteRequest,
    listed: Listed,
    resting: Order | None,
    sign: int,
    side: QuoteSide,
    now_us: int,
) -> Terms:
    """Price and amount after filling in what the side left out, checked."""
    price_e8, amount_e8 = side.price_e8, side.amount_e8
    if price_e8 is None or amount_e8 is None:
        if resting is None:
            raise VenueError(Code.ORDER_NOT_FOUND, data={"reason": "no quote to amend"})
        price_e8 = resting.price_e8 if price_e8 is None else price_e8
        amount_e8 = resting.amount_e8 if amount_e8 is None else amount_e8
    assert price_e8 is not None
    rules.check_amount(listed.spec, amount_e8)
    rules.check_price(listed, price_e8, sign)
    check_group(account, listed, request.mmp_group, sign, amount_e8, resting, now_us)
    terms = Terms(
        price_e8=price_e8,
        amount_e8=amount_e8,
        post_only=side.post_only,
        reject_post_only=side.reject_post_only,
    )
    return settle_post_only(listed, terms, sign)


def _keeps_place(resting: Order, terms: Terms, entry: QuoteEntry) -> bool:
    """Only a smaller amount, or another set id with nothing else changed, keeps priority."""
    if terms.price_e8 != resting.price_e8:
        return False
    if terms.amount_e8 < resting.amount_e8:
        return True
    same_amount = terms.amount_e8 == resting.amount_e8
    return same_amount and entry.quote_set_id != resting.quote_set_id


def _stamp(order: Order, request: MassQuoteRequest, entry: QuoteEntry, batch: QuoteBatch) -> None:
    """Marks a quote as last set by this request, from this connection."""
    order.quote_id = request.quote_id
    order.quote_set_id = entry.quote_set_id
    order.connection = batch.caller.connection
    order.replaced = True


def _quote_anew(
    state: ExchangeState,
    account: Account,
    request: MassQuoteRequest,
    entry: QuoteEntry,
    listed: Listed,
    resting: Order | None,
    sign: int,
    terms: Terms,
    batch: QuoteBatch,
    now_us: int,
) -> None:
    """Enters a quote at the back of its level, through the bump where it would trade."""
    if resting is None:
        order = _new_quote(state, account, request, entry, listed, sign, terms, batch, now_us)
    else:
        order = resting
    admit(state, account, listed, order, terms, 0, now_us)
    if resting is not None:
        drop_older(state, resting)
        _stamp(resting, request, entry, batch)
    order.post_only, order.reject_post_only = terms.post_only, terms.reject_post_only
    if is_bumped(listed, order, terms):
        if resting is None:
            order.state = OrderState.SPEED_BUMPED
        wait(state, listed, order, terms, is_new=resting is None, now_us=now_us, batch=batch)
        return
    run = execute if resting is None else execute_change
    trades = run(state, listed, order, terms, CancelReason.NONE, now_us)
    batch.succeeded(order, trades)


def _new_quote(
    state: ExchangeState,
    account: Account,
    request: MassQuoteRequest,
    entry: QuoteEntry,
    listed: Listed,
    sign: int,
    terms: Terms,
    batch: QuoteBatch,
    now_us: int,
) -> Order:
    seq, order_id = next_order_id(state, listed)
    return Order(
        seq=seq,
        order_id=order_id,
        account=account.name,
        connection=batch.caller.connection,
        instrument=listed.spec.name,
        sign=sign,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GOOD_TIL_CANCELLED,
        price_e8=terms.price_e8,
        amount_e8=terms.amount_e8,
        contracts_e8=contracts_e8(listed.spec, terms.amount_e8),
        mmp=True,
        mmp_group=request.mmp_group,
        is_quote=True,
        quote_id=request.quote_id,
        quote_set_id=entry.quote_set_id,
        risk_reducing=is_risk_reducing(account, listed, sign, terms.amount_e8),
        user_id=account.config.user_id,
        created_us=now_us,
        updated_us=now_us,
    )
