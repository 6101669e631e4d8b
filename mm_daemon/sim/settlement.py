"""Delivery and the daily session settlement: averages, cash, and the end of orders.

An expiry is delivered at the average of the index, sampled every `delivery_sample_us` over the
last `delivery_window_us` (by default 300 samples of 6 s), rounded to `delivery_price_tick_e8`.
Books end at the expiry, orders with reason `settlement`; the price is said and paid then, or
`delivery_delay_us` later, in which time positions stay as they are. Options pay their payoff,
futures what the session made, both less a capped delivery fee. At 08:00 UTC each day futures pay
what their session made, realised, unrealised and funding, and every position takes its mark as the
new session basis. What rounding to 1e-8 leaves over goes to the venue's account, so that cash is
conserved exactly.
"""

from mm_daemon.sim.accounts import Account, Position
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import (
    EstimatedDelivery,
    InstrumentStateChanged,
    SettlementDone,
)
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_makers import clear_house
from mm_daemon.sim.exchange_records import CashKind, Settlement
from mm_daemon.sim.exchange_state import VENUE_ACCOUNT, DeliveryAverage, ExchangeState
from mm_daemon.sim.exchange_types import CancelReason, TimeInForce
from mm_daemon.sim.fees import delivery_fee_e8, payoff_e18
from mm_daemon.sim.orders_execute import complete
from mm_daemon.sim.orders_resting import cancel
from mm_daemon.sim.settlement_funding import accrue_funding
from mm_daemon.sim.spec import E10, SECOND_US, InstrumentState, div_half_even


def watch_expiry(state: ExchangeState, index_name: str, expiry_us: int, now_us: int) -> None:
    """Starts the average of an expiry when its first instrument is listed.

    Samples stand on a grid that ends at the expiry; a listing inside the window gets those left.
    """
    key = (index_name, expiry_us)
    if key in state.deliveries:
        return
    step_us = state.config.delivery_sample_us
    first_us = expiry_us - state.config.delivery_window_us + step_us
    if now_us >= first_us:
        first_us = expiry_us - (expiry_us - now_us - 1) // step_us * step_us
    state.deliveries[key] = DeliveryAverage(
        index_name=index_name, expiry_us=expiry_us, next_sample_us=min(first_us, expiry_us)
    )


def sample(state: ExchangeState, average: DeliveryAverage, now_us: int) -> None:
    """Takes one sample and publishes the estimate. At the expiry books end; it is delivered then,
    or when its price is due.
    """
    if average.next_sample_us <= average.expiry_us:
        _take_sample(state, average, now_us)
        if average.next_sample_us <= average.expiry_us:
            return
        average.next_sample_us = average.expiry_us + state.config.delivery_delay_us
        for listed in _expiring(state, average):
            close(state, listed, now_us)
    if now_us >= average.next_sample_us:
        del state.deliveries[(average.index_name, average.expiry_us)]
        _deliver_expiry(state, average, now_us)


def _take_sample(state: ExchangeState, average: DeliveryAverage, now_us: int) -> None:
    average.total_e8 += state.index_e8.get(average.index_name, 0)
    average.samples += 1
    average.next_sample_us += state.config.delivery_sample_us
    total = state.config.delivery_window_us // state.config.delivery_sample_us
    state.publish(
        EstimatedDelivery(
            index_name=average.index_name,
            price_e8=estimate_e8(state, average),
            is_estimated=True,
            seconds_left=max(0, average.expiry_us - now_us) // SECOND_US,
            left_ticks=(average.expiry_us - now_us) // state.config.delivery_sample_us,
            total_ticks=total,
            ts_us=now_us,
        )
    )


def estimate_e8(state: ExchangeState, average: DeliveryAverage) -> int:
    """What the delivery price would be if the index stayed where it is."""
    index_e8 = state.index_e8.get(average.index_name, 0)
    left = max(0, (average.expiry_us - average.next_sample_us))
    left_samples = (
        0
        if average.next_sample_us > average.expiry_us
        else (left // state.config.delivery_sample_us + 1)
    )
    count = average.samples + left_samples
    return div_half_even(average.total_e8 + left_samples * index_e8, max(1, count))


def delivery_price_e8(state: ExchangeState, average: DeliveryAverage) -> int:
    tick_e8 = state.config.delivery_price_tick_e8
    return div_half_even(average.total_e8, average.samples * tick_e8) * tick_e8


def _deliver_expiry(state: ExchangeState, average: DeliveryAverage, now_us: int) -> None:
    price_e8 = delivery_price_e8(state, average)
    history = state.delivery_prices.setdefault(average.index_name, [])
    history.insert(0, (average.expiry_us, price_e8))
    del history[state.config.delivery_prices_kept :]
    for listed in _expiring(state, average):
        deliver(state, listed, price_e8, now_us)


def _expiring(state: ExchangeState, average: DeliveryAverage) -> list[Listed]:
    here = state.by_index.get(average.index_name, {}).values()
    return [listed for listed in here if listed.spec.expiry_us == average.expiry_us]


def end_orders(state: ExchangeState, listed: Listed, now_us: int) -> None:
    """Cancels everything in one book with reason settlement, waiting requests included."""
    for waiting in state.pending.waiting():
        if waiting.order.instrument == listed.spec.name:
            state.pending.drop(waiting)
            complete(state, waiting, None, VenueError(Code.SETTLEMENT_IN_PROGRESS))
    clear_house(state, listed)
    for side in (listed.book.bids, listed.book.asks):
        resting = [order for level in side.levels.values() for order in level.orders.values()]
        for order in resting:
            cancel(state, listed, order, CancelReason.SETTLEMENT, now_us)
    state.touch_book(listed)


def close(state: ExchangeState, listed: Listed, now_us: int) -> None:
    """Ends one book at its expiry: open -> settlement."""
    listed.state = InstrumentState.SETTLEMENT
    state.publish(InstrumentStateChanged(listed.spec.name, listed.state, now_us))
    end_orders(state, listed, now_us)


def deliver(state: ExchangeState, listed: Listed, price_e8: int, now_us: int) -> None:
    """Delivers one closed instrument: settlement -> delivered, cash to every holder."""
    name = listed.spec.name
    records: list[Settlement] = []
    paid_e8 = 0
    for account in state.accounts.values():
        held = account.positions.pop(name, None)
        if held is not None and (held.size_e8 or not listed.spec.is_option):
            record = _deliver_position(state, listed, account, held, price_e8, now_us)
            paid_e8 += record.profit_loss_e8
            records.append(record)
    _balance_rounding(state, listed, -paid_e8)
    listed.delivery_price_e8 = price_e8
    listed.open_interest_e8 = 0
    listed.state = InstrumentState.DELIVERED
    del state.listed[name]
    del state.by_index[listed.spec.price_index][name]
    state.expired[name] = listed
    while len(state.expired) > state.config.expired_kept:
        del state.expired[next(iter(state.expired))]
    state.margins.forget(name)
    state.publish(InstrumentStateChanged(name, listed.state, now_us))
    index_e8 = state.index_of(listed.spec)
    state.publish(SettlementDone(name, True, price_e8, index_e8, now_us, tuple(records)))


def _deliver_position(
    state: ExchangeState,
    listed: Listed,
    account: Account,
    held: Position,
    price_e8: int,
    now_us: int,
) -> Settlement:
    """Pays one holder; profit_loss is the cash before the fee."""
    spec = listed.spec
    if spec.is_option:
        cash_e8 = div_half_even(payoff_e18(spec, held.size_e8, price_e8), E10)
    else:
        cash_e8 = div_half_even(held.session_result_e18(spec, price_e8), E10)
    fee_e8 = delivery_fee_e8(spec, held.size_e8, price_e8)
    currency = spec.settlement_currency
    state.move_cash(account, currency, cash_e8, CashKind.DELIVERY, spec.name)
    state.move_cash(account, currency, -fee_e8, CashKind.DELIVERY_FEE, spec.name)
    venue = state.accounts[VENUE_ACCOUNT]
    state.move_cash(venue, currency, fee_e8, CashKind.DELIVERY_FEE, spec.name)
    account.dirty_currencies[currency] = None
    record = Settlement(
        ts_us=now_us,
        account=account.name,
        instrument=spec.name,
        is_delivery=True,
        position_e8=held.size_e8,
        price_e8=price_e8,
        index_price_e8=state.index_of(spec),
        profit_loss_e8=cash_e8,
        funding_e8=0,
        fee_e8=fee_e8,
    )
    if not account.quiet:
        account.settlements.appendleft(record)
    return record


def _balance_rounding(state: ExchangeState, listed: Listed, residue_e8: int) -> None:
    """Books to the venue what the holders' rounded cash does not add up to."""
    venue = state.accounts[VENUE_ACCOUNT]
    currency = listed.spec.settlement_currency
    state.move_cash(venue, currency, residue_e8, CashKind.ROUNDING, listed.spec.name)


def settle_session(state: ExchangeState, now_us: int) -> None:
    """08:00 UTC: day orders end, futures pay their session, every basis restarts at the mark."""
    state.settling_until_us = now_us + state.config.settlement_pause_us
    for account in state.accounts.values():
        for order in list(account.open.values()):
            if order.time_in_force is TimeInForce.GOOD_TIL_DAY:
                listed = state.listed[order.instrument]
                cancel(state, listed, order, CancelReason.SETTLEMENT, now_us)
    for listed in state.listed.values():
        # What has expired is paid by its delivery, however late.
        has_expired = 0 < listed.spec.expiry_us <= now_us
        if listed.mark_price_e8() > 0 and not has_expired:
            _settle_instrument(state, listed, now_us)


def _settle_instrument(state: ExchangeState, listed: Listed, now_us: int) -> None:
    spec, price_e8 = listed.spec, listed.mark_price_e8()
    if spec.is_perpetual:
        accrue_funding(state, listed, now_us)
    listed.settlement_price_e8 = price_e8
    records: list[Settlement] = []
    paid_e8 = 0
    for account in state.accounts.values():
        held = account.positions.get(spec.name)
        if held is None:
            continue
        record = _settle_position(state, listed, account, held, price_e8, now_us)
        if record is not None:
            paid_e8 += record.profit_loss_e8 + record.funding_e8
            records.append(record)
        if not held.size_e8:
            del account.positions[spec.name]
    _balance_rounding(state, listed, -paid_e8)
    if records:
        index_e8 = state.index_of(spec)
        state.publish(SettlementDone(spec.name, False, price_e8, index_e8, now_us, tuple(records)))


def _settle_position(
    state: ExchangeState,
    listed: Listed,
    account: Account,
    held: Position,
    price_e8: int,
    now_us: int,
) -> Settlement | None:
    """Pays a futures session in cash; options were paid by premium, only their basis moves."""
    spec = listed.spec
    if spec.is_option:
        held.restart_session(spec, price_e8)
        return None
    held.fund(listed.funding_cum_e30)
    result_e8 = div_half_even(held.session_result_e18(spec, price_e8), E10)
    funding_e8 = div_half_even(held.session_funding_e18, E10)
    held.restart_session(spec, price_e8)
    currency = spec.settlement_currency
    state.move_cash(account, currency, result_e8, CashKind.SESSION, spec.name)
    account.dirty_currencies[currency] = None
    record = Settlement(
        ts_us=now_us,
        account=account.name,
        instrument=spec.name,
        is_delivery=False,
        position_e8=held.size_e8,
        price_e8=price_e8,
        index_price_e8=state.index_of(spec),
        profit_loss_e8=result_e8 - funding_e8,
        funding_e8=funding_e8,
        fee_e8=0,
    )
    if not account.quiet:
        account.settlements.appendleft(record)
    return record
