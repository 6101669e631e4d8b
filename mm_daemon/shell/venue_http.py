"""A small HTTP/1.1 reader and writer for the simulated venue's REST side.

It exists because one port must serve websockets and REST, and the websockets library reads no
request bodies.  It reads request heads, bodies by length or in chunks, and keeps connections
alive with pipelining; it knows nothing of methods, accounts or JSON.
"""

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

HEAD_BYTES_MAX: Final = 65_536
BODY_BYTES_MAX: Final = 1_048_576
"""Above the venue's own 32 kB limit, so that the venue can refuse in its own words."""

_REASONS: Final = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class HttpRefusalError(Exception):
    """The bytes are not a request this server can serve; the connection closes after it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class HttpRequest(msgspec.Struct, frozen=True):
    """One whole request; `target` is as sent, because signatures cover it byte for byte."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    @property
    def path(self) -> str:
        """The decoded path of the target."""
        return unquote(urlsplit(self.target).path)

    def query(self) -> dict[str, object]:
        """The query's values; a repeated name, with or without [], becomes a list."""
        values: dict[str, object] = {}
        for name, value in parse_qsl(urlsplit(self.target).query, keep_blank_values=True):
            key = name.removesuffix("[]")
            if key not in values:
                values[key] = [value] if name.endswith("[]") else value
                continue
            held = values[key]
            values[key] = [*held, value] if isinstance(held, list) else [held, value]
        return values


def parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Method, target, version and lower-cased headers of a request head."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise HttpRefusalError(400, f"not an HTTP/1.1 request line: {lines[0][:80]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise HttpRefusalError(400, f"not a header line: {line[:80]!r}")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return words[0], words[1], words[2], headers


class HttpReader:
    """Turns received bytes into whole requests; leaves a websocket upgrade to the caller."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._continue_due = False

    def feed(self, received: bytes) -> None:
        """Take bytes as they come."""
        self._buffer += received

    def unread(self) -> bytes:
        """Everything not yet consumed, for a connection that becomes a websocket."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def continue_due(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body (said once)."""
        due, self._continue_due = self._continue_due, False
        return due

    def wants_websocket(self) -> bool:
        """Whether the head at the front of the buffer asks for a websocket."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        headers = parse_head(bytes(self._buffer[:end]))[3]
        return headers.get("upgrade", "").lower() == "websocket"

    def next_request(self) -> HttpRequest | None:
        """The next whole request, or None until more bytes come."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise HttpRefusalError(431, f"request head above {HEAD_BYTES_MAX} bytes")
            return None
        method, target, version, headers = parse_head(bytes(self._buffer[:end]))
        start = end + 4
        if headers.get("transfer-encoding", "").lower() == "chunked":
            chunked = _read_chunks(self._buffer, start)
            if chunked is None:
                self._note_expectation(headers)
                return None
            body, consumed = chunked
        else:
            length_text = headers.get("content-length", "0")
            if not length_text.isdigit():
                raise HttpRefusalError(400, f"content-length is not a number: {length_text[:20]!r}")
            length = int(length_text)
            if length > BODY_BYTES_MAX:
                raise HttpRefusalError(413, f"body above {BODY_BYTES_MAX} bytes")
            if len(self._buffer) < start + length:
                self._note_expectation(headers)
                return None
            body, consumed = bytes(self._buffer[start : start + length]), start + length
        del self._buffer[:consumed]
        self._continue_due = False
        connection = headers.get("connection", "").lower()
        keep_alive = connection != "close" and (version == "HTTP/1.1" or connection == "keep-alive")
        return HttpRequest(
            method=method, target=target, headers=headers, body=body, keep_alive=keep_alive
        )

    def _note_expectation(self, headers: dict[str, str]) -> None:
        if headers.get("expect", "").lower() == "100-continue":
            self._continue_due = True


def _read_chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    """The body of a chunked request and where it ends, or None until it is whole."""
    body = bytearray()
    position = start
    while True:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return None
        size_text = bytes(buffer[position:line_end]).split(b";")[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError:
            raise HttpRefusalError(400, f"not a chunk size: {size_text[:20]!r}") from None
        if size < 0 or len(body) + size > BODY_BYTES_MAX:
            raise HttpRefusalError(413, f"body above {BODY_BYTES_MAX} bytes")
        position = line_end + 2
        if size == 0:
            trailer_end = buffer.find(b"\r\n", position)
            return None if trailer_end < 0 else (bytes(body), trailer_end + 2)
        if len(buffer) < position + size + 2:
            return None
        body += buffer[position : position + size]
        position += size + 2


def render_response(
    status: int,
    body: bytes,
    *,
    keep_alive: bool,
    content_type: str = "application/json",
    head_only: bool = False,
) -> bytes:
    """A whole response."""
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Access-Control-Allow-Origin: *\r\n"
        "Access-Control-Allow-Headers: Authorization, Content-Type\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
        "\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else body)
