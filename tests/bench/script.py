"""What the bench's venue answers: enough of Deribit for a maker that quotes and is never filled.

Limits are far above the venue's own, so that credits never hold a quote back: what is timed is the
daemon. Every quote rests; orders keep their number while they are replaced, as the venue's do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import orjson

from tests.bench.chain import Chain, Row

RATE = {"rate": 1_000_000, "burst": 1_000_000}
BALANCE = 200.0
_ORDER = (
    b'{"time_in_force":"good_til_cancelled","reduce_only":false,"replaced":false,"price":%b,'
    b'"post_only":true,"order_type":"limit","order_state":"%b","order_id":"%b","mmp":true,'
    b'"max_show":%b,"last_update_timestamp":%d,"label":"","is_liquidation":false,'
    b'"instrument_name":"%b","filled_amount":0.0,"direction":"%b","creation_timestamp":%d,'
    b'"average_price":0.0,"api":true,"amount":%b,"quote":true,"mmp_group":"%b","quote_id":"%b"}'
)
_SIDES = (("bid", b"buy"), ("ask", b"sell"))


class Script:
    """The venue's state: resting quotes by instrument and side. Answers requests by method."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._mmp: dict[str, Row] = {}
        self._resting: dict[tuple[str, bytes], bytes] = {}
        self._numbers: dict[tuple[str, bytes], bytes] = {}
        self._orders_made = 0
        self.subscribed: list[str] = []
        self._answers: dict[str, Callable[[dict[str, Any]], object]] = {
            "public/auth": _auth,
            "public/set_heartbeat": lambda _: "ok",
            "public/test": lambda _: {"version": "1.2.26"},
            "public/get_time": lambda _: self._chain.now_ms,
            "public/hello": lambda _: {"version": "1.2.26"},
            "public/status": lambda _: {"locked": "false", "locked_indices": []},
            "public/get_instruments": lambda _: self._chain.listing,
            "public/subscribe": self._subscribe,
            "public/unsubscribe": lambda params: params["channels"],
            "private/subscribe": self._subscribe,
            "private/unsubscribe": lambda params: params["channels"],
            "private/enable_cancel_on_disconnect": lambda _: "ok",
            "private/get_cancel_on_disconnect": lambda p: {"enabled": True, "scope": p["scope"]},
            "private/set_mmp_config": self._set_mmp,
            "private/get_mmp_config": lambda p: [self._mmp[p["mmp_group"]]],
            "private/get_mmp_status": lambda _: [],
            "private/reset_mmp": lambda _: "ok",
            "private/get_account_summaries": lambda _: {"id": 1, "summaries": [account()]},
            "private/get_positions": lambda _: [],
            "private/get_user_trades_by_currency_and_time": _no_trades,
            "private/get_order_state": self._order_state,
            "private/get_order_state_by_label": lambda _: [],
            "private/get_open_orders": self._open_orders,
            "private/get_open_orders_by_currency": self._open_orders,
            "private/cancel_all": self._cancel_all,
            "private/cancel_all_by_currency": self._cancel_all,
            "private/cancel_all_by_instrument": self._cancel_all,
            "private/cancel_all_block_rfq_quotes": lambda _: 0,
            "private/cancel_quotes": self._cancel_all,
            "private/cancel_by_label": lambda _: 0,
        }

    @property
    def quotes_live(self) -> int:
        return len(self._resting)

    def answer(self, method: str, params: dict[str, Any]) -> bytes:
        """`"result":…` or `"error":…` as JSON."""
        answer = self._answers.get(method)
        if answer is None:
            sys.stderr.write(f"the bench's venue has no {method}\n")
            return b'"error":{"code":-32601,"message":"Method not found"}'
        found = answer(params)
        if found is None:
            return b'"error":{"code":11044,"message":"not_open_order"}'
        return b'"result":' + orjson.dumps(found)

    def mass_quote(self, params: dict[str, Any], now_ms: int) -> tuple[bytes, bytes]:
        """Rests the quotes: the reply's result, and the content of `user.changes`."""
        rows: list[bytes] = []
        group, quote_id = params["mmp_group"].encode(), params["quote_id"].encode()
        for entry in params["quotes"]:
            for key, direction in _SIDES:
                terms = entry.get(key)
                if terms is not None:
                    name = entry["instrument_name"]
                    rows.append(self._rest(name, direction, terms, group, quote_id, now_ms))
        orders = b",".join(rows)
        return (
            b'{"trades":[],"orders":[%b],"errors":[]}' % orders,
            b'{"trades":[],"positions":[],"orders":[%b],"instrument_name":"any"}' % orders,
        )

    def _rest(
        self,
        name: str,
        direction: bytes,
        terms: dict[str, float],
        group: bytes,
        quote_id: bytes,
        now_ms: int,
    ) -> bytes:
        key = (name, direction)
        number = self._numbers.get(key)
        if number is None:
            self._orders_made += 1
            number = self._numbers[key] = b"BTC-%d" % self._orders_made
        amount = terms["amount"]
        price = b"%r" % terms.get("price", 0.0)
        size = b"%r" % amount
        state = b"open" if amount else b"cancelled"
        row = _ORDER % (
            price,
            state,
            number,
            size,
            now_ms,
            name.encode(),
            direction,
            now_ms,
            size,
            group,
            quote_id,
        )
        if amount:
            self._resting[key] = row
        else:
            self._resting.pop(key, None)
            self._numbers.pop(key)
        return row

    def _subscribe(self, params: dict[str, Any]) -> object:
        self.subscribed += params["channels"]
        return params["channels"]

    def _set_mmp(self, params: dict[str, Any]) -> object:
        self._mmp[params["mmp_group"]] = dict(params)
        return [params]

    def _open_orders(self, _params: dict[str, Any]) -> object:
        return [orjson.Fragment(row) for row in self._resting.values()]

    def _order_state(self, params: dict[str, Any]) -> object:
        """Of an order that rests; None = the venue's `order_not_found`."""
        for key, number in self._numbers.items():
            if number.decode() == params["order_id"] and key in self._resting:
                return orjson.Fragment(self._resting[key])
        return None

    def _cancel_all(self, _params: dict[str, Any]) -> object:
        count = len(self._resting)
        self._resting.clear()
        self._numbers.clear()
        return count


def account(now_ms: int = 0) -> Row:
    """The summary of an account that holds nothing but its balance."""
    return {
        "currency": "BTC",
        "timestamp": now_ms,
        "equity": BALANCE,
        "balance": BALANCE,
        "margin_balance": BALANCE,
        "available_funds": BALANCE,
        "initial_margin": 0.0,
        "maintenance_margin": 0.0,
        "session_upl": 0.0,
        "session_rpl": 0.0,
        "options_value": 0.0,
        "delta_total": 0.0,
        "portfolio_margining_enabled": True,
        "margin_model": "segregated_pm",
        "limits": {
            "non_matching_engine": RATE,
            "limits_per_currency": False,
            "matching_engine": {
                "trading": {"total": RATE},
                "maximum_quotes": RATE,
                "maximum_mass_quotes": RATE,
                "guaranteed_mass_quotes": RATE,
                "cancel_all": RATE,
            },
        },
    }


def _auth(params: dict[str, Any]) -> object:
    return {
        "access_token": "bench-access",
        "refresh_token": "bench-refresh",
        "expires_in": 900,
        "scope": params.get("scope", "") + " account:read_write trade:read_write",
        "token_type": "bearer",
    }


def _no_trades(_params: dict[str, Any]) -> object:
    return {"trades": [], "has_more": False}
