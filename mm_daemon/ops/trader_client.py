"""The ops end of the trader's socket: asks for views, hands over knobs, receives log lines.

A trader that is down answers nothing: callers get `TraderAwayError` at once, never a wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from mm_daemon.domain.inputs import AdoptVenue, TraderKnob
from mm_daemon.domain.views import VIEWS
from mm_daemon.ipc.framing import FramingError, MessageDecoder, encode_message

REPLY_TIMEOUT_S = 1.0
RECONNECT_S = 0.2


class TraderAwayError(Exception):
    """No trader is connected, or it did not answer in time."""


class _Reply(msgspec.Struct, frozen=True, tag="reply"):
    request_id: int
    body: bytes
    error: str


class LogLine(msgspec.Struct, frozen=True, tag="log"):
    """One line the decision wrote."""

    ts_ns: int
    level: str
    event: str
    fields: dict[str, str | int | float | bool]


_messages: msgspec.msgpack.Decoder[_Reply | LogLine] = msgspec.msgpack.Decoder(_Reply | LogLine)
_encode = msgspec.msgpack.encode


class TraderClient(asyncio.Protocol):
    """One connection, kept open by `run`."""

    def __init__(self, path: Path, on_log: Callable[[LogLine], None]) -> None:
        self._path = path
        self._on_log = on_log
        self._transport: asyncio.Transport | None = None
        self._decoder = MessageDecoder()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 1
        self._lost = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    async def run(self) -> None:
        """Connects and reconnects until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._lost = asyncio.Event()
            try:
                await loop.create_unix_connection(lambda: self, str(self._path))
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            await self._lost.wait()

    async def view(self, name: str) -> Any:
        """The view as plain values. Raises TraderAwayError; KeyError for an unknown name."""
        kind = VIEWS[name]
        body = await self._request({"type": "view", "name": name})
        return msgspec.to_builtins(msgspec.msgpack.decode(body, type=kind))

    async def knob(self, knob: TraderKnob) -> None:
        await self._request({"type": "knob", "knob": msgspec.to_builtins(knob)})

    async def notify_reset(
        self, generation: int, scope: str = "", *, is_ahead: bool = False
    ) -> None:
        """Tells the trader of a reset, done or (`is_ahead`) about to be."""
        fields = {"generation": generation, "scope": scope, "is_ahead": is_ahead}
        await self._request({"type": "reset", **fields})

    async def adopt(self, wish: AdoptVenue) -> None:
        """Hands a person's wish over; what becomes of it is in the status view."""
        await self._request({"type": "adopt", "wish": msgspec.to_builtins(wish)})

    async def sweep_again(self) -> None:
        """Has the trader do once more what the latch asks for."""
        await self._request({"type": "sweep_again"})

    async def _request(self, fields: dict[str, Any]) -> bytes:
        if self._transport is None:
            raise TraderAwayError("the trader is not running")
        request_id = self._next_id
        self._next_id += 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        self._transport.write(encode_message(_encode({**fields, "request_id": request_id})))
        try:
            return await asyncio.wait_for(future, REPLY_TIMEOUT_S)
        except TimeoutError as error:
            raise TraderAwayError(
                f"the trader did not answer within {REPLY_TIMEOUT_S} s"
            ) from error
        finally:
            self._waiting.pop(request_id, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._decoder = MessageDecoder()
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._on_message(_messages.decode(message))
        except (FramingError, msgspec.MsgspecError):
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(TraderAwayError("the trader went away"))
        self._waiting.clear()
        self._lost.set()

    def _on_message(self, message: _Reply | LogLine) -> None:
        if isinstance(message, LogLine):
            self._on_log(message)
            return
        future = self._waiting.get(message.request_id)
        if future is None or future.done():
            return
        if message.error:
            future.set_exception(TraderAwayError(message.error))
        else:
            future.set_result(message.body)
