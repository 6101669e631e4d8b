"""What the guard says to this venue over REST to empty it, and how it reads the answers.

Three families must be cancelled, because each cancel reaches only its own: orders with triggers,
mass quotes, and block RFQ quotes. Each is asked for the whole account and, in lanes of their own,
for each currency: one currency's queue may be stuck while the others move. The wide cancels freeze
quoting for a second, so that a quote still on its way is refused.

A failed query is not an empty answer: only a reply that carries a list counts, and an entry of any
state that can still trade counts as open.

Pure, and standard library only: it builds bodies and reads bytes. It never connects, waits, retries
or keeps a secret; `mm_daemon.guard.sweep_client` does.
"""

from __future__ import annotations

import json
from typing import Any, Final

from mm_daemon.venues.sweep import Call, CallFailed, Failure, OpenOrders, Token

_FINAL_STATES: Final = ("filled", "rejected", "cancelled")
_UNAUTHORIZED_CODES: Final = (10000, 13004, 13009)
_BUSY_CODES: Final = (10028, 10040, 10041, 10047, 10050, 10066, 11051, 11094, 13028)
# The account or venue lacks the feature or the key lacks its scope: nothing of it can be open
# through this key, and what matters is found by the reads.
_ABSENT_CODES: Final = (-32601, 11052, 13021, 13025, 13902)

_REQUEST_ID: Final = 1


def auth_call(client_id: str, client_secret: str) -> Call:
    """Ask for a token. The body carries the secret: send it, never print it."""
    params = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
    }
    return _call("public/auth", params)


def auth_headers(token: Token) -> dict[str, str]:
    """Headers of every private call."""
    return {"Authorization": f"Bearer {token.value}"}


def read_token(body: bytes) -> Token | CallFailed:
    """The token of an answer to `auth_call`."""
    result = _result(body)
    if isinstance(result, CallFailed):
        return result
    if isinstance(result, dict):
        value, expires_in_s = result.get("access_token"), result.get("expires_in")
        if isinstance(value, str) and value and isinstance(expires_in_s, int):
            return Token(value, expires_in_s)
    return CallFailed(Failure.GARBLED, "auth answer carries no token")


def cancel_lanes(currencies: tuple[str, ...]) -> tuple[tuple[Call, ...], ...]:
    """Cancels by lane. Lanes run side by side, the calls of a lane one after the other."""
    wide = (
        _call("private/cancel_all", {"detailed": False, "freeze_quotes": True}),
        _call("private/cancel_quotes", {"cancel_type": "all", "freeze_quotes": True}, True),
        _call("private/cancel_all_block_rfq_quotes", {"detailed": False}, True),
    )
    return (wide, *(_currency_lane(currency) for currency in currencies))


def _currency_lane(currency: str) -> tuple[Call, ...]:
    return (
        _call("private/cancel_all_by_currency", {"currency": currency}),
        _call("private/cancel_quotes", {"cancel_type": "currency", "currency": currency}, True),
    )


def read_calls(currencies: tuple[str, ...]) -> tuple[Call, ...]:
    """Reads that together show every order and quote that can still trade.

    `get_open_orders` gives all currencies, quotes and triggers included. Each currency is asked
    for as well: all must be empty, so that one stale copy is not believed alone. For block RFQ
    quotes the venue has no read without an RFQ's id; the success of their wide cancel stands in.
    """
    by_currency = (
        _call("private/get_open_orders_by_currency", {"currency": currency, "type": "all"})
        for currency in currencies
    )
    return (
        _call("private/get_open_orders", {"type": "all"}),
        *by_currency,
    )


def read_cancel(call: Call, body: bytes) -> int | CallFailed:
    """How many things a cancel cancelled (0 where the venue lacks the feature)."""
    result = _result(body, call)
    if isinstance(result, CallFailed):
        return result
    if result is None:
        return 0
    if isinstance(result, list):
        return len(result)
    if isinstance(result, int) and not isinstance(result, bool):
        return result
    return CallFailed(Failure.GARBLED, f"{call.name}: expected a count, found {_brief(result)}")


def read_open(call: Call, body: bytes) -> OpenOrders | CallFailed:
    """What a read found. Only a list is an answer, however short."""
    result = _result(body, call)
    if isinstance(result, CallFailed):
        return result
    if result is None:
        return OpenOrders(0)
    if not isinstance(result, list) or not all(isinstance(one, dict) for one in result):
        return CallFailed(Failure.GARBLED, f"{call.name}: expected a list, found {_brief(result)}")
    still_open = [one for one in result if _is_open(one)]
    return OpenOrders(len(still_open), tuple(str(one.get("order_id")) for one in still_open[:5]))


def _is_open(entry: dict[str, Any]) -> bool:
    """An entry without a state, or with one we do not know as final, counts as open."""
    return entry.get("order_state") not in _FINAL_STATES


def _call(method: str, params: dict[str, Any], is_optional: bool = False) -> Call:
    message = {"jsonrpc": "2.0", "id": _REQUEST_ID, "method": method, "params": params}
    return Call(method, json.dumps(message).encode(), is_optional)


def _result(body: bytes, call: Call | None = None) -> Any:
    """The result of an answer, None for an optional feature that is absent, or the failure."""
    name = "public/auth" if call is None else call.name
    try:
        answer = json.loads(body)
    except ValueError:
        return CallFailed(Failure.GARBLED, f"{name}: answer is not JSON ({len(body)} bytes)")
    if not isinstance(answer, dict):
        return CallFailed(Failure.GARBLED, f"{name}: expected an object, found {_brief(answer)}")
    error = answer.get("error")
    if error is not None:
        return _failure(name, error, is_optional=call is not None and call.is_optional)
    if answer.get("result") is None:
        return CallFailed(Failure.GARBLED, f"{name}: answer carries neither result nor error")
    return answer["result"]


def _failure(name: str, error: Any, *, is_optional: bool) -> CallFailed | None:
    code = error.get("code") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    detail = f"{name}: error {code} {_brief(message)}"
    if is_optional and code in _ABSENT_CODES:
        return None
    if code in _UNAUTHORIZED_CODES:
        return CallFailed(Failure.UNAUTHORIZED, detail)
    if code in _BUSY_CODES:
        return CallFailed(Failure.BUSY, detail)
    return CallFailed(Failure.REFUSED, detail)


def _brief(found: object) -> str:
    return repr(found)[:80]
