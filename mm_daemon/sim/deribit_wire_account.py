"""Private methods that read: orders, fills, positions, balances, ledgers."""

from typing import Final

from mm_daemon.sim.deribit_wire_channels import CURRENCIES
from mm_daemon.sim.deribit_wire_desk import Desk
from mm_daemon.sim.deribit_wire_encode import (
    order_row,
    position_row,
    settlement_row,
    user_trade_row,
)
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params
from mm_daemon.sim.deribit_wire_selectors import (
    Selection,
    filter_of,
    read_bounds_us,
    read_count,
    read_currency,
    read_selection,
)
from mm_daemon.sim.deribit_wire_session import Call
from mm_daemon.sim.deribit_wire_summary import account_row, cash_row, fee_rows, summary_row
from mm_daemon.sim.exchange_records import AccountSummary
from mm_daemon.sim.exchange_types import SelfTradeMode, TradePage

Json = dict[str, object]
HISTORY_DEFAULT: Final = 20
LOG_DEFAULT: Final = 100
_SORTINGS: Final = ("asc", "desc", "default")


def _open_orders(
    desk: Desk, call: Call, selection: Selection, *, instrument: str | None, label: str | None
) -> object:
    if selection.is_empty:
        return []
    which = filter_of(selection, instrument=instrument, label=label)
    return [
        order_row(order)
        for order in desk.exchange.open_orders(desk.caller(call), which, call.now_us)
    ]


def get_open_orders(desk: Desk, call: Call) -> object:
    """Every resting order and quote of the account."""
    selection = read_selection(call.params, currency_required=False)
    return _open_orders(desk, call, selection, instrument=None, label=None)


def get_open_orders_by_currency(desk: Desk, call: Call) -> object:
    """Those of one currency."""
    selection = read_selection(call.params, currency_required=True)
    return _open_orders(desk, call, selection, instrument=None, label=None)


def get_open_orders_by_instrument(desk: Desk, call: Call) -> object:
    """Those of one book."""
    name = desk.spec_of(call.params.text("instrument_name")).name
    selection = read_selection(call.params, currency_required=False)
    return _open_orders(desk, call, selection, instrument=name, label=None)


def get_open_orders_by_label(desk: Desk, call: Call) -> object:
    """Those with one label; without a label, those of the currency."""
    selection = read_selection(call.params, currency_required=True)
    label = call.params.text_or("label")
    return _open_orders(desk, call, selection, instrument=None, label=label)


def get_order_state(desk: Desk, call: Call) -> object:
    """One order, alive or not."""
    order_id = call.params.text("order_id")
    return order_row(desk.exchange.order_state(desk.caller(call), order_id))


def get_order_state_by_label(desk: Desk, call: Call) -> object:
    """Every known order with a label in one currency."""
    currency = read_currency(call.params)
    label = call.params.text("label")
    caller = desk.caller(call)
    currencies = [currency] if currency is not None else desk.exchange.currencies(caller.account)
    return [
        order_row(order)
        for one in currencies
        for order in desk.exchange.orders_by_label(caller, one, label)
    ]


def _order_history(desk: Desk, call: Call, selection: Selection, instrument: str | None) -> object:
    if selection.is_empty:
        return []
    orders = desk.exchange.order_history(
        desk.caller(call),
        filter_of(selection, instrument=instrument),
        call.params.integer_or("offset", low=0) or 0,
        read_count(call.params, HISTORY_DEFAULT),
        call.params.flag("include_unfilled"),
    )
    return [order_row(order) for order in orders]


def get_order_history_by_currency(desk: Desk, call: Call) -> object:
    """Closed orders of one currency, newest first."""
    return _order_history(desk, call, read_selection(call.params, currency_required=True), None)


def get_order_history_by_instrument(desk: Desk, call: Call) -> object:
    """Closed orders of one book, newest first."""
    name = desk.spec_of(call.params.text("instrument_name")).name
    selection = read_selection(call.params, currency_required=False)
    return _order_history(desk, call, selection, name)


def no_trigger_history(desk: Desk, call: Call) -> object:
    """There are no trigger orders, so there is no history of them."""
    del desk, call
    return {"entries": [], "continuation": None}


def _page(page: TradePage) -> Json:
    return {
        "trades": [user_trade_row(trade) for trade in page.trades],
        "has_more": page.has_more,
    }


def _id_number(params: Params, name: str) -> int | None:
    """A trade id's number: ids of other currencies than BTC carry a prefix."""
    word = params.text_or(name)
    if word is None:
        return None
    digits = word.rpartition("-")[2]
    if not digits.isdigit():
        raise invalid_params(name, "not a trade id")
    return int(digits)


def get_user_trades_by_currency(desk: Desk, call: Call) -> object:
    """Fills in one currency; bounds by trade id or time."""
    params = call.params
    selection = read_selection(params, currency_required=True)
    if selection.is_empty:
        return {"trades": [], "has_more": False}
    start_us, end_us = read_bounds_us(params)
    page = desk.exchange.user_trades(
        desk.caller(call),
        currency=selection.currency,
        kind=selection.kind,
        start_us=start_us,
        end_us=end_us,
        start_seq=_id_number(params, "start_id"),
        end_seq=_id_number(params, "end_id"),
        count=read_count(params, 10),
        oldest_first=params.one_of("sorting", _SORTINGS, "default") == "asc",
    )
    return _page(page)


def get_user_trades_by_currency_and_time(desk: Desk, call: Call) -> object:
    """The same, from a moment on."""
    call.params.integer("start_timestamp", low=0)
    return get_user_trades_by_currency(desk, call)


def get_user_trades_by_instrument(desk: Desk, call: Call) -> object:
    """Fills in one book; bounds by sequence or time."""
    params = call.params
    start_us, end_us = read_bounds_us(params)
    page = desk.exchange.user_trades(
        desk.caller(call),
        instrument=desk.spec_of(params.text("instrument_name")).name,
        start_us=start_us,
        end_us=end_us,
        start_seq=params.integer_or("start_seq", low=0),
        end_seq=params.integer_or("end_seq", low=0),
        count=read_count(params, 10),
        oldest_first=params.one_of("sorting", _SORTINGS, "default") == "asc",
    )
    return _page(page)


def get_user_trades_by_instrument_and_time(desk: Desk, call: Call) -> object:
    """The same, from a moment on."""
    call.params.integer("start_timestamp", low=0)
    return get_user_trades_by_instrument(desk, call)


def get_user_trades_by_order(desk: Desk, call: Call) -> object:
    """Fills of one order, as a bare list."""
    page = desk.exchange.user_trades(
        desk.caller(call),
        order_id=call.params.text("order_id"),
        count=1_000,
        oldest_first=call.params.one_of("sorting", _SORTINGS, "default") == "asc",
    )
    return [user_trade_row(trade) for trade in page.trades]


def get_positions(desk: Desk, call: Call) -> object:
    """Every position that is not zero."""
    selection = read_selection(call.params, currency_required=False)
    if selection.is_empty:
        return []
    views = desk.exchange.positions(
        desk.caller(call), selection.currency, selection.kind, call.now_us
    )
    return [position_row(view) for view in views]


def get_position(desk: Desk, call: Call) -> object:
    """One position, zero included."""
    name = desk.spec_of(call.params.text("instrument_name")).name
    return position_row(desk.exchange.position(desk.caller(call), name, call.now_us))


def _summaries(desk: Desk, call: Call) -> list[AccountSummary]:
    caller = desk.caller(call)
    return [
        desk.exchange.account_summary(caller, currency, call.now_us)
        for currency in desk.exchange.currencies(caller.account)
    ]


def get_account_summary(desk: Desk, call: Call) -> object:
    """One currency of the account; zeros where it holds nothing."""
    currency = read_currency(call.params)
    if currency is None:
        raise invalid_params("currency", "one currency needed")
    caller = desk.caller(call)
    extended = call.params.flag("extended")
    if currency in desk.exchange.currencies(caller.account):
        summary = desk.exchange.account_summary(caller, currency, call.now_us)
        return summary_row(summary, extended=extended)
    model = _summaries(desk, call)[0]
    full = summary_row(model, extended=False)
    kept = ("marks_timestamp", "portfolio_margining_enabled")
    row = _emptied(full) | {name: full[name] for name in kept}
    row |= {"currency": currency, "timestamp": call.now_us // 1_000}
    return row | account_row(model) if extended else row


def _emptied(row: Json) -> Json:
    """The same fields with nothing in them."""
    empty: Json = {}
    for name, value in row.items():
        if isinstance(value, bool):
            empty[name] = False
        elif isinstance(value, int | float):
            empty[name] = 0.0
        else:
            empty[name] = {} if isinstance(value, dict) else value
    return empty


def get_account_summaries(desk: Desk, call: Call) -> object:
    """Every currency the account holds, with the account's own fields once."""
    summaries = _summaries(desk, call)
    assert summaries, f"account {desk.caller(call).account} holds no currency"
    result: Json = {"summaries": []}
    if call.params.flag("extended"):
        result = account_row(summaries[0])
    result["id"] = summaries[0].user_id
    result["summaries"] = [
        summary_row(summary, extended=False)
        | {"limits": account_row(summary)["limits"], "fees": fee_rows(summary.fees)}
        for summary in summaries
    ]
    return result


def get_subaccounts(desk: Desk, call: Call) -> object:
    """The account itself; it has no subaccounts."""
    summaries = _summaries(desk, call)
    first = summaries[0]
    row: Json = {
        "id": first.user_id,
        "username": first.account,
        "system_name": first.account,
        "type": "main",
        "email": f"{first.account}@simulation.invalid",
        "login_enabled": False,
        "is_password": False,
        "receive_notifications": False,
        "security_keys_enabled": False,
        "security_keys_assignments": [],
        "margin_model": first.margin_model.value,
    }
    if call.params.flag("with_portfolio"):
        row["portfolio"] = {
            summary.currency.lower(): {
                name: value
                for name, value in summary_row(summary, extended=False).items()
                if name in _PORTFOLIO_FIELDS
            }
            for summary in summaries
        }
    return [row]


_PORTFOLIO_FIELDS: Final = (
    "currency",
    "equity",
    "balance",
    "margin_balance",
    "available_funds",
    "available_withdrawal_funds",
    "initial_margin",
    "maintenance_margin",
)


def get_transaction_log(desk: Desk, call: Call) -> object:
    """Cash rows of one currency between two moments, newest first, by pages."""
    params = call.params
    currency = read_currency(params)
    start_us, end_us = read_bounds_us(params, required=True)
    assert start_us is not None
    assert end_us is not None
    count = read_count(params, LOG_DEFAULT)
    before = params.integer_or("continuation", low=0)
    account = desk.caller(call).account
    user_id = _summaries(desk, call)[0].user_id
    moves = [
        move
        for move in reversed(desk.exchange.cash_moves(account, currency))
        if start_us <= move.ts_us <= end_us and (before is None or move.seq <= before)
    ]
    return {
        "logs": [cash_row(move, user_id) for move in moves[:count]],
        "continuation": moves[count].seq if len(moves) > count else None,
    }


def get_settlement_history(desk: Desk, call: Call) -> object:
    """Own settlements by instrument or currency, newest first."""
    params = call.params
    instrument = params.text_or("instrument_name")
    currency = read_currency(params) if instrument is None else None
    wanted = params.text_or("type")
    if wanted not in (None, "settlement", "delivery", "bankruptcy"):
        raise invalid_params("type", "must be one of: settlement, delivery, bankruptcy")
    newest_ms = params.integer_or("search_start_timestamp", low=0)
    rows = []
    for settlement in desk.exchange.settlements(desk.caller(call).account):
        row = settlement_row(settlement)
        if instrument not in (None, settlement.instrument) or wanted not in (None, row["type"]):
            continue
        if currency not in (None, desk.tickers.spec(settlement.instrument).currency):
            continue
        if newest_ms is None or settlement.ts_us <= newest_ms * 1_000 + 999:
            rows.append(row)
    return {"settlements": rows[: read_count(params, HISTORY_DEFAULT)], "continuation": None}


def get_self_trading_config(desk: Desk, call: Call) -> object:
    """How the account's orders meet each other."""
    account = desk.caller(call).account
    mode = desk.self_trading.get(account, SelfTradeMode.REJECT_TAKER)
    return {
        "mode": mode.value,
        "extended_to_subaccounts": False,
        "block_rfq_self_match_prevention": False,
    }


def set_self_trading_config(desk: Desk, call: Call) -> object:
    """Choose between refusing the taker and cancelling the maker."""
    mode = SelfTradeMode(call.params.one_of("mode", tuple(one.value for one in SelfTradeMode)))
    if call.params.flag("extended_to_subaccounts"):
        raise invalid_params("extended_to_subaccounts", "the account has no subaccounts")
    desk.exchange.set_self_trading(desk.caller(call), mode)
    desk.self_trading[desk.caller(call).account] = mode
    return get_self_trading_config(desk, call)


def no_transfers(desk: Desk, call: Call) -> object:
    """Deposits, withdrawals and transfers: nothing moves coins in or out of a simulation."""
    del desk, call
    return {"count": 0, "data": []}


def no_address(desk: Desk, call: Call) -> object:
    """There is no deposit address."""
    del desk, call
    return None


def get_user_locks(desk: Desk, call: Call) -> object:
    """No currency of the account is locked."""
    del desk, call
    return [{"currency": currency, "enabled": False} for currency in CURRENCIES]


def get_access_log(desk: Desk, call: Call) -> object:
    """Authentications of this account, newest first."""
    account = desk.caller(call).account
    rows = [
        {
            "id": number,
            "timestamp": access.ts_us // 1_000,
            "log": "success",
            "ip": access.peer,
            "country": None,
            "city": None,
        }
        for number, access in enumerate(desk.accesses, start=1)
        if access.account == account
    ]
    rows.reverse()
    offset = call.params.integer_or("offset", low=0) or 0
    count = read_count(call.params, 10)
    return {"data": rows[offset : offset + count], "records_total": len(rows)}


def list_api_keys(desk: Desk, call: Call) -> object:
    """The key that asks, its secret withheld."""
    del desk
    grant = call.grant
    assert grant is not None
    return [
        {
            "id": 1,
            "name": grant.key.client_id,
            "client_id": grant.key.client_id,
            "max_scope": grant.scope,
            "enabled": True,
            "default": True,
            "enabled_features": [],
            "ip_whitelist": [],
        }
    ]


def no_requests_for_quotes(desk: Desk, call: Call) -> object:
    """No taker of this venue has asked for a quote."""
    del desk, call
    return {"block_rfqs": [], "continuation": None}


def switched_off(desk: Desk, call: Call) -> object:
    """A method Deribit has and this venue does not serve."""
    del desk, call
    raise WireError(13025, "method_switched_off_by_admin")
