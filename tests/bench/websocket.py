"""The server's half of websocket framing over bytes, as little as one trusted client needs."""

from __future__ import annotations

import base64
import hashlib
import struct

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_FIN = 0x80
_SHORT_MAX, _MEDIUM_MAX = 125, 65_535


def accept(key: bytes) -> bytes:
    """The answer to an upgrade request with this key."""
    token = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % token
    )


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One unmasked frame."""
    size = len(payload)
    if size <= _SHORT_MAX:
        head = bytes((_FIN | opcode, size))
    elif size <= _MEDIUM_MAX:
        head = struct.pack(">BBH", _FIN | opcode, 126, size)
    else:
        head = struct.pack(">BBQ", _FIN | opcode, 127, size)
    return head + payload


def take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Cuts one whole masked frame off the front: (opcode, payload). None where it is not whole."""
    if len(buffer) < 2:
        return None
    size = buffer[1] & 0x7F
    at = 2
    if size == 126:
        at, size = 4, int.from_bytes(buffer[2:4], "big")
    elif size == 127:
        at, size = 10, int.from_bytes(buffer[2:10], "big")
    assert buffer[1] & 0x80, "a client's frame must be masked"
    end = at + 4 + size
    if len(buffer) < end:
        return None
    payload = _unmasked(bytes(buffer[at + 4 : end]), bytes(buffer[at : at + 4]))
    opcode = buffer[0] & 0x0F
    assert buffer[0] & _FIN, "the daemon does not send fragments"
    del buffer[:end]
    return opcode, payload


def _unmasked(masked: bytes, mask: bytes) -> bytes:
    """XOR as one big integer: a loop over three thousand bytes would take longer than a quote."""
    size = len(masked)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
