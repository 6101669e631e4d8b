"""Deribit's side of `mm-daemon check`: reads the clock, grants a token, reads the account back.

Pure: builds bodies and reads bytes. It sets nothing; what is set at a session's start (cancel on
disconnect, market-maker protection) is read back there, by `venues.deribit.startup`.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from mm_daemon.domain.events import CreditLimits
from mm_daemon.domain.units import NS_PER_MS
from mm_daemon.venues.deribit.account import credit_limits, has_portfolio_margin
from mm_daemon.venues.deribit.messages import DECODE_ERRORS, AccountBody, AccountsBody
from mm_daemon.venues.deribit.sweep import auth_call, auth_headers, read_token
from mm_daemon.venues.preflight import Finding
from mm_daemon.venues.sweep import Call, CallFailed, Failure

__all__ = [
    "account_call",
    "account_id",
    "auth_call",
    "auth_headers",
    "missing_scopes",
    "read_account",
    "read_time_ns",
    "read_token",
    "time_call",
]

_TRADING_SCOPES = (("account", "read_write"), ("trade", "read_write"))
_decode = msgspec.json.Decoder(AccountsBody | list[AccountBody]).decode


def time_call() -> Call:
    """Asks for the venue's clock."""
    return _call("public/get_time", {})


def read_time_ns(body: bytes) -> int | CallFailed:
    """The venue's clock, ns since the epoch."""
    result = _result("public/get_time", body)
    if isinstance(result, CallFailed):
        return result
    if not isinstance(result, int) or isinstance(result, bool):
        return CallFailed(Failure.GARBLED, f"public/get_time: expected ms, found {result!r:.80}")
    return result * NS_PER_MS


def missing_scopes(body: bytes) -> tuple[str, ...]:
    """What a trading key needs and this grant lacks."""
    result = _result("public/auth", body)
    granted = str(result.get("scope", "")).split() if isinstance(result, dict) else []
    return tuple(
        f"{area}:{level}" for area, level in _TRADING_SCOPES if f"{area}:{level}" not in granted
    )


def account_call() -> Call:
    """Asks for all currencies of the account, with its limits and fees."""
    return _call("private/get_account_summaries", {"extended": True})


def account_id(body: bytes) -> str:
    """The account's number; empty where it is not told."""
    result = _result("private/get_account_summaries", body)
    if not isinstance(result, dict):
        return ""
    rows = result.get("summaries") or [{}]
    return str(result.get("id") or rows[0].get("id") or "")


def read_account(body: bytes, currencies: tuple[str, ...]) -> tuple[Finding, ...]:
    """Whether every currency is there, margined as a portfolio, with limits and fees stated."""
    result = _result("private/get_account_summaries", body)
    if isinstance(result, CallFailed):
        return (Finding("account", False, result.detail),)
    try:
        found = _decode(json.dumps(result))
        bodies = found if isinstance(found, list) else found.summaries
        limits = credit_limits(bodies, currencies)
    except DECODE_ERRORS as error:
        return (Finding("account", False, f"the account's summary does not read: {error}"),)
    return (
        _currencies(bodies, currencies),
        *(_margin(body) for body in bodies if body.currency in currencies),
        _limits(limits),
        _fees(bodies),
    )


def _currencies(bodies: list[AccountBody], currencies: tuple[str, ...]) -> Finding:
    named = [body.currency for body in bodies]
    absent = [currency for currency in currencies if currency not in named]
    if absent:
        return Finding("currencies", False, f"the account has no {', '.join(absent)}")
    balances = ", ".join(
        f"{body.equity:g} {body.currency}" for body in bodies if body.currency in currencies
    )
    return Finding("currencies", True, f"the account holds {balances} of equity")


def _margin(body: AccountBody) -> Finding:
    what = f"margin {body.currency}"
    if has_portfolio_margin(body):
        return Finding(what, True, f"portfolio margin is on ({body.margin_model or 'unnamed'})")
    return Finding(
        what, False, f"expected portfolio margin, found {body.margin_model or 'none'!r}: enable it"
    )


def _limits(limits: CreditLimits | None) -> Finding:
    if limits is None:
        return Finding("rate limits", False, "the account's summary states none")
    text = (
        f"{limits.orders_per_s:g} orders/s, {limits.mass_quotes_per_s:g} mass quotes/s,"
        f" {limits.quotes_per_s:g} quotes/s, {limits.cancel_all_per_s:g} wide cancels/s"
    )
    return Finding("rate limits", limits.mass_quotes_per_s > 0.0, text)


def _fees(bodies: list[AccountBody]) -> Finding:
    rates = {
        f"{fee.index_name} {fee.kind}": fee.value.default
        for body in bodies
        for fee in body.fees or ()
        if fee.value is not None and fee.value.default is not None
    }
    if not rates:
        return Finding("fees", True, "none stated for the account: the instruments' own hold")
    text = "; ".join(
        f"{name} maker {rate.maker:g} taker {rate.taker:g}" for name, rate in rates.items()
    )
    return Finding("fees", True, text)


def _call(method: str, params: dict[str, Any]) -> Call:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return Call(method, json.dumps(message).encode())


def _result(name: str, body: bytes) -> Any:
    try:
        answer = json.loads(body)
    except ValueError:
        return CallFailed(Failure.GARBLED, f"{name}: answer is not JSON ({len(body)} bytes)")
    if not isinstance(answer, dict) or answer.get("result") is None:
        error = answer.get("error") if isinstance(answer, dict) else answer
        return CallFailed(Failure.REFUSED, f"{name}: {error!r:.160}")
    return answer["result"]
