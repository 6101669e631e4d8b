"""The venue's records as Deribit prints them: prices as JSON floats, times in milliseconds.

Only shapes live here.  Every e8 integer becomes the nearest double, whose shortest form is the
decimal it stands for; percentages stay percentages; what does not apply is left out where Deribit
leaves it out and null where it sends null.

Nothing here looks anything up or decides anything.
"""

from mm_daemon.sim.exchange_records import (
    Mark,
    PositionView,
    Settlement,
    Stats,
    Ticker,
)
from mm_daemon.sim.exchange_types import (
    CancelReason,
    Order,
    OrderReply,
    PublicTrade,
    UserTrade,
)
from mm_daemon.sim.spec import E8, InstrumentSpec, InstrumentState, Kind

Json = dict[str, object]


def coins(value_e8: int | None) -> float | None:
    """An e8 integer as the double next to it; None stays None."""
    return None if value_e8 is None else value_e8 / E8


def instrument_row(spec: InstrumentSpec, state: InstrumentState) -> Json:
    """One entry of get_instruments."""
    row: Json = {
        "instrument_name": spec.name,
        "instrument_id": spec.instrument_id,
        "kind": spec.kind.value,
        "state": state.value,
        "is_active": state is InstrumentState.OPEN,
        "creation_timestamp": spec.creation_us // 1_000,
        "expiration_timestamp": spec.expiry_us // 1_000,
        "settlement_period": spec.settlement_period,
        "price_index": spec.price_index,
        "base_currency": spec.base_currency,
        "quote_currency": spec.quote_currency,
        "counter_currency": spec.counter_currency,
        "settlement_currency": spec.settlement_currency,
        "instrument_type": spec.instrument_type,
        "tick_size": coins(spec.tick_size_e8),
        "tick_size_steps": [
            {"above_price": coins(step.above_price_e8), "tick_size": coins(step.tick_size_e8)}
            for step in spec.tick_steps
        ],
        "min_trade_amount": coins(spec.min_trade_amount_e8),
        "contract_size": coins(spec.contract_size_e8),
        "maker_commission": coins(spec.maker_commission_e8),
        "taker_commission": coins(spec.taker_commission_e8),
        "block_trade_commission": coins(spec.block_trade_commission_e8),
        "block_trade_tick_size": coins(spec.block_trade_tick_size_e8),
        "block_trade_min_trade_amount": coins(spec.block_trade_min_trade_amount_e8),
        "rfq": False,
    }
    if spec.is_option:
        row["strike"] = coins(spec.strike_e8)
        row["option_type"] = spec.option_type.value if spec.option_type is not None else None
    else:
        row["future_type"] = spec.instrument_type
        row["max_leverage"] = spec.max_leverage
        row["max_liquidation_commission"] = coins(spec.max_liquidation_commission_e8)
    return row


def _order_price(order: Order) -> float | str:
    """A market order has no limit: its average price stands in once it has one."""
    if order.price_e8 is not None:
        return order.price_e8 / E8
    return order.average_price_e8 / E8 if order.average_price_e8 else "market_price"


def order_row(order: Order) -> Json:
    """One order object, as replies, open-order lists and user.orders carry it."""
    row: Json = {
        "order_id": order.order_id,
        "order_state": order.state.value,
        "order_type": order.order_type.value,
        "time_in_force": order.time_in_force.value,
        "instrument_name": order.instrument,
        "direction": order.direction,
        "price": _order_price(order),
        "amount": order.amount_e8 / E8,
        "contracts": order.contracts_e8 / E8,
        "filled_amount": order.filled_e8 / E8,
        "average_price": order.average_price_e8 / E8,
        "label": order.label,
        "post_only": order.post_only,
        "reduce_only": order.reduce_only,
        "api": order.via_api,
        "web": not order.via_api,
        "mmp": order.mmp,
        "replaced": order.replaced,
        "risk_reducing": order.risk_reducing,
        "is_liquidation": False,
        "creation_timestamp": order.created_us // 1_000,
        "last_update_timestamp": order.updated_us // 1_000,
        "user_id": order.user_id,
        "max_show": order.amount_e8 / E8,
    }
    if order.reject_post_only:
        row["reject_post_only"] = True
    if order.is_quote:
        row["quote"] = True
        row["mmp_group"] = order.mmp_group
        row["quote_id"] = order.quote_id
        row["quote_set_id"] = order.quote_set_id
    if order.mmp_cancelled:
        row["mmp_cancelled"] = True
    if order.cancel_reason is not CancelReason.NONE:
        row["cancel_reason"] = order.cancel_reason.value
    return row


def user_trade_row(trade: UserTrade) -> Json:
    """One fill as its owner sees it."""
    row: Json = {
        "trade_id": trade.trade_id,
        "trade_seq": trade.trade_seq,
        "order_id": trade.order_id,
        "timestamp": trade.ts_us // 1_000,
        "instrument_name": trade.instrument,
        "direction": "buy" if trade.sign > 0 else "sell",
        "price": trade.price_e8 / E8,
        "amount": trade.amount_e8 / E8,
        "contracts": trade.contracts_e8 / E8,
        "fee": trade.fee_e8 / E8,
        "fee_currency": trade.fee_currency,
        "liquidity": "M" if trade.is_maker else "T",
        "state": trade.order_state.value,
        "order_type": trade.order_type.value,
        "label": trade.label,
        "mark_price": trade.mark_price_e8 / E8,
        "index_price": trade.index_price_e8 / E8,
        "tick_direction": trade.tick_direction,
        "profit_loss": trade.profit_loss_e8 / E8,
        "matching_id": None,
        "self_trade": False,
        "mmp": trade.mmp,
        "post_only": trade.post_only,
        "reduce_only": trade.reduce_only,
        "risk_reducing": False,
        "api": trade.via_api,
        "user_id": trade.user_id,
    }
    if trade.iv_pct is not None:
        row["iv"] = trade.iv_pct
    if trade.underlying_price_e8 is not None:
        row["underlying_price"] = trade.underlying_price_e8 / E8
    if trade.is_quote:
        row["quote_id"] = trade.quote_id
        row["quote_set_id"] = trade.quote_set_id
        row["mmp_group"] = trade.mmp_group
    return row


def public_trade_row(trade: PublicTrade) -> Json:
    """One print; the direction is the taker's."""
    row: Json = {
        "trade_id": trade.trade_id,
        "trade_seq": trade.trade_seq,
        "timestamp": trade.ts_us // 1_000,
        "instrument_name": trade.instrument,
        "direction": "buy" if trade.sign > 0 else "sell",
        "price": trade.price_e8 / E8,
        "amount": trade.amount_e8 / E8,
        "contracts": trade.contracts_e8 / E8,
        "tick_direction": trade.tick_direction,
        "mark_price": trade.mark_price_e8 / E8,
        "index_price": trade.index_price_e8 / E8,
    }
    if trade.iv_pct is not None:
        row["iv"] = trade.iv_pct
    return row


def order_reply(reply: OrderReply) -> Json:
    """The result of buy, sell and edit."""
    return {
        "order": order_row(reply.order),
        "trades": [user_trade_row(trade) for trade in reply.trades],
    }


def position_row(view: PositionView, *, usd_average_e8: int | None = None) -> Json:
    """One position; futures carry their coin size, options their greeks."""
    size = view.size_e8
    row: Json = {
        "instrument_name": view.instrument,
        "kind": view.kind.value,
        "size": size / E8,
        "direction": "buy" if size > 0 else "sell" if size < 0 else "zero",
        "average_price": view.average_price_e8 / E8,
        "mark_price": view.mark_price_e8 / E8,
        "index_price": view.index_price_e8 / E8,
        "settlement_price": coins(view.settlement_price_e8),
        "delta": view.delta,
        "floating_profit_loss": view.floating_profit_loss_e8 / E8,
        "realized_profit_loss": view.realized_profit_loss_e8 / E8,
        "total_profit_loss": view.total_profit_loss_e8 / E8,
        "initial_margin": view.initial_margin_e8 / E8,
        "maintenance_margin": view.maintenance_margin_e8 / E8,
        "open_orders_margin": view.open_orders_margin_e8 / E8,
    }
    if view.kind is Kind.OPTION:
        row["gamma"], row["vega"], row["theta"] = view.gamma, view.vega, view.theta
        if usd_average_e8 is not None:
            row["average_price_usd"] = usd_average_e8 / E8
    else:
        row["size_currency"] = coins(view.size_currency_e8)
        row["realized_funding"] = coins(view.realized_funding_e8)
        row["leverage"] = view.leverage
        row["estimated_liquidation_price"] = None
    return row


def stats_row(stats: Stats, *, with_usd: bool) -> Json:
    """The 24 h statistics inside a ticker; nulls where nothing traded."""
    row: Json = {
        "volume": coins(stats.volume_e8),
        "low": coins(stats.low_e8),
        "high": coins(stats.high_e8),
        "price_change": stats.price_change_pct,
    }
    if with_usd:
        row["volume_usd"] = coins(stats.volume_usd_e8)
    return row


def greeks_row(mark: Mark) -> Json:
    """Greeks per contract, five decimals, as Deribit rounds them."""
    return {
        "delta": round(mark.delta, 5),
        "gamma": round(mark.gamma, 5),
        "vega": round(mark.vega, 5),
        "theta": round(mark.theta, 5),
        "rho": round(mark.rho, 5),
    }


def ticker_row(
    ticker: Ticker, spec: InstrumentSpec, *, bid_iv_pct: float, ask_iv_pct: float
) -> Json:
    """public/ticker and the ticker channel; the caller inverts the touch into vols."""
    mark = ticker.mark
    row: Json = {
        "timestamp": ticker.ts_us // 1_000,
        "instrument_name": ticker.instrument,
        "state": ticker.state.value,
        "stats": stats_row(ticker.stats, with_usd=not spec.is_option),
        "open_interest": ticker.open_interest_e8 / E8,
        "best_bid_price": ticker.best_bid_price_e8 / E8,
        "best_bid_amount": ticker.best_bid_amount_e8 / E8,
        "best_ask_price": ticker.best_ask_price_e8 / E8,
        "best_ask_amount": ticker.best_ask_amount_e8 / E8,
        "index_price": ticker.index_price_e8 / E8,
        "mark_price": mark.mark_price_e8 / E8 if mark is not None else None,
        "last_price": coins(ticker.last_price_e8),
        "min_price": ticker.min_price_e8 / E8,
        "max_price": ticker.max_price_e8 / E8,
        "settlement_price": coins(ticker.settlement_price_e8),
        "estimated_delivery_price": ticker.estimated_delivery_price_e8 / E8,
    }
    if ticker.delivery_price_e8 is not None:
        row["delivery_price"] = ticker.delivery_price_e8 / E8
    if spec.is_option and mark is not None:
        row["underlying_price"] = coins(mark.underlying_price_e8)
        row["underlying_index"] = mark.underlying_index
        row["interest_rate"] = mark.interest_rate
        row["mark_iv"] = mark.mark_iv_pct
        row["bid_iv"] = bid_iv_pct
        row["ask_iv"] = ask_iv_pct
        row["greeks"] = greeks_row(mark)
    if spec.is_perpetual:
        row["current_funding"] = ticker.current_funding
        row["funding_8h"] = ticker.funding_8h
        row["interest_value"] = ticker.interest_value
    return row


def book_summary_row(ticker: Ticker, spec: InstrumentSpec) -> Json:
    """One row of get_book_summary_by_currency; prices are null on an empty side."""
    bid_e8, ask_e8 = ticker.best_bid_price_e8, ticker.best_ask_price_e8
    mark = ticker.mark
    row: Json = {
        "instrument_name": ticker.instrument,
        "base_currency": spec.base_currency,
        "quote_currency": spec.quote_currency,
        "creation_timestamp": ticker.ts_us // 1_000,
        "bid_price": bid_e8 / E8 if bid_e8 else None,
        "ask_price": ask_e8 / E8 if ask_e8 else None,
        "mid_price": (bid_e8 + ask_e8) / 2 / E8 if bid_e8 and ask_e8 else None,
        "mark_price": mark.mark_price_e8 / E8 if mark is not None else None,
        "last": coins(ticker.last_price_e8),
        "low": coins(ticker.stats.low_e8),
        "high": coins(ticker.stats.high_e8),
        "volume": coins(ticker.stats.volume_e8),
        "volume_usd": coins(ticker.stats.volume_usd_e8),
        "price_change": ticker.stats.price_change_pct,
        "open_interest": ticker.open_interest_e8 / E8,
        "estimated_delivery_price": ticker.estimated_delivery_price_e8 / E8,
    }
    if spec.is_option and mark is not None:
        row["mark_iv"] = mark.mark_iv_pct
        row["underlying_price"] = coins(mark.underlying_price_e8)
        row["underlying_index"] = mark.underlying_index
        row["interest_rate"] = mark.interest_rate
    if spec.is_perpetual:
        row["funding_8h"] = ticker.funding_8h
        row["current_funding"] = ticker.current_funding
    return row


def settlement_row(settlement: Settlement) -> Json:
    """One row of the settlement history."""
    return {
        "type": "delivery" if settlement.is_delivery else "settlement",
        "timestamp": settlement.ts_us // 1_000,
        "instrument_name": settlement.instrument,
        "position": settlement.position_e8 / E8,
        "mark_price": settlement.price_e8 / E8,
        "index_price": settlement.index_price_e8 / E8,
        "session_profit_loss": settlement.profit_loss_e8 / E8,
        "profit_loss": settlement.profit_loss_e8 / E8,
        "funding": settlement.funding_e8 / E8,
        "fee": settlement.fee_e8 / E8,
    }
