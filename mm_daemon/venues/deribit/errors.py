"""Deribit's error codes as typed outcomes. A code that leaves the outcome open is UNKNOWN_OUTCOME,
never a rejection.
"""

from __future__ import annotations

from mm_daemon.domain.orders import RejectReason

INVALID_PARAMS = -32602
TOO_MANY_REQUESTS = 10028
NOT_FOUND_CODES = (10004, 13020)
LOCAL_TIMEOUT = -1
"""Our own code: no reply within the request time-out."""
LOCAL_DISCONNECT = -2
"""Our own code: the connection was lost before a reply."""
LOCAL_UNREADABLE = -3
"""Our own code: a reply that could not be understood."""
LOCAL_NOT_SENT = -4
"""Our own code: the request never left, for want of a ready connection."""

_R = RejectReason
_REASONS = {
    -32700: _R.INVALID,
    -32601: _R.INVALID,
    -32600: _R.INVALID,
    10000: _R.AUTH,
    10001: _R.UNKNOWN_OUTCOME,
    10002: _R.AMOUNT,
    10003: _R.SELF_TRADE,
    10004: _R.NOT_FOUND,
    10005: _R.PRICE,
    10006: _R.PRICE,
    10007: _R.PRICE,
    10009: _R.FUNDS,
    10010: _R.NOT_OPEN,
    10011: _R.PRICE,
    10012: _R.INSTRUMENT,
    10013: _R.FUNDS,
    10014: _R.FUNDS,
    10015: _R.FUNDS,
    10016: _R.FUNDS,
    10017: _R.FUNDS,
    10019: _R.AUTH,
    10020: _R.INSTRUMENT,
    10021: _R.AMOUNT,
    10022: _R.AMOUNT,
    10023: _R.PRICE,
    10026: _R.PRICE,
    TOO_MANY_REQUESTS: _R.RATE_LIMIT,
    10029: _R.NOT_FOUND,
    10040: _R.UNKNOWN_OUTCOME,
    10041: _R.INSTRUMENT,
    10043: _R.PRICE,
    10047: _R.RATE_LIMIT,
    10048: _R.OTHER,
    10049: _R.CONFIG,
    10050: _R.UNKNOWN_OUTCOME,
    10066: _R.RATE_LIMIT,
    11008: _R.NOT_OPEN,
    11029: _R.INVALID,
    11030: _R.OTHER,
    11031: _R.OTHER,
    11044: _R.NOT_OPEN,
    11046: _R.INSTRUMENT,
    11050: _R.INVALID,
    11051: _R.MAINTENANCE,
    11052: _R.INVALID,
    11054: _R.POST_ONLY,
    11055: _R.OTHER,
    11056: _R.RATE_LIMIT,
    11094: _R.UNKNOWN_OUTCOME,
    11098: _R.AUTH,
    13004: _R.AUTH,
    13009: _R.AUTH,
    13020: _R.NOT_FOUND,
    13021: _R.AUTH,
    13025: _R.CONFIG,
    13028: _R.UNKNOWN_OUTCOME,
    13030: _R.MMP,
    13032: _R.INVALID,
    13040: _R.CONFIG,
    13042: _R.CONFIG,
    13043: _R.QUOTES_FROZEN,
    13503: _R.CONFIG,
    13666: _R.PURGED,
    13777: _R.REPLACED,
    13778: _R.AUTH,
    13888: _R.EXPIRED,
    13902: _R.CONFIG,
    13903: _R.RATE_LIMIT,
    13917: _R.RATE_LIMIT,
    LOCAL_TIMEOUT: _R.UNKNOWN_OUTCOME,
    LOCAL_DISCONNECT: _R.UNKNOWN_OUTCOME,
    LOCAL_UNREADABLE: _R.UNKNOWN_OUTCOME,
    LOCAL_NOT_SENT: _R.OTHER,
}


def reject_reason(code: int, detail: str) -> RejectReason:
    """The outcome that an error code stands for; `detail` is the venue's `data.reason`.

    An expired or closed instrument is refused as invalid parameters, with the truth in the detail.
    """
    if code == INVALID_PARAMS:
        return _R.INSTRUMENT if "instrument" in detail else _R.INVALID
    return _REASONS.get(code, _R.OTHER)
