"""Booking one fill: cash, positions, fees, trade records of both sides, public print.

Every coin that leaves one account enters another: premiums pass between the two traders and
commissions go to the venue's own account, so the sum of all balances of a currency changes only
by deposits. Nothing here decides who trades.
"""

from mm_daemon.sim.accounts import Account, Position
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_records import CashKind
from mm_daemon.sim.exchange_state import VENUE_ACCOUNT, ExchangeState
from mm_daemon.sim.exchange_stats import count_trade
from mm_daemon.sim.exchange_types import Order, OrderState, PublicTrade, UserTrade
from mm_daemon.sim.fees import (
    average_price_e8,
    contracts_e8,
    premium_e8,
    trade_fee_e8,
    value_e18,
)
from mm_daemon.sim.option_math import YEAR_US, implied_vol
from mm_daemon.sim.settlement_funding import accrue_funding
from mm_daemon.sim.spec import E8, E10, OptionType, div_half_even


def print_trade(
    state: ExchangeState,
    listed: Listed,
    *,
    sign: int,
    amount_e8: int,
    price_e8: int,
    now_us: int,
) -> PublicTrade:
    """Numbers and publishes one execution; `sign` is the taker's."""
    spec = listed.spec
    number = state.trade_ids.get(spec.currency, 0) + 1
    state.trade_ids[spec.currency] = number
    listed.trade_seq += 1
    listed.tick_direction = _tick_direction(listed, price_e8)
    listed.last_price_e8 = price_e8
    trade = PublicTrade(
        trade_id=prefixed(spec.currency, number),
        trade_seq=listed.trade_seq,
        ts_us=now_us,
        instrument=spec.name,
        sign=sign,
        price_e8=price_e8,
        amount_e8=amount_e8,
        contracts_e8=contracts_e8(spec, amount_e8),
        tick_direction=listed.tick_direction,
        mark_price_e8=listed.mark_price_e8(),
        index_price_e8=state.index_of(spec),
        iv_pct=_trade_iv_pct(listed, price_e8, now_us),
    )
    listed.prints.append(trade)
    state.note_print(trade)
    count_trade(listed, trade)
    return trade


def prefixed(currency: str, number: int) -> str:
    """Ids are plain digits for BTC and carry the currency elsewhere, as at the venue."""
    return str(number) if currency == "BTC" else f"{currency}-{number}"


def _tick_direction(listed: Listed, price_e8: int) -> int:
    last_e8 = listed.last_price_e8
    if last_e8 is None or price_e8 > last_e8:
        return 0
    if price_e8 < last_e8:
        return 2
    return 1 if listed.tick_direction in {0, 1} else 3


def _trade_iv_pct(listed: Listed, price_e8: int, now_us: int) -> float | None:
    """Volatility of an option's trade price in percent; 0 at or below intrinsic, as published."""
    spec, mark = listed.spec, listed.mark
    if not spec.is_option or mark is None or not mark.underlying_price_e8:
        return None
    assert spec.strike_e8 is not None
    forward = mark.underlying_price_e8 / E8
    price = price_e8 / E8 if spec.is_inverse else price_e8 / mark.underlying_price_e8
    vol = implied_vol(
        price,
        forward,
        spec.strike_e8 / E8,
        (spec.expiry_us - now_us) / YEAR_US,
        spec.option_type is OptionType.CALL,
    )
    return round(100.0 * vol, 2) if vol == vol else 0.0  # NaN is unequal to itself


def fill_order(order: Order, listed: Listed, *, amount_e8: int, price_e8: int, now_us: int) -> None:
    """Writes one fill into an order; a quote's amount is what remains, so it falls."""
    spec = listed.spec
    order.filled_e8 += amount_e8
    if order.is_quote:
        order.amount_e8 -= amount_e8
        order.contracts_e8 = contracts_e8(spec, order.amount_e8)
    order.filled_value_e18 += value_e18(spec, amount_e8, price_e8)
    order.average_price_e8 = average_price_e8(spec, order.filled_e8, order.filled_value_e18)
    order.updated_us = now_us


def post_fill(
    state: ExchangeState,
    listed: Listed,
    order: Order,
    trade: PublicTrade,
    *,
    is_maker: bool,
    now_us: int,
) -> UserTrade | None:
    """Books a print for one of its two orders; the trade record unless the account is quiet."""
    spec = listed.spec
    account = state.accounts[order.account]
    signed_e8 = trade.amount_e8 * order.sign
    realized_e18 = change_position(state, listed, account, signed_e8, trade.price_e8, now_us)
    currency = spec.settlement_currency
    paid_e8 = premium_e8(spec, signed_e8, trade.price_e8)
    state.move_cash(account, currency, -paid_e8, CashKind.PREMIUM, spec.name, trade.trade_id)
    fee_e8 = trade_fee_e8(
        spec,
        amount_e8=trade.amount_e8,
        price_e8=trade.price_e8,
        index_e8=trade.index_price_e8,
        is_maker=is_maker,
    )
    state.move_cash(account, currency, -fee_e8, CashKind.FEE, spec.name, trade.trade_id)
    venue = state.accounts[VENUE_ACCOUNT]
    state.move_cash(venue, currency, fee_e8, CashKind.FEE, spec.name, trade.trade_id)
    account.dirty_currencies[currency] = None
    if account.quiet:
        return None
    record = _user_trade(
        listed, order, trade, account, is_maker=is_maker, fee_e8=fee_e8, realized_e18=realized_e18
    )
    account.trades.append(record)
    state.note_trade(order, record)
    state.touch_order(order)
    return record


def change_position(
    state: ExchangeState,
    listed: Listed,
    account: Account,
    signed_e8: int,
    price_e8: int,
    now_us: int,
) -> int:
    """Adds a signed fill to a position and to the open interest; profit realised in 1e-18."""
    held: Position = account.position(listed.spec.name)
    if listed.spec.is_perpetual:
        accrue_funding(state, listed, now_us)
        held.fund(listed.funding_cum_e30)
    before_e8 = max(held.size_e8, 0)
    realized_e18 = held.trade(listed.spec, signed_e8, price_e8)
    listed.open_interest_e8 += max(held.size_e8, 0) - before_e8
    state.margins.on_fill(account, listed, signed_e8)
    return realized_e18


def _user_trade(
    listed: Listed,
    order: Order,
    trade: PublicTrade,
    account: Account,
    *,
    is_maker: bool,
    fee_e8: int,
    realized_e18: int,
) -> UserTrade:
    mark = listed.mark
    return UserTrade(
        trade_id=trade.trade_id,
        trade_seq=trade.trade_seq,
        order_id=order.order_id,
        account=account.name,
        ts_us=trade.ts_us,
        instrument=trade.instrument,
        sign=order.sign,
        price_e8=trade.price_e8,
        amount_e8=trade.amount_e8,
        contracts_e8=trade.contracts_e8,
        fee_e8=fee_e8,
        fee_currency=listed.spec.settlement_currency,
        is_maker=is_maker,
        order_state=OrderState.OPEN if order.remaining_e8 else OrderState.FILLED,
        order_type=order.order_type,
        label=order.label,
        mark_price_e8=trade.mark_price_e8,
        index_price_e8=trade.index_price_e8,
        underlying_price_e8=mark.underlying_price_e8 if mark is not None else None,
        iv_pct=trade.iv_pct,
        tick_direction=trade.tick_direction,
        profit_loss_e8=div_half_even(realized_e18, E10),
        mmp=order.mmp,
        post_only=order.post_only,
        reduce_only=order.reduce_only,
        via_api=order.via_api,
        user_id=account.config.user_id,
        is_quote=order.is_quote,
        quote_id=order.quote_id,
        quote_set_id=order.quote_set_id,
        mmp_group=order.mmp_group,
    )
