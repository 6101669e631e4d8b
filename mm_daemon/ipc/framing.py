"""Length-prefixed messages over stream sockets, bounded in size.

    message = length u32 big-endian | payload

The decoder keeps no socket, so an asyncio protocol and a blocking client use the same one. A peer
that announces more than the bound has lost its framing or means harm; the connection is done.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Final, Self

LENGTH: Final = struct.Struct(">I")
MESSAGE_BYTES_MAX: Final = 8 << 20
_READ_BYTES: Final = 1 << 16


class FramingError(Exception):
    """The peer broke the framing, went away inside a message, or was silent too long."""


def encode_message(payload: bytes, bytes_max: int = MESSAGE_BYTES_MAX) -> bytes:
    """The payload with its length before it.

    Raises: FramingError where it is larger than the other side will take.
    """
    if len(payload) > bytes_max:
        raise FramingError(f"message of {len(payload)} bytes, at most {bytes_max} are allowed")
    return LENGTH.pack(len(payload)) + payload


class MessageDecoder:
    """Turns a stream's pieces into messages. Feed what arrived, take what is whole."""

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The messages that `piece` completes, oldest first.

        Raises: FramingError where a message is announced that is larger than the bound; messages
        before it are given first, and the next feed raises.
        """
        buffer = self._buffer
        buffer += piece
        messages: list[bytes] = []
        start = 0
        while len(buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer, start)
            if length > self._bytes_max:
                if messages:
                    break
                raise FramingError(
                    f"peer announces a message of {length} bytes, at most {self._bytes_max} are"
                    " allowed: close the connection"
                )
            end = start + LENGTH.size + length
            if end > len(buffer):
                break
            messages.append(bytes(buffer[start + LENGTH.size : end]))
            start = end
        del buffer[:start]
        return messages

    @property
    def is_inside_message(self) -> bool:
        """Whether bytes of an unfinished message wait."""
        return bool(self._buffer)


class MessageClient:
    """A blocking client on a unix stream socket, for the command line and the guard.

    Every call ends within `timeout_s`.
    """

    def __init__(self, connection: socket.socket, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._socket = connection
        self._bytes_max = bytes_max
        self._decoder = MessageDecoder(bytes_max)
        self._ready: list[bytes] = []

    @classmethod
    def connect(cls, path: Path, timeout_s: float, bytes_max: int = MESSAGE_BYTES_MAX) -> Self:
        """Raises: FramingError naming the path where nobody answers there."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            raise FramingError(f"{path}: nobody answers ({error})") from error
        return cls(connection, bytes_max)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, payload: bytes) -> None:
        """Raises: FramingError where the peer is gone or takes nothing in time."""
        try:
            self._socket.sendall(encode_message(payload, self._bytes_max))
        except OSError as error:
            raise FramingError(f"cannot send: {error}") from error

    def receive(self) -> bytes:
        """The next message.

        Raises: FramingError where the peer closes, breaks the framing or is silent too long.
        """
        while not self._ready:
            try:
                piece = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise FramingError(f"cannot receive: {error}") from error
            if not piece:
                where = "inside a" if self._decoder.is_inside_message else "before its"
                raise FramingError(f"peer closed the connection {where} message")
            self._ready.extend(self._decoder.feed(piece))
        return self._ready.pop(0)

    def request(self, payload: bytes) -> bytes:
        """Send one message and wait for the next."""
        self.send(payload)
        return self.receive()
