"""The JSON-RPC envelope as Deribit speaks it: frames to requests, results and errors to frames.

The simulated venue has a codec of its own, written apart from the client's, so that a client and
a venue can never agree on the same mistake.  Replies carry Deribit's extras (usIn, usOut, usDiff,
testnet); a result may hold `orjson.Fragment`s, because large answers are rendered once and kept.

This module never looks at what a method means, and knows neither sockets nor clocks.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import orjson

FRAME_BYTES_MAX: Final = 32_768
"""Deribit refuses larger frames and bodies before it looks inside."""

_ENVELOPE: Final = frozenset(("jsonrpc", "method", "params"))

RequestId = int | str | None


class WireError(Exception):
    """A refusal that travels back to the client as a JSON-RPC error object."""

    def __init__(self, code: int, message: str, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.extra = extra

    def body(self) -> dict[str, object]:
        """The `error` member of a reply."""
        body: dict[str, object] = {"code": self.code, "message": self.message}
        if self.extra is not None:
            body["data"] = dict(self.extra)
        return body


class BadFrameError(WireError):
    """A frame that could not become a request; keeps the id when one was readable."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        request_id: RequestId = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(code, message, extra)
        self.request_id = request_id


def invalid_params(param: str, reason: str) -> WireError:
    """Deribit's -32602, naming the parameter at fault."""
    return WireError(-32602, "Invalid params", {"reason": reason, "param": param})


class Request(msgspec.Struct, frozen=True):
    """One call: `from_query` says that every value arrived as text and may be coerced."""

    request_id: RequestId
    method: str
    params: dict[str, object]
    from_query: bool = False


def decode_request(raw: bytes, default_method: str | None = None) -> Request:
    """Read one JSON-RPC frame or POST body.

    A body posted to a method's own path (`default_method`) may omit the method, and the whole
    envelope with it: it is then the parameters alone.

    A request without an id is accepted and answered without one: Deribit's own examples answer
    `test_request` in that form.  Batches and positional parameters are not.
    """
    if len(raw) > FRAME_BYTES_MAX:
        raise BadFrameError(-32600, "request entity too large")
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadFrameError(-32700, "Parse error") from None
    if not isinstance(frame, dict):
        raise BadFrameError(-32600, "Invalid Request", extra={"reason": "expected one object"})
    if default_method is not None and not _ENVELOPE & frame.keys():
        return Request(request_id=None, method=default_method, params=frame)
    request_id = frame.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        raise BadFrameError(-32600, "Invalid Request", extra={"reason": "id must be int or string"})
    if frame.get("jsonrpc", "2.0") != "2.0":
        raise BadFrameError(
            -32600, "Invalid Request", request_id=request_id, extra={"reason": "jsonrpc not 2.0"}
        )
    method = frame.get("method", default_method)
    if not isinstance(method, str):
        raise BadFrameError(
            -32600, "Invalid Request", request_id=request_id, extra={"reason": "method missing"}
        )
    params = frame.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise BadFrameError(
            -32602,
            "Invalid params",
            request_id=request_id,
            extra={"reason": "params must be an object", "param": "params"},
        )
    return Request(request_id=request_id, method=method, params=params)


def _envelope(request_id: RequestId, in_us: int, out_us: int) -> dict[str, object]:
    envelope: dict[str, object] = {"jsonrpc": "2.0"}
    if request_id is not None:
        envelope["id"] = request_id
    envelope["usIn"] = in_us
    envelope["usOut"] = out_us
    envelope["usDiff"] = out_us - in_us
    envelope["testnet"] = True
    return envelope


def encode_result(request_id: RequestId, result: object, *, in_us: int, out_us: int) -> bytes:
    """A successful reply."""
    envelope = _envelope(request_id, in_us, out_us)
    envelope["result"] = result
    return orjson.dumps(envelope)


def encode_error(request_id: RequestId, error: WireError, *, in_us: int, out_us: int) -> bytes:
    """A refusing reply."""
    envelope = _envelope(request_id, in_us, out_us)
    envelope["error"] = error.body()
    return orjson.dumps(envelope)


def notification(channel: str, content: bytes, label: str | None = None) -> bytes:
    """A subscription message around content that is rendered once for every subscriber."""
    tail = b"}}" if label is None else b',"label":' + orjson.dumps(label) + b"}}"
    return b"".join(
        (
            b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":',
            orjson.dumps(channel),
            b',"data":',
            content,
            tail,
        )
    )


def heartbeat(kind: str) -> bytes:
    """The server's own call: `heartbeat` informs, `test_request` demands `public/test`."""
    return orjson.dumps({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}})
