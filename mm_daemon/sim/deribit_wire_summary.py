"""Account summaries and positions' ledgers as Deribit prints them.

Separate from the other shapes because the summary is by far the largest and is both a reply and
a channel; its equity was computed by the exchange from the rounded marks it published, and is
only written down here.
"""

from mm_daemon.sim.exchange_records import (
    AccountSummary,
    CashKind,
    CashMove,
    FeeRow,
    Limits,
    MmpConfig,
    MmpStatus,
    RateLimit,
)
from mm_daemon.sim.exchange_types import MarginModel
from mm_daemon.sim.spec import E8, Kind

Json = dict[str, object]


def _rate(limit: RateLimit) -> Json:
    return {"rate": limit.rate, "burst": limit.burst}


def limits_row(limits: Limits) -> Json:
    """`limits` of the summary: every pool with its sustained rate and its burst."""
    return {
        "limits_per_currency": False,
        "non_matching_engine": _rate(limits.non_matching_engine),
        "matching_engine": {
            "trading": {"total": _rate(limits.matching_engine)},
            "spot": _rate(limits.matching_engine),
            "maximum_quotes": _rate(limits.maximum_quotes),
            "maximum_mass_quotes": _rate(limits.maximum_mass_quotes),
            "guaranteed_mass_quotes": _rate(limits.guaranteed_mass_quotes),
            "cancel_all": _rate(limits.cancel_all),
        },
    }


def fee_rows(fees: tuple[FeeRow, ...]) -> list[Json]:
    """`fees` of the extended summary, in the current form and with the older form's names."""
    rows: list[Json] = []
    for fee in fees:
        maker, taker = fee.maker_e8 / E8, fee.taker_e8 / E8
        kinds = ("option",) if fee.kind is Kind.OPTION else ("future", "perpetual")
        for instrument_type in kinds:
            rows.append(
                {
                    "index_name": fee.index_name,
                    "kind": fee.kind.value,
                    "value": {"default": {"type": "fixed", "maker": maker, "taker": taker}},
                    "currency": fee.index_name.partition("_")[0].upper(),
                    "instrument_type": instrument_type,
                    "fee_type": "fixed",
                    "maker_fee": maker,
                    "taker_fee": taker,
                }
            )
    return rows


def summary_row(summary: AccountSummary, *, extended: bool) -> Json:
    """private/get_account_summary and the content of user.portfolio.

    `timestamp` is the moment of the valuation and `marks_timestamp` that of the published marks
    it used, both in milliseconds; they let an account be recomputed from the public feed.
    """
    is_portfolio = summary.margin_model is MarginModel.PORTFOLIO
    index_price = summary.index_price_e8 / E8
    row: Json = {
        "currency": summary.currency,
        "timestamp": summary.ts_us // 1_000,
        "marks_timestamp": summary.marks_ts_us // 1_000,
        "equity": summary.equity_e8 / E8,
        "balance": summary.balance_e8 / E8,
        "margin_balance": summary.margin_balance_e8 / E8,
        "available_funds": summary.available_funds_e8 / E8,
        "available_withdrawal_funds": max(
            min(summary.available_funds_e8, summary.balance_e8) / E8, 0.0
        ),
        "spot_reserve": 0.0,
        "additional_reserve": 0.0,
        "fee_balance": 0.0,
        "initial_margin": summary.initial_margin_e8 / E8,
        "maintenance_margin": summary.maintenance_margin_e8 / E8,
        "projected_initial_margin": summary.projected_initial_margin_e8 / E8,
        "projected_maintenance_margin": summary.projected_maintenance_margin_e8 / E8,
        "delta_total": summary.delta_total,
        "projected_delta_total": summary.projected_delta_total,
        "delta_total_map": summary.delta_total_by_index,
        "options_delta": summary.options_delta,
        "options_gamma": summary.options_gamma,
        "options_vega": summary.options_vega,
        "options_theta": summary.options_theta,
        "options_delta_map": summary.options_delta_by_index,
        "options_gamma_map": summary.options_gamma_by_index,
        "options_vega_map": summary.options_vega_by_index,
        "options_theta_map": summary.options_theta_by_index,
        "options_value": summary.options_value_e8 / E8,
        "options_pl": summary.options_pl_e8 / E8,
        "options_session_rpl": summary.options_session_rpl_e8 / E8,
        "options_session_upl": summary.options_session_upl_e8 / E8,
        "futures_pl": summary.futures_pl_e8 / E8,
        "futures_session_rpl": summary.futures_session_rpl_e8 / E8,
        "futures_session_upl": summary.futures_session_upl_e8 / E8,
        "session_rpl": summary.session_rpl_e8 / E8,
        "session_upl": summary.session_upl_e8 / E8,
        "session_funding": summary.session_funding_e8 / E8,
        "total_pl": summary.total_pl_e8 / E8,
        "margin_model": summary.margin_model.value,
        "portfolio_margining_enabled": is_portfolio,
        "cross_collateral_enabled": False,
        "estimated_liquidation_ratio": 0.0,
        "estimated_liquidation_ratio_map": {},
        "total_equity_usd": round(summary.equity_e8 / E8 * index_price, 8),
        "total_margin_balance_usd": round(summary.margin_balance_e8 / E8 * index_price, 8),
        "total_initial_margin_usd": round(summary.initial_margin_e8 / E8 * index_price, 8),
        "total_maintenance_margin_usd": round(summary.maintenance_margin_e8 / E8 * index_price, 8),
        "total_delta_total_usd": round(summary.delta_total * index_price, 8),
    }
    if extended:
        row |= account_row(summary)
    return row


def account_row(summary: AccountSummary) -> Json:
    """The parts of an extended summary that belong to the account, not to a currency."""
    return {
        "id": summary.user_id,
        "username": summary.account,
        "system_name": summary.account,
        "email": f"{summary.account}@simulation.invalid",
        "type": "main",
        "login_enabled": False,
        "interuser_transfers_enabled": False,
        "security_keys_enabled": False,
        "mmp_enabled": summary.mmp_enabled,
        "limits": limits_row(summary.limits),
        "fees": fee_rows(summary.fees),
        "tfa_enabled": False,
        "self_trading_extended_to_subaccounts": False,
        "block_rfq_self_match_prevention": False,
        "referrer_id": None,
        "has_non_block_chain_equity": False,
        "deposit_address": None,
    }


_CASH_TYPES = {
    CashKind.DEPOSIT: "deposit",
    CashKind.PREMIUM: "trade",
    CashKind.FEE: "trade",
    CashKind.SESSION: "settlement",
    CashKind.DELIVERY: "delivery",
    CashKind.DELIVERY_FEE: "delivery",
    CashKind.ROUNDING: "correction",
}


def cash_row(move: CashMove, user_id: int) -> Json:
    """One row of the transaction log; the venue books premium and commission separately."""
    is_fee = move.kind in (CashKind.FEE, CashKind.DELIVERY_FEE)
    return {
        "id": move.seq,
        "user_seq": move.seq,
        "user_id": user_id,
        "username": move.account,
        "timestamp": move.ts_us // 1_000,
        "currency": move.currency,
        "type": _CASH_TYPES[move.kind],
        "info": {"cash_kind": move.kind.value},
        "instrument_name": move.instrument or None,
        "trade_id": move.trade_id or None,
        "change": move.amount_e8 / E8,
        "cashflow": 0.0 if is_fee else move.amount_e8 / E8,
        "commission": -move.amount_e8 / E8 if is_fee else 0.0,
        "balance": move.balance_e8 / E8,
    }


def mmp_config_row(config: MmpConfig, number: int) -> Json:
    """One entry of private/get_mmp_config; limits that were not set are 0."""
    row: Json = {
        "id": number,
        "index_name": config.index_name,
        "interval": config.interval_s,
        "frozen_time": config.frozen_time_s,
        "max_quote_quantity": config.max_quote_quantity_e8 / E8,
        "quantity_limit": (config.quantity_limit_e8 or 0) / E8,
        "delta_limit": (config.delta_limit_e8 or 0) / E8,
        "vega_limit": (config.vega_limit_e8 or 0) / E8,
        "block_rfq": False,
    }
    if config.mmp_group:
        row["mmp_group"] = config.mmp_group
    return row


def mmp_status_row(status: MmpStatus) -> Json:
    """One triggered group."""
    row: Json = {"index_name": status.index_name, "frozen_until": status.frozen_until_ms}
    if status.mmp_group:
        row["mmp_group"] = status.mmp_group
    return row
