"""The table of methods: what each needs, which credits it costs, who serves it.

One row a method.  A method that is not here is unknown to the venue (-32601); one that Deribit
has and this venue withholds is here as switched off (13025), so that a client can tell them apart.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from mm_daemon.sim import deribit_wire_account as account
from mm_daemon.sim import deribit_wire_charts as charts
from mm_daemon.sim import deribit_wire_control as control
from mm_daemon.sim import deribit_wire_public as public
from mm_daemon.sim import deribit_wire_trading as trading
from mm_daemon.sim.deribit_wire_desk import Desk
from mm_daemon.sim.deribit_wire_session import Call
from mm_daemon.sim.exchange_types import CreditClass

Handler = Callable[[Desk, Call], object]


class Method(msgspec.Struct, frozen=True):
    """One method: `area` and `level` are the scope it needs, `pool` the credits it takes.

    `pool` is None where the exchange charges for itself or nobody does; `is_order_entry` marks
    what the venue's own log keeps and what a slow-acknowledgement fault slows down.
    """

    handler: Handler
    area: str = ""
    level: str = "read"
    pool: CreditClass | None = CreditClass.NON_MATCHING
    is_order_entry: bool = False


_FREE: Final = None
_SUBSCRIBE: Final = CreditClass.SUBSCRIBE

_PUBLIC: Final[dict[str, Method]] = {
    "auth": Method(control.auth, pool=_FREE),
    "exchange_token": Method(control.exchange_token),
    "hello": Method(control.hello, pool=_FREE),
    "test": Method(control.test, pool=_FREE),
    "get_time": Method(control.get_time),
    "status": Method(control.status),
    "set_heartbeat": Method(control.set_heartbeat),
    "disable_heartbeat": Method(control.disable_heartbeat),
    "subscribe": Method(control.subscribe_public, pool=_SUBSCRIBE),
    "unsubscribe": Method(control.unsubscribe_public, pool=_SUBSCRIBE),
    "unsubscribe_all": Method(control.unsubscribe_all_public, pool=_SUBSCRIBE),
    "get_instruments": Method(public.get_instruments, pool=CreditClass.GET_INSTRUMENTS),
    "get_instrument": Method(public.get_instrument),
    "get_currencies": Method(public.get_currencies),
    "get_contract_size": Method(public.get_contract_size),
    "get_order_book": Method(public.get_order_book),
    "get_order_book_by_instrument_id": Method(public.get_order_book_by_instrument_id),
    "ticker": Method(public.ticker),
    "get_book_summary_by_currency": Method(public.get_book_summary_by_currency),
    "get_book_summary_by_instrument": Method(public.get_book_summary_by_instrument),
    "get_last_trades_by_instrument": Method(public.get_last_trades_by_instrument),
    "get_last_trades_by_instrument_and_time": Method(public.get_last_trades_by_instrument_and_time),
    "get_last_trades_by_currency": Method(public.get_last_trades_by_currency),
    "get_last_trades_by_currency_and_time": Method(public.get_last_trades_by_currency_and_time),
    "get_index": Method(public.get_index),
    "get_index_price": Method(public.get_index_price),
    "get_index_price_names": Method(public.get_index_price_names),
    "get_supported_index_names": Method(public.get_index_price_names),
    "get_expirations": Method(public.get_expirations),
    "get_delivery_prices": Method(public.get_delivery_prices),
    "get_last_settlements_by_currency": Method(public.get_last_settlements),
    "get_last_settlements_by_instrument": Method(public.get_last_settlements),
    "get_trade_volumes": Method(public.get_trade_volumes),
    "get_tradingview_chart_data": Method(charts.get_tradingview_chart_data),
    "get_volatility_index_data": Method(charts.get_volatility_index_data),
    "get_index_chart_data": Method(charts.get_index_chart_data),
    "get_historical_volatility": Method(charts.get_historical_volatility),
    "get_funding_rate_value": Method(charts.get_funding_rate_value),
    "get_funding_rate_history": Method(charts.get_funding_rate_history),
    "get_funding_chart_data": Method(charts.get_funding_chart_data),
    "get_mark_price_history": Method(charts.get_mark_price_history),
    "get_announcements": Method(public.empty_list),
    "get_combos": Method(public.empty_list),
    "get_combo_ids": Method(public.empty_list),
    "get_rfqs": Method(public.empty_list),
}


def _reads(handler: Handler, area: str) -> Method:
    return Method(handler, area=area, level="read")


def _enters(handler: Handler) -> Method:
    """The exchange charges order entry to its own pools."""
    return Method(handler, area="trade", level="read_write", pool=_FREE, is_order_entry=True)


def _writes(handler: Handler, area: str) -> Method:
    return Method(handler, area=area, level="read_write")


_PRIVATE: Final[dict[str, Method]] = {
    "logout": Method(control.logout, pool=_FREE),
    "subscribe": Method(control.subscribe_private, pool=_SUBSCRIBE),
    "unsubscribe": Method(control.unsubscribe_private, pool=_SUBSCRIBE),
    "unsubscribe_all": Method(control.unsubscribe_all_private, pool=_SUBSCRIBE),
    "enable_cancel_on_disconnect": Method(control.enable_cancel_on_disconnect),
    "disable_cancel_on_disconnect": Method(control.disable_cancel_on_disconnect),
    "get_cancel_on_disconnect": Method(control.get_cancel_on_disconnect),
    "buy": _enters(trading.buy),
    "sell": _enters(trading.sell),
    "edit": _enters(trading.edit),
    "edit_by_label": _enters(trading.edit_by_label),
    "close_position": _enters(trading.close_position),
    "cancel": _enters(trading.cancel),
    "cancel_all": _enters(trading.cancel_all),
    "cancel_all_by_currency": _enters(trading.cancel_all_by_currency),
    "cancel_all_by_currency_pair": _enters(trading.cancel_all_by_currency_pair),
    "cancel_all_by_instrument": _enters(trading.cancel_all_by_instrument),
    "cancel_all_by_kind_or_type": _enters(trading.cancel_all_by_kind_or_type),
    "cancel_by_label": _enters(trading.cancel_by_label),
    "mass_quote": _enters(trading.mass_quote),
    "cancel_quotes": _enters(trading.cancel_quotes),
    "set_mmp_config": _writes(trading.set_mmp_config, "trade"),
    "reset_mmp": _writes(trading.reset_mmp, "trade"),
    "get_mmp_config": _reads(trading.get_mmp_config, "trade"),
    "get_mmp_status": _reads(trading.get_mmp_status, "trade"),
    "get_open_orders": _reads(account.get_open_orders, "trade"),
    "get_open_orders_by_currency": _reads(account.get_open_orders_by_currency, "trade"),
    "get_open_orders_by_instrument": _reads(account.get_open_orders_by_instrument, "trade"),
    "get_open_orders_by_label": _reads(account.get_open_orders_by_label, "trade"),
    "get_order_state": _reads(account.get_order_state, "trade"),
    "get_order_state_by_label": _reads(account.get_order_state_by_label, "trade"),
    "get_order_history_by_currency": _reads(account.get_order_history_by_currency, "trade"),
    "get_order_history_by_instrument": _reads(account.get_order_history_by_instrument, "trade"),
    "get_trigger_order_history": _reads(account.no_trigger_history, "trade"),
    "get_user_trades_by_currency": _reads(account.get_user_trades_by_currency, "trade"),
    "get_user_trades_by_currency_and_time": _reads(
        account.get_user_trades_by_currency_and_time, "trade"
    ),
    "get_user_trades_by_instrument": _reads(account.get_user_trades_by_instrument, "trade"),
    "get_user_trades_by_instrument_and_time": _reads(
        account.get_user_trades_by_instrument_and_time, "trade"
    ),
    "get_user_trades_by_order": _reads(account.get_user_trades_by_order, "trade"),
    "get_settlement_history_by_currency": _reads(account.get_settlement_history, "trade"),
    "get_settlement_history_by_instrument": _reads(account.get_settlement_history, "trade"),
    "get_positions": _reads(account.get_positions, "trade"),
    "get_position": _reads(account.get_position, "trade"),
    "get_account_summary": _reads(account.get_account_summary, "account"),
    "get_account_summaries": _reads(account.get_account_summaries, "account"),
    "get_subaccounts": _reads(account.get_subaccounts, "account"),
    "get_transaction_log": Method(
        account.get_transaction_log, area="account", pool=CreditClass.TRANSACTION_LOG
    ),
    "get_self_trading_config": _reads(account.get_self_trading_config, "account"),
    "set_self_trading_config": _writes(account.set_self_trading_config, "account"),
    "get_access_log": _reads(account.get_access_log, "account"),
    "get_user_locks": _reads(account.get_user_locks, "account"),
    "list_api_keys": _reads(account.list_api_keys, "account"),
    "get_new_announcements": _reads(public.empty_list, "account"),
    "get_deposits": _reads(account.no_transfers, "wallet"),
    "get_withdrawals": _reads(account.no_transfers, "wallet"),
    "get_transfers": _reads(account.no_transfers, "wallet"),
    "get_current_deposit_address": _reads(account.no_address, "wallet"),
    "get_address_book": _reads(public.empty_list, "wallet"),
    "get_block_rfqs": _reads(account.no_requests_for_quotes, "block_rfq"),
    "get_block_rfq_quotes": _reads(public.empty_list, "block_rfq"),
    "get_block_trades": _reads(public.empty_list, "block_trade"),
    "get_last_block_trades_by_currency": _reads(public.empty_list, "block_trade"),
}

_WITHHELD: Final = (
    "add_block_rfq_quote",
    "edit_block_rfq_quote",
    "cancel_block_rfq_quote",
    "cancel_all_block_rfq_quotes",
    "create_block_rfq",
    "accept_block_rfq",
    "cancel_block_rfq",
    "execute_block_trade",
    "verify_block_trade",
    "create_combo",
    "create_deposit_address",
    "create_subaccount",
    "withdraw",
    "submit_transfer_between_subaccounts",
    "submit_transfer_to_subaccount",
    "submit_transfer_to_user",
    "change_margin_model",
    "simulate_portfolio",
    "move_positions",
    "send_rfq",
)

METHODS: Final[dict[str, Method]] = {
    **{f"public/{name}": method for name, method in _PUBLIC.items()},
    **{f"private/{name}": method for name, method in _PRIVATE.items()},
    **{f"private/{name}": Method(account.switched_off) for name in _WITHHELD},
}
