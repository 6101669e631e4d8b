"""The trader's unix socket towards ops: views on request, knobs and resets in, log lines out.

Requests and answers are MessagePack maps in length-prefixed frames. The trader answers from the
state after its last step
and never waits for a reader: a peer whose buffer is full is dropped, and its log lines with it
(counted).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from mm_daemon.domain.inputs import AdoptVenue, Input, OperatorReset, TraderKnob
from mm_daemon.domain.outputs import Log
from mm_daemon.domain.units import Ns
from mm_daemon.ipc.framing import FramingError, MessageDecoder, encode_message

PEER_BUFFER_BYTES_MAX = 8 << 20
PEERS_MAX = 8


class ViewRequest(msgspec.Struct, frozen=True, tag="view"):
    request_id: int
    name: str


class KnobRequest(msgspec.Struct, frozen=True, tag="knob"):
    request_id: int
    knob: TraderKnob


class ResetNotice(msgspec.Struct, frozen=True, tag="reset"):
    """An operator's reset, in one scope or (empty) in all: about to be carried out, or done."""

    request_id: int
    generation: int
    scope: str = ""
    is_ahead: bool = False


class AdoptRequest(msgspec.Struct, frozen=True, tag="adopt"):
    """The venue's positions are to be adopted where ours differ."""

    request_id: int
    wish: AdoptVenue


class SweepAgain(msgspec.Struct, frozen=True, tag="sweep_again"):
    """The same kill was asked for once more: the latch is as it was, the venue is swept again."""

    request_id: int


class DrainRequest(msgspec.Struct, frozen=True, tag="drain"):
    request_id: int
    reason: str


Request = ViewRequest | KnobRequest | ResetNotice | AdoptRequest | SweepAgain | DrainRequest


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    request_id: int
    body: bytes
    error: str


class LogLine(msgspec.Struct, frozen=True, tag="log"):
    ts_ns: int
    level: str
    event: str
    fields: dict[str, str | int | float | bool]


Message = Reply | LogLine
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_encoder = msgspec.msgpack.Encoder()


class OpsLink:
    """Serves ops; owned by the trader's loop."""

    def __init__(
        self,
        path: Path,
        *,
        view: Callable[[str], bytes],
        feed: Callable[[Input], None],
        drain: Callable[[str], None],
        look_again: Callable[[], None],
    ) -> None:
        """`look_again`: takes the latch in as if it had just changed."""
        self._path = path
        self._view = view
        self._feed = feed
        self._drain = drain
        self._look_again = look_again
        self._peers: list[_Peer] = []
        self._server: asyncio.Server | None = None
        self.lines_dropped = 0

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Peer(self), str(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for peer in tuple(self._peers):
            peer.drop()

    def log(self, ts_ns: Ns, line: Log) -> None:
        if not self._peers:
            self.lines_dropped += 1
            return
        message = LogLine(ts_ns=ts_ns, level=line.level, event=line.event, fields=line.fields)
        frame = encode_message(_encoder.encode(message))
        for peer in tuple(self._peers):
            peer.send(frame)

    def opened(self, peer: _Peer) -> None:
        self._peers.append(peer)
        if len(self._peers) > PEERS_MAX:
            self._peers[0].drop()

    def closed(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)

    def answer(self, payload: bytes) -> bytes:
        """One request's reply. A request that is not understood is answered, never raised."""
        try:
            request = _requests.decode(payload)
        except msgspec.MsgspecError as error:
            return _encoder.encode(Reply(request_id=0, body=b"", error=f"bad request: {error}"))
        body = b""
        problem = ""
        if isinstance(request, ViewRequest):
            try:
                body = self._view(request.name)
            except KeyError:
                problem = f"no view named {request.name!r}"
        elif isinstance(request, KnobRequest):
            self._feed(request.knob)
        elif isinstance(request, ResetNotice):
            self._feed(
                OperatorReset(
                    generation=request.generation, scope=request.scope, is_ahead=request.is_ahead
                )
            )
        elif isinstance(request, AdoptRequest):
            self._feed(request.wish)
        elif isinstance(request, SweepAgain):
            self._look_again()
        else:
            self._drain(request.reason)
        return _encoder.encode(Reply(request_id=request.request_id, body=body, error=problem))


class _Peer(asyncio.Protocol):
    def __init__(self, link: OpsLink) -> None:
        self._link = link
        self._decoder = MessageDecoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._link.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self.send(encode_message(self._link.answer(message)))
        except FramingError:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.closed(self)

    def send(self, frame: bytes) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > PEER_BUFFER_BYTES_MAX:
            self._link.lines_dropped += 1
            self.drop()
            return
        self._transport.write(frame)

    def drop(self) -> None:
        self._link.closed(self)
        if self._transport is not None:
            self._transport.abort()
