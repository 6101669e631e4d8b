"""Which kind of act each method of Deribit is, read back from encoded bytes.

The gate asks this of every frame again, so it fails closed: a method that is not in the table, a
frame that is not shaped as we encode, or one that could mean two things, is RISK.
"""

from __future__ import annotations

import re

import orjson

from mm_daemon.domain.frames import FrameKind

_HEAD = re.compile(rb'\{"jsonrpc":"2\.0","id":\d{1,18},"method":"([a-z_/]{1,64})","params":\{')
_REDUCE_ONLY = b'"reduce_only":true'
_NESTED = (b"otoco_config", b"linked_order_type", b"trigger")

SAFE_METHODS = frozenset(
    {
        b"public/auth",
        b"public/get_instruments",
        b"public/get_time",
        b"public/hello",
        b"public/set_heartbeat",
        b"public/status",
        b"public/subscribe",
        b"public/test",
        b"public/ticker",
        b"public/unsubscribe",
        b"private/cancel",
        b"private/cancel_all",
        b"private/cancel_all_block_rfq_quotes",
        b"private/cancel_all_by_currency",
        b"private/cancel_all_by_currency_pair",
        b"private/cancel_all_by_instrument",
        b"private/cancel_block_rfq_quote",
        b"private/cancel_by_label",
        b"private/cancel_quotes",
        b"private/enable_cancel_on_disconnect",
        b"private/get_account_summaries",
        b"private/get_cancel_on_disconnect",
        b"private/get_mmp_config",
        b"private/get_mmp_status",
        b"private/get_open_orders",
        b"private/get_open_orders_by_currency",
        b"private/get_order_state",
        b"private/get_order_state_by_label",
        b"private/get_positions",
        b"private/get_user_trades_by_currency_and_time",
        # Settings that only narrow what the account may do; needed before any permit exists.
        b"private/set_mmp_config",
        b"private/set_self_trading_config",
        b"private/subscribe",
        b"private/unsubscribe",
    }
)
_ORDERS = (b"private/buy", b"private/sell")


def classify(payload: bytes) -> FrameKind:
    """The kind of act that encoded bytes are. Pure, cheap, and RISK in every doubt.

    A repeated key or an escape could make the venue read another method than we do, so a frame
    holding either is RISK whatever it claims.
    """
    match = _HEAD.match(payload)
    if match is None:
        return FrameKind.RISK
    method = match[1]
    if method in SAFE_METHODS:
        return FrameKind.SAFE if _is_plain(payload) else FrameKind.RISK
    if method in _ORDERS and _is_plain(payload) and _is_reducing(payload):
        return FrameKind.REDUCE
    return FrameKind.RISK


def _is_plain(payload: bytes) -> bool:
    return (
        b"\\" not in payload
        and payload.count(b'"method"') == 1
        and payload.count(b'"params"') == 1
        and payload.endswith(b"}}")
    )


def _is_reducing(payload: bytes) -> bool:
    return (
        payload.count(b'"reduce_only"') == 1
        and _REDUCE_ONLY in payload
        and not any(word in payload for word in _NESTED)
    )


def request(wire_id: int, method: str, params: dict[str, object]) -> bytes:
    """One JSON-RPC request in the only shape that `classify` recognises."""
    return orjson.dumps({"jsonrpc": "2.0", "id": wire_id, "method": method, "params": params})
