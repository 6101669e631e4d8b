"""Pages of an account's past: closed orders and its own trades."""

import msgspec

from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import Caller, CancelFilter, Order, TradePage, UserTrade
from mm_daemon.sim.orders_cancel import filter_matches
from mm_daemon.sim.spec import Kind

COUNT_MAX = 1_000


class TradeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What trades are asked for; every bound is inclusive, None does not narrow."""

    instrument: str | None
    currency: str | None
    kind: Kind | None
    order_id: str | None
    start_us: int | None
    end_us: int | None
    start_seq: int | None
    end_seq: int | None
    count: int
    oldest_first: bool


def user_trades(state: ExchangeState, caller: Caller, query: TradeQuery) -> TradePage:
    """At most 1,000 trades from the asked end of the range, and whether more are there."""
    count = min(query.count, COUNT_MAX)
    trades = state.account(caller).trades
    ordered = iter(trades) if query.oldest_first else reversed(trades)
    page: list[UserTrade] = []
    for trade in ordered:
        if not _matches(state, query, trade):
            continue
        if len(page) == count:
            return TradePage(tuple(page), True)
        page.append(trade)
    return TradePage(tuple(page), False)


def _matches(state: ExchangeState, query: TradeQuery, trade: UserTrade) -> bool:
    if query.instrument is not None and trade.instrument != query.instrument:
        return False
    if query.order_id is not None and trade.order_id != query.order_id:
        return False
    if query.currency is not None or query.kind is not None:
        spec = state.find(trade.instrument).spec
        if query.currency not in {None, spec.currency} or query.kind not in {None, spec.kind}:
            return False
    if not _within(trade.ts_us, query.start_us, query.end_us):
        return False
    number = trade.trade_seq
    if query.instrument is None:
        number = int(trade.trade_id.rpartition("-")[2])
    return _within(number, query.start_seq, query.end_seq)


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def order_history(
    state: ExchangeState,
    caller: Caller,
    which: CancelFilter,
    offset: int,
    count: int,
    include_unfilled: bool,
) -> list[Order]:
    """Closed orders newest first."""
    account = state.account(caller)
    closed = list(account.closed_filled.values())
    if include_unfilled:
        closed.extend(account.closed_unfilled.values())
    closed.sort(key=lambda order: (order.updated_us, order.seq), reverse=True)
    found = [
        order for order in closed if filter_matches(which, order, state.find(order.instrument))
    ]
    return found[offset : offset + min(count, COUNT_MAX)]
