"""Secrets at the edge: tokens leave inbound frames before anything is stamped, signatures enter
outbound frames at the write.

Pure functions on bytes; whoever calls them keeps one vault a connection, and nothing else ever
sees a token or the key. A frame without a placeholder or token passes unchanged after one
substring test.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import msgspec
import orjson

from mm_daemon.domain.errors import LocalProtocolError

SIGNATURE = "{signature}"
REFRESH_TOKEN = "{refresh_token}"  # noqa: S105 - a placeholder
_NOTIFICATION = b'{"jsonrpc":"2.0","method":"subscription",'
_TOKEN_MARK = b"_token"
_TOKEN = re.compile(rb'"(access_token|refresh_token)"(\s*:\s*)"((?:[^"\\]|\\.)*)("|\\?\Z)')
_PLACEHOLDERS = (SIGNATURE.encode(), REFRESH_TOKEN.encode())


class _AuthParams(msgspec.Struct):
    timestamp: int = 0
    nonce: str = ""
    data: str = ""


class _AuthFrame(msgspec.Struct):
    method: str
    params: _AuthParams


_decode_auth = msgspec.json.Decoder(_AuthFrame).decode


def redact(payload: bytes) -> tuple[bytes, dict[str, str]]:
    """The frame with every access and refresh token replaced by its placeholder, and the tokens.

    A token cut off by a truncated frame is removed as well. Notifications never carry one.
    """
    if payload.startswith(_NOTIFICATION) or _TOKEN_MARK not in payload:
        return payload, {}
    found: dict[str, str] = {}

    def replace(match: re.Match[bytes]) -> bytes:
        name = match[1].decode()
        found[name] = match[3].decode("utf-8", "replace")
        return b'"%b"%b"{%b}%b' % (match[1], match[2], match[1], match[4])

    return _TOKEN.sub(replace, payload), found


def fill(payload: bytes, secret: str, vault: dict[str, str]) -> bytes:
    """The auth frame with its signature or refresh token in place; any other frame unchanged.

    Raises: LocalProtocolError where a placeholder stands in a frame that is not an auth request,
    or where the vault lacks the token.
    """
    if not any(mark in payload for mark in _PLACEHOLDERS):
        return payload
    try:
        frame = _decode_auth(payload)
    except (msgspec.MsgspecError, ValueError) as error:
        raise LocalProtocolError(f"secret placeholder in an unreadable frame: {error}") from error
    if frame.method != "public/auth":
        raise LocalProtocolError(
            f"secret placeholder in {frame.method}: only public/auth may carry one"
        )
    if _PLACEHOLDERS[0] in payload:
        params = frame.params
        text = sign(secret, params.timestamp, params.nonce, params.data).encode()
        return payload.replace(_PLACEHOLDERS[0], text)
    token = vault.get("refresh_token")
    if token is None:
        raise LocalProtocolError("token refresh asked, but no refresh token was received")
    return payload.replace(b'"' + _PLACEHOLDERS[1] + b'"', orjson.dumps(token))


def sign(secret: str, timestamp_ms: int, nonce: str, data: str) -> str:
    """Deribit's client signature: lower-case hex HMAC-SHA256 over timestamp, nonce and data."""
    message = f"{timestamp_ms}\n{nonce}\n{data}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
